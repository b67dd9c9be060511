//! Who may follow, where a follower begins, and what it is told.

use jiff::SignedDuration;
use portcullis_domain::audit::{By, Entry, Event, Origin};
use reqwest::{Method, StatusCode, header};
use serde_json::json;

use super::{Told, ask, claims, follow, list::trim, manage, owner};
use crate::{
    apis::{ORDERS, Orders, key_of, registered},
    support::{FORM, Program, World, header_of, oauth_error, on_both, on_sqlite},
};

on_sqlite! {
    only_an_api_with_a_key_follows
}

on_both! {
    who_begins_is_told_of_all_that_is_not_good_and_then_of_what_happens
    who_comes_again_is_told_of_what_happened_meanwhile_and_of_nothing_twice
    a_number_that_cannot_be_resumed_from_resets
    an_api_is_told_of_its_own_tokens_and_of_no_other_s
    a_change_of_the_keys_is_told
    what_has_ended_is_told_to_nobody_who_begins
}

async fn only_an_api_with_a_key_follows(world: World) {
    let program = world.maria().await.generate().await;
    let key = world.watcher().await;
    let mark = world.last_record().await;
    let wrong = Program { client_secret: "pck_wrong".to_owned(), ..key.clone() };
    let unknown = Program { client_id: "pca_00000000000000000000".to_owned(), ..key.clone() };
    for refused in [&wrong, &unknown, &program] {
        let answer = ask(refused, None).await;
        oauth_error(answer, 401, "invalid_client").await;
    }
    let told = world.told_after(mark).await;
    assert_eq!(told, ["token.refuse refused not_proven"; 2], "L-1; a right secret of a program is no attempt");
    let get = |path: &str| world.stranger().request(Method::GET, path);
    oauth_error(get("/oauth/revocations").send().await.unwrap(), 401, "invalid_client").await;
    let token = program.token().await;
    oauth_error(get("/oauth/revocations").bearer_auth(&token).send().await.unwrap(), 401, "invalid_client").await;
    let in_url = format!("/oauth/revocations?client_id={}&client_secret={}", key.client_id, key.client_secret);
    oauth_error(get(&in_url).send().await.unwrap(), 400, "invalid_request").await;
    let posted = world.stranger().request(Method::POST, "/oauth/revocations").header(header::CONTENT_TYPE, FORM);
    let posted = posted.basic_auth(&key.client_id, Some(&key.client_secret)).body("").send().await.unwrap();
    assert_eq!((posted.status(), header_of(&posted, "allow")), (StatusCode::METHOD_NOT_ALLOWED, "GET,HEAD"));
    follow(&key, None).await.until_hello().await;
}

fn credential(owner: &super::Owner, state: &str, at: i64) -> (String, serde_json::Value) {
    let data = json!({ "client_id": owner.program.client_id, "idx": owner.index, "state": state, "at": at });
    ("credential".to_owned(), data)
}

fn plain(told: Told) -> (String, serde_json::Value) {
    (told.name, told.data)
}

