//! A fresh store on either database, and the few things most tests begin with.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use jiff::{SignedDuration, Timestamp};
use portcullis_domain::{
    accounts::{DisplayName, Email, Language, Role, Standing, Status, TimeZoneName, User, UserId},
    apis::{Api, OWN, Settings},
    audit::{By, Entry, Event, Origin},
    client_keys::Method,
    credentials::{CREDENTIAL_LASTS, ClientId, Credential},
    hold::Why,
    secret::DigestKey,
};
use portcullis_store::{Act, Database, MasterKeys, NewToken, OpenOptions, Store, Tx};
use sqlx::{Connection, Executor, PgConnection, SqliteConnection};
use uuid::Uuid;

/// Makes each `async fn(Fresh)` a test on SQLite and a test on PostgreSQL.
macro_rules! on_both {
    ($($name:ident)*) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name($crate::support::Fresh::sqlite().await).await; })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name($crate::support::Fresh::postgres().await).await; })*
        }
    };
}
pub(crate) use on_both;

/// A store on a database of its own.
pub(crate) struct Fresh {
    pub(crate) store: Store,
    pub(crate) database: Database,
    _folder: tempfile::TempDir,
}

pub(crate) fn keys() -> Arc<MasterKeys> {
    Arc::new(MasterKeys::one([7; 32]))
}

impl Fresh {
    pub(crate) async fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self::open(Database::Sqlite(folder.path().join("portcullis.db")), folder).await
    }

    pub(crate) async fn postgres() -> Self {
        Self::open(Database::Postgres(postgres_database().await), tempfile::tempdir().unwrap()).await
    }

    async fn open(database: Database, folder: tempfile::TempDir) -> Self {
        let store = Store::open(&database, keys(), &OpenOptions::default()).await.unwrap();
        let fresh = Self { store, database, _folder: folder };
        fresh.write(async |tx| tx.add_api(&own_api()).await.unwrap()).await;
        fresh
    }

    /// A second store on the same database, as another node would open it.
    pub(crate) async fn another_node(&self) -> Store {
        Store::open(&self.database, keys(), &OpenOptions::default()).await.unwrap()
    }

    /// What is read through a connection to look with.
    pub(crate) async fn read<T>(&self, work: impl AsyncFnOnce(&mut Tx) -> T) -> T {
        work(&mut self.store.read().await.unwrap()).await
    }

    /// A committed transaction of book-keeping.
    pub(crate) async fn write<T>(&self, work: impl AsyncFnOnce(&mut Tx) -> T) -> T {
        let mut tx = self.store.write().await.unwrap();
        let out = work(&mut tx).await;
        tx.commit().await.unwrap();
        out
    }

    /// A committed act with one record.
    pub(crate) async fn act<T>(&self, work: impl AsyncFnOnce(&mut Act) -> T) -> T {
        let mut act = self.store.act().await.unwrap();
        let out = work(&mut act).await;
        act.commit(&[record(Event::ProfileChanged, "test")]).await.unwrap();
        out
    }

    /// Puts the database on hold, as the operator does. It has been claimed.
    pub(crate) async fn put_on_hold(&self) {
        let mut act = self.store.act_on_hold().await.unwrap();
        let entry = act.begin_hold(Why::Operator, By::Operator, now()).await.unwrap().unwrap();
        act.commit(&[entry]).await.unwrap();
    }

    /// Runs a statement past the store, as an intruder or an operator would. Numbers only come
    /// back from one that selects one.
    pub(crate) async fn raw(&self, sql: &str) -> Option<i64> {
        raw(&self.database, sql).await
    }

    /// Adds a Super Admin.
    pub(crate) async fn super_admin(&self, email: &str) -> User {
        let user = user(email);
        let mut act = self.store.act().await.unwrap();
        act.add_user(&user, Some("$argon2id$x")).await.unwrap();
        act.commit(&[record(Event::UserCreated, &user.id.to_string())]).await.unwrap();
        user
    }

    /// Adds a credential to a user's place.
    pub(crate) async fn credential(&self, owner: UserId) -> Credential {
        let credential = credential(owner);
        let mut act = self.store.act().await.unwrap();
        act.add_credential(&credential).await.unwrap();
        act.commit(&[record(Event::CredentialGenerated, credential.client_id.as_str())]).await.unwrap();
        credential
    }
}

