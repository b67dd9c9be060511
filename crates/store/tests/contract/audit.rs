//! The audit log: an act and its record are one (L-1), and the chain tells what was done to it
//! behind the server's back (L-3).

use std::sync::Arc;

use jiff::SignedDuration;
use portcullis_domain::{
    accounts::{Standing, Status},
    audit::{Broken, By, Entry, Event, Head, Origin, Record},
};
use portcullis_store::{AuditFilter, AuditPage, ChainState, MasterKeys, OpenOptions, Store, StoreError};

use crate::support::{Fresh, after, at_once, keys, now, on_both, record, user};

on_both! {
    l1_every_field_of_a_record_comes_back
    an_empty_log_verifies
    l1_an_act_that_is_not_committed_leaves_neither_change_nor_record
    l1_an_act_leaves_all_its_records_in_their_order
    l3_two_nodes_in_parallel_leave_one_chain_without_gaps
    l3_what_is_done_to_the_log_behind_the_server_is_found
    l3_a_damaged_head_is_found
    l3_a_chain_goes_on_over_a_change_of_the_master_key
    l3_what_is_left_after_trimming_verifies
    l3_a_log_that_was_wiped_is_not_taken_for_a_new_one
    l3_records_cut_off_at_either_end_are_found_though_the_head_was_set_to_fit
    l3_trimming_is_no_damage_to_who_follows_the_chain_meanwhile
    trimming_more_than_there_is_is_refused
    old_records_are_counted_up_to_the_first_that_is_not
    the_log_is_narrowed_by_every_filter
    the_log_is_paged_in_both_directions
    hostile_text_reaches_the_log_as_harmless_text
}

async fn act(store: &Store, entries: &[Entry]) {
    store.act().await.unwrap().commit(entries).await.unwrap();
}

/// Acts of one record each, one second apart.
async fn acts(fresh: &Fresh, n: i64) {
    for at in 0..n {
        let entry = Entry { at: after(at), ..record(Event::SignedIn, &format!("s{at}")) };
        act(&fresh.store, &[entry]).await;
    }
}

async fn verify(fresh: &Fresh) -> ChainState {
    fresh.store.verify_audit().await.unwrap()
}

async fn all(fresh: &Fresh) -> Vec<portcullis_domain::audit::Record> {
    fresh
        .read(async |tx| tx.audit_page(&AuditFilter::default(), AuditPage::After(0), 1000).await.unwrap())
        .await
        .records
}

async fn l1_every_field_of_a_record_comes_back(fresh: Fresh) {
    let origin = Origin::new("2001:db8::7".to_owned(), "curl/8 日本");
    let by = [By::User("u1".into()), By::Client("pcc_x".into()), By::Stranger, By::Operator, By::Server];
    let mut entries = Vec::new();
    for (n, event) in Event::ALL.iter().enumerate() {
        let at = "2026-11-23T14:02:03.123456Z".parse().unwrap();
        let entry = Entry::done(at, by[n % by.len()].clone(), &origin, *event, format!("subject {n}"));
        let entry = entry.with("b", "zwei \"2\"").with("a", "one\r\n\0");
        entries.push(if n % 2 == 0 { entry } else { entry.refused("mfa_on") });
    }
    act(&fresh.store, &entries).await;
    let expected: Vec<Record> = (1..).zip(&entries).map(|(seq, entry)| Record::new(seq, entry)).collect();
    assert_eq!(all(&fresh).await, expected);
    assert_eq!(verify(&fresh).await.broken, None);
}

async fn an_empty_log_verifies(fresh: Fresh) {
    assert_eq!(verify(&fresh).await, ChainState { records: 0, head: Head::EMPTY, trimmed_to: 0, broken: None });
}

