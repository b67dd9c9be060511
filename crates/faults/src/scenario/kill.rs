//! kill -9 at random under generate, revoke, suspend, resume and issue (I1, I2, I4).

use crate::{
    arena::{Arena, Lab, Plan},
    report::Report,
};

/// One server over its own file.
pub(super) async fn sqlite(lab: &Lab, name: &str, rounds: u32, seed: u64) -> anyhow::Result<Report> {
    run(Arena::build(lab, Plan::new(name, seed)).await?, rounds).await
}

/// Two servers over PostgreSQL; one of them is killed.
pub(super) async fn postgres(lab: &Lab, name: &str, rounds: u32, seed: u64) -> anyhow::Result<Report> {
    let cluster = Some(lab.cluster().await?);
    let arena = Arena::build(lab, Plan { nodes: 2, cluster, ..Plan::new(name, seed) }).await?;
    arena.drop_guard(lab).await?;
    run(arena, rounds).await
}

async fn run(mut arena: Arena, rounds: u32) -> anyhow::Result<Report> {
    for _ in 0..rounds {
        let load = arena.load().await?;
        arena.pause(150, 900).await;
        let which = arena.rng.usize(..arena.nodes.len());
        arena.nodes[which].kill().await?;
        arena.report.faults += 1;
        let took = arena.nodes[which].start().await?;
        arena.report.recovered(took, super::AFTER_KILL);
        arena.pause(50, 150).await;
        let calls = load.stop().await?;
        arena.absorb(calls);
        arena.settle().await?;
    }
    arena.finish().await
}
