//! APIs, and the keys they ask about their tokens with.

use jiff::Timestamp;
use portcullis_domain::{
    apis::{Api, ApiKey, ApiKeyId, OWN, Settings, own_scopes, scopes_of, text_of},
    audit::printable,
    keys::Algorithm,
    secret::KeyedDigest,
};
use uuid::Uuid;

use crate::{
    error::{StoreError, corrupt},
    hold::works,
    installation::instant,
    tx::{Tx, query},
};

/// A key and the API whose it is, read together.
#[derive(Debug, Clone)]
pub struct PresentedKey {
    /// The key.
    pub key: ApiKey,
    /// Its API.
    pub api: Api,
}

#[derive(sqlx::FromRow)]
struct ApiRow {
    api_id: Uuid,
    name: String,
    identifier: String,
    scopes: String,
    lifespan_seconds: Option<i64>,
    requires_dpop: bool,
    algorithm: String,
    api_made_at: i64,
}

#[derive(sqlx::FromRow)]
struct KeyRow {
    key_id: String,
    key_api: Uuid,
    place: i64,
    digest: Vec<u8>,
    digest_key_id: String,
    key_made_at: i64,
    ends_at: Option<i64>,
}

#[derive(sqlx::FromRow)]
struct PresentedRow {
    #[sqlx(flatten)]
    key: KeyRow,
    #[sqlx(flatten)]
    api: ApiRow,
    held_since: Option<i64>,
}

impl TryFrom<ApiRow> for Api {
    type Error = StoreError;
    fn try_from(r: ApiRow) -> Result<Self, StoreError> {
        let seconds = |n: i64| u32::try_from(n).map_err(|_| corrupt("lifespan", n));
        let settings = Settings {
            name: r.name,
            identifier: r.identifier,
            // Those of the product's own API are what this version has.
            scopes: if r.api_id == OWN { own_scopes() } else { scopes_of(&r.scopes) },
            lifespan_seconds: r.lifespan_seconds.map(seconds).transpose()?,
            requires_dpop: r.requires_dpop,
            algorithm: Algorithm::from_code(&r.algorithm).ok_or_else(|| corrupt("algorithm", &r.algorithm))?,
        };
        Ok(Self { id: r.api_id, settings, made_at: instant(r.api_made_at)? })
    }
}

impl TryFrom<KeyRow> for ApiKey {
    type Error = StoreError;
    fn try_from(r: KeyRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: ApiKeyId::parse(&r.key_id).ok_or_else(|| corrupt("key id", &r.key_id))?,
            api: r.key_api,
            place: r.place,
            digest: KeyedDigest {
                key_id: r.digest_key_id,
                bytes: r.digest.try_into().map_err(|_| corrupt("digest", "length"))?,
            },
            made_at: instant(r.key_made_at)?,
            ends_at: r.ends_at.map(instant).transpose()?,
        })
    }
}

/// The columns of an [`ApiRow`], of the table alias `a`.
macro_rules! api_columns {
    () => {
        "a.id AS api_id, a.name, a.identifier, a.scopes, a.lifespan_seconds, a.requires_dpop, a.algorithm, \
         a.made_at AS api_made_at"
    };
}

/// The columns of a [`KeyRow`], of the table alias `k`.
macro_rules! key_columns {
    () => {
        "k.id AS key_id, k.api_id AS key_api, k.place, k.digest, k.digest_key_id, k.made_at AS key_made_at, k.ends_at"
    };
}

macro_rules! select_apis {
    ($rest:literal) => {
        concat!("SELECT ", api_columns!(), " FROM apis a WHERE a.removed_at IS NULL ", $rest)
    };
}

