//! Users: what is written is what is read, an e-mail is one account, pages lose nobody.

use portcullis_domain::{
    accounts::{DisplayName, Email, Language, Role, Standing, Status, TimeZoneName, User, UserId},
    audit::Event,
};
use portcullis_store::{Store, StoreError};

use crate::support::{Fresh, after, at_once, id, now, on_both, record, user};

on_both! {
    every_field_of_a_user_comes_back
    emails_of_many_users_come_at_once
    a2_an_email_is_one_account_whoever_comes_first
    a2_the_email_of_a_deleted_user_is_free_and_the_deleted_stays_deleted
    a_new_profile_changes_the_profile_of_that_user_only
    a_new_standing_changes_the_standing_of_that_user_only
    a_password_is_changed_from_the_one_it_was_and_by_one_of_many
    pages_of_users_lose_and_double_nobody
    a_fragment_is_looked_for_as_text_in_any_case
    users_are_narrowed_by_status_and_the_deleted_are_never_listed
    what_is_not_committed_did_not_happen
}

/// Users have no equality of their own: what is shown of them tells.
fn shown(user: Option<User>) -> String {
    format!("{user:?}")
}

async fn delete(fresh: &Fresh, user: &User) {
    let gone = Standing { status: (Status::Deleted, after(9)), ..user.standing.clone() };
    fresh.act(async |act| act.set_standing(user.id, &gone).await.unwrap()).await;
}

async fn every_field_of_a_user_comes_back(fresh: Fresh) {
    let plain = user("plain@acme.example");
    let full = User {
        name: DisplayName::parse("Ágata O'Neil \"%_\\\" 💡 日本").unwrap(),
        language: Language::EnglishUnitedStates,
        time_zone: TimeZoneName::parse("America/Argentina/Buenos_Aires").unwrap(),
        standing: Standing {
            role: (Role::User, after(1)),
            status: (Status::Pending, "2026-11-23T14:02:03.123456Z".parse().unwrap()),
            mfa_since: Some(after(3)),
            has_password: false,
        },
        created_at: "1969-12-31T23:59:59.999999Z".parse().unwrap(),
        ..user("full+tag'--@ácme.example")
    };
    fresh.act(async |act| act.add_user(&plain, Some("$argon2id$v=19$x")).await.unwrap()).await;
    fresh.act(async |act| act.add_user(&full, None).await.unwrap()).await;

    let mut tx = fresh.store.read().await.unwrap();
    for expected in [&plain, &full] {
        let expected_shown = shown(Some(expected.clone()));
        assert_eq!(shown(tx.user(expected.id).await.unwrap()), expected_shown);
        assert_eq!(shown(tx.user_by_email(&expected.email).await.unwrap()), expected_shown);
        let listed = tx.users(None, expected.email.as_str(), None, 2).await.unwrap();
        assert_eq!(listed.len(), 1);
        assert_eq!(shown(listed.into_iter().next()), expected_shown);
    }
    assert_eq!(tx.password_hash(plain.id).await.unwrap().as_deref(), Some("$argon2id$v=19$x"));
    assert_eq!(tx.password_hash(full.id).await.unwrap(), None);

    let nobody = UserId(id());
    assert!(tx.user(nobody).await.unwrap().is_none());
    assert!(tx.password_hash(nobody).await.unwrap().is_none());
    assert!(tx.user_by_email(&Email::parse("nobody@acme.example").unwrap()).await.unwrap().is_none());
}

async fn a2_an_email_is_one_account_whoever_comes_first(fresh: Fresh) {
    async fn add(store: Store) -> Result<(), StoreError> {
        let user = user("Maria@ACME.example");
        let mut act = store.act().await?;
        act.add_user(&user, None).await?;
        act.commit(&[record(Event::UserCreated, &user.id.to_string())]).await
    }
    let nodes = [fresh.store.clone(), fresh.another_node().await];
    let outcomes = at_once(20, |n| add(nodes[n % 2].clone())).await;
    assert_eq!(outcomes.iter().filter(|o| o.is_ok()).count(), 1);
    let refused = outcomes.iter().filter(|o| matches!(o, Err(StoreError::Conflict(_)))).count();
    assert_eq!(refused, 19, "{outcomes:?}");
    assert_eq!(fresh.read(async |tx| tx.users(None, "", None, 50).await.unwrap().len()).await, 1);
    assert_eq!(fresh.store.verify_audit().await.unwrap().records, 1, "I4");
}