async fn l1_an_act_that_is_not_committed_leaves_neither_change_nor_record(fresh: Fresh) {
    let maria = fresh.super_admin("maria@acme.example").await;
    let before = verify(&fresh).await;

    let mut act = fresh.store.act().await.unwrap();
    act.add_user(&user("other@acme.example"), None).await.unwrap();
    drop(act);
    // I4: the change is there, but its records are refused: the whole act is.
    let mut act = fresh.store.act().await.unwrap();
    act.set_standing(maria.id, &Standing { status: (Status::Inactive, now()), ..maria.standing.clone() })
        .await
        .unwrap();
    act.trim_audit(1).await.unwrap();
    drop(act);

    assert_eq!(verify(&fresh).await, before);
    let mut tx = fresh.store.read().await.unwrap();
    assert_eq!(tx.users(None, "", None, 9).await.unwrap().len(), 1);
    assert_eq!(tx.user(maria.id).await.unwrap().unwrap().standing, maria.standing);
    drop(tx);
    act_goes_on(&fresh).await;
}

async fn act_goes_on(fresh: &Fresh) {
    let before = verify(fresh).await.records;
    act(&fresh.store, &[record(Event::SignedIn, "x")]).await;
    let state = verify(fresh).await;
    assert_eq!((state.records, state.broken), (before + 1, None));
}

async fn l1_an_act_leaves_all_its_records_in_their_order(fresh: Fresh) {
    let entries: Vec<Entry> = (0..5).map(|n| record(Event::SessionsEnded, &format!("s{n}"))).collect();
    act(&fresh.store, &entries).await;
    act(&fresh.store, &entries[..1]).await;
    let seen: Vec<(i64, String)> = all(&fresh).await.into_iter().map(|r| (r.seq, r.subject)).collect();
    let expected = [(1, "s0"), (2, "s1"), (3, "s2"), (4, "s3"), (5, "s4"), (6, "s0")];
    assert_eq!(seen, expected.map(|(seq, subject)| (seq, subject.to_owned())));
}

async fn l3_two_nodes_in_parallel_leave_one_chain_without_gaps(fresh: Fresh) {
    async fn one(store: Store, n: usize) -> Result<(), StoreError> {
        let user = user(&format!("u{n}@acme.example"));
        let mut act = store.act().await?;
        act.add_user(&user, None).await?;
        act.commit(&[record(Event::UserCreated, &user.id.to_string())]).await
    }
    let nodes = [fresh.store.clone(), fresh.another_node().await];
    for outcome in at_once(100, |n| one(nodes[n % 2].clone(), n)).await {
        outcome.unwrap();
    }
    let state = verify(&fresh).await;
    assert_eq!((state.records, state.broken.clone()), (100, None));
    assert_eq!(nodes[1].verify_audit().await.unwrap(), state);
    let records = all(&fresh).await;
    assert!(records.iter().map(|r| r.seq).eq(1..=100));
    let mut users = fresh.read(async |tx| tx.users(None, "", None, 200).await.unwrap()).await;
    users.retain(|u| records.iter().filter(|r| r.subject == u.id.to_string()).count() == 1);
    assert_eq!(users.len(), 100, "I4: exactly one record of each act");
}

/// Keeps a copy of the log beside it.
async fn keep(fresh: &Fresh) {
    fresh.raw("CREATE TABLE kept AS SELECT * FROM audit_records").await;
    fresh.raw("CREATE TABLE kept_head AS SELECT * FROM audit_head").await;
}

/// Puts the copy in the place of the log.
async fn bring_back(fresh: &Fresh) {
    for sql in [
        "DELETE FROM audit_records",
        "DELETE FROM audit_head",
        "INSERT INTO audit_records SELECT * FROM kept",
        "INSERT INTO audit_head SELECT * FROM kept_head",
    ] {
        fresh.raw(sql).await;
    }
}

