//! Pages of the audit log, by filters, of a log of any length.
//!
//! One page looks at a bounded number of records. They are found by the index of one of the fields that
//! are asked for, the one that fewest records have; the others are looked at in what it finds. An
//! instant is found by the runs (`audit_runs`): the earliest and the latest instant of each 2048 records
//! that follow each other. Records are in the order of their acts and not of their clocks, so no index
//! on the instant could stand for that order. Where the bound is met before the page is full, the page
//! says up to where was looked, and the next one goes on there: nothing is left out.

use jiff::Timestamp;
use portcullis_domain::audit::{Record, printable};

use crate::{
    audit::{Row, record_columns},
    error::StoreError,
    tx::{Act, Store, Tx, query},
};

/// Records of a run. It is in the migrations, too.
const RUN: i64 = 2048;
/// How many records one page looks at; twice as many as it may hold, if those are more.
const LOOKED_AT: i64 = 4096;
/// Runs summed up in one go.
const RUNS_AT_ONCE: i64 = 8;

/// What to show of the log. Empty or absent means: all.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    /// [`portcullis_domain::audit::Event::code`].
    pub event: String,
    /// `done` or `refused`.
    pub outcome: String,
    /// The id of the actor: a user's id or a Client ID.
    pub by: String,
    /// The subject.
    pub subject: String,
    /// From this instant on (UTC).
    pub from: Option<Timestamp>,
    /// Before this instant (UTC).
    pub until: Option<Timestamp>,
}

/// Which part of it.
#[derive(Debug, Clone, Copy)]
pub enum AuditPage {
    /// The latest records before a number.
    Before(i64),
    /// The earliest records after a number.
    After(i64),
}

/// What a page holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditFound {
    /// The records, in the order of [`AuditPage`].
    pub records: Vec<Record>,
    /// When not all was looked at: the number of the last record that was. The page that begins there
    /// goes on, and may hold more, also when this one holds none.
    pub looked_to: Option<i64>,
}

/// By which index the records are found.
#[derive(Debug, Clone, Copy)]
enum By {
    Number,
    Subject,
    Actor,
    Event,
    Outcome,
}

/// The numbers between which the records are, without these two.
#[derive(Debug, Clone, Copy)]
struct Between {
    low: i64,
    high: i64,
}

macro_rules! page {
    ($found:literal, $order:literal) => {
        concat!(
            "SELECT ",
            record_columns!(),
            " FROM (SELECT ",
            record_columns!(),
            " FROM audit_records WHERE ",
            $found,
            " AND seq > $7 AND seq < $8 ORDER BY seq ",
            $order,
            " LIMIT $9) r WHERE (event = $1 OR $1 = '') AND (outcome = $2 OR $2 = '') AND (by_id = $3 OR $3 = '') \
             AND (subject = $4 OR $4 = '') AND at >= $5 AND at < $6 ORDER BY seq ",
            $order,
            " LIMIT $10"
        )
    };
}

macro_rules! looked {
    ($found:literal, $order:literal) => {
        concat!(
            "SELECT COUNT(*), MIN(seq), MAX(seq) FROM (SELECT seq FROM audit_records WHERE ",
            $found,
            " AND seq > $2 AND seq < $3 ORDER BY seq ",
            $order,
            " LIMIT $4) r"
        )
    };
}

impl AuditPage {
    fn is_backwards(self) -> bool {
        matches!(self, Self::Before(_))
    }
}

impl By {
    /// The page: `$1` to `$6` are the filter, `$7` and `$8` between which numbers, `$9` how many are
    /// looked at, `$10` how many are shown.
    fn page(self, page: AuditPage) -> &'static str {
        match (self, page.is_backwards()) {
            (Self::Number, true) => page!("1 = 1", "DESC"),
            (Self::Number, false) => page!("1 = 1", "ASC"),
            (Self::Subject, true) => page!("subject = $4", "DESC"),
            (Self::Subject, false) => page!("subject = $4", "ASC"),
            (Self::Actor, true) => page!("by_id = $3", "DESC"),
            (Self::Actor, false) => page!("by_id = $3", "ASC"),
            (Self::Event, true) => page!("event = $1", "DESC"),
            (Self::Event, false) => page!("event = $1", "ASC"),
            (Self::Outcome, true) => page!("outcome = $2", "DESC"),
            (Self::Outcome, false) => page!("outcome = $2", "ASC"),
        }
    }

    /// How many records the index has, and between which numbers: `$1` is what they are asked for by,
    /// `$2` and `$3` between which numbers, `$4` how many at most.
    fn looked(self, page: AuditPage) -> &'static str {
        match (self, page.is_backwards()) {
            (Self::Number, true) => looked!("$1 = ''", "DESC"),
            (Self::Number, false) => looked!("$1 = ''", "ASC"),
            (Self::Subject, true) => looked!("subject = $1", "DESC"),
            (Self::Subject, false) => looked!("subject = $1", "ASC"),
            (Self::Actor, true) => looked!("by_id = $1", "DESC"),
            (Self::Actor, false) => looked!("by_id = $1", "ASC"),
            (Self::Event, true) => looked!("event = $1", "DESC"),
            (Self::Event, false) => looked!("event = $1", "ASC"),
            (Self::Outcome, true) => looked!("outcome = $1", "DESC"),
            (Self::Outcome, false) => looked!("outcome = $1", "ASC"),
        }
    }
}

