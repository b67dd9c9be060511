//! Issued tokens: each is on record before it leaves the server (L-4). The token itself is never
//! stored, only its id and terms.

use jiff::Timestamp;
use portcullis_domain::{
    client_keys::Method,
    tokens::{Audience, IssuedToken, TokenTerms},
};
use sqlx::SqliteConnection;
use uuid::Uuid;

use crate::{
    error::{StoreError, corrupt},
    hold::works,
    installation::instant,
    tx::{Conn, Store, Tx, query},
};

/// A token to be put on record.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// The id: a UUID version 7, so that records of one time stand together.
    pub jti: Uuid,
    /// The credential it is issued to.
    pub credential: Uuid,
    /// The API it is for.
    pub api: Uuid,
    /// When (UTC).
    pub issued_at: Timestamp,
    /// Until when (UTC).
    pub expires_at: Timestamp,
    /// To which address.
    pub ip: String,
    /// To which program, as it names itself.
    pub user_agent: String,
    /// With what it proved itself.
    pub method: Method,
}

/// How many tokens of a credential are looked at to count the open ones: a busy credential has
/// millions, and nobody waits for them to be counted.
pub const COUNTED: u32 = 10_000;

/// How a credential's tokens stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenUse {
    /// The last token issued.
    pub last: Option<IssuedToken>,
    /// How many of the latest [`COUNTED`] on record have neither ended nor been revoked, and are for
    /// an API that is registered. Whether
    /// they are active is also a matter of the credential's standing.
    pub open: u64,
    /// Whether there may be more, beyond the latest [`COUNTED`].
    pub more: bool,
    /// When the last of those ends.
    pub open_until: Option<Timestamp>,
}

/// What a step through old records came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dropped {
    /// How many were dropped.
    pub count: u64,
    /// The last one that was looked at; absent when there are no more.
    pub last: Option<Uuid>,
}

#[derive(sqlx::FromRow)]
struct TermsRow {
    jti: Uuid,
    credential_id: Uuid,
    api_id: Uuid,
    identifier: String,
    is_registered: bool,
    expires_at: i64,
    revoked_at: Option<i64>,
}

#[derive(sqlx::FromRow)]
struct OnRecordRow {
    #[sqlx(flatten)]
    terms: TermsRow,
    held_since: Option<i64>,
}

#[derive(sqlx::FromRow)]
struct TokenRow {
    #[sqlx(flatten)]
    terms: TermsRow,
    issued_at: i64,
    ip: String,
    user_agent: String,
    method: String,
}

impl TryFrom<TermsRow> for TokenTerms {
    type Error = StoreError;
    fn try_from(r: TermsRow) -> Result<Self, StoreError> {
        Ok(Self {
            jti: r.jti,
            credential: r.credential_id,
            audience: Audience { api: r.api_id, identifier: r.identifier, is_registered: r.is_registered },
            expires_at: instant(r.expires_at)?,
            revoked_at: r.revoked_at.map(instant).transpose()?,
        })
    }
}

impl TryFrom<OnRecordRow> for TokenTerms {
    type Error = StoreError;
    fn try_from(r: OnRecordRow) -> Result<Self, StoreError> {
        works(r.held_since)?;
        r.terms.try_into()
    }
}

impl TryFrom<TokenRow> for IssuedToken {
    type Error = StoreError;
    fn try_from(r: TokenRow) -> Result<Self, StoreError> {
        Ok(Self {
            terms: r.terms.try_into()?,
            issued_at: instant(r.issued_at)?,
            ip: r.ip,
            user_agent: r.user_agent,
            method: Method::from_code(&r.method).ok_or_else(|| corrupt("method", &r.method))?,
        })
    }
}

/// The columns of a [`TermsRow`]; the tables are `t` and its API `a`.
macro_rules! terms_columns {
    () => {
        "t.jti, t.credential_id, t.api_id, t.expires_at, t.revoked_at, a.identifier, \
         a.removed_at IS NULL AS is_registered"
    };
}

macro_rules! insert_into {
    () => {
        "INSERT INTO issued_tokens (jti, credential_id, api_id, issued_at, expires_at, ip, user_agent, method) "
    };
}

/// The statement that puts so many tokens on record on SQLite. Its parameters have no numbers: SQLite
/// would look each up in the list of all before it, and there are 512 of them in the largest.
pub(crate) fn insert_of(tokens: usize) -> String {
    let rows = vec!["(?, ?, ?, ?, ?, ?, ?, ?)"; tokens].join(", ");
    format!(concat!(insert_into!(), "VALUES {}"), rows)
}

