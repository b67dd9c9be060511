//! The outbox: into a folder, or to a mail server that takes, refuses, hangs and comes back; and
//! what the mails say, as their reader gets them.

#![allow(clippy::disallowed_methods, reason = "how long somebody waits takes a clock")]

use std::time::Duration;

use jiff::SignedDuration;
use portcullis_domain::accounts::Role;
use reqwest::{Method, StatusCode};

use crate::support::{
    Person, Stranger, World, cookie_of,
    mail::{MailServer, Manner},
    on_both, on_sqlite,
    process::Process,
};

on_both! {
    a_mail_is_sent_once_by_one_of_two_nodes_and_its_message_is_gone
    a_mail_that_is_refused_is_tried_again_for_a_day_and_then_given_up
    the_page_shows_the_outbox_without_the_mails_and_tries_again
    l2_no_link_and_no_password_is_in_the_database_or_on_a_page
}

on_sqlite! {
    without_a_mail_server_mails_are_put_into_a_private_folder
    a_mail_server_that_hangs_or_drops_blocks_no_request
    a_mail_does_not_go_in_clear_unless_the_url_says_so
    a_mail_server_whose_certificate_nobody_vouches_for_gets_nothing
    every_mail_has_both_parts_and_the_headers_of_a_machine
    protocol42_a_name_cannot_add_headers_and_is_text
    mails_go_at_once_when_the_server_runs
}

const ANA: &str = "ana@acme.example";
const FROM: (&str, &str) = ("mail_from", "\"Acme Access\" <access@acme.example>");

async fn with_server(first: &World) -> (World, MailServer) {
    let server = MailServer::start().await;
    (first.of_its_kind(&[("smtp_url", &server.url()), FROM]).await, server)
}

async fn invite(maria: &Person, email: &str) -> reqwest::Response {
    maria.post("/users/invite", &[("email", email)]).await
}

async fn a_mail_is_sent_once_by_one_of_two_nodes_and_its_message_is_gone(first: World) {
    let (world, server) = with_server(&first).await;
    let other = world.another_node().await;
    let maria = world.maria().await;
    let answer = invite(&maria, ANA).await;
    assert_eq!(answer.status(), StatusCode::SEE_OTHER, "the link is in the mail and nowhere else");
    for n in 0..5 {
        invite(&maria, &format!("u{n}@acme.example")).await;
    }
    let (a, b) = tokio::join!(world.app.send_due_mails(), other.app.send_due_mails());
    // On PostgreSQL who waited for the same mail may leave early: the rest goes with the next look.
    let rest = world.app.send_due_mails().await.unwrap();
    assert_eq!(a.unwrap() + b.unwrap() + rest, 6);
    let taken = server.taken();
    assert_eq!(taken.len(), 6);
    let (recipients, mail) = taken.iter().find(|(_, m)| m.to == ANA).unwrap();
    assert_eq!(recipients, &format!("RCPT TO:<{ANA}>"), "one address, never more");
    assert_eq!(mail.subject, "Maria Rocha invites you to Portcullis");
    assert_eq!(mail.header("From"), "\"Acme Access\" <access@acme.example>");
    let page = world.stranger().request(Method::GET, &mail.link("/activate/")).send().await.unwrap();
    assert_eq!(page.status(), StatusCode::OK);
    let mails = world.app.store.read().await.unwrap().mails(None, 9).await.unwrap();
    assert!(mails.iter().all(|m| m.sent_at.is_some() && m.tries == 1 && m.problem.is_empty()), "{mails:?}");
    assert_eq!(world.app.send_due_mails().await.unwrap() + other.app.send_due_mails().await.unwrap(), 0);
}

