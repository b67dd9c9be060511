//! APIs: registered, asked for, asked by, removed.

mod keys;
mod limits;
mod pages;
mod races;
mod signed;

use jiff::SignedDuration;
use portcullis_domain::{accounts::Role, credentials::CREDENTIAL_LASTS};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};

use crate::support::{Person, Program, World, json as json_of, oauth_error, on_both};

on_both! {
    t2_a_token_is_for_the_api_it_is_asked_for
    t1_a_token_lives_as_its_api_says_and_never_beyond_its_credential
    protocol11_a_scope_is_one_of_the_api_s_and_echoed
    protocol12_only_a_proven_client_learns_which_apis_there_are
    protocol23_who_asks_is_told_of_its_own_tokens_and_of_nothing_else
    protocol21_a_token_for_another_api_opens_nothing_here
    protocol24_a_token_for_any_api_is_taken_back_by_its_own_client
    a_change_is_for_tokens_from_then_on
    c11_a_removed_api_has_no_active_token_on_any_node
    t4_reading_takes_a_scope_and_writing_a_session
    the_own_api_is_the_first_and_stays_as_it_is
    the_own_api_moves_with_the_address_and_takes_no_other_s_place
    c11_tokens_from_before_there_were_apis_are_for_the_own_one
    every_wrong_field_is_named_and_nothing_is_done
}

pub const ORDERS: &str = "https://orders.acme.example";
const DEAD: &str = r#"{"active":false}"#;

/// What an API is registered with.
pub struct Orders {
    pub name: &'static str,
    pub identifier: &'static str,
    pub scopes: &'static [(&'static str, &'static str)],
    pub lifespan: u32,
    pub requires_dpop: bool,
}

impl Default for Orders {
    fn default() -> Self {
        Self {
            name: "Orders",
            identifier: ORDERS,
            scopes: &[("orders:read", "Read orders"), ("orders:write", "Place orders")],
            lifespan: 3600,
            requires_dpop: false,
        }
    }
}

impl Orders {
    pub fn json(&self) -> Value {
        let scope = |(name, description): &(&str, &str)| json!({ "name": name, "description": description });
        json!({
            "name": self.name,
            "identifier": self.identifier,
            "scopes": self.scopes.iter().map(scope).collect::<Vec<_>>(),
            "lifespan_seconds": self.lifespan,
            "requires_dpop": self.requires_dpop,
            "algorithm": "ES256",
        })
    }

    pub fn form(&self) -> Vec<(&'static str, String)> {
        let lines = self.scopes.iter().map(|(name, description)| format!("{name} {description}\r\n"));
        let mut form = vec![
            ("name", self.name.to_owned()),
            ("identifier", self.identifier.to_owned()),
            ("scopes", lines.collect()),
            ("lifespan", self.lifespan.to_string()),
        ];
        if self.requires_dpop {
            form.push(("requires_dpop", "yes".to_owned()));
        }
        form
    }
}

/// Registers an API and gives its id.
pub async fn registered(maria: &Person, orders: &Orders) -> String {
    let response = maria.request(Method::POST, "/api/v1/apis").json(&orders.json()).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::CREATED);
    json_of(response).await["id"].as_str().unwrap().to_owned()
}

/// Makes a key and gives the API as it asks with it.
pub async fn key_of(maria: &Person, id: &str, older_key: &str) -> Program {
    let made = make_key(maria, id, older_key).await;
    assert_eq!(made.status(), StatusCode::CREATED);
    let made = json_of(made).await;
    let text = |name: &str| made[name].as_str().unwrap().to_owned();
    let (client, url) = (maria.client.clone(), maria.url.clone());
    Program { client, url, client_id: text("id"), client_secret: text("secret") }
}

async fn make_key(maria: &Person, id: &str, older_key: &str) -> Response {
    let body = json!({ "older_key": older_key });
    maria.request(Method::POST, &format!("/api/v1/apis/{id}/keys")).json(&body).send().await.unwrap()
}

async fn remove(maria: &Person, id: &str) -> Response {
    maria.request(Method::POST, &format!("/api/v1/apis/{id}/remove")).send().await.unwrap()
}

