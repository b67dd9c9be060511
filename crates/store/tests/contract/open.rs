//! Opening a database: what is ours is opened, by any number of nodes; anything else is refused
//! and left as it is. With it the installation's one row.

use std::{path::Path, sync::Arc};

use portcullis_domain::audit::Event;
use portcullis_store::{Database, MasterKeys, OpenError, OpenOptions, Purpose, Store, StoreError};
use sqlx::{Connection, Executor, SqliteConnection};

use crate::support::{Fresh, after, at_once, keys, now, on_both, postgres_database, record};

on_both! {
    who_only_looks_opens_what_is_there_and_makes_nothing
    an_installation_has_the_name_it_was_given_first
    of_twenty_parallel_set_ups_exactly_one_is_taken
    another_master_key_is_refused_and_a_ring_with_the_right_one_is_not
    a_newer_database_is_refused_and_left_untouched
    a_newer_database_that_says_so_is_worked_beside
    a_migration_that_stopped_half_way_is_refused
    what_is_committed_is_there_after_closing_and_opening
    a_closed_store_says_that_it_is_not_available
}

async fn open(database: &Database) -> Result<Store, OpenError> {
    Store::open(database, keys(), &OpenOptions::default()).await
}

/// Why it was refused; a store has no text of its own.
async fn refused(database: &Database, keys: MasterKeys) -> OpenError {
    Store::open(database, Arc::new(keys), &OpenOptions::default()).await.err().expect("it was opened")
}

async fn an_installation_has_the_name_it_was_given_first(fresh: Fresh) {
    assert!(fresh.read(async |tx| tx.installation().await.unwrap()).await.is_none());
    assert!(!fresh.write(async |tx| tx.take_set_up(now()).await.unwrap()).await, "nothing to set up yet");

    async fn name(store: Store, n: u8) -> Result<(), StoreError> {
        let mut tx = store.write().await?;
        tx.name_installation([n; 16], &format!("key{n}"), now()).await?;
        tx.commit().await
    }
    let nodes = [fresh.store.clone(), fresh.another_node().await];
    for outcome in at_once(10, |n| name(nodes[n % 2].clone(), u8::try_from(n).unwrap())).await {
        outcome.unwrap();
    }
    let first = fresh.read(async |tx| tx.installation().await.unwrap().unwrap()).await;
    assert_eq!(first.master_key_id, format!("key{}", first.name[0]));
    assert_eq!((first.name, first.set_up_at), ([first.name[0]; 16], None));
    name(fresh.store.clone(), 99).await.unwrap();
    assert_eq!(fresh.read(async |tx| tx.installation().await.unwrap().unwrap()).await.name, first.name);
}

async fn of_twenty_parallel_set_ups_exactly_one_is_taken(fresh: Fresh) {
    async fn take(store: Store, at: i64) -> Result<bool, StoreError> {
        let mut tx = store.write().await?;
        let taken = tx.take_set_up(after(at)).await?;
        tx.commit().await.map(|()| taken)
    }
    fresh.write(async |tx| tx.name_installation([1; 16], keys().current_id(), now()).await.unwrap()).await;
    let mut dropped = fresh.store.write().await.unwrap();
    assert!(dropped.take_set_up(after(77)).await.unwrap());
    drop(dropped);

    let nodes = [fresh.store.clone(), fresh.another_node().await];
    let outcomes = at_once(20, |n| take(nodes[n % 2].clone(), i64::try_from(n).unwrap())).await;
    let winners: Vec<i64> = (0..).zip(&outcomes).filter(|(_, o)| *o.as_ref().unwrap()).map(|(n, _)| n).collect();
    assert_eq!(winners.len(), 1, "{outcomes:?}");
    let installation = fresh.read(async |tx| tx.installation().await.unwrap().unwrap()).await;
    assert_eq!(installation.set_up_at, Some(after(winners[0])));
}