async fn a_mail_that_is_refused_is_tried_again_for_a_day_and_then_given_up(first: World) {
    let (world, server) = with_server(&first).await;
    let maria = world.maria().await;
    server.set(Manner::Refuses);
    invite(&maria, ANA).await;
    let state = async || world.app.store.read().await.unwrap().mails(None, 1).await.unwrap().pop().unwrap();
    let mut waited = SignedDuration::ZERO;
    for tries in 1..=9 {
        assert_eq!(world.app.send_due_mails().await.unwrap(), 0);
        let mail = state().await;
        assert_eq!(mail.tries, tries);
        assert!(mail.problem.contains("550") && mail.problem.contains("nobody here"), "{}", mail.problem);
        assert!(!mail.problem.contains("xxxxx"), "L-2: a server may quote what it was sent: {}", mail.problem);
        assert_eq!(world.app.send_due_mails().await.unwrap(), 0);
        assert_eq!(state().await.tries, tries, "not before its time");
        let Some(next) = mail.next_try_at else { break };
        waited += next.duration_since(world.clock.now());
        world.pass(next.duration_since(world.clock.now()));
    }
    assert_eq!((state().await.tries, state().await.next_try_at), (9, None), "given up");
    assert!((24..=26).contains(&waited.as_hours()), "{waited}");
    // It comes back, and a person tries again. The session of the day before is over.
    server.set(Manner::Takes);
    let maria = world.sign_in("maria@acme.example").await;
    let again = maria.post(&format!("/mail/{}/try-again", state().await.id), &[]).await;
    assert_eq!(again.headers()["location"], "/mail?done=again");
    assert_eq!(world.app.send_due_mails().await.unwrap(), 1);
    assert_eq!(server.taken().len(), 1);
    let again = maria.post(&format!("/mail/{}/try-again", state().await.id), &[]).await;
    assert_eq!(again.status(), StatusCode::NOT_FOUND, "it was sent");
}

async fn the_page_shows_the_outbox_without_the_mails_and_tries_again(first: World) {
    let (world, server) = with_server(&first).await;
    let maria = world.maria().await;
    let (_, page) = maria.page("/mail").await;
    assert!(page.contains("Nothing has been sent, and nothing waits."));
    invite(&maria, ANA).await;
    let (_, page) = maria.page("/mail").await;
    assert!(page.contains(ANA) && page.contains("Invitation") && page.contains("Waiting"), "{page}");
    server.set(Manner::Refuses);
    world.app.send_due_mails().await.unwrap();
    let (_, page) = maria.page("/mail").await;
    assert!(page.contains("Next try") && page.contains("nobody here") && page.contains("Try again"), "{page}");
    server.set(Manner::Takes);
    world.pass(SignedDuration::from_mins(2));
    for n in 0..52 {
        invite(&maria, &format!("u{n}@acme.example")).await;
    }
    world.app.send_due_mails().await.unwrap();
    let (_, page) = maria.page("/mail").await;
    assert_eq!(page.matches("<tr role=\"row\">").count(), 51);
    let older = page.split("href=\"/mail?older=").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let (_, page) = maria.page(&format!("/mail?older={older}")).await;
    assert_eq!(page.matches("<tr role=\"row\">").count(), 4);
    assert!(page.contains(ANA) && page.contains("Newest") && !page.contains("Older"));
    let forged = format!("/mail?older=A{older}");
    assert_eq!(maria.get(&forged).await.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let ana = world.person("paulo@acme.example", Role::User).await;
    assert_eq!(ana.get("/mail").await.status(), StatusCode::FORBIDDEN);
}

async fn l2_no_link_and_no_password_is_in_the_database_or_on_a_page(first: World) {
    let (world, server) = with_server(&first).await;
    server.set(Manner::Refuses);
    let maria = world.maria().await;
    invite(&maria, ANA).await;
    world.app.send_due_mails().await.unwrap();
    server.set(Manner::Takes);
    world.pass(SignedDuration::from_mins(2));
    world.app.send_due_mails().await.unwrap();
    let link = server.taken()[0].1.link("/activate/");
    let token = link.rsplit('/').next().unwrap().to_owned();
    assert_eq!(token.len(), 43, "256 bits");
    let mut seen = Vec::new();
    for page in ["/mail", "/users", "/audit", "/api/v1/users", "/api/v1/audit"] {
        let (_, text) = maria.page(page).await;
        assert!(text.contains(ANA), "{page}");
        seen.push(text);
    }
    if let portcullis_store::Database::Sqlite(path) = &world.database {
        for file in [path.clone(), path.with_extension("db-wal")] {
            seen.push(String::from_utf8_lossy(&std::fs::read(file).unwrap_or_default()).into_owned());
        }
    }
    for text in seen {
        assert!(!text.contains(&token) && !text.contains("canary-smtp-password"));
    }
}

async fn without_a_mail_server_mails_are_put_into_a_private_folder(world: World) {
    let maria = world.maria().await;
    let shown = invite(&maria, ANA).await;
    assert_eq!(shown.status(), StatusCode::OK);
    let page = shown.text().await.unwrap();
    let mail = world.mails().await.pop().unwrap();
    let link = mail.link("/activate/");
    assert!(page.contains(&link), "shown once to who invites: {page}");
    assert_eq!(mail.to, ANA);
    let id = world.user_of(ANA).await.id;
    for later in [format!("/users/{id}"), "/users".to_owned(), "/mail".to_owned()] {
        assert!(!maria.page(&later).await.1.contains(&link), "{later}");
    }
    let folder = world.app.config.data_dir.join("mail");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = |p: &std::path::Path| std::fs::metadata(p).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&folder), 0o700);
        for file in std::fs::read_dir(&folder).unwrap() {
            let path = file.unwrap().path();
            assert_eq!(mode(&path), 0o600);
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            assert!(name.starts_with("20261118T110640Z-invitation-"), "{name}");
            assert!(std::path::Path::new(&name).extension().is_some_and(|e| e == "eml"), "{name}");
        }
    }
    // A folder that cannot be written is a problem of the mail, not of the request.
    std::fs::remove_dir_all(&folder).unwrap();
    std::fs::write(&folder, "a file").unwrap();
    assert_eq!(invite(&maria, "paulo@acme.example").await.status(), StatusCode::OK);
    assert_eq!(world.app.send_due_mails().await.unwrap(), 0);
    assert!(maria.page("/mail").await.1.contains("Next try"));
}

