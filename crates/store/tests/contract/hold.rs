//! The hold (H-1), and noticing that a database is not the one that was here (H-4).

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use portcullis_domain::{
    apis::{Api, OWN, Settings},
    audit::{By, Event},
    hold::Why,
};
use portcullis_store::{Database, OpenOptions, Replayed, Settled, Store, StoreError};

use crate::support::{Fresh, at_once, id, keys, now, on_both, own_api, record, token};

on_both! {
    h1_on_hold_nothing_is_read_told_or_done_and_of_many_one_lifts_it
    h3_an_api_that_has_come_to_require_dpop_requires_it_here_and_one_that_stopped_goes_on
    h4_a_database_that_lacks_what_was_acknowledged_is_put_on_hold
    h4_a_database_that_says_it_is_elsewhere_is_put_on_hold
}

async fn settle(store: &Store) -> Settled {
    store.claim([1; 16], now()).await.unwrap();
    store.settle([9; 16], now()).await.unwrap()
}

async fn h1_on_hold_nothing_is_read_told_or_done_and_of_many_one_lifts_it(fresh: Fresh) {
    settle(&fresh.store).await;
    let maria = fresh.super_admin("maria@acme.example").await;
    let credential = fresh.credential(maria.id).await;
    let issued = token(credential.id, 0);
    fresh.write(async |tx| tx.record_tokens(std::slice::from_ref(&issued)).await.unwrap()).await;
    let before = fresh.read(async |tx| (tx.log_ends().await.unwrap(), tx.key_set_version().await.unwrap())).await;

    let mut act = fresh.store.act_on_hold().await.unwrap();
    let entry = act.begin_hold(Why::Operator, By::Operator, now()).await.unwrap().unwrap();
    act.commit(&[entry]).await.unwrap();
    let mut act = fresh.store.act_on_hold().await.unwrap();
    assert!(act.begin_hold(Why::Operator, By::Operator, now()).await.unwrap().is_none(), "once");
    drop(act);

    let on_hold = |error: StoreError| assert!(matches!(error, StoreError::OnHold), "{error:?}");
    let node = fresh.another_node().await;
    let mut tx = node.read().await.unwrap();
    for id in [credential.client_id.as_str(), "pcc_11111111111111111111"] {
        on_hold(tx.presented_clients(&[id]).await.unwrap_err());
    }
    on_hold(tx.token_on_record(issued.jti).await.unwrap_err());
    on_hold(tx.log_ends().await.unwrap_err());
    on_hold(tx.changes_after(0, 0, 10).await.unwrap_err());
    on_hold(tx.credentials_after(0, now(), 10).await.unwrap_err());
    on_hold(node.act().await.unwrap().commit(&[record(Event::SignedIn, "x")]).await.unwrap_err());
    let hold = tx.hold().await.unwrap().unwrap();
    assert_eq!((hold.why, hold.after), (Why::Operator, before.0.head));
    let held = tx.held_credentials(now(), "", 10).await.unwrap();
    assert_eq!(held.len(), 1);
    assert_eq!((&held[0].client_id, held[0].suspended), (&credential.client_id, false));
    drop(tx);

    let store = fresh.store.clone();
    let lifted = at_once(4, |at| {
        let store = store.clone();
        async move {
            let mut act = store.act_on_hold().await.unwrap();
            let lifted = act.lift_hold(7 + i64::try_from(at).unwrap()).await.unwrap();
            if lifted {
                act.commit(&[record(Event::HoldLifted, "database")]).await.unwrap();
            }
            lifted
        }
    })
    .await;
    assert_eq!(lifted.into_iter().filter(|lifted| *lifted).count(), 1);
    let mut tx = node.read().await.unwrap();
    assert_eq!(tx.presented_clients(&[credential.client_id.as_str()]).await.unwrap().len(), 1);
    let ends = tx.log_ends().await.unwrap();
    assert!(ends.line >= 7, "numbers of before mean nothing: {ends:?}");
    assert!(tx.changes_after(0, before.0.head, 10).await.unwrap().is_none(), "another line");
    assert!(tx.changes_after(ends.line, before.0.head, 10).await.unwrap().is_some());
    assert!(tx.key_set_version().await.unwrap() > before.1 + 1000);
}

