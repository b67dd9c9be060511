//! `portcullis backup` and `portcullis restore`: a copy of the SQLite database while the server works, and
//! putting one back. Every backup is on hold from the beginning (H-1), so that one which is put back by
//! hand is, too.

use std::{
    fs::{File, TryLockError},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;
use portcullis_domain::{audit::By, hold::Why};
use portcullis_store::{Alone, ChainState, CopyError, Database, MasterKeys, Store, put_in_place};

use crate::{
    cli::{Configuration, audit::hex, open},
    clock::Clock,
};

/// The flags of `portcullis backup`.
#[derive(Args)]
pub struct Backup {
    /// Where to write it; there must be nothing yet
    file: PathBuf,
    #[command(flatten)]
    configuration: Configuration,
}

/// The flags of `portcullis restore`.
#[derive(Args)]
pub struct Restore {
    /// The backup
    file: PathBuf,
    /// Also where there is a database; that one keeps another name
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    configuration: Configuration,
}

const POSTGRES: &str = "this is a PostgreSQL database, which has tools of its own. \
    One moment of it, while the servers work:\n\n  \
    pg_dump --format=custom --file=FILE --dbname=\"$PORTCULLIS_DATABASE_URL\"\n\n\
    Every moment of it: pg_basebackup, and archiving of its log. See \"Backup and restore\" in the book; \
    after a restore run `portcullis hold begin` before the first server is started";

fn said(path: &Path) -> impl Fn(io::Error) -> String {
    let path = path.display().to_string();
    move |error| format!("{path}: {error}")
}

fn with_end(file: &Path, end: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(end);
    name.into()
}

fn folder(file: &Path) -> &Path {
    file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A file that only its owner can read, made if it is not there and emptied if it is.
fn private_file(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.create(true).truncate(false).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// The file that a backup is made in, for this command alone.
fn locked(part: &Path, file: &Path) -> Result<File, String> {
    for _ in 0..3 {
        let lock = private_file(part).map_err(said(part))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => break,
            Err(TryLockError::Error(e)) => return Err(said(part)(e)),
        }
        let ours = lock.metadata().map_err(said(part))?;
        let is_there = part.metadata().is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino()));
        match (is_there, ours.nlink()) {
            (true, 1) => return Ok(lock),
            // A whole backup under another name: who made it was killed before this name was taken away.
            (true, _) => std::fs::remove_file(part).map_err(said(part))?,
            // Who had it took it away between the two, and the lock is on a file that nobody finds.
            (false, _) => {}
        }
    }
    Err(format!("another backup to {} is under way; nothing was changed", file.display()))
}

/// Removes what is there of a copy.
fn clear(file: &Path) -> Result<(), String> {
    for path in [file.to_owned(), with_end(file, "-journal"), with_end(file, "-wal"), with_end(file, "-shm")] {
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(said(&path)(e)),
            _ => {}
        }
    }
    Ok(())
}

fn in_bytes(bytes: u64) -> String {
    match bytes {
        0..10_000 => format!("{bytes} bytes"),
        10_000..10_000_000 => format!("{} kB", bytes / 1000),
        _ => format!("{} MB", bytes / 1_000_000),
    }
}

/// Opens a copy, sees that it is whole, and puts it on hold. The head of its log is that of before.
async fn check_and_hold(
    file: &Path,
    keys: Arc<MasterKeys>,
    now: jiff::Timestamp,
) -> Result<ChainState, CopyError> {
    let copy = Store::open_copy(file, keys).await?;
    let looked = hold(&copy, now).await;
    copy.close().await;
    looked
}

async fn hold(copy: &Store, now: jiff::Timestamp) -> Result<ChainState, CopyError> {
    if let Some(wrong) = copy.look_through().await? {
        return Err(CopyError::Damaged(wrong));
    }
    let chain = copy.verify_audit().await?;
    if let Some(broken) = &chain.broken {
        return Err(CopyError::Damaged(broken.to_string()));
    }
    let mut act = copy.act_on_hold().await?;
    if let Some(entry) = act.begin_hold(Why::Backup, By::Operator, now).await? {
        act.commit(&[entry]).await?;
    }
    Ok(chain)
}

