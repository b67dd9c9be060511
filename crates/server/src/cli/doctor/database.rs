//! The database: can it be reached, is its schema this program's, does it keep what was acknowledged, does
//! its clock agree, and is its file whole.

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use portcullis_domain::{hold::Hold, keys::Kept};
use portcullis_store::{
    Examined, MasterKeys, OpenError, OpenOptions, PostgresFacts, SchemaFacts, ServerFacts, SqliteFacts, Store,
    examine,
};

use super::{Findings, Level};
use crate::{clock::Clock, config::Config};

/// How long PostgreSQL is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// Instants come from the nodes, so clocks that differ by more put records out of order.
const CLOCKS_DIFFER: SignedDuration = SignedDuration::from_secs(1);
/// Beyond this assertions and proofs of clients are refused by one node and taken by another.
const CLOCKS_HARM: SignedDuration = SignedDuration::from_secs(10);
/// A write-ahead log that is larger was not worked off for long.
const LARGE_LOG: u64 = 256 << 20;

/// Looks at the database, and with the keys at what is sealed in it.
pub(super) async fn look(config: &Config, keys: Option<MasterKeys>, clock: &Clock, found: &mut Findings) {
    let before = clock.now();
    let examined = match Box::pin(examine(&config.database, PATIENCE)).await {
        Ok(examined) => examined,
        Err(OpenError::Absent(at)) => {
            let remedy = "Right before the first start, which makes it. Else give the right --data-dir.";
            return found.add(Level::Warning, "database", format!("there is no database at {at}"), remedy);
        }
        Err(e @ OpenError::Foreign(..)) => {
            let remedy = "Stop the server, keep the file, and restore a backup.";
            return found.add(Level::Wrong, "integrity", e.to_string(), remedy);
        }
        Err(e) => {
            let remedy = "The server answers 503 until it can. See that it runs, its address, user and password, \
                          and the way to it.";
            return found.add(Level::Wrong, "database", e.to_string(), remedy);
        }
    };
    let after = clock.now();
    let Examined { schema, last_record_at, hold, server } = &examined;
    match server {
        ServerFacts::Sqlite(facts) => sqlite(facts, found),
        ServerFacts::Postgres(facts) => {
            let middle = before + after.duration_since(before) / 2;
            clocks(facts.clock.duration_since(middle), after.duration_since(before), found);
            postgres(config, facts, found);
        }
    }
    last_record(*last_record_at, clock.now(), found);
    on_hold(*hold, found);
    if schema_fits(*schema, found)
        && let Some(keys) = keys
    {
        sealed(config, keys, clock, found).await;
    }
}

/// Whether this program can open it.
fn schema_fits(SchemaFacts { version, known, works_with }: SchemaFacts, found: &mut Findings) -> bool {
    let check = "schema";
    let seen = format!("version {version}; this program knows {known}");
    if version == known {
        found.fine(check, seen);
        return true;
    }
    let (level, remedy) = if version == 0 {
        (Level::Warning, "The first start makes the tables.")
    } else if version < known {
        (Level::Warning, "The next start of this program brings it up to date.")
    } else if works_with.is_some_and(|oldest| oldest <= known) {
        (
            Level::Warning,
            "A newer release has brought it there, and this one can work beside it: finish the upgrade.",
        )
    } else {
        (Level::Wrong, "A newer release has brought it there, and this one will not start: use that release.")
    };
    found.add(level, check, seen, remedy);
    version > known && level == Level::Warning
}

fn sqlite(facts: &SqliteFacts, found: &mut Findings) {
    if facts.damage.is_empty() {
        found.fine("integrity", format!("the file is whole ({} MiB)", facts.bytes >> 20));
    } else {
        let remedy = "Stop the server, keep the file, and restore a backup.";
        found.add(Level::Wrong, "integrity", facts.damage.join("; "), remedy);
    }
    let seen = format!("{} MiB", facts.log_bytes >> 20);
    if facts.log_bytes > LARGE_LOG {
        let remedy =
            "Something reads for very long and keeps it from being worked off: see what else has the file open.";
        found.add(Level::Warning, "write_ahead_log", seen, remedy);
    } else {
        found.fine("write_ahead_log", seen);
    }
}

