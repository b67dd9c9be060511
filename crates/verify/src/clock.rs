//! The one place that time and chance come from. What decides is handed them.
#![allow(clippy::disallowed_methods, reason = "this library has no other clock")]

use std::time::{Duration, Instant, SystemTime};

use aws_lc_rs::rand;

/// Now, in seconds since the epoch.
pub(crate) fn unix() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// Now, on a clock that never goes back.
pub(crate) fn instant() -> Instant {
    Instant::now()
}

/// Somewhere between half of a time and all of it, so that many who wait do not come back at once.
pub(crate) fn jitter(longest: Duration) -> Duration {
    let mut byte = [0];
    // Without chance everybody waits the longest, and that is safe.
    let part = if rand::fill(&mut byte).is_ok() { f64::from(byte[0]) / 255.0 } else { 1.0 };
    longest.mul_f64(0.5 + part / 2.0)
}
