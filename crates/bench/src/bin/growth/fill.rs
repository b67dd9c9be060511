//! Fills the database of a halted server with years of use, by a few large statements and not by
//! requests. Every row is one that the server could have written: ids in the order of their time, each
//! credential with a place in the status list, the audit log chained with its key and its head sealed,
//! so that `portcullis audit verify` finds it whole. What it leaves out: a token on record has no record
//! in the audit log (nor has one that is issued, L-4 has a table of its own), and a user of these was
//! never invited.

use std::path::Path;
use std::time::Instant;

use anyhow::Context;
use jiff::{SignedDuration, Timestamp};
use portcullis_bench::contestant::Running;
use portcullis_bench::outside;
use portcullis_domain::audit::{By, Entry, Event, Head, Origin, Record};
use portcullis_store::{MasterKeys, Purpose};

use crate::base::Base;

/// How much is put on record.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    /// Users, each a Super Admin with a credential.
    pub(crate) users: i64,
    /// Audit records, over 370 days.
    pub(crate) records: i64,
    /// Issued tokens, over two months.
    pub(crate) tokens: i64,
    /// How many of those ended longer ago than they are kept by default.
    pub(crate) ended: i64,
}

/// Rows in one statement, so that progress is seen.
const PART: i64 = 1_000_000;
const DAY: SignedDuration = SignedDuration::from_hours(24);
/// The tables whose indexes are made after their rows.
const LARGE: [&str; 2] = ["audit_records", "issued_tokens"];

/// The master keys of a server whose data is in `dir`.
pub(crate) fn keys(dir: &Path) -> anyhow::Result<MasterKeys> {
    MasterKeys::parse(&std::fs::read_to_string(dir.join("data/master.key"))?).context("master.key")
}

struct Filler<'a> {
    base: Base,
    sizes: Sizes,
    now: Timestamp,
    /// The credential of the benchmark: every hundredth token is one of it.
    client_id: &'a str,
    began: Instant,
}

/// Fills the database of a server; `dir` is where its data is.
pub(crate) async fn fill(server: &Running, dir: &Path, sizes: Sizes) -> anyhow::Result<()> {
    let keys = keys(dir)?;
    let base = Base::open(server, dir).await?;
    let client_id = &server.credential.client_id;
    let mut filler = Filler { base, sizes, now: outside::now(), client_id, began: Instant::now() };
    let mut indexes = Vec::new();
    for table in LARGE {
        indexes.extend(filler.base.indexes(table).await?);
    }
    for (name, _) in &indexes {
        filler.base.run(format!("DROP INDEX {name}")).await?;
    }
    filler.add_users().await?;
    filler.add_tokens().await?;
    filler.add_records(&keys).await?;
    for (name, sql) in indexes {
        filler.base.run(sql).await?;
        filler.say(&name);
    }
    filler.base.close().await
}

