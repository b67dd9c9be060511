//! Who may have a token: client authentication, what failures tell and what they cost.

use jiff::SignedDuration;
use portcullis_domain::{
    accounts::{Role, Status},
    credentials::CREDENTIAL_LASTS,
};
use reqwest::{
    Response, StatusCode,
    header::{self, HeaderValue},
};

use super::{GRANT, basic, in_body};
use crate::support::{FORM, Program, World, client_from, header_of, json, oauth_error, on_both, on_sqlite};

on_sqlite! {
    protocol06_two_ways_of_saying_who_asks_are_invalid_request
    protocol07_the_parts_of_basic_are_form_decoded
    protocol08_whatever_is_not_basic_is_401_with_a_basic_challenge
}

on_both! {
    protocol07_basic_alone_and_body_alone_both_work
    protocol09_an_unknown_id_and_a_wrong_secret_are_the_same_bytes
    protocol09_only_the_proven_make_a_node_look_for_a_new_key_set
    protocol09_a_wrong_secret_never_tells_that_a_credential_is_dead
    protocol18_a_stranger_s_failures_never_refuse_the_rightful_client
    c6_with_the_right_secret_an_expired_credential_is_told_why
    c7_with_the_right_secret_a_revoked_credential_is_told_why_for_ever
    c9_c10_with_the_right_secret_a_suspended_credential_is_told_why_and_works_again_after
}

const WRONG: &str = "pcs_0000000000000000000000000000000000000000000_1cLNBa";
const UNKNOWN: &str = "pcc_00000000000000000000";

/// A token request with these Authorization headers, as bytes.
async fn authorized(world: &World, headers: &[&[u8]], body: &str) -> Response {
    let mut request = world.stranger().token(body);
    for value in headers {
        request = request.header(header::AUTHORIZATION, HeaderValue::from_bytes(value).unwrap());
    }
    request.send().await.unwrap()
}

/// Every character as `%XX`.
fn percent(text: &str) -> String {
    text.bytes().map(|b| format!("%{b:02x}")).collect()
}

async fn protocol06_two_ways_of_saying_who_asks_are_invalid_request(world: World) {
    let program = world.maria().await.generate().await;
    let right = basic(&program.client_id, &program.client_secret);
    let right = right.as_bytes();
    for (headers, body) in [
        (&[right][..], format!("{GRANT}&{}", in_body(&program))),
        (&[right], format!("{GRANT}&client_secret={}", program.client_secret)),
        (&[right], format!("{GRANT}&client_secret=x")),
        (&[right], format!("{GRANT}&client_id={UNKNOWN}")),
        (&[b"Bearer x"], format!("{GRANT}&{}", in_body(&program))),
        (&[right, right], GRANT.to_owned()),
        (&[right, b"Bearer x"], GRANT.to_owned()),
    ] {
        oauth_error(authorized(&world, headers, &body).await, 400, "invalid_request").await;
    }
    // The same Client ID again says nothing new.
    let body = format!("{GRANT}&client_id={}", program.client_id);
    assert_eq!(authorized(&world, &[right], &body).await.status(), StatusCode::OK);
}

async fn protocol07_basic_alone_and_body_alone_both_work(world: World) {
    let program = world.maria().await.generate().await;
    let right = basic(&program.client_id, &program.client_secret);
    assert_eq!(authorized(&world, &[right.as_bytes()], GRANT).await.status(), StatusCode::OK);
    let body = format!("{GRANT}&{}", in_body(&program));
    let response = world.stranger().token(&body).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let token = json(response).await["access_token"].as_str().unwrap().to_owned();
    assert!(program.is_active(&token).await);
}