async fn another_master_key_is_refused_and_a_ring_with_the_right_one_is_not(fresh: Fresh) {
    fresh.write(async |tx| tx.name_installation([1; 16], keys().current_id(), now()).await.unwrap()).await;
    let error = refused(&fresh.database, MasterKeys::one([8; 32])).await;
    let OpenError::WrongMasterKey(needed, given) = &error else { panic!("{error:?}") };
    assert_eq!(needed, keys().current_id());
    assert_eq!(given, MasterKeys::one([8; 32]).current_id());
    let ring = MasterKeys::file_text(&[8; 32]) + &MasterKeys::file_text(&[7; 32]);
    let ring = Arc::new(MasterKeys::parse(&ring).unwrap());
    let store = Store::open(&fresh.database, ring, &OpenOptions::default()).await.unwrap();
    assert!(store.keys().has(keys().current_id()));
    assert_eq!(store.digest_key(Purpose::ClientSecret).id(), MasterKeys::one([8; 32]).current_id());
}

/// As a later release leaves the schema.
async fn migrated_later(fresh: &Fresh) {
    fresh
        .raw(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
             SELECT 99, 'later', TRUE, checksum, 0 FROM _sqlx_migrations WHERE version = 1",
        )
        .await;
    fresh.raw("ALTER TABLE users ADD COLUMN later TEXT").await;
}

async fn a_newer_database_is_refused_and_left_untouched(fresh: Fresh) {
    fresh.store.claim([1; 16], now()).await.unwrap();
    fresh.super_admin("maria@acme.example").await;
    let newest = fresh.raw("SELECT MAX(version) FROM _sqlx_migrations").await.unwrap();
    let run = fresh.raw("SELECT COUNT(*) FROM _sqlx_migrations").await.unwrap();
    migrated_later(&fresh).await;
    // Its oldest companion is younger than this program.
    fresh.raw("UPDATE schema_works_with SET oldest = 99").await;
    fresh.store.close().await;
    let before = bytes(&fresh.database);
    let error = refused(&fresh.database, MasterKeys::one([7; 32])).await;
    assert!(matches!(error, OpenError::Newer(99, n) if n == newest), "{error:?}");
    let only_look = OpenOptions { only_look: true, ..OpenOptions::default() };
    let looked_at = Store::open(&fresh.database, keys(), &only_look).await.err().unwrap();
    assert!(matches!(looked_at, OpenError::Newer(99, _)), "not even looked at: {looked_at:?}");
    assert_eq!(bytes(&fresh.database), before);
    assert_eq!(fresh.raw("SELECT COUNT(*) FROM _sqlx_migrations WHERE success").await, Some(run + 1));
    assert_eq!(fresh.raw("SELECT COUNT(*) FROM users WHERE later IS NULL AND status = 'active'").await, Some(1));
    assert_eq!(fresh.raw("SELECT seq FROM audit_head").await, Some(1));
}

async fn a_newer_database_that_says_so_is_worked_beside(fresh: Fresh) {
    fresh.store.claim([1; 16], now()).await.unwrap();
    migrated_later(&fresh).await;
    // As the migrations left it: whoever knows version 9, the hold, or a later one can work beside this schema.
    assert_eq!(fresh.raw("SELECT oldest FROM schema_works_with").await, Some(9));
    let run = fresh.raw("SELECT COUNT(*) FROM _sqlx_migrations").await;
    fresh.store.close().await;
    let looks = OpenOptions { only_look: true, ..OpenOptions::default() };
    for options in [OpenOptions::default(), looks] {
        let store = Store::open(&fresh.database, keys(), &options).await.unwrap();
        assert!(store.read().await.unwrap().installation().await.unwrap().is_some());
        store.close().await;
    }
    let again = open(&fresh.database).await.unwrap();
    let mut act = again.act().await.unwrap();
    act.add_user(&crate::support::user("maria@acme.example"), None).await.unwrap();
    act.commit(&[record(Event::UserCreated, "maria")]).await.unwrap();
    again.close().await;
    assert_eq!(fresh.raw("SELECT COUNT(*) FROM _sqlx_migrations").await, run, "nothing was migrated");
    // Without a word about it nobody works beside it.
    fresh.raw("DROP TABLE schema_works_with").await;
    let error = refused(&fresh.database, MasterKeys::one([7; 32])).await;
    assert!(matches!(error, OpenError::Newer(99, _)), "{error:?}");
}

async fn a_migration_that_stopped_half_way_is_refused(fresh: Fresh) {
    fresh.raw("UPDATE _sqlx_migrations SET success = FALSE").await;
    fresh.store.close().await;
    let error = refused(&fresh.database, MasterKeys::one([7; 32])).await;
    assert!(matches!(error, OpenError::Migration(_)), "{error:?}");
}

