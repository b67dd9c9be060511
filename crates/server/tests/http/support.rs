//! A server of its own for each test, and the three kinds of actors.

#[path = "support/mail.rs"]
pub mod mail;
#[path = "support/outside.rs"]
pub mod outside;
#[path = "support/process.rs"]
pub mod process;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use jiff::{SignedDuration, Timestamp};
use portcullis::{
    app::{App, accounts::NewUser},
    clock::Clock,
    config::{Config, Settings},
    error::Failure,
    http::Server,
};
use portcullis_domain::{
    accounts::{Email, Role, Standing, User, UserId},
    apis::{ApiKey, ApiKeyId, OWN},
    audit::{By, Entry, Event, Origin, Record},
    secret::ApiSecret,
    sessions::{Opened, Session},
};
use portcullis_store::{AuditFilter, AuditPage, Database, MasterKeys, OpenOptions, Purpose, Store};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, header, redirect};
use serde_json::Value;
use sqlx::{Connection, Executor, PgConnection};
use uuid::Uuid;

/// A password that passes A-4.
pub const PASSWORD: &str = "tide lantern walnut orbit";
/// The form type.
pub const FORM: &str = "application/x-www-form-urlencoded";

/// Makes each `async fn(World)` a test on SQLite and a test on PostgreSQL.
macro_rules! on_both {
    ($($name:ident)*) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name($crate::support::World::sqlite(&[]).await).await; })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name($crate::support::World::postgres(&[]).await).await; })*
        }
    };
}
pub(crate) use on_both;

/// Makes each `async fn(World)` a test on SQLite alone: for what the database has no part in.
macro_rules! on_sqlite {
    ($($name:ident)*) => {
        mod only_sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name($crate::support::World::sqlite(&[]).await).await; })*
        }
    };
}
pub(crate) use on_sqlite;

/// A server with a database, a clock and nobody in it.
pub struct World {
    pub app: Arc<App>,
    pub url: String,
    pub address: SocketAddr,
    pub clock: Clock,
    pub database: Database,
    settings: Vec<(String, String)>,
    folder: Arc<tempfile::TempDir>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
}

pub fn start_instant() -> Timestamp {
    Timestamp::from_second(1_795_000_000).unwrap()
}

fn next() -> u64 {
    static COUNTER: AtomicU64 = AtomicU64::new(1);
    COUNTER.fetch_add(1, Ordering::Relaxed)
}