async fn a2_the_email_of_a_deleted_user_is_free_and_the_deleted_stays_deleted(fresh: Fresh) {
    let first = fresh.super_admin("maria@acme.example").await;
    delete(&fresh, &first).await;
    assert!(fresh.read(async |tx| tx.user_by_email(&first.email).await.unwrap()).await.is_none());

    let second = fresh.super_admin("maria@acme.example").await;
    let mut tx = fresh.store.read().await.unwrap();
    assert_eq!(tx.user_by_email(&first.email).await.unwrap().unwrap().id, second.id);
    assert_eq!(tx.user(first.id).await.unwrap().unwrap().standing.status, (Status::Deleted, after(9)));
    drop(tx);

    let mut act = fresh.store.act().await.unwrap();
    let opened_again = act.set_standing(first.id, &first.standing).await;
    assert!(matches!(opened_again, Err(StoreError::Conflict(_))), "{opened_again:?}");
}

async fn a_new_profile_changes_the_profile_of_that_user_only(fresh: Fresh) {
    let (before, other) = (fresh.super_admin("a@acme.example").await, fresh.super_admin("b@acme.example").await);
    let after = User {
        name: DisplayName::parse("Zoë '\"\\").unwrap(),
        language: Language::EnglishUnitedStates,
        time_zone: TimeZoneName::utc(),
        ..before.clone()
    };
    fresh
        .act(async |act| {
            act.set_profile(before.id, &after.name, after.language, &after.time_zone).await.unwrap();
        })
        .await;
    let mut tx = fresh.store.read().await.unwrap();
    assert_eq!(shown(tx.user(before.id).await.unwrap()), shown(Some(after)));
    assert_eq!(shown(tx.user(other.id).await.unwrap()), shown(Some(other)));
    assert_eq!(tx.users(None, "ZOË", None, 9).await.unwrap().len(), 1, "found by the new name");
    assert_eq!(tx.users(None, "rocha", None, 9).await.unwrap().len(), 1, "not by the old one");
}

async fn a_new_standing_changes_the_standing_of_that_user_only(fresh: Fresh) {
    let (before, other) = (fresh.super_admin("a@acme.example").await, fresh.super_admin("b@acme.example").await);
    let there = Standing {
        role: (Role::User, after(1)),
        status: (Status::Inactive, after(2)),
        mfa_since: Some(after(3)),
        // Not a thing that is set: it follows from the password hash.
        has_password: true,
    };
    for standing in [there, before.standing.clone()] {
        fresh.act(async |act| act.set_standing(before.id, &standing).await.unwrap()).await;
        let read = fresh.read(async |tx| tx.user(before.id).await.unwrap()).await;
        assert_eq!(shown(read), shown(Some(User { standing, ..before.clone() })));
    }
    assert_eq!(shown(fresh.read(async |tx| tx.user(other.id).await.unwrap()).await), shown(Some(other)));
}

async fn a_password_is_changed_from_the_one_it_was_and_by_one_of_many(fresh: Fresh) {
    async fn change(store: Store, id: UserId, new: String) -> Result<bool, StoreError> {
        let mut tx = store.write().await?;
        let done = tx.set_password_hash(id, "$argon2id$x", &new).await?;
        tx.commit().await.map(|()| done)
    }
    let (maria, other) =
        (fresh.super_admin("a@acme.example").await.id, fresh.super_admin("b@acme.example").await.id);
    let nodes = [fresh.store.clone(), fresh.another_node().await];
    let outcomes = at_once(10, |n| change(nodes[n % 2].clone(), maria, format!("new{n}"))).await;
    let winner = outcomes.iter().position(|o| *o.as_ref().unwrap()).unwrap();
    assert_eq!(outcomes.iter().filter(|o| *o.as_ref().unwrap()).count(), 1);
    let hash = fresh.read(async |tx| tx.password_hash(maria).await.unwrap()).await;
    assert_eq!(hash, Some(format!("new{winner}")));

    assert!(!fresh.write(async |tx| tx.set_password_hash(maria, "$argon2id$x", "y").await.unwrap()).await);
    let hash = fresh.read(async |tx| tx.password_hash(other).await.unwrap()).await;
    assert_eq!(hash.as_deref(), Some("$argon2id$x"));

    let federated = user("c@acme.example");
    fresh.act(async |act| act.add_user(&federated, None).await.unwrap()).await;
    let given = fresh.write(async |tx| tx.set_password_hash(federated.id, "", "y").await.unwrap()).await;
    assert!(!given, "A-7: no password comes from nothing");
}

