//! Issued tokens: on record all or none (L-4), dead with their credential on every node (I1).

use portcullis_domain::{
    accounts::Standing,
    audit::Event,
    credentials::{Credential, RevocationReason, Standing as CredentialStanding},
    tokens::{Audience, IssuedToken, TokenTerms},
};
use portcullis_store::{Dropped, NewToken, Store, StoreError, TokenUse};
use uuid::Uuid;

use crate::support::{Fresh, after, at_once, id, on_both, own_api, record, token};

on_both! {
    c11_a_revocation_waits_for_the_tokens_under_way_on_any_node
    c11_no_token_is_issued_on_any_node_while_a_revocation_is_under_way
    l4_tokens_are_on_record_whole_whether_none_one_or_many
    l4_of_a_batch_that_is_refused_none_is_on_record
    a_token_is_revoked_once_and_only_by_its_own_credential
    of_many_parallel_revocations_of_a_token_exactly_one_is_the_first
    c13_the_use_of_a_credential_counts_its_open_tokens
    pages_of_tokens_of_one_instant_lose_and_double_nothing
    c13_old_records_go_but_never_the_last_one_of_a_credential
    i1_what_one_node_has_committed_the_other_sees_at_once
}

fn terms(token: &NewToken) -> TokenTerms {
    TokenTerms {
        jti: token.jti,
        credential: token.credential,
        audience: Audience { api: token.api, identifier: own_api().settings.identifier, is_registered: true },
        expires_at: token.expires_at,
        revoked_at: None,
    }
}

fn on_record(token: &NewToken) -> IssuedToken {
    IssuedToken {
        terms: terms(token),
        issued_at: token.issued_at,
        ip: token.ip.clone(),
        user_agent: token.user_agent.clone(),
        method: token.method,
    }
}

async fn add(fresh: &Fresh, tokens: &[NewToken]) {
    fresh.write(async |tx| tx.record_tokens(tokens).await.unwrap()).await;
}

async fn there(fresh: &Fresh, jti: Uuid) -> bool {
    fresh.read(async |tx| tx.token_on_record(jti).await.unwrap()).await.is_some()
}

async fn a_credential(fresh: &Fresh) -> Uuid {
    let owner = fresh.super_admin(&format!("{}@acme.example", id())).await.id;
    fresh.credential(owner).await.id
}

async fn l4_tokens_are_on_record_whole_whether_none_one_or_many(fresh: Fresh) {
    let credential = a_credential(&fresh).await;
    for many in [0, 1, 64] {
        let tokens: Vec<NewToken> = (0..many).map(|n| token(credential, n)).collect();
        add(&fresh, &tokens).await;
        for token in &tokens {
            let read = fresh.read(async |tx| tx.token_on_record(token.jti).await.unwrap()).await.unwrap();
            assert_eq!(read, terms(token));
        }
        let used = fresh.read(async |tx| tx.recent_tokens(credential, None, 100).await.unwrap()).await;
        for token in tokens.iter().map(on_record) {
            assert!(used.contains(&token), "{token:?}");
        }
    }
    assert_eq!(fresh.raw("SELECT COUNT(*) FROM issued_tokens").await, Some(65));
}

async fn l4_of_a_batch_that_is_refused_none_is_on_record(fresh: Fresh) {
    let credential = a_credential(&fresh).await;
    let good = token(credential, 0);
    for bad in [good.clone(), token(id(), 0)] {
        let mut tx = fresh.store.write().await.unwrap();
        assert!(tx.record_tokens(&[good.clone(), bad]).await.is_err());
        drop(tx);
        assert!(!there(&fresh, good.jti).await);
    }
    add(&fresh, std::slice::from_ref(&good)).await;
    let mut tx = fresh.store.write().await.unwrap();
    let again = tx.record_tokens(&[good]).await;
    assert!(matches!(again, Err(StoreError::Conflict(_))), "{again:?}");
}

