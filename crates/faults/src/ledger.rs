//! What is in the database when a run is over, beside what clients were told: I2, I4, L-3, L-4.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    path::PathBuf,
};

use anyhow::Context;
use sqlx::{Connection, PgConnection, SqliteConnection, sqlite::SqliteConnectOptions};
use uuid::Uuid;

use crate::history::{Call, Operation, Outcome};

/// Where the database is.
#[derive(Debug, Clone)]
pub enum Base {
    /// A file of SQLite.
    Sqlite(PathBuf),
    /// A URL of PostgreSQL, without anything in between.
    Postgres(String),
}

/// What is in the database.
#[derive(Debug, Default)]
pub struct Facts {
    /// Users with more than one active credential.
    two_active: i64,
    /// Every Client ID, and whether it was revoked.
    credentials: BTreeMap<String, bool>,
    /// How many records there are of acts that were done, by event and subject.
    records: BTreeMap<(String, String), i64>,
    /// The ids of all tokens.
    tokens: HashSet<Uuid>,
    /// What SQLite says about its file, if it is not "ok".
    damage: Option<String>,
}

/// What clients were told, and what they were not told.
#[derive(Debug, Default)]
pub struct Told {
    acts: Vec<Call>,
    tokens: Vec<(Uuid, u64)>,
}

/// Something that was acknowledged and is not there.
#[derive(Debug)]
pub struct Lost {
    /// What.
    pub what: String,
    /// When its acknowledgement arrived, in microseconds since the run began.
    pub at: u64,
}

impl Told {
    /// Remembers calls.
    pub fn add(&mut self, calls: &[Call]) {
        for call in calls {
            match &call.outcome {
                Outcome::Issued(id) => self.tokens.push((*id, call.returned)),
                _ if call.is_act() => self.acts.push(call.clone()),
                _ => {}
            }
        }
    }

    fn unanswered(&self, operation: &Operation, user: Option<&str>) -> usize {
        let of = |c: &&Call| c.is_unanswered() && c.operation == *operation && user.is_none_or(|u| c.user == u);
        self.acts.iter().filter(of).count()
    }

    fn done(&self, operation: &Operation, user: &str) -> usize {
        let of = |c: &&Call| c.outcome == Outcome::Done && c.operation == *operation && c.user == user;
        self.acts.iter().filter(of).count()
    }
}

macro_rules! look {
    ($connection:expr) => {{
        let connection = $connection;
        let sql = "SELECT COUNT(*) FROM (SELECT owner_id FROM credentials WHERE revoked_at IS NULL AND \
                   retired_at IS NULL GROUP BY owner_id HAVING COUNT(*) > 1) AS two";
        let (two_active,): (i64,) = sqlx::query_as(sql).fetch_one(&mut *connection).await?;
        let sql = "SELECT client_id, CASE WHEN revoked_at IS NULL THEN 0 ELSE 1 END FROM credentials \
                   WHERE generated_at > 0";
        let credentials: Vec<(String, i32)> = sqlx::query_as(sql).fetch_all(&mut *connection).await?;
        let sql =
            "SELECT event, subject, COUNT(*) FROM audit_records WHERE outcome = 'done' GROUP BY event, subject";
        let records: Vec<(String, String, i64)> = sqlx::query_as(sql).fetch_all(&mut *connection).await?;
        let tokens: Vec<(Uuid,)> =
            sqlx::query_as("SELECT jti FROM issued_tokens").fetch_all(&mut *connection).await?;
        Facts {
            two_active,
            credentials: credentials.into_iter().map(|(id, revoked)| (id, revoked == 1)).collect(),
            records: records.into_iter().map(|(event, subject, n)| ((event, subject), n)).collect(),
            tokens: tokens.into_iter().map(|(id,)| id).collect(),
            damage: None,
        }
    }};
}

