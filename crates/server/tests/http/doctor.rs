//! `portcullis doctor` of the real program: each finding is seen, and nothing is changed.

use std::{os::unix::fs::PermissionsExt, path::Path};

use serde_json::Value;
use sqlx::{Connection, Executor, PgConnection, SqliteConnection};

use crate::support::{
    postgres_database,
    process::{Answered, Process},
};

/// What it answered, and that read.
struct Report(Answered, Value);

impl Report {
    fn of(process: &Process, more: &[&str]) -> Self {
        let answered = process.run_here(&[&["doctor", "--json"], more].concat(), "");
        Self::read(answered)
    }

    fn read(answered: Answered) -> Self {
        assert_eq!(answered.err, "", "{answered:?}");
        let read: Value = serde_json::from_str(&answered.out).unwrap();
        let worst = ["fine", "warning", "wrong"].iter().position(|l| read["level"] == *l).unwrap();
        assert_eq!(usize::try_from(answered.code).unwrap(), worst, "the exit code: {answered:?}");
        for finding in read["findings"].as_array().unwrap() {
            let is_fine = finding["level"] == "fine";
            assert_eq!(finding["remedy"] == "", is_fine, "what is not fine says what to do: {finding}");
        }
        Self(answered, read)
    }

    /// Asserts a finding.
    #[track_caller]
    fn has(&self, level: &str, check: &str, words: &str) -> &Self {
        let all = self.1["findings"].as_array().unwrap();
        let found = all
            .iter()
            .any(|f| f["level"] == level && f["check"] == check && f["seen"].as_str().unwrap().contains(words));
        assert!(found, "no {level} {check} with {words:?} in {:#}", self.1);
        self
    }

    /// Asserts that something was timed, whatever a busy machine made of it.
    #[track_caller]
    fn timed(&self, check: &str) -> &Self {
        let all = self.1["findings"].as_array().unwrap();
        let found = all.iter().any(|f| f["check"] == check && f["seen"].as_str().unwrap().ends_with(" µs"));
        assert!(found, "no {check} in {:#}", self.1);
        self
    }
}

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

async fn sqlite(process: &Process, sql: &'static str) {
    let url = format!("sqlite:{}", process.data("portcullis.db").display());
    let mut connection = SqliteConnection::connect(&url).await.unwrap();
    connection.execute(sql).await.unwrap();
    connection.close().await.unwrap();
}

fn listing(process: &Process) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(process.data("portcullis.db").parent().unwrap()).unwrap();
    // What SQLite itself keeps beside the file for who reads it.
    let all = entries.map(|e| e.unwrap().path()).filter(|p| !p.to_str().unwrap().ends_with("-shm"));
    let mut all: Vec<_> = all.map(|p| (p.display().to_string(), std::fs::read(&p).unwrap())).collect();
    all.retain(|(name, bytes)| !(name.ends_with("-wal") && bytes.is_empty()));
    all.sort();
    all
}