async fn protocol07_the_parts_of_basic_are_form_decoded(world: World) {
    let program = world.maria().await.generate().await;
    let (id, secret) = (&program.client_id, &program.client_secret);
    for good in [
        basic(&percent(id), &percent(secret)),
        basic(id, &percent(secret).to_uppercase().replace("%5F", "_")),
        basic(id, secret).replace("Basic ", "basic "),
        basic(id, secret).replace("Basic ", "BASIC "),
    ] {
        assert_eq!(authorized(&world, &[good.as_bytes()], GRANT).await.status(), StatusCode::OK, "{good}");
    }
    for unknown in [
        basic("a+b", "c+d"),
        basic("a%3Ab", "c%25d"),
        basic("100%", "%zz"),
        basic(id, &format!("{secret}+")),
        basic(id, &format!("{secret}:")),
        basic(id, &format!("{secret}%00")),
        basic(&format!("{id}%20"), secret),
        basic(&format!("{id}+"), secret),
        basic(&id.to_uppercase(), secret),
        basic(id, &secret.to_lowercase()),
        basic("", ""),
        basic(id, ""),
        basic(secret, id),
        basic("%ff%fe", "%00"),
    ] {
        let said =
            oauth_error(authorized(&world, &[unknown.as_bytes()], GRANT).await, 401, "invalid_client").await;
        assert_eq!(said, "The Client ID or the Client Secret is not right.", "{unknown}");
    }
}

async fn protocol08_whatever_is_not_basic_is_401_with_a_basic_challenge(world: World) {
    let program = world.maria().await.generate().await;
    let right = basic(&program.client_id, &program.client_secret);
    let encoded = right.strip_prefix("Basic ").unwrap();
    let token = program.token().await;
    for malformed in [
        "".to_owned(),
        "Basic".to_owned(),
        "Basic ".to_owned(),
        format!("Basic{encoded}"),
        format!("Basic\t{encoded}"),
        format!("Basic: {encoded}"),
        format!("Basic {encoded} x"),
        format!("Basic {encoded}, Basic {encoded}"),
        format!("Basic ={encoded}"),
        format!("Basic {}", &encoded[..encoded.len() - 1]),
        "Basic %%%".to_owned(),
        "Basic bm9jb2xvbg==".to_owned(),
        "Basic //79".to_owned(),
        format!("Basic {}:{}", program.client_id, program.client_secret),
        format!("Bearer {token}"),
        format!("Bearer {encoded}"),
        format!("Digest username=\"{}\"", program.client_id),
        encoded.to_owned(),
        "Negotiate".to_owned(),
        "\u{fffd}".to_owned(),
    ] {
        let response = authorized(&world, &[malformed.as_bytes()], GRANT).await;
        oauth_error(response, 401, "invalid_client").await;
    }
    for body in [GRANT.to_owned(), format!("{GRANT}&client_id={}", program.client_id)] {
        oauth_error(world.stranger().token(&body).send().await.unwrap(), 401, "invalid_client").await;
    }
    let body = format!("{GRANT}&client_id={}&client_secret={WRONG}", program.client_id);
    oauth_error(world.stranger().token(&body).send().await.unwrap(), 401, "invalid_client").await;
}

/// The whole answer to a failed request, byte by byte.
fn answer(world: &World, path: &str, authorization: Option<&str>, body: &str) -> String {
    let line = authorization.map_or_else(String::new, |value| format!("Authorization: {value}\r\n"));
    world.raw(&format!(
        "POST /oauth/{path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{line}Content-Type: {FORM}\r\n\
         Content-Length: {}\r\n\r\n{body}",
        world.address,
        body.len()
    ))
}