impl Facts {
    /// Reads the database.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn read(base: &Base) -> anyhow::Result<Self> {
        match base {
            Base::Sqlite(file) => {
                let options = SqliteConnectOptions::new().filename(file).read_only(true);
                let mut connection = SqliteConnection::connect_with(&options).await?;
                let mut facts = look!(&mut connection);
                let sql = "PRAGMA integrity_check";
                let (said,): (String,) = sqlx::query_as(sql).fetch_one(&mut connection).await?;
                facts.damage = Some(said).filter(|said| said != "ok");
                connection.close().await?;
                Ok(facts)
            }
            Base::Postgres(url) => {
                let mut connection = PgConnection::connect(url).await.context("PostgreSQL does not answer")?;
                let facts = look!(&mut connection);
                connection.close().await?;
                Ok(facts)
            }
        }
    }

    /// Whether there is a credential with this Client ID.
    #[must_use]
    pub fn knows(&self, client_id: &str) -> bool {
        self.credentials.contains_key(client_id)
    }

    /// What must hold of a database whatever clients were told: I2, no record without its act and no act
    /// without its record (I4), a whole file.
    #[must_use]
    pub fn inner_violations(&self) -> Vec<String> {
        let mut found = Vec::new();
        if self.two_active > 0 {
            found.push(format!("I2: {} users have two active credentials", self.two_active));
        }
        if let Some(damage) = &self.damage {
            found.push(format!("the database file is damaged: {damage}"));
        }
        let made: BTreeSet<&String> = self.credentials.keys().collect();
        let revoked = self.credentials.iter().filter(|(_, revoked)| **revoked).map(|(id, _)| id).collect();
        for (event, are) in [("credential.generate", made), ("credential.revoke", revoked)] {
            let of = self.records.iter().filter(|((e, _), _)| e == event);
            let on_record: BTreeSet<&String> = of.clone().map(|((_, subject), _)| subject).collect();
            for id in are.difference(&on_record) {
                found.push(format!("I4: no record {event} of {id}"));
            }
            for id in on_record.difference(&are) {
                found.push(format!("I4: a record {event} of {id}, which did not happen"));
            }
            for ((_, id), n) in of.filter(|(_, n)| **n > 1) {
                found.push(format!("I4: {n} records {event} of {id}"));
            }
        }
        found
    }

    /// What was acknowledged and is not there (I4, L-4).
    #[must_use]
    pub fn lost(&self, told: &Told) -> Vec<Lost> {
        let acts = told.acts.iter().filter_map(|call| {
            let what = match &call.outcome {
                Outcome::Generated(id) if !self.credentials.contains_key(id) => format!("generation of {id}"),
                Outcome::Revoked(id) if self.credentials.get(id) != Some(&true) => format!("revocation of {id}"),
                _ => return None,
            };
            Some(Lost { what, at: call.returned })
        });
        let tokens = told.tokens.iter().filter(|(id, _)| !self.tokens.contains(id));
        acts.chain(tokens.map(|(id, at)| Lost { what: format!("token {id}"), at: *at })).collect()
    }

    /// What happened though nobody was told so: at most what was not answered. `users` are the e-mails and
    /// ids of the owners; `all_answered`: whether everything that happened had to be answered.
    #[must_use]
    pub fn outer_violations(&self, told: &Told, users: &[(String, String)], all_answered: bool) -> Vec<String> {
        let mut found: Vec<String> =
            self.lost(told).iter().map(|lost| format!("I4: acknowledged and lost: {}", lost.what)).collect();
        let may = |n: usize| if all_answered { 0 } else { n };
        let (mut made, mut revoked) = (BTreeSet::new(), BTreeSet::new());
        for call in &told.acts {
            match &call.outcome {
                Outcome::Generated(id) => made.insert(id.as_str()),
                Outcome::Revoked(id) => revoked.insert(id.as_str()),
                _ => continue,
            };
        }
        let unknown = self.credentials.keys().filter(|id| !made.contains(id.as_str())).count();
        if unknown > may(told.unanswered(&Operation::Generate, None)) {
            found.push(format!("I4: {unknown} credentials that nobody was told of"));
        }
        let gone = self.credentials.iter().filter(|(id, over)| **over && !revoked.contains(id.as_str())).count();
        if gone > may(told.unanswered(&Operation::Revoke, None)) {
            found.push(format!("I4: {gone} revocations that nobody was told of"));
        }
        for (email, id) in users {
            for (event, operations) in [
                ("role.change", &[Operation::TakeRole, Operation::GiveRole][..]),
                ("mfa.enable", &[Operation::MfaOn][..]),
                ("mfa.disable", &[Operation::MfaOff][..]),
            ] {
                let on_record = self.records.get(&(event.to_owned(), id.clone())).copied().unwrap_or(0);
                let on_record = usize::try_from(on_record).unwrap_or(0);
                let least: usize = operations.iter().map(|o| told.done(o, email)).sum();
                let open: usize = operations.iter().map(|o| told.unanswered(o, Some(email))).sum();
                if !(least..=least + may(open)).contains(&on_record) {
                    found.push(format!(
                        "I4: {on_record} records {event} of {email}; {least} were acknowledged, {open} not answered"
                    ));
                }
            }
        }
        found
    }
}
