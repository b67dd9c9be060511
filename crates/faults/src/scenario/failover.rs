//! The primary PostgreSQL is lost under load, and its standby takes over. Where commits waited for the
//! standby nothing is lost; where they did not, what is lost is counted, and how old it was.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, bail};
use reqwest::StatusCode;
use tokio::time::sleep;

use crate::{
    arena::{Arena, Lab, Plan, at_port},
    cluster::Cluster,
    history::Operation,
    ledger::{Base, Facts},
    load::Load,
    proxy::{Mode, Proxy},
    report::Report,
};

/// How far behind a standby is left at least that nobody waits for.
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
    let load = arena.load().await?;
    arena.pause(800, 1500).await;
    let since = if synchronous { None } else { Some(leave_behind(&mut arena, &between).await?) };
    let killed_at = arena.desk.micros();
    primary.kill().await?;
    between.cut();
    arena.report.faults += 1;
    if since.is_some() {
        arena.nodes[1].kill().await?;
        arena.report.faults += 1;
    }
    standby.promote().await?;
    let Base::Postgres(url) = &arena.base else { bail!("no PostgreSQL") };
    arena.base = Base::Postgres(at_port(url, primary.port()?, standby.port()?));
    let proxy = arena.proxy.as_ref().context("no proxy before PostgreSQL")?;
    proxy.lead_to(standby.port()?);
    proxy.cut();
    if let Some(since) = since {
        return answer_for(arena, load, since, killed_at).await;
    }
    for at in 0..arena.nodes.len() {
        let took = arena.nodes[at].recover().await?;
        arena.report.recovered(took, super::AFTER_OUTAGE);
    }
    arena.pause(300, 600).await;
    let calls = load.stop().await?;
    arena.absorb(calls);
    arena.settle().await?;
    arena.finish().await
}

/// A standby that nobody waits for may be behind by any time; here by about [`BEHIND`], within which somebody
/// whom the load leaves alone generates a credential at one server and revokes it at the other. Gives since when.
async fn leave_behind(arena: &mut Arena, between: &Proxy) -> anyhow::Result<u64> {
    let somebody = arena.another_person(0).await?;
    let [a, b] = [0, 1].map(|n| arena.doors().swap_remove(n));
    if somebody.sign_in(&a.1, None).await != Some(StatusCode::CREATED) {
        bail!("{} cannot sign in", somebody.email);
    }
    let mut pen = arena.desk.pen()?;
    let since = arena.desk.micros();
    between.set(Mode::Stall);
    let acts = async {
        pen.note((&somebody.email, &a.0), Operation::Generate, somebody.generate(&a.1)).await?;
        pen.note((&somebody.email, &b.0), Operation::Revoke, somebody.revoke(&b.1)).await?;
        anyhow::Ok(())
    };
    let ((), done) = tokio::join!(sleep(BEHIND), acts);
    done?;
    let calls = pen.take();
    arena.absorb(calls);
    Ok(since)
}

/// The server that is left notices what it misses. The one that was killed comes back when that was answered
/// for, with a mark of its own, and is content.
async fn answer_for(mut arena: Arena, load: Load, since: u64, killed_at: u64) -> anyhow::Result<Report> {
    let calls = load.stop().await?;
    arena.absorb(calls);
    let was_on_hold = arena.lift_holds().await?;
    arena.nodes[1].launch()?;
    if arena.lift_holds().await? {
        let what = "H-4: the database is on hold for what was answered for, or was noticed only by who came back";
        arena.report.violations.push(what.to_owned());
    }
    arena.settle_unchecked().await?;
    let there = Facts::read(&arena.base).await?;
    for owner in &arena.owners {
        owner.forget(|id| there.knows(id));
    }
    // From here on nothing is lost, and everything is checked again.
    let load = arena.load().await?;
    arena.pause(300, 600).await;
    let calls = load.stop().await?;
    arena.absorb(calls);
    arena.settle().await?;
    bound(arena, (since, killed_at), was_on_hold).await
}

/// What was acknowledged and is lost, and how old it was: no older than the standby was behind.
/// And H-4: servers that miss what they acknowledged put the database on hold.
async fn bound(mut arena: Arena, (since, killed_at): (u64, u64), was_on_hold: bool) -> anyhow::Result<Report> {
    let facts = Facts::read(&arena.base).await?;
    let lost = facts.lost(&arena.told);
    let oldest = lost.iter().map(|l| killed_at.saturating_sub(l.at)).max().unwrap_or(0);
    let (behind, killing) = (killed_at - since, 1_000_000);
    if oldest > behind + killing {
        arena.report.violations.push(format!("the standby was {behind} us behind, and {oldest} us are lost"));
    }
    if lost.iter().any(|l| l.at > killed_at + killing) {
        arena.report.violations.push("something was lost that was acknowledged after the failover".to_owned());
    }
    let tokens = lost.iter().filter(|l| l.what.starts_with("token")).count();
    let acts = lost.len() - tokens;
    if acts == 0 {
        arena.report.violations.push("no acknowledged act was lost, so nothing is known of it".to_owned());
    } else if !was_on_hold {
        arena.report.violations.push(format!("H-4: {acts} acknowledged acts are lost, and nobody noticed"));
    }
    arena.report.notes.push(format!(
        "standby {} ms behind: {acts} acknowledged acts and {tokens} tokens lost, the oldest {} ms old; {}",
        behind / 1000,
        oldest / 1000,
        if was_on_hold { "on hold until it was lifted" } else { "not on hold" }
    ));
    arena.finish_with(&facts).await
}