async fn protocol09_an_unknown_id_and_a_wrong_secret_are_the_same_bytes(world: World) {
    let program = world.maria().await.generate().await;
    for path in ["token", "introspect", "revoke"] {
        let rest = format!("{GRANT}&token=x");
        let wrong = answer(&world, path, Some(&basic(&program.client_id, WRONG)), &rest);
        assert!(wrong.starts_with("HTTP/1.1 401 ") && wrong.contains("invalid_client"), "{wrong}");
        for (id, secret) in [(UNKNOWN, WRONG), (UNKNOWN, &program.client_secret), ("maria", "x"), ("", "")] {
            assert_eq!(answer(&world, path, Some(&basic(id, secret)), &rest), wrong, "{path} {id}");
        }
        let in_body = |id: &str| format!("{rest}&client_id={id}&client_secret={WRONG}");
        assert_eq!(answer(&world, path, None, &in_body(&program.client_id)), wrong);
        assert_eq!(answer(&world, path, None, &in_body(UNKNOWN)), wrong);
    }
    // And once more when there have been too many.
    let from = |id: &str| {
        for _ in 0..40 {
            answer(&world, "token", Some(&basic(id, WRONG)), GRANT);
        }
        answer(&world, "token", Some(&basic(id, WRONG)), GRANT)
    };
    let (wrong, unknown) = (from(&program.client_id), from(UNKNOWN));
    assert!(wrong.starts_with("HTTP/1.1 429 "), "{wrong}");
    assert_eq!(unknown, wrong);
}

async fn protocol09_only_the_proven_make_a_node_look_for_a_new_key_set(world: World) {
    let program = world.maria().await.generate().await;
    let node = world.another_node().await;
    world.pass(SignedDuration::from_hours(24 * 400));
    world.app.tend_keys().await.unwrap();
    // The node has the key set of before, and the new one cannot be read.
    node.sql("UPDATE signing_keys SET public = NULL, public_by = NULL").await;
    let wrong = answer(&node, "token", Some(&basic(&program.client_id, WRONG)), GRANT);
    assert!(wrong.starts_with("HTTP/1.1 401 "), "{wrong}");
    assert_eq!(answer(&node, "token", Some(&basic(UNKNOWN, WRONG)), GRANT), wrong);
    assert_eq!(program.at(&node).ask().await.status(), StatusCode::INTERNAL_SERVER_ERROR);
}

async fn protocol09_a_wrong_secret_never_tells_that_a_credential_is_dead(world: World) {
    let user = world.user("maria@acme.example", Role::SuperAdmin).await;
    let maria = world.sign_in("maria@acme.example").await;
    let program = maria.generate().await;
    let ask = || answer(&world, "token", Some(&basic(&program.client_id, WRONG)), GRANT);
    let unknown = answer(&world, "token", Some(&basic(UNKNOWN, WRONG)), GRANT);
    assert_eq!(ask(), unknown);
    world.set_standing(user.id, |standing, now| standing.mfa_since = Some(now)).await;
    assert_eq!(ask(), unknown, "suspended");
    assert_eq!(maria.revoke().await.status(), StatusCode::OK);
    assert_eq!(ask(), unknown, "revoked");
    world.pass(CREDENTIAL_LASTS);
    assert_eq!(ask(), unknown, "and long over");
}

async fn protocol18_a_stranger_s_failures_never_refuse_the_rightful_client(world: World) {
    let program = world.maria().await.generate().await;
    let stranger = Program { client_secret: WRONG.to_owned(), ..program.clone() };
    let token = program.token().await;
    for n in 0..20 {
        let endpoint = ["token", "introspect", "revoke"][n % 3];
        let refused = stranger.oauth(endpoint, &[("grant_type", "client_credentials"), ("token", &token)]).await;
        oauth_error(refused, 401, "invalid_client").await;
        assert_eq!(program.ask().await.status(), StatusCode::OK, "after {n} failures");
    }
    for n in 0..50 {
        let refused = stranger.ask().await;
        assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS, "failure {n} beyond the limit");
        assert!(header_of(&refused, "retry-after").parse::<u32>().unwrap() > 0);
        oauth_error(refused, 429, "invalid_client").await;
    }
    assert_eq!(program.ask().await.status(), StatusCode::OK, "from the stranger's own address");
    assert!(program.is_active(&token).await);
    let elsewhere = Program { client: client_from("127.0.0.2"), ..program.clone() };
    assert_eq!(elsewhere.ask().await.status(), StatusCode::OK, "from another address");
    let other_stranger = Program { client: client_from("127.0.0.3"), ..stranger.clone() };
    oauth_error(other_stranger.ask().await, 401, "invalid_client").await;

    world.pass(SignedDuration::from_mins(1));
    oauth_error(stranger.ask().await, 401, "invalid_client").await;
    assert_eq!(program.ask().await.status(), StatusCode::OK);
}