async fn h3_an_api_that_has_come_to_require_dpop_requires_it_here_and_one_that_stopped_goes_on(fresh: Fresh) {
    let later = match &fresh.database {
        Database::Sqlite(_) => Fresh::sqlite().await,
        Database::Postgres(_) => Fresh::postgres().await,
    };
    let mut orders = Api { id: id(), settings: Settings::own("urn:orders".to_owned()), made_at: now() };
    later.write(async |tx| tx.add_api(&orders).await.unwrap()).await;
    orders.settings.requires_dpop = true;
    fresh.write(async |tx| tx.add_api(&orders).await.unwrap()).await;
    later.raw("UPDATE apis SET requires_dpop = TRUE WHERE identifier LIKE '%/api/v1'").await;

    for expected in [&[Replayed::BoundOnly(own_api().settings.identifier)][..], &[]] {
        let mut act = fresh.store.act().await.unwrap();
        let done = act.replay_from(&mut later.store.read().await.unwrap(), now()).await.unwrap();
        assert_eq!(done, expected);
        act.commit(&[record(Event::HoldLifted, "database")]).await.unwrap();
    }
    for api in [OWN, orders.id] {
        let found = fresh.read(async |tx| tx.api(api).await.unwrap()).await;
        assert!(found.unwrap().settings.requires_dpop);
    }
}

/// The same database as a program finds it that starts now.
async fn started(fresh: &Fresh, mark: &Path) -> Store {
    let options = OpenOptions { mark: Some(mark.to_owned()), ..OpenOptions::default() };
    Store::open(&fresh.database, keys(), &options).await.unwrap()
}

async fn h4_a_database_that_lacks_what_was_acknowledged_is_put_on_hold(fresh: Fresh) {
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("portcullis.mark");
    let store = started(&fresh, &mark).await;
    assert_eq!(settle(&store).await, Settled { hold: None, in_doubt: false });
    let act =
        async |store: &Store| store.act().await.unwrap().commit(&[record(Event::SignedIn, "x")]).await.unwrap();
    act(&store).await;
    // On PostgreSQL another node that lost nothing. On SQLite there is one file, and one mark beside it.
    let survivor = started(&fresh, &folder.path().join("survivor.mark")).await;
    if fresh.store.has_many_writers() {
        assert_eq!(settle(&survivor).await.hold, None);
    }
    // As a restore to an earlier time does it.
    fresh.raw("CREATE TABLE saved AS SELECT * FROM audit_head").await;
    act(&store).await;
    let mark_of_another = folder.path().join("another.mark");
    let another = started(&fresh, &mark_of_another).await;
    assert_eq!(settle(&another).await.hold, None);
    act(&another).await;
    assert!(!store.lacks_what_was_noted().await.unwrap());
    assert_eq!(settle(&started(&fresh, &mark).await).await.hold, None, "restarted");
    fresh.raw("DELETE FROM audit_records WHERE seq > (SELECT seq FROM saved)").await;
    fresh.raw("DELETE FROM audit_head").await;
    fresh.raw("INSERT INTO audit_head SELECT * FROM saved").await;
    assert!(store.lacks_what_was_noted().await.unwrap(), "a node that runs sees it");
    // One that lost nothing does not, and goes on beyond all that the others noted.
    if fresh.store.has_many_writers() {
        for _ in 0..5 {
            survivor.act().await.unwrap().commit(&[record(Event::SignedOut, "z")]).await.unwrap();
        }
    }
    let refused = store.act().await.unwrap().commit(&[record(Event::SignedIn, "y")]).await;
    assert!(matches!(refused, Err(StoreError::OnHold)), "and acknowledges nothing in its place: {refused:?}");

    let later = started(&fresh, &mark).await;
    let hold = settle(&later).await.hold.unwrap();
    assert_eq!(hold.why, Why::Older);
    assert!(matches!(later.read().await.unwrap().log_ends().await, Err(StoreError::OnHold)));
    assert_eq!(settle(&started(&fresh, &mark).await).await.hold, Some(hold), "it stays");
    let chain = later.verify_audit().await.unwrap();
    assert_eq!(chain.broken, None, "the hold is on record");

    let mut lifting = later.act_on_hold().await.unwrap();
    assert!(lifting.lift_hold(5).await.unwrap());
    lifting.commit(&[record(Event::HoldLifted, "database")]).await.unwrap();
    assert_eq!(settle(&started(&fresh, &mark_of_another).await).await.hold, None, "that was answered for");
    assert!(!store.lacks_what_was_noted().await.unwrap());
    act(&store).await;
    act(&later).await;
}

