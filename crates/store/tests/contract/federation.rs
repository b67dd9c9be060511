//! Providers and identities: an identity is one user's, whoever comes first.

use portcullis_domain::{
    accounts::{Role, Standing, Status, User, UserId},
    federation::{Identity, LinkedIdentity, Provider, Settings},
    sessions::{Opened, Session},
};
use portcullis_store::{ProviderUse, Purpose, Store, StoreError};

use crate::support::{Fresh, after, at_once, id, keys, now, on_both, record, user};

on_both! {
    every_field_of_a_provider_comes_back
    a6_there_is_one_provider_per_issuer
    removing_a_provider_ends_its_sessions_and_keeps_the_identities
    every_field_of_an_identity_comes_back
    a6_of_many_parallel_links_of_one_identity_one_succeeds
    a6_parallel_sign_ins_of_somebody_new_make_one_user
    unlinking_is_for_the_owner_and_ends_the_sessions_opened_with_it
    a6_the_identity_of_who_was_deleted_stays_and_counts_for_nothing
    a6_an_identity_is_free_while_nobody_has_it_but_who_was_deleted
    a6_of_many_who_take_the_identity_of_who_was_deleted_one_succeeds
    a7_a_provider_knows_who_would_be_stranded_without_it
}

pub(crate) fn provider(name: &str, issuer: &str) -> Provider {
    let settings = Settings {
        name: name.to_owned(),
        issuer: issuer.to_owned(),
        client_id: "portcullis".to_owned(),
        scopes: vec!["openid".to_owned(), "email".to_owned()],
        domains: Vec::new(),
        makes_users: true,
        role: Role::User,
    };
    Provider { id: id(), settings, has_secret: false, made_at: now() }
}

async fn added(fresh: &Fresh, name: &str, issuer: &str) -> Provider {
    let provider = provider(name, issuer);
    fresh.act(async |act| act.add_provider(&provider).await.unwrap()).await;
    provider
}

pub(crate) fn linked(issuer: &str, subject: &str, user: UserId) -> LinkedIdentity {
    LinkedIdentity {
        identity: Identity::new(issuer, subject).unwrap(),
        user,
        email: "maria@id.example".to_owned(),
        linked_at: now(),
        signed_in_at: None,
    }
}

async fn every_field_of_a_provider_comes_back(fresh: Fresh) {
    let mut b = added(&fresh, "B '; --", "https://b.example").await;
    let a = added(&fresh, "A", "https://a.example").await;
    b.settings.domains = vec!["acme.example".to_owned(), "other.example".to_owned()];
    b.settings.scopes.push("profile".to_owned());
    b.settings.makes_users = false;
    b.settings.role = Role::SuperAdmin;
    b.settings.client_id = "other".to_owned();
    assert!(fresh.act(async |act| act.change_provider(b.id, &b.settings).await.unwrap()).await);
    assert!(!fresh.act(async |act| act.change_provider(id(), &a.settings).await.is_ok_and(|c| c)).await);
    assert!(fresh.read(async |tx| tx.provider_secret(b.id).await.unwrap()).await.is_none());
    let secret = keys().seal(Purpose::ProviderSecret, &b.id.to_string(), b"hidden", [5; 12]);
    fresh.act(async |act| act.set_provider_secret(b.id, &secret).await.unwrap()).await;
    b.has_secret = true;
    assert_eq!(fresh.read(async |tx| tx.provider_secret(b.id).await.unwrap()).await, Some(secret));
    assert_eq!(fresh.read(async |tx| tx.provider(b.id).await.unwrap()).await, Some(b.clone()));
    assert_eq!(fresh.read(async |tx| tx.providers().await.unwrap()).await, [a, b], "by name");
    assert!(fresh.read(async |tx| tx.provider(id()).await.unwrap()).await.is_none());
}

async fn a6_there_is_one_provider_per_issuer(fresh: Fresh) {
    let a = added(&fresh, "A", "https://a.example").await;
    let b = added(&fresh, "B", "https://b.example").await;
    let mut act = fresh.store.act().await.unwrap();
    let twice = act.add_provider(&provider("C", "https://a.example")).await;
    assert!(matches!(twice, Err(StoreError::Conflict(_))), "{twice:?}");
    drop(act);
    let mut act = fresh.store.act().await.unwrap();
    let moved = act.change_provider(b.id, &a.settings).await;
    assert!(matches!(moved, Err(StoreError::Conflict(_))), "{moved:?}");
}