async fn a_mail_server_that_hangs_or_drops_blocks_no_request(first: World) {
    let (world, server) = with_server(&first).await;
    let maria = world.maria().await;
    server.set(Manner::Drops);
    invite(&maria, ANA).await;
    assert_eq!(world.app.send_due_mails().await.unwrap(), 0);
    let mail = world.app.store.read().await.unwrap().mails(None, 1).await.unwrap().pop().unwrap();
    assert!(mail.next_try_at.is_some() && !mail.problem.is_empty(), "{mail:?}");
    server.set(Manner::Hangs);
    world.pass(SignedDuration::from_mins(2));
    let sending = tokio::spawn({
        let app = std::sync::Arc::clone(&world.app);
        async move { app.send_due_mails().await }
    });
    while server.connections.load(std::sync::atomic::Ordering::Relaxed) < 2 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let began = std::time::Instant::now();
    assert_eq!(invite(&maria, "paulo@acme.example").await.status(), StatusCode::SEE_OTHER);
    assert!(began.elapsed() < Duration::from_secs(5));
    sending.abort();
    // Who hung took a lease, and it ends.
    server.set(Manner::Takes);
    world.pass(SignedDuration::from_mins(3));
    assert_eq!(world.app.send_due_mails().await.unwrap(), 2);
    assert_eq!(server.taken().len(), 2);
}

async fn a_mail_does_not_go_in_clear_unless_the_url_says_so(_: World) {
    let server = MailServer::start().await;
    let url = format!("smtp://127.0.0.1:{}", server.port);
    let world = World::sqlite(&[("smtp_url", &url), FROM]).await;
    let maria = world.maria().await;
    invite(&maria, ANA).await;
    assert_eq!(world.app.send_due_mails().await.unwrap(), 0);
    assert!(server.taken().is_empty(), "the server offers no STARTTLS");
    assert!(maria.page("/mail").await.1.contains("Next try"));
}

