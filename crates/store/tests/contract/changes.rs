//! What changed, as it is read from the log, and the places in the status list.

use jiff::{SignedDuration, Timestamp};
use portcullis_domain::{
    accounts::Role,
    audit::Event,
    changes::{Change, Changed, TokenStatus},
    credentials::{Credential, RevocationReason},
};
use portcullis_store::{ChangesPage, LogEnds};
use uuid::Uuid;

use crate::support::{Fresh, after, credential, id, now, on_both, record, token};

on_both! {
    changes_are_told_in_the_order_of_their_commits_and_refusals_are_none
    pages_of_changes_lose_and_double_nothing
    what_was_dropped_or_is_not_there_yet_cannot_be_told
    c11_what_one_node_has_committed_the_other_reads_at_once
    protocol29_places_are_given_in_order_and_never_again
    revoked_tokens_are_found_by_their_api_until_they_end
    credentials_are_read_in_order_with_their_owners_and_nobody_s_is_not
}

async fn changes(fresh: &Fresh, seq: i64, limit: u32) -> Option<ChangesPage> {
    fresh.read(async |tx| tx.changes_after(0, seq, limit).await.unwrap()).await
}

async fn ends(fresh: &Fresh) -> LogEnds {
    fresh.read(async |tx| tx.log_ends().await.unwrap()).await
}

async fn tell(fresh: &Fresh, event: Event, subject: &str) -> i64 {
    fresh.store.act().await.unwrap().commit(&[record(event, subject)]).await.unwrap();
    ends(fresh).await.head
}

fn of(credential: &Credential, index: u32, status: TokenStatus) -> Changed {
    Changed::Credential { client_id: credential.client_id.clone(), index, status }
}

async fn changes_are_told_in_the_order_of_their_commits_and_refusals_are_none(fresh: Fresh) {
    let owner = fresh.super_admin("maria@acme.example").await.id;
    let mark = ends(&fresh).await.head;
    let held = fresh.credential(owner).await;
    let client_id = held.client_id.as_str();
    let token = token(held.id, 0);
    fresh.write(async |tx| tx.record_tokens(std::slice::from_ref(&token)).await.unwrap()).await;
    let refused = record(Event::CredentialRevoked, client_id).refused("not_owner");
    fresh.store.act().await.unwrap().commit(&[refused]).await.unwrap();
    tell(&fresh, Event::CredentialSuspended, client_id).await;
    tell(&fresh, Event::SignedIn, "somebody").await;
    tell(&fresh, Event::CredentialResumed, client_id).await;
    tell(&fresh, Event::TokenRevoked, &token.jti.to_string()).await;
    tell(&fresh, Event::TokenRevoked, &id().to_string()).await;
    tell(&fresh, Event::KeyCreated, "a key").await;
    tell(&fresh, Event::ApiKeyMade, "https://orders.acme.example").await;
    let head = tell(&fresh, Event::CredentialRevoked, client_id).await;
    let page = changes(&fresh, mark, 100).await.unwrap();
    assert_eq!((page.until, page.is_last), (head, true));
    let told = |seq, what| Change { seq: mark + seq, at: now(), what };
    let revoked = Changed::Token { jti: token.jti, api: token.api, ends_at: token.expires_at };
    let expected = [
        told(1, of(&held, 1, TokenStatus::Valid)),
        told(3, of(&held, 1, TokenStatus::Suspended)),
        told(5, of(&held, 1, TokenStatus::Valid)),
        told(6, revoked),
        // The token of record 7 is not on record any more: it has ended.
        told(8, Changed::Keys),
        told(10, of(&held, 1, TokenStatus::Invalid)),
    ];
    assert_eq!(page.changes, expected);
    let nothing = ChangesPage { changes: Vec::new(), until: head, is_last: true };
    assert_eq!(changes(&fresh, head, 100).await, Some(nothing));
}

async fn pages_of_changes_lose_and_double_nothing(fresh: Fresh) {
    let owner = fresh.super_admin("maria@acme.example").await.id;
    let held = fresh.credential(owner).await;
    for n in 0..25 {
        tell(&fresh, Event::SignedIn, "somebody").await;
        let event = if n % 2 == 0 { Event::CredentialSuspended } else { Event::CredentialResumed };
        tell(&fresh, event, held.client_id.as_str()).await;
    }
    let all = changes(&fresh, 0, 100).await.unwrap().changes;
    assert_eq!(all.len(), 26);
    for limit in [1, 7, 26, 27] {
        let (mut seq, mut told) = (0, Vec::new());
        loop {
            let page = changes(&fresh, seq, limit).await.unwrap();
            assert!(page.changes.len() <= limit as usize && page.until >= seq);
            told.extend(page.changes);
            seq = page.until;
            if page.is_last {
                break;
            }
        }
        assert_eq!((told, seq), (all.clone(), ends(&fresh).await.head), "{limit}");
    }
}

async fn what_was_dropped_or_is_not_there_yet_cannot_be_told(fresh: Fresh) {
    let owner = fresh.super_admin("maria@acme.example").await.id;
    fresh.credential(owner).await;
    let head = ends(&fresh).await.head;
    assert!(changes(&fresh, 0, 10).await.is_some());
    for seq in [-1, i64::MIN, head + 1, i64::MAX] {
        assert_eq!(changes(&fresh, seq, 10).await, None, "{seq}");
    }
    let mut act = fresh.store.act().await.unwrap();
    act.trim_audit(u64::try_from(head).unwrap()).await.unwrap();
    act.commit(&[record(Event::AuditTrimmed, "audit log")]).await.unwrap();
    assert_eq!(ends(&fresh).await, LogEnds { line: 0, trimmed: head, head: head + 1 });
    assert_eq!(changes(&fresh, head - 1, 10).await, None, "a record after it was dropped");
    assert_eq!(changes(&fresh, head, 10).await.unwrap().changes, []);
}