async fn l3_what_is_done_to_the_log_behind_the_server_is_found(fresh: Fresh) {
    acts(&fresh, 6).await;
    act(&fresh.store, &[record(Event::TokenRefused, "x").refused("mfa_on")]).await;
    keep(&fresh).await;
    let columns =
        "seq, at, by_kind, by_id, ip, user_agent, event, subject, outcome, reason, details, link, key_id";
    let copy = |seq: i64| {
        let rest = columns.strip_prefix("seq").unwrap();
        format!("INSERT INTO audit_records ({columns}) SELECT {seq}{rest} FROM kept WHERE seq = 2")
    };
    let mut cases = vec![
        ("DELETE FROM audit_records WHERE seq = 3".to_owned(), Broken::Missing { missing: 3, found: 4 }),
        ("DELETE FROM audit_records WHERE seq <= 2".to_owned(), Broken::Missing { missing: 1, found: 3 }),
        ("DELETE FROM audit_records WHERE seq >= 6".to_owned(), Broken::Truncated { last: 5, head: 7 }),
        ("DELETE FROM audit_records".to_owned(), Broken::Truncated { last: 0, head: 7 }),
        ("UPDATE audit_records SET at = at + 1 WHERE seq = 7".to_owned(), Broken::Altered(7)),
        (
            "UPDATE audit_records SET link = (SELECT link FROM kept WHERE seq = 1) WHERE seq = 4".to_owned(),
            Broken::Altered(4),
        ),
        ("UPDATE audit_records SET seq = 8 WHERE seq = 7".to_owned(), Broken::Truncated { last: 6, head: 7 }),
        (copy(8), Broken::Stray(8)),
        (copy(0), Broken::Stray(0)),
        ("UPDATE audit_head SET seq = 6".to_owned(), Broken::Head),
        ("UPDATE audit_head SET seq = 8".to_owned(), Broken::Head),
        ("UPDATE audit_head SET trimmed_seq = 2".to_owned(), Broken::Head),
        ("UPDATE audit_head SET link = (SELECT link FROM kept WHERE seq = 6)".to_owned(), Broken::Head),
        ("UPDATE audit_head SET key_id = 'x'".to_owned(), Broken::UnknownKey { seq: 7, key: "x".to_owned() }),
        (
            "UPDATE audit_records SET key_id = 'x' WHERE seq = 2".to_owned(),
            Broken::UnknownKey { seq: 2, key: "x".to_owned() },
        ),
    ];
    for text in ["by_kind", "by_id", "ip", "user_agent", "event", "subject", "outcome", "reason", "details"] {
        let alter = |set: &str| format!("UPDATE audit_records SET {text} = {set} WHERE seq = 7");
        cases.push((alter(&format!("{text} || ' '")), Broken::Altered(7)));
        cases.push((alter("'forged'"), Broken::Altered(7)));
    }
    for (harm, found) in cases {
        fresh.raw(&harm).await;
        assert_eq!(verify(&fresh).await.broken, Some(found), "{harm}");
        bring_back(&fresh).await;
        assert_eq!(verify(&fresh).await.broken, None, "mended after {harm}");
    }
}

/// What cannot even be read as a log is an error, not a clean bill.
async fn l3_a_damaged_head_is_found(fresh: Fresh) {
    acts(&fresh, 2).await;
    let no_bytes = if fresh.store.has_many_writers() { "''::bytea" } else { "x''" };
    fresh.raw(&format!("UPDATE audit_head SET link = {no_bytes}")).await;
    let outcome = fresh.store.verify_audit().await;
    assert!(matches!(outcome, Err(StoreError::Corrupt(_))), "{outcome:?}");
    let refused = fresh.store.act().await.unwrap().commit(&[record(Event::SignedIn, "x")]).await;
    assert!(matches!(refused, Err(StoreError::Corrupt(_))), "I6: nothing is appended to it: {refused:?}");
    fresh.raw("DELETE FROM audit_head").await;
    assert!(fresh.store.verify_audit().await.is_err());
    assert!(fresh.store.act().await.unwrap().commit(&[]).await.is_err());
}

async fn l3_a_chain_goes_on_over_a_change_of_the_master_key(fresh: Fresh) {
    acts(&fresh, 3).await;
    let text = MasterKeys::file_text(&[8; 32]) + &MasterKeys::file_text(&[7; 32]);
    let ring = Arc::new(MasterKeys::parse(&text).unwrap());
    let changed = Store::open(&fresh.database, ring, &OpenOptions::default()).await.unwrap();
    act(&changed, &[record(Event::SignedIn, "x")]).await;
    let state = changed.verify_audit().await.unwrap();
    assert_eq!((state.records, state.broken), (4, None));

    let newer = Arc::new(MasterKeys::one([8; 32]));
    let forgetful = Store::open(&fresh.database, newer, &OpenOptions::default()).await.unwrap();
    let broken = forgetful.verify_audit().await.unwrap().broken;
    let key = keys().current_id().to_owned();
    assert_eq!(broken, Some(Broken::UnknownKey { seq: 1, key }), "it names the key that is needed");
}

