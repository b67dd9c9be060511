//! Portcullis: machine credentials that the people who run a platform manage themselves.
//!
//! A request comes in at one of three doors ([`console`], [`api`], [`oauth`]). The door turns
//! bytes into a typed request, calls one use-case in [`app`], and turns the typed answer or
//! [`error::Failure`] into bytes. [`routes`] is the list of all of them.

pub mod access;
pub mod api;
pub mod app;
pub mod around;
pub mod assets;
pub mod cli;
pub mod clock;
pub mod config;
pub mod console;
pub mod error;
pub mod http;
pub mod oauth;
pub mod routes;
#[cfg(feature = "seeded-bugs")]
pub(crate) mod seeded;
pub mod telemetry;
