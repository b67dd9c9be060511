//! What keeps a large database quick: one page of the audit log looks at a bounded number of records and
//! leaves none out, records of a time are found by runs, indexes that are missing are made.

use portcullis_domain::audit::{By, Entry, Event};
use portcullis_store::{AuditFilter, AuditPage, Database, Store};

use crate::support::{Fresh, after, on_both, raw, record};

/// Records of a run, as the migrations have it.
const RUN: i64 = 2048;

on_both! {
    a_page_that_was_not_searched_to_the_end_says_so_and_goes_on
    records_of_a_time_are_found_also_where_a_clock_was_set_back
    runs_are_summed_up_once_they_are_whole_and_go_with_their_records
    who_is_far_behind_is_told_of_changes_in_parts
    a_key_that_is_needed_is_seen_without_counting
}

/// Writes records in one act.
async fn write(store: &Store, entries: Vec<Entry>) {
    store.act().await.unwrap().commit(&entries).await.unwrap();
}

/// So many sign-ins of one user, one a second.
fn sign_ins(by: &str, from: i64, count: i64) -> Vec<Entry> {
    let entry = |n| Entry { at: after(from + n), by: By::User(by.to_owned()), ..record(Event::SignedIn, by) };
    (0..count).map(entry).collect()
}

/// The numbers of all records that a filter finds, page after page in one direction, and how many pages
/// that took.
async fn found(store: &Store, filter: &AuditFilter, backwards: bool) -> (Vec<i64>, u32) {
    let (mut at, mut seen, mut pages) = (if backwards { i64::MAX } else { 0 }, Vec::new(), 0);
    let mut tx = store.read().await.unwrap();
    loop {
        let page = if backwards { AuditPage::Before(at) } else { AuditPage::After(at) };
        let found = tx.audit_page(filter, page, 50).await.unwrap();
        pages += 1;
        seen.extend(found.records.iter().map(|r| r.seq));
        let full = found.records.last().filter(|_| found.records.len() == 50).map(|r| r.seq);
        let Some(next) = full.or(found.looked_to) else { break };
        at = next;
    }
    if backwards {
        seen.reverse();
    }
    (seen, pages)
}

async fn a_page_that_was_not_searched_to_the_end_says_so_and_goes_on(fresh: Fresh) {
    // Maria has many records, and refused ones are many; hers that were refused are two, far apart.
    let hers = |n: usize| {
        Entry { by: By::User("maria".to_owned()), ..sign_ins("x", 0, 1).remove(0) }.refused(if n == 0 {
            "password"
        } else {
            "locked"
        })
    };
    write(&fresh.store, vec![hers(0)]).await;
    for _ in 0..3 {
        write(&fresh.store, sign_ins("maria", 0, 2000)).await;
        write(&fresh.store, sign_ins("joão", 0, 2000).into_iter().map(|e| e.refused("password")).collect()).await;
    }
    write(&fresh.store, vec![hers(1)]).await;
    let refused = AuditFilter { by: "maria".into(), outcome: "refused".into(), ..AuditFilter::default() };
    let mut tx = fresh.store.read().await.unwrap();
    let first = tx.audit_page(&refused, AuditPage::Before(12_002), 50).await.unwrap();
    assert_eq!(first.records, [], "not looked at so far back");
    assert!(first.looked_to.is_some_and(|seq| (2..8000).contains(&seq)), "{first:?}");
    drop(tx);
    for backwards in [true, false] {
        let (seen, pages) = found(&fresh.store, &refused, backwards).await;
        assert_eq!(seen, [1, 12_002]);
        assert!(pages <= 4, "{pages}");
    }
    let never = AuditFilter { event: "key.withdraw".into(), ..AuditFilter::default() };
    assert_eq!(found(&fresh.store, &never, true).await, (vec![], 1), "an index says it at once");
    let rare = AuditFilter { event: "sign_in".into(), subject: "x".into(), ..AuditFilter::default() };
    assert_eq!(found(&fresh.store, &rare, true).await, (vec![1, 12_002], 1), "by the rarer of the two");
}

async fn records_of_a_time_are_found_also_where_a_clock_was_set_back(fresh: Fresh) {
    // A clock that goes a day ahead for a while, in the middle of three runs and a half.
    let mut at = Vec::new();
    for (from, count) in [(0, 3000), (86_400, 300), (3000, 3868)] {
        write(&fresh.store, sign_ins("maria", from, count)).await;
        at.extend((0..count).map(|n| from + n));
    }
    let narrow = |from: i64, until: i64| AuditFilter {
        from: Some(after(from)),
        until: Some(after(until)),
        ..AuditFilter::default()
    };
    let windows = [
        (0, 10),
        (2990, 3010),
        (6000, 6868),
        (6860, 90_000),
        (86_400, 86_410),
        (86_690, 86_700),
        (90_000, 99_000),
    ];
    // Before any run is summed up, when some are, and when all are.
    loop {
        for (from, until) in windows {
            let expected: Vec<i64> =
                (1..).zip(&at).filter(|(_, at)| (from..until).contains(*at)).map(|(seq, _)| seq).collect();
            for backwards in [true, false] {
                let (seen, _) = found(&fresh.store, &narrow(from, until), backwards).await;
                assert_eq!(seen, expected, "{from} to {until}, backwards {backwards}");
            }
        }
        if !fresh.store.sum_up_audit().await.unwrap() {
            break;
        }
    }
    assert_eq!(fresh.raw("SELECT COUNT(*) FROM audit_runs").await, Some(3));
    let (_, pages) = found(&fresh.store, &narrow(-9000, -8000), true).await;
    assert_eq!(pages, 1, "a time without records is no search");
}

