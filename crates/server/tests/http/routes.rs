//! The list of routes, walked: what holds for every one of them. A new route is in these tests
//! without a line here, except that its act must be put in [`perform`].

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use portcullis::{
    access::Access,
    routes::{Door, Route, all},
};
use portcullis_domain::accounts::{Role, Status};
use reqwest::{Method, RequestBuilder, Response, StatusCode, header};
use serde_json::Value;

#[path = "routes/apis.rs"]
mod apis;
#[path = "routes/client_keys.rs"]
mod client_keys;
#[path = "routes/direct.rs"]
mod direct;
#[path = "routes/keys.rs"]
mod keys;
#[path = "routes/people.rs"]
mod people;

use crate::mfa::{
    authenticator::Authenticator,
    tab::{Phone, SESSION, Tab},
};
use crate::support::{FORM, PASSWORD, Person, Program, World, json, on_both};

on_both! {
    c3_every_route_that_is_not_for_anyone_refuses_a_stranger
    protocol31_every_write_refuses_other_sites_and_does_nothing
    protocol31_the_console_takes_forms_and_nothing_else
    l1_every_act_leaves_exactly_one_record
    c3_l1_a_plain_user_is_refused_and_the_attempt_is_on_record
    protocol36_who_is_demoted_loses_it_with_the_next_request_on_every_node
    protocol36_who_is_deactivated_is_out_with_the_next_request_on_every_node
    c9_mfa_suspends_with_the_next_request_on_every_node_and_off_resumes
    c10_the_credential_of_a_deleted_owner_is_revoked
}

const MARIA: &str = "maria@acme.example";

fn filled(path: &str) -> String {
    path.replace("{user}", "me")
        .replace("{token}", "not-a-token")
        .replace("{name}", "console.css")
        .replace("{mail}", "01900000-0000-7000-8000-000000000000")
        .replace("{passkey}", "0190a0a0-0000-7000-8000-000000000000")
        .replace("{provider}", "01900000-0000-7000-8000-000000000000")
        .replace("{api}", "01900000-0000-7000-8000-000000000000")
        .replace("{key}", "pca_00000000000000000000")
        .replace("{kid}", "not-a-key")
        .replace("{algorithm}", "ES256")
}

fn guarded() -> impl Iterator<Item = Route> {
    all().into_iter().filter(|r| r.access != Access::Anyone)
}

fn name(route: &Route) -> String {
    format!("{} {}", route.method, route.path)
}

fn assert_refuses_a_stranger(route: &Route, response: &Response) {
    let name = name(route);
    let header = |n| response.headers().get(n).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    if route.door == Door::Console && route.method == Method::GET {
        assert_eq!(response.status(), StatusCode::SEE_OTHER, "{name}");
        assert!(header("location").starts_with("/sign-in"), "{name}: {}", header("location"));
        return;
    }
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{name}");
    if route.door == Door::Console {
        assert!(header("content-type").starts_with("text/html"), "{name}");
        return;
    }
    assert_eq!(header("content-type"), "application/problem+json", "{name}");
    let challenge = header("www-authenticate");
    assert!(challenge.starts_with("Bearer ") && challenge.contains("resource_metadata="), "{name}: {challenge}");
}

