//! `portcullis serve`.

use std::{io::Write, sync::Arc};

use portcullis_domain::secret::ExposeSecret;
use portcullis_store::Database;

use crate::{
    app::{App, hold, housekeeping, keys, outbox},
    cli::open::{self, Opened},
    clock::Clock,
    config::{Config, MailWay},
    http::Server,
    telemetry,
};

/// Prints a line for the operator. Whoever started the server may have gone; it serves all the same.
macro_rules! say {
    ($($text:tt)*) => {{ let _ = writeln!(std::io::stdout(), $($text)*); }};
}

/// Runs the server until SIGTERM or SIGINT.
///
/// # Errors
/// What keeps it from starting and what to do.
pub async fn run(config: &Config) -> Result<(), String> {
    telemetry::start(config)?;
    let clock = Clock::system();
    let began = clock.now();
    let Opened { store, new_key } = open::open(config, &clock).await?;
    let app = App::start(store, clock.clone(), config.clone()).await.map_err(|failure| {
        failure.log();
        failure.to_string()
    })?;
    raise_file_limit(config);
    let server = Server::bind(&app).map_err(|e| e.to_string())?;
    let address = server.address().map_err(|e| e.to_string())?;
    let scheme = if config.tls.is_some() { "https" } else { "http" };
    let ready_in = clock.now().duration_since(began).as_millis();
    say!("Portcullis {} is ready ({ready_in} ms)", env!("CARGO_PKG_VERSION"));
    say!("  Listening on  {scheme}://{address}");
    say!("  Console       {}", config.public_url);
    say!("  Data          {}", where_data_is(config));
    if let MailWay::Folder(folder) = &config.mail.way {
        say!("  Mail          put into {} (smtp_url is not set)", folder.display());
    }
    if new_key {
        say!(
            "  Master key    {} was made just now: keep a copy apart from backups",
            config.master_key_file.display()
        );
    }
    if let Some(hold) = app.hold().await.map_err(|f| f.to_string())? {
        say!("  ON HOLD       since {}: {}", hold.since, hold.why.label());
        say!("                No token is issued and none is active until `portcullis hold lift`.");
    }
    if let Some(token) = app.set_up_token().await.map_err(|f| f.to_string())? {
        say!("  Set up        {}/setup/{}", config.public_url, token.expose_secret());
        say!("                Open this link once to make the first Super Admin.");
    }
    let sweeper = tokio::spawn(housekeeping::run(Arc::clone(&app)));
    let sender = tokio::spawn(outbox::run(Arc::clone(&app)));
    let keeper = tokio::spawn(keys::run(Arc::clone(&app)));
    let watcher = tokio::spawn(hold::watch(Arc::clone(&app)));
    server.run(stopped()).await;
    keeper.abort();
    watcher.abort();
    sweeper.abort();
    sender.abort();
    // A database that is gone without a word does not keep the process.
    if tokio::time::timeout(config.limits.shutdown, app.store.close()).await.is_err() {
        tracing::warn!("the database did not let go in time");
    }
    say!("Portcullis has stopped.");
    Ok(())
}

/// Open files that a configuration wants: each connection is one, and so is each to the database; what is
/// left is for logs and libraries.
pub(crate) fn files_wanted(config: &Config) -> u64 {
    (config.limits.connections as u64).saturating_add(u64::from(config.database_connections) + 64)
}

/// Says so when the system allows fewer than the configuration wants.
fn raise_file_limit(config: &Config) {
    let wanted = files_wanted(config);
    match rlimit::increase_nofile_limit(wanted) {
        Ok(allowed) if allowed < wanted => {
            tracing::warn!(allowed, wanted, "the limit of open files is lower than max_connections needs");
        }
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "the limit of open files could not be raised"),
    }
}

fn where_data_is(config: &Config) -> String {
    match &config.database {
        Database::Sqlite(file) => format!("{} (SQLite)", file.display()),
        Database::Postgres(url) => {
            // Without what stands before the @ (it may be a password) and behind the ?.
            let place = url.split('?').next().unwrap_or_default();
            let place =
                place.rsplit_once('@').map_or_else(|| place.split("://").nth(1).unwrap_or_default(), |(_, p)| p);
            format!("{place} (PostgreSQL)")
        }
    }
}

async fn stopped() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
            return;
        }
    }
    let _ = tokio::signal::ctrl_c().await;
}
