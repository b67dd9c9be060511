//! A gateway as an unprivileged process of its own, with a recipe.

use std::{
    fs,
    os::unix::{
        fs::{MetadataExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use reqwest::{Client, redirect};

use crate::house::{House, mode};

/// `nobody`, whom the gateway runs as when the tests run as root.
const NOBODY: u32 = 65534;

/// The files of a gateway, in a folder of its own.
pub struct Files {
    folder: tempfile::TempDir,
    /// What stands in the recipes, and what it is here.
    names: Vec<(&'static str, String)>,
    pub port: u16,
}

fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

impl Files {
    pub fn new(house: &House) -> Self {
        let folder = tempfile::tempdir().unwrap();
        if is_root() {
            chown(folder.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let port = free_port();
        let here = folder.path().display().to_string();
        let key = format!("{}:{}", house.orders.client_id, house.orders.client_secret);
        let names = vec![
            ("https://access.acme.example", house.url.clone()),
            ("access.acme.example:443", format!("127.0.0.1:{}", house.port)),
            ("access.acme.example", "localhost".to_owned()),
            ("127.0.0.1:8000", format!("127.0.0.1:{port}")),
            ("127.0.0.1:9000", format!("127.0.0.1:{}", house.backend.port)),
            ("/etc/ssl/certs/ca-certificates.crt", house.trusted.display().to_string()),
            ("/etc/nginx/portcullis", here.clone()),
            ("/var/lib/nginx/portcullis", format!("{here}/cache")),
            ("/etc/haproxy/portcullis", here.clone()),
            ("abns@portcullis", format!("abns@portcullis-{port}")),
            ("/etc/apache2/portcullis", here),
            ("KEY_BASE64", BASE64_STANDARD.encode(key)),
            ("KEY_ID", house.orders.client_id.clone()),
            ("KEY_SECRET", house.orders.client_secret.clone()),
        ];
        Self { folder, names, port }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Another name for what stands in a recipe, before the usual ones.
    pub fn name(&mut self, there: &'static str, here: String) {
        self.names.insert(0, (there, here));
    }

    /// Writes a file that only the gateway may read.
    pub fn put(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, mode(0o600)).unwrap();
        if is_root() {
            chown(&path, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        path
    }

    /// Puts a file of `dev/gateways`, with the names of here.
    pub fn recipe(&self, path: &str) -> PathBuf {
        let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dev/gateways");
        let mut text = fs::read_to_string(all.join(path)).unwrap();
        for (there, here) in &self.names {
            text = text.replace(there, here);
        }
        let code = text.lines().filter(|line| !line.trim_start().starts_with(['#', '/', '-']));
        for line in code {
            let left =
                ["access.acme", "/etc/", "/run/", "/var/", "KEY_"].into_iter().find(|rest| line.contains(rest));
            assert_eq!(left, None, "{path} says what it is not here: {line}");
        }
        self.put(Path::new(path).file_name().unwrap().to_str().unwrap(), &text)
    }

    /// A program that is nobody, and that has this folder as its own.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.path()).stdin(Stdio::null());
        // Where Debian has the servers.
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        if is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }

    /// Starts it and waits until it listens.
    pub async fn start(self, mut command: Command) -> Gateway {
        let file = fs::File::options().append(true).open(self.put("log", "")).unwrap();
        command.stdout(file.try_clone().unwrap()).stderr(file);
        let child = command.spawn().unwrap_or_else(|e| {
            panic!("{} does not start ({e}): dev/test installs it", command.get_program().display())
        });
        let client = Client::builder().redirect(redirect::Policy::none()).build().unwrap();
        let url = format!("http://127.0.0.1:{}/orders?page=2", self.port);
        let mut gateway = Gateway { child, files: self, client, url };
        let begun = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", gateway.files.port)).is_err() {
            let ended = gateway.child.try_wait().unwrap();
            assert!(ended.is_none() && begun.elapsed() < Duration::from_secs(20), "{ended:?}: {}", gateway.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        gateway
    }
}

pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// It ends with the value.
pub struct Gateway {
    child: Child,
    pub files: Files,
    pub client: Client,
    pub url: String,
}

impl Gateway {
    /// All it has said.
    pub fn log(&self) -> String {
        fs::read_to_string(self.files.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // Asked, not killed: it has workers to end.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            #[allow(clippy::print_stderr, reason = "it says why the test failed")]
            {
                eprintln!("--- the gateway's log, its end ---\n{}", &log[log.len().saturating_sub(6000)..]);
            }
        }
    }
}

#[test]
fn the_book_shows_every_recipe_that_is_tested() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let book = fs::read_to_string(here.join("../../docs/book/src/gateways.md")).unwrap();
    let mut shown = 0;
    for gateway in fs::read_dir(here.join("../../dev/gateways")).unwrap().map(Result::unwrap) {
        for file in fs::read_dir(gateway.path()).unwrap().map(Result::unwrap) {
            let path = format!("{}/{}", gateway.file_name().display(), file.file_name().display());
            assert!(
                book.contains(&format!("{{{{#include ../../../dev/gateways/{path}}}}}")),
                "{path} is not in it"
            );
            shown += 1;
        }
    }
    assert_eq!(book.matches("{{#include").count(), shown, "and nothing else");
}