async fn h4_a_database_that_says_it_is_elsewhere_is_put_on_hold(fresh: Fresh) {
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("portcullis.mark");
    let store = started(&fresh, &mark).await;
    assert_eq!(settle(&store).await.hold, None);
    fresh.raw("UPDATE installation SET place = 'another/1'").await;
    let node = started(&fresh, &mark).await;
    assert_eq!(settle(&node).await.hold.unwrap().why, Why::Elsewhere);
    let mut act = node.act_on_hold().await.unwrap();
    assert!(act.lift_hold(1).await.unwrap());
    act.commit(&[record(Event::HoldLifted, "database")]).await.unwrap();
    assert_eq!(settle(&started(&fresh, &mark).await).await.hold, None, "it is at home here now");
}

mod only_sqlite {
    use super::*;
    use portcullis_store::{Alone, OpenError, put_in_place};

    #[tokio::test]
    async fn h4_a_copy_without_its_mark_is_put_on_hold_and_one_of_before_too() {
        let fresh = Fresh::sqlite().await;
        let Database::Sqlite(file) = &fresh.database else { unreachable!() };
        settle(&fresh.store).await;
        let folder = tempfile::tempdir().unwrap();
        let copy = folder.path().join("portcullis.db");
        fresh.store.copy_into(&copy).await.unwrap();
        let open = async |file: &PathBuf| {
            Store::open(&Database::Sqlite(file.clone()), keys(), &OpenOptions::default()).await
        };
        let store = open(&copy).await.unwrap();
        assert_eq!(settle(&store).await.hold.unwrap().why, Why::Elsewhere);
        store.close().await;
        drop(store);

        // A copy of before, put back by hand over the one that went on.
        let old = folder.path().join("old");
        fresh.store.copy_into(&old).await.unwrap();
        fresh.super_admin("maria@acme.example").await;
        fresh.store.close().await;
        std::fs::copy(&old, file).unwrap();
        let store = open(file).await.unwrap();
        assert_eq!(settle(&store).await.hold.unwrap().why, Why::Older);
        store.close().await;

        // Its mark says that a database was here: no new one is made.
        std::fs::remove_file(file).unwrap();
        let lost = open(file).await.err().unwrap();
        assert!(matches!(lost, OpenError::Lost(..)), "{lost:?}");
        assert!(lost.to_string().contains("portcullis.mark"), "{lost}");
    }

    #[tokio::test]
    async fn a_file_is_replaced_only_while_nobody_has_it_open_and_nobody_opens_it_meanwhile() {
        let fresh = Fresh::sqlite().await;
        let Database::Sqlite(file) = &fresh.database else { unreachable!() };
        settle(&fresh.store).await;
        let copy = file.with_extension("copy");
        fresh.store.copy_into(&copy).await.unwrap();
        assert!(matches!(Alone::with(file), Err(OpenError::InUse(_))));
        fresh.super_admin("maria@acme.example").await;
        fresh.store.close().await;
        let (database, kept) = (fresh.database.clone(), file.with_extension("kept"));
        let file = file.clone();
        drop(fresh.store);
        let alone = Alone::with(&file).unwrap();
        let refused = Store::open(&database, keys(), &OpenOptions::default()).await.err().unwrap();
        assert!(matches!(refused, OpenError::InUse(_)), "{refused:?}");
        put_in_place(&alone, &copy, &kept).await.unwrap();
        drop(alone);
        let users = async |file: PathBuf| {
            let store = Store::open_copy(&file, Arc::clone(&keys())).await.unwrap();
            let found = store.read().await.unwrap().users(None, "maria", None, 10).await.unwrap().len();
            store.close().await;
            found
        };
        assert_eq!((users(file).await, users(kept).await), (0, 1), "the new one, and the old one beside it");
    }
}