/// Asking took so long, so the difference is known no better than that.
fn clocks(ahead: SignedDuration, asking: SignedDuration, found: &mut Findings) {
    let apart = (ahead.abs() - asking / 2).max(SignedDuration::ZERO);
    let way = if ahead.is_negative() { "behind" } else { "ahead of" };
    let seen = format!("the database's clock is {} ms {way} this machine's", ahead.abs().as_millis());
    let remedy = "Keep all clocks together (NTP): sessions, tokens and codes are judged by the clock of the node.";
    match apart {
        apart if apart > CLOCKS_HARM => found.add(Level::Wrong, "clock", seen, remedy),
        apart if apart > CLOCKS_DIFFER => found.add(Level::Warning, "clock", seen, remedy),
        _ => found.fine("clock", seen),
    }
}

fn last_record(at: Option<Timestamp>, now: Timestamp, found: &mut Findings) {
    let Some(at) = at else { return };
    let check = "last_record";
    if at.duration_since(now) > CLOCKS_HARM {
        let seen = format!("an audit record is of {at}, and it is {now}");
        let remedy = "This machine's clock is behind, or a node's was ahead: set it right. What was said to end then \
                      ends by that clock.";
        found.add(Level::Wrong, check, seen, remedy);
    } else {
        found.fine(check, format!("of {at}"));
    }
}

fn on_hold(hold: Option<Hold>, found: &mut Findings) {
    let check = "hold";
    let Some(Hold { since, why, .. }) = hold else { return found.fine(check, "the database is not on hold") };
    let remedy = "No token is issued and none is active. portcullis hold show says what would work, portcullis hold \
                  lift --help how to go on.";
    found.add(Level::Wrong, check, format!("on hold since {since}, because {}", why.label()), remedy);
}

fn postgres(config: &Config, facts: &PostgresFacts, found: &mut Findings) {
    let version = facts.version.split(" on ").next().unwrap_or_default();
    if facts.is_standby {
        let remedy = "Give the primary; with several hosts behind one name, one that points at the primary.";
        found.add(Level::Wrong, "database", format!("{version}, a standby, which cannot be written to"), remedy);
    } else {
        found.fine("database", version);
    }
    durability(facts, found);
    replication(facts, found);
    way(facts, found);
    let (wanted, allowed) = (i64::from(config.database_connections), facts.connections);
    let seen = format!("this node wants {wanted} of {allowed} connections");
    if wanted > allowed {
        let remedy =
            "Raise max_connections of PostgreSQL, or lower database_connections. It has to do for all nodes.";
        found.add(Level::Wrong, "connections", seen, remedy);
    } else {
        found.fine("connections", seen);
    }
}

/// Whether what was acknowledged survives a crash of the database's machine.
fn durability(facts: &PostgresFacts, found: &mut Findings) {
    let check = "durability";
    let remedies = [
        ("fsync", "A crash can ruin the whole database. Set fsync = on."),
        ("full_page_writes", "A crash can ruin pages. Set full_page_writes = on."),
        (
            "synchronous_commit",
            "What was acknowledged last, revocations too, is lost in a crash. Set synchronous_commit = on.",
        ),
    ];
    let off: Vec<_> = remedies.iter().filter(|(name, _)| facts.setting(name) == "off").collect();
    for (name, remedy) in &off {
        found.add(Level::Wrong, check, format!("{name} is off"), *remedy);
    }
    if off.is_empty() {
        found.fine(check, "a commit waits for the disk");
    }
}

