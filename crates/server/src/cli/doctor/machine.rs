//! The machine and what it reaches: open files, the time that a signature and a sync to disk take, the mail
//! server.

use std::{io::Write, time::Duration};

use jiff::SignedDuration;
use portcullis_store::Database;

use super::{Findings, Level};
use crate::{
    app::{keys, outbox},
    cli::serve::files_wanted,
    clock::Clock,
    config::{Config, MailWay},
};

/// A signature that takes longer is made on a machine that is very busy, or without its fast instructions.
const SLOW_SIGNATURE: SignedDuration = SignedDuration::from_millis(1);
/// A sync that takes longer makes every act wait.
const SLOW_SYNC: SignedDuration = SignedDuration::from_millis(20);
/// How long the mail server is waited for.
const MAIL_SERVER: Duration = Duration::from_secs(10);

/// Whether the system allows as many open files as the configuration wants.
pub(super) fn open_files(config: &Config, found: &mut Findings) {
    let (check, wanted) = ("open_files", files_wanted(config));
    match rlimit::Resource::NOFILE.get() {
        Ok((_, hard)) if hard < wanted => {
            let seen = format!("{hard} are allowed, and {wanted} wanted");
            found.add(
                Level::Warning,
                check,
                seen,
                "Raise the limit (LimitNOFILE= of systemd), or lower max_connections.",
            );
        }
        Ok((_, hard)) => found.fine(check, format!("{hard} are allowed, and {wanted} wanted")),
        Err(e) => found.add(Level::Warning, check, e.to_string(), "See ulimit -Hn."),
    }
}

/// How long a token's signature takes.
pub(super) fn signing(clock: &Clock, found: &mut Findings) {
    let check = "signing";
    match keys::signing_time(clock) {
        Ok(time) => {
            let seen = format!("an ES256 signature takes {} µs", time.as_micros());
            if time > SLOW_SIGNATURE {
                found.add(Level::Warning, check, seen, "See what else the machine does: tokens are signed on it.");
            } else {
                found.fine(check, seen);
            }
        }
        Err(e) => found.add(
            Level::Wrong,
            check,
            e.to_string(),
            "No token can be signed here: see the log of the system.",
        ),
    }
}

/// How long a small write takes to reach the disk of the embedded database. The file has no name and is
/// gone with its handle.
pub(super) fn syncing(config: &Config, clock: &Clock, found: &mut Findings) {
    use rustix::fs::{Mode, OFlags};
    if !matches!(config.database, Database::Sqlite(_)) || !config.data_dir.is_dir() {
        return;
    }
    let check = "sync";
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let opened = rustix::fs::open(&config.data_dir, flags, Mode::RUSR | Mode::WUSR);
    let Ok(mut file) = opened.map(std::fs::File::from) else { return };
    let mut times = Vec::new();
    for _ in 0..9 {
        let began = clock.now();
        if let Err(e) = file.write_all(&[0; 4096]).and_then(|()| file.sync_all()) {
            let remedy = "The disk fails, or is full: no act can be acknowledged.";
            return found.add(Level::Wrong, check, e.to_string(), remedy);
        }
        times.push(clock.now().duration_since(began));
    }
    times.sort_unstable();
    let median = times[times.len() / 2];
    let seen = format!("a write reaches the disk in {} µs", median.as_micros());
    if median > SLOW_SYNC {
        found.add(Level::Warning, check, seen, "Put data_dir on a faster disk: each commit waits for it.");
    } else {
        found.fine(check, seen);
    }
}

/// Whether mails can leave.
pub(super) async fn mail_server(config: &Config, found: &mut Findings) {
    let check = "mail";
    match &config.mail.way {
        MailWay::Folder(folder) => {
            let remedy = "Nobody gets an invitation or a new password by mail until smtp_url is set.";
            found.add(Level::Warning, check, format!("mails are put into {}", folder.display()), remedy);
        }
        MailWay::Smtp(_) => match outbox::reach(config, MAIL_SERVER).await {
            Ok(()) => found.fine(check, "the mail server answers"),
            Err(why) => {
                let remedy =
                    "Mails wait in the outbox meanwhile. See smtp_url, the way to the mail server, and its log.";
                found.add(Level::Wrong, check, why, remedy);
            }
        },
    }
}
