//! The primary PostgreSQL is lost under load, and its standby takes over. Where commits waited for the
//! standby nothing is lost; where they did not, what is lost is counted, and how old it was.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use tokio::time::sleep;

use crate::{
    arena::{Arena, Lab, Plan, at_port},
    cluster::Cluster,
    ledger::{Base, Facts},
    proxy::{Mode, Proxy},
    report::Report,
};

/// How far behind a standby is left that nobody waits for.
const BEHIND: Duration = Duration::from_millis(500);

pub(super) async fn run(
    lab: &Lab,
    name: &str,
    synchronous: bool,
    rounds: u32,
    seed: u64,
) -> anyhow::Result<Report> {
    let mut report = Report::default();
    for round in 0..rounds {
        report.add(once(lab, name, synchronous, seed.wrapping_add(u64::from(round))).await?);
    }
    Ok(report)
}

async fn once(lab: &Lab, name: &str, synchronous: bool, seed: u64) -> anyhow::Result<Report> {
    let folder = tempfile::tempdir()?;
    let primary = Arc::new(Cluster::start(&folder.path().join("primary")).await?);
    let plan = Plan { nodes: 2, cluster: Some(Arc::clone(&primary)), ..Plan::new(name, seed) };
    let mut arena = Arena::build(lab, plan).await?;
    let standby = primary.standby(&folder.path().join("standby")).await?;
    let between = Proxy::start(primary.port()?).await?;
    if synchronous {
        primary.wait_for_standby().await?;
    } else {
        standby.follow_through(between.port).await?;
        // The connection of before may still be there for a moment.
        sleep(Duration::from_millis(500)).await;
        primary.wait_for_follower().await?;
    }
    let load = arena.load()?;
    arena.pause(800, 1500).await;
    if !synchronous {
        // A standby that nobody waits for may be behind by any time; here by about this one.
        between.set(Mode::Stall);
        sleep(BEHIND).await;
    }
    let killed_at = arena.desk.micros();
    primary.kill().await?;
    between.cut();
    arena.report.faults += 1;
    standby.promote().await?;
    let Base::Postgres(url) = &arena.base else { anyhow::bail!("no PostgreSQL") };
    arena.base = Base::Postgres(at_port(url, primary.port()?, standby.port()?));
    let proxy = arena.proxy.as_ref().context("no proxy before PostgreSQL")?;
    proxy.lead_to(standby.port()?);
    proxy.cut();
    if synchronous {
        for at in 0..arena.nodes.len() {
            let took = arena.nodes[at].recover().await?;
            arena.report.recovered(took, super::AFTER_OUTAGE);
        }
        arena.pause(300, 600).await;
        let calls = load.stop().await?;
        arena.absorb(calls);
        arena.settle().await?;
        return arena.finish().await;
    }
    let calls = load.stop().await?;
    arena.absorb(calls);
    let was_on_hold = arena.lift_holds().await?;
    arena.settle_unchecked().await?;
    let there = Facts::read(&arena.base).await?;
    for owner in &arena.owners {
        owner.forget(|id| there.knows(id));
    }
    // From here on nothing is lost, and everything is checked again.
    let load = arena.load()?;
    arena.pause(300, 600).await;
    let calls = load.stop().await?;
    arena.absorb(calls);
    arena.settle().await?;
    bound(arena, killed_at, was_on_hold).await
}

/// What was acknowledged and is lost, and how old it was: no older than the standby was behind.
/// And H-4: servers that miss what they acknowledged put the database on hold.
async fn bound(mut arena: Arena, killed_at: u64, was_on_hold: bool) -> anyhow::Result<Report> {
    let facts = Facts::read(&arena.base).await?;
    let lost = facts.lost(&arena.told);
    let oldest = lost.iter().map(|l| killed_at.saturating_sub(l.at)).max().unwrap_or(0);
    let (behind, killing) = (u64::try_from(BEHIND.as_micros())?, 1_000_000);
    if oldest > behind + killing {
        arena.report.violations.push(format!("the standby was {BEHIND:?} behind, and {oldest} us are lost"));
    }
    if lost.iter().any(|l| l.at > killed_at + killing) {
        arena.report.violations.push("something was lost that was acknowledged after the failover".to_owned());
    }
    let tokens = lost.iter().filter(|l| l.what.starts_with("token")).count();
    let acts = lost.len() - tokens;
    if acts > 0 && !was_on_hold {
        arena.report.violations.push(format!("H-4: {acts} acknowledged acts are lost, and nobody noticed"));
    }
    arena.report.notes.push(format!(
        "standby {BEHIND:?} behind: {acts} acknowledged acts and {tokens} tokens lost, the oldest {} ms old; {}",
        oldest / 1000,
        if was_on_hold { "on hold until it was lifted" } else { "not on hold" }
    ));
    arena.finish_with(&facts).await
}