async fn c6_with_the_right_secret_an_expired_credential_is_told_why(world: World) {
    let program = world.maria().await.generate().await;
    world.pass(CREDENTIAL_LASTS - SignedDuration::from_secs(1));
    assert_eq!(program.ask().await.status(), StatusCode::OK, "3650 days less a second");
    world.pass(SignedDuration::from_secs(1));
    let said = oauth_error(program.ask().await, 401, "invalid_client").await;
    assert!(said.contains("expired on 2036-"), "{said}");
}

async fn c7_with_the_right_secret_a_revoked_credential_is_told_why_for_ever(world: World) {
    let maria = world.maria().await;
    let program = maria.generate().await;
    assert_eq!(maria.revoke().await.status(), StatusCode::OK);
    let said = oauth_error(program.ask().await, 401, "invalid_client").await;
    assert!(said.contains("revoked by its owner on 2026-"), "{said}");
    let next = maria.generate().await;
    assert_eq!(oauth_error(program.ask().await, 401, "invalid_client").await, said, "another one changes nothing");
    assert_eq!(next.ask().await.status(), StatusCode::OK);
    world.pass(CREDENTIAL_LASTS);
    assert_eq!(oauth_error(program.ask().await, 401, "invalid_client").await, said);
    for endpoint in ["introspect", "revoke"] {
        assert_eq!(
            oauth_error(program.oauth(endpoint, &[("token", "x")]).await, 401, "invalid_client").await,
            said
        );
    }
}

async fn c9_c10_with_the_right_secret_a_suspended_credential_is_told_why_and_works_again_after(world: World) {
    let user = world.user("maria@acme.example", Role::SuperAdmin).await;
    let maria = world.sign_in("maria@acme.example").await;
    let program = maria.generate().await;
    let token = program.token().await;
    type Change = fn(&mut portcullis_domain::accounts::Standing, jiff::Timestamp);
    let cases: [(Change, Change, &str); 3] = [
        (|s, now| s.mfa_since = Some(now), |s, _| s.mfa_since = None, "multi-factor authentication on"),
        (|s, now| s.status = (Status::Inactive, now), |s, now| s.status = (Status::Active, now), "not active"),
        (|s, now| s.role = (Role::User, now), |s, now| s.role = (Role::SuperAdmin, now), "not a Super Admin"),
    ];
    for (off, on, why) in cases {
        world.set_standing(user.id, off).await;
        for endpoint in ["token", "introspect", "revoke"] {
            let form = [("grant_type", "client_credentials"), ("token", &*token)];
            let said = oauth_error(program.oauth(endpoint, &form).await, 401, "invalid_client").await;
            assert!(said.contains("suspended") && said.contains(why), "{said}");
        }
        let me = program.with(&token, reqwest::Method::GET, "/api/v1/me").send().await.unwrap();
        assert_eq!(me.status(), StatusCode::UNAUTHORIZED, "{why}");
        world.set_standing(user.id, on).await;
        assert!(program.is_active(&token).await, "suspended is not revoked: {why}");
        assert_eq!(program.ask().await.status(), StatusCode::OK);
    }
    world.set_standing(user.id, |s, now| s.status = (Status::Deleted, now)).await;
    let said = oauth_error(program.ask().await, 401, "invalid_client").await;
    assert!(said.contains("revoked on") && said.contains("its owner was deleted"), "{said}");
}
