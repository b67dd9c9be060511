//! The offline core against what others published and against what nobody thought of.
#![allow(clippy::unwrap_used, reason = "a test may: what fails is the test")]

mod claims;
mod keys;
mod proofs;
mod properties;
mod published;
mod signing;
mod wycheproof;
