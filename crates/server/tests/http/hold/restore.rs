//! `portcullis backup`, `restore` and `hold`, with the real program.

use std::{
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use sqlx::{Connection, SqliteConnection, sqlite::SqliteConnectOptions};
use tokio::task::JoinHandle;

use crate::{
    cli::assert_refused,
    support::{
        outside::{MARIA, PASSWORD, Person},
        postgres_database,
        process::Process,
    },
};

const JOAO: &str = "joao@acme.example";

async fn revoke(person: &Person) {
    assert_eq!(person.act("revoke").await.unwrap().status(), StatusCode::OK);
}

async fn ask(url: &str, (id, secret): &(String, String)) -> (StatusCode, Value) {
    let request = Client::new().post(format!("{url}/oauth/token")).basic_auth(id, Some(secret));
    let response = request.form(&[("grant_type", "client_credentials")]).send().await.unwrap();
    (response.status(), response.json().await.unwrap())
}

/// A text as it stands in a database file.
async fn texts(file: &Path, sql: &str) -> Vec<String> {
    let options = SqliteConnectOptions::new().filename(file).read_only(true);
    let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
    sqlx::query_scalar(sqlx::AssertSqlSafe(sql.to_owned())).fetch_all(&mut connection).await.unwrap()
}

fn backup(process: &Process, name: &str) -> String {
    let file = process.folder().join(name).display().to_string();
    let made = process.run_here(&["backup", &file], "");
    assert_eq!(made.code, 0, "{made:?}");
    for words in ["It is whole:", "Head: ", "issues nothing until", "The master key is not in it"] {
        assert!(made.out.contains(words), "{words}: {made:?}");
    }
    file
}

fn files(folder: &Path) -> Vec<String> {
    let names = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

fn assert_no_master_key(copy: &Path, process: &Process) {
    let key = std::fs::read_to_string(process.data("master.key")).unwrap();
    let key = key.lines().find(|l| !l.starts_with('#')).unwrap();
    let raw: Vec<u8> = (0..64).step_by(2).map(|at| u8::from_str_radix(&key[at..at + 2], 16).unwrap()).collect();
    let bytes = std::fs::read(copy).unwrap();
    assert!(!bytes.windows(32).any(|w| w == raw) && !bytes.windows(64).any(|w| w == key.as_bytes()));
}

/// Somebody who generates and revokes in turn.
struct Acts {
    task: JoinHandle<()>,
    is_over: Arc<AtomicBool>,
    revoked: Arc<Mutex<Vec<String>>>,
}

impl Acts {
    fn start(person: Person) -> Self {
        let (is_over, revoked) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let task = tokio::spawn({
            let (is_over, revoked) = (Arc::clone(&is_over), Arc::clone(&revoked));
            async move {
                while !is_over.load(Ordering::SeqCst) {
                    let (id, _) = person.generate().await;
                    revoke(&person).await;
                    revoked.lock().unwrap().push(id);
                }
            }
        });
        Self { task, is_over, revoked }
    }

    /// Whose revocation was acknowledged.
    fn revoked(&self) -> Vec<String> {
        self.revoked.lock().unwrap().clone()
    }

    async fn end(self) {
        self.is_over.store(true, Ordering::SeqCst);
        self.task.await.unwrap();
    }
}

const REVOKED: &str = "SELECT client_id FROM credentials WHERE revoked_at IS NOT NULL";

/// Makes a copy while somebody asks for tokens with a credential and somebody else acts: all that was
/// acknowledged before is in it. Gives the copy, and what goes on asking until it is refused.
async fn copied_under_load(process: Process, client: (String, String)) -> (Process, String, JoinHandle<()>) {
    let (url, issued) = (process.url(), Arc::new(AtomicUsize::new(0)));
    let load = tokio::spawn({
        let issued = Arc::clone(&issued);
        async move {
            while ask(&url, &client).await.0 == StatusCode::OK {
                issued.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    let acts = Acts::start(Person::sign_in(&process, JOAO).await);
    while issued.load(Ordering::SeqCst) < 20 || acts.revoked().is_empty() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (tokens, stopped) = (issued.load(Ordering::SeqCst), acts.revoked());
    let (file, process) =
        tokio::task::spawn_blocking(move || (backup(&process, "copy.db"), process)).await.unwrap();
    acts.end().await;
    let copy = Path::new(&file);
    let revoked = texts(copy, REVOKED).await;
    assert!(stopped.iter().all(|id| revoked.contains(id)), "I1: {stopped:?} {revoked:?}");
    let on_record = texts(copy, "SELECT user_agent FROM issued_tokens").await.len();
    assert!(on_record >= tokens, "L-4: {on_record} of {tokens}");
    (process, file, load)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h1_a_backup_under_load_has_all_that_was_acknowledged_and_a_restore_brings_no_revoked_credential_back() {
    let mut process = Process::new(&[]);
    process.super_admin(MARIA, PASSWORD);
    process.super_admin(JOAO, PASSWORD);
    process.start();
    let maria = Person::sign_in(&process, MARIA).await;
    let first = maria.generate().await;
    revoke(&maria).await;
    let second = maria.generate().await;
    let (mut process, file, load) = copied_under_load(process, second.clone()).await;
    let copy = Path::new(&file);
    assert_eq!(copy.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let revoked = texts(copy, REVOKED).await;
    assert!(revoked.contains(&first.0) && !revoked.contains(&second.0), "{revoked:?}");
    assert_no_master_key(copy, &process);
    assert_refused(&process.run_here(&["backup", &file], ""), &["is there already"]);

    revoke(&maria).await;
    load.await.unwrap();
    let third = maria.generate().await;
    assert_refused(&process.run_here(&["restore", &file, "--replace"], ""), &["in use by a server"]);
    process.terminate();
    assert_refused(&process.run_here(&["restore", &file], ""), &["--replace", "nothing was changed"]);
    let restored = process.run_here(&["restore", &file, "--replace"], "");
    assert_eq!(restored.code, 0, "{restored:?}");
    let replay = restored.out.split("--replay-from ").nth(1).unwrap().split('`').next().unwrap();
    let old = replay.split(';').next().unwrap().to_owned();

    process.start_until("live");
    assert!(process.output().contains("ON HOLD"), "{}", process.output());
    for client in [&first, &second, &third] {
        let (status, body) = ask(&process.url(), client).await;
        assert_eq!((status, &body["error"]), (StatusCode::SERVICE_UNAVAILABLE, &json!("temporarily_unavailable")));
    }
    let shown = process.run_here(&["hold", "show"], "");
    assert!(shown.out.contains("it is a backup") && shown.out.contains(&second.0), "{shown:?}");
    assert_eq!(process.run_here(&["hold", "lift"], "").code, 2, "something has to be said");
    let both = process.run_here(&["hold", "lift", "--nothing-was-stopped", "--revoke-all"], "");
    assert_eq!(both.code, 2, "{both:?}");
    let lifted = process.run_here(&["hold", "lift", "--replay-from", &old], "");
    assert_eq!(lifted.code, 0, "{lifted:?}");
    assert!(lifted.out.contains(&format!("Revocation of credentials of {}", second.0)), "{lifted:?}");
    assert!(lifted.out.contains("only that an API requires DPoP is replayed"), "{lifted:?}");
    for client in [&first, &second, &third] {
        let (status, body) = ask(&process.url(), client).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{body}");
    }
    let fourth = Person::sign_in(&process, MARIA).await.generate().await;
    assert_eq!(ask(&process.url(), &fourth).await.0, StatusCode::OK);
    assert_refused(&process.run_here(&["hold", "lift", "--revoke-all"], ""), &["not on hold"]);
    assert_eq!(process.run_here(&["audit", "verify"], "").code, 0);
}

#[test]
fn h4_a_backup_and_a_copy_that_were_put_back_by_hand_are_on_hold() {
    let mut process = Process::new(&[]);
    process.super_admin(MARIA, PASSWORD);
    let file = backup(&process, "copy.db");
    let by_hand = process.folder().join("by-hand.db");
    std::fs::copy(process.data("portcullis.db"), &by_hand).unwrap();
    process.super_admin(JOAO, PASSWORD);
    let show = |process: &Process| process.run_here(&["hold", "show"], "").out;
    assert!(show(&process).contains("not on hold"));

    std::fs::copy(&file, process.data("portcullis.db")).unwrap();
    assert!(show(&process).contains("it is a backup"));
    std::fs::copy(&by_hand, process.data("portcullis.db")).unwrap();
    process.start_until("live");
    assert!(show(&process).contains("lacks records that were acknowledged"), "{}", show(&process));
    let list = process.folder().join("revoked");
    std::fs::write(&list, "# none that we know\npcc_11111111111111111111\n").unwrap();
    let lifted = process.run_here(&["hold", "lift", "--revoke-list", &list.display().to_string()], "");
    assert!(lifted.code == 0 && lifted.out.contains("Nothing to revoke: pcc_11111111111111111111"), "{lifted:?}");
    std::fs::write(&list, format!("{JOAO}\n")).unwrap();
    let wrong = process.run_here(&["hold", "lift", "--revoke-list", &list.display().to_string()], "");
    assert_refused(&wrong, &["not a Client ID"]);
    assert!(show(&process).contains("not on hold"));
    assert_eq!(process.run_here(&["hold", "begin"], "").code, 0);
    assert!(show(&process).contains("the operator put it on hold"));
    let lifted = process.run_here(&["hold", "lift", "--nothing-was-stopped"], "");
    assert_eq!(lifted.code, 0, "{lifted:?}");
}

#[test]
fn what_is_not_a_backup_of_ours_is_not_restored_and_nothing_is_changed() {
    let process = Process::new(&[]);
    process.super_admin(MARIA, PASSWORD);
    let file = backup(&process, "copy.db");
    let good = std::fs::read(&file).unwrap();
    let before = std::fs::read(process.data("portcullis.db")).unwrap();
    let put = |name: &str, bytes: &[u8]| {
        let path = process.folder().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.display().to_string()
    };
    let mut damaged = good.clone();
    damaged[8192..12_288].fill(0xff);
    let cases = [
        (put("empty", b""), "is empty"),
        (
            put(
                "foreign",
                b"SQLite format 3\0 but not ours, and so on for a while, until it is long enough for a header",
            ),
            "is not a Portcullis database",
        ),
        (put("damaged", &damaged), "damaged"),
        (put("cut", &good[..good.len() / 2]), "damaged"),
        (process.folder().join("nowhere").display().to_string(), "No such file"),
    ];
    for (file, words) in &cases {
        assert_refused(&process.run_here(&["restore", file, "--replace"], ""), &[words]);
    }
    let key = process.folder().join("another.key");
    std::fs::write(&key, "ab".repeat(32)).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let flag = format!("--master-key-file={}", key.display());
    assert_refused(&process.run_here(&["restore", &file, "--replace", &flag], ""), &["made with master key"]);
    std::fs::write(format!("{file}-wal"), b"x").unwrap();
    assert_refused(&process.run_here(&["restore", &file, "--replace"], ""), &["may lack changes"]);
    assert_eq!(std::fs::read(process.data("portcullis.db")).unwrap(), before);
    let left = files(&process.folder().join("data"));
    assert!(!left.iter().any(|name| name.contains("restoring") || name.contains("replaced")), "{left:?}");

    let on_postgres = process.run_here(&["backup", "x", "--database-url=postgres://127.0.0.1:1/x"], "");
    assert_refused(&on_postgres, &["pg_dump --format=custom", "portcullis hold begin"]);
}

#[test]
fn a_backup_that_does_not_fit_says_so_and_leaves_nothing() {
    let process = Process::new(&[]);
    process.super_admin(MARIA, PASSWORD);
    let target = process.folder().join("backups");
    std::fs::create_dir(&target).unwrap();
    let program = process.command().get_program().to_owned();
    let mut limited = Command::new("sh");
    limited.env_clear().env("PATH", "/usr/bin:/bin").current_dir(process.folder());
    // Nothing larger than 40 KiB can be written, as if there were no more room.
    limited.args(["-c", "trap '' XFSZ; ulimit -f 80; exec \"$@\"", "sh"]).arg(program);
    limited.args(["backup".to_owned(), target.join("copy.db").display().to_string()]).args(process.flags());
    let refused = process.run_with(&mut limited, "");
    assert_refused(&refused, &["the backup was not made"]);
    assert!(files(&target).is_empty(), "{:?}", files(&target));
}

/// Killed after the backup had got its name, before the name it was made under was taken away.
#[test]
fn a_backup_that_was_moved_is_not_written_over_by_the_next_one_of_its_name() {
    let process = Process::new(&[]);
    process.super_admin(MARIA, PASSWORD);
    let file = backup(&process, "copy.db");
    let (part, moved) = (format!("{file}.part"), process.folder().join("moved.db"));
    std::fs::hard_link(&file, &part).unwrap();
    std::fs::rename(&file, &moved).unwrap();
    let before = std::fs::read(&moved).unwrap();
    process.super_admin(JOAO, PASSWORD);
    backup(&process, "copy.db");
    assert!(std::fs::read(&moved).unwrap() == before, "the one that was moved is as it was");
    assert!(std::fs::read(&file).unwrap() != before, "the new one is new");
    assert!(!Path::new(&part).exists());
}

#[test]
fn killed_in_the_middle_a_backup_is_whole_or_not_there_and_a_restore_leaves_the_old_or_the_new_database() {
    let process = Process::new(&[]);
    process.super_admin(MARIA, PASSWORD);
    let file = backup(&process, "copy.db");
    process.super_admin(JOAO, PASSWORD);
    let run_for = |args: &[&str], millis: u64| {
        let mut command = process.command();
        command.args(args).args(process.flags()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        std::thread::sleep(Duration::from_millis(millis));
        let _ = child.kill();
        child.wait().unwrap();
    };
    for round in 0..12 {
        let other = process.folder().join(format!("copy-{round}.db"));
        run_for(&["backup", &other.display().to_string()], round * 12);
        if other.exists() {
            let checked = process.run_here(&["restore", &other.display().to_string(), "--replace"], "");
            assert_eq!(checked.code, 0, "what is there is whole: {checked:?}");
        }
        run_for(&["restore", &file, "--replace"], round * 12);
        let whole = process.run_here(&["audit", "verify"], "");
        assert_eq!(whole.code, 0, "{whole:?}");
        assert!(process.data("portcullis.db").exists());
    }
    let done = process.run_here(&["restore", &file, "--replace"], "");
    assert_eq!(done.code, 0, "what a killed one left is in nobody's way: {done:?}");
    let again = process.folder().join("copy-0.db");
    if !again.exists() {
        assert_eq!(process.run_here(&["backup", &again.display().to_string()], "").code, 0);
    }
}

/// Runs one of PostgreSQL's own tools.
fn postgres_tool(name: &str, args: &[&str]) {
    let ran = Command::new(name).args(args).output().expect(name);
    assert!(ran.status.success(), "{name}: {}", String::from_utf8_lossy(&ran.stderr));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h1_a_restored_dump_of_postgresql_is_on_hold_until_what_was_stopped_since_is_replayed_from_the_old_one() {
    let (old_url, new_url) = (postgres_database().await, postgres_database().await);
    let mut old = Process::new(&[&format!("database_url={old_url}")]);
    old.super_admin(MARIA, PASSWORD);
    old.start();
    let maria = Person::sign_in(&old, MARIA).await;
    let client = maria.generate().await;
    let file = old.folder().join("portcullis.dump").display().to_string();
    postgres_tool("pg_dump", &["--format=custom", "--file", &file, "--dbname", &old_url]);
    revoke(&maria).await;
    assert_eq!(old.terminate(), Some(0));

    postgres_tool("pg_restore", &["--exit-on-error", "--no-owner", "--dbname", &new_url, &file]);
    let mut new = Process::new(&[&format!("database_url={new_url}"), &format!("public_url={}", old.url())]);
    new.take_key_of(&old);
    new.start_until("live");
    assert!(new.output().contains("ON HOLD"), "{}", new.output());
    assert_eq!(ask(&new.url(), &client).await.0, StatusCode::SERVICE_UNAVAILABLE);
    // A password is not to stand among the arguments.
    let mut place = url::Url::parse(&old_url).unwrap();
    let password = place.password().unwrap_or_default().to_owned();
    place.set_password(None).unwrap();
    let mut lift = new.command();
    lift.args(["hold", "lift", "--replay-from", place.as_str()]).args(new.flags()).env("PGPASSWORD", password);
    let lifted = new.run_with(lift.stdout(Stdio::piped()), "");
    assert_eq!(lifted.code, 0, "{lifted:?}");
    assert!(lifted.out.contains(&format!("Revocation of credentials of {}", client.0)), "{lifted:?}");
    let (status, body) = ask(&new.url(), &client).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED, "{body}");
    let fresh = Person::sign_in(&new, MARIA).await.generate().await;
    assert_eq!(ask(&new.url(), &fresh).await.0, StatusCode::OK);
    assert_eq!(new.run_here(&["audit", "verify"], "").code, 0);
}
