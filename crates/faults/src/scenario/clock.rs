//! The clock of one of two servers is stepped by two minutes and by a day, to and fro, under load
//! (libfaketime): I1 holds, and no step of an authenticator app counts twice.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail};
use reqwest::StatusCode;
use tokio::time::sleep;

use crate::{
    arena::{Arena, Lab, Plan},
    history::Outcome,
    outside,
    people::{Person, Phone},
    report::Report,
};

/// How far, in seconds, one after the other.
const STEPS: [i64; 5] = [120, -120, 86_400, -86_400, 0];

/// The library that Debian's package `faketime` brings.
fn library() -> anyhow::Result<PathBuf> {
    let found = ["x86_64-linux-gnu", "aarch64-linux-gnu"]
        .map(|arch| PathBuf::from(format!("/usr/lib/{arch}/faketime/libfaketimeMT.so.1")))
        .into_iter()
        .find(|path| path.is_file());
    found.context("libfaketime is missing: dev/apt faketime")
}

/// A clock that can be stepped: the file in which libfaketime looks for the offset.
struct Clock(PathBuf);

impl Clock {
    fn set(&self, offset: i64) -> anyhow::Result<()> {
        // Whole or not at all: the server may look at any moment.
        let draft = self.0.with_extension("draft");
        std::fs::write(&draft, format!("{offset:+}\n"))?;
        Ok(std::fs::rename(&draft, &self.0)?)
    }

    fn environment(&self, library: &Path) -> Vec<(String, String)> {
        let text = |path: &Path| path.display().to_string();
        vec![
            ("LD_PRELOAD".to_owned(), text(library)),
            ("FAKETIME_TIMESTAMP_FILE".to_owned(), text(&self.0)),
            ("FAKETIME_NO_CACHE".to_owned(), "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC".to_owned(), "1".to_owned()),
            ("NO_FAKE_STAT".to_owned(), "1".to_owned()),
        ]
    }
}

pub(super) async fn run(lab: &Lab, name: &str, rounds: u32, seed: u64) -> anyhow::Result<Report> {
    let folder = tempfile::tempdir()?;
    let clock = Clock(folder.path().join("offset"));
    clock.set(0)?;
    let plan = Plan {
        nodes: 2,
        cluster: Some(lab.cluster().await?),
        clocks: true,
        last_environment: clock.environment(&library()?),
        ..Plan::new(name, seed)
    };
    let mut arena = Arena::build(lab, plan).await?;
    let mut counted = 0;
    for (round, offset) in STEPS.into_iter().cycle().take(rounds as usize).enumerate() {
        let load = arena.load().await?;
        arena.pause(200, 400).await;
        clock.set(offset)?;
        arena.report.faults += 1;
        arena.pause(300, 600).await;
        let calls = load.stop().await?;
        arena.absorb(calls);
        counted += codes(&mut arena, &clock, round, offset).await?;
        arena.settle().await?;
    }
    arena.report.notes.push(format!("{counted} codes counted once, and were refused when their time came again"));
    if counted == 0 {
        arena.report.violations.push("no code was ever taken, so nothing is known of them".to_owned());
    }
    arena.finish().await
}

/// How often somebody tries who was not answered, or was told to try again.
const TRIES: usize = 5;

/// A code that counted, and when that was on the server's clock (UTC, Unix seconds).
struct Used {
    person: Person,
    code: String,
    at: i64,
}

impl Used {
    /// The server's clock is stepped to the time of the code, and the code is given again: what is answered.
    async fn again(&self, clock: &Clock, url: &str) -> anyhow::Result<Option<StatusCode>> {
        let mut answer = None;
        for _ in 0..TRIES {
            // Each time anew: a code is good for half a minute, and waiting may take longer.
            clock.set(self.at - outside::now().as_second())?;
            answer = self.person.sign_in(url, Some(&self.code)).await;
            if !says_nothing(answer) {
                break;
            }
            sleep(Duration::from_millis(200)).await;
        }
        Ok(answer)
    }
}

/// Whether this says nothing about a code: no answer, or one that says to try again.
fn says_nothing(answer: Option<StatusCode>) -> bool {
    matches!(answer, None | Some(StatusCode::SERVICE_UNAVAILABLE | StatusCode::REQUEST_TIMEOUT))
}

/// Somebody signs in with a code while the clock is off by `offset`; then the clock is stepped to the
/// same time again, and the same code must be refused. How many codes were tried like that.
async fn codes(arena: &mut Arena, clock: &Clock, round: usize, offset: i64) -> anyhow::Result<u32> {
    let (_, url) = arena.doors().pop().context("no server")?;
    let Some(used) = use_one(arena, clock, round, offset).await? else { return Ok(0) };
    for away in [-120, 120] {
        clock.set(offset + away)?;
        match used.again(clock, &url).await? {
            Some(StatusCode::UNAUTHORIZED) => {}
            Some(StatusCode::CREATED) => {
                let what = format!("a code counted twice after the clock was stepped by {away} s");
                arena.report.violations.push(what);
            }
            other => {
                let what = format!("whether a code counts twice is not known: {other:?} and not 401");
                arena.report.violations.push(what);
            }
        }
    }
    clock.set(offset)?;
    Ok(1)
}

/// Somebody new signs in with a code while the clock is off by `offset`. A code whose use was not answered
/// may have counted; then somebody else tries.
async fn use_one(arena: &mut Arena, clock: &Clock, round: usize, offset: i64) -> anyhow::Result<Option<Used>> {
    let (_, url) = arena.doors().pop().context("no server")?;
    let mut answer = None;
    for tried in 0..TRIES {
        let person = arena.another_person(round * TRIES + tried).await?;
        // The factor is older than the code by so much that no step of before is in the way.
        clock.set(offset - 90)?;
        let phone = with_app(&person, &url, offset - 90).await?;
        clock.set(offset)?;
        let at = outside::now().as_second() + offset;
        let code = phone.code_at(at);
        answer = person.sign_in(&url, Some(&code)).await;
        if answer == Some(StatusCode::CREATED) {
            return Ok(Some(Used { person, code, at }));
        }
        if !says_nothing(answer) {
            break;
        }
    }
    let what = format!("a good code did not count while the clock was off by {offset} s: {answer:?}");
    arena.report.violations.push(what);
    Ok(None)
}

async fn with_app(person: &Person, url: &str, offset: i64) -> anyhow::Result<Phone> {
    for _ in 0..3 {
        if person.sign_in(url, None).await == Some(StatusCode::CREATED) {
            match person.mfa_on(url, outside::now().as_second() + offset).await {
                (Outcome::Done, Some(phone)) => return Ok(phone),
                (other, _) => bail!("MFA was not turned on: {other:?}"),
            }
        }
    }
    bail!("{} cannot sign in", person.email)
}