async fn session(fresh: &Fresh, digest: u8, user: UserId, provider: Option<&Provider>) {
    let session = Session {
        handle: id(),
        user,
        opened: if provider.is_some() { Opened::Provider } else { Opened::Password },
        provider: provider.map(|p| p.id),
        opened_at: now(),
        seen_at: now(),
        password_at: None,
        ip: String::new(),
        user_agent: String::new(),
    };
    fresh.write(async |tx| tx.add_session(&[digest; 32], &session).await.unwrap()).await;
}

async fn lives(fresh: &Fresh, digest: u8) -> bool {
    fresh.read(async |tx| tx.session(&[digest; 32]).await.unwrap()).await.is_some()
}

async fn removing_a_provider_ends_its_sessions_and_keeps_the_identities(fresh: Fresh) {
    let (a, b) = (added(&fresh, "A", "https://a.example").await, added(&fresh, "B", "https://b.example").await);
    let maria = fresh.super_admin("a@acme.example").await.id;
    let identity = linked("https://a.example", "1", maria);
    assert!(fresh.act(async |act| act.link_identity(&identity, None).await.unwrap()).await);
    session(&fresh, 1, maria, Some(&a)).await;
    session(&fresh, 2, maria, Some(&b)).await;
    session(&fresh, 3, maria, None).await;
    assert!(fresh.act(async |act| act.remove_provider(a.id).await.unwrap()).await);
    assert!(!fresh.act(async |act| act.remove_provider(a.id).await.unwrap()).await);
    assert_eq!((lives(&fresh, 1).await, lives(&fresh, 2).await, lives(&fresh, 3).await), (false, true, true));
    let late = Session {
        handle: id(),
        user: maria,
        opened: Opened::Provider,
        provider: Some(a.id),
        opened_at: now(),
        seen_at: now(),
        password_at: None,
        ip: String::new(),
        user_agent: String::new(),
    };
    let mut tx = fresh.store.write().await.unwrap();
    let opened = tx.add_session(&[4; 32], &late).await;
    assert!(matches!(opened, Err(StoreError::Conflict(_))), "and none is opened any more: {opened:?}");
    drop(tx);
    let kept = fresh.read(async |tx| tx.linked_identity(&identity.identity).await.unwrap()).await;
    assert_eq!(kept, Some(identity), "the same provider, set up again, is the same authority");
}

async fn every_field_of_an_identity_comes_back(fresh: Fresh) {
    let maria = fresh.super_admin("a@acme.example").await.id;
    let identities =
        [linked("https://a.example", "1 '; --", maria), linked("https://b.example", "1 '; --", maria)];
    for identity in &identities {
        assert!(fresh.act(async |act| act.link_identity(identity, None).await.unwrap()).await);
    }
    assert_eq!(fresh.read(async |tx| tx.identities_of(maria).await.unwrap()).await, identities);
    assert!(fresh.read(async |tx| tx.identities_of(UserId(id())).await.unwrap()).await.is_empty());
    let other = Identity::new("https://a.example", "2").unwrap();
    assert!(fresh.read(async |tx| tx.linked_identity(&other).await.unwrap()).await.is_none());
    let [first, second] = identities;
    fresh.act(async |act| act.note_identity(&first.identity, "new@id.example", after(60)).await.unwrap()).await;
    let noted = LinkedIdentity { email: "new@id.example".to_owned(), signed_in_at: Some(after(60)), ..first };
    let found = fresh.read(async |tx| tx.linked_identity(&noted.identity).await.unwrap()).await;
    assert_eq!(found, Some(noted));
    assert_eq!(fresh.read(async |tx| tx.linked_identity(&second.identity).await.unwrap()).await, Some(second));
}

async fn a6_of_many_parallel_links_of_one_identity_one_succeeds(fresh: Fresh) {
    async fn link(store: Store, linked: LinkedIdentity) -> Result<bool, StoreError> {
        let mut act = store.act().await?;
        let is_linked = act.link_identity(&linked, None).await?;
        act.commit(&[record(portcullis_domain::audit::Event::IdentityLinked, "x")]).await?;
        Ok(is_linked)
    }
    let users = [fresh.super_admin("a@acme.example").await.id, fresh.super_admin("b@acme.example").await.id];
    let nodes = [fresh.store.clone(), fresh.another_node().await];
    let outcomes =
        at_once(8, |n| link(nodes[n % 2].clone(), linked("https://a.example", "1", users[n % 2]))).await;
    assert_eq!(outcomes.into_iter().filter(|o| *o.as_ref().unwrap()).count(), 1);
}