async fn c11_what_one_node_has_committed_the_other_reads_at_once(fresh: Fresh) {
    let other = fresh.another_node().await;
    let owner = fresh.super_admin("maria@acme.example").await.id;
    let held = fresh.credential(owner).await;
    for _ in 0..50 {
        let seq = tell(&fresh, Event::CredentialSuspended, held.client_id.as_str()).await;
        let page = other.read().await.unwrap().changes_after(0, seq - 1, 10).await.unwrap().unwrap();
        assert_eq!(page.changes.iter().map(|c| c.seq).collect::<Vec<_>>(), [seq]);
    }
}

async fn index(fresh: &Fresh, credential: &Credential) -> u32 {
    let asked = [credential.client_id.as_str()];
    let found = fresh.read(async |tx| tx.presented_clients(&asked).await.unwrap()).await;
    found[0].status_index
}

async fn protocol29_places_are_given_in_order_and_never_again(fresh: Fresh) {
    let owner = fresh.super_admin("maria@acme.example").await.id;
    for expected in 1..5 {
        let held = fresh.credential(owner).await;
        assert_eq!(index(&fresh, &held).await, expected);
        let mut act = fresh.store.act().await.unwrap();
        act.revoke_credential(held.id, RevocationReason::ByOwner, now()).await.unwrap();
        act.commit(&[record(Event::CredentialRevoked, held.client_id.as_str())]).await.unwrap();
    }
    let made = credential(owner);
    fresh.act(async |act| act.add_credential(&made).await.unwrap()).await;
    assert_eq!(index(&fresh, &made).await, 5);
    let taken = fresh.raw("SELECT COUNT(*) FROM credentials WHERE status_index = 0").await;
    assert_eq!(taken, Some(1), "place 0 is nobody's, so what gives no place is refused");
}

async fn revoked_tokens_are_found_by_their_api_until_they_end(fresh: Fresh) {
    let owner = fresh.super_admin("maria@acme.example").await.id;
    let held = fresh.credential(owner).await;
    let orders = Uuid::from_u128(7);
    let mut tokens: Vec<_> = (0..5).map(|n| token(held.id, n)).collect();
    tokens[4].api = orders;
    let (api, revoked_at) = (tokens[0].api, after(9));
    fresh.write(async |tx| tx.record_tokens(&tokens).await.unwrap()).await;
    fresh
        .act(async |act| {
            for token in &tokens[1..] {
                assert!(act.revoke_token(token.jti, held.id, revoked_at).await.unwrap());
            }
        })
        .await;
    let found = async |api: Uuid, at: Timestamp, beyond: Uuid, limit: u32| {
        let found = fresh.read(async |tx| tx.revoked_tokens(api, at, beyond, limit).await.unwrap()).await;
        assert!(found.iter().all(|t| t.revoked_at == revoked_at));
        found.into_iter().map(|t| (t.jti, t.ends_at)).collect::<Vec<_>>()
    };
    let of =
        |range: std::ops::Range<usize>| tokens[range].iter().map(|t| (t.jti, t.expires_at)).collect::<Vec<_>>();
    assert_eq!(found(api, now(), Uuid::nil(), 10).await, of(1..4));
    assert_eq!(found(orders, now(), Uuid::nil(), 10).await, of(4..5));
    assert_eq!(found(api, now(), Uuid::nil(), 2).await, of(1..3));
    assert_eq!(found(api, now(), tokens[2].jti, 2).await, of(3..4));
    assert_eq!(found(api, tokens[2].expires_at, Uuid::nil(), 10).await, of(3..4), "these have ended");
}

async fn credentials_are_read_in_order_with_their_owners_and_nobody_s_is_not(fresh: Fresh) {
    let read = async |place, since, limit| {
        let all = fresh.read(async |tx| tx.credentials_after(place, since, limit).await.unwrap()).await;
        assert!(all.iter().all(|c| c.owner.role.0 == Role::SuperAdmin));
        all.into_iter().map(|c| (c.status_index, c.credential.client_id)).collect::<Vec<_>>()
    };
    let ever = Timestamp::UNIX_EPOCH;
    assert_eq!(read(0, ever, 10).await, []);
    let mut held = Vec::new();
    for (email, place) in [("maria@acme.example", 1), ("joao@acme.example", 2), ("ana@acme.example", 3)] {
        let owner = fresh.super_admin(email).await.id;
        held.push((place, fresh.credential(owner).await));
    }
    let of = |places: std::ops::Range<usize>| {
        held[places].iter().map(|(place, c)| (*place, c.client_id.clone())).collect::<Vec<_>>()
    };
    assert_eq!(read(0, ever, 10).await, of(0..3));
    assert_eq!(read(0, ever, 2).await, of(0..2));
    assert_eq!(read(2, ever, 2).await, of(2..3));
    let first = &held[0].1;
    let at = now();
    let mut tx = fresh.store.write().await.unwrap();
    assert!(tx.revoke_credential(first.id, RevocationReason::ByOwner, at).await.unwrap());
    tx.commit().await.unwrap();
    assert_eq!(read(0, at, 10).await, of(0..3), "revoked at that instant");
    assert_eq!(read(0, at + SignedDuration::from_secs(1), 10).await, of(1..3), "revoked before");
    assert_eq!(read(0, first.expires_at + SignedDuration::from_secs(1), 10).await, [], "they have ended");
}
