//! The audit log: filters and pages, hostile text, retention, the chain.

use std::collections::BTreeSet;

use jiff::SignedDuration;
use portcullis_domain::accounts::Role;
use reqwest::{Method, StatusCode};
use serde_json::Value;
use sqlx::{Connection, Executor, SqliteConnection, sqlite::SqliteConnectOptions};

use crate::support::{PASSWORD, Person, World, json, on_both, process::Process};

on_both! {
    the_log_is_paged_without_gaps_and_without_repeats
    protocol44_a_forged_cursor_is_refused
    the_log_is_filtered_by_event_outcome_actor_subject_and_time
    protocol42_hostile_text_is_one_escaped_record
    l1_retention_drops_old_records_and_keeps_the_chain_whole
}

const MARIA: &str = "maria@acme.example";

async fn api(person: &Person, query: &str) -> (StatusCode, Value) {
    let response = person.get(&format!("/api/v1/audit?{query}")).await;
    (response.status(), json(response).await)
}

fn seqs(page: &Value) -> Vec<i64> {
    page["records"].as_array().unwrap().iter().map(|r| r["seq"].as_i64().unwrap()).collect()
}

fn link<'a>(page: &'a str, direction: &str) -> Option<String> {
    let hrefs = page.split("href=\"").skip(1).filter_map(|p: &'a str| p.split('"').next());
    let pages = hrefs.filter(|h| h.starts_with("/audit?") && h.contains(&format!("{direction}=")));
    pages.map(|h| h.replace("&#38;", "&").replace("&amp;", "&")).next()
}

/// Records enough for three pages.
async fn many(world: &World) -> Person {
    let maria = world.maria().await;
    for i in 0..120 {
        world.pass(SignedDuration::from_secs(1));
        let form = [("name", &*format!("Maria {i}")), ("language", "en-001"), ("time_zone", "UTC")];
        assert_eq!(maria.post("/account/profile", &form).await.status(), StatusCode::SEE_OTHER);
    }
    maria
}

async fn the_log_is_paged_without_gaps_and_without_repeats(world: World) {
    let maria = many(&world).await;
    let last = world.last_record().await;
    let (mut seen, mut query) = (Vec::new(), "limit=50".to_owned());
    loop {
        let (status, page) = api(&maria, &query).await;
        assert_eq!(status, StatusCode::OK);
        seen.extend(seqs(&page));
        // What is added meanwhile moves nothing.
        maria.get("/account/credentials/use").await;
        maria
            .post(
                "/account/profile",
                &[("name", &*seen.len().to_string()), ("language", "en-001"), ("time_zone", "UTC")],
            )
            .await;
        let Some(next) = page["next"].as_str() else { break };
        query = format!("limit=50&cursor={next}");
    }
    assert_eq!(seen, (1..=last).rev().collect::<Vec<_>>());

    let (_, first) = maria.page("/audit?event=profile.change").await;
    assert!(link(&first, "newer").is_none());
    let older = link(&first, "older").expect("older ones");
    assert!(older.contains("event=profile.change"), "the filter stays: {older}");
    let (_, second) = maria.page(&older).await;
    let newer = link(&second, "newer").expect("newer ones");
    let (status, back) = maria.page(&newer).await;
    assert_eq!(status, StatusCode::OK);
    let rows = |page: &str| page.matches("data-label=\"When\"").count();
    assert_eq!((rows(&first), rows(&second), rows(&back)), (50, 50, 50));
    assert!(back.contains("name: ") && back.contains("Profile change"));
}

async fn protocol44_a_forged_cursor_is_refused(world: World) {
    let maria = many(&world).await;
    let ines = world.user("ines@acme.example", Role::User).await;
    let (_, page) = api(&maria, "limit=1").await;
    let good = page["next"].as_str().unwrap().to_owned();
    let (_, users) = (0, json(maria.get("/api/v1/users?limit=1").await).await);
    let of_another_list = users["next"].as_str().unwrap().to_owned();
    let mut altered = good.clone().into_bytes();
    altered[3] = if altered[3] == b'A' { b'B' } else { b'A' };
    let altered = String::from_utf8(altered).unwrap();
    let cut = good[..good.len() - 1].to_owned();
    for forged in [
        "",
        "1",
        "AAAA",
        "%00",
        "' OR 1=1",
        &altered,
        &cut,
        &of_another_list,
        &format!("{good}A"),
        &ines.id.to_string(),
    ] {
        let (status, problem) = api(&maria, &format!("cursor={forged}")).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{forged}: {problem}");
        assert_eq!(problem["errors"][0]["field"], "cursor");
        for direction in ["older", "newer"] {
            let (status, page) = maria.page(&format!("/audit?{direction}={forged}")).await;
            assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{direction}={forged}");
            assert!(page.contains("This page link is not valid."), "{page}");
        }
        let users = maria.get(&format!("/api/v1/users?cursor={}", forged.replace(&of_another_list, &good))).await;
        assert_eq!(users.status(), StatusCode::UNPROCESSABLE_ENTITY, "{forged}");
    }
    assert_eq!(api(&maria, &format!("cursor={good}")).await.0, StatusCode::OK);
}

async fn the_log_is_filtered_by_event_outcome_actor_subject_and_time(world: World) {
    let maria = world.maria().await;
    let program = maria.generate().await;
    let from = world.clock.now() + SignedDuration::from_mins(10);
    world.pass(SignedDuration::from_mins(20));
    let token = program.token().await;
    program.with(&token, Method::POST, "/api/v1/users/me/credential/revoke").send().await.unwrap();
    let wrong = [("email", MARIA), ("password", "wrong")];
    world.stranger().request(Method::POST, "/sign-in").form(&wrong).send().await.unwrap();
    maria.revoke().await;
    let id = world.user_of(MARIA).await.id.to_string();
    let client = &program.client_id;
    for (query, expected) in [
        ("event=sign_in".to_owned(), &["sign_in refused", "sign_in done"][..]),
        ("event=sign_in&outcome=done".to_owned(), &["sign_in done"]),
        (format!("actor={client}"), &["credential.revoke refused"]),
        ("actor=MARIA@acme.example&event=credential.revoke".to_owned(), &["credential.revoke done"]),
        (format!("actor={id}&subject={client}"), &["credential.revoke done", "credential.generate done"]),
        (format!("from={from}"), &["credential.revoke done", "sign_in refused", "credential.revoke refused"]),
        (format!("until={from}&event=sign_in"), &["sign_in done"]),
        ("actor=nobody".to_owned(), &[]),
        ("subject=%25&actor=%5f".to_owned(), &[]),
    ] {
        let (status, page) = api(&maria, &query).await;
        assert_eq!(status, StatusCode::OK, "{query}");
        let text = |r: &Value, n: &str| r[n].as_str().unwrap().to_owned();
        let told = page["records"].as_array().unwrap().iter();
        let told: Vec<String> = told.map(|r| format!("{} {}", text(r, "event"), text(r, "outcome"))).collect();
        assert_eq!(told, expected, "{query}");
    }
    for (query, field) in
        [("event=nothing", "event"), ("outcome=maybe", "outcome"), ("limit=0", "limit"), ("limit=201", "limit")]
    {
        let (status, problem) = api(&maria, query).await;
        assert_eq!((status, &problem["errors"][0]["field"]), (StatusCode::UNPROCESSABLE_ENTITY, &field.into()));
    }
    for query in ["from=yesterday", "nonsense=1", "limit=x"] {
        assert_eq!(api(&maria, query).await.0, StatusCode::BAD_REQUEST, "{query}");
    }
    let (status, page) = maria.page("/audit?from=yesterday&actor=maria").await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(page.contains("Enter a day like") && page.contains("value=\"maria\""), "what was typed is kept");
    let day = world.clock.now().strftime("%Y-%m-%d").to_string();
    let (_, page) = maria.page(&format!("/audit?from={day}&to={day}&event=credential.generate")).await;
    assert!(page.contains("Generation of credentials") && page.contains(client.as_str()));
    let (_, page) = maria.page("/audit?to=2020-01-01").await;
    assert!(page.contains("No record matches."));
}

async fn protocol42_hostile_text_is_one_escaped_record(world: World) {
    let maria = world.maria().await;
    let hostile = "<script>alert(1)</script>\"'},{\"event\":\"forged\"";
    let form = [("name", hostile), ("language", "en-001"), ("time_zone", "UTC")];
    assert_eq!(maria.post("/account/profile", &form).await.status(), StatusCode::SEE_OTHER);
    for bad in ["a\r\nInjected: yes", "a\0b", "a\u{202e}b", "\n"] {
        let form = [("name", bad), ("language", "en-001"), ("time_zone", "UTC")];
        let refused = maria.post("/account/profile", &form).await;
        assert_eq!(refused.status(), StatusCode::UNPROCESSABLE_ENTITY, "{bad:?}");
        assert!(refused.text().await.unwrap().contains("Enter a name"), "{bad:?}");
    }
    let mark = world.last_record().await;
    let agent = "<img src=x onerror=alert(1)>\t\u{e9}{\"a\":1}";
    let wrong = [("email", "x@y.z"), ("password", "wrong")];
    let request = world.stranger().request(Method::POST, "/sign-in").form(&wrong);
    let agent = reqwest::header::HeaderValue::from_bytes(agent.as_bytes()).unwrap();
    request.header("user-agent", agent).send().await.unwrap();
    let refused =
        world.person("paulo@acme.example", Role::User).await.get("/api/v1/users/%0d%0aX/credential").await;
    assert_eq!(refused.status(), StatusCode::NOT_FOUND);
    let records = world.records_after(mark).await;
    assert_eq!(records[0].event, "sign_in");
    assert!(!records[0].user_agent.contains(char::is_control), "{:?}", records[0]);
    for path in ["/audit", "/account", "/"] {
        let (_, page) = maria.page(path).await;
        assert!(!page.contains("<script>alert") && !page.contains("<img src=x"), "protocol 35: {path}");
    }
    let (_, page) = maria.page("/account").await;
    assert!(page.contains("&#60;script&#62;alert(1)") || page.contains("&lt;script&gt;alert(1)"), "as text");
    let (_, log) = api(&maria, "event=profile.change").await;
    assert_eq!(log["records"].as_array().unwrap().len(), 1);
    assert!(log["records"][0]["details"]["name"].as_str().unwrap().contains(hostile), "{log}");
    let me = json(maria.get("/api/v1/me").await).await;
    assert_eq!(me["user"]["name"], hostile);
    for query in ["%3Cscript%3Ealert(1)", "%22%3E%3Cscript%3Ealert(1)", "%00"] {
        let (status, page) = maria.page(&format!("/audit?actor={query}&subject={query}")).await;
        assert_eq!(status, StatusCode::OK, "{query}");
        assert!(!page.contains("<script>alert"), "{query}");
        assert_eq!(maria.get(&format!("/api/v1/users?search={query}")).await.status(), StatusCode::OK, "{query}");
    }
    world.log_is_whole().await;
}

async fn l1_retention_drops_old_records_and_keeps_the_chain_whole(world: World) {
    let maria = many(&world).await;
    maria.generate().await;
    let before = world.last_record().await;
    world.app.sweep().await.unwrap();
    assert_eq!(world.last_record().await, before, "nothing is old");
    world.pass(SignedDuration::from_hours(364 * 24));
    let maria = world.sign_in(MARIA).await;
    world.pass(SignedDuration::from_hours(2 * 24));
    world.app.sweep().await.unwrap();
    let kept: BTreeSet<i64> = world.records_after(0).await.iter().map(|r| r.seq).collect();
    assert_eq!(kept, BTreeSet::from([before + 1, before + 2]));
    assert_eq!(world.told_after(before).await, ["sign_in done", "audit.trim done"]);
    world.log_is_whole().await;
    assert!(!maria.is_signed_in().await);
    let program = world.sign_in(MARIA).await.request(Method::GET, "/api/v1/users/me/credential").send().await;
    assert_eq!(program.unwrap().status(), StatusCode::OK, "the credential is no record");
    world.log_is_whole().await;
}

async fn sql(process: &Process, statement: &'static str) {
    let options = SqliteConnectOptions::new().filename(process.data("portcullis.db"));
    let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
    connection.execute(statement).await.unwrap();
    connection.close().await.unwrap();
}

#[tokio::test]
async fn l3_audit_verify_finds_an_altered_and_a_removed_record() {
    let process = Process::new(&[]);
    for i in 0..4 {
        process.super_admin(&format!("maria{i}@acme.example"), PASSWORD);
    }
    let verify = |more: &[&str]| process.run_here(&[&["audit", "verify"][..], more].concat(), "");
    let whole = verify(&[]);
    assert_eq!(whole.code, 0, "{whole:?}");
    let head = whole.out.split("Head: ").nth(1).unwrap().trim().to_owned();
    assert_eq!(verify(&["--head", &head]).code, 0);
    assert_eq!(verify(&["--head", &head.to_uppercase()]).code, 0);
    assert_eq!(verify(&["--head", &format!("1:{}", head.split(':').nth(1).unwrap())]).code, 3);
    let malformed = verify(&["--head", "x"]);
    assert!(malformed.code == 1 && malformed.err.contains("NUMBER:HASH"), "{malformed:?}");
    let kept = std::fs::read(process.data("portcullis.db")).unwrap();
    for statement in [
        "UPDATE audit_records SET subject = 'somebody else' WHERE seq = 3",
        "UPDATE audit_records SET at = at + 1 WHERE seq = 2",
        "DELETE FROM audit_records WHERE seq = 3",
        "DELETE FROM audit_records WHERE seq = (SELECT MAX(seq) FROM audit_records)",
        "UPDATE audit_head SET seq = 2",
    ] {
        sql(&process, statement).await;
        let broken = verify(&[]);
        assert_eq!(broken.code, 3, "{statement}: {broken:?}");
        assert!(
            broken.err.contains("The audit log is BROKEN") && broken.out.is_empty(),
            "{statement}: {broken:?}"
        );
        for file in ["portcullis.db-wal", "portcullis.db-shm"] {
            let _ = std::fs::remove_file(process.data(file));
        }
        std::fs::write(process.data("portcullis.db"), &kept).unwrap();
    }
    assert_eq!(verify(&[]).code, 0);
}
