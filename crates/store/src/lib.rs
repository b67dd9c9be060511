//! The storage of Portcullis: one set of SQL statements that runs on SQLite and on PostgreSQL.
//!
//! [`Store`] hands out four kinds of transaction: [`Store::read`] to look, [`Store::write`] for
//! the product's own book-keeping (sessions seen, old rows dropped), [`Store::issue`] for tokens
//! (C-11), and [`Store::act`] for everything the audit log must show. An [`Act`] can only be committed
//! together with its audit records (L-1), and acts happen one after the other on either
//! database, which is also what makes "check, then write" in them safe.
//!
//! Each noun has its own file with its statements; `tests/contract` runs every one of them on
//! both databases.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod accounts;
mod apis;
mod audit;
mod audit_pages;
mod ceremonies;
mod changes;
mod client_keys;
mod copy;
mod credentials;
mod error;
mod examine;
mod federation;
mod hold;
mod indexes;
mod installation;
mod keys;
mod links;
mod mail;
mod mark;
mod mfa;
mod open;
mod patience;
mod replay;
mod rewrap;
mod seal;
mod sessions;
mod tokens;
mod turns;
mod tx;
mod writer;

pub use accounts::IdentityShown;
pub use apis::PresentedKey;
pub use audit::ChainState;
pub use audit_pages::{AuditFilter, AuditFound, AuditPage};
pub use ceremonies::Ceremony;
pub use changes::{ChangesPage, LogEnds, RevokedToken};
pub use client_keys::UsedProof;
pub use copy::{Alone, CopyError, put_in_place};
pub use credentials::PresentedClient;
pub use error::{OpenError, StoreError};
pub use examine::{Examined, PostgresFacts, SchemaFacts, ServerFacts, SqliteFacts, examine};
pub use federation::ProviderUse;
pub use hold::{HeldCredential, Settled};
pub use installation::Installation;
pub use keys::StoredKey;
pub use mail::{DueMail, MailOnRecord, QueuedMail};
pub use mfa::{StoredApp, StoredPasskey};
pub use open::{Database, OpenOptions};
pub use replay::{LaterUser, Replayed};
pub use rewrap::MasterKeyUse;
pub use seal::{KEY_BYTES, MasterKeyError, MasterKeys, Purpose, Sealed};
pub use sessions::FailureCount;
pub use tokens::{COUNTED, Dropped, NewToken, TokenUse};
pub use turns::Turn;
pub use tx::{Act, Store, Tx};
