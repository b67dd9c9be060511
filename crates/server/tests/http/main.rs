//! The server from outside, over real HTTP, on both databases, on a clock that the tests set.
//!
//! Three actors ask: [`support::Stranger`], [`support::Person`] (a session cookie, as a browser
//! sends it) and [`support::Program`] (a Client ID and Client Secret, or an access token). A test
//! reads as a story.

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

mod apis;
mod audit;
mod canary;
mod changes;
mod cli;
mod client_keys;
mod console;
mod crash;
mod crash_postgres;
mod credentials;
mod discovery;
mod disk;
mod doctor;
mod dpop;
mod federation;
mod hold;
mod introspect;
mod journey;
mod keys;
mod limits;
mod mail;
mod matrix;
mod mfa;
mod nodes;
mod openapi;
mod orders;
mod people;
#[path = "support/proxy.rs"]
mod proxy;
mod resources;
mod revoke;
mod routes;
mod sessions;
mod setup;
mod support;
mod tls;
mod token;
mod transitions;
mod verifier;