/// The URL of a new, empty PostgreSQL database.
pub async fn postgres_database() -> String {
    let server = std::env::var("PORTCULLIS_TEST_POSTGRES")
        .expect("PORTCULLIS_TEST_POSTGRES is not set: run ./dev/test, or give the URL of a PostgreSQL for tests");
    let name = format!("http_{}_{}", std::process::id(), next());
    let mut connection = PgConnection::connect(&server).await.unwrap();
    // A server that is used for long may have one left over from a process of the same number.
    connection.execute(sqlx::AssertSqlSafe(format!("DROP DATABASE IF EXISTS {name}"))).await.unwrap();
    connection.execute(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"))).await.unwrap();
    let (base, _) = server.rsplit_once('/').unwrap();
    format!("{base}/{name}")
}

impl World {
    /// On SQLite, with these settings besides the defaults.
    pub async fn sqlite(settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::Sqlite(folder.path().join("portcullis.db"));
        Self::start(database, folder.into(), own(settings), Clock::set(start_instant(), next())).await
    }

    /// The same with the clock of the machine, for who talks to something that has another.
    pub async fn sqlite_of_now(settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::Sqlite(folder.path().join("portcullis.db"));
        Self::start(database, folder.into(), own(settings), Clock::system()).await
    }

    /// On PostgreSQL.
    pub async fn postgres(settings: &[(&str, &str)]) -> Self {
        let database = Database::Postgres(postgres_database().await);
        let folder = tempfile::tempdir().unwrap();
        Self::start(database, folder.into(), own(settings), Clock::set(start_instant(), next())).await
    }

    /// On the PostgreSQL database of this URL, which nobody uses yet.
    #[allow(dead_code, reason = "the browser suite does not use it")]
    pub async fn postgres_at(url: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::set(start_instant(), next());
        Self::start(Database::Postgres(url.to_owned()), folder.into(), own(&[]), clock).await
    }

    /// The same with the clock of the machine.
    #[allow(dead_code, reason = "the browser suite does not use it")]
    pub async fn postgres_of_now(settings: &[(&str, &str)]) -> Self {
        let database = Database::Postgres(postgres_database().await);
        let folder = tempfile::tempdir().unwrap();
        Self::start(database, folder.into(), own(settings), Clock::system()).await
    }

    /// A second server on the same database and clock, as another node would run it. It has its
    /// own address but the same issuer.
    pub async fn another_node(&self) -> Self {
        let mut settings = self.settings.clone();
        if !settings.iter().any(|(key, _)| key == "public_url") {
            settings.push(("public_url".to_owned(), self.url.clone()));
        }
        Self::start(self.database.clone(), Arc::clone(&self.folder), settings, self.clock.clone()).await
    }

    /// The same database served under another address, if it starts.
    pub async fn moved_to(&self, public_url: &str) -> Result<Arc<App>, Failure> {
        let config = Config { public_url: public_url.to_owned(), ..self.app.config.clone() };
        App::start(self.app.store.clone(), self.clock.clone(), config).await
    }

    async fn start(
        database: Database,
        folder: Arc<tempfile::TempDir>,
        settings: Vec<(String, String)>,
        clock: Clock,
    ) -> Self {
        // The port is part of the issuer, so it is chosen before the configuration is made.
        let port = free_port();
        // A setting may name the port, which nobody knows before.
        let named = |(key, value): (String, String)| (key, value.replace("{port}", &port.to_string()));
        let settings: Vec<(String, String)> = settings.into_iter().map(named).collect();
        let mut flags: std::collections::BTreeMap<String, String> = settings.iter().cloned().collect();
        flags.insert("listen".to_owned(), format!("127.0.0.1:{port}"));
        flags.insert("data_dir".to_owned(), folder.path().display().to_string());
        let settings_read = Settings::gather(None, std::iter::empty(), &flags).unwrap();
        let config = Config { database: database.clone(), ..Config::check(&settings_read).unwrap() };
        let keys = Arc::new(MasterKeys::one([7; 32]));
        let store = Store::open(&database, keys, &OpenOptions::default()).await.unwrap();
        let app = App::start(store, clock.clone(), config).await.unwrap();
        let server = Server::bind(&app).unwrap();
        let address = server.address().unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        tokio::spawn(server.run(async {
            let _ = stopped.await;
        }));
        let url = format!("http://{address}");
        Self { app, url, address, clock, database, settings, folder, stop: Some(stop) }
    }

    /// Lets time pass.
    pub fn pass(&self, by: SignedDuration) {
        self.clock.advance(by);
    }

    /// Runs a statement beside the server, as a failing disk or a careless hand would.
    pub async fn sql(&self, sql: &str) {
        let sql = sqlx::AssertSqlSafe(sql.to_owned());
        match &self.database {
            Database::Sqlite(path) => {
                let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
                sqlx::SqliteConnection::connect_with(&options).await.unwrap().execute(sql).await.unwrap();
            }
            Database::Postgres(url) => {
                PgConnection::connect(url).await.unwrap().execute(sql).await.unwrap();
            }
        }
    }

    /// Changes what decides about a user (role, status, MFA), on record like any other act.
    pub async fn set_standing(&self, user: UserId, change: impl FnOnce(&mut Standing, Timestamp)) {
        let mut act = self.app.store.act().await.unwrap();
        let mut standing = act.user(user).await.unwrap().unwrap().standing;
        let now = self.clock.now();
        change(&mut standing, now);
        act.set_standing(user, &standing).await.unwrap();
        let entry = Entry::done(now, By::Operator, &Origin::default(), Event::ProfileChanged, user.to_string());
        act.commit(&[entry]).await.unwrap();
    }

    /// Sends exactly these bytes and gives exactly the bytes that come back, but for the date.
    pub fn raw(&self, request: &str) -> String {
        use std::io::{Read, Write};
        let mut stream = std::net::TcpStream::connect(self.address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.split_inclusive("\r\n").filter(|line| !line.to_lowercase().starts_with("date:")).collect()
    }

    /// Makes a user as the operator does.
    pub async fn user(&self, email: &str, role: Role) -> User {
        let new = NewUser { email: email.to_owned(), name: "Maria Rocha".to_owned(), password: PASSWORD.into() };
        self.app.create_user(new, role).await.unwrap()
    }

    /// Somebody who is not signed in.
    pub fn stranger(&self) -> Stranger {
        Stranger { client: client(), url: self.url.clone() }
    }

    /// A user who is made and signed in.
    pub async fn person(&self, email: &str, role: Role) -> Person {
        self.user(email, role).await;
        self.sign_in(email).await
    }

    /// The product's own API, as a program that asks with a key of it: it may know of every token for it.
    pub async fn watcher(&self) -> Program {
        self.key_of(OWN).await
    }

    /// A new key of an API, put beside the server's own way of making them.
    pub async fn key_of(&self, api: Uuid) -> Program {
        let secret = ApiSecret::new(self.clock.random());
        let mut tx = self.app.store.write().await.unwrap();
        let key = ApiKey {
            id: ApiKeyId::new(self.clock.random()),
            api,
            place: i64::try_from(tx.api_keys(api).await.unwrap().len() + 1).unwrap(),
            digest: self.app.store.digest_key(Purpose::ApiSecret).digest(secret.expose().as_bytes()),
            made_at: self.clock.now(),
            ends_at: None,
        };
        tx.add_api_key(&key).await.unwrap();
        tx.commit().await.unwrap();
        Program {
            client: client(),
            url: self.url.clone(),
            client_id: key.id.as_str().to_owned(),
            client_secret: secret.expose().to_owned(),
        }
    }

    /// Maria, a Super Admin, signed in.
    pub async fn maria(&self) -> Person {
        self.person("maria@acme.example", Role::SuperAdmin).await
    }

    /// Signs an existing user in.
    pub async fn sign_in(&self, email: &str) -> Person {
        let stranger = self.stranger();
        let body = serde_json::json!({ "email": email, "password": PASSWORD });
        let response = stranger.request(Method::POST, "/api/v1/session").json(&body).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::CREATED);
        Person { cookie: cookie_of(&response).unwrap(), client: client(), url: self.url.clone() }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }
}

fn own(settings: &[(&str, &str)]) -> Vec<(String, String)> {
    settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn client() -> Client {
    Client::builder().redirect(redirect::Policy::none()).user_agent("test/1").build().unwrap()
}

/// The `name=value` of the session cookie that a response sets.
pub fn cookie_of(response: &Response) -> Option<String> {
    let line = response.headers().get(header::SET_COOKIE)?.to_str().ok()?;
    line.split(';').next().map(str::to_owned)
}

/// Somebody who is not signed in.
pub struct Stranger {
    pub client: Client,
    pub url: String,
}

impl Stranger {
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url))
    }

    /// A token request with a body as given.
    pub fn token(&self, body: &str) -> RequestBuilder {
        self.request(Method::POST, "/oauth/token").header(header::CONTENT_TYPE, FORM).body(body.to_owned())
    }
}