async fn l3_what_is_left_after_trimming_verifies(fresh: Fresh) {
    acts(&fresh, 5).await;
    for (count, records, trimmed_to) in [(0, 6, 0), (2, 5, 2), (1, 5, 3), (5, 1, 8)] {
        fresh.act(async |act| act.trim_audit(count).await.unwrap()).await;
        let state = verify(&fresh).await;
        assert_eq!((state.records, state.trimmed_to, state.broken), (records, trimmed_to, None));
        assert_eq!(all(&fresh).await.first().unwrap().seq, trimmed_to + 1);
    }
    fresh.raw("UPDATE audit_records SET subject = 'y'").await;
    assert_eq!(verify(&fresh).await.broken, Some(Broken::Altered(9)), "the anchor holds");
    fresh.raw("DELETE FROM audit_records").await;
    assert_eq!(verify(&fresh).await.broken, Some(Broken::Truncated { last: 8, head: 9 }));
}

/// Whoever can only write to the database cuts the log off at one end and sets the head to fit.
async fn l3_records_cut_off_at_either_end_are_found_though_the_head_was_set_to_fit(fresh: Fresh) {
    acts(&fresh, 6).await;
    keep(&fresh).await;
    let front = [
        "DELETE FROM audit_records WHERE seq <= 3",
        "UPDATE audit_head SET trimmed_seq = 3, trimmed_link = (SELECT link FROM kept WHERE seq = 3)",
    ];
    let tail = [
        "DELETE FROM audit_records WHERE seq > 4",
        "UPDATE audit_head SET seq = 4, link = (SELECT link FROM kept WHERE seq = 4)",
    ];
    let all = ["DELETE FROM audit_records", "UPDATE audit_head SET seq = trimmed_seq, link = trimmed_link"];
    for harm in [front, tail, all] {
        for sql in harm {
            fresh.raw(sql).await;
        }
        assert_eq!(verify(&fresh).await.broken, Some(Broken::Head), "{harm:?}");
        let refused = fresh.store.act().await.unwrap().commit(&[record(Event::SignedIn, "x")]).await;
        assert!(matches!(refused, Err(StoreError::Corrupt(_))), "no honest act seals it: {refused:?}");
        let mut act = fresh.store.act().await.unwrap();
        assert!(act.trim_audit(1).await.is_err());
        drop(act);
        assert_eq!(verify(&fresh).await.broken, Some(Broken::Head), "{harm:?}");
        bring_back(&fresh).await;
    }
}

async fn l3_a_log_that_was_wiped_is_not_taken_for_a_new_one(fresh: Fresh) {
    fresh.store.claim([1; 16], now()).await.unwrap();
    assert_eq!(verify(&fresh).await.broken, None, "nothing has happened yet");
    acts(&fresh, 2).await;
    let zeros = "(SELECT digest FROM credentials WHERE generated_at = 0)";
    let empty = if fresh.store.has_many_writers() { "''::bytea" } else { "x''" };
    fresh.raw("DELETE FROM audit_records").await;
    let wipe = "UPDATE audit_head SET seq = 0, trimmed_seq = 0, key_id = '', ";
    fresh.raw(&format!("{wipe} link = {zeros}, trimmed_link = {zeros}, seal = {empty}")).await;
    assert_eq!(verify(&fresh).await.broken, Some(Broken::Head));
    let refused = fresh.store.act().await.unwrap().commit(&[record(Event::SignedIn, "x")]).await;
    assert!(matches!(refused, Err(StoreError::Corrupt(_))), "{refused:?}");
}

