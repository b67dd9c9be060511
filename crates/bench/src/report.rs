//! The report: medians over the rounds, each beside the floor of the same round, and where they were
//! measured. A ratio is taken round by round and only then its median, so that a machine that is
//! slower for a while is slower for both sides of it.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::contestant::{Contestant, Cores};
use crate::outside;
use crate::part::Part;
use crate::round::{Load, Measured, Size, Turn};

/// From what share of a core on, used by others, a run is called disturbed.
const DISTURBED: f64 = 0.10;

/// All turns of one contestant, one for each round.
#[derive(Debug, Clone)]
pub struct Row {
    /// Whose.
    pub contestant: Contestant,
    /// The turns, in the order of the rounds.
    pub turns: Vec<Turn>,
}

impl Row {
    /// The median of some figure of a part over the rounds; `None` without that part.
    #[must_use]
    pub fn median(&self, part: Part, figure: impl Fn(&Measured) -> f64) -> Option<f64> {
        median(self.turns.iter().filter_map(|turn| turn.parts.get(&part)).map(figure).collect())
    }

    /// The median of the ratios of some figure to the floor's in the same round.
    #[must_use]
    pub fn ratio(&self, floor: &Self, part: Part, figure: impl Fn(&Measured) -> f64) -> Option<f64> {
        let rounds = self.turns.iter().zip(&floor.turns);
        let pairs =
            rounds.filter_map(|(own, floor)| Some((own.parts.get(&part)?, floor.parts.get(&part.floor()?)?)));
        median(pairs.map(|(own, floor)| figure(own) / figure(floor)).collect())
    }

    /// What of the floor is reached: of requests per second of the server's CPU.
    #[must_use]
    pub fn of_floor_by_cpu(&self, floor: &Self, part: Part) -> Option<f64> {
        self.ratio(floor, part, |m| 1.0 / m.cpu)
    }

    fn size(&self, figure: impl Fn(&Size) -> f64) -> Option<f64> {
        median(self.turns.iter().filter_map(|turn| turn.size.as_ref()).map(figure).collect())
    }
}

/// The median: the middle one, or the mean of the two in the middle. Nothing of none.
#[must_use]
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    Some(if values.len().is_multiple_of(2) { f64::midpoint(values[values.len() / 2 - 1], upper) } else { upper })
}

/// A figure with so many digits behind the point, or a dash.
fn figure(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.digits$}"))
}

/// Writes the whole report as Markdown, to stand under a heading of its own.
#[must_use]
pub fn markdown(rows: &[Row], load: Load, cores: Cores, dir: &Path) -> String {
    let mut text = String::new();
    let all = rows.iter().flat_map(|row| &row.turns).flat_map(|turn| &turn.parts);
    // Those who flood a server use a core too, and are no disturbance.
    if all.into_iter().any(|(part, measured)| *part != Part::TokensInFlood && measured.others > DISTURBED) {
        text += "**The machine was not left alone: other work used its cores. Do not quote answers per second \
                 or times from this run; ratios of CPU are the least affected.**\n\n";
    }
    text += &figures(rows);
    text += &flood(rows);
    text += &sizes(rows);
    text += &conditions(rows, load, cores, dir);
    text
}

/// The table of the loads.
fn figures(rows: &[Row]) -> String {
    let floor = rows.iter().find(|row| row.contestant == Contestant::Floor);
    let mut text = String::from(
        "| What | Server | Answers/s | Of the floor | Of the floor, by CPU | Aim | p50 ms | p99 ms | \
         CPU ms/1000 | PostgreSQL ms/1000 | Server's core | Client's core |\n\
         |---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    for part in Part::ALL {
        for row in rows {
            let Some(rps) = row.median(part, |m| m.rps) else { continue };
            let own = row.contestant == Contestant::Floor;
            let ratio = floor.filter(|_| !own).and_then(|floor| row.ratio(floor, part, |m| m.rps));
            let by_cpu = floor.filter(|_| !own).and_then(|floor| row.of_floor_by_cpu(floor, part));
            let aim = part.aim(row.contestant);
            let by = if aim.is_some() && row.contestant == Contestant::Postgres { " by CPU" } else { "" };
            let percent = |value: Option<f64>| figure(value.map(|v| v * 100.0), 0);
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "| {} | {} | {rps:.0} | {} | {} | {}{by} | {} | {} | {} | {} | {} % | {} % |",
                part.name(),
                row.contestant.name(),
                figure(ratio, 2),
                figure(by_cpu, 2),
                figure(aim, 2),
                figure(row.median(part, |m| m.p50_ms), 2),
                figure(row.median(part, |m| m.p99_ms), 2),
                figure(row.median(part, |m| m.cpu * 1000.0), 1),
                figure(
                    row.median(part, |m| m.database_cpu.unwrap_or(f64::NAN) * 1000.0).filter(|v| !v.is_nan()),
                    1
                ),
                percent(row.median(part, |m| m.server_busy)),
                percent(row.median(part, |m| m.load_busy)),
            );
        }
    }
    text
}

