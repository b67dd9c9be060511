//! The hold at rest (H-1), and noticing that a database is not the one that was here (H-4).
//!
//! That it is on hold is a column in the row of the installation. The statements that issue, check and
//! tell read it with everything else, so every node sees it at once.

use jiff::Timestamp;
use portcullis_domain::{
    accounts::UserId,
    audit::{By, Entry, Event, Origin},
    credentials::ClientId,
    hold::{Found, Hold, Noted, Why, judge},
};
use uuid::Uuid;

use crate::{
    error::{OpenError, StoreError, corrupt},
    installation::instant,
    tx::{Act, Conn, Pools, Store, Tx, query},
};

/// What became of looking whether a database is the one that was here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    /// That it is on hold, if it is.
    pub hold: Option<Hold>,
    /// Whether PostgreSQL has begun another timeline and nothing was noted that would tell what it
    /// lacks: it failed over, or was restored to an earlier time.
    pub in_doubt: bool,
}

/// A credential in a database on hold that would work if the hold were lifted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldCredential {
    /// The row.
    pub id: Uuid,
    /// The Client ID.
    pub client_id: ClientId,
    /// Its owner.
    pub owner_id: UserId,
    /// The e-mail of its owner.
    pub owner: String,
    /// When it was generated (UTC).
    pub generated_at: Timestamp,
    /// Whether its owner's facts suspend it (C-9, C-10).
    pub suspended: bool,
}

#[derive(sqlx::FromRow)]
struct PlaceRow {
    place: Option<String>,
    timeline: Option<i64>,
}

#[derive(sqlx::FromRow)]
struct CredentialRow {
    id: Uuid,
    client_id: String,
    owner_id: Uuid,
    email: String,
    generated_at: i64,
    suspended: bool,
}

impl TryFrom<CredentialRow> for HeldCredential {
    type Error = StoreError;
    fn try_from(r: CredentialRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: r.id,
            client_id: ClientId::parse(&r.client_id).ok_or_else(|| corrupt("client id", &r.client_id))?,
            owner_id: UserId(r.owner_id),
            owner: r.email,
            generated_at: instant(r.generated_at)?,
            suspended: r.suspended,
        })
    }
}

macro_rules! select_held {
    ($rest:literal) => {
        concat!(
            "SELECT c.id, c.client_id, c.owner_id, u.email, c.generated_at, (u.role <> 'super_admin' \
             OR u.status <> 'active' OR u.mfa_since IS NOT NULL) AS suspended FROM credentials c \
             JOIN users u ON u.id = c.owner_id WHERE c.revoked_at IS NULL AND c.retired_at IS NULL \
             AND c.expires_at > $1 AND u.status <> 'deleted' AND ",
            $rest
        )
    };
}

/// Refuses on hold, for a statement that read `installation.held_since` along with what it was asked for. With
/// [`unless_on_hold`] the place in the store where H-1 is enforced, for all who issue, check, tell or act
/// (sign-in and the sweep ask [`Tx::hold`]).
pub(crate) fn works(held_since: Option<i64>) -> Result<(), StoreError> {
    if held_since.is_some() { Err(StoreError::OnHold) } else { Ok(()) }
}

/// The same for a statement that takes up work and reads no such row: on hold it takes up none.
macro_rules! unless_on_hold {
    () => {
        "NOT EXISTS (SELECT 1 FROM installation WHERE held_since IS NOT NULL)"
    };
}
pub(crate) use unless_on_hold;

/// Where a PostgreSQL database is: its cluster, itself, and its timeline.
const POSTGRES_PLACE: &str = "SELECT system_identifier || '/' || (SELECT oid FROM pg_database WHERE datname = \
     current_database()) AS place, ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::bigint \
     AS timeline FROM pg_control_system()";

/// That the database is on hold, if it is: a [`HeldRow`].
pub(crate) const HELD: &str =
    "SELECT held_since, held_why, held_after FROM installation WHERE held_since IS NOT NULL";

/// Since when, why, and the last audit record before.
pub(crate) type HeldRow = (i64, String, i64);

pub(crate) fn hold_of((since, why, after): HeldRow) -> Result<Hold, StoreError> {
    let why = Why::from_code(&why).ok_or_else(|| corrupt("reason of the hold", &why))?;
    Ok(Hold { since: instant(since)?, why, after })
}

