//! What this project did not write, against the server: gateways and clients.
//!
//! A gateway is one of Debian's packages with a recipe of `dev/gateways`, which the book quotes, as
//! it stands there (names, ports and paths replaced). It runs as an unprivileged process between an
//! API's backend and whoever calls, and is sent good tokens and every kind of bad one. A client is a
//! library of npm, PyPI or crates.io that people use, or curl; it gets tokens and uses them. All of
//! them speak TLS with the server, and trust its certificate as they would trust any.

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]
#![allow(
    clippy::disallowed_methods,
    reason = "tokens end by the clock of the gateway, which is that of the machine"
)]

mod apache;
mod checks;
mod clients;
mod forge;
mod gateway;
mod haproxy;
mod house;
mod nginx;
#[allow(dead_code, unused_imports, unused_macros, reason = "the HTTP suite uses the rest of it")]
#[path = "../http/support.rs"]
mod support;
