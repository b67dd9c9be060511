//! The one row that says what this installation is and whether it has been set up.

use jiff::Timestamp;

use crate::{
    error::{StoreError, corrupt},
    tx::{Tx, query},
};

/// The installation.
#[derive(Debug, Clone)]
pub struct Installation {
    /// Random bytes that tell this installation from others.
    pub name: [u8; 16],
    /// The master key it was made with.
    pub master_key_id: String,
    /// When the first Super Admin was made, if that has happened.
    pub set_up_at: Option<Timestamp>,
}

#[derive(sqlx::FromRow)]
struct Row {
    name: Vec<u8>,
    master_key_id: String,
    set_up_at: Option<i64>,
}

/// An instant from its stored microseconds.
pub(crate) fn instant(micros: i64) -> Result<Timestamp, StoreError> {
    Timestamp::from_microsecond(micros).map_err(|_| corrupt("instant", micros))
}

impl Tx {
    /// The installation, once it has a row.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn installation(&mut self) -> Result<Option<Installation>, StoreError> {
        let row = query!(self, fetch_optional as Row, "SELECT name, master_key_id, set_up_at FROM installation")?;
        row.map(|r| {
            Ok(Installation {
                name: r.name.try_into().map_err(|n| corrupt("installation name", n))?,
                master_key_id: r.master_key_id,
                set_up_at: r.set_up_at.map(instant).transpose()?,
            })
        })
        .transpose()
    }

    /// Makes the row, unless another node was first, and tells which.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn name_installation(
        &mut self,
        name: [u8; 16],
        master_key_id: &str,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let sql = "INSERT INTO installation (id, name, master_key_id, created_at) VALUES (1, $1, $2, $3) \
                   ON CONFLICT (id) DO NOTHING";
        Ok(query!(self, execute, sql, name.to_vec(), master_key_id, now.as_microsecond())? == 1)
    }

    /// Takes the right to make the first Super Admin. `false` when it has been taken: of two at
    /// once exactly one gets it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn take_set_up(&mut self, now: Timestamp) -> Result<bool, StoreError> {
        let sql = "UPDATE installation SET set_up_at = $1 WHERE id = 1 AND set_up_at IS NULL";
        Ok(query!(self, execute, sql, now.as_microsecond())? == 1)
    }
}
