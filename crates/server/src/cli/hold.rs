//! `portcullis hold show|begin|lift` (H-1 to H-4): a database that may be older than what was acknowledged
//! on it, by whoever has the machine.

use std::{io::Read, path::PathBuf};

use clap::{ArgGroup, Args, Subcommand};
use portcullis_domain::credentials::ClientId;
use portcullis_store::{Database, OpenOptions, Store};

use crate::{
    app::hold::{Lifted, Since},
    cli::{Configuration, keys, open},
    config::Config,
    error::Failure,
};

/// What to do with the hold.
#[derive(Subcommand)]
pub enum Command {
    /// Say whether the database is on hold and why, and which credentials would work without it
    Show(Show),
    /// Put the database on hold: after it was restored by other means than `portcullis restore`
    ///
    /// Sessions end, and links and mails that wait go. Servers on it see it at once.
    Begin(Begin),
    /// Say what was stopped since the database was copied, and lift the hold
    ///
    /// All of it is done in one step, or nothing. Say at least one of the five; the first and the next
    /// three go together.
    Lift(Lift),
}

/// The flags of `portcullis hold show`.
#[derive(Args)]
pub struct Show {
    #[command(flatten)]
    configuration: Configuration,
}

/// The flags of `portcullis hold begin`.
#[derive(Args)]
pub struct Begin {
    #[command(flatten)]
    configuration: Configuration,
}

/// The flags of `portcullis hold lift`.
#[derive(Args)]
#[command(group = ArgGroup::new("since").required(true).multiple(true))]
pub struct Lift {
    /// Replay what was stopped from the old database, a file or a postgres:// URL without a password
    /// (PGPASSWORD has it)
    #[arg(long, value_name = "FILE|URL", group = "since")]
    replay_from: Option<String>,
    /// Revoke this credential; may be given several times
    #[arg(long, value_name = "CLIENT_ID", group = "since", value_parser = client_id)]
    revoke: Vec<ClientId>,
    /// Revoke the credentials that this file lists, one Client ID a line; `-` for standard input
    #[arg(long, value_name = "FILE", group = "since")]
    revoke_list: Option<PathBuf>,
    /// Revoke every credential: when nobody knows
    #[arg(long, group = "since")]
    revoke_all: bool,
    /// Nothing was revoked, suspended or taken from anybody since: you know it
    #[arg(long, group = "since", conflicts_with_all = ["replay_from", "revoke", "revoke_list", "revoke_all"])]
    nothing_was_stopped: bool,
    #[command(flatten)]
    configuration: Configuration,
}

fn client_id(text: &str) -> Result<ClientId, String> {
    ClientId::parse(text).ok_or_else(|| "this is not a Client ID: pcc_ and 20 letters and digits".to_owned())
}

impl Command {
    /// Runs the command.
    ///
    /// # Errors
    /// What was refused and what to do.
    pub async fn run(self) -> Result<(), String> {
        match self {
            Self::Show(Show { configuration }) => {
                let store = open::existing(&configuration.load()?).await?;
                let shown = show(&store).await.map_err(said);
                store.close().await;
                shown
            }
            Self::Begin(Begin { configuration }) => {
                let app = keys::app(&configuration).await?;
                let begun = app.begin_hold().await;
                app.store.close().await;
                match begun.map_err(said)? {
                    true => println!("The database is on hold: no token is issued and none is active."),
                    false => println!("The database is on hold already."),
                }
                Ok(())
            }
            Self::Lift(lift) => Box::pin(lift.run()).await,
        }
    }
}

fn said(failure: Failure) -> String {
    match failure {
        Failure::Internal(what) => what,
        other => other.to_string(),
    }
}