/// The same on PostgreSQL: one statement however many they are, each column a list.
const INSERT_LISTS: &str = concat!(
    insert_into!(),
    "SELECT * FROM UNNEST($1::UUID[], $2::UUID[], $3::UUID[], $4::BIGINT[], $5::BIGINT[], $6::TEXT[], $7::TEXT[], \
     $8::TEXT[])"
);

/// Runs what begins with [`insert_of`] on SQLite.
pub(crate) async fn record(
    connection: &mut SqliteConnection,
    sql: String,
    tokens: &[NewToken],
) -> Result<(), sqlx::Error> {
    let mut query = sqlx::query(sqlx::AssertSqlSafe(sql));
    for t in tokens {
        query = query.bind(t.jti).bind(t.credential).bind(t.api);
        query = query.bind(t.issued_at.as_microsecond()).bind(t.expires_at.as_microsecond());
        query = query.bind(t.ip.as_str()).bind(t.user_agent.as_str()).bind(t.method.code());
    }
    query.execute(connection).await.map(drop)
}

impl Tx {
    /// Puts tokens on record, all in one statement (L-4).
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn record_tokens(&mut self, tokens: &[NewToken]) -> Result<(), StoreError> {
        if tokens.is_empty() {
            return Ok(());
        }
        match self.conn() {
            Conn::Sqlite(connection) => record(connection, insert_of(tokens.len()), tokens).await,
            Conn::Postgres(connection, ear) => {
                fn column<'a, T>(tokens: &'a [NewToken], of: impl Fn(&'a NewToken) -> T) -> Vec<T> {
                    tokens.iter().map(of).collect()
                }
                let insert = sqlx::query(INSERT_LISTS)
                    .bind(column(tokens, |t| t.jti))
                    .bind(column(tokens, |t| t.credential))
                    .bind(column(tokens, |t| t.api))
                    .bind(column(tokens, |t| t.issued_at.as_microsecond()))
                    .bind(column(tokens, |t| t.expires_at.as_microsecond()))
                    .bind(column(tokens, |t| t.ip.as_str()))
                    .bind(column(tokens, |t| t.user_agent.as_str()))
                    .bind(column(tokens, |t| t.method.code()));
                ear.hear(insert.execute(connection)).await.map(drop)
            }
        }
        .map_err(StoreError::from)
    }

