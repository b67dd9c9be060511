//! The recipes of `dev/gateways`, which the book quotes, in the gateways of Debian's packages.
//!
//! Each test starts a server with TLS, an API's backend, and a gateway as an unprivileged process
//! with the recipe as it stands there (names, ports and paths replaced), and sends it good tokens
//! and every kind of bad one.

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]
#![allow(
    clippy::disallowed_methods,
    reason = "tokens end by the clock of the gateway, which is that of the machine"
)]

mod apache;
mod checks;
mod forge;
mod gateway;
mod haproxy;
mod house;
mod nginx;
#[allow(dead_code, unused_imports, unused_macros, reason = "the HTTP suite uses the rest of it")]
#[path = "../http/support.rs"]
mod support;