async fn a6_parallel_sign_ins_of_somebody_new_make_one_user(fresh: Fresh) {
    async fn sign_in(store: Store, n: usize) -> Result<bool, StoreError> {
        let mut act = store.act().await?;
        let identity = Identity::new("https://a.example", "new").unwrap();
        if act.linked_identity(&identity).await?.is_some() {
            return Ok(false);
        }
        let user = user(&format!("new{n}@acme.example"));
        act.add_user(&user, None).await?;
        assert!(act.link_identity(&linked("https://a.example", "new", user.id), None).await?);
        act.commit(&[record(portcullis_domain::audit::Event::UserCreated, "x")]).await?;
        Ok(true)
    }
    let nodes = [fresh.store.clone(), fresh.another_node().await];
    let outcomes = at_once(10, |n| sign_in(nodes[n % 2].clone(), n)).await;
    assert_eq!(outcomes.into_iter().filter(|o| *o.as_ref().unwrap()).count(), 1);
    assert_eq!(fresh.raw("SELECT COUNT(*) FROM users WHERE email LIKE 'new%'").await, Some(1));
}

async fn unlinking_is_for_the_owner_and_ends_the_sessions_opened_with_it(fresh: Fresh) {
    let (a, b) = (added(&fresh, "A", "https://a.example").await, added(&fresh, "B", "https://b.example").await);
    let maria = fresh.super_admin("a@acme.example").await.id;
    let paulo = fresh.super_admin("b@acme.example").await.id;
    let identity = linked("https://a.example", "1", maria);
    assert!(fresh.act(async |act| act.link_identity(&identity, None).await.unwrap()).await);
    session(&fresh, 1, maria, Some(&a)).await;
    session(&fresh, 2, maria, Some(&b)).await;
    session(&fresh, 3, paulo, Some(&a)).await;
    assert!(!fresh.act(async |act| act.unlink_identity(paulo, &identity.identity).await.unwrap()).await);
    assert!(lives(&fresh, 1).await && lives(&fresh, 3).await);
    assert!(fresh.act(async |act| act.unlink_identity(maria, &identity.identity).await.unwrap()).await);
    assert!(!fresh.act(async |act| act.unlink_identity(maria, &identity.identity).await.unwrap()).await);
    assert_eq!((lives(&fresh, 1).await, lives(&fresh, 2).await, lives(&fresh, 3).await), (false, true, true));
}

async fn set(fresh: &Fresh, user: &User, status: Status) {
    let standing = Standing { status: (status, now()), ..user.standing.clone() };
    fresh.act(async |act| act.set_standing(user.id, &standing).await.unwrap()).await;
}

async fn owner(fresh: &Fresh, linked: &LinkedIdentity) -> Option<UserId> {
    fresh.read(async |tx| tx.linked_identity(&linked.identity).await.unwrap()).await.map(|l| l.user)
}

async fn a6_the_identity_of_who_was_deleted_stays_and_counts_for_nothing(fresh: Fresh) {
    added(&fresh, "A", "https://a.example").await;
    let maria = fresh.super_admin("a@acme.example").await;
    let paulo = fresh.super_admin("b@acme.example").await.id;
    for (subject, user) in [("1", maria.id), ("2", maria.id), ("3", paulo)] {
        let identity = linked("https://a.example", subject, user);
        assert!(fresh.act(async |act| act.link_identity(&identity, None).await.unwrap()).await);
    }
    set(&fresh, &maria, Status::Deleted).await;
    fresh.act(async |act| act.drop_ways_in(maria.id).await.unwrap()).await;
    for subject in ["1", "2"] {
        let identity = linked("https://a.example", subject, maria.id);
        let kept = fresh.read(async |tx| tx.linked_identity(&identity.identity).await.unwrap()).await;
        assert_eq!(kept, Some(LinkedIdentity { email: String::new(), ..identity }), "whose it was stays known");
    }
    assert!(fresh.read(async |tx| tx.identities_of(maria.id).await.unwrap()).await.is_empty());
    assert!(fresh.read(async |tx| tx.identities_shown(maria.id).await.unwrap()).await.is_empty());
    assert_eq!(fresh.read(async |tx| tx.identities_of(paulo).await.unwrap().len()).await, 1);
    let paulos = fresh.read(async |tx| tx.identities_shown(paulo).await.unwrap()).await;
    assert_eq!((paulos.len(), paulos[0].email.as_str()), (1, "maria@id.example"), "others' are left alone");
    let used = fresh.read(async |tx| tx.provider_use("https://a.example").await.unwrap()).await;
    assert_eq!(used, ProviderUse { users: 1, stranded: 0, super_admins_left: 1 });
}

