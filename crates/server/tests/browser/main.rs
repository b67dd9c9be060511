//! The console in a real browser: every journey a person takes, and how each page looks.
//!
//! `dev/test` starts chromedriver and says where it is. Each page that a test looks at is also
//! photographed (light and dark, at three widths), checked with axe-core, checked for sideways
//! scrolling from 320 to 1920 px, and must leave the browser's log empty.

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]
#![allow(clippy::disallowed_methods, reason = "waiting for a browser takes a clock")]

mod account;
mod apis;
mod audit;
mod browser;
mod federation;
mod journey;
mod keyboard;
mod keys;
mod look;
mod mfa;
mod no_script;
mod people;
mod secrets;
mod server;
mod states;
#[allow(dead_code, unused_imports, unused_macros, reason = "the HTTP suite uses the rest of it")]
#[path = "../http/support.rs"]
mod support;
#[allow(dead_code, reason = "the HTTP suite uses the rest of it")]
#[path = "../http/mfa/tab.rs"]
mod tab;
