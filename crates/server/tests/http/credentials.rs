//! Generating, looking at and revoking a credential, in the console and by the API.

use jiff::SignedDuration;
use portcullis::routes::all;
use portcullis_domain::{accounts::Role, sessions::Opened};
use portcullis_store::Database;
use reqwest::{Method, Response, StatusCode};
use sqlx::{Connection, PgConnection};

use crate::support::{FORM, PASSWORD, Person, Program, World, cookie_of, json, on_both};

on_both! {
    i3_a_connection_lost_while_generating_leaves_nothing_that_the_tab_does_not_show
    c1_a_hundred_generates_at_once_on_two_nodes_make_exactly_one
    c1_generating_twice_says_so_and_shows_no_secret
    c4_a_federated_login_cannot_generate_but_can_revoke
    c5_the_secret_is_in_the_one_answer_and_nowhere_else
    c6_after_3650_days_it_is_expired_and_generating_retires_it
    c7_a_revoked_credential_leaves_the_tab_empty_and_cannot_be_revoked_again
    c8_another_super_admin_is_refused_by_every_way_and_each_try_is_on_record
    c12_after_five_minutes_the_password_is_asked_for_and_a_wrong_one_is_counted
    c12_revoking_never_asks_for_the_password
    c13_the_tab_shows_when_from_where_and_by_what_it_was_used
    t4_a_token_neither_generates_nor_revokes_and_the_try_is_on_record
    a_stale_tab_does_not_revoke_a_newer_credential
    recent_use_pages_by_cursor_and_refuses_a_forged_one
}

const MARIA: &str = "maria@acme.example";
const TAB: &str = "/account/credentials";
const GENERATE: &str = "/account/credentials/generate";
const REVOKE: &str = "/account/credentials/revoke";
const API: &str = "/api/v1/users/me/credential";

async fn generate(person: &Person) -> Response {
    person.request(Method::POST, &format!("{API}/generate")).send().await.unwrap()
}

fn secret_in(page: &str) -> Option<String> {
    let from = page.find("pcs_")?;
    Some(page[from..].chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect())
}

async fn c1_a_hundred_generates_at_once_on_two_nodes_make_exactly_one(world: World) {
    let other = world.another_node().await;
    let maria = world.maria().await;
    let mut all = tokio::task::JoinSet::new();
    for i in 0..100 {
        let maria = if i % 2 == 0 { maria.at(&world) } else { maria.at(&other) };
        all.spawn(async move {
            let response = if i % 4 < 2 { generate(&maria).await } else { maria.post(GENERATE, &[]).await };
            let status = response.status();
            (status, secret_in(&response.text().await.unwrap()))
        });
    }
    let answers = all.join_all().await;
    let made: Vec<_> = answers.iter().filter(|(status, _)| *status == StatusCode::CREATED).collect();
    assert_eq!(made.len(), 1, "C-1: {answers:?}");
    assert!(answers.iter().all(|(s, secret)| (*s == StatusCode::CREATED) == secret.is_some()), "{answers:?}");
    let refused = answers.iter().filter(|(status, _)| *status == StatusCode::CONFLICT).count();
    assert_eq!(refused, 99, "the others are told why: {answers:?}");
    let told = world.told_after(0).await;
    let count = |what: &str| told.iter().filter(|t| *t == what).count();
    assert_eq!(count("credential.generate done"), 1);
    assert_eq!(count("credential.generate refused already_active"), 99);
    world.log_is_whole().await;
}

