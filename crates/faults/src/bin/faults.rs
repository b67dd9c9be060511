//! `dev/faults`: runs scenarios, prints a line for each, and says whether anything happened that must not.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this is a program for the terminal")]

use std::{
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Context;
use clap::{Parser, Subcommand, ValueEnum};
use portcullis_faults::{arena::Lab, check::Window, outside, report::Report, scenario::Scenario};

/// Breaks servers, databases, connections and clocks under load, and checks what clients saw
///
/// Without a command: the quick set. Exit code 0: nothing happened that must not; 3: something did;
/// 1: it could not be found out.
#[derive(Parser)]
#[command(name = "faults", max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    /// Only these scenarios (comma separated)
    #[arg(long, value_enum, value_delimiter = ',', global = true)]
    only: Vec<Scenario>,
    /// What is left to chance is taken from this number (default: another one each time)
    #[arg(long, value_parser = seed, global = true)]
    seed: Option<u64>,
}

#[derive(Subcommand)]
enum Command {
    /// All scenarios again and again, each time with another seed; writes target/faults/result.md
    Long {
        /// For so many minutes
        #[arg(long, default_value_t = 60)]
        minutes: u64,
    },
    /// Servers with one defect each: all of them must be found
    Seeded,
    /// Looks at a history that was kept
    Check {
        /// The file
        file: PathBuf,
    },
}

fn seed(text: &str) -> Result<u64, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| "give a number, or one in hexadecimal behind 0x".to_owned())
}

const FOUND: u8 = 3;

fn main() -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.into()),
    };
    match runtime.block_on(run(Cli::parse())) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(FOUND),
        Err(error) => fail(&error),
    }
}

fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("faults: {error:#}");
    ExitCode::FAILURE
}

async fn run(cli: Cli) -> anyhow::Result<bool> {
    let only: Vec<Scenario> = if cli.only.is_empty() { Scenario::value_variants().to_vec() } else { cli.only };
    let seed = cli.seed.map_or_else(outside::random, Ok)?;
    let work = async {
        match cli.command {
            None => quick(&only, seed).await,
            Some(Command::Long { minutes }) => long(&only, seed, Duration::from_secs(60 * minutes)).await,
            Some(Command::Seeded) => seeded(seed).await,
            Some(Command::Check { file }) => check(&file),
        }
    };
    // Whoever loses patience leaves nothing running: what was started is stopped when it is dropped.
    tokio::select! {
        ended = work => ended,
        _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted"),
    }
}

/// A program that was built beside this one.
fn sibling(name: &str) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("which program is this?")?;
    Ok(own.with_file_name(name))
}

fn show(report: &Report, name: &str) {
    println!("{}", report.line(name));
    for violation in &report.violations {
        println!("  VIOLATION: {violation}");
    }
}

fn verdict(violations: usize) -> bool {
    match violations {
        0 => println!("Nothing happened that must not."),
        n => println!("{n} lines of what must not happen. See above."),
    }
    violations == 0
}

async fn quick(only: &[Scenario], seed: u64) -> anyhow::Result<bool> {
    let lab = Lab::new(&sibling("portcullis")?, None)?;
    println!("Seed {seed:#x}\n{}", Report::head());
    let (began, mut violations) = (outside::instant(), 0);
    for scenario in only {
        let report = scenario.run(&lab, scenario.quick_rounds(), seed).await;
        let report = report.with_context(|| format!("{}, seed {seed:#x}", scenario.name()))?;
        show(&report, scenario.name());
        violations += report.violations.len();
    }
    println!("All of it took {} s.", began.elapsed().as_secs());
    Ok(verdict(violations))
}

async fn long(only: &[Scenario], seed: u64, limit: Duration) -> anyhow::Result<bool> {
    let lab = Lab::new(&sibling("portcullis")?, None)?;
    let began: Instant = outside::instant();
    let mut reports: Vec<(Scenario, Report)> = only.iter().map(|s| (*s, Report::default())).collect();
    let mut round = 0;
    while began.elapsed() < limit {
        for (scenario, sum) in &mut reports {
            let seed = seed.wrapping_add(round);
            let report = scenario.run(&lab, scenario.quick_rounds(), seed).await;
            let mut report = report.with_context(|| format!("{}, seed {seed:#x}", scenario.name()))?;
            report.violations.append(&mut report.slow);
            show(&report, scenario.name());
            sum.add(report);
        }
        round += 1;
    }
    let lines = reports.iter().map(|(scenario, sum)| sum.line(scenario.name()));
    let (minutes, date) = (began.elapsed().as_secs() / 60, outside::now().strftime("%Y-%m-%d"));
    let table: String = [Report::head()].into_iter().chain(lines).map(|line| format!("{line}\n")).collect();
    let text = format!("{date}, {minutes} minutes, seed {seed:#x}, {round} times each\n\n{table}");
    std::fs::create_dir_all("target/faults")?;
    std::fs::write("target/faults/result.md", &text)?;
    println!("\n{text}");
    Ok(verdict(reports.iter().map(|(_, sum)| sum.violations.len()).sum()))
}

/// The seeded defects, a scenario that must find each, and what it says then.
const SEEDED: [(&str, Scenario, &str); 4] = [
    ("no-lock", Scenario::KillPostgres, "no order"),
    ("cached-standing", Scenario::TwoNodes, "no order"),
    ("early-acknowledgement", Scenario::KillSqlite, "no order"),
    ("no-mark", Scenario::FailoverAsync, "nobody noticed"),
];
/// How often a scenario may look for one.
const TRIES: u64 = 5;

async fn seeded(seed: u64) -> anyhow::Result<bool> {
    let program = sibling("portcullis-seeded")?;
    println!("Seed {seed:#x}");
    let mut all = true;
    for (bug, scenario, words) in SEEDED {
        let lab = Lab::new(&program, Some(bug))?;
        let mut found = None;
        for round in 0..TRIES {
            let report = scenario.run(&lab, scenario.quick_rounds(), seed.wrapping_add(round)).await;
            let report = report.with_context(|| format!("{} with {bug}", scenario.name()))?;
            if let Some(what) = report.violations.into_iter().find(|v| v.contains(words)) {
                found = Some((round + 1, what));
                break;
            }
        }
        match found {
            Some((round, what)) => println!("{bug}: found by {} in run {round}: {what}", scenario.name()),
            None => {
                println!("{bug}: NOT FOUND by {} in {TRIES} runs", scenario.name());
                all = false;
            }
        }
    }
    Ok(all)
}

fn check(file: &std::path::Path) -> anyhow::Result<bool> {
    let window = Window::read(file)?;
    let mut calls = window.calls.clone();
    calls.sort_by_key(|call| call.called);
    for call in &calls {
        println!("{}", serde_json::to_string(call)?);
    }
    match window.check()? {
        None => println!("There is an order in which all of these answers make sense."),
        Some(none) => {
            println!("{none}");
            return Ok(false);
        }
    }
    Ok(true)
}
