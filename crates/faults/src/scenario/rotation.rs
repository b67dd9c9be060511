//! Signing keys take over from each other every second, on two servers that are killed one after the
//! other, and two verifiers look at every token: what is good is taken, whichever key signed it (I5).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Context;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL};
use portcullis_verify::{Error, Request, Verifier, WhenStale};
use secrecy::ExposeSecret;
use tokio::task::JoinSet;

use crate::{
    arena::{Arena, Lab, Plan},
    history::{Call, Operation, Outcome},
    outside,
    people::{Pair, Person, Token},
    report::Report,
};

/// How long a token that is good may go undecided while a server is away.
const PATIENCE: Duration = Duration::from_secs(10);

/// The keys that sign in a run at least, one after the other.
const KEYS: usize = 3;
/// How long they may take to be so many after the last server was killed, and one more than before. One that
/// is killed while it has its turn at rotating keeps it for 15 s; then each key takes two seconds.
const TAKE_OVER: Duration = Duration::from_secs(40);

/// The keys whose tokens were seen by any of the programs.
type Signed = Arc<Mutex<BTreeSet<String>>>;

/// One verifier follows the feed, the other fetches when it meets a key that it lacks.
async fn verifiers(url: &str, key: &Pair) -> anyhow::Result<[Verifier; 2]> {
    let builder = || {
        Verifier::builder(url, format!("{url}/api/v1"))
            .when_stale(WhenStale::RefuseAfter(Duration::from_secs(60)))
            .leeway(Duration::ZERO)
    };
    Ok([builder().api_key(&key.id, key.secret.clone()).start().await?, builder().start().await?])
}

fn kid(token: &str) -> Option<String> {
    let header = BASE64URL.decode(token.split('.').next()?).ok()?;
    let header: serde_json::Value = serde_json::from_slice(&header).ok()?;
    header["kid"].as_str().map(str::to_owned)
}

