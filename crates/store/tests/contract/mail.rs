//! The outbox: queued, leased to one of many, sent or tried again, gone by age.

use portcullis_domain::{accounts::Email, mail::MailKind};
use portcullis_store::{DueMail, Purpose, QueuedMail, Store};
use uuid::Uuid;

use crate::support::{Fresh, after, at_once, id, now, on_both};

on_both! {
    a_mail_comes_back_to_be_sent_with_its_message
    a_lease_is_taken_by_one_of_many_and_ends
    what_was_sent_is_sealed_gone_and_stays_sent
    a_try_that_failed_is_told_and_repeated_until_given_up
    pages_of_the_outbox_lose_and_double_nobody
    mails_to_an_address_are_counted_by_kind_and_time
    old_mails_go_unless_they_wait
    h1_on_hold_no_mail_is_taken_and_one_that_was_being_sent_stays_given_up
}

async fn queue(fresh: &Fresh, to: &str, kind: MailKind, seconds: i64) -> Uuid {
    let id = id();
    let message = fresh.store.keys().seal(Purpose::Mail, &id.to_string(), b"text", [5; 12]);
    let mail = QueuedMail { id, to: Email::parse(to).unwrap(), kind, message, queued_at: after(seconds) };
    fresh.write(async |tx| tx.queue_mail(&mail).await.unwrap()).await;
    id
}

async fn take(store: &Store, at: i64, lease: i64) -> Option<DueMail> {
    let mut tx = store.write().await.unwrap();
    let due = tx.take_due_mail(after(at), after(lease)).await.unwrap();
    tx.commit().await.unwrap();
    due
}

async fn a_mail_comes_back_to_be_sent_with_its_message(fresh: Fresh) {
    assert!(!fresh.read(async |tx| tx.is_mail_due(now()).await.unwrap()).await);
    let id = queue(&fresh, "maria@acme.example", MailKind::Invitation, 0).await;
    assert!(!fresh.read(async |tx| tx.is_mail_due(after(-1)).await.unwrap()).await);
    assert!(fresh.read(async |tx| tx.is_mail_due(now()).await.unwrap()).await);
    assert!(take(&fresh.store, -1, 60).await.is_none(), "not before its time");
    let due = take(&fresh.store, 0, 60).await.unwrap();
    let opened = fresh.store.keys().open(Purpose::Mail, &id.to_string(), &due.message.unwrap()).unwrap();
    assert_eq!(portcullis_domain::secret::ExposeSecret::expose_secret(&opened).as_slice(), b"text");
    assert_eq!((due.id, due.to.as_str(), due.kind), (id, "maria@acme.example", MailKind::Invitation));
    assert_eq!((due.queued_at, due.tries), (now(), 1));
}

async fn a_lease_is_taken_by_one_of_many_and_ends(fresh: Fresh) {
    for n in 0..3 {
        queue(&fresh, &format!("u{n}@acme.example"), MailKind::Invitation, n).await;
    }
    let nodes = [fresh.store.clone(), fresh.another_node().await];
    let mut taken = Vec::new();
    // On PostgreSQL those who wait for the same row may come away empty; they come again.
    for _ in 0..5 {
        let round = at_once(12, |n| {
            let store = nodes[n % 2].clone();
            async move { take(&store, 10, 100).await.map(|due| due.id) }
        });
        taken.extend(round.await.into_iter().flatten());
    }
    let count = taken.len();
    taken.sort_unstable();
    taken.dedup();
    assert_eq!((count, taken.len()), (3, 3), "each to one");
    assert!(take(&fresh.store, 99, 200).await.is_none(), "while the lease lasts");
    assert_eq!(take(&fresh.store, 100, 200).await.unwrap().tries, 2, "whoever had it may have died");
}

async fn what_was_sent_is_sealed_gone_and_stays_sent(fresh: Fresh) {
    let id = queue(&fresh, "maria@acme.example", MailKind::PasswordReset, 0).await;
    take(&fresh.store, 0, 60).await.unwrap();
    fresh.write(async |tx| tx.mail_was_sent(id, after(2)).await.unwrap()).await;
    assert!(take(&fresh.store, 1000, 2000).await.is_none());
    assert!(!fresh.write(async |tx| tx.try_mail_again(id, after(3)).await.unwrap()).await);
    fresh.write(async |tx| tx.mail_failed(id, "late", Some(after(4))).await.unwrap()).await;
    let record = fresh.read(async |tx| tx.mails(None, 9).await.unwrap()).await.pop().unwrap();
    assert_eq!((record.sent_at, record.next_try_at, record.problem.as_str()), (Some(after(2)), None, ""));
    let kept = "SELECT COUNT(*) FROM mails WHERE sealed IS NOT NULL OR sealed_by IS NOT NULL";
    assert_eq!(fresh.raw(kept).await, Some(0), "the link in it is nowhere any more");
}