/// What is asked for, as it may be bound.
struct Asked {
    event: String,
    outcome: String,
    actor: String,
    subject: String,
    from: i64,
    until: i64,
}

impl Asked {
    fn of(filter: &AuditFilter) -> Self {
        Self {
            event: printable(&filter.event, 300),
            outcome: printable(&filter.outcome, 300),
            actor: printable(&filter.by, 300),
            subject: printable(&filter.subject, 300),
            from: filter.from.map_or(i64::MIN, Timestamp::as_microsecond),
            until: filter.until.map_or(i64::MAX, Timestamp::as_microsecond),
        }
    }

    /// What an index is asked for.
    fn value(&self, by: By) -> &str {
        match by {
            By::Number => "",
            By::Subject => &self.subject,
            By::Actor => &self.actor,
            By::Event => &self.event,
            By::Outcome => &self.outcome,
        }
    }

    fn is_timed(&self) -> bool {
        self.from > i64::MIN || self.until < i64::MAX
    }
}

/// The whole runs that may hold records of a time, as the first and the last number of them.
fn numbers(first_run: i64, last_run: i64) -> (i64, i64) {
    (first_run * RUN, last_run * RUN + RUN - 1)
}

impl Tx {
    /// A page of the log. [`AuditPage::Before`] gives the latest first, [`AuditPage::After`] the
    /// earliest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn audit_page(
        &mut self,
        filter: &AuditFilter,
        page: AuditPage,
        limit: u32,
    ) -> Result<AuditFound, StoreError> {
        let asked = Asked::of(filter);
        let mut between = match page {
            AuditPage::Before(seq) => Between { low: i64::MIN, high: seq },
            AuditPage::After(seq) => Between { low: seq, high: i64::MAX },
        };
        if asked.is_timed() {
            let (first, last) = self.numbers_of(asked.from, asked.until).await?;
            between.low = between.low.max(first.saturating_sub(1));
            between.high = between.high.min(last.saturating_add(1));
        }
        let by = self.rarest(&asked, page, between).await?;
        // Few first: most pages are full by then, and all that is looked at is sorted.
        let mut looked_at = i64::from(limit) * 2;
        loop {
            let records = self.matching(&asked, by, page, between, (looked_at, limit)).await?;
            if records.len() == limit as usize {
                return Ok(AuditFound { records, looked_to: None });
            }
            let (count, least, greatest) = self.looked(&asked, by, page, between, looked_at).await?;
            if count < looked_at {
                return Ok(AuditFound { records, looked_to: None });
            }
            if looked_at >= LOOKED_AT {
                let looked_to = if page.is_backwards() { least } else { greatest };
                return Ok(AuditFound { records, looked_to });
            }
            looked_at = LOOKED_AT;
        }
    }

    /// What matches among the records that an index has, of so many that are looked at, as many as are
    /// shown.
    async fn matching(
        &mut self,
        asked: &Asked,
        by: By,
        page: AuditPage,
        Between { low, high }: Between,
        (looked_at, shown): (i64, u32),
    ) -> Result<Vec<Record>, StoreError> {
        let rows = query!(
            self,
            fetch_all as Row,
            by.page(page),
            asked.event.as_str(),
            asked.outcome.as_str(),
            asked.actor.as_str(),
            asked.subject.as_str(),
            asked.from,
            asked.until,
            low,
            high,
            looked_at,
            i64::from(shown),
        )?;
        Ok(rows.into_iter().map(Record::from).collect())
    }

    /// The index with the fewest records of what is asked for.
    async fn rarest(&mut self, asked: &Asked, page: AuditPage, between: Between) -> Result<By, StoreError> {
        let all = [By::Subject, By::Actor, By::Event, By::Outcome];
        let given: Vec<By> = all.into_iter().filter(|by| !asked.value(*by).is_empty()).collect();
        if given.len() < 2 {
            return Ok(given.first().copied().unwrap_or(By::Number));
        }
        let mut rarest = (i64::MAX, By::Number);
        for by in given {
            let (count, ..) = self.looked(asked, by, page, between, LOOKED_AT).await?;
            if count < rarest.0 {
                rarest = (count, by);
            }
        }
        Ok(rarest.1)
    }

    /// How many records a page by an index looks at, and the least and the greatest of their numbers.
    async fn looked(
        &mut self,
        asked: &Asked,
        by: By,
        page: AuditPage,
        Between { low, high }: Between,
        at_most: i64,
    ) -> Result<(i64, Option<i64>, Option<i64>), StoreError> {
        let sql = by.looked(page);
        query!(self, fetch_one as (i64, Option<i64>, Option<i64>), sql, asked.value(by), low, high, at_most)
    }

    /// The first and the last number that records of a time may have. What is not summed up yet may
    /// have any instant, but for a short rest, which is looked at.
    async fn numbers_of(&mut self, from: i64, until: i64) -> Result<(i64, i64), StoreError> {
        let sql = "SELECT MIN(CASE WHEN latest >= $1 AND earliest < $2 THEN run END), \
                   MAX(CASE WHEN latest >= $1 AND earliest < $2 THEN run END), MAX(run) FROM audit_runs";
        let (first, last, newest) =
            query!(self, fetch_one as (Option<i64>, Option<i64>, Option<i64>), sql, from, until)?;
        let rest = newest.map_or(i64::MIN, |run| (run + 1) * RUN);
        let sql = "SELECT COUNT(*), COUNT(CASE WHEN at >= $1 AND at < $2 THEN 1 END) \
                   FROM (SELECT at FROM audit_records WHERE seq >= $3 ORDER BY seq LIMIT $4) r";
        let (all, of_time) = query!(self, fetch_one as (i64, i64), sql, from, until, rest, LOOKED_AT)?;
        let in_rest = all == LOOKED_AT || of_time > 0;
        Ok(match (first.zip(last).map(|(first, last)| numbers(first, last)), in_rest) {
            (Some(runs), false) => runs,
            (Some((first, _)), true) => (first, i64::MAX),
            (None, true) => (rest, i64::MAX),
            // Between the two there is no number.
            (None, false) => (0, -1),
        })
    }
}