/// As [`Fresh::raw`].
pub(crate) async fn raw(database: &Database, sql: &str) -> Option<i64> {
    macro_rules! run {
        ($connection:expr) => {{
            let mut connection = $connection;
            let query = sqlx::query_scalar(sqlx::AssertSqlSafe(sql.to_owned()));
            let number = query.fetch_optional(&mut connection).await.unwrap();
            connection.close().await.unwrap();
            number
        }};
    }
    match database {
        Database::Sqlite(file) => {
            run!(SqliteConnection::connect(&format!("sqlite:{}", file.display())).await.unwrap())
        }
        Database::Postgres(url) => run!(PgConnection::connect(url).await.unwrap()),
    }
}

/// Runs `n` tasks at once and gives what each came to.
pub(crate) async fn at_once<F>(n: usize, task: impl Fn(usize) -> F) -> Vec<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    let tasks: Vec<_> = (0..n).map(|at| tokio::spawn(task(at))).collect();
    let mut out = Vec::new();
    for task in tasks {
        out.push(task.await.unwrap());
    }
    out
}

/// The URL of a new, empty PostgreSQL database.
pub(crate) async fn postgres_database() -> String {
    let server = std::env::var("PORTCULLIS_TEST_POSTGRES")
        .expect("PORTCULLIS_TEST_POSTGRES is not set: run ./dev/test, or give the URL of a PostgreSQL for tests");
    let name = format!("contract_{}_{}", std::process::id(), next());
    let mut connection = PgConnection::connect(&server).await.unwrap();
    // A server that is used for long may have one left over from a process of the same number.
    connection.execute(sqlx::AssertSqlSafe(format!("DROP DATABASE IF EXISTS {name}"))).await.unwrap();
    connection.execute(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"))).await.unwrap();
    let (base, _) = server.rsplit_once('/').unwrap();
    format!("{base}/{name}")
}

fn next() -> u64 {
    static COUNTER: AtomicU64 = AtomicU64::new(1);
    COUNTER.fetch_add(1, Ordering::Relaxed)
}

/// An id never used before in this process, in the order they are asked for.
pub(crate) fn id() -> Uuid {
    Uuid::from_u128((0x0190_0000_0000_7000_8000_0000_0000_0000 | u128::from(next())) + (u128::from(next()) << 80))
}

/// The instant the tests begin at.
pub(crate) fn now() -> Timestamp {
    Timestamp::from_second(1_795_000_000).unwrap()
}

pub(crate) fn after(seconds: i64) -> Timestamp {
    now() + SignedDuration::from_secs(seconds)
}

pub(crate) fn user(email: &str) -> User {
    User {
        id: UserId(id()),
        email: Email::parse(email).unwrap(),
        name: DisplayName::parse("Maria <b>Rocha</b>").unwrap(),
        language: Language::EnglishInternational,
        time_zone: TimeZoneName::parse("Europe/Lisbon").unwrap(),
        standing: Standing {
            role: (Role::SuperAdmin, now()),
            status: (Status::Active, now()),
            mfa_since: None,
            has_password: true,
        },
        created_at: now(),
    }
}

pub(crate) fn credential(owner: UserId) -> Credential {
    let number = next();
    let mut entropy = [0; 20];
    for (at, byte) in entropy.iter_mut().enumerate() {
        *byte = u8::try_from((number >> (at.min(12) * 5)) & 31).unwrap();
    }
    Credential {
        id: id(),
        owner,
        client_id: ClientId::new(entropy),
        digest: DigestKey::new("k", &[1; 32]).digest(b"secret"),
        generated_at: now(),
        expires_at: now() + CREDENTIAL_LASTS,
        retired_at: None,
        revoked: None,
        key: None,
        secret_off_at: None,
        had_key: false,
    }
}

pub(crate) fn record(event: Event, subject: &str) -> Entry {
    Entry::done(now(), By::Operator, &Origin::new("203.0.113.7".to_owned(), "test/1"), event, subject)
}

/// The product's own API, which every store has from its first start on.
pub(crate) fn own_api() -> Api {
    Api { id: OWN, settings: Settings::own("https://access.acme.example/api/v1".to_owned()), made_at: now() }
}

/// A token of a credential for the product's own API, issued so many seconds after the beginning and good for an hour.
pub(crate) fn token(credential: Uuid, seconds: i64) -> NewToken {
    NewToken {
        jti: id(),
        credential,
        api: OWN,
        issued_at: after(seconds),
        expires_at: after(seconds + 3600),
        ip: "2001:db8::7".to_owned(),
        user_agent: "curl/8 '; DROP TABLE issued_tokens; --".to_owned(),
        method: Method::Key,
    }
}
