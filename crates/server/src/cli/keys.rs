//! `portcullis keys list|rotate|withdraw|rewrap`: signing keys and the master key, by whoever has the
//! machine. A server may be running on the database; it sees what changes with its next request.

use std::sync::Arc;

use clap::{Args, Subcommand};
use portcullis_domain::{
    apis::OWN,
    keys::{Algorithm, Kept},
};
use portcullis_store::MasterKeyUse;

use crate::{
    app::{
        App,
        keys::{Doer, Rewrapped, own_audience},
    },
    cli::{Configuration, open},
    clock::Clock,
    config::Config,
    error::Failure,
};

/// What to do with keys.
#[derive(Subcommand)]
pub enum Command {
    /// List the signing keys: state, algorithm, key id, and since when
    List(Plain),
    /// Let the next signing key sign from now on, and publish a new one
    ///
    /// Refused while the next key has not been published for long enough: verifiers may not hold it.
    Rotate(Rotate),
    /// Take a compromised signing key out of the key set at once; what it signed is refused
    Withdraw(Withdraw),
    /// Seal everything that is sealed anew under the current master key, and say what needs which key
    ///
    /// Put the new master key in front of the old one first, on every node. Can be stopped and run
    /// again. A digest cannot be made anew: the old key stays in the ring until nothing needs it.
    Rewrap(Plain),
}

/// Nothing but the configuration.
#[derive(Args)]
pub struct Plain {
    #[command(flatten)]
    configuration: Configuration,
}

/// The flags of `portcullis keys rotate`.
#[derive(Args)]
pub struct Rotate {
    /// ES256, EdDSA or RS256
    #[arg(long, default_value = "ES256", value_parser = algorithm)]
    algorithm: Algorithm,
    /// Also when the next key has not been published for long enough
    #[arg(long)]
    now: bool,
    #[command(flatten)]
    configuration: Configuration,
}

/// The flags of `portcullis keys withdraw`.
#[derive(Args)]
pub struct Withdraw {
    /// The key id
    kid: String,
    /// Why, for the audit log
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    configuration: Configuration,
}

fn algorithm(text: &str) -> Result<Algorithm, String> {
    Algorithm::from_code(text).ok_or_else(|| "choose ES256, EdDSA or RS256".to_owned())
}

/// The app of a database that is there, for commands that change something in it.
///
/// # Errors
/// What is wrong with the configuration, or with what was found.
pub(crate) async fn app(configuration: &Configuration) -> Result<Arc<App>, String> {
    let config = configuration.load()?;
    is_of(&config).await?;
    let store = open::existing_to_change(&config).await?;
    App::start(store, Clock::system(), config).await.map_err(said)
}

/// Refuses to go on with another address than the server has: starting would name its API anew, under
/// the feet of the nodes that run.
async fn is_of(config: &Config) -> Result<(), String> {
    let store = open::existing(config).await?;
    let found = async { store.read().await?.api(OWN).await }.await;
    store.close().await;
    let (given, found) = (own_audience(&config.public_url), found.map_err(|e| e.to_string())?);
    match found.map(|api| api.settings.identifier).filter(|identifier| *identifier != given) {
        None => Ok(()),
        Some(identifier) => Err(format!(
            "this is the database of a server whose API is {identifier}, and with these settings it would be {given}: \
             give this command the configuration of the server"
        )),
    }
}

/// A failure in words that help at a terminal.
fn said(failure: Failure) -> String {
    match failure {
        Failure::Internal(what) => what,
        Failure::NotFound => "there is no such key; `portcullis keys list` lists them".to_owned(),
        other => other.to_string(),
    }
}

impl Command {
    fn configuration(&self) -> &Configuration {
        match self {
            Self::List(Plain { configuration })
            | Self::Rotate(Rotate { configuration, .. })
            | Self::Withdraw(Withdraw { configuration, .. })
            | Self::Rewrap(Plain { configuration }) => configuration,
        }
    }

    /// Runs the command.
    ///
    /// # Errors
    /// What was refused and what to do.
    pub async fn run(self) -> Result<(), String> {
        let app = app(self.configuration()).await?;
        let done = self.act(&app).await;
        app.store.close().await;
        done.map_err(said)
    }

    async fn act(self, app: &App) -> Result<(), Failure> {
        match self {
            Self::List(_) => list(app).await?,
            Self::Rotate(Rotate { algorithm, now, .. }) => {
                let rotation = app.rotate_keys(Doer::Operator, algorithm, now, None).await?;
                let (retiring, leaves_at) = rotation.retiring;
                println!("{} signs from now on.", rotation.active);
                println!("{retiring} signs no more, and leaves the key set at {leaves_at}.");
            }
            Self::Withdraw(Withdraw { kid, reason, .. }) => {
                app.withdraw_key(Doer::Operator, &kid, &reason).await?;
                println!("{kid} is out of the key set. What it signed is refused.");
            }
            Self::Rewrap(_) => print_rewrapped(&app.rewrap().await?, app.store.keys().current_id()),
        }
        Ok(())
    }
}

async fn list(app: &App) -> Result<(), Failure> {
    let now = app.clock.now();
    println!("{:<10} {:<6} {:<43} SINCE", "STATE", "ALG", "KEY ID");
    for key in app.signing_keys(Doer::Operator).await? {
        let life = key.life;
        let ended = life.withdrawn_at.or(life.leaves_at.filter(|at| *at <= now)).or(life.retiring_at);
        let since = ended.or(life.active_at).unwrap_or(life.created_at);
        let (state, code) = (life.state(now).code(), key.algorithm.code());
        println!("{state:<10} {code:<6} {:<43} {since}", key.kid);
    }
    Ok(())
}

fn print_rewrapped(Rewrapped { done, needs }: &Rewrapped, current: &str) {
    for (what, count) in done {
        println!("Sealed anew: {count} {what}");
    }
    if done.is_empty() {
        println!("Everything that is sealed is sealed under the current master key {current}.");
    }
    let older: Vec<&MasterKeyUse> = needs.iter().filter(|n| n.key_id != current).collect();
    if older.is_empty() {
        println!("Nothing needs another master key than {current}. Older ones can be dropped.");
    }
    for MasterKeyUse { kept, key_id, count } in older {
        let (key, what) = (if key_id.is_empty() { "an older master key" } else { key_id }, kept.label());
        println!("Still needs {key}: {count} {what} ({})", when_not(*kept));
    }
}

/// What has to happen before an older key can be dropped.
fn when_not(kept: Kept) -> &'static str {
    match kept {
        Kept::ClientSecrets => {
            "until they are revoked or expire; a credential generated anew is under the current one"
        }
        Kept::ApiKeys => "until they are replaced or removed",
        Kept::RecoveryCodes => "until they are used or made anew",
        Kept::AuditRecords => "to verify them, until they are dropped by age",
        _ => "something was sealed meanwhile: is it the first key in the ring of every node? Run this again",
    }
}