async fn c3_every_route_that_is_not_for_anyone_refuses_a_stranger(world: World) {
    world.user(MARIA, Role::SuperAdmin).await;
    let stranger = world.stranger();
    let mark = world.last_record().await;
    let mut seen = 0;
    for route in guarded() {
        let ask = || stranger.request(route.method.clone(), &filled(route.path));
        assert_refuses_a_stranger(&route, &ask().send().await.unwrap());
        let dead = ask().header(header::COOKIE, "__Host-portcullis=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
        assert_refuses_a_stranger(&route, &dead.send().await.unwrap());
        if route.door == Door::Api {
            let response = ask().bearer_auth("not-a-token").send().await.unwrap();
            assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{}", name(&route));
            let challenge = response.headers()["www-authenticate"].to_str().unwrap().to_owned();
            assert!(challenge.contains("error=\"invalid_token\""), "RFC 6750: {challenge}");
        }
        seen += 1;
    }
    assert!(seen > 15, "the walk saw routes: {seen}");
    assert_eq!(world.told_after(mark).await, Vec::<String>::new(), "strangers at a closed door do nothing");
}

/// A body with which the act of a route would be done.
fn body(request: RequestBuilder, path: &str) -> RequestBuilder {
    match path {
        path if people::has_fields(path) => people::body(request, path),
        "/sign-in" => request.form(&[("email", MARIA), ("password", PASSWORD)]),
        "/api/v1/session" => request.json(&serde_json::json!({ "email": MARIA, "password": PASSWORD })),
        _ if path.contains("/mfa/") || path.starts_with("/sign-in/") => request.form(&MFA_FORM),
        "/setup/{token}" => request.form(&[("email", "x@acme.example"), ("name", "X"), ("password", PASSWORD)]),
        "/account/profile" => request.form(&[("name", "Other"), ("language", "en-US"), ("time_zone", "UTC")]),
        "/account/password" => {
            request.form(&[("present_password", PASSWORD), ("new_password", "violet harbor mosaic thunder")])
        }
        "/account/credentials/revoke" => request.form(&[("client_id", "pcc_00000000000000000000")]),
        path if client_keys::is_of_keys(path) => request.form(&client_keys::form("pcc_00000000000000000000")),
        _ if path.starts_with("/api/") => request,
        _ => request.form::<[(&str, &str); 0]>(&[]),
    }
}

fn is_ours(route: &Route) -> bool {
    matches!(route.door, Door::Console | Door::Api) && route.method == Method::POST
}

async fn protocol31_every_write_refuses_other_sites_and_does_nothing(world: World) {
    let maria = world.maria().await;
    let mark = world.last_record().await;
    let mut seen = 0;
    for route in all().into_iter().filter(is_ours) {
        for (name_of, value) in [
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
            ("origin", "https://evil.example"),
            ("origin", "null"),
            ("origin", "http://127.0.0.1:1"),
        ] {
            let request = maria.bare(Method::POST, &filled(route.path)).header(name_of, value);
            let response = body(request, route.path).send().await.unwrap();
            assert_eq!(response.status(), StatusCode::FORBIDDEN, "{} {name_of}: {value}", name(&route));
            assert!(!response.headers().contains_key(header::SET_COOKIE), "{}", name(&route));
        }
        let plain = maria.bare(Method::POST, &filled(route.path)).header("sec-fetch-site", "cross-site");
        let plain = plain.header(header::CONTENT_TYPE, "text/plain").body("email=a&password=b");
        assert_eq!(plain.send().await.unwrap().status(), StatusCode::FORBIDDEN, "{}", name(&route));
        seen += 1;
    }
    assert!(seen > 9, "{seen}");
    assert_eq!(world.told_after(mark).await, Vec::<String>::new());
    assert!(maria.is_signed_in().await, "the session still lives under its id");
    assert_eq!(world.user_of(MARIA).await.name.as_str(), "Maria Rocha");
}

async fn protocol31_the_console_takes_forms_and_nothing_else(world: World) {
    let maria = world.maria().await;
    let mark = world.last_record().await;
    for route in all().into_iter().filter(|r| is_ours(r) && r.door == Door::Console) {
        let text = "email=maria%40acme.example&password=x&name=x&language=en-US&time_zone=UTC&client_id=x\
                    &code=1&credential=x&older_key=day&key=x&seen=x&reason=x";
        for (kind, text) in [("text/plain", text), ("application/json", "{\"email\":\"a@b\",\"password\":\"x\"}")]
        {
            let request = maria.request(Method::POST, &filled(route.path));
            let response = request.header(header::CONTENT_TYPE, kind).body(text).send().await.unwrap();
            assert_eq!(response.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE, "{} {kind}", name(&route));
        }
        // Buttons have no field that could be repeated.
        let is_button = matches!(route.path, "/sign-out" | "/account/sessions/end-others");
        if is_button || people::is_button(route.path) || apis::is_button(route.path) || is_provider_button(&route)
        {
            continue;
        }
        let twice = maria.request(Method::POST, &filled(route.path)).header(header::CONTENT_TYPE, FORM);
        let twice = twice.body(format!("{text}&{text}&present_password=1&present_password=1&new_password=1"));
        if route.path != "/account/credentials/generate" {
            assert_eq!(
                twice.send().await.unwrap().status(),
                StatusCode::UNPROCESSABLE_ENTITY,
                "protocol 41: {}",
                name(&route)
            );
        }
    }
    assert_eq!(world.told_after(mark).await, Vec::<String>::new());
}

/// Does what a route is for in a fresh world, and gives the number of the last record before the
/// act, and the answer. An act that leaves other records besides its own is not there yet.
async fn perform(world: &World, route: &Route) -> (i64, Response) {
    if is_of_providers(route.path) {
        return perform_at_provider(world, route).await;
    }
    let post = |person: &Person, path: &str| person.request(Method::POST, path);
    let request = match route.path {
        path if people::is_act(path) => people::request(world, path).await,
        path if apis::is_of_apis(path) => apis::request(world, path).await,
        path if client_keys::is_of_keys(path) => client_keys::request(world, path).await,
        path if keys::is_of_keys(path) => keys::request(world, path).await,
        "/setup/{token}" => {
            let token = world.app.set_up_token().await.unwrap().unwrap();
            let token = portcullis_domain::secret::ExposeSecret::expose_secret(&token).to_owned();
            let request = world.stranger().request(Method::POST, &format!("/setup/{token}"));
            body(request, route.path)
        }
        "/sign-in" | "/api/v1/session" => {
            world.user(MARIA, Role::SuperAdmin).await;
            body(world.stranger().request(Method::POST, route.path), route.path)
        }
        _ if route.path.contains("/mfa/") || route.path.starts_with("/sign-in/") => {
            return perform_mfa(world, route).await;
        }
        "/sign-out" => post(&world.maria().await, route.path).form(&NO_FIELDS),
        "/account/profile"
        | "/account/password"
        | "/account/credentials/generate"
        | "/api/v1/session/end"
        | "/api/v1/users/{user}/credential/generate" => {
            let maria = world.maria().await;
            body(post(&maria, &filled(route.path)), route.path)
        }
        "/account/sessions/end-others" => {
            let maria = world.maria().await;
            world.sign_in(MARIA).await;
            world.sign_in(MARIA).await;
            post(&maria, route.path).form(&NO_FIELDS)
        }
        "/account/credentials/revoke" => {
            let maria = world.maria().await;
            let program = maria.generate().await;
            post(&maria, route.path).form(&[("client_id", program.client_id)])
        }
        "/api/v1/users/{user}/credential/revoke" => {
            let maria = world.maria().await;
            maria.generate().await;
            post(&maria, &filled(route.path))
        }
        "/oauth/token" | "/oauth/introspect" | "/oauth/revoke" => by_program(world, route).await,
        _ => panic!("{} leaves audit records, but no test performs it: put it in `perform`", name(route)),
    };
    let mark = world.last_record().await;
    (mark, request.send().await.unwrap())
}

/// The request of a program: a token given back, or a secret that is wrong.
async fn by_program(world: &World, route: &Route) -> RequestBuilder {
    let program = world.maria().await.generate().await;
    let request = world.stranger().request(Method::POST, route.path);
    if route.path == "/oauth/revoke" {
        let token = program.token().await;
        return request.basic_auth(program.client_id, Some(program.client_secret)).form(&[("token", token)]);
    }
    let form = [("grant_type", "client_credentials"), ("token", "x")];
    request.basic_auth(program.client_id, Some("pcs_wrong")).form(&form)
}

/// What the forms of second factors send.
const MFA_FORM: [(&str, &str); 5] =
    [("code", "123456"), ("credential", ""), ("name", "x"), ("password", "x"), ("to", "/account/mfa/off")];

/// [`perform`] for second factors.
async fn perform_mfa(world: &World, route: &Route) -> (i64, Response) {
    let maria = world.maria().await;
    let mut tab = Tab::of(world, &maria);
    let mut key = Authenticator::new(world);
    let mut form = Vec::new();
    let mut path = route.path.to_owned();
    match route.path {
        "/account/mfa/app" => {
            let phone = Phone::scan(&tab.get(route.path).await.element("key").unwrap());
            form.push(("code", phone.code(world)));
        }
        "/account/mfa/passkey" => {
            let options = tab.get(route.path).await.attribute("data-passkey-new").unwrap();
            form.extend([("name", "Laptop".to_owned()), ("credential", key.make(&options))]);
        }
        "/account/mfa/password" => {
            form.extend([("password", PASSWORD.to_owned()), ("to", "/account/mfa/app".to_owned())]);
        }
        "/account/mfa/app/begin" => {
            let codes = tab.add_passkey(&mut key, "Laptop").await.codes();
            form.push(("code", codes[0].clone()));
        }
        _ => {
            let (phone, codes) = tab.set_up_app(world).await;
            form.extend([("code", phone.code(world)), ("allow", "yes".to_owned())]);
            if route.path.contains("passkey") && !route.path.ends_with("/begin") {
                tab.begin_passkey(&codes[1]).await;
                tab.add_passkey(&mut key, "Laptop").await;
                let user = world.user_of(MARIA).await.id;
                let passkeys = world.app.store.read().await.unwrap().passkeys(user).await.unwrap();
                path = path.replace("{passkey}", &passkeys[0].id.to_string());
            }
            match route.path {
                "/sign-in/second-factor" => {
                    tab.password(MARIA).await;
                }
                "/sign-in/passkey" => {
                    let allow = [("code", codes[0].as_str()), ("allow", "yes")];
                    tab.post("/account/mfa/passkey-alone", &allow).await;
                    tab.cookies.clear();
                    let options = tab.get(&path).await.attribute("data-passkey-ask").unwrap();
                    form = vec![("credential", key.answer(&options))];
                }
                _ => {}
            }
        }
    }
    // Who signs in comes from outside; a session that is still there would be signed out.
    if route.path.starts_with("/sign-in/") {
        tab.cookies.remove(SESSION);
    }
    let cookies: Vec<String> = tab.cookies.iter().map(|(n, v)| format!("{n}={v}")).collect();
    let mark = world.last_record().await;
    let request = world.stranger().request(Method::POST, &path).header(header::COOKIE, cookies.join("; "));
    (mark, request.form(&form).send().await.unwrap())
}

/// What a button sends.
const NO_FIELDS: [(&str, &str); 0] = [];

async fn l1_every_act_leaves_exactly_one_record(first: World) {
    let is_sqlite = matches!(first.database, portcullis_store::Database::Sqlite(_));
    for route in all().into_iter().filter(|r| !r.events.is_empty()) {
        let named = &crate::mfa::NAMED;
        let world = if is_sqlite { World::sqlite(named).await } else { World::postgres(named).await };
        let (mark, answer) = perform(&world, &route).await;
        let is_refusal = route.events.iter().all(|e| e.code() == "token.refuse");
        let status = answer.status();
        assert_eq!(is_refusal, status.is_client_error(), "{}: {status}", name(&route));
        assert!(!status.is_server_error(), "{}: {status}", name(&route));
        let records = people::records_after(&world, mark).await;
        let told: Vec<&str> = records.iter().map(|r| r.event.as_str()).collect();
        assert_eq!(told.len(), 1, "L-1: {}: {told:?}", name(&route));
        assert!(route.events.iter().any(|e| e.code() == told[0]), "{}: {told:?}", name(&route));
        let record = &records[0];
        assert_eq!(record.outcome, if is_refusal { "refused" } else { "done" }, "{}", name(&route));
        assert_eq!(record.ip, "127.0.0.1", "{}", name(&route));
        assert_eq!(record.at, world.clock.now().as_microsecond(), "{}", name(&route));
        world.log_is_whole().await;
    }
}

async fn c3_l1_a_plain_user_is_refused_and_the_attempt_is_on_record(world: World) {
    world.maria().await;
    let paulo = world.person("paulo@acme.example", Role::User).await;
    let id = world.user_of("paulo@acme.example").await.id.to_string();
    for route in guarded() {
        let gated =
            matches!(route.access, Access::SuperAdmin | Access::ApiSuperAdmin(_) | Access::ApiSuperAdminInSession);
        if !gated && !route.path.contains("credential") && !people::is_for_super_admins(route.path) {
            continue;
        }
        // Slowly: refusals are recorded one by one up to a rate.
        world.pass(SignedDuration::from_secs(4));
        let mark = world.last_record().await;
        let request = paulo.request(route.method.clone(), &filled(route.path));
        let response = body(request, route.path).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::FORBIDDEN, "{}", name(&route));
        let text = response.text().await.unwrap();
        assert!(text.contains("Only a Super Admin can"), "{}: {text}", name(&route));
        let records = world.records_after(mark).await;
        let expected = route.events.first().filter(|_| !gated).map_or("access.refuse", |e| e.code());
        assert_eq!(records.len(), 1, "{}: {records:?}", name(&route));
        let r = &records[0];
        assert_eq!((r.event.as_str(), r.outcome.as_str()), (expected, "refused"), "{}", name(&route));
        assert_eq!((r.reason.as_str(), &r.by.1), ("not_super_admin", &id), "{}", name(&route));
    }
    let (_, page) = paulo.page("/account").await;
    assert!(!page.contains("/account/credentials"), "C-3: no Credentials tab");
}

