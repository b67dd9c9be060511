//! What the kernel knows about a process: its CPU time and its memory, read from `/proc`; and how a
//! process is started so that it cannot outlive the benchmark.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

/// How many ticks `/proc` counts in a second. The kernel gives user space 100 on every architecture
/// the server is built for, whatever its own clock runs at.
const TICKS_PER_SECOND: f64 = 100.0;

/// Runs a benchmark to its end, or until somebody interrupts or ends it, or closes the terminal: then it is
/// dropped, and with it everything that it has started.
///
/// # Errors
/// Its own, or that it was ended.
pub async fn unless_ended(run: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let (mut terminate, mut hang_up) = (signal(SignalKind::terminate())?, signal(SignalKind::hangup())?);
    tokio::select! {
        done = run => done,
        _ = tokio::signal::ctrl_c() => bail!("interrupted"),
        _ = terminate.recv() => bail!("asked to end"),
        _ = hang_up.recv() => bail!("the terminal is gone"),
    }
}

/// The memory of a process, in KiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// The most it ever had resident (`VmHWM`).
    pub peak_kib: u32,
    /// What it has resident now (`VmRSS`).
    pub now_kib: u32,
}

/// The parts of `/proc/PID/stat` that are used here; times are in ticks.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    parent: u32,
    own: u32,
    of_ended_children: u32,
}

impl Stat {
    /// Reads the line. The name of the program stands in parentheses and may hold anything, so
    /// counting begins after the last one.
    fn parse(line: &str) -> anyhow::Result<Self> {
        let (_, fields) = line.rsplit_once(')').context("no name")?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let field = |at: usize| -> anyhow::Result<u32> { Ok(fields.get(at).context("too short")?.parse()?) };
        Ok(Self { parent: field(1)?, own: field(11)? + field(12)?, of_ended_children: field(13)? + field(14)? })
    }

    fn of(pid: u32) -> anyhow::Result<Self> {
        let path = format!("/proc/{pid}/stat");
        let line = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        Self::parse(&line).with_context(|| format!("cannot make sense of {path}"))
    }
}

/// The CPU time a process has used, in seconds.
///
/// # Errors
/// When there is no such process.
pub fn cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    Ok(f64::from(Stat::of(pid)?.own) / TICKS_PER_SECOND)
}

/// The CPU time that a process, its children and those of its children that have ended have used, in
/// seconds. For PostgreSQL, where every connection is a process, this is the cluster.
///
/// # Errors
/// When there is no such process.
pub fn cpu_seconds_with_children(pid: u32) -> anyhow::Result<f64> {
    let parent = Stat::of(pid)?;
    let others = fs::read_dir("/proc")?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let children: u32 =
        others.filter_map(|other| Stat::of(other).ok()).filter(|s| s.parent == pid).map(|s| s.own).sum();
    Ok(f64::from(parent.own + parent.of_ended_children + children) / TICKS_PER_SECOND)
}

/// How long one core was not idle since the machine started, in seconds, with the time it was taken
/// away by the host. Interrupts count: the kernel charges those of the loopback to the processes too.
///
/// # Errors
/// When there is no such core.
pub fn cpu_seconds_of_core(core: usize) -> anyhow::Result<f64> {
    let text = fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
    parse_core(&text, core).with_context(|| format!("/proc/stat knows no core {core}"))
}

fn parse_core(stat: &str, core: usize) -> Option<f64> {
    let name = format!("cpu{core} ");
    let fields = stat.lines().find_map(|line| line.strip_prefix(&name))?;
    let ticks: Option<Vec<f64>> = fields.split_whitespace().take(8).map(|ticks| ticks.parse().ok()).collect();
    let [user, nice, system, _idle, _waiting, interrupts, soft, stolen] = ticks?.try_into().ok()?;
    Some([user, nice, system, interrupts, soft, stolen].iter().sum::<f64>() / TICKS_PER_SECOND)
}

/// The memory of a process.
///
/// # Errors
/// When there is no such process.
pub fn memory(pid: u32) -> anyhow::Result<Memory> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    parse_memory(&text).with_context(|| format!("cannot make sense of {path}"))
}