async fn runs_are_summed_up_once_they_are_whole_and_go_with_their_records(fresh: Fresh) {
    write(&fresh.store, sign_ins("maria", 0, RUN - 2)).await;
    assert!(!fresh.store.sum_up_audit().await.unwrap(), "the first one lacks number 0, and one more");
    write(&fresh.store, sign_ins("maria", 5000, 1)).await;
    assert!(fresh.store.sum_up_audit().await.unwrap());
    assert!(!fresh.store.sum_up_audit().await.unwrap(), "nothing is left to do");
    let of = |what: &str| format!("SELECT {what} FROM audit_runs WHERE run = 0");
    assert_eq!(fresh.raw(&of("earliest")).await, Some(after(0).as_microsecond()));
    assert_eq!(fresh.raw(&of("latest")).await, Some(after(5000).as_microsecond()));

    write(&fresh.store, sign_ins("maria", 6000, RUN)).await;
    assert!(fresh.another_node().await.sum_up_audit().await.unwrap());
    fresh.act(async |act| act.trim_audit(2000).await.unwrap()).await;
    assert_eq!(fresh.raw("SELECT MIN(run) FROM audit_runs").await, Some(0), "some of it is there");
    fresh.act(async |act| act.trim_audit(47).await.unwrap()).await;
    assert_eq!(fresh.raw("SELECT MIN(run) FROM audit_runs").await, Some(1), "all of it was dropped");
}

async fn who_is_far_behind_is_told_of_changes_in_parts(fresh: Fresh) {
    let owner = fresh.super_admin("maria@acme.example").await.id;
    let held = fresh.credential(owner).await;
    write(&fresh.store, sign_ins("maria", 0, 20_500)).await;
    let revoked = record(Event::CredentialRevoked, held.client_id.as_str());
    write(&fresh.store, vec![revoked]).await;
    let mut tx = fresh.store.read().await.unwrap();
    let (mut at, mut told, mut parts) = (0, Vec::new(), 0);
    loop {
        let page = tx.changes_after(0, at, 500).await.unwrap().unwrap();
        told.extend(page.changes.iter().map(|c| c.seq));
        (at, parts) = (page.until, parts + 1);
        if page.is_last {
            break;
        }
    }
    assert_eq!((told, parts), (vec![2, 20_503], 2), "generated and revoked");
}

async fn a_key_that_is_needed_is_seen_without_counting(fresh: Fresh) {
    let owner = fresh.super_admin("maria@acme.example").await.id;
    let held = fresh.credential(owner).await;
    let needs = async |known: &'static str, at| {
        fresh.read(async |tx| tx.needs_other_key(&|id| id.is_empty() || id == known, at).await.unwrap()).await
    };
    assert!(needs("other", after(0)).await);
    assert!(!needs("k", after(0)).await, "the key of its digest is there");
    assert!(!needs("other", held.expires_at).await, "what has ended needs none");
    fresh
        .raw(&format!("INSERT INTO recovery_codes (digest, user_id, made_at, digest_key_id) SELECT digest, owner_id, 0, 'z' FROM credentials WHERE client_id = '{}'", held.client_id.as_str()))
        .await;
    assert!(needs("k", after(0)).await);
    fresh.raw("UPDATE recovery_codes SET used_at = 1").await;
    assert!(!needs("k", after(0)).await);
}

/// On PostgreSQL the program makes indexes, and one that was broken off is made anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn indexes_that_are_missing_or_broken_off_are_made() {
    let fresh = Fresh::postgres().await;
    let good = "SELECT COUNT(*) FROM pg_index WHERE indisvalid AND indexrelid = 'audit_records_outcome'::regclass";
    assert_eq!(fresh.raw(good).await, Some(1), "made with the schema, while the table is short");
    assert_eq!(fresh.store.make_indexes().await.unwrap(), 0);
    fresh.raw("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'audit_records_outcome'::regclass").await;
    fresh.raw("DROP INDEX users_of_role").await;
    assert_eq!(fresh.store.make_indexes().await.unwrap(), 2);
    assert_eq!(fresh.raw(good).await, Some(1));

    // A table that is not short: nobody who writes to it waits.
    for _ in 0..6 {
        write(&fresh.store, sign_ins("maria", 0, 2000)).await;
    }
    fresh.raw("DROP INDEX audit_records_outcome").await;
    let Database::Postgres(_) = &fresh.database else { unreachable!() };
    let other = fresh.another_node().await;
    let there = "SELECT COUNT(*) FROM pg_class WHERE relname = 'audit_records_outcome'";
    assert_eq!(raw(&fresh.database, there).await, Some(0), "not at the start of a node");
    let (one, two) = tokio::join!(fresh.store.make_indexes(), other.make_indexes());
    assert_eq!(one.unwrap() + two.unwrap(), 1, "by one of two");
    assert_eq!(fresh.raw(good).await, Some(1));
}
