//! The status list (protocol 29): how the tokens of every credential stand, signed, for everybody.
//!
//! It is kept in memory with the number of the audit record that it is true up to. Each request reads
//! the number of the last record and, where there are newer ones, what they tell. So an answer is never
//! older than its request, and costs one small read.

use std::io::{self, Write};

use axum::body::Bytes;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL};
use flate2::{Compression, write::ZlibEncoder};
use jiff::Timestamp;
use portcullis_domain::{
    changes::{Changed, StatusList},
    keys::Algorithm,
    tokens::{StatusClaim, StatusPlace},
};
use portcullis_store::Tx;
use serde::Serialize;
use tokio::sync::Mutex;

use crate::{
    app::{App, changes::PAGE},
    assets,
    error::Failure,
};

/// The type of a signed list (§5.1): none is ever taken for a token.
const TYPE: &str = "statuslist+jwt";
/// How long a signed list is good, in seconds.
const LASTS: i64 = 600;
/// The tag of a list that stays the same changes so often, in seconds, so that whoever is told
/// "not modified" holds one that has not ended.
const TAG_LASTS: i64 = 300;
/// How long a verifier may go on without asking again, in seconds.
const TTL: u32 = 1;

/// The list as it was served last.
#[derive(Default)]
pub struct Lists(Mutex<Option<Kept>>);

struct Kept {
    /// The line of the log, and the record it is true up to.
    line: i64,
    seq: i64,
    list: StatusList,
    /// A digest of it.
    tag: String,
    /// It, compressed and encoded.
    lst: String,
    /// The second in which it was signed, with which version of the key set, and the result.
    signed: Option<((i64, i64), Bytes)>,
}

/// The list, to be served.
pub struct Served {
    /// The signed list.
    pub token: Bytes,
    /// A tag of what it says.
    pub tag: String,
}

/// The payload (Token Status List draft §5.1).
#[derive(Serialize)]
struct Payload<'a> {
    iss: &'a str,
    sub: &'a str,
    iat: i64,
    exp: i64,
    ttl: u32,
    status_list: Compressed<'a>,
}

/// The list (§4.2).
#[derive(Serialize)]
struct Compressed<'a> {
    bits: u8,
    lst: &'a str,
}

/// Compresses and encodes a list (§4.1, §4.2).
fn compressed(bytes: &[u8]) -> io::Result<String> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes)?;
    Ok(BASE64URL.encode(encoder.finish()?))
}

impl Kept {
    fn of((line, seq): (i64, i64), list: StatusList) -> Result<Self, Failure> {
        let tag = assets::tag(list.bytes());
        let lst = compressed(list.bytes()).map_err(|e| Failure::Internal(format!("status list: {e}")))?;
        Ok(Self { line, seq, list, tag, lst, signed: None })
    }

    /// The list read from the credentials, and then from what was recorded meanwhile.
    async fn read(app: &App, tx: &mut Tx) -> Result<Self, Failure> {
        let ends = tx.log_ends().await?;
        let now = app.clock.now();
        let mut list = StatusList::default();
        let (mut after, mut is_last) = (0, false);
        while !is_last {
            let clients = tx.credentials_after(after, Timestamp::UNIX_EPOCH, PAGE).await?;
            is_last = clients.len() < PAGE as usize;
            for client in clients {
                after = client.status_index;
                list.set(after, client.credential.standing(&client.owner, now).into());
            }
        }
        Self::of((ends.line, ends.head), list)
    }

    /// The same list with what was recorded since; `None` when that cannot be told.
    async fn continued(&self, tx: &mut Tx) -> Result<Option<Self>, Failure> {
        let (mut seq, mut list) = (self.seq, self.list.clone());
        loop {
            let Some(page) = tx.changes_after(self.line, seq, PAGE).await? else { return Ok(None) };
            for change in page.changes {
                if let Changed::Credential { index, status, .. } = change.what {
                    list.set(index, status);
                }
            }
            seq = page.until;
            if page.is_last {
                break;
            }
        }
        if list == self.list {
            let (tag, lst, signed) = (self.tag.clone(), self.lst.clone(), self.signed.clone());
            return Ok(Some(Self { line: self.line, seq, list, tag, lst, signed }));
        }
        Self::of((self.line, seq), list).map(Some)
    }
}

impl App {
    /// Where the status list is.
    #[must_use]
    pub fn status_list_uri(&self) -> String {
        format!("{}/oauth/status", self.config.public_url)
    }

    /// What a token says about where its status is found.
    #[must_use]
    pub fn status_claim(&self, index: u32) -> StatusClaim {
        StatusClaim { status_list: StatusPlace { idx: index, uri: self.status_list_uri() } }
    }

    /// The status list as it is now.
    ///
    /// # Errors
    /// The database's: never a list of before (I6).
    pub async fn status_list(&self) -> Result<Served, Failure> {
        let read = self.reads.versions().await?;
        let (version, keys) = (read.key_set, self.signer.of(read.key_set).await?);
        let mut kept = self.lists.0.lock().await;
        // A log of another line, of a database brought back from a copy, makes it anew.
        let list = match kept.take_if(|k| (k.line, k.seq) == (read.line, read.log)) {
            Some(current) => current,
            None => self.list_up_to_date(kept.as_ref()).await?,
        };
        let list = kept.insert(list);
        let now = self.clock.now().as_second();
        let token = match &list.signed {
            // Not with a key that was withdrawn meanwhile.
            Some((made, token)) if *made == (now, version) => token.clone(),
            _ => {
                let uri = self.status_list_uri();
                let payload = Payload {
                    iss: self.signer.issuer(),
                    sub: &uri,
                    iat: now,
                    exp: now + LASTS,
                    ttl: TTL,
                    status_list: Compressed { bits: 2, lst: &list.lst },
                };
                let token = Bytes::from(keys.sign_as(TYPE, Algorithm::Es256, &payload)?);
                list.signed = Some(((now, version), token.clone()));
                token
            }
        };
        Ok(Served { token, tag: format!("{}.{version}.{}", list.tag, now / TAG_LASTS) })
    }

    /// The list that continues one from before; made anew when there is none, or the log was dropped
    /// behind it.
    async fn list_up_to_date(&self, kept: Option<&Kept>) -> Result<Kept, Failure> {
        let mut tx = self.store.read().await?;
        if let Some(kept) = kept
            && let Some(continued) = kept.continued(&mut tx).await?
        {
            return Ok(continued);
        }
        Kept::read(self, &mut tx).await
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn unpacked(lst: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        let packed = BASE64URL.decode(lst).unwrap();
        flate2::read::ZlibDecoder::new(packed.as_slice()).read_to_end(&mut bytes).unwrap();
        bytes
    }

    /// §4.2 of the draft has these two lists, of one bit and of two.
    #[test]
    fn protocol29_lists_are_packed_as_in_the_draft_s_examples() {
        for (bytes, lst) in [(&[0xb9, 0xa3][..], "eNrbuRgAAhcBXQ"), (&[0xc9, 0x44, 0xf9], "eNo76fITAAPfAgc")] {
            assert_eq!(unpacked(lst), bytes);
            assert_eq!(compressed(bytes).unwrap(), lst);
        }
    }

    #[test]
    fn a_long_list_of_few_suspensions_is_short_when_packed() {
        let mut bytes = vec![0; 250_000];
        bytes[1000] = 0x80;
        let lst = compressed(&bytes).unwrap();
        assert!(lst.len() < 1000, "a million credentials: {}", lst.len());
        assert_eq!(unpacked(&lst), bytes);
    }
}
