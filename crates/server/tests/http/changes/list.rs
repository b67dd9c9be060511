//! `GET /oauth/status`: how every credential stands, signed, as it is now.

use std::io::Read;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL};
use jiff::SignedDuration;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header, jwk::JwkSet};
use portcullis_domain::{
    accounts::Role,
    audit::{By, Entry, Event, Origin},
};
use portcullis_store::Database;
use reqwest::{Method, Response, StatusCode};
use serde_json::Value;

use super::{claims, manage, owner};
use crate::support::{World, header_of, json, oauth_error, on_both, on_sqlite};

on_sqlite! {
    protocol29_only_the_present_is_served_and_only_to_be_read
    protocol29_a_list_that_is_not_modified_has_not_ended
}

on_both! {
    protocol29_a_token_names_its_place_and_the_list_says_how_it_stands
    protocol29_suspended_and_revoked_are_told_apart_on_every_node
    protocol29_the_list_is_cacheable_and_an_unchanged_one_costs_a_304
    protocol29_places_are_given_once_and_there_is_always_room
    protocol29_credentials_from_before_there_were_places_get_them_in_order
    c11_no_list_is_older_than_its_request_on_any_node
    c11_of_a_failing_store_there_is_no_list
    c11_a_trimmed_log_does_not_lose_a_revocation
    c11_a_log_that_is_shorter_than_before_makes_the_list_anew
}

async fn ask(world: &World, tag: &str) -> Response {
    let request = world.stranger().request(Method::GET, "/oauth/status");
    let request = if tag.is_empty() { request } else { request.header("if-none-match", tag) };
    request.send().await.unwrap()
}

/// The claims of a list, verified with the served keys, and the list.
async fn verified(world: &World, token: &str) -> (Value, Vec<u8>) {
    let served = world.stranger().request(Method::GET, "/.well-known/jwks.json").send().await.unwrap();
    let keys: JwkSet = served.json().await.unwrap();
    let header = decode_header(token).unwrap();
    assert_eq!(header.typ.as_deref(), Some("statuslist+jwt"));
    let key = keys.find(header.kid.as_deref().unwrap()).unwrap();
    let mut validation = Validation::new(Algorithm::ES256);
    validation.validate_exp = false;
    let claims = decode::<Value>(token, &DecodingKey::from_jwk(key).unwrap(), &validation).unwrap().claims;
    let packed = BASE64URL.decode(claims["status_list"]["lst"].as_str().unwrap()).unwrap();
    let mut bytes = Vec::new();
    flate2::read::ZlibDecoder::new(packed.as_slice()).read_to_end(&mut bytes).unwrap();
    (claims, bytes)
}

/// The list as a node serves it now.
async fn list(world: &World) -> Vec<u8> {
    let answer = ask(world, "").await;
    assert_eq!(answer.status(), StatusCode::OK);
    verified(world, &answer.text().await.unwrap()).await.1
}

fn at(list: &[u8], index: u64) -> u8 {
    let index = usize::try_from(index).unwrap();
    list[index / 4] >> (index % 4 * 2) & 3
}

async fn protocol29_a_token_names_its_place_and_the_list_says_how_it_stands(world: World) {
    let maria = owner(&world, "maria@acme.example").await;
    let token = claims(&maria.program.token().await);
    let uri = format!("{}/oauth/status", world.url);
    assert_eq!(token["status"], serde_json::json!({ "status_list": { "idx": maria.index, "uri": uri } }));
    let answer = ask(&world, "").await;
    assert_eq!(header_of(&answer, "content-type"), "application/statuslist+jwt");
    let (claims, bytes) = verified(&world, &answer.text().await.unwrap()).await;
    let now = world.clock.now().as_second();
    assert_eq!(claims["iss"], world.url);
    assert_eq!(claims["sub"], uri);
    assert_eq!((&claims["iat"], &claims["exp"], &claims["ttl"]), (&now.into(), &(now + 600).into(), &1.into()));
    assert_eq!(claims["status_list"]["bits"], 2);
    assert_eq!(claims.as_object().unwrap().len(), 6, "{claims}");
    assert_eq!(at(&bytes, maria.index), 0);
    let metadata = world.stranger().request(Method::GET, "/.well-known/oauth-authorization-server");
    let metadata = json(metadata.send().await.unwrap()).await;
    assert_eq!(metadata["status_list_endpoint"], uri);
    assert_eq!(metadata["revocations_endpoint"], format!("{}/oauth/revocations", world.url));
    // The list itself is no token.
    let signed = ask(&world, "").await.text().await.unwrap();
    assert!(!world.watcher().await.is_active(&signed).await);
    assert_eq!(maria.program.with(&signed, Method::GET, "/api/v1/me").send().await.unwrap().status(), 401);
}

