//! Files: certificates, the master keys, the data folder.

use std::{
    fs::{File, Metadata},
    io::ErrorKind,
    os::unix::fs::MetadataExt,
    path::Path,
};

use portcullis_store::{Database, MasterKeys};

use super::{Findings, Level};
use crate::{cli::open, config::Config, http};

/// Below so much free space commits soon fail.
const FULL: u64 = 100 << 20;
/// Below so much there is time to do something.
const GETS_FULL: u64 = 1 << 30;

/// Whether the way of users and programs has TLS.
pub(super) fn tls(config: &Config, found: &mut Findings) {
    match (http::acceptor(config), config.wants_tls()) {
        (Err(e), _) => found.add(
            Level::Wrong,
            "tls",
            e.to_string(),
            "Give a PEM file with the certificate chain and one with its private key.",
        ),
        (Ok(Some(_)), _) => found.fine("tls", "by the server itself"),
        (Ok(None), true) => found.fine("tls", "by the proxies in trusted_proxies"),
        (Ok(None), false) => found.add(
            Level::Warning,
            "tls",
            format!("{} is plain HTTP, which is for trying on this machine", config.public_url),
            "Set public_url to https://… before anybody else uses it.",
        ),
    }
}

/// The master keys, if they can be used.
pub(super) fn master_key(config: &Config, found: &mut Findings) -> Option<MasterKeys> {
    let check = "master_key";
    let wrong = |found: &mut Findings, seen: String, remedy: &str| {
        found.add(Level::Wrong, check, seen, remedy);
        None
    };
    let path = &config.master_key_file;
    let shown = path.display();
    let text = match std::env::var("PORTCULLIS_MASTER_KEY") {
        Ok(text) => text,
        Err(_) => match std::fs::read_to_string(path) {
            Ok(text) => {
                key_file(config, path, found);
                text
            }
            Err(e) if e.kind() == ErrorKind::NotFound => {
                let remedy = "Right before the first start, which makes it. Else give the right --data-dir, \
                              --master-key-file or PORTCULLIS_MASTER_KEY.";
                found.add(Level::Warning, check, format!("there is no {shown}"), remedy);
                return None;
            }
            Err(e) => {
                let remedy = "The server has to be able to read it: see its owner and mode.";
                return wrong(found, format!("{shown}: {e}"), remedy);
            }
        },
    };
    match MasterKeys::parse(&text) {
        Ok(keys) => {
            found.fine(check, format!("{} is current", keys.current_id()));
            Some(keys)
        }
        Err(e) => wrong(found, e.to_string(), "Bring a good copy of the ring back."),
    }
}

/// Who can read the key file, and what lies beside it.
fn key_file(config: &Config, path: &Path, found: &mut Findings) {
    let (check, shown) = ("master_key_file", path.display());
    let Ok(about) = path.metadata() else { return };
    let mode = about.mode() & 0o777;
    if mode & 0o077 != 0 {
        let remedy = format!("chmod 600 {shown}. Others may have read it: portcullis keys rewrap uses a new one.");
        found.add(Level::Wrong, check, format!("{shown} can be read by others (mode {mode:03o})"), remedy);
    }
    if let Some(owner) = stranger(&about) {
        let remedy = "Give it to the user that the server runs as, who is to run this command too.";
        found.add(Level::Warning, check, format!("{shown} belongs to user {owner}"), remedy);
    }
    let Database::Sqlite(file) = &config.database else { return };
    let same = |a: &Path, b: &Path| a.canonicalize().ok().zip(b.canonicalize().ok()).is_some_and(|(a, b)| a == b);
    if path.parent().zip(file.parent()).is_some_and(|(key, data)| same(key, data)) {
        let remedy = "Whoever copies the folder has the database and the key to it. Put the key elsewhere \
                      (master_key_file), and never into the same backup.";
        found.add(Level::Warning, check, format!("{shown} lies beside the database"), remedy);
    }
}

/// The owner of a file, if it is neither this user nor root.
fn stranger(about: &Metadata) -> Option<u32> {
    let me = rustix::process::geteuid().as_raw();
    (about.uid() != me && about.uid() != 0).then(|| about.uid())
}

/// The folder of the embedded database: who can enter it, and how much room there is.
pub(super) fn data_folder(config: &Config, found: &mut Findings) {
    let (check, path) = ("data_dir", &config.data_dir);
    let shown = path.display();
    let about = match path.metadata() {
        Ok(about) => about,
        Err(e) if e.kind() == ErrorKind::NotFound => {
            let remedy = "Right before the first start, which makes it. Else give the right --data-dir.";
            return found.add(Level::Warning, check, format!("there is no {shown}"), remedy);
        }
        Err(e) => return found.add(Level::Wrong, check, format!("{shown}: {e}"), "See its owner and mode."),
    };
    let mode = about.mode() & 0o777;
    if mode & 0o077 != 0 {
        let remedy = format!("chmod 700 {shown}");
        found.add(Level::Warning, check, format!("{shown} can be entered by others (mode {mode:03o})"), remedy);
    }
    if let Err(e) = rustix::fs::access(path, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK) {
        let remedy = "The server writes there: see its owner, its mode, and whether the disk is read-only.";
        found.add(Level::Wrong, check, format!("{shown} cannot be written to: {e}"), remedy);
    }
    if let Some(owner) = stranger(&about) {
        let remedy = "Give it to the user that the server runs as, who is to run this command too.";
        found.add(Level::Warning, check, format!("{shown} belongs to user {owner}"), remedy);
    }
    room(path, found);
}

/// Whether what is acknowledged can be noted, so that an older copy of the database is noticed (H-4).
pub(super) fn mark(config: &Config, found: &mut Findings) {
    let (check, path) = ("mark", open::mark(config));
    // Opened as the server does; what is in it stays.
    match File::options().read(true).write(true).open(&path) {
        Ok(_) => found.fine(check, format!("{} can be written to", path.display())),
        // The first start makes it.
        Err(e) if e.kind() == ErrorKind::NotFound => {}
        Err(e) => {
            let remedy = "The server notes there what it acknowledged, and may not start without: see its owner and \
                          mode. Do not remove it: an older copy of the database is told by it.";
            found.add(Level::Wrong, check, format!("{}: {e}", path.display()), remedy);
        }
    }
}

fn room(path: &Path, found: &mut Findings) {
    let check = "disk";
    let free = match rustix::fs::statvfs(path) {
        Ok(about) => about.f_bavail.saturating_mul(about.f_frsize),
        Err(e) => return found.add(Level::Warning, check, e.to_string(), "See by hand how much room there is."),
    };
    let seen = format!("{} MiB free at {}", free >> 20, path.display());
    let remedy = "Make room. What cannot be written is refused with 503 until there is.";
    match free {
        ..FULL => found.add(Level::Wrong, check, seen, remedy),
        FULL..GETS_FULL => found.add(Level::Warning, check, seen, remedy),
        _ => found.fine(check, seen),
    }
}
