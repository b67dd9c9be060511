//! The primary PostgreSQL is lost under load, and its standby takes over. Where commits waited for the
//! standby nothing is lost; where they did not, what is lost is counted, and how old it was.

use anyhow::Context;

use crate::{
    arena::{Arena, Lab, Plan, at_port},
    cluster::Cluster,
    ledger::{Base, Facts},
    report::Report,
};
use std::sync::Arc;

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
    if synchronous {
        primary.wait_for_standby().await?;
    }
    let load = arena.load()?;
    arena.pause(800, 1500).await;
    let killed_at = arena.desk.micros();
    primary.kill().await?;
    arena.report.faults += 1;
    standby.promote().await?;
    let Base::Postgres(url) = &arena.base else { anyhow::bail!("no PostgreSQL") };
    arena.base = Base::Postgres(at_port(url, primary.port()?, standby.port()?));
    let proxy = arena.proxy.as_ref().context("no proxy before PostgreSQL")?;
    proxy.lead_to(standby.port()?);
    proxy.cut();
    for at in 0..arena.nodes.len() {
        let took = arena.nodes[at].recover().await?;
        arena.report.recovered(took, super::AFTER_OUTAGE);
    }
    if synchronous {
        arena.pause(300, 600).await;
    }
    let calls = load.stop().await?;
    arena.absorb(calls);
    if synchronous {
        arena.settle().await?;
        return arena.finish().await;
    }
    arena.settle_unchecked().await?;
    // From here on nothing is lost, and everything is checked again.
    let load = arena.load()?;
    arena.pause(300, 600).await;
    let calls = load.stop().await?;
    arena.absorb(calls);
    arena.settle().await?;
    let facts = Facts::read(&arena.base).await?;
    let lost = facts.lost(&arena.told);
    let oldest = lost.iter().map(|l| killed_at.saturating_sub(l.at)).max().unwrap_or(0);
    if lost.iter().any(|l| l.at > killed_at + 1_000_000) {
        arena.report.violations.push("something was lost that was acknowledged after the failover".to_owned());
    }
    let tokens = lost.iter().filter(|l| l.what.starts_with("token")).count();
    arena.report.notes.push(format!(
        "lost {} acts and {tokens} tokens that were acknowledged, the oldest {} ms before the primary was lost",
        lost.len() - tokens,
        oldest / 1000
    ));
    arena.finish_with(&facts).await
}