async fn protocol29_suspended_and_revoked_are_told_apart_on_every_node(world: World) {
    let node = world.another_node().await;
    let maria = owner(&world, "maria@acme.example").await;
    let joao = owner(&world, "joao@acme.example").await;
    let ana = owner(&world, "ana@acme.example").await;
    let is = async |values: [u8; 3], why: &str| {
        for place in [&world, &node] {
            let list = list(place).await;
            assert_eq!([&maria, &joao, &ana].map(|o| at(&list, o.index)), values, "{why}");
        }
    };
    is([0, 0, 0], "at first").await;
    manage(&maria.person, &joao, "deactivate").await;
    is([0, 2, 0], "C-10").await;
    manage(&maria.person.at(&node), &joao, "activate").await;
    is([0, 0, 0], "resumed").await;
    manage(&maria.person, &joao, "take-super-admin").await;
    is([0, 2, 0], "C-10").await;
    manage(&maria.person, &joao, "give-super-admin").await;
    is([0, 0, 0], "resumed").await;
    manage(&maria.person, &joao, "deactivate").await;
    manage(&maria.person, &ana, "delete").await;
    is([0, 2, 1], "a deleted owner's is revoked").await;
    manage(&maria.person, &joao, "delete").await;
    is([0, 1, 1], "a suspended one too").await;
    assert_eq!(maria.person.at(&node).revoke().await.status(), StatusCode::OK);
    is([1, 1, 1], "C-7").await;
    let third = world.another_node().await;
    assert_eq!(list(&third).await, list(&world).await, "a node that starts reads the same");
}

async fn protocol29_the_list_is_cacheable_and_an_unchanged_one_costs_a_304(world: World) {
    let node = world.another_node().await;
    let maria = owner(&world, "maria@acme.example").await;
    let first = ask(&world, "").await;
    let tag = header_of(&first, "etag").to_owned();
    assert_eq!(header_of(&first, "cache-control"), "public, no-cache");
    let first = first.text().await.unwrap();
    assert_eq!(ask(&world, "").await.text().await.unwrap(), first, "signed once in a second");
    for place in [&world, &node] {
        let same = ask(place, &tag).await;
        assert_eq!((same.status(), header_of(&same, "etag")), (StatusCode::NOT_MODIFIED, &*tag));
        assert_eq!(same.text().await.unwrap(), "");
    }
    world.pass(SignedDuration::from_secs(1));
    assert_eq!(ask(&world, &tag).await.status(), StatusCode::NOT_MODIFIED, "the tag is of what it says");
    let newer = ask(&world, "").await.text().await.unwrap();
    assert_ne!(newer, first, "and the signature is new");
    let joao = owner(&world, "joao@acme.example").await;
    assert_eq!(
        ask(&world, &tag).await.status(),
        StatusCode::NOT_MODIFIED,
        "a new credential has its place already"
    );
    manage(&maria.person, &joao, "deactivate").await;
    for place in [&world, &node] {
        let changed = ask(place, &tag).await;
        assert_eq!(changed.status(), StatusCode::OK);
        let (_, bytes) = verified(place, &changed.text().await.unwrap()).await;
        assert_eq!(at(&bytes, joao.index), 2, "in the same second");
    }
    manage(&maria.person, &joao, "activate").await;
    assert_eq!(ask(&node, &tag).await.status(), StatusCode::NOT_MODIFIED, "it says again what it said");
}

