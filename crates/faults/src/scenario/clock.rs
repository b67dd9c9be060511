//! The clock of one of two servers is stepped by two minutes and by a day, to and fro, under load
//! (libfaketime): I1 holds, and no step of an authenticator app counts twice.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use reqwest::StatusCode;

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
        let load = arena.load()?;
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

/// Somebody signs in with a code while the clock is off by `offset`; then the clock is stepped to the
/// same time again, and the same code must not count. How many codes were tried like that.
async fn codes(arena: &mut Arena, clock: &Clock, round: usize, offset: i64) -> anyhow::Result<u32> {
    let (_, url) = arena.doors().pop().context("no server")?;
    let person = arena.another_person(round).await?;
    // The factor is older than the code by so much that no step of before is in the way.
    clock.set(offset - 90)?;
    let phone = with_app(&person, &url, offset - 90).await?;
    clock.set(offset)?;
    let at = outside::now().as_second() + offset;
    let code = phone.code_at(at);
    if person.sign_in(&url, Some(&code)).await != Some(StatusCode::CREATED) {
        return Ok(0);
    }
    for away in [-120, 120] {
        clock.set(offset + away)?;
        clock.set(at - outside::now().as_second())?;
        let again = person.sign_in(&url, Some(&code)).await;
        if again == Some(StatusCode::CREATED) {
            arena.report.violations.push(format!("a code counted twice after the clock was stepped by {away} s"));
        }
    }
    clock.set(offset)?;
    Ok(1)
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