impl Backup {
    /// Makes a backup.
    ///
    /// # Errors
    /// What kept it from being made; then nothing is left.
    pub async fn run(self) -> Result<(), String> {
        let config = self.configuration.load()?;
        let Database::Sqlite(database) = &config.database else { return Err(POSTGRES.to_owned()) };
        let file = self.file.as_path();
        if file.symlink_metadata().is_ok() {
            return Err(format!("{} is there already. Choose another name; nothing was changed", file.display()));
        }
        let store = open::existing(&config).await?;
        let keys = open::keys(&config)?;
        let part = with_end(file, ".part");
        let lock = locked(&part, file)?;
        let made = make(&store, &part, &lock, file, keys).await;
        store.close().await;
        clear(&part)?;
        let (chain, bytes) = made?;
        println!("{} is a backup of {} ({}).", file.display(), database.display(), in_bytes(bytes));
        println!("It is whole: {} audit records follow each other.", chain.records);
        println!("Head: {}:{}", chain.head.seq, hex(&chain.head.link));
        println!("A server on it issues nothing until `portcullis hold lift` was told what was stopped since.");
        println!("The master key is not in it. Keep a copy of that in another place.");
        Ok(())
    }
}

/// Makes the backup beside its place and moves it there whole and synced.
async fn make(
    store: &Store,
    part: &Path,
    lock: &File,
    file: &Path,
    keys: Arc<MasterKeys>,
) -> Result<(ChainState, u64), String> {
    // What was left by one that was killed. The file itself stays, for the lock is on it.
    let journal = with_end(part, "-journal");
    match std::fs::remove_file(&journal) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(said(&journal)(e)),
        _ => {}
    }
    lock.set_len(0).map_err(said(part))?;
    let failed = |error: CopyError| format!("the backup was not made: {error}");
    store.copy_into(part).await.map_err(failed)?;
    let chain = check_and_hold(part, keys, Clock::system().now()).await.map_err(failed)?;
    lock.sync_all().map_err(said(part))?;
    let bytes = lock.metadata().map_err(said(part))?.len();
    std::fs::hard_link(part, file).map_err(said(file))?;
    let folder = folder(file);
    File::open(folder).and_then(|f| f.sync_all()).map_err(said(folder))?;
    Ok((chain, bytes))
}

impl Restore {
    /// Puts a backup in the place of the database.
    ///
    /// # Errors
    /// What kept it from being done; the database is as it was then.
    pub async fn run(self) -> Result<(), String> {
        let config = self.configuration.load()?;
        let Database::Sqlite(database) = &config.database else { return Err(POSTGRES.to_owned()) };
        let backup = self.file.as_path();
        for (end, found) in
            [("-wal", "is the log of a database that was not closed"), ("-journal", "is a journal")]
        {
            let log = with_end(backup, end);
            if log.metadata().is_ok_and(|m| m.len() > 0) {
                return Err(format!(
                    "{} {found}: {} alone may lack changes. Restore what `portcullis backup` made",
                    log.display(),
                    backup.display()
                ));
            }
        }
        let keys = open::keys(&config)?;
        open::private_folder(&config.data_dir).map_err(said(&config.data_dir))?;
        let alone = Alone::with(database).map_err(|e| e.to_string())?;
        let there = database.symlink_metadata();
        if there.as_ref().is_ok_and(std::fs::Metadata::is_symlink) {
            return Err(format!("{} is a symbolic link: give the --data-dir it leads to", database.display()));
        }
        if there.is_ok() && !self.replace {
            return Err(format!(
                "there is a database at {}. With --replace it keeps another name; nothing was changed",
                database.display()
            ));
        }
        let now = Clock::system().now();
        let fresh = with_end(database, ".restoring");
        let kept = with_end(database, &format!(".replaced-{}", now.strftime("%Y%m%dT%H%M%S%fZ")));
        clear(&fresh)?;
        let done = async {
            copy_file(backup, &fresh).await?;
            let chain = check_and_hold(&fresh, keys, now).await;
            let chain = chain.map_err(|e| format!("{} was not restored: {e}", backup.display()))?;
            put_in_place(&alone, &fresh, &kept).await.map_err(|e| e.to_string())?;
            Ok::<_, String>(chain)
        }
        .await;
        clear(&fresh)?;
        let chain = done?;
        println!("{} is in the place of {}.", backup.display(), database.display());
        println!("Head: {}:{}", chain.head.seq, hex(&chain.head.link));
        println!("It is on hold: no token is issued and none is active. What would work: `portcullis hold show`.");
        let from = if kept.exists() {
            println!("The old database is now {}.", kept.display());
            format!(" --replay-from {}", kept.display())
        } else {
            String::new()
        };
        println!(
            "When you know what was stopped since: `portcullis hold lift{from}`; see --help for what it takes."
        );
        Ok(())
    }
}

async fn copy_file(from: &Path, to: &Path) -> Result<(), String> {
    let (from, to) = (from.to_owned(), to.to_owned());
    let copying = tokio::task::spawn_blocking(move || {
        let mut source = File::open(&from).map_err(said(&from))?;
        let mut target = private_file(&to).map_err(said(&to))?;
        io::copy(&mut source, &mut target).map(drop).map_err(said(&to))
    });
    copying.await.map_err(|e| e.to_string())?
}