async fn a_token_is_revoked_once_and_only_by_its_own_credential(fresh: Fresh) {
    let (own, other) = (a_credential(&fresh).await, a_credential(&fresh).await);
    let tokens = [token(own, 0), token(own, 0)];
    add(&fresh, &tokens).await;
    let jti = tokens[0].jti;
    for (asked, by, at, done) in [
        (jti, other, 1, false),
        (id(), own, 1, false),
        (jti, own, 2, true),
        (jti, own, 3, false),
        (jti, other, 4, false),
    ] {
        let outcome = fresh.act(async |act| act.revoke_token(asked, by, after(at)).await.unwrap()).await;
        assert_eq!(outcome, done);
    }
    let read = |jti| fresh.read(async move |tx| tx.token_on_record(jti).await.unwrap().unwrap().revoked_at);
    assert_eq!(read(jti).await, Some(after(2)), "the first one stands");
    assert_eq!(read(tokens[1].jti).await, None);
}

async fn of_many_parallel_revocations_of_a_token_exactly_one_is_the_first(fresh: Fresh) {
    async fn revoke(store: Store, jti: Uuid, credential: Uuid, at: i64) -> Result<bool, StoreError> {
        let mut tx = store.write().await?;
        let done = tx.revoke_token(jti, credential, after(at)).await?;
        tx.commit().await.map(|()| done)
    }
    let credential = a_credential(&fresh).await;
    let token = token(credential, 0);
    add(&fresh, std::slice::from_ref(&token)).await;
    let nodes = [fresh.store.clone(), fresh.another_node().await];
    let outcomes =
        at_once(10, |n| revoke(nodes[n % 2].clone(), token.jti, credential, i64::try_from(n).unwrap())).await;
    assert_eq!(outcomes.iter().filter(|o| *o.as_ref().unwrap()).count(), 1, "{outcomes:?}");
}

async fn c13_the_use_of_a_credential_counts_its_open_tokens(fresh: Fresh) {
    let (own, other) = (a_credential(&fresh).await, a_credential(&fresh).await);
    let used = async |at| fresh.read(async |tx| tx.token_use(own, after(at)).await.unwrap()).await;
    assert_eq!(used(0).await, TokenUse { last: None, open: 0, more: false, open_until: None });

    let tokens = [token(own, 0), token(own, 10), token(own, 20), token(other, 99)];
    add(&fresh, &tokens).await;
    let last = Some(on_record(&tokens[2]));
    let use_of = |open, until: Option<i64>| TokenUse {
        last: last.clone(),
        open,
        more: false,
        open_until: until.map(after),
    };
    assert_eq!(used(30).await, use_of(3, Some(3620)));
    assert_eq!(used(3599).await, use_of(3, Some(3620)));
    assert_eq!(used(3600).await, use_of(2, Some(3620)), "at its end a token is over");
    assert_eq!(used(3620).await, use_of(0, None));

    fresh.write(async |tx| tx.revoke_token(tokens[2].jti, own, after(40)).await.unwrap()).await;
    let revoked = TokenTerms { revoked_at: Some(after(40)), ..terms(&tokens[2]) };
    let last = Some(IssuedToken { terms: revoked, ..on_record(&tokens[2]) });
    assert_eq!(used(50).await, TokenUse { last, open: 2, more: false, open_until: Some(after(3610)) });
}

async fn pages_of_tokens_of_one_instant_lose_and_double_nothing(fresh: Fresh) {
    let (own, other) = (a_credential(&fresh).await, a_credential(&fresh).await);
    let mut tokens: Vec<NewToken> = [5, 0, 5, 5, 9, 5, 0, 5].into_iter().map(|at| token(own, at)).collect();
    add(&fresh, &tokens).await;
    add(&fresh, &[token(other, 5)]).await;
    tokens.sort_by_key(|t| std::cmp::Reverse((t.issued_at, t.jti)));
    let expected: Vec<IssuedToken> = tokens.iter().map(on_record).collect();

    let mut tx = fresh.store.read().await.unwrap();
    for limit in [1, 2, 3, 8, 9] {
        let (mut seen, mut before) = (Vec::new(), None);
        loop {
            let page = tx.recent_tokens(own, before, limit).await.unwrap();
            assert!(page.len() <= limit as usize);
            let Some(last) = page.last() else { break };
            before = Some((last.issued_at, last.terms.jti));
            seen.extend(page);
        }
        assert_eq!(seen, expected, "the latest first, {limit} a page");
    }
}