/// Somebody with a session, as a browser has it.
pub struct Person {
    pub client: Client,
    pub url: String,
    pub cookie: String,
}

impl Person {
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.url));
        request.header(header::COOKIE, &self.cookie).header("sec-fetch-site", "same-origin")
    }

    pub async fn get(&self, path: &str) -> Response {
        self.request(Method::GET, path).send().await.unwrap()
    }

    /// Sends a form of the console.
    pub async fn post(&self, path: &str, form: &[(&str, &str)]) -> Response {
        self.request(Method::POST, path).form(form).send().await.unwrap()
    }

    /// Generates a credential by the API.
    pub async fn generate(&self) -> Program {
        let response = self.request(Method::POST, "/api/v1/users/me/credential/generate").send().await.unwrap();
        assert_eq!(response.status(), StatusCode::CREATED);
        let made: Value = response.json().await.unwrap();
        Program {
            client: client(),
            url: self.url.clone(),
            client_id: made["client_id"].as_str().unwrap().to_owned(),
            client_secret: made["client_secret"].as_str().unwrap().to_owned(),
        }
    }

    /// Revokes the credential by the API.
    pub async fn revoke(&self) -> Response {
        self.request(Method::POST, "/api/v1/users/me/credential/revoke").send().await.unwrap()
    }
}

