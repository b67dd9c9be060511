//! Two servers, one PostgreSQL: what one has acknowledged, the other knows (I1).

use std::sync::Arc;

use tokio::task::JoinSet;

use crate::{
    arena::{Arena, Lab, Plan},
    history::{Call, Operation, Outcome},
    report::Report,
};

/// Everybody at work at both servers, and each round ends with a race: revoked at A while the other asks
/// at B from the same instant.
pub(super) async fn run(lab: &Lab, name: &str, rounds: u32, seed: u64) -> anyhow::Result<Report> {
    let cluster = Some(lab.cluster().await?);
    let mut arena = Arena::build(lab, Plan { nodes: 2, cluster, ..Plan::new(name, seed) }).await?;
    for _ in 0..rounds {
        let load = arena.load().await?;
        arena.pause(400, 800).await;
        let calls = load.stop().await?;
        arena.absorb(calls);
        arena.settle().await?;
        for at in 0..arena.owners.len() {
            race(&mut arena, at).await?;
        }
        arena.settle().await?;
    }
    arena.finish().await
}

/// How often each program asks in a race.
const ASKED: usize = 8;

async fn race(arena: &mut Arena, at: usize) -> anyhow::Result<()> {
    let owner = Arc::clone(&arena.owners[at]);
    let [a, b] = [0, 1].map(|n| arena.doors().swap_remove(n));
    let mut pen = arena.desk.pen()?;
    pen.note((&owner.email, &a.0), Operation::Revoke, owner.revoke(&a.1)).await?;
    let made = pen.note((&owner.email, &a.0), Operation::Generate, owner.generate(&a.1)).await?;
    let Outcome::Generated(id) = made.clone() else {
        let calls = pen.take();
        arena.absorb(calls);
        return Ok(());
    };
    let Some(pair) = owner.pair_of(&id) else { return Ok(()) };
    let asked = Operation::Issue(id.clone());
    pen.note((&owner.email, &b.0), asked.clone(), owner.issue(&b.1, &pair)).await?;
    let mut racing: JoinSet<anyhow::Result<Vec<Call>>> = JoinSet::new();
    for number in 0..4 {
        let (mut pen, owner, door, pair) = (arena.desk.pen()?, Arc::clone(&owner), b.clone(), pair.clone());
        let (id, key, asked) = (id.clone(), arena.key.clone(), asked.clone());
        racing.spawn(async move {
            for _ in 0..ASKED {
                let what = (&*owner.email, &*door.0);
                match owner.tokens_of(&id).pop().filter(|_| number % 2 == 0) {
                    Some(token) => {
                        let asked = Operation::Introspect(id.clone());
                        pen.note(what, asked, owner.introspect(&door.1, &key, &token)).await?;
                    }
                    None => drop(pen.note(what, asked.clone(), owner.issue(&door.1, &pair)).await?),
                }
            }
            Ok(pen.take())
        });
    }
    pen.note((&owner.email, &a.0), Operation::Revoke, owner.revoke(&a.1)).await?;
    let mut calls = pen.take();
    while let Some(ended) = racing.join_next().await {
        calls.extend(ended??);
    }
    arena.report.faults += 1;
    arena.absorb(calls);
    Ok(())
}