/// Checks the headers of protocol 34 on a response.
fn assert_headers(what: &str, response: &Response, tls: bool) {
    let get = |n: &str| response.headers().get(n).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    let csp = get("content-security-policy");
    for part in ["default-src 'none'", "object-src 'none'", "base-uri 'none'", "frame-ancestors 'none'"] {
        assert!(csp.contains(part), "{what}: {csp}");
    }
    assert!(!csp.contains("unsafe") && !csp.contains('*'), "{what}: {csp}");
    assert_eq!(get("x-content-type-options"), "nosniff", "{what}");
    assert_eq!(get("referrer-policy"), "no-referrer", "{what}");
    assert_eq!(get("cross-origin-opener-policy"), "same-origin", "{what}");
    assert!(!get("cache-control").is_empty(), "{what}");
    assert_eq!(get("strict-transport-security").is_empty(), !tls, "{what}");
    assert!(!response.headers().contains_key("access-control-allow-origin"), "protocol 16: {what}");
    assert!(!response.headers().contains_key("server"), "{what}");
}

#[tokio::test]
async fn protocol34_every_response_has_the_security_headers() {
    for tls in [false, true] {
        let settings =
            [("public_url", "https://access.acme.example"), ("trusted_proxies", "127.0.0.0/8"), ("log", "info")];
        let world = World::sqlite(if tls { &settings } else { &[] }).await;
        let over = |r: RequestBuilder| if tls { r.header("x-forwarded-proto", "https") } else { r };
        let user = world.user(MARIA, Role::SuperAdmin).await;
        let maria = world.session_opened(&user, portcullis_domain::sessions::Opened::Password).await;
        for route in all() {
            let path = filled(route.path);
            let as_stranger = over(world.stranger().request(route.method.clone(), &path)).send().await.unwrap();
            assert_headers(&name(&route), &as_stranger, tls);
            if route.path != "/sign-out" && route.path != "/api/v1/session/end" {
                let as_maria = over(maria.bare(route.method.clone(), &path)).send().await.unwrap();
                assert_headers(&name(&route), &as_maria, tls);
                let caches = ["/assets/", "openapi.json", "/.well-known/", "/oauth/status"]
                    .iter()
                    .any(|p| route.path.contains(p));
                let cached = &as_maria.headers()["cache-control"];
                assert!(caches || cached == "no-store", "protocol 32: {}: {cached:?}", name(&route));
            }
            let wrong = over(world.stranger().request(Method::DELETE, &path)).send().await.unwrap();
            assert_eq!(wrong.status(), StatusCode::METHOD_NOT_ALLOWED, "{}", name(&route));
            assert!(wrong.headers().contains_key(header::ALLOW), "{}", name(&route));
            assert_headers(&name(&route), &wrong, tls);
        }
        for missing in ["/nothing", "/api/v1/nothing", "/assets/nothing", "/%00", "/account/%2e%2e/nothing"] {
            let response = over(world.stranger().request(Method::GET, missing)).send().await.unwrap();
            assert_eq!(response.status(), StatusCode::NOT_FOUND, "{missing}");
            assert_headers(missing, &response, tls);
        }
    }
}