impl Filler<'_> {
    /// Says how far it is.
    #[allow(clippy::print_stderr, reason = "progress goes beside the table")]
    fn say(&self, what: &str) {
        eprintln!("{:6.0} s  {what}", self.began.elapsed().as_secs_f64());
    }

    /// The millisecond that the ids of users and credentials begin at.
    fn first_millisecond(&self) -> i64 {
        (self.now - DAY * 400).as_millisecond()
    }

    async fn add_users(&mut self) -> anyhow::Result<()> {
        let (n, first) = (self.sizes.users, self.first_millisecond());
        let (series, at) = (self.base.series(1, n), format!("({first} + i)"));
        let (user, credential) = (self.base.id(&at, 0, "i"), self.base.id(&at, 1, "i"));
        self.base
            .run(format!(
                "INSERT INTO users (id, email, name, name_sought, language, time_zone, role, role_since, status, \
                 status_since, password_hash, created_at) SELECT {user}, 'user' || i || '@acme.example', \
                 'User ' || i, 'user ' || i, 'en-001', 'UTC', 'super_admin', {at} * 1000, 'active', {at} * 1000, \
                 b.password_hash, {at} * 1000 FROM {series}, users b WHERE b.email = 'bench@acme.example'"
            ))
            .await?;
        let expires = 3650 * DAY.as_micros();
        let (client_id, digest) = (self.base.client_id("i"), self.base.digest());
        self.base
            .run(format!(
                "INSERT INTO credentials (id, owner_id, client_id, digest, digest_key_id, generated_at, expires_at, \
                 status_index) SELECT {credential}, {user}, {client_id}, {digest}, b.digest_key_id, {at} * 1000, \
                 {at} * 1000 + {expires}, b.status_index + i FROM {series}, credentials b WHERE b.client_id = '{}'",
                self.client_id
            ))
            .await?;
        self.say("users and credentials");
        Ok(())
    }

    /// Tokens in the order of their time: those that ended long ago, spread over all credentials; then
    /// those of the last four weeks, of four in five of them. So one in five credentials has a last token
    /// that ended long ago and is kept all the same (C-13).
    async fn add_tokens(&mut self) -> anyhow::Result<()> {
        let Sizes { users, tokens, ended, .. } = self.sizes;
        let long_ago = (self.now - DAY * 61, self.now - DAY * 32);
        let lately = (self.now - DAY * 28, self.now - SignedDuration::from_secs(5));
        self.add_tokens_between(1, ended, long_ago, users).await?;
        self.add_tokens_between(ended + 1, tokens, lately, (users * 4 / 5).max(1)).await
    }

    async fn add_tokens_between(
        &mut self,
        first: i64,
        last: i64,
        (from, to): (Timestamp, Timestamp),
        credentials: i64,
    ) -> anyhow::Result<()> {
        if last < first {
            return Ok(());
        }
        let (start, step) =
            (from.as_microsecond(), to.duration_since(from).as_micros() / i128::from(last - first + 1));
        let at = format!("({start} + (i - {first}) * {step})");
        let owner = format!("(i * 7919 % {credentials} + 1)");
        let jti = self.base.id(&format!("({at} / 1000)"), 2, "i");
        let credential = self.base.id(&format!("({} + {owner})", self.first_millisecond()), 1, &owner);
        let own = self.base.own_api();
        for part in (first..=last).step_by(usize::try_from(PART)?) {
            let until = last.min(part + PART - 1);
            let series = self.base.series(part, until);
            self.base
                .run(format!(
                    "INSERT INTO issued_tokens (jti, credential_id, api_id, issued_at, expires_at, ip, user_agent, \
                     method) SELECT {jti}, CASE WHEN i % 100 = 0 THEN b.id ELSE {credential} END, {own}, {at}, \
                     {at} + 86400000000, '203.0.113.' || (i % 250), 'billing-service/2.4', 'client_secret' \
                     FROM {series}, credentials b WHERE b.client_id = '{}' ORDER BY i",
                    self.client_id
                ))
                .await?;
            self.say(&format!("{until} tokens"));
        }
        Ok(())
    }

    /// The log from its beginning: the few records of setting up are older than nothing, so they go.
    async fn add_records(&mut self, keys: &MasterKeys) -> anyhow::Result<()> {
        let key = keys.digest_key(Purpose::AuditChain);
        self.base.run("DELETE FROM audit_records".to_owned()).await?;
        let (start, n) = (self.now - DAY * 370, self.sizes.records);
        let step = (DAY * 370).as_micros() / i128::from(n.max(1));
        let (mut head, mut part) = (Head::EMPTY, Vec::new());
        for i in 0..n {
            let at = start + SignedDuration::from_micros(i64::try_from(step * i128::from(i))?);
            let record = Record::new(head.seq + 1, &self.entry(i, at));
            head = Head { seq: record.seq, link: record.link(&key, &head.link) };
            part.push((record, head.link));
            if part.len() == 100_000 || i + 1 == n {
                self.base.add_records(key.id(), &part).await?;
                part.clear();
            }
            if (i + 1) % PART == 0 {
                self.say(&format!("{} audit records", i + 1));
            }
        }
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let (link, seal) = (hex(&head.link), hex(&head.seal(&key, &Head::EMPTY)));
        let (link, seal) = (self.base.bytes(&link), self.base.bytes(&seal));
        self.base
            .run(format!(
                "UPDATE audit_head SET seq = {}, link = {link}, seal = {seal}, key_id = '{}'",
                head.seq,
                key.id()
            ))
            .await
    }

    /// What is on record: sign-ins and refused token requests for the most part; rarely, and never of
    /// late, a change of a role.
    fn entry(&self, i: i64, at: Timestamp) -> Entry {
        let number = i * 7919 % self.sizes.users + 1;
        let user = id(self.first_millisecond() + number, 0, number);
        let client = format!("pcc_{number:020}");
        let origin =
            Origin::new(format!("203.0.113.{}", i % 250), "Mozilla/5.0 (X11; Linux x86_64) Firefox/145.0");
        let by = |event, subject: &str| Entry::done(at, By::User(user.clone()), &origin, event, subject);
        match i % 100 {
            0..40 => by(Event::SignedIn, &user).with("with", "password"),
            40..80 => Entry::done(at, By::Client(client.clone()), &origin, Event::TokenRefused, &client)
                .refused("invalid_secret"),
            80 if i % 1_000_000 == 80 => by(Event::RoleChanged, &user).with("role", "super_admin"),
            80..90 => by(Event::CredentialGenerated, &client).with("expires_in_days", "3650"),
            _ => by(Event::ProfileChanged, &user).with("changed", "time_zone"),
        }
    }
}

/// The same as [`Base::id`], as it is written in the log.
fn id(millisecond: i64, kind: u8, number: i64) -> String {
    let hex = format!("{millisecond:012x}700{kind}8{number:015x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}
