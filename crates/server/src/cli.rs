//! The command line: one program that serves, and that does from a terminal what has no place in
//! a browser. Answers go to standard output, everything else to standard error.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this is the terminal's door")]

pub mod admin;
pub mod audit;
pub mod backup;
pub mod bind_key;
pub mod credential;
pub mod doctor;
pub mod flags;
pub mod hold;
pub mod keys;
pub mod open;
pub mod serve;

use std::{
    io::{BufRead, IsTerminal},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand};
use portcullis_domain::secret::{ExposeSecret, SecretText};

use crate::{
    cli::flags::SettingFlags,
    config::{Config, Settings},
    http, telemetry,
};

/// Machine credentials that the people who run a platform manage themselves.
#[derive(Parser)]
#[command(name = "portcullis", version, about, long_about = None, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the server
    Serve(Configuration),
    /// Make accounts on this machine, without a browser
    #[command(subcommand)]
    Admin(Admin),
    /// Generate, show or revoke your credential at a running server, or bind a key to it
    #[command(subcommand)]
    Credential(credential::Command),
    /// Look after the signing keys and the master key
    #[command(subcommand)]
    Keys(keys::Command),
    /// Look after the audit log
    #[command(subcommand)]
    Audit(Audit),
    /// Copy the database into a file, while the server works
    ///
    /// The copy is one moment of it, is checked, and is on hold. The master key is not in it.
    Backup(backup::Backup),
    /// Put a backup in the place of the database; it is on hold then
    ///
    /// No server may be running on it.
    Restore(backup::Restore),
    /// A database that was restored is on hold until you say what was stopped since
    #[command(subcommand)]
    Hold(hold::Command),
    /// Check or print the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Say what is wrong with this deployment and what to do; changes nothing
    ///
    /// Looks at the configuration, the master key, the data folder, the machine, the database and the mail
    /// server. Exit code 0: all is fine; 1: there are warnings; 2: something is wrong. Run it as the user
    /// that the server runs as, with the same configuration.
    Doctor(doctor::Doctor),
    /// Print the OpenAPI document of the API
    Openapi,
}

#[derive(Subcommand)]
enum Admin {
    /// Make an account; the first Super Admin is made like this or with the set-up link
    Create(admin::Create),
}

#[derive(Subcommand)]
enum Audit {
    /// Follow the chain of the audit log and say whether a record was removed or altered
    ///
    /// Exit code 0: whole; 3: broken; 1: could not be read. Whoever can write to the database could
    /// cut the end off and set the head back. Keep the head that a run prints in another place: with
    /// --head a later run tells whether that record is still there and still the same.
    Verify(audit::Verify),
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Say whether the configuration can be used
    Check(Configuration),
    /// Print every setting, where it comes from, and what it is for; secrets are masked
    Print(Configuration),
}

/// Where the configuration comes from: file, environment, flags, in that rising order.
#[derive(Args)]
pub struct Configuration {
    /// TOML file with settings
    #[arg(long, value_name = "FILE", env = "PORTCULLIS_CONFIG")]
    config: Option<PathBuf>,
    #[command(flatten)]
    flags: SettingFlags,
}

impl Configuration {
    fn settings(&self) -> Result<Settings, String> {
        let environment =
            std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
        Settings::gather(self.config.as_deref(), environment, &self.flags.0).map_err(|e| e.to_string())
    }

    /// The checked configuration.
    ///
    /// # Errors
    /// What is wrong with it and what to do.
    pub fn load(&self) -> Result<Config, String> {
        Config::check(&self.settings()?).map_err(|e| e.to_string())
    }
}

/// Runs the program.
pub fn main() -> ExitCode {
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.to_string()),
    };
    match runtime.block_on(run(Cli::parse().command)) {
        Ok(code) => code,
        Err(message) => fail(&message),
    }
}

/// As many threads as cores may be used. With one core that is this thread: handing tasks to another
/// and back would only cost.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    let one = std::thread::available_parallelism().is_ok_and(|cores| cores.get() == 1);
    let mut builder = if one {
        tokio::runtime::Builder::new_current_thread()
    } else {
        tokio::runtime::Builder::new_multi_thread()
    };
    builder.enable_all().build()
}

fn fail(message: &str) -> ExitCode {
    eprintln!("portcullis: {message}");
    ExitCode::FAILURE
}

async fn run(command: Command) -> Result<ExitCode, String> {
    match command {
        Command::Serve(configuration) => serve::run(&configuration.load()?).await?,
        Command::Admin(Admin::Create(create)) => create.run().await?,
        Command::Credential(command) => command.run().await?,
        Command::Keys(command) => command.run().await?,
        Command::Backup(backup) => backup.run().await?,
        Command::Restore(restore) => Box::pin(restore.run()).await?,
        Command::Hold(command) => Box::pin(command.run()).await?,
        Command::Audit(Audit::Verify(verify)) => return verify.run().await,
        Command::Config(ConfigCommand::Check(configuration)) => {
            let config = configuration.load()?;
            telemetry::filter(&config)?;
            http::acceptor(&config).map_err(|e| e.to_string())?;
            println!("The configuration is good.");
        }
        Command::Config(ConfigCommand::Print(configuration)) => {
            let settings = configuration.settings()?;
            print!("{}", settings.print());
            Config::check(&settings).map_err(|e| e.to_string())?;
        }
        Command::Doctor(doctor) => return Ok(Box::pin(doctor.run()).await),
        Command::Openapi => print!("{}", crate::api::openapi::json()),
    }
    Ok(ExitCode::SUCCESS)
}

/// The password, from the first line of standard input or asked for at the terminal.
fn password(from_stdin: bool) -> Result<SecretText, String> {
    secret(from_stdin, "Password: ", "the password", "--password-stdin")
}

/// The code of a second factor, from the next line of standard input or asked for at the terminal.
fn code(from_stdin: bool) -> Result<SecretText, String> {
    secret(from_stdin, "Code of your authenticator app, or a recovery code: ", "the code", "--code-stdin")
}

fn secret(from_stdin: bool, prompt: &str, what: &str, flag: &str) -> Result<SecretText, String> {
    if from_stdin {
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line).map_err(|e| format!("standard input: {e}"))?;
        let end = line.trim_end_matches(['\n', '\r']).len();
        line.truncate(end);
        return Ok(line.into());
    }
    if !std::io::stdin().is_terminal() {
        return Err(format!("there is no terminal to ask for {what} at; give it with {flag}"));
    }
    self::prompt(prompt)
}

fn prompt(words: &str) -> Result<SecretText, String> {
    rpassword::prompt_password(words).map(SecretText::from).map_err(|e| format!("the terminal: {e}"))
}

/// A password that is new: at a terminal it is asked for twice, since nobody sees what they type.
fn new_password(from_stdin: bool) -> Result<SecretText, String> {
    let first = password(from_stdin)?;
    if !from_stdin && prompt("The same again: ")?.expose_secret() != first.expose_secret() {
        return Err("the two passwords are not the same; nothing was done".to_owned());
    }
    Ok(first)
}
