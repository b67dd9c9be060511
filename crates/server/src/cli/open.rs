//! Opening the store for a command: the data directory, the master keys, the database.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use portcullis_store::{Database, KEY_BYTES, MasterKeys, OpenError, OpenOptions, Store};

use crate::{clock::Clock, config::Config};

/// A store that was opened, and what the operator should know about it.
pub struct Opened {
    /// The store.
    pub store: Store,
    /// Whether the master key file was made just now.
    pub new_key: bool,
}

/// Makes a folder that only its owner can enter, if it is not there.
pub(crate) fn private_folder(path: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// The keys that are there: from the environment, else from the file. `None` when there is none.
fn present_keys(config: &Config) -> Result<Option<MasterKeys>, String> {
    if let Ok(text) = std::env::var("PORTCULLIS_MASTER_KEY") {
        return MasterKeys::parse(&text).map(Some).map_err(|e| format!("PORTCULLIS_MASTER_KEY: {e}"));
    }
    let path = &config.master_key_file;
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(format!("{}: {e}", path.display())),
    };
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = path.metadata().map_err(|e| format!("{}: {e}", path.display()))?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(format!(
                "{0} can be read by others (mode {1:03o}). Make it private: chmod 600 {0}",
                path.display(),
                mode & 0o777
            ));
        }
    }
    MasterKeys::parse(&text).map(Some).map_err(|e| format!("{}: {e}", path.display()))
}

/// Writes a key file whole or not at all: beside its place first, then moved there unless there is
/// one by now.
fn write_key_file(path: &Path, key: &[u8; KEY_BYTES], draft: u64) -> io::Result<()> {
    let folder = path.parent().filter(|f| !f.as_os_str().is_empty()).unwrap_or(Path::new("."));
    private_folder(folder)?;
    let draft = path.with_extension(format!("{draft:016x}.draft"));
    let mut options = std::fs::File::options();
    options.create_new(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&draft)?;
    let written = file
        .write_all(MasterKeys::file_text(key).as_bytes())
        .and_then(|()| file.sync_all())
        .and_then(|()| std::fs::hard_link(&draft, path));
    std::fs::remove_file(&draft)?;
    written?;
    std::fs::File::open(folder)?.sync_all()
}

/// Opens a store that is there already, for commands that only look.
///
/// # Errors
/// Also when there is none: looking into the wrong folder must not make one.
pub async fn existing(config: &Config) -> Result<Store, String> {
    let options = OpenOptions { only_look: true, ..options(config) };
    Store::open(&config.database, keys(config)?, &options).await.map_err(|e| e.to_string())
}

/// The master keys, which have to be there.
///
/// # Errors
/// When they are not.
pub(crate) fn keys(config: &Config) -> Result<Arc<MasterKeys>, String> {
    present_keys(config)?.map(Arc::new).ok_or_else(|| {
        let file = config.master_key_file.display();
        format!("there is no master key at {file}: give the right --data-dir or --master-key-file")
    })
}

/// Opens a store that is there already, for commands that change something in it.
///
/// # Errors
/// As [`existing`].
pub async fn existing_to_change(config: &Config) -> Result<Store, String> {
    existing(config).await?.close().await;
    Ok(open(config, &Clock::system()).await?.store)
}

/// Where it is noted what was acknowledged.
pub(crate) fn mark(config: &Config) -> PathBuf {
    config.data_dir.join("portcullis.mark")
}

fn options(config: &Config) -> OpenOptions {
    let mark = Some(mark(config));
    OpenOptions { connections: config.database_connections, mark, ..OpenOptions::default() }
}

/// Opens the store. A master key is made only for a database that has none yet, and is written
/// before anything is sealed with it.
///
/// # Errors
/// What is wrong and what to do.
pub async fn open(config: &Config, clock: &Clock) -> Result<Opened, String> {
    if matches!(config.database, Database::Sqlite(_)) {
        private_folder(&config.data_dir).map_err(|e| format!("{}: {e}", config.data_dir.display()))?;
    }
    let options = options(config);
    if let Some(keys) = present_keys(config)? {
        let store = Store::open(&config.database, Arc::new(keys), &options).await.map_err(|e| e.to_string())?;
        return Ok(Opened { store, new_key: false });
    }
    let key = clock.random();
    let file = &config.master_key_file;
    let opened = Store::open(&config.database, Arc::new(MasterKeys::one(key)), &options).await;
    let store = opened.map_err(|error| match error {
        OpenError::WrongMasterKey(id, _) => format!(
            "this database was made with master key {id}, but there is no key file at {} and no \
             PORTCULLIS_MASTER_KEY. Bring the key back; nothing was changed",
            file.display()
        ),
        other => other.to_string(),
    })?;
    match write_key_file(file, &key, u64::from_be_bytes(clock.random())) {
        Ok(()) => match store.claim(clock.random(), clock.now()).await {
            Ok(()) => Ok(Opened { store, new_key: true }),
            Err(error @ OpenError::WrongMasterKey(..)) => {
                // Another node with a key of its own was first. This key has sealed nothing.
                std::fs::remove_file(file).map_err(|e| format!("{}: {e}", file.display()))?;
                Err(error.to_string())
            }
            // It may have been claimed with this key all the same: the file stays for the next start.
            Err(error) => Err(error.to_string()),
        },
        // Another process that starts at the same time was first: its key is the one.
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            store.close().await;
            let keys = present_keys(config)?.ok_or("the master key file vanished")?;
            let store =
                Store::open(&config.database, Arc::new(keys), &options).await.map_err(|e| e.to_string())?;
            Ok(Opened { store, new_key: false })
        }
        Err(e) => Err(format!("{}: {e}", file.display())),
    }
}