/// Whether what was acknowledged survives a failover.
fn replication(facts: &PostgresFacts, found: &mut Findings) {
    let check = "replication";
    let names = facts.setting("synchronous_standby_names");
    let commit = facts.setting("synchronous_commit");
    let Some(standbys) = &facts.standbys else {
        let remedy = "GRANT pg_read_all_stats to the user, or look into pg_stat_replication by hand.";
        return found.add(Level::Warning, check, "this user may not see the standbys", remedy);
    };
    let is_synchronous = |state: &str| matches!(state, "sync" | "quorum");
    let synchronous = standbys.iter().filter(|(_, state)| is_synchronous(state)).count();
    let (all, waits) = (standbys.len(), matches!(commit, "on" | "remote_apply"));
    if names.is_empty() && standbys.is_empty() {
        found.fine(check, "no standby");
    } else if names.is_empty() {
        let remedy =
            "A failover loses what was acknowledged last, revocations too. Set synchronous_standby_names.";
        found.add(Level::Warning, check, format!("{all} standbys, asynchronous"), remedy);
    } else if !waits {
        let remedy = "A failover loses what was acknowledged last, revocations too. Set synchronous_commit = on.";
        let seen = format!("synchronous_commit is {commit}, so commits do not wait for the disk of a standby");
        found.add(Level::Warning, check, seen, remedy);
    } else if synchronous == 0 {
        let remedy = "Every commit waits for a standby and none is there: start one, or nothing is acknowledged.";
        found.add(Level::Wrong, check, format!("synchronous_standby_names is {names}, and none streams"), remedy);
    } else {
        found.fine(check, format!("{synchronous} of {all} standbys synchronous, synchronous_commit {commit}"));
    }
}

/// The way to the database.
fn way(facts: &PostgresFacts, found: &mut Findings) {
    let check = "database_tls";
    match (facts.is_local, facts.is_encrypted, facts.is_verified) {
        (true, ..) => found.fine(check, "the way stays on this machine"),
        (false, true, true) => found.fine(check, "TLS, and the server proves itself"),
        (false, true, false) => found.add(
            Level::Warning,
            check,
            "TLS, but the server need not prove itself",
            "Put sslmode=verify-full and sslrootcert=… into database_url: else somebody on the way can play it.",
        ),
        (false, false, _) => found.add(
            Level::Wrong,
            check,
            "the connection to another machine is not encrypted",
            "Turn ssl on in PostgreSQL, and put sslmode=verify-full and sslrootcert=… into database_url.",
        ),
    }
}

/// Whether the ring opens what is sealed, and whether it has keys that nothing needs.
async fn sealed(config: &Config, keys: MasterKeys, clock: &Clock, found: &mut Findings) {
    let check = "master_key_ring";
    let ids: Vec<String> = keys.ids().split(", ").map(str::to_owned).collect();
    let current = keys.current_id().to_owned();
    let options = OpenOptions { only_look: true, ..OpenOptions::default() };
    let asking = async {
        let store = Store::open(&config.database, Arc::new(keys), &options).await?;
        let mut tx = store.read().await?;
        let mut needs = tx.master_key_use(clock.now()).await?;
        // A long log is counted for as long as a request may wait, and only if it matters.
        if ids.len() > 1 {
            needs.extend(tx.audit_key_use().await?);
        }
        drop(tx);
        store.close().await;
        Ok::<_, OpenError>(needs)
    };
    let needs = match Box::pin(asking).await {
        Ok(needs) => needs,
        Err(e @ OpenError::Store(_)) => {
            let remedy = "portcullis keys rewrap counts what needs which key, however long it takes.";
            return found.add(Level::Warning, check, e.to_string(), remedy);
        }
        Err(e) => {
            let remedy = "Without the right key nothing can be checked or signed: bring it back.";
            return found.add(Level::Wrong, check, e.to_string(), remedy);
        }
    };
    for need in needs.iter().filter(|n| !n.key_id.is_empty() && !ids.contains(&n.key_id)) {
        let seen = format!("{} {} need master key {}", need.count, need.kept.label(), need.key_id);
        // Records of the audit log cannot be verified without it; everything else does not work.
        let level = if need.kept == Kept::AuditRecords { Level::Warning } else { Level::Wrong };
        found.add(level, check, seen, "Bring it back as a further line of the master key file.");
    }
    let is_needed = |id: &String| needs.iter().any(|n| n.key_id == *id || n.key_id.is_empty());
    // What is current will be needed.
    let unused: Vec<&str> =
        ids.iter().filter(|id| **id != current && !is_needed(id)).map(String::as_str).collect();
    if unused.is_empty() {
        found.fine(check, format!("{} keys", ids.len()));
    } else {
        let remedy = "Take them out of the ring of every node: a key that is not there cannot be stolen.";
        found.add(Level::Warning, check, format!("nothing needs {}", unused.join(", ")), remedy);
    }
}
