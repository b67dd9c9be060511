//! `portcullis doctor`: what is wrong with a deployment, and what to do about it. It looks at what the
//! configuration names (files, the machine, the database, the mail server), one subject a file, and changes
//! nothing. Each thing it looked at is a finding, also the good ones: who reads it sees what was looked at.

mod database;
mod files;
mod machine;

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use crate::{cli::Configuration, clock::Clock, config::Config};

/// The flags of `portcullis doctor`.
#[derive(Args)]
pub struct Doctor {
    /// Print one JSON object instead of lines
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    configuration: Configuration,
}

/// How bad it is. The worst one is the exit code: 0, 1, 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum Level {
    Fine,
    Warning,
    Wrong,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    level: Level,
    /// A word for programs, which stays the same.
    check: &'static str,
    /// What was seen.
    seen: String,
    /// What to do; empty when it is fine.
    remedy: String,
}

/// What was found so far.
#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn fine(&mut self, check: &'static str, seen: impl Into<String>) {
        self.add(Level::Fine, check, seen, "");
    }

    fn add(&mut self, level: Level, check: &'static str, seen: impl Into<String>, remedy: impl Into<String>) {
        self.0.push(Finding { level, check, seen: seen.into(), remedy: remedy.into() });
    }

    fn worst(&self) -> Level {
        self.0.iter().map(|f| f.level).max().unwrap_or(Level::Fine)
    }
}

impl Doctor {
    /// Looks, and prints what it found. What cannot be looked at is a finding as well.
    pub async fn run(self) -> ExitCode {
        let mut found = Findings::default();
        match self.configuration.load() {
            Ok(config) => Box::pin(look(&config, &mut found)).await,
            Err(wrong) => found.add(
                Level::Wrong,
                "configuration",
                wrong,
                "Correct the setting. Nothing else was looked at without it.",
            ),
        }
        let worst = found.worst();
        if self.json {
            println!("{}", serde_json::json!({ "level": worst, "findings": found.0 }));
        } else {
            print_lines(&found);
        }
        ExitCode::from(match worst {
            Level::Fine => 0,
            Level::Warning => 1,
            Level::Wrong => 2,
        })
    }
}

async fn look(config: &Config, found: &mut Findings) {
    let clock = Clock::system();
    found.fine("configuration", "can be used");
    files::tls(config, found);
    let keys = files::master_key(config, found);
    files::data_folder(config, found);
    files::mark(config, found);
    machine::open_files(config, found);
    machine::signing(&clock, found);
    machine::syncing(config, &clock, found);
    machine::mail_server(config, found).await;
    database::look(config, keys, &clock, found).await;
}

fn print_lines(found: &Findings) {
    for Finding { level, check, seen, remedy } in &found.0 {
        let word = match level {
            Level::Fine => "fine   ",
            Level::Warning => "WARNING",
            Level::Wrong => "WRONG  ",
        };
        println!("{word}  {check}: {seen}");
        if !remedy.is_empty() {
            println!("         -> {remedy}");
        }
    }
    let count = |level| found.0.iter().filter(|f| f.level == level).count();
    let (wrong, warnings) = (count(Level::Wrong), count(Level::Warning));
    println!("{wrong} wrong, {warnings} warnings, {} fine", count(Level::Fine));
}
