//! What the harness takes from outside: the time of day and a seed. In the server both come from one
//! module; the harness is not the server, so it has its own such place.

use std::time::Instant;

use aws_lc_rs::rand::SystemRandom;
use jiff::Timestamp;

/// The time of day (UTC).
#[must_use]
#[allow(clippy::disallowed_methods, reason = "the harness is its own outermost layer: nothing passes it a clock")]
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// An instant of the monotonic clock.
#[must_use]
#[allow(clippy::disallowed_methods, reason = "the harness is its own outermost layer: nothing passes it a clock")]
pub fn instant() -> Instant {
    Instant::now()
}

/// A random number: the seed of a run that was given none, and passwords.
///
/// # Errors
/// When the machine has no randomness to give.
#[allow(clippy::disallowed_methods, reason = "the harness is its own outermost layer: nothing passes it a source")]
pub fn random() -> anyhow::Result<u64> {
    let mut bytes = [0; 8];
    aws_lc_rs::rand::SecureRandom::fill(&SystemRandom::new(), &mut bytes)
        .map_err(|_| anyhow::anyhow!("the machine gives no random bytes"))?;
    Ok(u64::from_be_bytes(bytes))
}

/// A clock of microseconds since a run began, the same for all clients, which no step of the time of day
/// moves.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts it.
    #[must_use]
    pub fn start() -> Self {
        Self(instant())
    }

    /// Microseconds since it was started.
    #[must_use]
    pub fn micros(self) -> u64 {
        u64::try_from(self.0.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}