async fn protocol29_a_list_that_is_not_modified_has_not_ended(world: World) {
    world.maria().await;
    let first = ask(&world, "").await;
    let mut tag = header_of(&first, "etag").to_owned();
    let mut held = claims(&first.text().await.unwrap());
    for _ in 0..40 {
        world.pass(SignedDuration::from_secs(50));
        let answer = ask(&world, &tag).await;
        if answer.status() == StatusCode::OK {
            tag = header_of(&answer, "etag").to_owned();
            held = claims(&answer.text().await.unwrap());
        }
        let left = held["exp"].as_i64().unwrap() - world.clock.now().as_second();
        assert!(left > 250, "who is told that nothing changed can go on with what it has: {left}");
    }
}

async fn protocol29_only_the_present_is_served_and_only_to_be_read(world: World) {
    let then = world.stranger().request(Method::GET, "/oauth/status?time=1686925000").send().await.unwrap();
    oauth_error(then, 501, "invalid_request").await;
    let wrong = world.stranger().request(Method::POST, "/oauth/status").send().await.unwrap();
    assert_eq!(wrong.status(), StatusCode::METHOD_NOT_ALLOWED);
    let head = world.stranger().request(Method::HEAD, "/oauth/status").send().await.unwrap();
    assert_eq!((head.status(), header_of(&head, "content-type")), (StatusCode::OK, "application/statuslist+jwt"));
}

async fn protocol29_places_are_given_once_and_there_is_always_room(world: World) {
    let room = |list: &[u8], index: u64| {
        let after = usize::try_from(index).unwrap() + 1;
        let spare = list.len() * 4 - after;
        assert!(spare >= 1024, "{spare}");
        for place in after..after + 1024 {
            assert_eq!(at(list, place as u64), 0);
        }
    };
    let maria = owner(&world, "maria@acme.example").await;
    room(&list(&world).await, maria.index);
    let mut places = vec![maria.index];
    for _ in 0..3 {
        assert_eq!(maria.person.revoke().await.status(), StatusCode::OK);
        let next = claims(&maria.person.generate().await.token().await);
        places.push(next["status"]["status_list"]["idx"].as_u64().unwrap());
    }
    assert_eq!(places, [1, 2, 3, 4], "place 0 is nobody's");
    let said = list(&world).await;
    assert_eq!(places.iter().map(|p| at(&said, *p)).collect::<Vec<_>>(), [1, 1, 1, 0]);
    // As if there had been very many before.
    world.sql("UPDATE credentials SET status_index = 5000 WHERE status_index = 4").await;
    let joao = owner(&world, "joao@acme.example").await;
    assert_eq!(joao.index, 5001);
    let said = list(&world).await;
    room(&said, joao.index);
    assert_eq!(joao.person.revoke().await.status(), StatusCode::OK);
    assert_eq!(at(&list(&world).await, joao.index), 1);
}

async fn protocol29_credentials_from_before_there_were_places_get_them_in_order(world: World) {
    let joao = owner(&world, "joao@acme.example").await;
    world.pass(SignedDuration::from_secs(1));
    let maria = owner(&world, "maria@acme.example").await;
    assert_eq!(joao.person.revoke().await.status(), StatusCode::OK);
    // As it was before, and what the migration does then.
    let before = "DROP INDEX one_place_per_credential; DROP INDEX issued_tokens_revoked; \
                  ALTER TABLE credentials DROP COLUMN status_index";
    world.sql(before).await;
    world
        .sql(match &world.database {
            Database::Sqlite(_) => include_str!("../../../../store/migrations/sqlite/0005_changes.sql"),
            Database::Postgres(_) => include_str!("../../../../store/migrations/postgres/0005_changes.sql"),
        })
        .await;
    let node = world.another_node().await;
    let said = list(&node).await;
    assert_eq!((at(&said, 1), at(&said, 2)), (1, 0), "the older one first");
    let place = |token: &str| claims(token)["status"]["status_list"]["idx"].as_u64().unwrap();
    assert_eq!(place(&maria.program.at(&node).token().await), 2);
    let next = joao.person.at(&node).generate().await;
    assert_eq!(place(&next.token().await), 3);
}