async fn l3_trimming_is_no_damage_to_who_follows_the_chain_meanwhile(fresh: Fresh) {
    let entries: Vec<Entry> = (0..300).map(|n| record(Event::SignedIn, &n.to_string())).collect();
    act(&fresh.store, &entries).await;
    let node = fresh.another_node().await;
    let trimming = tokio::spawn(async move {
        for _ in 0..60 {
            let mut act = node.act().await.unwrap();
            act.trim_audit(5).await.unwrap();
            act.commit(&[record(Event::AuditTrimmed, "")]).await.unwrap();
        }
    });
    while !trimming.is_finished() {
        assert_eq!(verify(&fresh).await.broken, None);
    }
    trimming.await.unwrap();
    let state = verify(&fresh).await;
    assert_eq!((state.records, state.trimmed_to, state.broken), (60, 300, None));
}

async fn trimming_more_than_there_is_is_refused(fresh: Fresh) {
    acts(&fresh, 3).await;
    let before = verify(&fresh).await;
    for count in [4, 1_000_000] {
        let mut act = fresh.store.act().await.unwrap();
        assert!(act.trim_audit(count).await.is_err());
    }
    assert_eq!(verify(&fresh).await, before);
}

async fn old_records_are_counted_up_to_the_first_that_is_not(fresh: Fresh) {
    // A clock that was stepped forwards by 100 s, and back again.
    for at in [0, 1, 2, 103, 4, 5] {
        act(&fresh.store, &[Entry { at: after(at), ..record(Event::SignedIn, "x") }]).await;
    }
    let old = async |before, limit| {
        fresh.read(async |tx| tx.audit_records_before(after(before), limit).await.unwrap()).await
    };
    for (before, limit, count) in
        [(0, 9, 0), (1, 9, 1), (2, 9, 2), (5, 9, 3), (99, 9, 3), (104, 9, 6), (104, 4, 4), (99, 2, 2), (99, 0, 0)]
    {
        assert_eq!(old(before, limit).await, count, "before {before}, at most {limit}");
    }
    fresh.act(async |act| act.trim_audit(3).await.unwrap()).await;
    assert_eq!(old(99, 9).await, 0, "counted from the oldest there is");
    assert_eq!(old(104, 9).await, 4, "the record of the trimming too");
}

async fn the_log_is_narrowed_by_every_filter(fresh: Fresh) {
    let by = |by: &str, at, event, subject: &str| Entry {
        at: after(at),
        by: By::User(by.to_owned()),
        ..record(event, subject)
    };
    let entries = [
        by("maria", 0, Event::SignedIn, "maria"),
        by("maria", 1, Event::UserCreated, "joão"),
        by("joão", 2, Event::SignedIn, "joão").refused("password"),
        by("joão", 3, Event::CredentialGenerated, "pcc_1"),
    ];
    act(&fresh.store, &entries).await;
    let found = async |filter: AuditFilter| {
        let mut tx = fresh.store.read().await.unwrap();
        let rows = tx.audit_page(&filter, AuditPage::After(0), 50).await.unwrap().records;
        let mut other_way = tx.audit_page(&filter, AuditPage::Before(i64::MAX), 50).await.unwrap().records;
        other_way.reverse();
        assert_eq!(rows, other_way);
        rows.into_iter().map(|r| r.seq).collect::<Vec<_>>()
    };
    let all = AuditFilter::default;
    let micro = SignedDuration::from_micros(1);
    for (filter, expected) in [
        (all(), vec![1, 2, 3, 4]),
        (AuditFilter { event: "sign_in".into(), ..all() }, vec![1, 3]),
        (AuditFilter { event: "sign".into(), ..all() }, vec![]),
        (AuditFilter { event: "sign_in\0".into(), ..all() }, vec![]),
        (AuditFilter { outcome: "refused".into(), ..all() }, vec![3]),
        (AuditFilter { outcome: "done".into(), ..all() }, vec![1, 2, 4]),
        (AuditFilter { outcome: "\0".into(), ..all() }, vec![]),
        (AuditFilter { by: "joão".into(), ..all() }, vec![3, 4]),
        (AuditFilter { by: "maria".into(), ..all() }, vec![1, 2]),
        (AuditFilter { subject: "joão".into(), ..all() }, vec![2, 3]),
        (AuditFilter { subject: "pcc_1".into(), ..all() }, vec![4]),
        (AuditFilter { by: "maria".into(), subject: "joão".into(), ..all() }, vec![2]),
        (AuditFilter { by: "' OR '1'='1".into(), ..all() }, vec![]),
        (AuditFilter { subject: "%".into(), ..all() }, vec![]),
        (AuditFilter { by: "maria\0".into(), ..all() }, vec![]),
        (AuditFilter { from: Some(after(2)), ..all() }, vec![3, 4]),
        (AuditFilter { until: Some(after(2)), ..all() }, vec![1, 2]),
        (AuditFilter { until: Some(after(2) + micro), ..all() }, vec![1, 2, 3]),
        (AuditFilter { from: Some(after(1)), until: Some(after(3)), ..all() }, vec![2, 3]),
        (AuditFilter { event: "sign_in".into(), outcome: "done".into(), by: "maria".into(), ..all() }, vec![1]),
        (AuditFilter { event: "sign_in".into(), by: "pcc_1".into(), ..all() }, vec![]),
    ] {
        assert_eq!(found(filter.clone()).await, expected, "{filter:?}");
    }
}

