//! The report: medians over the rounds, each beside the floor of the same round, and where they were
//! measured. A ratio is taken round by round and only then its median, so that a machine that is
//! slower for a while is slower for both sides of it.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::contestant::{Contestant, Cores};
use crate::outside;
use crate::round::{Load, Turn};

/// From what share of a core on, used by others, a run is called disturbed.
const DISTURBED: f64 = 0.10;

/// Whether others used the cores of a turn.
fn disturbed(turn: &Turn) -> bool {
    turn.others_beside_server.max(turn.others_beside_load) > DISTURBED
}

/// All turns of one contestant, one for each round.
#[derive(Debug, Clone)]
pub struct Row {
    /// Whose.
    pub contestant: Contestant,
    /// The turns, in the order of the rounds.
    pub turns: Vec<Turn>,
}

impl Row {
    /// The median of some figure over the rounds.
    fn median(&self, figure: impl Fn(&Turn) -> f64) -> f64 {
        median(self.turns.iter().map(figure).collect())
    }

    /// The median of the ratios of some figure to the floor's in the same round.
    fn ratio(&self, floor: &Self, figure: impl Fn(&Turn) -> f64) -> f64 {
        median(self.turns.iter().zip(&floor.turns).map(|(own, floor)| figure(own) / figure(floor)).collect())
    }
}

/// The median: the middle one, or the mean of the two in the middle. Not a number for none.
#[must_use]
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match (values.get(values.len() / 2), values.len() % 2) {
        (None, _) => f64::NAN,
        (Some(upper), 0) => f64::midpoint(values[values.len() / 2 - 1], *upper),
        (Some(middle), _) => *middle,
    }
}

/// Writes the whole report as Markdown.
#[must_use]
pub fn markdown(rows: &[Row], load: Load, cores: Cores, dir: &Path) -> String {
    let mut text = String::from("# What a token costs\n\n");
    if rows.iter().flat_map(|row| &row.turns).any(disturbed) {
        text += "**The machine was not left alone: other work used its cores. Do not quote \
                 tokens per second or times from this run; CPU per token is the least affected.**\n\n";
    }
    text += &figures(rows);
    if let Some(floor) = rows.iter().find(|row| row.contestant == Contestant::Floor) {
        text += &ratios(rows, floor);
    }
    text += &rounds(rows);
    text += &conditions(rows, load, cores, dir);
    text
}

/// The table of the medians.
fn figures(rows: &[Row]) -> String {
    let mut text = String::from(
        "Medians over the rounds.\n\n\
         | Server | Tokens/s | p50 ms | p99 ms | Peak RSS MiB | RSS at end MiB | Server CPU s/1000 | PostgreSQL CPU s/1000 | Server's core: server | Server's core: others | Client's core: client | Client's core: others |\n\
         |---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    for row in rows {
        let database = match row.turns.iter().all(|turn| turn.database_cpu.is_some()) {
            true => format!("{:.3}", row.median(|turn| turn.database_cpu.unwrap_or(f64::NAN))),
            false => "–".to_owned(),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "| {} | {:.0} | {:.2} | {:.2} | {:.1} | {:.1} | {:.3} | {database} | {:.0} % | {:.0} % | {:.0} % | {:.0} % |",
            row.contestant.name(),
            row.median(|turn| turn.rps),
            row.median(|turn| turn.p50_ms),
            row.median(|turn| turn.p99_ms),
            row.median(|turn| turn.peak_mib),
            row.median(|turn| turn.rss_mib),
            row.median(|turn| turn.cpu),
            row.median(|turn| turn.server_busy) * 100.0,
            row.median(|turn| turn.others_beside_server) * 100.0,
            row.median(|turn| turn.load_busy) * 100.0,
            row.median(|turn| turn.others_beside_load) * 100.0,
        );
    }
    text
}

/// The table of the ratios to the floor.
fn ratios(rows: &[Row], floor: &Row) -> String {
    let mut text = String::from(
        "\nAgainst the floor: medians of the ratios to the floor of the same round.\n\n\
         | Server | Tokens/s | p50 | p99 | Peak RSS | Server CPU |\n|---|--:|--:|--:|--:|--:|\n",
    );
    for row in rows {
        let _ = writeln!(
            text,
            "| {} | {:.2} × | {:.2} × | {:.2} × | {:.2} × | {:.2} × |",
            row.contestant.name(),
            row.ratio(floor, |turn| turn.rps),
            row.ratio(floor, |turn| turn.p50_ms),
            row.ratio(floor, |turn| turn.p99_ms),
            row.ratio(floor, |turn| turn.peak_mib),
            row.ratio(floor, |turn| turn.cpu),
        );
    }
    text
}

/// The tokens per second of every single round, which show how much the medians can be trusted.
fn rounds(rows: &[Row]) -> String {
    let mut text = String::from("\nTokens per second, round by round:\n\n");
    for row in rows {
        let each: Vec<String> = row.turns.iter().map(|turn| format!("{:.0}", turn.rps)).collect();
        let _ = writeln!(text, "- {}: {}", row.contestant.name(), each.join(", "));
    }
    text
}