async fn c11_no_list_is_older_than_its_request_on_any_node(world: World) {
    let node = world.another_node().await;
    let maria = world.maria().await;
    for n in 0..20 {
        let program = maria.generate().await;
        let index = claims(&program.token().await)["status"]["status_list"]["idx"].as_u64().unwrap();
        let (here, there) = if n % 2 == 0 { (&world, &node) } else { (&node, &world) };
        assert_eq!(at(&list(there).await, index), 0);
        assert_eq!(maria.at(here).revoke().await.status(), StatusCode::OK);
        let lists = (0..4).map(|i| list(if i % 2 == 0 { there } else { here }));
        for list in join_all(lists).await {
            assert_eq!(at(&list, index), 1, "C-11: acknowledged, so every list has it");
        }
    }
}

async fn join_all<T>(all: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut out = Vec::new();
    for one in all {
        out.push(one.await);
    }
    out
}

async fn c11_of_a_failing_store_there_is_no_list(world: World) {
    let node = world.another_node().await;
    let maria = owner(&world, "maria@acme.example").await;
    let tag = header_of(&ask(&world, "").await, "etag").to_owned();
    world.sql("ALTER TABLE audit_head RENAME TO out_of_reach").await;
    for tag in ["", &tag] {
        let answer = ask(&world, tag).await;
        assert!(header_of(&answer, "retry-after").parse::<u32>().unwrap() > 0);
        oauth_error(answer, 503, "temporarily_unavailable").await;
    }
    world.sql("ALTER TABLE out_of_reach RENAME TO audit_head").await;
    assert_eq!(ask(&world, &tag).await.status(), StatusCode::NOT_MODIFIED);
    // What has to be read anew is out of reach, and what was served before is no answer.
    assert_eq!(maria.person.revoke().await.status(), StatusCode::OK);
    world.sql("ALTER TABLE audit_records RENAME TO out_of_reach").await;
    oauth_error(ask(&world, "").await, 503, "temporarily_unavailable").await;
    world.sql("ALTER TABLE out_of_reach RENAME TO audit_records").await;
    assert_eq!(at(&list(&world).await, maria.index), 1);
    world.app.store.close().await;
    oauth_error(ask(&world, &tag).await, 503, "temporarily_unavailable").await;
    assert_eq!(at(&list(&node).await, maria.index), 1);
}

/// Drops all records of a log but the last.
pub async fn trim(world: &World) {
    let records = world.records_after(0).await;
    let mut act = world.app.store.act().await.unwrap();
    act.trim_audit(records.len() as u64).await.unwrap();
    let now = world.clock.now();
    let entry = Entry::done(now, By::Server, &Origin::default(), Event::AuditTrimmed, "audit log");
    act.commit(&[entry]).await.unwrap();
}

async fn c11_a_trimmed_log_does_not_lose_a_revocation(world: World) {
    let node = world.another_node().await;
    let maria = owner(&world, "maria@acme.example").await;
    let joao = owner(&world, "joao@acme.example").await;
    assert_eq!(at(&list(&world).await, joao.index), 0, "this node has a list of before");
    assert_eq!(joao.person.revoke().await.status(), StatusCode::OK);
    world.user("paulo@acme.example", Role::User).await;
    trim(&world).await;
    for place in [&world, &node] {
        let said = list(place).await;
        assert_eq!((at(&said, joao.index), at(&said, maria.index)), (1, 0), "read from the credentials");
    }
    world.log_is_whole().await;
}

async fn c11_a_log_that_is_shorter_than_before_makes_the_list_anew(world: World) {
    let maria = world.maria().await;
    maria.generate().await;
    let before = list(&world).await;
    // As in a copy of the database that was left behind: it has fewer records, and other facts.
    world.sql("UPDATE audit_head SET seq = seq - 1").await;
    world.sql("UPDATE users SET mfa_since = 1").await;
    let after = list(&world).await;
    assert_ne!(before, after);
    assert_eq!(after[0] >> 2 & 3, 2, "suspended, as it says now");
}