/// What a verifier says in the end to a token that is good: nothing, or why it is refused.
async fn said(verifier: &Verifier, token: &str) -> Result<(), String> {
    let authorization = format!("Bearer {token}");
    let request = Request { method: "GET", path: "/", authorization: &[&authorization], dpop: &[] };
    let since = outside::instant();
    loop {
        match verifier.verify(&request).await {
            Ok(_) => return Ok(()),
            Err(Error::Token { why, .. }) => return Err(format!("I5: a good token was refused: {why:?}")),
            Err(other) if since.elapsed() > PATIENCE => {
                return Err(format!("I5: a good token stayed undecided: {other}"));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

/// Shows a token that is good to both verifiers.
async fn show(verifiers: &[Verifier; 2], token: &Token, wrong: &mut Vec<String>) {
    for verifier in verifiers {
        if let Err(why) = said(verifier, token.text.expose_secret()).await {
            wrong.push(why);
        }
    }
}

/// One program: asks at any server for a token, and shows it to both verifiers.
struct Asking {
    owner: Arc<Person>,
    pair: Pair,
    verifiers: [Verifier; 2],
    doors: Vec<crate::load::Door>,
    rng: fastrand::Rng,
    signed: Signed,
}

#[derive(Default)]
struct Seen {
    calls: Vec<Call>,
    /// By the id of its key: the first token that each signed.
    first: BTreeMap<String, Token>,
    wrong: Vec<String>,
}

impl Asking {
    async fn run(mut self, mut pen: crate::history::Pen, stop: Arc<AtomicBool>) -> anyhow::Result<Seen> {
        let mut seen = Seen::default();
        while !stop.load(Ordering::Relaxed) {
            let (name, url) = self.rng.choice(&self.doors).cloned().context("no server")?;
            let asked = Operation::Issue(self.pair.id.clone());
            let issued = pen.note((&self.owner.email, &name), asked, self.owner.issue(&url, &self.pair)).await?;
            if !matches!(issued, Outcome::Issued(_)) {
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
            let Some(token) = self.owner.tokens_of(&self.pair.id).pop() else { continue };
            show(&self.verifiers, &token, &mut seen.wrong).await;
            let Some(key) = kid(token.text.expose_secret()) else { continue };
            if seen.first.contains_key(&key) {
                continue;
            }
            // Another key signs now: what those before it signed is as good as it was.
            for earlier in seen.first.values() {
                show(&self.verifiers, earlier, &mut seen.wrong).await;
            }
            self.signed.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone());
            seen.first.insert(key, token);
        }
        seen.calls = pen.take();
        Ok(seen)
    }
}

/// In the end the first token of each key is good at both verifiers and both servers. All tokens of an arena
/// live for a month, and so long their keys have to be in the key set.
async fn all_stay_good(arena: &mut Arena, verifiers: &[Verifier; 2], first: &[(String, Token)]) {
    for (_, token) in first {
        show(verifiers, token, &mut arena.report.violations).await;
        for (name, url) in arena.doors() {
            let since = outside::instant();
            let answer = loop {
                match arena.operator.introspect(&url, &arena.key, token).await {
                    Outcome::NotDone(_) | Outcome::Unanswered(_) if since.elapsed() < PATIENCE => {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                    answer => break answer,
                }
            };
            if answer != Outcome::Active {
                arena.report.violations.push(format!("I5: server {name} says of a good token: {answer:?}"));
            }
        }
    }
}

/// Waits until enough keys have signed, and one that had not when the last server was killed.
async fn taken_over(signed: &Signed) -> Result<(), String> {
    let since = outside::instant();
    let count = || signed.lock().unwrap_or_else(PoisonError::into_inner).len();
    let wanted = KEYS.max(count() + 1);
    loop {
        let keys = count();
        if keys >= wanted {
            return Ok(());
        }
        if since.elapsed() > TAKE_OVER {
            return Err(format!(
                "keys did not take over from each other within {TAKE_OVER:?}: {keys} of {wanted} signed"
            ));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

pub(super) async fn run(lab: &Lab, name: &str, rounds: u32, seed: u64) -> anyhow::Result<Report> {
    let plan = Plan {
        nodes: 2,
        owners: 2,
        cluster: Some(lab.cluster().await?),
        settings: &["key_rotation_seconds=1", "key_publish_ahead_seconds=1"],
        balanced: true,
        ..Plan::new(name, seed)
    };
    let mut arena = Arena::build(lab, plan).await?;
    let balancer = arena.balancer.as_ref().context("no balancer")?;
    let verifiers = verifiers(&format!("http://127.0.0.1:{}", balancer.port), &arena.key).await?;
    let (stop, signed, mut asking) = (Arc::new(AtomicBool::new(false)), Signed::default(), JoinSet::new());
    for owner in arena.owners.clone() {
        let mut pen = arena.desk.pen()?;
        let (door, url) = arena.doors().swap_remove(0);
        let made = pen.note((&owner.email, &door), Operation::Generate, owner.generate(&url)).await?.clone();
        let Outcome::Generated(id) = made else { anyhow::bail!("no credential: {made:?}") };
        let calls = pen.take();
        arena.absorb(calls);
        let pair = owner.pair_of(&id).context("a credential without a secret")?;
        let (doors, rng) = (arena.doors(), arena.rng.fork());
        let program =
            Asking { owner, pair, verifiers: verifiers.clone(), doors, rng, signed: Arc::clone(&signed) };
        asking.spawn(program.run(arena.desk.pen()?, Arc::clone(&stop)));
    }
    for round in 0..rounds {
        arena.pause(1500, 2500).await;
        let (away, other) = if round % 2 == 0 { (0, 1) } else { (1, 0) };
        // As a balancer does: nobody is led to a server that is going.
        if let Some(balancer) = &arena.balancer {
            balancer.lead_to(arena.nodes[other].address.port());
            balancer.cut();
        }
        arena.nodes[away].kill().await?;
        arena.report.faults += 1;
        let took = arena.nodes[away].start().await?;
        arena.report.recovered(took, super::AFTER_KILL);
    }
    let taken_over = taken_over(&signed).await;
    arena.pause(1000, 1500).await;
    stop.store(true, Ordering::Relaxed);
    let mut first: Vec<(String, Token)> = Vec::new();
    while let Some(ended) = asking.join_next().await {
        let seen = ended??;
        arena.absorb(seen.calls);
        arena.report.violations.extend(seen.wrong);
        first.extend(seen.first);
    }
    all_stay_good(&mut arena, &verifiers, &first).await;
    let keys: BTreeSet<&String> = first.iter().map(|(key, _)| key).collect();
    arena.report.faults += keys.len() as u64;
    arena.report.notes.push(format!("{} keys signed", keys.len()));
    arena.report.violations.extend(taken_over.err());
    arena.settle().await?;
    arena.finish().await
}