#[tokio::test]
async fn the_openapi_document_has_every_route_of_the_api_and_no_other() {
    let world = World::sqlite(&[]).await;
    let document = json(world.stranger().request(Method::GET, "/api/v1/openapi.json").send().await.unwrap()).await;
    let paths = document["paths"].as_object().unwrap();
    let described: BTreeSet<String> = paths
        .iter()
        .flat_map(|(path, item)| {
            item.as_object().unwrap().keys().map(move |m| format!("{} {path}", m.to_uppercase()))
        })
        .collect();
    let routed: BTreeSet<String> =
        all().iter().filter(|r| r.door == Door::Api && r.path != "/api/v1/openapi.json").map(name).collect();
    assert_eq!(described, routed);
    for (path, item) in paths {
        for (method, operation) in item.as_object().unwrap() {
            let secured = operation.get("security").is_some_and(|s: &Value| !s.as_array().unwrap().is_empty());
            assert!(secured || path == "/api/v1/session", "{method} {path} says nothing of who may");
        }
    }
}

struct Two {
    world: World,
    other: World,
    maria: Person,
    program: Program,
    token: String,
    watcher: Program,
}

/// Maria with a credential and a token, and a key of the API that the token is for.
async fn two(world: World) -> Two {
    let other = world.another_node().await;
    let maria = world.maria().await;
    let program = maria.generate().await;
    let token = program.token().await;
    let watcher = world.watcher().await;
    Two { world, other, maria, program, token, watcher }
}