async fn show(store: &Store) -> Result<(), Failure> {
    let mut tx = store.read().await?;
    let Some(hold) = tx.hold().await? else {
        println!("The database is not on hold.");
        return Ok(());
    };
    println!("On hold since {}, because {}.", hold.since, hold.why.label());
    println!("The last audit record before it is {}. What was stopped later is not known here.", hold.after);
    let held = crate::app::hold::all_held(&mut tx, crate::clock::Clock::system().now()).await?;
    if held.is_empty() {
        println!("No credential would work if the hold were lifted.");
        return Ok(());
    }
    println!("Without the hold these credentials would work, but for those that are suspended:");
    println!("{:<24}  {:<9}  {:<27}  OWNER", "CLIENT ID", "STANDING", "GENERATED");
    for credential in held {
        let standing = if credential.suspended { "suspended" } else { "active" };
        let generated = credential.generated_at.to_string();
        println!("{:<24}  {standing:<9}  {generated:<27}  {}", credential.client_id.as_str(), credential.owner);
    }
    Ok(())
}

impl Lift {
    async fn run(self) -> Result<(), String> {
        let config = self.configuration.load()?;
        let mut revoked = self.revoke;
        if let Some(file) = &self.revoke_list {
            revoked.extend(listed(file)?);
        }
        let later = match &self.replay_from {
            Some(place) => Some(later(place, &config).await?),
            None => None,
        };
        let app = keys::app(&self.configuration).await?;
        let since = Since { later, revoked, all: self.revoke_all };
        let lifted = app.lift_hold(&since).await;
        if let Some(later) = &since.later {
            later.close().await;
        }
        app.store.close().await;
        print_lifted(&lifted.map_err(said)?);
        Ok(())
    }
}

fn print_lifted(lifted: &Lifted) {
    for entry in &lifted.acts {
        println!("Replayed: {} of {}", entry.event.label(), entry.subject);
    }
    for client_id in &lifted.not_held {
        println!("Nothing to revoke: {} (not in this database, or does not work in it)", client_id.as_str());
    }
    println!("The hold is lifted. {} acts were replayed; each is in the audit log.", lifted.acts.len());
    println!("Users whose role or password may have changed since, and were not replayed, are as they were then.");
    println!(
        "So are settings of APIs and sign-in providers that were made stricter since: scopes, lifespans, accounts \
         for new users. Of those only that an API requires DPoP is replayed."
    );
}

fn listed(file: &std::path::Path) -> Result<Vec<ClientId>, String> {
    let mut text = String::new();
    let read = if file.as_os_str() == "-" {
        std::io::stdin().lock().read_to_string(&mut text)
    } else {
        std::fs::File::open(file).and_then(|mut f| f.read_to_string(&mut text))
    };
    read.map_err(|e| format!("{}: {e}", file.display()))?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| client_id(line).map_err(|e| format!("{}: {line:?}: {e}", file.display()))).collect()
}

/// Opens the database to replay from. Its log has to be whole, or anybody could have written it.
async fn later(place: &str, config: &Config) -> Result<Store, String> {
    let database = if place.contains("://") {
        let url =
            url::Url::parse(place).map_err(|_| "--replay-from: this is not a URL of PostgreSQL".to_owned())?;
        if url.password().is_some() || url.query_pairs().any(|(name, _)| name.eq_ignore_ascii_case("password")) {
            return Err("--replay-from: a password in an argument can be seen by others. Put it into PGPASSWORD"
                .to_owned());
        }
        Database::Postgres(place.to_owned())
    } else {
        Database::Sqlite(PathBuf::from(place))
    };
    let options = OpenOptions { only_look: true, ..OpenOptions::default() };
    let keys = open::keys(config)?;
    let words = |e: &dyn std::fmt::Display| {
        format!(
            "--replay-from: {e}. If it cannot be read, name the credentials that were revoked (--revoke, --revoke-list)"
        )
    };
    let store = Store::open(&database, keys, &options).await.map_err(|e| words(&e))?;
    let broken = match store.verify_audit().await {
        Ok(chain) => chain.broken.map(|broken| words(&broken)),
        Err(error) => Some(words(&error)),
    };
    match broken {
        None => Ok(store),
        Some(words) => {
            store.close().await;
            Err(words)
        }
    }
}
