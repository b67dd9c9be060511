//! The real program as a process of its own, in a folder of its own.

use std::{
    fs::File,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

/// A folder, an address, and at most one server.
pub struct Process {
    pub address: SocketAddr,
    program: PathBuf,
    folder: tempfile::TempDir,
    settings: Vec<String>,
    child: Option<Child>,
    runs: u32,
}

/// What a command answered.
#[derive(Debug)]
pub struct Answered {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Process {
    /// With these settings besides the defaults, as `key=value`.
    pub fn new(settings: &[&str]) -> Self {
        Self::of(env!("CARGO_BIN_EXE_portcullis").into(), settings)
    }

    /// The same of another program, another release for example.
    pub fn of(program: PathBuf, settings: &[&str]) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], super::free_port()));
        let settings = settings.iter().map(|s| {
            let (key, value) = s.split_once('=').unwrap();
            format!("--{}={value}", key.replace('_', "-"))
        });
        let (folder, settings) = (tempfile::tempdir().unwrap(), settings.collect());
        Self { address, program, folder, settings, child: None, runs: 0 }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The number of the server's process.
    pub fn id(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A file of the data folder.
    pub fn data(&self, name: &str) -> PathBuf {
        self.folder.path().join("data").join(name)
    }

    /// Takes over the master key of another folder, as each node of a database and whoever restores one does.
    pub fn take_key_of(&self, other: &Self) {
        std::fs::create_dir_all(self.data("")).unwrap();
        std::fs::copy(other.data("master.key"), self.data("master.key")).unwrap();
    }

    /// The flags that every command on this folder gets.
    pub fn flags(&self) -> Vec<String> {
        let mut flags = vec![
            format!("--listen={}", self.address),
            format!("--data-dir={}", self.folder.path().join("data").display()),
        ];
        flags.extend(self.settings.iter().cloned());
        flags
    }

    /// The program, without the environment of the test.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.env_clear().current_dir(self.folder.path());
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, args: &[&str], input: &str) -> Answered {
        self.run_with(self.command().args(args), input)
    }

    /// The same with the flags of this folder.
    pub fn run_here(&self, args: &[&str], input: &str) -> Answered {
        self.run_with(self.command().args(args).args(self.flags()), input)
    }

    pub fn run_with(&self, command: &mut Command, input: &str) -> Answered {
        self.run_into(command.stdout(Stdio::piped()), input)
    }

    /// The same with its standard output where the command says.
    pub fn run_into(&self, command: &mut Command, input: &str) -> Answered {
        command.stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // A command that does not read it may have ended already.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        Answered {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Makes a Super Admin as the operator does.
    pub fn super_admin(&self, email: &str, password: &str) {
        let args =
            ["admin", "create", "--email", email, "--name", "Maria Rocha", "--super-admin", "--password-stdin"];
        let made = self.run_here(&args, &format!("{password}\n"));
        assert_eq!(made.code, 0, "{made:?}");
    }

    fn log(&self, stream: &str) -> PathBuf {
        self.folder.path().join(format!("{stream}-{}", self.runs))
    }

    /// Starts the server and waits until it is ready.
    pub fn start(&mut self) {
        self.start_until("ready");
    }

    /// Starts the server and waits until this about its health is so.
    pub fn start_until(&mut self, health: &str) {
        self.runs += 1;
        let out = File::create(self.log("out")).unwrap();
        let err = File::create(self.log("err")).unwrap();
        let mut command = self.command();
        command.arg("serve").args(self.flags()).stdin(Stdio::null()).stdout(out).stderr(err);
        self.child = Some(command.spawn().unwrap());
        for _ in 0..3000 {
            if self.is(health) {
                return;
            }
            let ended = self.child.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "the server ended: {}", self.output());
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("the server is not ready: {}", self.output());
    }

    fn is(&self, health: &str) -> bool {
        let Ok(mut stream) = TcpStream::connect(self.address) else { return false };
        let asked = write!(stream, "GET /health/{health} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let mut answer = String::new();
        asked.is_ok() && stream.read_to_string(&mut answer).is_ok() && answer.starts_with("HTTP/1.1 200")
    }

    /// What the last server wrote to standard output and standard error.
    pub fn output(&self) -> String {
        ["out", "err"].map(|s| std::fs::read_to_string(self.log(s)).unwrap()).concat()
    }

    /// What it wrote to standard error.
    pub fn errors(&self) -> String {
        std::fs::read_to_string(self.log("err")).unwrap()
    }

    /// Takes the server away for somebody who ends it at a moment of theirs.
    pub fn take(&mut self) -> Child {
        self.child.take().unwrap()
    }

    /// SIGTERM, and the exit code.
    pub fn terminate(&mut self) -> Option<i32> {
        let mut child = self.child.take().unwrap();
        terminate(&child);
        child.wait().unwrap().code()
    }
}

/// Sends SIGTERM to one process.
pub fn terminate(child: &Child) {
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
