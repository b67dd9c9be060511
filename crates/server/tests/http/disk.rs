//! A disk that fails under the running server (I1, I4, I6): full, read-only, or in error when it is
//! to sync. strace makes the kernel's answers; when it lets go the disk is well again.

use std::{
    fs::File,
    process::{Child, Command, Stdio},
    time::Duration,
};

use reqwest::{Client, Response, StatusCode};
use serde_json::Value;

use crate::{
    crash::integrity,
    support::{
        outside::{MARIA, PASSWORD, Person, answered},
        process::Process,
    },
};

const PAULO: &str = "paulo@acme.example";

/// What goes wrong, in strace's words.
#[derive(Clone, Copy)]
struct Fault {
    calls: &'static str,
    error: &'static str,
}

/// Every write to the database fails for want of space.
const FULL: Fault = Fault { calls: "pwrite64,ftruncate,fallocate", error: "ENOSPC" };
/// The file system went over to reading only, as it does after an error of its disk.
const READ_ONLY: Fault = Fault { calls: "pwrite64,ftruncate,fallocate", error: "EROFS" };
/// What was written does not reach the disk.
const NO_SYNC: Fault = Fault { calls: "fsync,fdatasync", error: "EIO" };

/// A fault that lasts until this is dropped.
struct Broken(Child);

impl Broken {
    /// Takes hold of every thread of the server.
    fn new(process: &Process, fault: Fault) -> Self {
        let pid = process.id();
        let inject = format!("inject={}:error={}", fault.calls, fault.error);
        let said = process.folder().join("strace");
        let child = Command::new("strace")
            .args(["-f", "-p", &pid.to_string(), "-e", &format!("trace={}", fault.calls), "-e", &inject, "-o"])
            .arg(&said)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(process.folder().join("strace-errors")).unwrap())
            .spawn()
            .expect("strace is not there: ./dev/test installs it");
        let mut broken = Self(child);
        let threads = format!("/proc/{pid}/task");
        while !std::fs::read_dir(&threads).unwrap().all(|thread| is_traced(&thread.unwrap().path())) {
            let ended = broken.0.try_wait().unwrap();
            let why = || std::fs::read_to_string(process.folder().join("strace-errors")).unwrap();
            assert!(ended.is_none(), "strace cannot take hold of the server: {}", why());
            std::thread::sleep(Duration::from_millis(10));
        }
        broken
    }
}

fn is_traced(thread: &std::path::Path) -> bool {
    // A thread that has just ended counts as none.
    let Ok(status) = std::fs::read_to_string(thread.join("status")) else { return true };
    status.lines().any(|line| line.strip_prefix("TracerPid:").is_some_and(|pid| pid.trim() != "0"))
}

impl Drop for Broken {
    fn drop(&mut self) {
        // It lets go of the server before it ends.
        crate::support::process::terminate(&self.0);
        self.0.wait().unwrap();
    }
}

/// Acts again and again until the server can do it.
async fn at_last(person: &Person, act: &str) -> (StatusCode, Value) {
    for _ in 0..100 {
        let (status, body) = answered(person.act(act).await).await.unwrap();
        if status != StatusCode::SERVICE_UNAVAILABLE {
            return (status, body);
        }
    }
    panic!("the server does not recover");
}

/// A credential in a program's hands.
struct Program {
    id: String,
    secret: String,
    url: String,
    client: Client,
}

impl Program {
    fn of(made: &Value, process: &Process) -> Self {
        let text = |name: &str| made[name].as_str().unwrap().to_owned();
        Self { id: text("client_id"), secret: text("client_secret"), url: process.url(), client: Client::new() }
    }

    async fn ask(&self) -> Response {
        let request = self.client.post(format!("{}/oauth/token", self.url));
        let request = request.basic_auth(&self.id, Some(&self.secret));
        request.form(&[("grant_type", "client_credentials")]).send().await.unwrap()
    }

    async fn status(&self) -> StatusCode {
        self.ask().await.status()
    }

    async fn is_active(&self, token: &str) -> bool {
        let request = self.client.post(format!("{}/oauth/introspect", self.url));
        let answer =
            request.basic_auth(&self.id, Some(&self.secret)).form(&[("token", token)]).send().await.unwrap();
        answer.json::<Value>().await.unwrap()["active"] == true
    }
}

/// I6: not done, or perhaps done, and never said to be.
fn assert_not_acknowledged(answer: &Response, what: &str) {
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE, "{what}");
    assert!(answer.headers().contains_key("retry-after"), "{what}");
}