#[test]
fn a_deployment_that_is_not_there_yet_and_one_whose_configuration_is_wrong() {
    let process = Process::new(&[]);
    let report = Report::of(&process, &[]);
    report.has("warning", "database", "there is no database").has("warning", "master_key", "there is no");
    report.has("warning", "data_dir", "there is no").timed("signing");
    assert!(std::fs::read_dir(process.folder()).unwrap().next().is_none(), "it makes nothing");
    let report = Report::of(&process, &["--public-url=http://access.acme.example"]);
    report.has("wrong", "configuration", "public_url");
    let lines = process.run_here(&["doctor", "--public-url=http://access.acme.example"], "");
    assert_eq!(lines.code, 2);
    assert!(lines.out.contains("WRONG    configuration:") && lines.out.contains("->"), "{lines:?}");
    assert!(lines.out.ends_with("1 wrong, 0 warnings, 0 fine\n"), "{lines:?}");
    let tls = ["--public-url=https://a.example", "--tls-certificate=/nowhere.pem", "--tls-key=/nowhere.pem"];
    Report::of(&process, &tls).has("wrong", "tls", "/nowhere.pem");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_files_keys_and_an_sqlite_database_is_seen_and_left_as_it_is() {
    let process = Process::new(&[]);
    process.super_admin("maria@acme.example", "tide lantern walnut orbit");
    let before = listing(&process);
    let report = Report::of(&process, &[]);
    assert_eq!(report.0.code, 1, "{:#}", report.1);
    report.has("warning", "master_key_file", "beside the database").has("warning", "tls", "plain HTTP");
    report
        .has("warning", "mail", "are put into")
        .has("fine", "integrity", "whole")
        .has("fine", "disk", "MiB free");
    report.has("fine", "schema", "version").timed("sync").has("fine", "master_key_ring", "1 keys");
    report.has("fine", "open_files", "allowed").has("fine", "last_record", "of 20");
    report.has("fine", "hold", "not on hold").has("fine", "mark", "portcullis.mark");
    assert_eq!(listing(&process), before, "nothing was changed");

    let mail = ["--smtp-url=smtp://u:hunter2@127.0.0.1:1?tls=none", "--mail-from=p@acme.example"];
    let report = Report::of(&process, &mail);
    report.has("wrong", "mail", "");
    assert!(!report.0.out.contains("hunter2"), "L-2");
    let mut few = std::process::Command::new("sh");
    few.env_clear().args([
        "-c",
        "ulimit -n 512; exec \"$0\" doctor --json \"$@\"",
        env!("CARGO_BIN_EXE_portcullis"),
    ]);
    let few = process.run_with(few.args(process.flags()), "");
    Report::read(few).has("warning", "open_files", "512 are allowed");

    let (folder, key) = (process.data("portcullis.db"), process.data("master.key"));
    let folder = folder.parent().unwrap();
    mode(folder, 0o755);
    Report::of(&process, &[]).has("warning", "data_dir", "entered by others");
    mode(folder, 0o700);
    mode(&key, 0o644);
    Report::of(&process, &[]).has("wrong", "master_key_file", "read by others");
    mode(&key, 0o600);
    let ring = std::fs::read_to_string(&key).unwrap();
    std::fs::write(&key, format!("{ring}{}\n", "ab".repeat(32))).unwrap();
    Report::of(&process, &[]).has("warning", "master_key_ring", "nothing needs");
    std::fs::write(&key, format!("{}\n", "cd".repeat(32))).unwrap();
    Report::of(&process, &[]).has("wrong", "master_key_ring", "was made with master key");
    std::fs::write(&key, "not a key\n").unwrap();
    Report::of(&process, &[]).has("wrong", "master_key", "");
    std::fs::write(&key, ring).unwrap();

    // What no mode keeps from being read and written, whoever runs the test.
    let mark = process.data("portcullis.mark");
    std::fs::remove_file(&mark).unwrap();
    std::fs::create_dir(&mark).unwrap();
    Report::of(&process, &[]).has("wrong", "mark", "portcullis.mark: ");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_inside_an_sqlite_database_is_seen() {
    let process = Process::new(&[]);
    process.super_admin("maria@acme.example", "tide lantern walnut orbit");
    assert_eq!(process.run_here(&["hold", "begin"], "").code, 0);
    Report::of(&process, &[]).has("wrong", "hold", "because the operator put it on hold");
    sqlite(&process, "ALTER TABLE installation DROP COLUMN held_since").await;
    Report::of(&process, &[]).has("fine", "hold", "not on hold");
    sqlite(&process, "UPDATE audit_records SET at = at + 86400000000 WHERE seq = 1").await;
    Report::of(&process, &[]).has("wrong", "last_record", "and it is");
    sqlite(
        &process,
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         SELECT 99, 'later', TRUE, checksum, 0 FROM _sqlx_migrations WHERE version = 1",
    )
    .await;
    Report::of(&process, &[]).has("warning", "schema", "version 99");
    sqlite(&process, "UPDATE schema_works_with SET oldest = 99").await;
    Report::of(&process, &[]).has("wrong", "schema", "version 99");
    sqlite(&process, "DELETE FROM _sqlx_migrations WHERE version > 7").await;
    Report::of(&process, &[]).has("warning", "schema", "this program knows");

    let file = process.data("portcullis.db");
    let mut bytes = std::fs::read(&file).unwrap();
    let at = bytes.len() / 2 / 4096 * 4096;
    bytes[at..at + 4096].fill(0xa5);
    std::fs::write(&file, &bytes).unwrap();
    Report::of(&process, &[]).has("wrong", "integrity", "");
    std::fs::write(&file, "").unwrap();
    Report::of(&process, &[]).has("wrong", "database", "is empty");
}

/// A server that says of itself what it is told to: names in a schema before the system's own.
async fn says(url: &str, sql: &str) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    let (_, name) = url.rsplit_once('/').unwrap();
    let all = format!(
        "DROP SCHEMA IF EXISTS said CASCADE; CREATE SCHEMA said; \
         ALTER DATABASE {name} SET search_path = said, pg_catalog, public; {sql}"
    );
    connection.execute(sqlx::AssertSqlSafe(all)).await.unwrap();
}

/// Settings of a server that keeps what it acknowledged, with these in place of the usual.
fn settings(sync: &str, standbys: &str, replicas: &str) -> String {
    format!(
        "CREATE VIEW said.pg_settings AS SELECT * FROM (VALUES ('fsync', 'on'), ('full_page_writes', 'on'), \
         ('synchronous_commit', '{sync}'), ('synchronous_standby_names', '{standbys}')) s (name, setting); \
         CREATE VIEW said.pg_stat_replication AS SELECT * FROM (VALUES {replicas}) r (application_name, sync_state)"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_a_postgresql_is_seen() {
    let url = postgres_database().await;
    let process = Process::new(&[&format!("database_url={url}")]);
    Report::of(&process, &[]).has("warning", "schema", "version 0");
    process.super_admin("maria@acme.example", "tide lantern walnut orbit");
    // The cluster of the tests gives up durability for speed, and has no standby.
    let report = Report::of(&process, &[]);
    report.has("wrong", "durability", "fsync").has("wrong", "durability", "full_page_writes");
    report.has("wrong", "durability", "synchronous_commit").has("fine", "replication", "no standby");
    report.has("fine", "database", "PostgreSQL").has("fine", "database_tls", "this machine");
    report.has("fine", "clock", "this machine's").has("fine", "schema", "version").has(
        "fine",
        "connections",
        "of",
    );
    report.has("fine", "master_key_ring", "1 keys").has("fine", "hold", "not on hold");
    assert_eq!(process.run_here(&["hold", "begin"], "").code, 0);
    Report::of(&process, &[]).has("wrong", "hold", "because the operator put it on hold");
    Report::of(&process, &["--database-connections=500"]).has("wrong", "connections", "500");

    let none = "(NULL::text, NULL::text)";
    for (sync, names, replicas, level, words) in [
        ("on", "", "('a', 'async')", "warning", "asynchronous"),
        ("on", "a", "('a', 'sync')", "fine", "1 of 1"),
        ("remote_apply", "ANY 1 (a, b)", "('a', 'quorum'), ('b', 'quorum')", "fine", "2 of 2"),
        ("remote_write", "a", "('a', 'sync')", "warning", "remote_write"),
        ("local", "a", "('a', 'sync')", "warning", "local"),
        ("on", "a", "('b', 'async')", "wrong", "none streams"),
        ("on", "a", none, "warning", "may not see"),
    ] {
        says(&url, &settings(sync, names, replicas)).await;
        let report = Report::of(&process, &[]);
        report.has(level, "replication", words).has("fine", "durability", "waits for the disk");
    }
    for (sql, level, check, words) in [
        ("+ INTERVAL '1 minute'", "wrong", "clock", "ahead of"),
        ("- INTERVAL '5 seconds'", "warning", "clock", "behind"),
    ] {
        let skewed = format!(
            "CREATE FUNCTION said.clock_timestamp() RETURNS TIMESTAMPTZ LANGUAGE SQL AS \
             'SELECT pg_catalog.clock_timestamp() {}'",
            sql.replace('\'', "''")
        );
        says(&url, &skewed).await;
        Report::of(&process, &[]).has(level, check, words);
    }
    let afar = "CREATE FUNCTION said.inet_server_addr() RETURNS INET LANGUAGE SQL AS 'SELECT INET ''192.0.2.1'''";
    says(&url, afar).await;
    Report::of(&process, &[]).has("wrong", "database_tls", "not encrypted");
    let standby = "CREATE FUNCTION said.pg_is_in_recovery() RETURNS BOOLEAN LANGUAGE SQL AS 'SELECT TRUE'";
    says(&url, standby).await;
    Report::of(&process, &[]).has("wrong", "database", "a standby");

    let gone = Process::new(&["database_url=postgres://maria:hunter2@127.0.0.1:1/p"]);
    let report = Report::of(&gone, &[]);
    report.has("wrong", "database", "not available");
    assert!(!report.0.out.contains("hunter2"), "L-2");
}