async fn pages_of_users_lose_and_double_nobody(fresh: Fresh) {
    let mut ids = Vec::new();
    for n in 0..7 {
        ids.push(fresh.super_admin(&format!("u{n}@acme.example")).await.id);
    }
    let mut tx = fresh.store.read().await.unwrap();
    for limit in [1, 2, 3, 7, 8] {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = tx.users(after, "", None, limit).await.unwrap();
            assert!(page.len() <= limit as usize);
            let Some(last) = page.last() else { break };
            after = Some(last.id);
            seen.extend(page.iter().map(|u| u.id));
        }
        assert_eq!(seen, ids, "oldest first, {limit} a page");
    }
    assert!(tx.users(None, "", None, 0).await.unwrap().is_empty());
}

async fn a_fragment_is_looked_for_as_text_in_any_case(fresh: Fresh) {
    let names = ["100% Ägypten", "snake_case", "back\\slash", "O'Neil; --", "SnakeXcase ÉCLAIR"];
    for (n, name) in names.into_iter().enumerate() {
        let user = User { name: DisplayName::parse(name).unwrap(), ..user(&format!("n{n}@acme.example")) };
        fresh.act(async |act| act.add_user(&user, None).await.unwrap()).await;
    }
    let mut tx = fresh.store.read().await.unwrap();
    for (fragment, expected) in [
        ("%", vec![0]),
        ("0% Ä", vec![0]),
        ("ÄGYPT", vec![0]),
        ("ägypt", vec![0]),
        ("_", vec![1]),
        ("SNAKE", vec![1, 4]),
        ("snake_", vec![1]),
        ("\\", vec![2]),
        ("K\\S", vec![2]),
        ("\\%", vec![]),
        ("'neil; -", vec![3]),
        ("éclair", vec![4]),
        ("N3@acme", vec![3]),
        ("@acme.example", vec![0, 1, 2, 3, 4]),
        ("", vec![0, 1, 2, 3, 4]),
        ("acme.example\0", vec![]),
        ("a@acme", vec![]),
    ] {
        let found = tx.users(None, fragment, None, 50).await.unwrap();
        let found: Vec<&str> = found.iter().map(|u| u.name.as_str()).collect();
        let expected: Vec<&str> = expected.into_iter().map(|n: usize| names[n]).collect();
        assert_eq!(found, expected, "{fragment:?}");
    }
    assert!(tx.users(None, &"a".repeat(100_000), None, 50).await.unwrap().is_empty());
}

async fn users_are_narrowed_by_status_and_the_deleted_are_never_listed(fresh: Fresh) {
    let all = [Status::Pending, Status::Active, Status::Inactive, Status::Deleted];
    for (n, status) in all.into_iter().enumerate() {
        let mut user = user(&format!("s{n}@acme.example"));
        user.standing.status = (status, now());
        fresh.act(async |act| act.add_user(&user, None).await.unwrap()).await;
    }
    let mut tx = fresh.store.read().await.unwrap();
    for (asked, expected) in [
        (None, &all[..3]),
        (Some(Status::Pending), &all[..1]),
        (Some(Status::Active), &all[1..2]),
        (Some(Status::Inactive), &all[2..3]),
        (Some(Status::Deleted), &[]),
    ] {
        let found = tx.users(None, "", asked, 50).await.unwrap();
        let found: Vec<Status> = found.iter().map(|u| u.standing.status.0).collect();
        assert_eq!(found, expected, "{asked:?}");
    }
    assert!(tx.users(None, "s1@", Some(Status::Pending), 50).await.unwrap().is_empty(), "both must fit");
}

async fn what_is_not_committed_did_not_happen(fresh: Fresh) {
    let user = user("maria@acme.example");
    let mut tx = fresh.store.write().await.unwrap();
    tx.add_user(&user, None).await.unwrap();
    assert!(tx.user(user.id).await.unwrap().is_some(), "it sees what it wrote itself");
    assert!(fresh.read(async |tx| tx.user(user.id).await.unwrap()).await.is_none(), "nobody else does");
    drop(tx);
    assert!(fresh.read(async |tx| tx.user(user.id).await.unwrap()).await.is_none());
    fresh.write(async |tx| tx.add_user(&user, None).await.unwrap()).await;
}

async fn emails_of_many_users_come_at_once(fresh: Fresh) {
    let mut expected = Vec::new();
    for n in 0..40 {
        let user = user(&format!("u{n}@acme.example"));
        fresh.act(async |act| act.add_user(&user, None).await.unwrap()).await;
        expected.push((user.id, format!("u{n}@acme.example")));
    }
    let mut ids: Vec<UserId> = expected.iter().map(|(id, _)| *id).collect();
    ids.push(UserId(id()));
    let mut found = fresh.read(async |tx| tx.emails_of(&ids).await.unwrap()).await;
    found.sort_unstable();
    assert_eq!(found, expected, "and nothing of an unknown one");
    assert_eq!(fresh.read(async |tx| tx.emails_of(&[]).await.unwrap()).await, []);
}