/// Breaks the disk under a server with a credential; nothing is acknowledged meanwhile; afterwards, and
/// after a kill -9, what was acknowledged before and after is there, and nothing has two meanings.
async fn survives(fault: Fault) {
    let mut process = Process::new(&[]);
    process.super_admin(MARIA, PASSWORD);
    process.super_admin(PAULO, PASSWORD);
    process.start();
    let (maria, paulo) = (Person::sign_in(&process, MARIA).await, Person::sign_in(&process, PAULO).await);
    let (made, first) = at_last(&maria, "generate").await;
    assert_eq!(made, StatusCode::CREATED);
    let program = Program::of(&first, &process);
    let token = program.ask().await.json::<Value>().await.unwrap()["access_token"].as_str().unwrap().to_owned();

    let broken = Broken::new(&process, fault);
    for _ in 0..3 {
        assert_not_acknowledged(&program.ask().await, "a token");
        assert_not_acknowledged(&paulo.act("generate").await.unwrap(), "generate");
        assert_not_acknowledged(&maria.act("revoke").await.unwrap(), "revoke");
    }
    assert!(program.is_active(&token).await, "what was revoked without an answer is not half revoked");
    drop(broken);

    // Without a restart. A revocation that was not acknowledged may have happened.
    let (generated, second) = at_last(&paulo, "generate").await;
    let there = paulo.held().await.unwrap();
    match generated {
        StatusCode::CREATED => assert_eq!(second["client_id"], there.as_str()),
        StatusCode::CONFLICT => {}
        other => panic!("{other}"),
    }
    assert_eq!(program.status().await, StatusCode::OK, "tokens again");
    let (revoked, answer) = at_last(&maria, "revoke").await;
    assert_eq!(revoked, StatusCode::OK, "{answer}");
    assert_eq!(program.status().await, StatusCode::UNAUTHORIZED, "I1");

    let mut child = process.take();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(process.run_here(&["audit", "verify"], "").code, 0, "I4");
    process.start();
    assert_eq!(program.status().await, StatusCode::UNAUTHORIZED, "I1: also after a crash");
    assert_eq!(Person::sign_in(&process, PAULO).await.held().await, Some(there), "what was acknowledged is there");
    assert_eq!(process.terminate(), Some(0));
    integrity(&process).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i6_on_a_full_disk_nothing_is_acknowledged_and_with_space_all_works_again() {
    survives(FULL).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i6_on_a_read_only_disk_nothing_is_acknowledged_and_later_all_works_again() {
    survives(READ_ONLY).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i6_when_nothing_can_be_synced_nothing_is_acknowledged_and_later_all_works_again() {
    survives(NO_SYNC).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i1_a_crash_while_nothing_can_be_synced_leaves_what_was_acknowledged() {
    let mut process = Process::new(&[]);
    process.super_admin(MARIA, PASSWORD);
    process.super_admin(PAULO, PASSWORD);
    process.start();
    let (maria, paulo) = (Person::sign_in(&process, MARIA).await, Person::sign_in(&process, PAULO).await);
    let gone = Program::of(&at_last(&maria, "generate").await.1, &process);
    assert_eq!(at_last(&maria, "revoke").await.0, StatusCode::OK);
    let program = Program::of(&at_last(&paulo, "generate").await.1, &process);
    let token = program.ask().await.json::<Value>().await.unwrap()["access_token"].as_str().unwrap().to_owned();

    let broken = Broken::new(&process, NO_SYNC);
    assert_not_acknowledged(&program.ask().await, "a token");
    assert_not_acknowledged(&paulo.act("revoke").await.unwrap(), "revoke");
    let mut child = process.take();
    child.kill().unwrap();
    child.wait().unwrap();
    drop(broken);

    assert_eq!(process.run_here(&["audit", "verify"], "").code, 0, "I4");
    process.start();
    assert_eq!(gone.status().await, StatusCode::UNAUTHORIZED, "I1: acknowledged before");
    // The other was not answered: it is done wholly or not at all.
    let paulo = Person::sign_in(&process, PAULO).await;
    match paulo.held().await {
        Some(id) => {
            assert_eq!(id, program.id);
            assert!(program.is_active(&token).await);
            assert_eq!(program.status().await, StatusCode::OK);
        }
        None => assert_eq!(program.status().await, StatusCode::UNAUTHORIZED),
    }
    assert_eq!(process.terminate(), Some(0));
    integrity(&process).await;
}