/// How much longer tokens take in a flood of sign-ins.
fn flood(rows: &[Row]) -> String {
    let mut text = String::new();
    for row in rows {
        let turns = row.turns.iter().map(|turn| &turn.parts);
        let pairs = turns.filter_map(|t| Some((t.get(&Part::TokensInFlood)?, t.get(&Part::TokensEs256)?)));
        if let Some(times) = median(pairs.map(|(flood, calm)| flood.p99_ms / calm.p99_ms).collect()) {
            let _ = write!(
                text,
                "\n{}: in a flood of sign-ins the p99 of tokens is {times:.2} times what it is without (aim: under 2).\n",
                row.contestant.name()
            );
        }
    }
    text
}

/// The table of memory, start and program.
fn sizes(rows: &[Row]) -> String {
    let with: Vec<&Row> = rows.iter().filter(|row| row.size(|s| s.ready_ms).is_some()).collect();
    if with.is_empty() {
        return String::new();
    }
    let mut text = String::from(
        "\n| Server | Peak MiB under tokens (aim: 60) | Idle MiB (aim: 30) | Ready ms (aim: 150) | Program MiB (aim: 40) |\n\
         |---|--:|--:|--:|--:|\n",
    );
    for row in with {
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} |",
            row.contestant.name(),
            figure(row.size(|s| s.peak_mib), 1),
            figure(row.size(|s| s.idle_mib), 1),
            figure(row.size(|s| s.ready_ms), 0),
            figure(row.size(|s| s.program_mib), 1),
        );
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
        ["./dev/bench"].into_iter().chain(arguments.iter().map(String::as_str)).collect::<Vec<_>>().join(" "),
    );
    if let Some(database) = rows.iter().flat_map(|row| &row.turns).find_map(|turn| turn.database.as_deref()) {
        let _ = writeln!(text, "- Database: {database}");
    }
    let _ = writeln!(
        text,
        "- Load: {} connections, closed loop, plain HTTP over loopback, every answer checked; {} s measured \
         after {} s of warm-up for each line; medians of {rounds} rounds, the servers in turn in each, each on \
         fresh data; ratios are taken within a round\n\
         - Cores: the server on core {}, the load generator on core {}. PostgreSQL shares core {} with the \
         load generator, so its answers per second are limited by that core, too",
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

    fn measured(rps: f64, database_cpu: Option<f64>) -> Measured {
        let (p50_ms, p99_ms, cpu) = (1.0, 2.0, 1.0 / rps);
        Measured { rps, p50_ms, p99_ms, cpu, database_cpu, server_busy: 1.0, others: 0.0, load_busy: 0.5 }
    }

    fn turn(part: Part, rps: f64, database_cpu: Option<f64>) -> Turn {
        Turn { parts: [(part, measured(rps, database_cpu))].into(), size: None, database: None }
    }

    fn text(rows: &[Row]) -> String {
        let load = Load { connections: 32, seconds: 3, warm_up: 1 };
        markdown(rows, load, Cores { server: 0, load: 1 }, Path::new("."))
    }

    #[test]
    fn a_median_is_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]).map(f64::to_bits), Some(2.0_f64.to_bits()));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]).map(f64::to_bits), Some(2.5_f64.to_bits()));
        assert_eq!(median(vec![]), None);
    }

    #[test]
    fn a_ratio_is_taken_within_its_round() {
        let part = Part::TokensEs256;
        let turns = |a, b| vec![turn(part, a, None), turn(part, b, None)];
        let floor = Row { contestant: Contestant::Floor, turns: turns(100.0, 1000.0) };
        let own = Row { contestant: Contestant::Sqlite, turns: turns(50.0, 500.0) };
        let text = text(&[floor, own]);
        assert!(text.contains("| Tokens, ES256 | Portcullis on SQLite | 275 | 0.50 | 0.50 | 0.75 |"), "{text}");
    }

    #[test]
    fn what_is_asked_again_is_compared_with_verifying() {
        let floor = Row { contestant: Contestant::Floor, turns: vec![turn(Part::First, 10.0, None)] };
        let own = Row { contestant: Contestant::Sqlite, turns: vec![turn(Part::Again, 40.0, None)] };
        assert_eq!(own.ratio(&floor, Part::Again, |m| m.rps).map(f64::to_bits), Some(4.0_f64.to_bits()));
    }

    #[test]
    fn a_disturbed_run_says_so() {
        let said = |others| {
            let mut turn = turn(Part::KeySet, 10.0, Some(0.2));
            turn.parts.entry(Part::KeySet).and_modify(|m| m.others = others);
            text(&[Row { contestant: Contestant::Postgres, turns: vec![turn] }])
        };
        assert!(said(0.3).contains("not left alone"));
        let calm = said(0.01);
        assert!(!calm.contains("not left alone"));
        assert!(calm.contains("| 200.0 |"), "{calm}");
    }

    #[test]
    fn the_processor_is_named() {
        assert_eq!(cpu_model("processor\t: 0\nmodel name\t: Fast One @ 2GHz\n"), "Fast One @ 2GHz");
        assert_eq!(cpu_model(""), "unknown");
    }
}