async fn c13_old_records_go_but_never_the_last_one_of_a_credential(fresh: Fresh) {
    let (busy, quiet, open) = (a_credential(&fresh).await, a_credential(&fresh).await, a_credential(&fresh).await);
    let tokens = [
        token(busy, 0),
        token(busy, 1),
        token(busy, 2),
        token(quiet, 0),
        token(open, 0),
        NewToken { expires_at: after(90_000), ..token(open, 1) },
        token(open, 2),
    ];
    add(&fresh, &tokens).await;
    let left = async || {
        let mut left = Vec::new();
        for (n, token) in tokens.iter().enumerate() {
            if there(&fresh, token.jti).await {
                left.push(n);
            }
        }
        left
    };
    let walk = async |at, ended_before, oldest_kept, limit| {
        fresh.store.drop_ended_tokens(at, after(ended_before), oldest_kept, limit).await.unwrap()
    };
    let purge =
        async |ended_before, oldest_kept, limit| walk(Uuid::nil(), ended_before, oldest_kept, limit).await.count;
    assert_eq!(purge(3600, Uuid::max(), 99).await, 0, "none has ended before");
    assert_eq!(purge(9999, tokens[0].jti, 99).await, 0, "all are of the time that is kept");
    let first = walk(Uuid::nil(), 9999, Uuid::max(), 2).await;
    assert_eq!(first, Dropped { count: 2, last: Some(tokens[1].jti) }, "no more than it may");
    assert_eq!(left().await, [2, 3, 4, 5, 6]);
    // Those that stay are passed over: the next step begins behind them.
    let second = walk(tokens[1].jti, 9999, Uuid::max(), 2).await;
    assert_eq!(second, Dropped { count: 0, last: Some(tokens[3].jti) });
    let third = walk(tokens[3].jti, 9999, Uuid::max(), 99).await;
    assert_eq!(third, Dropped { count: 1, last: None });
    assert_eq!(left().await, [2, 3, 5, 6], "the last of each, and what has not ended");
    assert_eq!(purge(9999, Uuid::max(), 99).await, 0);
}

/// Revocations and suspensions commit on one node and the other looks at once, in both directions.
async fn i1_what_one_node_has_committed_the_other_sees_at_once(fresh: Fresh) {
    let nodes = [fresh.store.clone(), fresh.another_node().await];
    for round in 0..10 {
        let (here, there) = (&nodes[round % 2], &nodes[(round + 1) % 2]);
        let owner = fresh.super_admin(&format!("u{round}@acme.example")).await;
        let held = fresh.credential(owner.id).await;
        let token = token(held.id, 0);
        add(&fresh, std::slice::from_ref(&token)).await;
        // A connection that has looked before must not remember.
        let mut looking = there.read().await.unwrap();
        assert!(looking.token_on_record(token.jti).await.unwrap().unwrap().revoked_at.is_none());
        assert_eq!(standing(&mut looking, &held).await, CredentialStanding::Active);

        let suspended = Standing { mfa_since: Some(after(1)), ..owner.standing.clone() };
        let mut act = here.act().await.unwrap();
        act.set_standing(owner.id, &suspended).await.unwrap();
        assert_eq!(standing(&mut looking, &held).await, CredentialStanding::Active, "not committed yet");
        act.commit(&[record(Event::ProfileChanged, "mfa")]).await.unwrap();
        assert!(matches!(standing(&mut looking, &held).await, CredentialStanding::Suspended(..)));

        let mut act = here.act().await.unwrap();
        assert!(act.revoke_token(token.jti, held.id, after(2)).await.unwrap());
        act.commit(&[record(Event::TokenRevoked, "x")]).await.unwrap();
        assert_eq!(looking.token_on_record(token.jti).await.unwrap().unwrap().revoked_at, Some(after(2)));

        let mut act = here.act().await.unwrap();
        assert!(act.revoke_credential(held.id, RevocationReason::ByOwner, after(2)).await.unwrap());
        act.commit(&[record(Event::CredentialRevoked, held.client_id.as_str())]).await.unwrap();
        let revoked = CredentialStanding::Revoked(after(2), RevocationReason::ByOwner);
        assert_eq!(standing(&mut looking, &held).await, revoked);
        assert!(looking.held_credential(owner.id).await.unwrap().is_none());
    }
}

