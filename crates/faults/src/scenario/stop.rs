//! SIGTERM under load: what is under way finishes, and whatever happened was answered.

use crate::{
    arena::{Arena, Lab, Plan},
    report::Report,
};

pub(super) async fn run(lab: &Lab, name: &str, rounds: u32, seed: u64) -> anyhow::Result<Report> {
    let mut report = Report::default();
    for cluster in [None, Some(lab.cluster().await?)] {
        let mut arena = Arena::build(lab, Plan { cluster, ..Plan::new(name, seed) }).await?;
        arena.all_answered = true;
        for _ in 0..rounds {
            let load = arena.load().await?;
            arena.pause(200, 600).await;
            let code = arena.nodes[0].terminate().await?;
            arena.report.faults += 1;
            if code != Some(0) {
                arena.report.violations.push(format!("SIGTERM ended the server with {code:?}"));
            }
            let took = arena.nodes[0].start().await?;
            arena.report.recovered(took, super::AFTER_KILL);
            let calls = load.stop().await?;
            arena.absorb(calls);
            arena.settle().await?;
        }
        report.add(arena.finish().await?);
    }
    Ok(report)
}