/// A program with a credential; or an API with a key, which it presents in the same way.
#[derive(Clone)]
pub struct Program {
    pub client: Client,
    pub url: String,
    pub client_id: String,
    pub client_secret: String,
}

impl Program {
    /// The same program, talking to another node.
    pub fn at(&self, world: &World) -> Self {
        Self { url: world.url.clone(), ..self.clone() }
    }

    /// A request to an OAuth endpoint with HTTP Basic and these parameters.
    pub async fn oauth(&self, endpoint: &str, form: &[(&str, &str)]) -> Response {
        let request = self.client.post(format!("{}/oauth/{endpoint}", self.url));
        request.basic_auth(&self.client_id, Some(&self.client_secret)).form(form).send().await.unwrap()
    }

    /// A plain token request.
    pub async fn ask(&self) -> Response {
        self.oauth("token", &[("grant_type", "client_credentials")]).await
    }

    /// An access token.
    pub async fn token(&self) -> String {
        let response = self.ask().await;
        assert_eq!(response.status(), StatusCode::OK);
        json(response).await["access_token"].as_str().unwrap().to_owned()
    }

    /// Whether a token is active, by introspection.
    pub async fn is_active(&self, token: &str) -> bool {
        let response = self.oauth("introspect", &[("token", token)]).await;
        assert_eq!(response.status(), StatusCode::OK);
        json(response).await["active"].as_bool().unwrap()
    }

    /// An API request with a token.
    pub fn with(&self, token: &str, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url)).bearer_auth(token)
    }
}

/// A port that nobody listens on, below those that Linux gives to who connects (from 32768 on): one of
/// those may be somebody's before the server listens on it.
pub fn free_port() -> u16 {
    use std::hash::BuildHasher;
    let port = || 10_000 + (std::hash::RandomState::new().hash_one(()) % 22_000) as u16;
    std::iter::repeat_with(port).find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok()).unwrap()
}

/// The JSON of a response.
pub async fn json(response: Response) -> Value {
    response.json().await.unwrap()
}

/// The value of a header, or the empty text.
pub fn header_of<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |v| v.to_str().unwrap())
}

/// Asserts an error of the OAuth endpoints: its status and code, that its description keeps to the
/// permitted characters and that nothing may store it. Gives the description.
pub async fn oauth_error(response: Response, status: u16, code: &str) -> String {
    assert_eq!(response.status().as_u16(), status);
    assert_eq!(header_of(&response, "cache-control"), "no-store");
    assert_eq!(header_of(&response, "pragma"), "no-cache");
    assert_eq!(header_of(&response, "content-type"), "application/json");
    let challenge = header_of(&response, "www-authenticate").to_owned();
    assert_eq!(challenge.starts_with("Basic realm="), status == 401, "{challenge:?}");
    let body = json(response).await;
    assert_eq!(body["error"], code);
    let description = body["error_description"].as_str().unwrap().to_owned();
    let permitted = |c: char| matches!(c, ' '..='!' | '#'..='[' | ']'..='~');
    assert!(!description.is_empty() && description.chars().all(permitted), "{description}");
    assert_eq!(body.as_object().unwrap().len(), 2, "{body}");
    description
}