/// Asks for a token for an API.
async fn ask_for(program: &Program, resource: &str, scope: &str) -> Response {
    let form = [("grant_type", "client_credentials"), ("resource", resource), ("scope", scope)];
    program.oauth("token", &form).await
}

pub async fn token_for(program: &Program, resource: &str) -> String {
    let response = ask_for(program, resource, "").await;
    assert_eq!(response.status(), StatusCode::OK);
    json_of(response).await["access_token"].as_str().unwrap().to_owned()
}

fn claims(token: &str) -> Value {
    jsonwebtoken::dangerous::insecure_decode(token).unwrap().claims
}

async fn said_of(asker: &Program, token: &str) -> String {
    let response = asker.oauth("introspect", &[("token", token)]).await;
    assert_eq!(response.status(), StatusCode::OK);
    response.text().await.unwrap()
}

async fn t2_a_token_is_for_the_api_it_is_asked_for(world: World) {
    let maria = world.maria().await;
    let program = maria.generate().await;
    registered(&maria, &Orders::default()).await;
    let body = json_of(ask_for(&program, ORDERS, "").await).await;
    assert_eq!((&body["scope"], &body["expires_in"]), (&"orders:read orders:write".into(), &3600.into()));
    let said = claims(body["access_token"].as_str().unwrap());
    assert_eq!(said["aud"], ORDERS);
    assert_eq!((&said["iss"], &said["sub"]), (&Value::from(&*world.url), &Value::from(&*program.client_id)));
    let own = format!("{}/api/v1", world.url);
    for resource in ["", &own] {
        let body = json_of(ask_for(&program, resource, "").await).await;
        assert_eq!(body["scope"], "users:read audit:read apis:read", "the default is the product's own");
        assert_eq!(claims(body["access_token"].as_str().unwrap())["aud"], *own);
    }
    // An API without scopes: nothing to grant, and nothing said of it.
    registered(&maria, &Orders { identifier: "urn:bare", scopes: &[], ..Orders::default() }).await;
    let bare = json_of(ask_for(&program, "urn:bare", "").await).await;
    let token = bare["access_token"].as_str().unwrap();
    assert!(bare.get("scope").is_none() && claims(token).get("scope").is_none(), "{bare}");
    assert!(!said_of(&program, token).await.contains("scope"));
    oauth_error(ask_for(&program, "urn:bare", "orders:read").await, 400, "invalid_scope").await;
    let two = format!("grant_type=client_credentials&resource={ORDERS}&resource=urn:bare");
    let two = world.stranger().token(&two).basic_auth(&program.client_id, Some(&program.client_secret));
    oauth_error(two.send().await.unwrap(), 400, "invalid_request").await;
    // As many scopes as there may be make a token that is still one.
    let many: Vec<Value> = (0..50).map(|n| json!({ "name": format!("{n:~>60}"), "description": "x" })).collect();
    let body = json!({ "name": "Many", "identifier": "urn:many", "scopes": many });
    let made = maria.request(Method::POST, "/api/v1/apis").json(&body).send().await.unwrap();
    assert_eq!(
        (made.status(), json_of(made).await["lifespan_seconds"].clone()),
        (StatusCode::CREATED, 86_400.into())
    );
    let token = token_for(&program, "urn:many").await;
    assert!(program.is_active(&token).await, "{} characters", token.len());
}

async fn t1_a_token_lives_as_its_api_says_and_never_beyond_its_credential(world: World) {
    let maria = world.maria().await;
    let program = maria.generate().await;
    registered(&maria, &Orders { lifespan: 86_400 * 30, ..Orders::default() }).await;
    let token = token_for(&program, ORDERS).await;
    let (issued, ends) = (claims(&token)["iat"].as_i64().unwrap(), claims(&token)["exp"].as_i64().unwrap());
    assert_eq!(ends - issued, 86_400 * 30);
    world.pass(SignedDuration::from_secs(86_400 * 30 - 1));
    assert!(program.is_active(&token).await);
    world.pass(SignedDuration::from_secs(1));
    assert!(!program.is_active(&token).await);
    world.pass(CREDENTIAL_LASTS - SignedDuration::from_secs(86_400 * 30 + 90));
    assert_eq!(json_of(ask_for(&program, ORDERS, "").await).await["expires_in"], 90, "protocol 17");
}