impl Two {
    async fn assert_works(&self, works: bool, why: &str) {
        for node in [&self.world, &self.other] {
            assert_eq!(self.watcher.at(node).is_active(&self.token).await, works, "C-11: {why}");
            let me = self.program.at(node).with(&self.token, Method::GET, "/api/v1/me").send().await.unwrap();
            assert_eq!(me.status() == StatusCode::OK, works, "T-4: {why}: {}", me.status());
            let asked = self.program.at(node).ask().await;
            assert_eq!(asked.status() == StatusCode::OK, works, "{why}: {}", asked.status());
            if !works {
                assert_eq!(asked.status(), StatusCode::UNAUTHORIZED);
                let text = json(asked).await["error_description"].as_str().unwrap().to_owned();
                assert!(text.contains(why), "the holder of the right secret is told why: {text}");
            }
        }
    }

    async fn status(&self, path: &str) -> StatusCode {
        let statuses = [self.maria.get(path).await.status(), self.maria.at(&self.other).get(path).await.status()];
        assert_eq!(statuses[0], statuses[1], "{path}");
        statuses[0]
    }
}

fn later(world: &World) -> Timestamp {
    world.clock.now()
}

async fn protocol36_who_is_demoted_loses_it_with_the_next_request_on_every_node(world: World) {
    let two = two(world).await;
    let user = two.world.user_of(MARIA).await;
    two.assert_works(true, "at first").await;
    two.world.change(&user, |s| s.role = (Role::User, later(&two.world))).await;
    two.assert_works(false, "suspended").await;
    assert_eq!(two.status("/").await, StatusCode::OK, "the session stays");
    assert_eq!(two.status("/account/credentials").await, StatusCode::FORBIDDEN);
    assert_eq!(two.status("/api/v1/users").await, StatusCode::FORBIDDEN);
    assert_eq!(two.maria.revoke().await.status(), StatusCode::FORBIDDEN);
    two.world.change(&user, |s| s.role = (Role::SuperAdmin, later(&two.world))).await;
    two.assert_works(true, "C-10: suspended, not deleted").await;
    assert_eq!(two.status("/account/credentials").await, StatusCode::OK);
}