async fn c1_generating_twice_says_so_and_shows_no_secret(world: World) {
    let maria = world.maria().await;
    let first = maria.post(GENERATE, &[]).await;
    assert_eq!(first.status(), StatusCode::CREATED);
    assert_eq!(first.headers()["cache-control"], "no-store", "protocol 32");
    let first = first.text().await.unwrap();
    let secret = secret_in(&first).unwrap();
    assert!(first.contains("Copy the Client Secret now."));
    let again = maria.post(GENERATE, &[]).await;
    assert_eq!(again.status(), StatusCode::CONFLICT);
    let again = again.text().await.unwrap();
    assert!(again.contains("You already have an active credential."));
    assert!(!again.contains(&secret) && secret_in(&again).is_none(), "C-5");
    let api = generate(&maria).await;
    assert_eq!(api.status(), StatusCode::CONFLICT);
    let problem = json(api).await;
    assert_eq!(problem["code"], "already_active");
    assert!(!problem.to_string().contains("pcs_"));
    let reloaded = maria.get(GENERATE).await;
    assert_eq!(reloaded.status(), StatusCode::SEE_OTHER, "protocol 32: a reload leads to the tab");
    assert_eq!(reloaded.headers()["location"], TAB);
}

async fn c4_a_federated_login_cannot_generate_but_can_revoke(world: World) {
    let user = world.user(MARIA, Role::SuperAdmin).await;
    let federated = world.session_opened(&user, Opened::Provider).await;
    let mark = world.last_record().await;
    let (status, tab) = federated.page(TAB).await;
    assert_eq!(status, StatusCode::OK);
    assert!(tab.contains("Security credentials cannot be generated from a federated login"));
    assert!(!tab.contains("Generate Credentials</button>"));
    let refused = generate(&federated).await;
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    assert_eq!(json(refused).await["code"], "federated_login");
    for form in [&[][..], &[("password", PASSWORD)]] {
        // Giving a password renews the id of a session, so each try has a session of its own.
        let refused = world.session_opened(&user, Opened::Provider).await.post(GENERATE, form).await;
        assert_eq!(refused.status(), StatusCode::FORBIDDEN, "{form:?}");
        assert!(secret_in(&refused.text().await.unwrap()).is_none());
    }
    let told = world.told_after(mark).await;
    let refusals = told.iter().filter(|t| *t == "credential.generate refused federated_login").count();
    assert_eq!(refusals, 3, "{told:?}");
    assert!(!told.contains(&"credential.generate done".to_owned()));
    let local = world.sign_in(MARIA).await;
    let program = local.generate().await;
    assert_eq!(federated.post(REVOKE, &[("client_id", &program.client_id)]).await.status(), StatusCode::SEE_OTHER);
    assert_eq!(program.ask().await.status(), StatusCode::UNAUTHORIZED);
}