async fn what_is_committed_is_there_after_closing_and_opening(fresh: Fresh) {
    let maria = fresh.super_admin("maria@acme.example").await;
    let before = fresh.store.verify_audit().await.unwrap();
    fresh.store.close().await;
    let again = fresh.another_node().await;
    assert_eq!(again.verify_audit().await.unwrap(), before);
    let read = again.read().await.unwrap().user(maria.id).await.unwrap();
    assert_eq!(format!("{read:?}"), format!("{:?}", Some(maria)));
}

async fn a_closed_store_says_that_it_is_not_available(fresh: Fresh) {
    fresh.store.close().await;
    assert!(matches!(fresh.store.read().await.err(), Some(StoreError::Unavailable(_))));
    assert!(matches!(fresh.store.write().await.err(), Some(StoreError::Unavailable(_))));
    assert!(matches!(fresh.store.act().await.err(), Some(StoreError::Unavailable(_))));
}

/// The bytes of an SQLite file; of PostgreSQL nothing.
fn bytes(database: &Database) -> Option<Vec<u8>> {
    match database {
        Database::Sqlite(file) => Some(std::fs::read(file).unwrap()),
        Database::Postgres(_) => None,
    }
}

async fn eight_nodes_open_at_once(database: Database) {
    let outcomes = at_once(8, |_| {
        let database = database.clone();
        async move { open(&database).await }
    })
    .await;
    let nodes: Vec<Store> = outcomes.into_iter().map(Result::unwrap).collect();
    for node in &nodes {
        node.act().await.unwrap().commit(&[record(Event::SignedIn, "x")]).await.unwrap();
    }
    for node in &nodes {
        let state = node.verify_audit().await.unwrap();
        assert_eq!((state.records, state.broken), (8, None));
        node.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_open_an_empty_postgresql_at_once_all_succeed() {
    eight_nodes_open_at_once(Database::Postgres(postgres_database().await)).await;
}

#[tokio::test]
async fn a_url_that_is_none_of_postgresql_is_refused_without_showing_it() {
    for url in
        ["", "mysql://u:hunter2@h/d", "portcullis.db", "postgres://u:hunter2@[/d", "postgres://u:hunter2@h:x/d"]
    {
        let error = refused(&Database::Postgres(url.to_owned()), MasterKeys::one([7; 32])).await;
        assert!(matches!(error, OpenError::Url), "{url}: {error:?}");
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }
}

#[tokio::test]
async fn a_postgresql_that_is_not_there_is_not_available() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("postgres://u:hunter2@localhost/d?host={}", folder.path().display());
    let error = refused(&Database::Postgres(url), MasterKeys::one([7; 32])).await;
    assert!(matches!(error, OpenError::Store(StoreError::Unavailable(_))), "{error:?}");
    assert!(!format!("{error} {error:?}").contains("hunter2"));
}

/// What only a file can be.
mod file {
    use super::*;

    fn place() -> (tempfile::TempDir, Database) {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::Sqlite(folder.path().join("portcullis.db"));
        (folder, database)
    }

    /// What is in a folder, but for the lock file, which only has a name.
    fn content(folder: &Path) -> Vec<(String, Vec<u8>)> {
        let mut files: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap()))
            .filter(|(name, _)| !name.ends_with(".lock"))
            .collect();
        files.sort();
        files
    }

    async fn refused_as_it_is(folder: &Path, database: &Database) -> OpenError {
        let before = content(folder);
        let error = refused(database, MasterKeys::one([7; 32])).await;
        let names = |files: &[(String, Vec<u8>)]| files.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        let after = content(folder);
        assert_eq!(names(&after), names(&before), "{error}");
        assert!(after == before, "{error}: it was changed");
        error
    }

    async fn sqlite(file: &Path) -> SqliteConnection {
        SqliteConnection::connect(&format!("sqlite:{}?mode=rwc", file.display())).await.unwrap()
    }

    #[tokio::test]
    async fn sqlite_is_compiled_as_the_tree_says() {
        let mut connection = SqliteConnection::connect("sqlite::memory:").await.unwrap();
        let options = sqlx::query_as::<_, (String,)>("PRAGMA compile_options").fetch_all(&mut connection);
        let options: Vec<String> = options.await.unwrap().into_iter().map(|(option,)| option).collect();
        assert!(options.iter().any(|o| o == "DEFAULT_MEMSTATUS=0"), "{options:?}");
        assert!(!options.iter().any(|o| o == "ENABLE_MEMORY_MANAGEMENT"), "{options:?}");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn nodes_that_open_no_file_at_once_all_succeed() {
        let (_folder, database) = place();
        eight_nodes_open_at_once(database).await;
    }

    #[tokio::test]
    async fn an_empty_a_garbage_and_a_short_file_are_refused_and_left() {
        let (folder, database) = place();
        let file = folder.path().join("portcullis.db");
        std::fs::write(&file, b"").unwrap();
        let error = refused_as_it_is(folder.path(), &database).await;
        assert!(matches!(error, OpenError::Empty(_)), "{error:?}");
        for garbage in [b"x".repeat(100_000), b"SQLite".to_vec(), vec![0; 4096]] {
            std::fs::write(&file, garbage).unwrap();
            let error = refused_as_it_is(folder.path(), &database).await;
            assert!(matches!(error, OpenError::Foreign(..)), "{error:?}");
        }
        std::fs::remove_file(&file).unwrap();
        std::fs::create_dir(&file).unwrap();
        let error = refused(&database, MasterKeys::one([7; 32])).await;
        assert!(matches!(error, OpenError::Io(..)), "{error:?}");
    }

    #[tokio::test]
    async fn the_database_of_something_else_is_refused_and_left_with_its_log() {
        let (folder, database) = place();
        let elsewhere = tempfile::tempdir().unwrap();
        let mut other = sqlite(&elsewhere.path().join("portcullis.db")).await;
        other.execute("PRAGMA journal_mode = WAL; CREATE TABLE t (x); INSERT INTO t VALUES (1)").await.unwrap();
        // As its program left it when it was killed: the changes are in the log only.
        for name in ["portcullis.db", "portcullis.db-wal"] {
            std::fs::copy(elsewhere.path().join(name), folder.path().join(name)).unwrap();
        }
        let error = refused_as_it_is(folder.path(), &database).await;
        assert!(matches!(error, OpenError::Foreign(..)), "{error:?}");
    }

    #[tokio::test]
    async fn a_truncated_database_is_refused_and_left() {
        let (folder, database) = place();
        let file = folder.path().join("portcullis.db");
        open(&database).await.unwrap().close().await;
        let whole = std::fs::read(&file).unwrap();
        for length in [50, 100, 4096, whole.len() / 2, whole.len() - 4096] {
            std::fs::write(&file, &whole[..length]).unwrap();
            let error = refused_as_it_is(folder.path(), &database).await;
            assert!(matches!(error, OpenError::Foreign(..)), "{length}: {error:?}");
        }
        std::fs::write(&file, &whole).unwrap();
        open(&database).await.unwrap();
    }

    #[tokio::test]
    async fn a_database_with_a_damaged_page_is_refused_and_left() {
        let (folder, database) = place();
        let file = folder.path().join("portcullis.db");
        open(&database).await.unwrap().close().await;
        let whole = std::fs::read(&file).unwrap();
        let mut refused_ones = 0;
        for page in 1..whole.len() / 4096 {
            let mut damaged = whole.clone();
            damaged[page * 4096..(page + 1) * 4096].fill(0xa5);
            std::fs::write(&file, &damaged).unwrap();
            let error = refused_as_it_is(folder.path(), &database).await;
            assert!(matches!(error, OpenError::Foreign(..)), "page {page}: {error:?}");
            refused_ones += 1;
        }
        assert!(refused_ones > 10, "{refused_ones}");
        std::fs::write(&file, &whole).unwrap();
        open(&database).await.unwrap();
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_link_that_leads_nowhere_is_not_replaced_by_a_new_database() {
        let (folder, database) = place();
        let file = folder.path().join("portcullis.db");
        let volume = folder.path().join("not-mounted").join("portcullis.db");
        std::os::unix::fs::symlink(&volume, &file).unwrap();
        let error = refused(&database, MasterKeys::one([7; 32])).await;
        assert!(matches!(error, OpenError::Io(..)), "{error:?}");
        assert_eq!(std::fs::read_link(&file).unwrap(), volume, "it was left as it is");
    }

    #[tokio::test]
    async fn a_log_without_its_database_is_refused_and_left() {
        let (folder, database) = place();
        std::fs::write(folder.path().join("portcullis.db-wal"), b"the last changes of a lost database").unwrap();
        let error = refused_as_it_is(folder.path(), &database).await;
        assert!(matches!(error, OpenError::Lost(..)), "{error:?}");
    }

    #[tokio::test]
    async fn a_crash_while_the_file_was_made_is_recovered() {
        let (folder, database) = place();
        let half_made = folder.path().join("portcullis.new");
        let mut connection = sqlite(&half_made).await;
        connection.execute("CREATE TABLE _sqlx_migrations (x); CREATE TABLE users (x)").await.unwrap();
        // A journal as it stands when the power goes.
        connection.execute("PRAGMA cache_size = 1; BEGIN; CREATE TABLE half (x)").await.unwrap();
        let fill = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 9000) \
                    INSERT INTO half SELECT zeroblob(100) FROM n";
        connection.execute(fill).await.unwrap();
        let journal = std::fs::read(folder.path().join("portcullis.new-journal")).unwrap();
        assert!(!journal.is_empty());
        let image = std::fs::read(&half_made).unwrap();
        connection.execute("ROLLBACK").await.unwrap();
        connection.close().await.unwrap();
        std::fs::write(&half_made, image).unwrap();
        std::fs::write(folder.path().join("portcullis.new-journal"), journal).unwrap();

        let store = open(&database).await.unwrap();
        store.act().await.unwrap().commit(&[record(Event::SignedIn, "x")]).await.unwrap();
        assert_eq!(store.verify_audit().await.unwrap().records, 1);
        store.close().await;
        let left: Vec<String> = content(folder.path()).into_iter().map(|(name, _)| name).collect();
        assert_eq!(left, ["portcullis.db"]);
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn only_the_owner_can_read_the_file_and_its_logs() {
        use std::os::unix::fs::PermissionsExt;
        let (folder, database) = place();
        let store = open(&database).await.unwrap();
        store.act().await.unwrap().commit(&[record(Event::SignedIn, "x")]).await.unwrap();
        for name in ["portcullis.db", "portcullis.db-wal", "portcullis.db-shm"] {
            let mode = folder.path().join(name).metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }

    #[tokio::test]
    async fn a_folder_that_is_not_there_is_named() {
        let (folder, _) = place();
        let database = Database::Sqlite(folder.path().join("missing").join("portcullis.db"));
        let error = refused(&database, MasterKeys::one([7; 32])).await;
        assert!(matches!(error, OpenError::Io(..)) && error.to_string().contains("missing"), "{error:?}");
        assert!(!folder.path().join("missing").exists());
    }

    #[tokio::test]
    async fn a_connection_to_look_with_cannot_write() {
        let (_folder, database) = place();
        let store = open(&database).await.unwrap();
        let mut tx = store.read().await.unwrap();
        assert!(tx.name_installation([1; 16], "k", now()).await.is_err());
    }
}

async fn who_only_looks_opens_what_is_there_and_makes_nothing(fresh: Fresh) {
    let look = OpenOptions { only_look: true, ..OpenOptions::default() };
    fresh.raw("INSERT INTO installation (id, name, master_key_id, created_at) SELECT 1, digest, 'x', 0 FROM credentials").await;
    let ring = Arc::new(MasterKeys::one([7; 32]));
    let other = Store::open(&fresh.database, Arc::clone(&ring), &look).await;
    assert!(matches!(other, Err(OpenError::WrongMasterKey(..))), "the key is checked all the same");
    fresh.raw("DELETE FROM installation").await;
    fresh.store.claim([1; 16], now()).await.unwrap();
    let store = Store::open(&fresh.database, Arc::clone(&ring), &look).await.unwrap();
    assert_eq!(store.verify_audit().await.unwrap().broken, None);

    let nowhere = match &fresh.database {
        Database::Sqlite(file) => Database::Sqlite(file.with_file_name("nowhere.db")),
        Database::Postgres(_) => Database::Postgres(crate::support::postgres_database().await),
    };
    for _ in 0..2 {
        let absent = Store::open(&nowhere, Arc::clone(&ring), &look).await;
        assert!(matches!(absent, Err(OpenError::Absent(_))), "and still nothing is there");
    }
}