async fn protocol36_who_is_deactivated_is_out_with_the_next_request_on_every_node(world: World) {
    let two = two(world).await;
    let user = two.world.user_of(MARIA).await;
    two.world.change(&user, |s| s.status = (Status::Inactive, later(&two.world))).await;
    two.assert_works(false, "suspended").await;
    assert_eq!(two.status("/").await, StatusCode::SEE_OTHER);
    assert_eq!(two.status("/api/v1/me").await, StatusCode::UNAUTHORIZED);
    let sign_in = |password: &str| {
        let form = [("email", MARIA), ("password", password)];
        two.other.stranger().request(Method::POST, "/sign-in").form(&form)
    };
    assert_eq!(sign_in(PASSWORD).send().await.unwrap().status(), StatusCode::FORBIDDEN);
    assert_eq!(sign_in("wrong").send().await.unwrap().status(), StatusCode::UNAUTHORIZED, "nobody else is told");
    two.world.change(&user, |s| s.status = (Status::Active, later(&two.world))).await;
    two.assert_works(true, "active again").await;
}

async fn c9_mfa_suspends_with_the_next_request_on_every_node_and_off_resumes(world: World) {
    let two = two(world).await;
    let user = two.world.user_of(MARIA).await;
    two.world.change(&user, |s| s.mfa_since = Some(later(&two.world))).await;
    two.assert_works(false, "suspended").await;
    let (status, tab) = two.maria.page("/account/credentials").await;
    assert_eq!(status, StatusCode::OK);
    assert!(tab.contains("Suspended while multi-factor authentication is on"));
    assert!(tab.contains(&two.program.client_id) && tab.contains("Revoke Credentials"), "revoking is allowed");
    let view = json(two.maria.get("/api/v1/users/me/credential").await).await;
    assert_eq!((&view["standing"], &view["reason"]), (&"suspended".into(), &"mfa_on".into()));
    assert_eq!(view["valid_tokens"], 0);
    two.world.change(&user, |s| s.mfa_since = None).await;
    two.assert_works(true, "off again").await;
    two.world.change(&user, |s| s.mfa_since = Some(later(&two.world))).await;
    assert_eq!(two.maria.revoke().await.status(), StatusCode::OK);
    let refused = two.maria.request(Method::POST, "/api/v1/users/me/credential/generate").send().await.unwrap();
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    assert_eq!(json(refused).await["code"], "mfa_on");
    two.world.change(&user, |s| s.mfa_since = None).await;
    two.assert_works(false, "revoked").await;
}