impl Tx {
    /// That the database is on hold, if it is.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn hold(&mut self) -> Result<Option<Hold>, StoreError> {
        query!(self, fetch_optional as HeldRow, HELD)?.map(hold_of).transpose()
    }

    /// The credentials that would work if the hold were lifted now, or would be suspended, after a Client
    /// ID and in the order of Client IDs; at most so many.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn held_credentials(
        &mut self,
        now: Timestamp,
        after: &str,
        limit: u32,
    ) -> Result<Vec<HeldCredential>, StoreError> {
        let sql = select_held!("c.client_id > $2 ORDER BY c.client_id LIMIT $3");
        query!(self, fetch_all as CredentialRow, sql, now.as_microsecond(), after, i64::from(limit))?
            .into_iter()
            .map(HeldCredential::try_from)
            .collect()
    }

    /// One of them, by its Client ID.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn held_credential_named(
        &mut self,
        client_id: &ClientId,
        now: Timestamp,
    ) -> Result<Option<HeldCredential>, StoreError> {
        let sql = select_held!("c.client_id = $2");
        query!(self, fetch_optional as CredentialRow, sql, now.as_microsecond(), client_id.as_str())?
            .map(HeldCredential::try_from)
            .transpose()
    }

    /// Where the database is, and its PostgreSQL timeline, as far as it can be told; on SQLite the place
    /// is what was noted beside it.
    async fn found_in(&mut self) -> Result<(Option<String>, Option<i64>), StoreError> {
        let Conn::Postgres(connection, ear) = self.conn() else { return Ok((None, None)) };
        match ear.hear(sqlx::query_as::<_, (String, i64)>(POSTGRES_PLACE).fetch_one(connection)).await {
            Ok((place, timeline)) => Ok((Some(place), Some(timeline))),
            // A PostgreSQL that is served by somebody else may not tell.
            Err(sqlx::Error::Database(e)) if matches!(e.code().as_deref(), Some("42501" | "42883" | "0A000")) => {
                Ok((None, None))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// What the log says of a record that was noted.
    pub(crate) async fn look_for(&mut self, noted: &Noted) -> Result<Found, StoreError> {
        let sql = "SELECT h.seq, h.trimmed_seq, r.link, i.line_before FROM audit_head h \
                   LEFT JOIN audit_records r ON r.seq = $1 LEFT JOIN installation i ON 1 = 1";
        type Row = (i64, i64, Option<Vec<u8>>, Option<i64>);
        let seq = noted.head.seq;
        let (head, trimmed, link, line_before) = query!(self, fetch_one as Row, sql, seq)?;
        let same = match link {
            Some(link) => link == noted.head.link,
            None => seq <= trimmed && seq <= head,
        };
        Ok(match line_before {
            _ if same => Found::Same,
            Some(line) if line == noted.line => Found::Answered,
            _ => Found::Missing,
        })
    }
}

impl Act {
    /// H-4: refuses an act on a log that lacks what this node acknowledged last. It would be noted in its
    /// place, and then nobody could tell any more that something is missing; the node is about to notice.
    pub(crate) async fn goes_on_from_what_was_noted(&mut self) -> Result<(), StoreError> {
        let Some(noted) = self.mark.noted_here().filter(|_| !self.on_hold) else { return Ok(()) };
        if self.look_for(&noted).await? == Found::Missing { Err(StoreError::OnHold) } else { Ok(()) }
    }

    /// Puts the database on hold (H-1): sessions end, and what is under way, links, and mails that wait
    /// go with them, for nobody knows whether they were ended or used since. Gives the record of it;
    /// `None` when it is on hold already.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn begin_hold(&mut self, why: Why, by: By, now: Timestamp) -> Result<Option<Entry>, StoreError> {
        self.hold_tokens().await?;
        let sql = "UPDATE installation SET held_since = $1, held_why = $2, \
                   held_after = (SELECT seq FROM audit_head) WHERE held_since IS NULL";
        if query!(self, execute, sql, now.as_microsecond(), why.code())? == 0 {
            return Ok(None);
        }
        query!(self, execute, "DELETE FROM sessions")?;
        query!(self, execute, "DELETE FROM ceremonies")?;
        query!(self, execute, "DELETE FROM links")?;
        let sql = "UPDATE mails SET next_try_at = NULL, problem = 'It waited when the database was put on hold, \
                   and may have been sent already.' WHERE next_try_at IS NOT NULL";
        query!(self, execute, sql)?;
        Ok(Some(Entry::done(now, by, &Origin::default(), Event::HoldBegun, "database").with("why", why.code())))
    }

    /// Lifts the hold (H-2). `line` is random and new: numbers of the log that were told before mean
    /// nothing any more, and every node reads the key set again. `false` when there is no hold.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn lift_hold(&mut self, line: i64) -> Result<bool, StoreError> {
        self.hold_tokens().await?;
        let sql = "UPDATE installation SET line_before = line, held_since = NULL, \
                   held_why = NULL, held_after = NULL, line = $1 WHERE held_since IS NOT NULL";
        if query!(self, execute, sql, line)? == 0 {
            return Ok(false);
        }
        // Beyond any version that a node may have seen before the database was brought back.
        query!(self, execute, "UPDATE key_set SET version = version + 1000000").map(|_| true)
    }
}