fn parse_memory(status: &str) -> Option<Memory> {
    let kib = |name: &str| -> Option<u32> {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.strip_prefix(':')?.trim().strip_suffix("kB")?.trim().parse().ok()
    };
    Some(Memory { peak_kib: kib("VmHWM")?, now_kib: kib("VmRSS")? })
}

/// The path of a program that was built beside this one.
///
/// # Errors
/// When it was not.
pub fn sibling(name: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(name);
    if !path.is_file() {
        bail!("{} is not built; start the benchmark with dev/bench", path.display());
    }
    Ok(path)
}

/// A command that runs on the given core only and is killed when its handle is dropped, without the
/// settings that the environment may hold for the server.
#[must_use]
pub fn on_core(core: usize, program: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.arg("-c").arg(core.to_string()).arg(program).kill_on_drop(true).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("PORTCULLIS_") || name == "DATABASE_URL") {
            command.env_remove(&name);
        }
    }
    command
}

/// Runs a command to its end, within `limit`, with `input` as its standard input, and gives its
/// standard output.
///
/// # Errors
/// When it cannot be started, takes too long or fails; with what it wrote to standard error.
pub async fn output_of(mut command: Command, input: &str, limit: Duration) -> anyhow::Result<String> {
    let what = format!("{:?}", command.as_std().get_program());
    let what =
        command.as_std().get_args().take(5).map(OsStr::to_string_lossy).fold(what, |all, arg| all + " " + &arg);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("cannot start {what}"))?;
    let mut stdin = child.stdin.take().context("no standard input")?;
    let talk = async {
        // A program that ends without reading its input says why by its status.
        let _ = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
        child.wait_with_output().await
    };
    let output = timeout(limit, talk).await.with_context(|| format!("{what} took longer than {limit:?}"))??;
    if !output.status.success() {
        bail!("{what}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8(output.stdout)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_is_read_whatever_the_name() {
        let line = "7 (a) b (c) S 3 7 7 0 -1 4194560 1 2 0 0 10 20 30 40 20 0 1 0 5 6 7";
        assert_eq!(Stat::parse(line).unwrap(), Stat { parent: 3, own: 30, of_ended_children: 70 });
        assert!(Stat::parse("7 (a) S 3").is_err());
    }

    #[test]
    fn memory_is_read_from_the_status() {
        let text = "Name:\tx\nVmPeak:\t  900 kB\nVmHWM:\t  123 kB\nVmRSS:\t   45 kB\n";
        assert_eq!(parse_memory(text), Some(Memory { peak_kib: 123, now_kib: 45 }));
        assert_eq!(parse_memory("Name:\tx\n"), None);
    }

    #[test]
    fn a_core_is_read_from_among_the_others() {
        let stat = "cpu  9 9 9 9\ncpu1 100 200 300 999 999 40 50 10 0 0\ncpu10 1 1 1 1\nintr 5\n";
        assert_eq!(parse_core(stat, 1).map(f64::to_bits), Some(7.0_f64.to_bits()));
        assert_eq!(parse_core(stat, 0), None);
    }

    #[test]
    fn this_very_process_can_be_read() {
        let pid = std::process::id();
        assert!(cpu_seconds_with_children(pid).unwrap() >= 0.0);
        assert!(memory(pid).unwrap().peak_kib > 0);
    }

    #[tokio::test]
    async fn a_failing_program_is_an_error_with_its_words() {
        let mut command = Command::new("sh");
        command.args(["-c", "read x; echo \"got $x\"; echo sorry >&2; exit 3"]);
        let error = output_of(command, "in\n", Duration::from_secs(10)).await.unwrap_err();
        assert!(error.to_string().contains("sorry"), "{error}");
        let mut command = Command::new("sh");
        command.args(["-c", "read x; echo \"got $x\""]);
        assert_eq!(output_of(command, "in\n", Duration::from_secs(10)).await.unwrap(), "got in\n");
    }
}