async fn a6_an_identity_is_free_while_nobody_has_it_but_who_was_deleted(fresh: Fresh) {
    let maria = fresh.super_admin("a@acme.example").await;
    let paulo = fresh.super_admin("b@acme.example").await;
    let (of_maria, of_paulo) =
        (linked("https://a.example", "1", maria.id), linked("https://a.example", "1", paulo.id));
    let link = async |linked: &LinkedIdentity, deleted| {
        fresh.act(async |act| act.link_identity(linked, deleted).await.unwrap()).await
    };
    assert!(link(&of_maria, None).await, "nobody had it");
    assert!(!link(&of_maria, None).await, "twice");
    for status in [Status::Active, Status::Inactive, Status::Pending] {
        set(&fresh, &maria, status).await;
        assert!(!link(&of_paulo, Some(maria.id)).await, "{status:?}");
        assert_eq!(owner(&fresh, &of_maria).await, Some(maria.id));
    }
    set(&fresh, &maria, Status::Deleted).await;
    for other in [None, Some(paulo.id)] {
        assert!(!link(&of_paulo, other).await, "only from whom it is asked for: {other:?}");
        assert_eq!(owner(&fresh, &of_maria).await, Some(maria.id));
    }
    assert!(link(&of_paulo, Some(maria.id)).await);
    let now_paulos = fresh.read(async |tx| tx.linked_identity(&of_paulo.identity).await.unwrap()).await;
    assert_eq!(now_paulos.as_ref(), Some(&of_paulo), "all of it is the new link's");
    assert!(!link(&of_maria, Some(maria.id)).await);
}

async fn a6_of_many_who_take_the_identity_of_who_was_deleted_one_succeeds(fresh: Fresh) {
    async fn take(store: Store, linked: LinkedIdentity, deleted: UserId) -> Result<bool, StoreError> {
        let mut act = store.act().await?;
        let taken = act.link_identity(&linked, Some(deleted)).await?;
        act.commit(&[record(portcullis_domain::audit::Event::IdentityLinked, "x")]).await?;
        Ok(taken)
    }
    let maria = fresh.super_admin("m@acme.example").await;
    let identity = linked("https://a.example", "1", maria.id);
    assert!(fresh.act(async |act| act.link_identity(&identity, None).await.unwrap()).await);
    set(&fresh, &maria, Status::Deleted).await;
    let users = [fresh.super_admin("a@acme.example").await.id, fresh.super_admin("b@acme.example").await.id];
    let nodes = [fresh.store.clone(), fresh.another_node().await];
    let take = |n: usize| take(nodes[n % 2].clone(), linked("https://a.example", "1", users[n % 2]), maria.id);
    let taken = at_once(8, take).await;
    assert_eq!(taken.into_iter().filter(|t| *t.as_ref().unwrap()).count(), 1);
    assert!(users.contains(&owner(&fresh, &identity).await.unwrap()));
}

async fn a7_a_provider_knows_who_would_be_stranded_without_it(fresh: Fresh) {
    added(&fresh, "A", "https://a.example").await;
    added(&fresh, "B", "https://b.example").await;
    let with_password = fresh.super_admin("a@acme.example").await;
    let mut without = Vec::new();
    for n in 0..4 {
        let user = user(&format!("f{n}@acme.example"));
        fresh.act(async |act| act.add_user(&user, None).await.unwrap()).await;
        without.push(user);
    }
    let links = [
        ("https://a.example", "0", with_password.id),
        ("https://a.example", "1", without[0].id),
        ("https://a.example", "1b", without[0].id),
        ("https://a.example", "2", without[1].id),
        ("https://b.example", "2", without[1].id),
        ("https://a.example", "3", without[2].id),
        ("https://gone.example", "3", without[2].id),
        ("https://a.example", "4", without[3].id),
    ];
    for (issuer, subject, user) in links {
        let identity = linked(issuer, subject, user);
        assert!(fresh.act(async |act| act.link_identity(&identity, None).await.unwrap()).await);
    }
    let mut standing = without[3].standing.clone();
    standing.status = (Status::Deleted, now());
    fresh.act(async |act| act.set_standing(without[3].id, &standing).await.unwrap()).await;
    let used = |issuer: &'static str| fresh.read(async move |tx| tx.provider_use(issuer).await.unwrap());
    assert_eq!(used("https://a.example").await, ProviderUse { users: 4, stranded: 2, super_admins_left: 2 });
    assert_eq!(used("https://b.example").await, ProviderUse { users: 1, stranded: 0, super_admins_left: 4 });
    assert_eq!(used("https://none.example").await, ProviderUse { users: 0, stranded: 0, super_admins_left: 4 });
}