impl Act {
    /// Forgets the runs all of whose records are dropped, up to a number.
    pub(crate) async fn drop_runs_before(&mut self, seq: i64) -> Result<(), StoreError> {
        let sql = "DELETE FROM audit_runs WHERE run < $1";
        query!(self, execute, sql, (seq + 1) / RUN).map(drop)
    }
}

impl Store {
    /// Sums up some runs of the log that are whole and were not yet, and tells whether there may be more.
    /// Records never change, so it does not matter who does it, nor whether two do at once.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn sum_up_audit(&self) -> Result<bool, StoreError> {
        let mut tx = self.read().await?;
        let sql = "SELECT h.seq, COALESCE((SELECT MAX(run) + 1 FROM audit_runs), (h.trimmed_seq + 1) / 2048) FROM audit_head h";
        let (head, next) = query!(tx, fetch_one as (i64, i64), sql)?;
        let end = ((head + 1) / RUN).min(next + RUNS_AT_ONCE);
        if next >= end {
            return Ok(false);
        }
        let sql = "SELECT seq / 2048, MIN(at), MAX(at) FROM audit_records WHERE seq >= $1 AND seq < $2 GROUP BY seq / 2048";
        let runs = query!(tx, fetch_all as (i64, i64, i64), sql, next * RUN, end * RUN)?;
        drop(tx);
        let mut tx = self.write().await?;
        for (run, earliest, latest) in runs {
            let sql =
                "INSERT INTO audit_runs (run, earliest, latest) VALUES ($1, $2, $3) ON CONFLICT (run) DO NOTHING";
            query!(tx, execute, sql, run, earliest, latest)?;
        }
        tx.commit().await?;
        Ok(true)
    }
}