async fn who_begins_is_told_of_all_that_is_not_good_and_then_of_what_happens(world: World) {
    let node = world.another_node().await;
    let maria = owner(&world, "maria@acme.example").await;
    let joao = owner(&world, "joao@acme.example").await;
    let ana = owner(&world, "ana@acme.example").await;
    let key = world.watcher().await;
    let token = maria.program.token().await;
    let begun = world.clock.now().as_second();
    manage(&maria.person, &joao, "deactivate").await;
    assert_eq!(ana.person.revoke().await.status(), StatusCode::OK);
    assert_eq!(maria.program.oauth("revoke", &[("token", &token)]).await.status(), StatusCode::OK);
    world.pass(SignedDuration::from_secs(7));
    let now = begun + 7;
    let token = claims(&token);
    let not_good = [
        credential(&joao, "suspended", begun),
        credential(&ana, "revoked", begun),
        ("token".to_owned(), json!({ "jti": token["jti"], "exp": token["exp"], "at": begun })),
    ];
    let mut following = Vec::new();
    for place in [&world, &node] {
        let mut feed = follow(&key.at(place), None).await;
        let (told, id) = feed.until_hello().await;
        assert!(told.iter().all(|t| t.id.is_none()), "what is as it is has no number: {told:?}");
        assert_eq!(told.into_iter().map(plain).collect::<Vec<_>>(), not_good);
        assert_eq!(id, world.last_record().await);
        following.push(feed);
    }
    manage(&maria.person, &joao, "activate").await;
    manage(&maria.person.at(&node), &joao, "take-super-admin").await;
    let second = maria.program.token().await;
    assert_eq!(maria.program.at(&node).oauth("revoke", &[("token", &second)]).await.status(), StatusCode::OK);
    manage(&maria.person, &joao, "delete").await;
    assert_eq!(maria.person.revoke().await.status(), StatusCode::OK);
    let fresh = claims(&second);
    let happened = [
        credential(&joao, "active", now),
        credential(&joao, "suspended", now),
        ("token".to_owned(), json!({ "jti": fresh["jti"], "exp": fresh["exp"], "at": now })),
        credential(&joao, "revoked", now),
        credential(&maria, "revoked", now),
    ];
    for mut feed in following {
        let mut last = 0;
        for expected in &happened {
            let told = feed.next().await.unwrap();
            assert!(told.id.unwrap() > last, "{told:?}");
            last = told.id.unwrap();
            assert_eq!(&plain(told), expected);
        }
        assert_eq!(last, world.last_record().await);
    }
}

async fn who_comes_again_is_told_of_what_happened_meanwhile_and_of_nothing_twice(world: World) {
    let node = world.another_node().await;
    let maria = owner(&world, "maria@acme.example").await;
    let joao = owner(&world, "joao@acme.example").await;
    let key = world.watcher().await;
    let mut feed = follow(&key, None).await;
    let (told, hello) = feed.until_hello().await;
    assert_eq!(told, []);
    manage(&maria.person, &joao, "deactivate").await;
    let last = feed.next().await.unwrap();
    assert_eq!(last.data["state"], "suspended");
    drop(feed);
    manage(&maria.person, &joao, "activate").await;
    manage(&maria.person, &joao, "take-super-admin").await;
    let now = world.clock.now().as_second();
    let states = [credential(&joao, "active", now), credential(&joao, "suspended", now)];
    // On the other node too, and from either of the numbers it has.
    let (told, id) = follow(&key.at(&node), last.id).await.until_hello().await;
    assert_eq!(told.iter().cloned().map(plain).collect::<Vec<_>>(), states);
    assert_eq!(id, world.last_record().await);
    assert!(told.iter().all(|t| t.id.unwrap() > last.id.unwrap()));
    let (all, _) = follow(&key, Some(hello)).await.until_hello().await;
    assert_eq!((all[0].id, &all[1..]), (last.id, &told[..]));
    let (nothing, again) = follow(&key, Some(id)).await.until_hello().await;
    assert_eq!((nothing, again), (Vec::new(), id));
}

async fn a_number_that_cannot_be_resumed_from_resets(world: World) {
    let maria = owner(&world, "maria@acme.example").await;
    let joao = owner(&world, "joao@acme.example").await;
    let key = world.watcher().await;
    manage(&maria.person, &joao, "deactivate").await;
    let now = world.clock.now().as_second();
    let (_, good) = follow(&key, None).await.until_hello().await;
    let resets = async |id: &str| {
        let mut feed = super::Following::of(ask(&key, Some(id)).await);
        let (told, hello) = feed.until_hello().await;
        let told: Vec<_> = told.into_iter().map(plain).collect();
        assert_eq!(told, [("reset".to_owned(), json!({})), credential(&joao, "suspended", now)], "{id:?}");
        assert_eq!(hello, world.last_record().await);
    };
    for id in ["x", "-1", "1e3", "", " ", "99999999", "9223372036854775808", "3, 4"] {
        resets(id).await;
    }
    trim(&world).await;
    let mark = world.last_record().await;
    resets("1").await;
    resets(&(good - 1).to_string()).await;
    let (told, hello) = follow(&key, Some(good)).await.until_hello().await;
    assert_eq!((told, hello), (Vec::new(), mark), "nothing after it was dropped");
}