async fn protocol11_a_scope_is_one_of_the_api_s_and_echoed(world: World) {
    let maria = world.maria().await;
    let program = maria.generate().await;
    registered(&maria, &Orders::default()).await;
    for (asked, granted) in
        [("orders:write", "orders:write"), ("orders:write orders:read", "orders:read orders:write")]
    {
        let body = json_of(ask_for(&program, ORDERS, asked).await).await;
        assert_eq!(body["scope"], granted);
        assert_eq!(claims(body["access_token"].as_str().unwrap())["scope"], granted);
    }
    for (resource, beyond) in [(ORDERS, "users:read"), (ORDERS, "orders:read users:read"), ("", "orders:read")] {
        let said = oauth_error(ask_for(&program, resource, beyond).await, 400, "invalid_scope").await;
        let there = if resource.is_empty() { "users:read audit:read" } else { "orders:read orders:write" };
        assert!(said.contains(there), "{said}");
    }
    let mark = world.last_record().await;
    let credential = world.app.store.read().await.unwrap().presented_clients(&[&program.client_id]).await.unwrap();
    let recent = async || {
        world.app.store.read().await.unwrap().recent_tokens(credential[0].credential.id, None, 50).await.unwrap()
    };
    let before = recent().await.len();
    oauth_error(ask_for(&program, ORDERS, "admin").await, 400, "invalid_scope").await;
    assert_eq!(recent().await.len(), before, "L-4: what is refused is not on record as issued");
    assert_eq!(recent().await[0].terms.audience.identifier, ORDERS, "L-4: and what is issued says for what");
    assert!(world.told_after(mark).await.is_empty());
}

