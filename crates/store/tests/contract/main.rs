//! The contract of the store: every statement, on SQLite and on PostgreSQL, with the same tests.
//!
//! PostgreSQL comes from `PORTCULLIS_TEST_POSTGRES` (a URL whose user may create databases),
//! which `dev/test` sets. Each test gets a database of its own.

#![allow(clippy::unwrap_used, missing_docs)]

mod accounts;
mod apis;
mod audit;
mod changes;
mod client_keys;
mod credentials;
mod federation;
mod growth;
mod hold;
mod keys;
mod links;
mod mail;
mod mfa;
mod migrations;
mod open;
mod people;
mod rewrap;
mod sessions;
mod support;
mod tokens;
mod turns;
