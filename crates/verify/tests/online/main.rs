//! The verifier against a server on loopback that does what each test tells it to.
#![allow(clippy::unwrap_used, reason = "a test may: what fails is the test")]

mod fake;
mod feed;
mod keys;
mod layer;
mod list;
mod proofs;
#[path = "../offline/signing.rs"]
#[allow(dead_code, reason = "the offline tests use the rest")]
mod signing;
mod start;