async fn protocol12_only_a_proven_client_learns_which_apis_there_are(world: World) {
    let maria = world.maria().await;
    let program = maria.generate().await;
    registered(&maria, &Orders::default()).await;
    for wrong in [
        "urn:x",
        "https://orders.acme.example/",
        "HTTPS://orders.acme.example",
        "x\u{0}",
        "é",
        &"urn:x".repeat(999),
    ] {
        let said = oauth_error(ask_for(&program, wrong, "").await, 400, "invalid_target").await;
        assert!(!said.contains("urn:x"), "protocol 14: {said}");
    }
    // RFC 6749 §4.4.2: the client first. A stranger gets the same bytes whatever it names.
    let unknown = Program { client_id: "pcc_00000000000000000001".to_owned(), ..program.clone() };
    let wrong = Program { client_secret: "pcs_wrong".to_owned(), ..program.clone() };
    let mut answers = Vec::new();
    for stranger in [&unknown, &wrong] {
        for (resource, scope) in [(ORDERS, ""), (ORDERS, "x"), ("urn:x", ""), ("", "x")] {
            let answer = ask_for(stranger, resource, scope).await;
            assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
            answers.push(answer.text().await.unwrap());
        }
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");
    let document = world.stranger().request(Method::GET, "/.well-known/oauth-authorization-server");
    let document = document.send().await.unwrap().text().await.unwrap();
    assert!(!document.contains("orders"), "nor from the metadata: {document}");
}

async fn protocol23_who_asks_is_told_of_its_own_tokens_and_of_nothing_else(world: World) {
    let maria = world.maria().await;
    let program = maria.generate().await;
    let other = world.person("joao@acme.example", Role::SuperAdmin).await.generate().await;
    let orders = registered(&maria, &Orders::default()).await;
    let stock = registered(&maria, &Orders { identifier: "urn:stock", ..Orders::default() }).await;
    let (orders, stock) = (key_of(&maria, &orders, "").await, key_of(&maria, &stock, "").await);
    let own = world.watcher().await;
    let tokens = [
        token_for(&program, ORDERS).await,
        token_for(&program, "urn:stock").await,
        program.token().await,
        token_for(&other, ORDERS).await,
    ];
    for (asker, knows) in [
        (&orders, [true, false, false, true]),
        (&stock, [false, true, false, false]),
        (&own, [false, false, true, false]),
        (&program, [true, true, true, false]),
        (&other, [false, false, false, true]),
    ] {
        for (at, (token, knows)) in tokens.iter().zip(knows).enumerate() {
            let said = said_of(asker, token).await;
            assert_eq!(said != DEAD, knows, "{} about {at}: {said}", asker.client_id);
        }
    }
    let seen: Value = serde_json::from_str(&said_of(&orders, &tokens[3]).await).unwrap();
    for name in ["scope", "client_id", "exp", "iat", "sub", "aud", "iss", "jti"] {
        assert_eq!(seen[name], claims(&tokens[3])[name], "{name}");
    }
    let basic =
        format!("token={}&client_id={}&client_secret={}", tokens[0], orders.client_id, orders.client_secret);
    let in_body = world.stranger().request(Method::POST, "/oauth/introspect");
    let in_body = in_body.header("content-type", crate::support::FORM).body(basic).send().await.unwrap();
    assert_eq!(json_of(in_body).await["active"], true, "in the body as well");
    // The keys of an API open nothing else.
    for endpoint in ["token", "revoke"] {
        let form = [("grant_type", "client_credentials"), ("token", &*tokens[0])];
        oauth_error(orders.oauth(endpoint, &form).await, 401, "invalid_client").await;
    }
    assert!(said_of(&orders, &tokens[0]).await != DEAD);
}

async fn protocol21_a_token_for_another_api_opens_nothing_here(world: World) {
    let maria = world.maria().await;
    let program = maria.generate().await;
    registered(&maria, &Orders { scopes: &[("users:read", "The same word")], ..Orders::default() }).await;
    let token = token_for(&program, ORDERS).await;
    for path in ["/api/v1/me", "/api/v1/users", "/api/v1/audit", "/api/v1/apis"] {
        let response = program.with(&token, Method::GET, path).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{path}");
        let challenge = response.headers()["www-authenticate"].to_str().unwrap().to_owned();
        assert!(challenge.contains("error=\"invalid_token\""), "{challenge}");
    }
    assert!(program.is_active(&token).await, "it is good, elsewhere");
}

async fn protocol24_a_token_for_any_api_is_taken_back_by_its_own_client(world: World) {
    let maria = world.maria().await;
    let program = maria.generate().await;
    let other = world.person("joao@acme.example", Role::SuperAdmin).await.generate().await;
    let id = registered(&maria, &Orders::default()).await;
    let orders = key_of(&maria, &id, "").await;
    let token = token_for(&program, ORDERS).await;
    oauth_error(other.oauth("revoke", &[("token", &token)]).await, 400, "unauthorized_client").await;
    assert!(orders.is_active(&token).await);
    assert_eq!(program.oauth("revoke", &[("token", &token)]).await.status(), StatusCode::OK);
    assert!(!orders.is_active(&token).await);
}

async fn a_change_is_for_tokens_from_then_on(world: World) {
    let maria = world.maria().await;
    let program = maria.generate().await;
    let id = registered(&maria, &Orders::default()).await;
    let token = token_for(&program, ORDERS).await;
    let mark = world.last_record().await;
    let path = format!("/api/v1/apis/{id}");
    let change = json!({
        "name": "Orders, again", "lifespan_seconds": 60, "requires_dpop": false, "algorithm": "ES256",
        "scopes": [{ "name": "orders:read", "description": "Read orders" }],
    });
    let changed = maria.request(Method::POST, &path).json(&change).send().await.unwrap();
    assert_eq!(json_of(changed).await["identifier"], ORDERS, "it stays");
    let body = json_of(ask_for(&program, ORDERS, "").await).await;
    assert_eq!((&body["scope"], &body["expires_in"]), (&"orders:read".into(), &60.into()));
    assert!(said_of(&program, &token).await.contains("orders:write"), "tokens of before keep what they have");
    let records = world.records_after(mark).await;
    assert_eq!((records.len(), records[0].event.as_str(), records[0].subject.as_str()), (1, "api.change", ORDERS));
    let told: Value = serde_json::from_str(&records[0].details).unwrap();
    assert_eq!(told["lifespan_seconds"], "3600 -> 60");
    assert_eq!(told["scopes"], "orders:read orders:write -> orders:read");
    // The same again changes nothing and leaves no record.
    maria.request(Method::POST, &path).json(&change).send().await.unwrap();
    assert_eq!(world.told_after(mark).await.len(), 1);
}

async fn c11_a_removed_api_has_no_active_token_on_any_node(world: World) {
    let node = world.another_node().await;
    let maria = world.maria().await;
    let program = maria.generate().await;
    let id = registered(&maria, &Orders::default()).await;
    let orders = key_of(&maria, &id, "").await;
    let (token, own) = (token_for(&program, ORDERS).await, program.token().await);
    assert!(orders.at(&node).is_active(&token).await);
    assert_eq!(remove(&maria, &id).await.status(), StatusCode::NO_CONTENT);
    for place in [&world, &node] {
        assert_eq!(said_of(&program.at(place), &token).await, DEAD);
        oauth_error(ask_for(&program.at(place), ORDERS, "").await, 400, "invalid_target").await;
        let asked = orders.at(place).oauth("introspect", &[("token", &token)]).await;
        oauth_error(asked, 401, "invalid_client").await;
        assert!(program.at(place).is_active(&own).await, "others are as they were");
    }
    assert_eq!(remove(&maria, &id).await.status(), StatusCode::NOT_FOUND);
    assert_eq!(make_key(&maria, &id, "").await.status(), StatusCode::NOT_FOUND);
    // The same identifier, registered again, is another API.
    let again = registered(&maria, &Orders::default()).await;
    assert_eq!(said_of(&program, &token).await, DEAD);
    assert_eq!(said_of(&key_of(&maria, &again, "").await, &token).await, DEAD);
    let (_, used) = maria.page("/account/credentials/use").await;
    assert!(used.contains("API removed") && used.contains(ORDERS), "{used}");
    world.log_is_whole().await;
}

async fn t4_reading_takes_a_scope_and_writing_a_session(world: World) {
    let maria = world.maria().await;
    let program = maria.generate().await;
    let id = registered(&maria, &Orders::default()).await;
    let key = key_of(&maria, &id, "").await;
    let narrow = json_of(ask_for(&program, "", "apis:read").await).await["access_token"].clone();
    let (all, narrow) = (program.token().await, narrow.as_str().unwrap().to_owned());
    let weak = json_of(ask_for(&program, "", "users:read").await).await["access_token"].clone();
    for path in ["/api/v1/apis".to_owned(), format!("/api/v1/apis/{id}")] {
        let seen = program.with(&narrow, Method::GET, &path).send().await.unwrap();
        let text = seen.text().await.unwrap();
        assert!(text.contains(ORDERS) && text.contains(&key.client_id) && !text.contains("pck_"), "{text}");
        let refused = program.with(weak.as_str().unwrap(), Method::GET, &path).send().await.unwrap();
        assert_eq!(json_of(refused).await["code"], "insufficient_scope");
    }
    for path in ["", "/{id}", "/{id}/remove", "/{id}/keys", "/{id}/keys/{key}/remove"] {
        let path = path.replace("{id}", &id).replace("{key}", &key.client_id);
        let request = program.with(&all, Method::POST, &format!("/api/v1/apis{path}"));
        let refused =
            request.json(&Orders { identifier: "urn:x", ..Orders::default() }.json()).send().await.unwrap();
        assert_eq!(refused.status(), StatusCode::FORBIDDEN, "{path}");
        assert_eq!(json_of(refused).await["code"], "not_with_a_token", "{path}");
    }
    assert_eq!(world.app.store.read().await.unwrap().apis().await.unwrap().len(), 2);
    assert!(key.is_active(&token_for(&program, ORDERS).await).await);
}

async fn the_own_api_is_the_first_and_stays_as_it_is(world: World) {
    let mark = world.records_after(0).await;
    let made: Vec<_> = mark.iter().filter(|r| r.event == "api.register").collect();
    assert_eq!((made.len(), made[0].by.0.as_str()), (1, "server"), "made at the start, on record");
    world.another_node().await;
    let maria = world.maria().await;
    registered(&maria, &Orders { name: "A", ..Orders::default() }).await;
    let all = json_of(maria.get("/api/v1/apis").await).await["apis"].clone();
    assert_eq!(all.as_array().unwrap().len(), 2, "once, however many nodes start");
    assert_eq!((&all[0]["own"], &all[1]["own"]), (&true.into(), &false.into()));
    assert_eq!(all[0]["identifier"], format!("{}/api/v1", world.url));
    assert_eq!(all[0]["lifespan_seconds"], 86_400);
    let id = all[0]["id"].as_str().unwrap();
    let change =
        json!({ "name": "x", "scopes": [], "lifespan_seconds": 60, "requires_dpop": true, "algorithm": "ES256" });
    let changed = maria.request(Method::POST, &format!("/api/v1/apis/{id}")).json(&change).send().await.unwrap();
    assert_eq!(
        (changed.status(), json_of(changed).await["code"].clone()),
        (StatusCode::CONFLICT, "own_api".into())
    );
    assert_eq!(remove(&maria, id).await.status(), StatusCode::CONFLICT);
    assert_eq!(maria.get(&format!("/apis/{id}/remove")).await.status(), StatusCode::CONFLICT);
    let token = maria.generate().await.token().await;
    assert!(key_of(&maria, id, "").await.is_active(&token).await, "it has keys like any other");
}

async fn every_wrong_field_is_named_and_nothing_is_done(world: World) {
    let maria = world.maria().await;
    registered(&maria, &Orders::default()).await;
    let mark = world.last_record().await;
    let post = async |body: Value| maria.request(Method::POST, "/api/v1/apis").json(&body).send().await.unwrap();
    let wrong = json!({
        "name": "", "identifier": "https://a.example/#x", "lifespan_seconds": 59,
        "scopes": [{ "name": "a b", "description": "x" }],
    });
    let refused = post(wrong).await;
    assert_eq!(refused.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let errors = json_of(refused).await["errors"].clone();
    let fields: Vec<&str> = errors.as_array().unwrap().iter().map(|e| e["field"].as_str().unwrap()).collect();
    assert_eq!(fields, ["name", "identifier", "scopes", "lifespan"]);
    let taken = post(Orders::default().json()).await;
    assert_eq!(json_of(taken).await["errors"][0]["field"], "identifier");
    let own = json!({ "name": "x", "identifier": format!("{}/api/v1", world.url) });
    assert_eq!(json_of(post(own).await).await["errors"][0]["field"], "identifier");
    let unknown = json!({ "name": "x", "identifier": "urn:x", "secret": "y" });
    assert_eq!(post(unknown).await.status(), StatusCode::UNPROCESSABLE_ENTITY);
    assert!(world.told_after(mark).await.is_empty());
}

async fn the_own_api_moves_with_the_address_and_takes_no_other_s_place(world: World) {
    let maria = world.maria().await;
    let moved = "https://access.acme.example";
    let orders = Orders { identifier: "https://access.acme.example/api/v1", ..Orders::default() };
    let id = registered(&maria, &orders).await;
    let mark = world.last_record().await;
    let refused = world.moved_to(moved).await.err().unwrap().code();
    assert_eq!((refused, world.last_record().await), ("internal", mark), "two would have one audience");
    assert_eq!(remove(&maria, &id).await.status(), StatusCode::NO_CONTENT);
    let mark = world.last_record().await;
    world.moved_to(moved).await.unwrap();
    let records = world.records_after(mark).await;
    assert_eq!((records.len(), records[0].event.as_str()), (1, "api.change"));
    assert!(records[0].details.contains(&format!("{}/api/v1 -> {moved}/api/v1", world.url)), "{records:?}");
    world.moved_to(moved).await.unwrap();
    assert_eq!(world.last_record().await, mark + 1, "once");
}

async fn c11_tokens_from_before_there_were_apis_are_for_the_own_one(world: World) {
    let program = world.maria().await.generate().await;
    let token = program.token().await;
    // What the migration does to the records that are there.
    world.sql("DROP INDEX issued_tokens_revoked; ALTER TABLE issued_tokens DROP COLUMN api_id").await;
    let migration = match &world.database {
        portcullis_store::Database::Sqlite(_) => include_str!("../../../store/migrations/sqlite/0003_apis.sql"),
        portcullis_store::Database::Postgres(_) => {
            include_str!("../../../store/migrations/postgres/0003_apis.sql")
        }
    };
    world.sql(&migration[migration.find("ALTER TABLE issued_tokens").unwrap()..]).await;
    let node = world.another_node().await;
    assert!(program.at(&node).is_active(&token).await && node.watcher().await.is_active(&token).await);
    let me = program.at(&node).with(&token, Method::GET, "/api/v1/me").send().await.unwrap();
    assert_eq!(me.status(), StatusCode::OK);
}