/// A client whose requests come from this address.
pub fn client_from(ip: &str) -> Client {
    let address: std::net::IpAddr = ip.parse().unwrap();
    Client::builder().redirect(redirect::Policy::none()).local_address(address).build().unwrap()
}

/// What the suites of pages and of the audit log ask besides.
impl World {
    /// The number of the last audit record.
    pub async fn last_record(&self) -> i64 {
        self.records_after(0).await.last().map_or(0, |r| r.seq)
    }

    /// The audit records after a number, the earliest first.
    pub async fn records_after(&self, seq: i64) -> Vec<Record> {
        let mut tx = self.app.store.read().await.unwrap();
        tx.audit_page(&AuditFilter::default(), AuditPage::After(seq), 100_000).await.unwrap().records
    }

    /// The same as `event outcome reason`, which is what most tests look at.
    pub async fn told_after(&self, seq: i64) -> Vec<String> {
        let records = self.records_after(seq).await;
        records.iter().map(|r| format!("{} {} {}", r.event, r.outcome, r.reason).trim().to_owned()).collect()
    }

    /// A user by e-mail.
    pub async fn user_of(&self, email: &str) -> User {
        let email = Email::parse(email).unwrap();
        self.app.store.read().await.unwrap().user_by_email(&email).await.unwrap().unwrap()
    }

    /// Changes what a user may do, as no page does yet.
    pub async fn change(&self, user: &User, change: impl FnOnce(&mut Standing)) {
        let mut standing = user.standing.clone();
        change(&mut standing);
        let mut tx = self.app.store.write().await.unwrap();
        tx.set_standing(user.id, &standing).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// A session that no page opens: through a provider, for example.
    pub async fn session_opened(&self, user: &User, opened: Opened) -> Person {
        self.session_opened_through(user, opened, None).await
    }

    /// The same through a provider that is set up.
    pub async fn session_opened_through(&self, user: &User, opened: Opened, provider: Option<Uuid>) -> Person {
        let now = self.clock.now();
        let value = format!("opened-by-a-test-{}", next());
        let mut digest = [0; 32];
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, value.as_bytes());
        digest.copy_from_slice(hash.as_ref());
        let session = Session {
            handle: self.clock.id(),
            user: user.id,
            opened,
            provider,
            opened_at: now,
            seen_at: now,
            password_at: (opened != Opened::Provider).then_some(now),
            ip: String::new(),
            user_agent: String::new(),
        };
        let mut tx = self.app.store.write().await.unwrap();
        tx.add_session(&digest, &session).await.unwrap();
        tx.commit().await.unwrap();
        Person { client: client(), url: self.url.clone(), cookie: format!("__Host-portcullis={value}") }
    }

    /// Asserts that the chain of the audit log is whole.
    pub async fn log_is_whole(&self) {
        let state = self.app.store.verify_audit().await.unwrap();
        assert!(state.broken.is_none(), "L-3: {state:?}");
    }
}

impl Person {
    /// The same browser, talking to another node.
    pub fn at(&self, world: &World) -> Self {
        Self { url: world.url.clone(), client: self.client.clone(), cookie: self.cookie.clone() }
    }

    /// A request with the session cookie and no other header of a browser.
    pub fn bare(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url)).header(header::COOKIE, &self.cookie)
    }

    /// Whether the session still opens a page.
    pub async fn is_signed_in(&self) -> bool {
        match self.get("/").await.status() {
            StatusCode::OK => true,
            StatusCode::SEE_OTHER => false,
            other => panic!("neither signed in nor out: {other}"),
        }
    }

    /// The status and the text of a page.
    pub async fn page(&self, path: &str) -> (StatusCode, String) {
        let response = self.get(path).await;
        (response.status(), response.text().await.unwrap())
    }
}
