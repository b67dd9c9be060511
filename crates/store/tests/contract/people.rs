//! What managing users asks of the store, and reminders that credentials expire.

use portcullis_domain::{
    accounts::{Role, Standing, Status, User, UserId, manage},
    audit::Event,
    federation,
    links::{Link, LinkPurpose},
    sessions::{Actor, Opened},
};
use portcullis_store::{ProviderUse, Store};

use crate::federation::{linked, provider};
use crate::support::{Fresh, after, at_once, id, now, on_both, record, user};

on_both! {
    a3_two_demotions_of_the_last_two_super_admins_at_once_leave_one
    a3_super_admins_count_who_are_active_and_can_sign_in
    a3_demoting_who_has_a_password_and_removing_the_provider_of_the_other_at_once_leave_one
    a9_the_dormant_are_found_by_sign_in_and_by_when_they_became_active
    a_first_password_is_for_who_is_pending_and_has_none
    what_opens_an_account_goes_with_its_deletion
    c6_each_reminder_is_taken_once_by_one_of_many
    h1_on_hold_no_reminder_is_taken
}

/// How many active Super Admins can sign in.
async fn super_admins(fresh: &Fresh) -> u64 {
    fresh.read(async |tx| tx.other_super_admins(UserId(uuid::Uuid::nil())).await.unwrap()).await
}

async fn demote(store: Store, by: User, whom: UserId) -> bool {
    let mut act = store.act().await.unwrap();
    act.hold_tokens().await.unwrap();
    let acting = act.user(by.id).await.unwrap().unwrap().standing;
    let target = act.user(whom).await.unwrap().unwrap().standing;
    let others = act.other_super_admins(whom).await.unwrap();
    let actor = Actor::Session { user: by.id, opened: Opened::Password, password_at: None };
    let what = manage::Act::TakeSuperAdmin;
    let Ok(after) = manage::decide(what, (&actor, &acting), (whom, &target), others, after(1)) else {
        return false;
    };
    act.set_standing(whom, &after).await.unwrap();
    act.commit(&[record(Event::RoleChanged, &whom.to_string())]).await.unwrap();
    true
}

async fn a3_two_demotions_of_the_last_two_super_admins_at_once_leave_one(fresh: Fresh) {
    let nodes = [fresh.store.clone(), fresh.another_node().await];
    for n in 0..5 {
        let two = [
            fresh.super_admin(&format!("a{n}@acme.example")).await,
            fresh.super_admin(&format!("b{n}@acme.example")).await,
        ];
        let done = at_once(2, |at| demote(nodes[at].clone(), two[at].clone(), two[1 - at].id)).await;
        assert_eq!(done.iter().filter(|d| **d).count(), 1, "{done:?}");
        assert_eq!(super_admins(&fresh).await, 1);
        fresh.raw("UPDATE users SET role = 'user'").await;
    }
}

async fn a3_super_admins_count_who_are_active_and_can_sign_in(fresh: Fresh) {
    let set_up = provider("Acme ID", "https://id.acme.example");
    fresh.act(async |act| act.add_provider(&set_up).await.unwrap()).await;
    let mut counted = Vec::new();
    for (role, status, password, issuer, counts) in [
        (Role::SuperAdmin, Status::Active, true, "", true),
        (Role::SuperAdmin, Status::Active, false, "https://id.acme.example", true),
        (Role::SuperAdmin, Status::Active, true, "https://gone.example", true),
        (Role::SuperAdmin, Status::Active, false, "https://gone.example", false),
        (Role::SuperAdmin, Status::Active, false, "", false),
        (Role::SuperAdmin, Status::Pending, false, "", false),
        (Role::SuperAdmin, Status::Inactive, true, "https://id.acme.example", false),
        (Role::SuperAdmin, Status::Deleted, false, "https://id.acme.example", false),
        (Role::User, Status::Active, true, "https://id.acme.example", false),
    ] {
        let mut one = user(&format!("u{}@acme.example", id()));
        one.standing = Standing { role: (role, now()), status: (status, now()), ..one.standing };
        let hash = password.then_some("$argon2id$x");
        fresh.act(async |act| act.add_user(&one, hash).await.unwrap()).await;
        if !issuer.is_empty() {
            let identity = linked(issuer, &one.id.to_string(), one.id);
            assert!(fresh.act(async |act| act.link_identity(&identity, None).await.unwrap()).await);
        }
        let others = fresh.read(async |tx| tx.other_super_admins(one.id).await.unwrap()).await;
        assert_eq!(others, counted.len() as u64, "nobody counts besides themselves");
        if counts {
            counted.push(one.id);
        }
        assert_eq!(super_admins(&fresh).await, counted.len() as u64, "{role:?} {status:?} {password} {issuer}");
    }
    let used = fresh.read(async |tx| tx.provider_use("https://id.acme.example").await.unwrap()).await;
    assert_eq!(used, ProviderUse { users: 3, stranded: 1, super_admins_left: 2 });
}

