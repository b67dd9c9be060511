//! The two things a benchmark takes from outside: the time of day and randomness.
//!
//! In the server both come from one module and are passed down, and a lint holds everything else to
//! that. The benchmark is not the server, so it has its own such place: here. Durations are measured
//! with [`std::time::Instant`], which needs no leave.

use aws_lc_rs::rand::SystemRandom;
use jiff::Timestamp;
use uuid::{NoContext, Uuid};

/// The time of day: `iat` in the floor's tokens and the date in the report.
#[must_use]
#[allow(
    clippy::disallowed_methods,
    reason = "the benchmark is its own outermost layer: nothing passes it a clock"
)]
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// The random source that signing asks for.
#[must_use]
#[allow(
    clippy::disallowed_methods,
    reason = "the benchmark is its own outermost layer: nothing passes it a source"
)]
pub fn random_source() -> SystemRandom {
    SystemRandom::new()
}

/// A fresh id (UUID version 7) of the instant `at`.
#[must_use]
pub fn id(at: Timestamp) -> Uuid {
    let since = at.as_duration();
    let seconds = u64::try_from(since.as_secs()).unwrap_or_default();
    let nanos = u32::try_from(since.subsec_nanos()).unwrap_or_default();
    Uuid::new_v7(uuid::Timestamp::from_unix(NoContext, seconds, nanos))
}