/// Everything that a database holds, as bytes.
async fn everything_in(database: &Database) -> Vec<u8> {
    match database {
        Database::Sqlite(file) => {
            let mut bytes = std::fs::read(file).unwrap();
            let mut log = file.clone().into_os_string();
            log.push("-wal");
            bytes.extend(std::fs::read(log).unwrap_or_default());
            bytes
        }
        Database::Postgres(url) => {
            let mut connection = PgConnection::connect(url).await.unwrap();
            let tables: Vec<(String,)> =
                sqlx::query_as("SELECT tablename::text FROM pg_tables WHERE schemaname = 'public'")
                    .fetch_all(&mut connection)
                    .await
                    .unwrap();
            assert!(tables.len() > 6);
            let mut all = String::new();
            for (table,) in tables {
                let sql = sqlx::AssertSqlSafe(format!("SELECT t::text FROM {table} t"));
                let rows: Vec<(String,)> = sqlx::query_as(sql).fetch_all(&mut connection).await.unwrap();
                all.extend(rows.into_iter().map(|(row,)| row + "\n"));
            }
            all.into_bytes()
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn holds(haystack: &[u8], needle: &str) -> bool {
    haystack.windows(needle.len()).any(|w| w == needle.as_bytes())
}

async fn c5_the_secret_is_in_the_one_answer_and_nowhere_else(world: World) {
    use base64::{Engine, prelude::*};
    let maria = world.maria().await;
    let ines = world.person("ines@acme.example", Role::SuperAdmin).await;
    let program = maria.generate().await;
    let token = program.token().await;
    let user = world.user_of(MARIA).await;
    let held = world.app.store.read().await.unwrap().held_credential(user.id).await.unwrap().unwrap();
    let digest = held.digest.bytes;
    let mut never = vec![program.client_secret.clone(), hex(program.client_secret.as_bytes()), hex(&digest)];
    never.extend([BASE64_URL_SAFE_NO_PAD.encode(digest), BASE64_STANDARD.encode(digest)]);
    for route in all().into_iter().filter(|r| r.method == Method::GET) {
        for user in ["me".to_owned(), user.id.to_string()] {
            let path = route.path.replace("{user}", &user).replace("{token}", "x").replace("{name}", "console.js");
            let answers = [
                maria.get(&path).await,
                ines.get(&path).await,
                program.with(&token, Method::GET, &path).send().await.unwrap(),
            ];
            for answer in answers {
                let headers = format!("{:?}", answer.headers());
                let body = answer.text().await.unwrap();
                for text in &never {
                    assert!(!headers.contains(text) && !body.contains(text), "C-5, protocol 33: {path}");
                }
            }
        }
    }
    let bytes = everything_in(&world.database).await;
    assert!(holds(&bytes, &program.client_id), "the search finds what is there");
    for text in [&program.client_secret, &hex(program.client_secret.as_bytes()), &token] {
        assert!(!holds(&bytes, text), "C-5, L-2: at rest there is no secret and no token");
    }
    let password = hex(PASSWORD.as_bytes());
    assert!(!holds(&bytes, PASSWORD) && !holds(&bytes, &password));
    let cookie = maria.cookie.split_once('=').unwrap().1;
    assert!(!holds(&bytes, cookie) && !holds(&bytes, &hex(cookie.as_bytes())), "L-2: only the session's digest");
}

async fn c6_after_3650_days_it_is_expired_and_generating_retires_it(world: World) {
    let maria = world.maria().await;
    let old = maria.generate().await;
    let token = old.token().await;
    world.pass(SignedDuration::from_hours(3650 * 24) - SignedDuration::from_secs(1));
    assert_eq!(old.ask().await.status(), StatusCode::OK, "C-6: to the last second");
    world.pass(SignedDuration::from_secs(1));
    let refused = old.ask().await;
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    assert!(json(refused).await["error_description"].as_str().unwrap().contains("expired"));
    let maria = world.sign_in(MARIA).await;
    let (_, tab) = maria.page(TAB).await;
    assert!(tab.contains("Expired") && tab.contains(&old.client_id) && tab.contains("Generate Credentials"));
    assert_eq!(json(maria.get(API).await).await["standing"], "expired");
    let mark = world.last_record().await;
    let new = maria.generate().await;
    assert_ne!(new.client_id, old.client_id);
    assert_eq!(world.told_after(mark).await, ["credential.retire done", "credential.generate done"]);
    assert_eq!(old.ask().await.status(), StatusCode::UNAUTHORIZED, "the old one stays dead");
    assert!(new.ask().await.status().is_success() && !new.is_active(&token).await);
}

async fn c7_a_revoked_credential_leaves_the_tab_empty_and_cannot_be_revoked_again(world: World) {
    let maria = world.maria().await;
    let program = maria.generate().await;
    let (_, confirm) = maria.page(REVOKE).await;
    assert!(confirm.contains("Revoke your security credentials?") && confirm.contains(">Remove</button>"));
    let form = [("client_id", program.client_id.as_str())];
    let mark = world.last_record().await;
    let done = maria.post(REVOKE, &form).await;
    assert_eq!(done.status(), StatusCode::SEE_OTHER);
    let to = done.headers()["location"].to_str().unwrap().to_owned();
    let (_, tab) = maria.page(&to).await;
    assert!(tab.contains("No security credentials") && tab.contains("Generate Credentials"), "C-7");
    assert!(tab.contains("Credentials revoked."));
    let again = maria.post(REVOKE, &form).await;
    assert_eq!(again.status(), StatusCode::NOT_FOUND);
    assert!(again.text().await.unwrap().contains("had been revoked already"));
    let expected = ["credential.revoke done", "credential.revoke refused nothing_to_revoke"];
    assert_eq!(world.told_after(mark).await, expected);
    assert_eq!(maria.revoke().await.status(), StatusCode::NOT_FOUND);
    assert_eq!(maria.get(API).await.status(), StatusCode::NOT_FOUND);
    let (_, forged) = maria.page(&format!("{TAB}?revoked=%3Cscript%3Ealert(1)")).await;
    assert!(!forged.contains("<script>alert"), "protocol 35");
}

async fn c8_another_super_admin_is_refused_by_every_way_and_each_try_is_on_record(world: World) {
    let maria = world.maria().await;
    let program = maria.generate().await;
    let ines = world.person("ines@acme.example", Role::SuperAdmin).await;
    let own = ines.generate().await;
    let id = world.user_of(MARIA).await.id.to_string();
    let ines_id = world.user_of("ines@acme.example").await.id.to_string();
    let theirs = format!("/api/v1/users/{id}/credential");
    let client = program.client_id.as_str();
    let tries = [
        (ines.request(Method::POST, &format!("{theirs}/revoke")), 403, "credential.revoke refused not_owner"),
        (
            ines.request(Method::POST, REVOKE).form(&[("client_id", client)]),
            403,
            "credential.revoke refused not_owner",
        ),
        (ines.request(Method::GET, &theirs), 403, "access.refuse refused not_owner"),
        (ines.request(Method::POST, &format!("{theirs}/generate")), 403, "access.refuse refused not_owner"),
        (
            ines.request(Method::POST, REVOKE).form(&[("client_id", "pcc_00000000000000000000")]),
            404,
            "credential.revoke refused nothing_to_revoke",
        ),
        (
            ines.request(Method::POST, REVOKE).form(&[("client_id", "pcc_\0' OR 1=1")]),
            404,
            "credential.revoke refused nothing_to_revoke",
        ),
    ];
    for (request, status, told) in tries {
        let mark = world.last_record().await;
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status().as_u16(), status, "C-8: {told}");
        assert!(!answer.text().await.unwrap().contains("pcs_"));
        assert_eq!(world.told_after(mark).await, [told], "C-8: exactly once");
        assert_eq!(world.records_after(mark).await[0].by.1, ines_id);
    }
    assert_eq!(program.ask().await.status(), StatusCode::OK, "Maria's still works");
    assert_eq!(own.ask().await.status(), StatusCode::OK, "and so does Ines's own");
    for (at, status) in [("not-a-uuid", 404), ("00000000-0000-7000-8000-000000000000", 403)] {
        let answer = ines.request(Method::POST, &format!("/api/v1/users/{at}/credential/revoke")).send().await;
        assert_eq!(answer.unwrap().status().as_u16(), status, "{at}");
    }
}

async fn c12_after_five_minutes_the_password_is_asked_for_and_a_wrong_one_is_counted(world: World) {
    let maria = world.maria().await;
    world.pass(SignedDuration::from_secs(300));
    let refused = generate(&maria).await;
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    assert_eq!(json(refused).await["code"], "password_needed");
    let (_, tab) = maria.page(TAB).await;
    assert!(tab.contains("name=\"password\""), "C-12: the tab asks in place");
    let without = maria.post(GENERATE, &[("password", "")]).await;
    assert_eq!(without.status(), StatusCode::FORBIDDEN);
    let mark = world.last_record().await;
    for _ in 0..5 {
        let wrong = maria.post(GENERATE, &[("password", "wrong horse battery")]).await;
        assert_eq!(wrong.status(), StatusCode::UNAUTHORIZED);
        let page = wrong.text().await.unwrap();
        assert!(page.contains("This is not your password.") && !page.contains("wrong horse"), "{page}");
    }
    let told = world.told_after(mark).await;
    assert_eq!(told, ["password.confirm refused wrong_password"; 5]);
    let locked = maria.post(GENERATE, &[("password", PASSWORD)]).await;
    assert_eq!(locked.status(), StatusCode::TOO_MANY_REQUESTS, "A-8: the right one after five wrong ones");
    assert!(locked.headers().contains_key("retry-after"));
    world.pass(SignedDuration::from_mins(1));
    let done = maria.post(GENERATE, &[("password", PASSWORD)]).await;
    assert_eq!(done.status(), StatusCode::CREATED);
    let cookie = cookie_of(&done).expect("protocol 30: a new session id at step-up");
    assert!(secret_in(&done.text().await.unwrap()).is_some());
    assert!(!maria.is_signed_in().await, "the old id is dead");
    let renewed = Person { cookie, ..maria };
    assert!(renewed.is_signed_in().await);
    assert_eq!(renewed.revoke().await.status(), StatusCode::OK);
    assert_eq!(generate(&renewed).await.status(), StatusCode::CREATED, "the password is recent now");
}

async fn c12_revoking_never_asks_for_the_password(world: World) {
    let maria = world.maria().await;
    maria.generate().await;
    world.pass(SignedDuration::from_mins(29));
    assert_eq!(maria.revoke().await.status(), StatusCode::OK);
}

async fn c13_the_tab_shows_when_from_where_and_by_what_it_was_used(world: World) {
    let maria = world.maria().await;
    let program = maria.generate().await;
    let (_, tab) = maria.page(TAB).await;
    assert!(tab.contains("Never") && tab.contains("0 valid now"));
    program.token().await;
    world.pass(SignedDuration::from_mins(3));
    let token = program.token().await;
    let used_at = world.clock.now().to_string();
    world.pass(SignedDuration::from_mins(2));
    let view = json(maria.get(API).await).await;
    assert_eq!(view["client_id"], program.client_id.as_str());
    assert_eq!(view["generated_at"], crate::support::start_instant().to_string());
    let lasts = crate::support::start_instant() + SignedDuration::from_hours(3650 * 24);
    assert_eq!(view["expires_at"], lasts.to_string());
    assert_eq!(view["last_used_at"], used_at);
    assert_eq!((&view["last_used_from"], &view["last_used_by"]), (&"127.0.0.1".into(), &"test/1".into()));
    assert_eq!((&view["valid_tokens"], &view["standing"]), (&2.into(), &"active".into()));
    assert!(view.get("client_secret").is_none());
    let (_, tab) = maria.page(TAB).await;
    for part in ["2 valid now", "from 127.0.0.1", "test/1", "2 minutes ago", "Shown once, when it was generated"] {
        assert!(tab.contains(part), "C-13: {part} is not in {tab}");
    }
    program.oauth("revoke", &[("token", &token)]).await;
    assert_eq!(json(maria.get(API).await).await["valid_tokens"], 1);
    world.pass(SignedDuration::from_hours(24));
    let maria = world.sign_in(MARIA).await;
    assert_eq!(json(maria.get(API).await).await["valid_tokens"], 0);
}

async fn t4_a_token_neither_generates_nor_revokes_and_the_try_is_on_record(world: World) {
    let maria = world.maria().await;
    let program = maria.generate().await;
    let token = program.token().await;
    for (act, event) in [("generate", "credential.generate"), ("revoke", "credential.revoke")] {
        let mark = world.last_record().await;
        let refused = program.with(&token, Method::POST, &format!("{API}/{act}")).send().await.unwrap();
        assert_eq!(refused.status(), StatusCode::FORBIDDEN);
        let text = refused.text().await.unwrap();
        assert!(text.contains("not_with_a_token") && !text.contains("pcs_"));
        assert_eq!(world.told_after(mark).await, [format!("{event} refused not_with_a_token")]);
        let record = &world.records_after(mark).await[0];
        assert_eq!(record.by, ("client".to_owned(), program.client_id.clone()));
    }
    let end = program.with(&token, Method::POST, "/api/v1/session/end").send().await.unwrap();
    assert_eq!(end.status(), StatusCode::UNAUTHORIZED, "a token has no session to end");
    for page in ["/", "/account", TAB, "/audit"] {
        let answer = program.with(&token, Method::GET, page).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::SEE_OTHER, "the console takes no token: {page}");
    }
    let both = program.with(&token, Method::GET, "/api/v1/me").header("cookie", &maria.cookie).send().await;
    assert_eq!(both.unwrap().status(), StatusCode::BAD_REQUEST, "one way of saying who is asking");
    assert_eq!(json(maria.get(API).await).await["client_id"], program.client_id.as_str());
}

async fn a_stale_tab_does_not_revoke_a_newer_credential(world: World) {
    let maria = world.maria().await;
    let old = maria.generate().await;
    maria.revoke().await;
    let new: Program = maria.generate().await;
    let stale = maria.post(REVOKE, &[("client_id", &old.client_id)]).await;
    assert_eq!(stale.status(), StatusCode::NOT_FOUND);
    let page = stale.text().await.unwrap();
    assert!(page.contains("had been revoked already") && page.contains(&new.client_id));
    assert_eq!(new.ask().await.status(), StatusCode::OK);
    assert_eq!(maria.post(REVOKE, &[("client_id", &new.client_id)]).await.status(), StatusCode::SEE_OTHER);
    assert_eq!(new.ask().await.status(), StatusCode::UNAUTHORIZED);
}

async fn recent_use_pages_by_cursor_and_refuses_a_forged_one(world: World) {
    let maria = world.maria().await;
    assert_eq!(maria.get("/account/credentials/use").await.status(), StatusCode::SEE_OTHER, "nothing to show");
    let program = maria.generate().await;
    for _ in 0..53 {
        program.token().await;
        world.pass(SignedDuration::from_secs(1));
    }
    let (_, first) = maria.page("/account/credentials/use").await;
    let count = |page: &str| page.matches("data-label=\"Issued\"").count();
    assert_eq!(count(&first), 50);
    let from = first.find("/account/credentials/use?cursor=").expect("a link to older ones");
    let link: String = first[from..].chars().take_while(|c| *c != '"').collect();
    let (status, second) = maria.page(&link).await;
    assert_eq!((status, count(&second)), (StatusCode::OK, 3));
    let mut forged = link.clone();
    let last = if forged.ends_with('A') { "B" } else { "A" };
    forged.replace_range(forged.len() - 5..forged.len() - 4, last);
    for bad in [forged.as_str(), "/account/credentials/use?cursor=", "/account/credentials/use?cursor=AAAA"] {
        let (status, page) = maria.page(bad).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "protocol 44: {bad}");
        assert!(page.contains("This page link is not valid"), "{page}");
    }
}

