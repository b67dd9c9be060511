//! PostgreSQL goes away under two servers, in every way there is (I1, I2, I4, I6).

use std::time::Duration;

use anyhow::Context;
use tokio::time::sleep;

use crate::{
    arena::{Arena, Lab, Plan},
    cluster::Cluster,
    proxy::Mode,
    report::Report,
};

/// The ways, in turn.
#[derive(Debug, Clone, Copy)]
enum Way {
    Cut,
    CutAtCommit,
    Kill,
    Stall,
    CutAtEveryCommit,
    Restart,
    BlackHole,
}

const WAYS: [Way; 7] =
    [Way::Cut, Way::CutAtCommit, Way::Kill, Way::Stall, Way::CutAtEveryCommit, Way::Restart, Way::BlackHole];

pub(super) async fn run(lab: &Lab, name: &str, rounds: u32, seed: u64) -> anyhow::Result<Report> {
    let cluster = lab.cluster().await?;
    let mut arena =
        Arena::build(lab, Plan { nodes: 2, cluster: Some(cluster.clone()), ..Plan::new(name, seed) }).await?;
    let mut aimed = false;
    for way in WAYS.into_iter().cycle().take(rounds as usize) {
        aimed |= matches!(way, Way::CutAtCommit | Way::CutAtEveryCommit);
        let load = arena.load().await?;
        arena.pause(200, 500).await;
        go_away(&mut arena, &cluster, way).await?;
        for at in 0..arena.nodes.len() {
            let took = arena.nodes[at].recover().await?;
            arena.report.recovered(took, super::AFTER_OUTAGE);
        }
        arena.pause(200, 400).await;
        let calls = load.stop().await?;
        arena.absorb(calls);
        arena.settle().await?;
    }
    let cut = arena.proxy.as_ref().map_or(0, crate::proxy::Proxy::commits_cut);
    arena.report.notes.push(format!("{cut} commits carried out without an answer"));
    if aimed && cut == 0 {
        arena.report.violations.push("no commit was cut, so nothing is known of them".to_owned());
    }
    arena.finish().await
}

async fn go_away(arena: &mut Arena, cluster: &Cluster, way: Way) -> anyhow::Result<()> {
    let proxy = arena.proxy.as_ref().context("no proxy before PostgreSQL")?;
    let before = proxy.commits_cut();
    match way {
        Way::Cut => {
            for _ in 0..5 {
                proxy.cut();
                sleep(Duration::from_millis(60)).await;
            }
            arena.report.faults += 5;
        }
        Way::CutAtCommit | Way::CutAtEveryCommit => {
            let of = if matches!(way, Way::CutAtCommit) { 5 } else { 1 };
            proxy.set(Mode::CutAtCommit(of));
            sleep(Duration::from_millis(700)).await;
            proxy.set(Mode::Pass);
            arena.report.faults += proxy.commits_cut() - before;
        }
        Way::Kill => {
            cluster.kill().await?;
            cluster.start_again().await?;
            arena.report.faults += 1;
        }
        Way::Restart => {
            cluster.restart().await?;
            arena.report.faults += 1;
        }
        Way::Stall => {
            proxy.set(Mode::Stall);
            sleep(Duration::from_millis(1500)).await;
            proxy.set(Mode::Pass);
            arena.report.faults += 1;
        }
        Way::BlackHole => {
            proxy.set(Mode::BlackHole);
            sleep(Duration::from_millis(1000)).await;
            proxy.set(Mode::Pass);
            // What was swallowed will not come any more.
            proxy.cut();
            arena.report.faults += 1;
        }
    }
    Ok(())
}
