//! The real program, as an operator starts it.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

/// `portcullis serve` on a database of its own. It ends with the value.
pub struct Served {
    child: Child,
    pub url: String,
    /// The set-up link it printed.
    pub set_up: String,
    _folder: tempfile::TempDir,
}

impl Served {
    pub fn start(organization: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = crate::support::free_port();
        let mut child = Command::new(env!("CARGO_BIN_EXE_portcullis"))
            .args(["serve", "--listen", &format!("127.0.0.1:{port}"), "--organization", organization])
            .arg("--data-dir")
            .arg(folder.path())
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let set_up = lines.find_map(|line| line.trim().strip_prefix("Set up ").map(|link| link.trim().to_owned()));
        // It goes on printing; nobody has to read it.
        std::thread::spawn(move || lines.for_each(drop));
        let url = format!("http://127.0.0.1:{port}");
        Self { child, url, set_up: set_up.expect("a set-up link"), _folder: folder }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