async fn the_log_is_paged_in_both_directions(fresh: Fresh) {
    // All of one instant: the number tells them apart.
    let entries: Vec<Entry> = (0..7).map(|n| record(Event::SignedIn, &n.to_string())).collect();
    act(&fresh.store, &entries).await;
    let mut tx = fresh.store.read().await.unwrap();
    let filter = AuditFilter { event: "sign_in".into(), ..AuditFilter::default() };
    for limit in [1, 2, 3, 7, 8] {
        for (start, page, expected) in [
            (0, AuditPage::After as fn(i64) -> AuditPage, (1..=7).collect::<Vec<i64>>()),
            (i64::MAX, AuditPage::Before, (1..=7).rev().collect()),
        ] {
            let (mut at, mut seen) = (start, Vec::new());
            loop {
                let rows = tx.audit_page(&filter, page(at), limit).await.unwrap().records;
                assert!(rows.len() <= limit as usize);
                let Some(last) = rows.last() else { break };
                at = last.seq;
                seen.extend(rows.iter().map(|r| r.seq));
            }
            assert_eq!(seen, expected, "{limit} a page");
        }
    }
}

/// PostgreSQL takes no NUL in a text: it must not be a way to be refused without a record.
async fn hostile_text_reaches_the_log_as_harmless_text(fresh: Fresh) {
    let hostile = "x\0\r\nEvil: 1\u{1b}[31m'); DROP TABLE audit_records; --\"\\";
    let origin = Origin { ip: hostile.to_owned(), user_agent: hostile.to_owned() };
    let entry = Entry::done(now(), By::Client(hostile.to_owned()), &origin, Event::TokenRefused, hostile)
        .refused("unknown_client")
        .with("asked", hostile);
    act(&fresh.store, &[entry]).await;
    let row = all(&fresh).await.pop().unwrap();
    for text in [&row.by.1, &row.ip, &row.user_agent, &row.subject] {
        assert_eq!(text, "x\u{fffd}\u{fffd}\u{fffd}Evil: 1\u{fffd}[31m'); DROP TABLE audit_records; --\"\\");
    }
    assert!(!row.details.contains(char::is_control), "JSON escapes them: {}", row.details);
    assert_eq!(verify(&fresh).await.broken, None);
    let about = AuditFilter { by: hostile.to_owned(), subject: hostile.to_owned(), ..AuditFilter::default() };
    let found = fresh.read(async |tx| tx.audit_page(&about, AuditPage::After(0), 9).await.unwrap()).await;
    assert_eq!(found.records, [row], "and is found by what was sent");

    act(&fresh.store, &[record(Event::TokenRefused, &"é".repeat(100_000))]).await;
    assert_eq!(all(&fresh).await.pop().unwrap().subject, "é".repeat(256), "and takes a bounded room");
}