impl Tx {
    /// All APIs: the product's own, then the others by name.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn apis(&mut self) -> Result<Vec<Api>, StoreError> {
        let sql = select_apis!("ORDER BY CASE WHEN a.id = $1 THEN 0 ELSE 1 END, a.name, a.id");
        query!(self, fetch_all as ApiRow, sql, OWN)?.into_iter().map(Api::try_from).collect()
    }

    /// An API by id; none when it was removed.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn api(&mut self, id: Uuid) -> Result<Option<Api>, StoreError> {
        let sql = select_apis!("AND a.id = $1");
        query!(self, fetch_optional as ApiRow, sql, id)?.map(Api::try_from).transpose()
    }

    /// The APIs with these identifiers; unknown and removed ones are absent. One statement, so all
    /// of them are of one instant. At most a few hundred at once.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn apis_named(&mut self, identifiers: &[&str]) -> Result<Vec<Api>, StoreError> {
        if identifiers.is_empty() {
            return Ok(Vec::new());
        }
        let asked: Vec<String> = (1..=identifiers.len()).map(|at| format!("${at}")).collect();
        let sql = format!(select_apis!("AND a.identifier IN ({})"), asked.join(", "));
        // One client's text must not make the statement fail for the others in it.
        let identifiers = identifiers.iter().map(|text| printable(text, 256));
        query!(self, fetch_all as ApiRow, sql, each identifiers)?.into_iter().map(Api::try_from).collect()
    }

    /// Registers an API.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when there is one with this identifier.
    pub async fn add_api(&mut self, api: &Api) -> Result<(), StoreError> {
        let sql = "INSERT INTO apis (id, name, identifier, scopes, lifespan_seconds, requires_dpop, algorithm, made_at) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
        let settings = &api.settings;
        query!(
            self,
            execute,
            sql,
            api.id,
            settings.name.as_str(),
            settings.identifier.as_str(),
            if api.is_own() { String::new() } else { text_of(&settings.scopes) },
            settings.lifespan_seconds.map(i64::from),
            settings.requires_dpop,
            settings.algorithm.code(),
            api.made_at.as_microsecond(),
        )
        .map(drop)
    }

    /// Writes what may change of an API: all but its identifier. `false` when it is not there. A
    /// token that is being issued gets all of the old or all of the new (C-11).
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn change_api(&mut self, id: Uuid, settings: &Settings) -> Result<bool, StoreError> {
        self.hold_tokens().await?;
        let sql = "UPDATE apis SET name = $1, scopes = $2, lifespan_seconds = $3, requires_dpop = $4, \
                   algorithm = $5 WHERE id = $6 AND removed_at IS NULL";
        let (scopes, seconds) = (text_of(&settings.scopes), settings.lifespan_seconds.map(i64::from));
        let (name, dpop, algorithm) = (settings.name.as_str(), settings.requires_dpop, settings.algorithm.code());
        Ok(query!(self, execute, sql, name, scopes, seconds, dpop, algorithm, id)? == 1)
    }

    /// Gives the product's own API the identifier that follows from the address of the server.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when another API has it.
    pub async fn name_own_api(&mut self, identifier: &str) -> Result<(), StoreError> {
        self.hold_tokens().await?;
        query!(self, execute, "UPDATE apis SET identifier = $1 WHERE id = $2", identifier, OWN).map(drop)
    }

    /// Removes an API with its keys: no token for it is active any more (C-11). `false` when it is
    /// not there.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn remove_api(&mut self, id: Uuid, now: Timestamp) -> Result<bool, StoreError> {
        self.hold_tokens().await?;
        query!(self, execute, "DELETE FROM api_keys WHERE api_id = $1", id)?;
        let sql = "UPDATE apis SET removed_at = $1 WHERE id = $2 AND removed_at IS NULL";
        Ok(query!(self, execute, sql, now.as_microsecond(), id)? == 1)
    }

    /// The keys of an API, the first made first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn api_keys(&mut self, api: Uuid) -> Result<Vec<ApiKey>, StoreError> {
        let sql =
            concat!("SELECT ", key_columns!(), " FROM api_keys k WHERE k.api_id = $1 ORDER BY k.made_at, k.id");
        query!(self, fetch_all as KeyRow, sql, api)?.into_iter().map(ApiKey::try_from).collect()
    }

    /// [`Tx::presented_keys`] of one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn presented_key(&mut self, id: &str) -> Result<Option<PresentedKey>, StoreError> {
        Ok(self.presented_keys(&[id]).await?.pop())
    }

    /// The keys with these ids, each with its API; unknown ones are absent. At most a few hundred at
    /// once. For an unknown one the row of nobody is read instead, joined, decoded and dropped, so that
    /// it takes as long as a known one (protocol 9).
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn presented_keys(&mut self, ids: &[&str]) -> Result<Vec<PresentedKey>, StoreError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let asked: Vec<String> = (1..=ids.len()).map(|at| format!("(${at})")).collect();
        let sql = format!(
            concat!(
                "WITH asked (id) AS (VALUES {}) SELECT ",
                key_columns!(),
                ", ",
                api_columns!(),
                ", (SELECT held_since FROM installation) AS held_since FROM asked s JOIN api_keys k ON k.id = COALESCE((SELECT o.id FROM api_keys o \
                 WHERE o.id = s.id), 'pca_00000000000000000000') JOIN apis a ON a.id = k.api_id"
            ),
            asked.join(", ")
        );
        let ids = ids.iter().map(|id| printable(id, 32));
        let found = query!(self, fetch_all as PresentedRow, sql, each ids)?.into_iter();
        let found = found.map(|r| {
            // On hold nobody learns whether a key is known.
            works(r.held_since)?;
            Ok(PresentedKey { key: r.key.try_into()?, api: r.api.try_into()? })
        });
        let mut found = found.collect::<Result<Vec<_>, StoreError>>()?;
        found.retain(|presented| !presented.api.id.is_max());
        Ok(found)
    }

    /// Adds a key.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when its place is taken.
    pub async fn add_api_key(&mut self, key: &ApiKey) -> Result<(), StoreError> {
        let sql = "INSERT INTO api_keys (id, api_id, place, digest, digest_key_id, made_at, ends_at) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7)";
        query!(
            self,
            execute,
            sql,
            key.id.as_str(),
            key.api,
            key.place,
            key.digest.bytes.to_vec(),
            key.digest.key_id.as_str(),
            key.made_at.as_microsecond(),
            key.ends_at.map(Timestamp::as_microsecond),
        )
        .map(drop)
    }

    /// Lets a key end.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn end_api_key(&mut self, id: &ApiKeyId, at: Timestamp) -> Result<(), StoreError> {
        let sql = "UPDATE api_keys SET ends_at = $1 WHERE id = $2";
        query!(self, execute, sql, at.as_microsecond(), id.as_str()).map(drop)
    }

    /// Removes a key of an API. `false` when it is not there.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn remove_api_key(&mut self, api: Uuid, id: &ApiKeyId) -> Result<bool, StoreError> {
        let sql = "DELETE FROM api_keys WHERE id = $1 AND api_id = $2";
        Ok(query!(self, execute, sql, id.as_str(), api)? == 1)
    }
}
