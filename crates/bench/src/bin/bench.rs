//! The conductor of the benchmark, started by `dev/bench`, which builds everything first.
//!
//! In every round each server has its turn under the same load, one after the other, so that whatever
//! else the machine does falls on all of them. What is printed, and written to
//! `target/bench/result.md`, are the medians over the rounds; `target/bench/result.svg` is their plot. Every step has a limit; whatever was
//! started is ended on every way out, an interrupt included, and nothing else is.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the table is the output, the progress goes beside it"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Parser;
use portcullis_bench::contestant::{Contestant, Cores};
use portcullis_bench::part::Part;
use portcullis_bench::report::{self, Row};
use portcullis_bench::round::{self, Load};
use portcullis_bench::{plot, process};

/// Measures servers side by side: tokens, introspection, documents, a flood of sign-ins, memory, start.
#[derive(Debug, Parser)]
struct Args {
    /// How many rounds; 5, or 1 with --quick.
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=20))]
    rounds: Option<u8>,
    /// How many seconds of each load are measured; 4, or 3 with --quick.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: Option<u64>,
    /// Tokens alone, one round: for a change at hand.
    #[arg(long)]
    quick: bool,
    /// Put the table and the plot into the book.
    #[arg(long)]
    book: bool,
    /// How many connections are kept busy.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=1024))]
    connections: u16,
    /// Only these servers.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Contestant>,
    /// The core of the server.
    #[arg(long, default_value_t = 0)]
    server_core: usize,
    /// The core of the load generator and of PostgreSQL.
    #[arg(long, default_value_t = 1)]
    load_core: usize,
}

impl Args {
    fn rounds(&self) -> u8 {
        self.rounds.unwrap_or(if self.quick { 1 } else { 5 })
    }

    fn load(&self) -> Load {
        let seconds = if self.quick { 3 } else { 4 };
        Load { connections: self.connections, seconds: self.seconds.unwrap_or(seconds), warm_up: 1 }
    }
}

/// The directory everything goes to: `bench` in the build directory this program lies in.
fn bench_dir() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe()?;
    let target = program.parent().and_then(Path::parent).context("this program lies in no build directory")?;
    let dir = target.join("bench");
    fs::create_dir_all(&dir)?;
    Ok(dir)
}

/// Runs all rounds and writes the report.
async fn run(args: &Args) -> anyhow::Result<()> {
    let cores = Cores { server: args.server_core, load: args.load_core };
    if cores.server == cores.load {
        bail!("the server and the load generator each need a core of their own");
    }
    let (dir, load) = (bench_dir()?, args.load());
    let chosen = Contestant::ALL.into_iter().filter(|one| args.only.is_empty() || args.only.contains(one));
    let mut rows: Vec<Row> = chosen.map(|contestant| Row { contestant, turns: Vec::new() }).collect();
    let parts: &[Part] = if args.quick { &Part::QUICK } else { &Part::ALL };
    let mut sizes = BTreeMap::new();
    for number in 1..=args.rounds() {
        for row in &mut rows {
            let name = row.contestant.name();
            let turn = Box::pin(round::turn(row.contestant, cores, load, parts, (&dir, &mut sizes))).await;
            let turn = turn.with_context(|| format!("round {number}"))?;
            for (part, measured) in &turn.parts {
                eprintln!("round {number} of {}: {name}: {}: {:.0}/s", args.rounds(), part.name(), measured.rps);
            }
            row.turns.push(turn);
        }
    }
    let text = report::markdown(&rows, load, cores, &dir);
    fs::write(dir.join("result.md"), &text)?;
    let plot = plot::svg(&rows);
    fs::write(dir.join("result.svg"), &plot)?;
    println!("{text}");
    if args.book {
        let chapter = fs::read_to_string(CHAPTER)?;
        let text = format!("{text}\n![Answers per second beside the floor](speed.svg)\n");
        fs::write(CHAPTER, with_table(&chapter, &text).context("the chapter has no place for the table")?)?;
        fs::write(PLOT, plot)?;
    }
    Ok(())
}

/// The chapter of the book that holds the table, and its plot, as seen from the root of the repository.
const CHAPTER: &str = "docs/book/src/speed.md";
const PLOT: &str = "docs/book/src/speed.svg";
/// Between these lines of the chapter.
const BEGIN: &str = "<!-- ./dev/bench --book writes from here -->\n";
const END: &str = "<!-- to here -->\n";

/// The chapter with another table.
fn with_table(chapter: &str, table: &str) -> Option<String> {
    let (before, rest) = chapter.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{table}\n{END}{after}"))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    process::unless_ended(run(&Args::parse())).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_put_in_its_place_and_nothing_else_changes() {
        let chapter = format!("a\n{BEGIN}old\n{END}b\n");
        assert_eq!(with_table(&chapter, "new"), Some(format!("a\n{BEGIN}\nnew\n{END}b\n")));
        assert_eq!(with_table("a\n", "new"), None);
        let book = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/book/src/speed.md");
        assert!(with_table(&fs::read_to_string(book).unwrap(), "new").is_some());
    }
}