    /// [`Tx::tokens_on_record`] of one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn token_on_record(&mut self, jti: Uuid) -> Result<Option<TokenTerms>, StoreError> {
        Ok(self.tokens_on_record(&[jti]).await?.pop())
    }

    /// The terms of the tokens on record with these ids; refused on hold (H-1). At most a few hundred at once.
    ///
    /// Whether one is active is also a matter of its credential's standing, which is to be read *before*
    /// this. Active is then the truth of that earlier instant, at which the token
    /// was as good as it is now, because none gets better with time; and not active that of the one or the
    /// other. The other way round, what both say together may be true of no instant.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn tokens_on_record(&mut self, jtis: &[Uuid]) -> Result<Vec<TokenTerms>, StoreError> {
        if jtis.is_empty() {
            return Ok(Vec::new());
        }
        let asked: Vec<String> = (1..=jtis.len()).map(|at| format!("${at}")).collect();
        let sql = format!(
            concat!(
                "SELECT ",
                terms_columns!(),
                ", (SELECT held_since FROM installation) AS held_since FROM issued_tokens t JOIN apis a ON a.id = t.api_id WHERE t.jti IN ({})"
            ),
            asked.join(", ")
        );
        let rows = query!(self, fetch_all as OnRecordRow, sql, each jtis.iter().copied())?;
        rows.into_iter().map(TokenTerms::try_from).collect()
    }

    /// Revokes one token of a credential (RFC 7009). `false` when it was revoked already or is
    /// not that credential's.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn revoke_token(&mut self, jti: Uuid, credential: Uuid, now: Timestamp) -> Result<bool, StoreError> {
        let sql = "UPDATE issued_tokens SET revoked_at = $1 \
                   WHERE jti = $2 AND credential_id = $3 AND revoked_at IS NULL";
        Ok(query!(self, execute, sql, now.as_microsecond(), jti, credential)? == 1)
    }

    /// How the tokens of a credential stand (C-13).
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn token_use(&mut self, credential: Uuid, now: Timestamp) -> Result<TokenUse, StoreError> {
        let last = self.recent_tokens(credential, None, 1).await?.pop();
        let sql = "SELECT COUNT(*), COUNT(CASE WHEN o.revoked_at IS NULL AND a.removed_at IS NULL \
                   AND o.expires_at > $2 THEN 1 END), MAX(CASE WHEN o.revoked_at IS NULL AND a.removed_at IS NULL \
                   AND o.expires_at > $2 THEN o.expires_at END) \
                   FROM (SELECT revoked_at, expires_at, api_id FROM issued_tokens WHERE credential_id = $1 \
                   ORDER BY issued_at DESC LIMIT $3) o JOIN apis a ON a.id = o.api_id";
        let limit = i64::from(COUNTED);
        let (all, open, until) =
            query!(self, fetch_one as (i64, i64, Option<i64>), sql, credential, now.as_microsecond(), limit)?;
        let more = all == limit && open > 0;
        Ok(TokenUse { last, open: open.cast_unsigned(), more, open_until: until.map(instant).transpose()? })
    }

    /// The tokens of a credential, the latest first, before the given one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn recent_tokens(
        &mut self,
        credential: Uuid,
        before: Option<(Timestamp, Uuid)>,
        limit: u32,
    ) -> Result<Vec<IssuedToken>, StoreError> {
        let (at, jti) = before.map_or((i64::MAX, Uuid::max()), |(at, jti)| (at.as_microsecond(), jti));
        let sql = concat!(
            "SELECT ",
            terms_columns!(),
            ", t.issued_at, t.ip, t.user_agent, t.method",
            // The first condition is for the index, which the others do not lead into.
            " FROM issued_tokens t JOIN apis a ON a.id = t.api_id WHERE t.credential_id = $1 \
             AND t.issued_at <= $2 AND (t.issued_at < $2 OR t.jti < $3) \
             ORDER BY t.issued_at DESC, t.jti DESC LIMIT $4"
        );
        query!(self, fetch_all as TokenRow, sql, credential, at, jti, i64::from(limit))?
            .into_iter()
            .map(IssuedToken::try_from)
            .collect()
    }
}

impl Store {
    /// Goes on, after an id, through the records of tokens in the order of their ids: looks at `limit` of
    /// them, and drops those that ended before an instant. Never the last one of a credential: it is when
    /// the credential was last used (C-13). `oldest_kept` is a UUID version 7 of the same instant; from
    /// there on nothing is looked at.
    ///
    /// The looking is done beside the writer. Of a million credentials a million last records may stay
    /// for ever, and nobody waits while they are passed over.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn drop_ended_tokens(
        &self,
        after: Uuid,
        ended_before: Timestamp,
        oldest_kept: Uuid,
        limit: u32,
    ) -> Result<Dropped, StoreError> {
        let before = ended_before.as_microsecond();
        let sql = "SELECT o.jti, o.expires_at < $3 AND EXISTS (SELECT 1 FROM issued_tokens n \
                   WHERE n.credential_id = o.credential_id AND n.issued_at > o.issued_at) \
                   FROM issued_tokens o WHERE o.jti > $1 AND o.jti < $2 ORDER BY o.jti LIMIT $4";
        let mut tx = self.read().await?;
        let looked = query!(tx, fetch_all as (Uuid, bool), sql, after, oldest_kept, before, i64::from(limit))?;
        drop(tx);
        let last = looked.last().filter(|_| looked.len() == limit as usize).map(|(jti, _)| *jti);
        let ended: Vec<Uuid> = looked.into_iter().filter(|(_, is_old)| *is_old).map(|(jti, _)| jti).collect();
        // What had a later one has one for ever: the last of a credential is never among them.
        let mut tx = match ended.is_empty() {
            true => return Ok(Dropped { count: 0, last }),
            false => self.write().await?,
        };
        macro_rules! delete {
            ($connection:expr) => {{
                let mut delete = sqlx::QueryBuilder::new("DELETE FROM issued_tokens WHERE jti IN (");
                let mut list = delete.separated(", ");
                for jti in &ended {
                    list.push_bind(*jti);
                }
                delete.push(")");
                async move {
                    delete.build().persistent(false).execute($connection).await.map(|d| d.rows_affected())
                }
            }};
        }
        let count = match tx.conn() {
            Conn::Sqlite(connection) => delete!(connection).await,
            Conn::Postgres(connection, ear) => ear.hear(delete!(connection)).await,
        }?;
        tx.commit().await?;
        Ok(Dropped { count, last })
    }
}