async fn an_api_is_told_of_its_own_tokens_and_of_no_other_s(world: World) {
    let maria = owner(&world, "maria@acme.example").await;
    let orders = registered(&maria.person, &Orders::default()).await;
    let (orders, own) = (key_of(&maria.person, &orders, "").await, world.watcher().await);
    let token = async |resource: &str| {
        let form = [("grant_type", "client_credentials"), ("resource", resource)];
        let answer = maria.program.oauth("token", &form).await;
        crate::support::json(answer).await["access_token"].as_str().unwrap().to_owned()
    };
    let own_uri = format!("{}/api/v1", world.url);
    let mut live = [follow(&orders, None).await, follow(&own, None).await];
    let mut from = Vec::new();
    for feed in &mut live {
        from.push(feed.until_hello().await.1);
    }
    let tokens = [token(ORDERS).await, token(&own_uri).await];
    for token in &tokens {
        assert_eq!(maria.program.oauth("revoke", &[("token", token)]).await.status(), StatusCode::OK);
    }
    // The last thing all are told of.
    assert_eq!(maria.person.revoke().await.status(), StatusCode::OK);
    for (n, key) in [&orders, &own].into_iter().enumerate() {
        let jti = claims(&tokens[n])["jti"].clone();
        let is_right = |told: &[Told], how: &str| {
            let tokens: Vec<_> = told.iter().filter(|t| t.name == "token").map(|t| &t.data["jti"]).collect();
            assert_eq!(tokens, [&jti], "{how}");
            assert!(told.iter().any(|t| t.data["state"] == "revoked"), "{how}: all hear of credentials");
        };
        let mut told = vec![live[n].next().await.unwrap()];
        told.push(live[n].next().await.unwrap());
        is_right(&told, "live");
        is_right(&follow(key, Some(from[n])).await.until_hello().await.0, "resumed");
        is_right(&follow(key, None).await.until_hello().await.0, "from the beginning");
    }
}

async fn a_change_of_the_keys_is_told(world: World) {
    let node = world.another_node().await;
    let key = world.watcher().await;
    let mut feed = follow(&key.at(&node), None).await;
    feed.until_hello().await;
    let now = world.clock.now();
    let entry = Entry::done(now, By::Server, &Origin::default(), Event::KeyCreated, "a new key");
    world.app.store.act().await.unwrap().commit(&[entry]).await.unwrap();
    let told = feed.next().await.unwrap();
    assert_eq!((told.name.as_str(), told.data), ("keys", json!({ "at": now.as_second() })));
    assert_eq!(told.id, Some(world.last_record().await));
}

async fn what_has_ended_is_told_to_nobody_who_begins(world: World) {
    let maria = owner(&world, "maria@acme.example").await;
    let key = world.watcher().await;
    let token = maria.program.token().await;
    assert_eq!(maria.program.oauth("revoke", &[("token", &token)]).await.status(), StatusCode::OK);
    let begun = follow(&key, None).await.until_hello().await.0;
    assert_eq!(begun.len(), 1, "{begun:?}");
    world.pass(SignedDuration::from_hours(24));
    assert_eq!(follow(&key, None).await.until_hello().await.0, [], "the token has ended");
    let maria = world.sign_in("maria@acme.example").await;
    assert_eq!(maria.revoke().await.status(), StatusCode::OK);
    world.pass(SignedDuration::from_hours(24 * 30));
    assert_eq!(follow(&key, None).await.until_hello().await.0.len(), 1, "a token of 30 days may be left");
    world.pass(SignedDuration::from_hours(24 * 31));
    assert_eq!(follow(&key, None).await.until_hello().await.0, []);
}