async fn i3_a_connection_lost_while_generating_leaves_nothing_that_the_tab_does_not_show(world: World) {
    use std::io::Write;
    let maria = world.maria().await;
    let mut left_behind = 0;
    for wait in [0, 1, 2, 4, 8, 16, 200] {
        let mut stream = std::net::TcpStream::connect(world.address).unwrap();
        let request = format!(
            "POST /account/credentials/generate HTTP/1.1\r\nHost: x\r\nCookie: {}\r\nSec-Fetch-Site: same-origin\r\n\
             Content-Type: {FORM}\r\nContent-Length: 0\r\n\r\n",
            maria.cookie
        );
        stream.write_all(request.as_bytes()).unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(wait)).await;
        drop(stream);
        // What was under way ends before the next act begins: this one waits for it.
        maria.post("/account/profile", &[("name", "Maria"), ("language", "en-US"), ("time_zone", "UTC")]).await;
        let (_, tab) = maria.page("/account/credentials").await;
        assert!(!tab.contains("pcs_"), "C-5");
        if tab.contains("No security credentials") {
            assert_eq!(maria.revoke().await.status(), StatusCode::NOT_FOUND);
            continue;
        }
        assert!(tab.contains("Revoke Credentials"), "it can be revoked: {tab}");
        assert_eq!(maria.revoke().await.status(), StatusCode::OK);
        left_behind += 1;
    }
    assert!(left_behind > 0, "the longest wait was long enough to generate one");
    world.log_is_whole().await;
}