async fn a_try_that_failed_is_told_and_repeated_until_given_up(fresh: Fresh) {
    let id = queue(&fresh, "maria@acme.example", MailKind::Invitation, 0).await;
    take(&fresh.store, 0, 60).await.unwrap();
    fresh.write(async |tx| tx.mail_failed(id, "refused", Some(after(90))).await.unwrap()).await;
    assert!(take(&fresh.store, 89, 200).await.is_none());
    assert_eq!(take(&fresh.store, 90, 200).await.unwrap().tries, 2);
    fresh.write(async |tx| tx.mail_failed(id, "refused again", None).await.unwrap()).await;
    let record = fresh.read(async |tx| tx.mails(None, 9).await.unwrap()).await.pop().unwrap();
    assert_eq!((record.next_try_at, record.problem.as_str(), record.tries), (None, "refused again", 2));
    assert!(take(&fresh.store, 100_000, 200_000).await.is_none(), "given up");
    assert!(fresh.write(async |tx| tx.try_mail_again(id, after(300)).await.unwrap()).await);
    assert_eq!(take(&fresh.store, 300, 400).await.unwrap().tries, 3);
    assert!(!fresh.write(async |tx| tx.try_mail_again(crate::support::id(), after(1)).await.unwrap()).await);
}

async fn pages_of_the_outbox_lose_and_double_nobody(fresh: Fresh) {
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(queue(&fresh, &format!("u{n}@acme.example"), MailKind::Invitation, n).await);
    }
    ids.sort_unstable();
    ids.reverse();
    let mut tx = fresh.store.read().await.unwrap();
    let (mut seen, mut before) = (Vec::new(), None);
    loop {
        let page = tx.mails(before, 2).await.unwrap();
        let Some(last) = page.last() else { break };
        before = Some(last.id);
        seen.extend(page.iter().map(|m| m.id));
    }
    assert_eq!(seen, ids, "the latest first");
}

async fn mails_to_an_address_are_counted_by_kind_and_time(fresh: Fresh) {
    let first = queue(&fresh, "maria@acme.example", MailKind::PasswordReset, 0).await;
    let second = queue(&fresh, "maria@acme.example", MailKind::PasswordReset, 1).await;
    queue(&fresh, "maria@acme.example", MailKind::Invitation, 1).await;
    queue(&fresh, "ana@acme.example", MailKind::PasswordReset, 1).await;
    let maria = Email::parse("maria@acme.example").unwrap();
    let mut tx = fresh.store.read().await.unwrap();
    let since = first.min(second);
    assert_eq!(tx.mails_to_since(&maria, MailKind::PasswordReset, since).await.unwrap(), 2);
    assert_eq!(tx.mails_to_since(&maria, MailKind::PasswordReset, first.max(second)).await.unwrap(), 1);
    assert_eq!(tx.mails_to_since(&maria, MailKind::NoPassword, Uuid::nil()).await.unwrap(), 0);
}

async fn old_mails_go_unless_they_wait(fresh: Fresh) {
    let sent = queue(&fresh, "a@acme.example", MailKind::Invitation, 0).await;
    queue(&fresh, "b@acme.example", MailKind::Invitation, 0).await;
    fresh.write(async |tx| tx.mail_was_sent(sent, after(1)).await.unwrap()).await;
    assert_eq!(fresh.write(async |tx| tx.drop_old_mails(now(), 9).await.unwrap()).await, 0);
    assert_eq!(fresh.write(async |tx| tx.drop_old_mails(after(1), 9).await.unwrap()).await, 1);
    assert_eq!(fresh.read(async |tx| tx.mails(None, 9).await.unwrap().len()).await, 1, "one waits");
}

async fn h1_on_hold_no_mail_is_taken_and_one_that_was_being_sent_stays_given_up(fresh: Fresh) {
    fresh.store.claim([1; 16], now()).await.unwrap();
    let sending = queue(&fresh, "maria@acme.example", MailKind::Invitation, 0).await;
    take(&fresh.store, 0, 60).await.unwrap();
    fresh.put_on_hold().await;
    fresh.write(async |tx| tx.mail_failed(sending, "refused", Some(after(90))).await.unwrap()).await;
    let given_up = fresh.read(async |tx| tx.mails(None, 9).await.unwrap()).await.pop().unwrap();
    assert_eq!(given_up.next_try_at, None);
    assert!(given_up.problem.contains("put on hold"), "{given_up:?}");

    let queued = queue(&fresh, "ana@acme.example", MailKind::CredentialExpires, 0).await;
    assert!(take(&fresh.store, 100, 200).await.is_none());
    fresh.raw("UPDATE installation SET held_since = NULL, held_why = NULL, held_after = NULL").await;
    assert_eq!(take(&fresh.store, 100, 200).await.map(|due| due.id), Some(queued));
    assert!(take(&fresh.store, 199, 300).await.is_none());
}