/// Where and how it was measured.
fn conditions(rows: &[Row], load: Load, cores: Cores, dir: &Path) -> String {
    let rounds = rows.iter().map(|row| row.turns.len()).max().unwrap_or_default();
    let parallel = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut text = format!(
        "\n- Date: {}\n- CPU: {}, {parallel} cores\n- Kernel: {}\n- Disk: {}\n- Compiler: {}\n- Commit: {}\n- Command: `{}`\n",
        outside::now().strftime("%Y-%m-%d %H:%M UTC"),
        cpu_model(&fs::read_to_string("/proc/cpuinfo").unwrap_or_default()),
        kernel.trim(),
        said("df", &["--output=fstype", &dir.to_string_lossy()]).lines().last().unwrap_or("unknown"),
        said("rustc", &["--version"]),
        commit(),
        ["dev/bench"].into_iter().chain(arguments.iter().map(String::as_str)).collect::<Vec<_>>().join(" "),
    );
    if let Some(database) = rows.iter().flat_map(|row| &row.turns).find_map(|turn| turn.database.as_deref()) {
        let _ = writeln!(text, "- Database: {database}");
    }
    let _ = writeln!(
        text,
        "- Load: {} connections, closed loop, plain HTTP over loopback, every answer checked; {} s measured \
         after {} s of warm-up; {rounds} rounds, the servers in turn in each, each on fresh data\n\
         - Cores: the server on core {}, the load generator on core {}. PostgreSQL shares core {} with the \
         load generator, so its row is also limited by that core\n\
         - Peak RSS counts from the start of the process: for Portcullis it includes the password check \
         of the login that made the credential",
        load.connections, load.seconds, load.warm_up, cores.server, cores.load, cores.load,
    );
    text
}

/// The name of the processor.
#[must_use]
pub fn cpu_model(cpuinfo: &str) -> &str {
    let line = cpuinfo.lines().find_map(|line| line.strip_prefix("model name"));
    line.and_then(|rest| rest.split_once(':')).map_or("unknown", |(_, name)| name.trim())
}

/// The commit that is checked out, and whether the tree differs from it.
#[must_use]
pub fn commit() -> String {
    let changed = !said("git", &["status", "--porcelain"]).is_empty();
    said("git", &["rev-parse", "--short=12", "HEAD"]) + if changed { ", with changes" } else { "" }
}

/// What a program prints, or nothing.
fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&output).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(rps: f64, database_cpu: Option<f64>) -> Turn {
        Turn {
            rps,
            p50_ms: 1.0,
            p99_ms: 2.0,
            peak_mib: 10.0,
            rss_mib: 8.0,
            cpu: 0.05,
            database_cpu,
            server_busy: 1.0,
            others_beside_server: 0.0,
            others_beside_load: 0.0,
            load_busy: 0.5,
            database: database_cpu.map(|_| "PostgreSQL 15".to_owned()),
        }
    }

    #[test]
    fn a_median_is_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]).to_bits(), 2.0_f64.to_bits());
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]).to_bits(), 2.5_f64.to_bits());
        assert!(median(vec![]).is_nan());
    }

    #[test]
    fn a_ratio_is_taken_within_its_round() {
        let floor = Row { contestant: Contestant::Floor, turns: vec![turn(100.0, None), turn(1000.0, None)] };
        let own = Row { contestant: Contestant::Sqlite, turns: vec![turn(50.0, None), turn(500.0, None)] };
        let text = ratios(&[floor.clone(), own], &floor);
        assert!(text.contains("| Portcullis on SQLite | 0.50 × |"), "{text}");
    }

    #[test]
    fn the_report_has_every_row_and_its_conditions() {
        let rows = [
            Row { contestant: Contestant::Floor, turns: vec![turn(100.0, None)] },
            Row { contestant: Contestant::Postgres, turns: vec![turn(40.0, Some(0.2))] },
        ];
        let load = Load { connections: 32, seconds: 3, warm_up: 1 };
        let text = markdown(&rows, load, Cores { server: 0, load: 1 }, Path::new("."));
        assert!(
            text.contains("| Floor | 100 | 1.00 | 2.00 | 10.0 | 8.0 | 0.050 | – | 100 % | 0 % | 50 % | 0 % |"),
            "{text}"
        );
        assert!(text.contains("| Portcullis on PostgreSQL | 40 |"), "{text}");
        assert!(text.contains("| 0.200 |"), "{text}");
        assert!(text.contains("- Database: PostgreSQL 15\n"), "{text}");
        assert!(text.contains("32 connections"), "{text}");
    }

    #[test]
    fn a_disturbed_run_says_so() {
        let load = Load { connections: 32, seconds: 3, warm_up: 1 };
        let said = |others_beside_load| {
            let turns = vec![turn(100.0, None), Turn { others_beside_load, ..turn(100.0, None) }];
            let rows = [Row { contestant: Contestant::Floor, turns }];
            markdown(&rows, load, Cores { server: 0, load: 1 }, Path::new(".")).contains("not left alone")
        };
        assert!(said(0.3));
        assert!(!said(0.01));
    }

    #[test]
    fn the_processor_is_named() {
        assert_eq!(cpu_model("processor\t: 0\nmodel name\t: Fast One @ 2GHz\n"), "Fast One @ 2GHz");
        assert_eq!(cpu_model(""), "unknown");
    }
}