impl Store {
    /// H-4: looks whether this database is the one that was here, puts it on hold if it is not, and
    /// begins to note what is acknowledged. `fresh` is the name of the place, if it has none yet.
    /// Of several nodes at once each may do this.
    ///
    /// # Errors
    /// The database's, and the mark's where it is needed.
    pub async fn settle(&self, fresh: [u8; 16], now: Timestamp) -> Result<Settled, OpenError> {
        let noted = self.mark.noted().map_err(|e| OpenError::Mark(e.to_string()))?;
        // Outside of the transaction: refused, it would be of no more use.
        let (found, timeline) = self.read().await?.found_in().await?;
        let mut act = self.act_on_hold().await?;
        let PlaceRow { place: known, timeline: before } =
            query!(act, fetch_one as PlaceRow, "SELECT place, timeline FROM installation")?;
        let is_sqlite = matches!(self.pools, Pools::Sqlite { .. });
        let here = if is_sqlite { noted.as_ref().map(|n| n.place.clone()) } else { found.or(known.clone()) };
        let said = match &noted {
            Some(noted) => Some((noted, act.look_for(noted).await?)),
            None => None,
        };
        let why = judge(known.as_deref(), here.as_deref(), said);
        let place = here.or(known.clone()).unwrap_or_else(|| Uuid::from_bytes(fresh).simple().to_string());
        let was_looked_for = noted.as_ref().is_some_and(|n| n.place == place);
        let in_doubt = before.is_some() && timeline.is_some() && before != timeline && !was_looked_for;
        let (line, head) = act.last_record().await?;
        let begin_mark = || self.begin_mark(is_sqlite, Noted { place: place.clone(), line, head });
        // The first time the mark comes first: killed in between, the next start finds what is in the log.
        // Later the hold comes first: a mark that tells more than the log is kept until it has done its work.
        if known.is_none() {
            begin_mark()?;
        }
        let entry = match why {
            Some(why) => act.begin_hold(why, By::Server, now).await?,
            None => None,
        };
        if known.as_deref() != Some(&place) || before != timeline {
            let sql = "UPDATE installation SET place = $1, timeline = $2";
            query!(act, execute, sql, place.as_str(), timeline)?;
        }
        let hold = act.hold().await?;
        match entry {
            Some(entry) => act.commit(&[entry]).await?,
            None => act.settled().await?,
        }
        if known.is_some() {
            begin_mark()?;
        }
        Ok(Settled { hold, in_doubt })
    }

    fn begin_mark(&self, is_needed: bool, noted: Noted) -> Result<(), OpenError> {
        match self.mark.begin(noted) {
            Err(error) if is_needed => Err(OpenError::Mark(error.to_string())),
            Err(error) => {
                tracing::warn!(%error, "nothing is noted in the data folder: a database restored to an earlier time would not be noticed");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Whether the log lacks the last record that this process acknowledged: PostgreSQL failed over to a
    /// replica that did not have it yet, or was restored under the feet of this node.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn lacks_what_was_noted(&self) -> Result<bool, StoreError> {
        let Ok(Some(noted)) = self.mark.noted() else { return Ok(false) };
        Ok(self.read().await?.look_for(&noted).await? == Found::Missing)
    }
}