async fn a_mail_server_whose_certificate_nobody_vouches_for_gets_nothing(_: World) {
    use tokio_rustls::{
        TlsAcceptor,
        rustls::{ServerConfig, crypto::aws_lc_rs::default_provider, pki_types::PrivatePkcs8KeyDer},
    };
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()).into();
    let tls = ServerConfig::builder_with_provider(default_provider().into())
        .with_safe_default_protocol_versions()
        .and_then(|b| b.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key))
        .unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("smtps://u:canary-smtp-password@localhost:{}", listener.local_addr().unwrap().port());
    let acceptor = TlsAcceptor::from(std::sync::Arc::new(tls));
    let shaken = tokio::spawn(async move { acceptor.accept(listener.accept().await.unwrap().0).await.is_ok() });
    let world = World::sqlite(&[("smtp_url", &url), FROM]).await;
    let maria = world.maria().await;
    invite(&maria, ANA).await;
    assert_eq!(world.app.send_due_mails().await.unwrap(), 0);
    assert!(!shaken.await.unwrap(), "the handshake was broken off");
    let mail = world.app.store.read().await.unwrap().mails(None, 1).await.unwrap().pop().unwrap();
    assert!(mail.problem.to_lowercase().contains("certificate"), "{}", mail.problem);
}

async fn every_mail_has_both_parts_and_the_headers_of_a_machine(world: World) {
    let maria = world.maria().await;
    maria.generate().await;
    world.pass(SignedDuration::from_millis(1));
    invite(&maria, ANA).await;
    let mails = world.mails().await;
    assert_eq!(mails.len(), 2);
    for mail in &mails {
        assert!(mail.text.starts_with("Hello ") && mail.text.contains("-- \n"), "{}", mail.text);
        assert!(mail.html.contains("<p") && !mail.text.contains("<p"), "{}", mail.html);
        assert_eq!(mail.header("Auto-Submitted"), "auto-generated");
        assert_eq!(mail.header("Date"), "Wed, 18 Nov 2026 11:06:40 +0000");
        assert!(mail.header("Message-ID").ends_with("@localhost>"), "{:?}", mail.headers);
        assert_eq!(mail.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case("to")).count(), 1);
        assert!(mail.raw.lines().all(|l| l.len() <= 998), "RFC 5322 §2.1.1");
    }
    assert!(!mails[0].text.contains("pcs_"), "C-5");
}

async fn protocol42_a_name_cannot_add_headers_and_is_text(_: World) {
    const NAME: &str = "<img src=x onerror=alert(1)> & \"Maria\" =?utf-8?q?=0D=0ABcc:x@y.z?=";
    let world = World::sqlite(&[("organization", "Acme\r\nBcc: x@y.z\r\n\r\n<script>1</script>")]).await;
    let maria = world.maria().await;
    maria.post("/account/profile", &[("name", NAME), ("language", "en-001"), ("time_zone", "UTC")]).await;
    let broken = [("name", "Maria\r\nBcc: x@y.z"), ("language", "en-001"), ("time_zone", "UTC")];
    assert_eq!(maria.post("/account/profile", &broken).await.status(), StatusCode::UNPROCESSABLE_ENTITY);
    invite(&maria, ANA).await;
    let mail = world.mails().await.pop().unwrap();
    let names: Vec<String> = mail.headers.iter().map(|(n, _)| n.to_lowercase()).collect();
    for name in &names {
        let known =
            ["from", "to", "subject", "date", "message-id", "mime-version", "content-type", "auto-submitted"];
        assert!(known.contains(&name.as_str()), "{names:?}");
    }
    assert!(mail.subject.contains("<img src=x onerror=alert(1)>"), "{}", mail.subject);
    assert!(!mail.html.contains("<img") && !mail.html.contains("<script"), "{}", mail.html);
    assert!(mail.html.contains("&#60;img src=x"), "{}", mail.html);
    assert!(mail.text.contains(NAME), "{}", mail.text);
    for email in ["a@b\r\nBcc: x@y.z", "a@b,c@d", "a@b;c@d", "<a@b>", "a b@c"] {
        let refused = invite(&maria, email).await;
        let kept = world.mails().await.len();
        assert!(refused.status() == StatusCode::UNPROCESSABLE_ENTITY || kept == 1, "{email}");
    }
}