/// Removes a provider as the server does.
async fn remove(store: Store, issuer: &str) -> bool {
    let mut act = store.act().await.unwrap();
    let Some(found) = act.providers().await.unwrap().into_iter().find(|p| p.settings.issuer == issuer) else {
        return false;
    };
    let used = act.provider_use(issuer).await.unwrap();
    if federation::remove(used.super_admins_left).is_err() {
        return false;
    }
    act.remove_provider(found.id).await.unwrap();
    act.commit(&[record(Event::ProviderChanged, issuer)]).await.unwrap();
    true
}

async fn a3_demoting_who_has_a_password_and_removing_the_provider_of_the_other_at_once_leave_one(fresh: Fresh) {
    let nodes = [fresh.store.clone(), fresh.another_node().await];
    for n in 0..6 {
        let issuer = format!("https://{n}.example");
        fresh.act(async |act| act.add_provider(&provider("P", &issuer)).await.unwrap()).await;
        let maria = fresh.super_admin(&format!("maria{n}@acme.example")).await;
        let ana = user(&format!("ana{n}@acme.example"));
        fresh.act(async |act| act.add_user(&ana, None).await.unwrap()).await;
        let identity = linked(&issuer, "ana", ana.id);
        assert!(fresh.act(async |act| act.link_identity(&identity, None).await.unwrap()).await);
        assert_eq!(super_admins(&fresh).await, 2);
        let done = at_once(2, |at| {
            let (store, ana, maria, issuer) = (nodes[at].clone(), ana.clone(), maria.id, issuer.clone());
            async move {
                if (at + n) % 2 == 0 { demote(store, ana, maria).await } else { remove(store, &issuer).await }
            }
        })
        .await;
        assert_eq!(done.iter().filter(|d| **d).count(), 1, "{done:?}");
        assert_eq!(super_admins(&fresh).await, 1, "{done:?}");
        fresh.raw("UPDATE users SET role = 'user'").await;
    }
}

async fn a9_the_dormant_are_found_by_sign_in_and_by_when_they_became_active(fresh: Fresh) {
    let mut ids = Vec::new();
    for (since, signed_in, status) in [
        (0, None, Status::Active),
        (0, Some(5), Status::Active),
        (0, Some(11), Status::Active),
        (11, Some(5), Status::Active),
        (0, None, Status::Inactive),
    ] {
        let mut one = user(&format!("u{}@acme.example", id()));
        one.standing.status = (status, after(since));
        fresh.act(async |act| act.add_user(&one, None).await.unwrap()).await;
        if let Some(at) = signed_in {
            fresh.write(async |tx| tx.note_sign_in(one.id, after(at)).await.unwrap()).await;
        }
        let read = fresh.read(async |tx| tx.signed_in_at(one.id).await.unwrap()).await;
        assert_eq!(read, signed_in.map(after));
        ids.push(one.id);
    }
    let mut tx = fresh.store.read().await.unwrap();
    let mut found = tx.dormant_users(after(10), 9).await.unwrap();
    found.sort_unstable();
    assert_eq!(found, ids[..2]);
    assert_eq!(tx.dormant_users(after(10), 1).await.unwrap().len(), 1);
}

async fn a_first_password_is_for_who_is_pending_and_has_none(fresh: Fresh) {
    let mut pending = user("ana@acme.example");
    pending.standing.status = (Status::Pending, now());
    let active = user("paulo@acme.example");
    fresh.act(async |act| act.add_user(&pending, None).await.unwrap()).await;
    fresh.act(async |act| act.add_user(&active, None).await.unwrap()).await;
    assert!(!fresh.write(async |tx| tx.set_first_password(active.id, "x").await.unwrap()).await, "A-7");
    assert!(fresh.write(async |tx| tx.set_first_password(pending.id, "x").await.unwrap()).await);
    assert!(!fresh.write(async |tx| tx.set_first_password(pending.id, "y").await.unwrap()).await);
    let hash = fresh.read(async |tx| tx.password_hash(pending.id).await.unwrap()).await;
    assert_eq!(hash.as_deref(), Some("x"));
}