async fn c10_the_credential_of_a_deleted_owner_is_revoked(world: World) {
    let two = two(world).await;
    let user = two.world.user_of(MARIA).await;
    two.world.change(&user, |s| s.status = (Status::Deleted, later(&two.world))).await;
    two.assert_works(false, "because its owner was deleted").await;
    assert_eq!(two.status("/").await, StatusCode::SEE_OTHER);
    let form = [("email", MARIA), ("password", PASSWORD)];
    let response = two.world.stranger().request(Method::POST, "/sign-in").form(&form).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "as an unknown account");
}

fn is_of_providers(path: &str) -> bool {
    path.contains("/provider") || path == "/account/identities"
}

/// Buttons that have no field which the walk could repeat.
fn is_provider_button(route: &Route) -> bool {
    ["/sign-in/provider/{provider}", "/providers/{provider}/test", "/providers/{provider}/remove"]
        .contains(&route.path)
}

/// As [`perform`], for what needs a provider.
async fn perform_at_provider(world: &World, route: &Route) -> (i64, Response) {
    use crate::federation::{Hostile, Visitor, scene, typed};
    let (maria, hostile, id) = scene(world).await;
    let mut browser = Visitor::of(&maria);
    let there = browser.leave("/account/identities", &[("link", &id.to_string())]).await;
    browser.get(hostile.approve(&there).as_str()).await;
    let path = route.path.replace("{provider}", &id.to_string());
    let text = world.clock.id().to_string();
    let other = Hostile::start(&world.clock).await;
    let linked = world.user_of(MARIA).await.id;
    let linked = world.app.store.read().await.unwrap().identities_of(linked).await.unwrap();
    let key = portcullis::app::identities::key_of(&linked[0]);
    if route.path == "/sign-in/provider/{provider}/callback" {
        let mut stranger = Visitor::new(world);
        let there = stranger.leave(&format!("/sign-in/provider/{id}"), &[]).await;
        let back = hostile.approve(&there);
        return (world.last_record().await, stranger.get(back.as_str()).await);
    }
    let mut changed = typed(&hostile, &text);
    changed.retain(|(name, _)| *name != "name");
    changed.push(("name", "Other"));
    let form = match route.path {
        "/account/identities" => vec![("unlink", key.as_str())],
        "/providers/new" => typed(&other, &text),
        "/providers/{provider}" => changed,
        _ => Vec::new(),
    };
    (world.last_record().await, browser.post(&path, &form).await)
}