async fn mails_go_at_once_when_the_server_runs(first: World) {
    let (world, server) = with_server(&first).await;
    let running = tokio::spawn(portcullis::app::outbox::run(std::sync::Arc::clone(&world.app)));
    let maria = world.maria().await;
    // The first look may be under way; the next is a matter of the wake.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let began = std::time::Instant::now();
    invite(&maria, ANA).await;
    while server.taken().is_empty() {
        assert!(began.elapsed() < Duration::from_secs(4), "woken, not polled");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    running.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l2_the_program_writes_no_link_down_whatever_is_logged() {
    const PASSWORD: &str = "canary lantern walnut orbit";
    let server = MailServer::start().await;
    let url = format!("smtp_url={}", server.url());
    let mut process = Process::new(&["log=trace", "log_format=json", &url, "mail_from=access@acme.example"]);
    process.super_admin("maria@acme.example", PASSWORD);
    process.start();
    let stranger = Stranger {
        client: World::sqlite(&[]).await.stranger().client,
        url: format!("http://{}", process.address),
    };
    let post = async |path: &str, cookie: &str, form: &[(&str, &str)]| {
        let request = stranger.request(Method::POST, path).header("cookie", cookie).form(form);
        request.send().await.unwrap()
    };
    let signed = post("/sign-in", "", &[("email", "maria@acme.example"), ("password", PASSWORD)]).await;
    let cookie = cookie_of(&signed).unwrap();
    assert_eq!(post("/users/invite", &cookie, &[("email", ANA)]).await.status(), StatusCode::SEE_OTHER);
    post("/forgot-password", "", &[("email", "maria@acme.example")]).await;
    let began = std::time::Instant::now();
    while server.taken().len() < 2 {
        assert!(began.elapsed() < Duration::from_secs(20), "the program sends by itself: {}", process.output());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mails: Vec<_> = server.taken().into_iter().map(|(_, mail)| mail).collect();
    let link = |to: &str, page: &str| mails.iter().find(|m| m.to == to).unwrap().link(page);
    let (activation, reset) = (link(ANA, "/activate/"), link("maria@acme.example", "/reset-password/"));
    for path in [&activation, &reset] {
        assert_eq!(stranger.request(Method::GET, path).send().await.unwrap().status(), StatusCode::OK);
        let form = [("name", "Ana"), ("password", PASSWORD)];
        assert_eq!(post(path, "", &form).await.status(), StatusCode::SEE_OTHER);
        assert_eq!(post(path, "", &form).await.status(), StatusCode::GONE);
    }
    assert_eq!(process.terminate(), Some(0));
    let (output, mut at_rest) = (process.output(), std::fs::read(process.data("portcullis.db")).unwrap());
    at_rest.extend(std::fs::read(process.data("portcullis.db-wal")).unwrap_or_default());
    let at_rest = String::from_utf8_lossy(&at_rest);
    assert!(at_rest.contains(ANA), "the search finds what is there");
    assert!(output.contains("\"route\":\"/activate/{token}\""), "everything was logged: {output}");
    let token = |path: &str| path.rsplit('/').next().unwrap().to_owned();
    for canary in [token(&activation), token(&reset), "canary-smtp-password".to_owned(), PASSWORD.to_owned()] {
        let line = output.lines().find(|l| l.contains(&canary));
        assert!(line.is_none(), "L-2: in the log: {}", line.unwrap_or_default());
        assert!(!at_rest.contains(&canary), "L-2: in the database: {canary}");
        let in_mails = mails.iter().filter(|m| m.raw.contains(&canary) || m.text.contains(&canary)).count();
        assert_eq!(in_mails, usize::from(canary.len() == 43), "each link in its own mail, and nothing else");
    }
}