/// Rows that open an account, as the other parts of the server write them.
async fn ways_in(fresh: &Fresh, user: UserId) {
    let hex = user.0.simple().to_string();
    let postgres = matches!(fresh.database, portcullis_store::Database::Postgres(_));
    let (uuid, blob) =
        if postgres { (format!("'{hex}'::uuid"), "'\\x01'::bytea") } else { (format!("x'{hex}'"), "x'01'") };
    for sql in [
        format!(
            "INSERT INTO totp (user_id, sealed, sealed_by, made_at, last_step) VALUES ({uuid}, {blob}, 'k', 0, 0)"
        ),
        format!(
            "INSERT INTO passkeys (id, user_id, credential_id, name, passkey, made_at) VALUES ({uuid}, {uuid}, {blob}, 'x', '', 0)"
        ),
        format!("INSERT INTO recovery_codes (digest, user_id, made_at) VALUES ({blob}, {uuid}, 0)"),
        format!(
            "INSERT INTO identities (issuer, subject, user_id, email, linked_at) VALUES ('https://id.acme.example', 's', {uuid}, 'maria@id.acme.example', 0)"
        ),
        format!("UPDATE users SET passkey_alone = TRUE WHERE id = {uuid}"),
    ] {
        fresh.raw(&sql).await;
    }
}

async fn count(fresh: &Fresh, table: &str) -> Option<i64> {
    fresh.raw(&format!("SELECT COUNT(*) FROM {table}")).await
}

async fn what_opens_an_account_goes_with_its_deletion(fresh: Fresh) {
    let maria = fresh.super_admin("maria@acme.example").await.id;
    ways_in(&fresh, maria).await;
    let link = Link::new(maria, LinkPurpose::PasswordReset, now());
    fresh.write(async |tx| tx.add_link(&[1; 32], &link).await.unwrap()).await;
    let shown = fresh.read(async |tx| tx.identities_shown(maria).await.unwrap()).await;
    assert_eq!((shown.len(), shown[0].email.as_str(), &shown[0].provider), (1, "maria@id.acme.example", &None));

    fresh.write(async |tx| tx.remove_factors(maria).await.unwrap()).await;
    for (table, left) in [("totp", 0), ("passkeys", 0), ("recovery_codes", 0), ("identities", 1), ("links", 1)] {
        assert_eq!(count(&fresh, table).await, Some(left), "{table}");
    }
    assert_eq!(count(&fresh, "users WHERE passkey_alone").await, Some(0));
    assert!(fresh.read(async |tx| tx.password_hash(maria).await.unwrap()).await.is_some());

    fresh.write(async |tx| tx.drop_ways_in(maria).await.unwrap()).await;
    assert_eq!(count(&fresh, "links").await, Some(0));
    assert_eq!(count(&fresh, "identities WHERE email = ''").await, Some(1), "it says who is not let in anew");
    assert!(fresh.read(async |tx| tx.password_hash(maria).await.unwrap()).await.is_none());
}

async fn c6_each_reminder_is_taken_once_by_one_of_many(fresh: Fresh) {
    async fn take(store: Store, days: i64) -> usize {
        let (now, until) = (after(0), after(100));
        let mut tx = store.write().await.unwrap();
        let taken = tx.take_expiring(days, now, until, 50).await.unwrap();
        tx.commit().await.unwrap();
        taken.len()
    }
    let owners = ["held", "later", "over", "revoked", "deleted"];
    for owner in owners {
        let user = fresh.super_admin(&format!("{owner}@acme.example")).await;
        let credential = fresh.credential(user.id).await;
        let at = match owner {
            "later" => after(101),
            "over" => after(0),
            _ => after(100),
        };
        let expires = format!("UPDATE credentials SET expires_at = {}", at.as_microsecond());
        fresh.raw(&format!("{expires} WHERE client_id = '{}'", credential.client_id.as_str())).await;
        if owner == "revoked" {
            let why = portcullis_domain::credentials::RevocationReason::ByOwner;
            fresh.act(async |act| act.revoke_credential(credential.id, why, now()).await.unwrap()).await;
        }
        if owner == "deleted" {
            fresh.raw("UPDATE users SET status = 'deleted' WHERE email = 'deleted@acme.example'").await;
        }
    }
    let nodes = [fresh.store.clone(), fresh.another_node().await];
    let taken = at_once(8, |n| take(nodes[n % 2].clone(), 30)).await;
    assert_eq!(taken.iter().sum::<usize>(), 1, "{taken:?}");
    assert_eq!(take(fresh.store.clone(), 30).await, 0);
    assert_eq!(take(fresh.store.clone(), 1).await, 1, "the next one is another");
    assert_eq!(take(fresh.store.clone(), 7).await, 0, "never back to a longer one");
}

async fn h1_on_hold_no_reminder_is_taken(fresh: Fresh) {
    fresh.store.claim([1; 16], now()).await.unwrap();
    let maria = fresh.super_admin("maria@acme.example").await.id;
    let until = fresh.credential(maria).await.expires_at;
    fresh.put_on_hold().await;
    let taken = async || fresh.write(async |tx| tx.take_expiring(30, now(), until, 9).await.unwrap().len()).await;
    assert_eq!(taken().await, 0);
    fresh.raw("UPDATE installation SET held_since = NULL, held_why = NULL, held_after = NULL").await;
    assert_eq!(taken().await, 1, "its owner was not told");
}
