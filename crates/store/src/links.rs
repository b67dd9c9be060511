//! Links sent by mail, found by the digest of their token, which is in the mail only.

use jiff::Timestamp;
use portcullis_domain::{
    accounts::UserId,
    links::{Link, LinkPurpose},
};
use uuid::Uuid;

use crate::{
    error::{StoreError, corrupt},
    installation::instant,
    tx::{Tx, query},
};

#[derive(sqlx::FromRow)]
struct Row {
    user_id: Uuid,
    purpose: String,
    made_at: i64,
    expires_at: i64,
    used_at: Option<i64>,
    replaced_at: Option<i64>,
}

impl TryFrom<Row> for Link {
    type Error = StoreError;
    fn try_from(r: Row) -> Result<Self, StoreError> {
        Ok(Self {
            user: UserId(r.user_id),
            purpose: LinkPurpose::from_code(&r.purpose).ok_or_else(|| corrupt("purpose of a link", &r.purpose))?,
            made_at: instant(r.made_at)?,
            expires_at: instant(r.expires_at)?,
            used_at: r.used_at.map(instant).transpose()?,
            replaced_at: r.replaced_at.map(instant).transpose()?,
        })
    }
}

impl Tx {
    /// Adds a link under the digest of its token. It takes the place of the user's earlier ones
    /// for the same purpose.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn add_link(&mut self, digest: &[u8; 32], link: &Link) -> Result<(), StoreError> {
        self.replace_links(link.user, link.purpose, link.made_at).await?;
        let sql = "INSERT INTO links (digest, purpose, user_id, made_at, expires_at) VALUES ($1, $2, $3, $4, $5)";
        query!(
            self,
            execute,
            sql,
            digest.to_vec(),
            link.purpose.code(),
            link.user.0,
            link.made_at.as_microsecond(),
            link.expires_at.as_microsecond(),
        )
        .map(drop)
    }

    /// Replaces the links of a user for a purpose that are not used yet: none of them works any more.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn replace_links(
        &mut self,
        user: UserId,
        purpose: LinkPurpose,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let sql = "UPDATE links SET replaced_at = $1 \
                   WHERE user_id = $2 AND purpose = $3 AND used_at IS NULL AND replaced_at IS NULL";
        query!(self, execute, sql, now.as_microsecond(), user.0, purpose.code()).map(drop)
    }

    /// The link with this digest of its token, good or not. One of another purpose is none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn link(&mut self, digest: &[u8; 32], purpose: LinkPurpose) -> Result<Option<Link>, StoreError> {
        let sql = "SELECT user_id, purpose, made_at, expires_at, used_at, replaced_at FROM links \
                   WHERE digest = $1 AND purpose = $2";
        query!(self, fetch_optional as Row, sql, digest.to_vec(), purpose.code())?.map(Link::try_from).transpose()
    }

    /// Uses a link that is good: of many at once exactly one does, and is told `true`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn use_link(
        &mut self,
        digest: &[u8; 32],
        purpose: LinkPurpose,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let sql = "UPDATE links SET used_at = $1 WHERE digest = $2 AND purpose = $3 AND used_at IS NULL \
                   AND replaced_at IS NULL AND expires_at > $1";
        Ok(query!(self, execute, sql, now.as_microsecond(), digest.to_vec(), purpose.code())? == 1)
    }

    /// Takes all links of a user away: none of them opens or tells anything any more.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn drop_links_of(&mut self, user: UserId) -> Result<(), StoreError> {
        query!(self, execute, "DELETE FROM links WHERE user_id = $1", user.0).map(drop)
    }

    /// Drops at most `limit` links that ended before an instant.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn drop_old_links(&mut self, before: Timestamp, limit: u32) -> Result<u64, StoreError> {
        let sql = "DELETE FROM links WHERE digest IN (SELECT o.digest FROM links o \
                   WHERE o.expires_at < $1 ORDER BY o.expires_at LIMIT $2)";
        query!(self, execute, sql, before.as_microsecond(), i64::from(limit))
    }
}
