//! What a token costs.
//!
//! Seven programs live here. Three of them measure together. `bench-floor` is the yardstick: a bare HTTP
//! server that does for a token only what no server can leave out. `bench-load` is the client: it keeps a
//! number of connections busy with requests and prints what it saw. `bench` is the conductor, started
//! by `dev/bench`: it runs the floor and Portcullis in turn under the same loads and writes tables
//! that put one beside the other. A figure without its floor says more about the machine than
//! about the server, which is why the table always holds both, of the same run.
//!
//! The others measure one thing each: `bench-growth` what years of use on record cost, `bench-hostile`
//! what hostile peers do to the good ones, `bench-reach` how long a revocation takes to reach verifiers,
//! and `bench-timing` whether an unknown Client ID is told from a wrong secret by the time.
//!
//! This library is what they share: the load's report, reading `/proc`, keeping the started processes on
//! a leash, and the table.

#![allow(clippy::disallowed_methods, reason = "measuring takes a clock of its own")]
pub mod connection;
pub mod contestant;
pub mod database;
pub mod outside;
pub mod owner;
pub mod part;
pub mod plot;
pub mod process;
pub mod report;
pub mod round;
pub mod spent;

use serde::{Deserialize, Serialize};

/// What `bench-load` prints: one JSON object. Times are in microseconds, seen from the client.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoadReport {
    /// How many requests began and ended within the measured time and got what they asked for.
    pub requests: u64,
    /// How many failed or got something else, during the warm-up too.
    pub errors: u64,
    /// The first of those failures, in words.
    pub first_error: Option<String>,
    /// Every answered request, with the warm-up and the last ones under way at the end: what the
    /// server's CPU time has to be divided by.
    pub requests_in_all: u64,
    /// How long the measured time was.
    pub seconds: f64,
    /// Requests per second.
    pub rps: f64,
    /// The median time of an answer.
    pub p50_us: u64,
    /// Nine of ten answers came within this.
    pub p90_us: u64,
    /// Ninety-nine of a hundred answers came within this.
    pub p99_us: u64,
    /// The slowest answer.
    pub max_us: u64,
    /// The CPU time of the load generator itself. Close to the wall time means that the client, and
    /// not the server, was the limit.
    pub cpu_seconds: f64,
    /// The CPU time of the server.
    pub server_cpu_seconds: f64,
    /// The CPU time of the server's PostgreSQL, if it has one.
    pub database_cpu_seconds: Option<f64>,
    /// The CPU time of anything else on the two cores, on the busier of them.
    pub others_cpu_seconds: f64,
    /// The wall time that all of these are of, from the first request to the last answer.
    pub wall_seconds: f64,
}