async fn standing(tx: &mut portcullis_store::Tx, held: &Credential) -> CredentialStanding {
    let client = tx.presented_clients(&[held.client_id.as_str()]).await.unwrap().pop().unwrap();
    client.credential.standing(&client.owner, after(3))
}

/// Long enough for a task that is not held up to be done.
async fn a_moment() {
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
}

async fn c11_a_revocation_waits_for_the_tokens_under_way_on_any_node(fresh: Fresh) {
    let owner = fresh.super_admin("maria@acme.example").await.id;
    let held = fresh.credential(owner).await;
    let other = fresh.another_node().await;
    let mut issuing = fresh.store.issue().await.unwrap();
    assert_eq!(issuing.presented_clients(&[held.client_id.as_str()]).await.unwrap().len(), 1);
    let revoking = tokio::spawn(async move {
        let mut act = other.act().await.unwrap();
        assert!(act.revoke_credential(held.id, RevocationReason::ByOwner, after(1)).await.unwrap());
        act.commit(&[record(Event::CredentialRevoked, "x")]).await.unwrap();
    });
    a_moment().await;
    assert!(!revoking.is_finished(), "it is not acknowledged while a token is being issued");
    issuing.record_tokens(&[token(held.id, 0)]).await.unwrap();
    issuing.commit().await.unwrap();
    revoking.await.unwrap();
}

async fn c11_no_token_is_issued_on_any_node_while_a_revocation_is_under_way(fresh: Fresh) {
    let owner = fresh.super_admin("maria@acme.example").await.id;
    let held = fresh.credential(owner).await;
    let other = fresh.another_node().await;
    let mut act = fresh.store.act().await.unwrap();
    assert!(act.revoke_credential(held.id, RevocationReason::ByOwner, after(1)).await.unwrap());
    let issuing = tokio::spawn(async move {
        let mut tx = other.issue().await.unwrap();
        let client = tx.presented_clients(&[held.client_id.as_str()]).await.unwrap().pop().unwrap();
        client.credential.revoked.is_some()
    });
    a_moment().await;
    assert!(!issuing.is_finished(), "it waits for the revocation");
    act.commit(&[record(Event::CredentialRevoked, "x")]).await.unwrap();
    assert!(issuing.await.unwrap(), "and then sees it");
}

/// PostgreSQL alone: it chooses between indexes by what it reckons they hold, and counts what it read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_are_looked_up_on_postgres_without_reading_the_others_of_their_credential() {
    let fresh = Fresh::postgres().await;
    // It reckons with one token for each credential, and one of them then has many.
    let mut credential = a_credential(&fresh).await;
    for n in 0..100 {
        add(&fresh, &[token(credential, n)]).await;
        credential = a_credential(&fresh).await;
    }
    fresh.raw("ANALYZE").await;
    // It is not to count anew in the middle: of so few rows it might read all.
    fresh.raw("ALTER TABLE issued_tokens SET (autovacuum_enabled = off)").await;
    let tokens: Vec<NewToken> = (0..20_000).map(|n| token(credential, n)).collect();
    add(&fresh, &tokens).await;
    // So few of them that reading all would clearly cost more.
    let asked: Vec<Uuid> = tokens.iter().step_by(500).map(|t| t.jti).collect();
    let node = fresh.another_node().await;
    assert_eq!(node.read().await.unwrap().tokens_on_record(&asked).await.unwrap().len(), asked.len());
    // Its counts are on record when its connection has ended.
    node.close().await;
    let mut tries = 100;
    while fresh
        .raw("SELECT idx_tup_read FROM pg_stat_user_indexes WHERE indexrelname = 'issued_tokens_pkey'")
        .await
        < i64::try_from(asked.len()).ok()
    {
        tries -= 1;
        assert!(tries > 0, "PostgreSQL does not say what was read");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let others = "SELECT (SELECT SUM(idx_tup_read) FROM pg_stat_user_indexes WHERE relname = 'issued_tokens' \
                  AND indexrelname <> 'issued_tokens_pkey')::BIGINT \
                  + (SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'issued_tokens')";
    assert_eq!(fresh.raw(others).await, Some(0));
}
