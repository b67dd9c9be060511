//! The one place that time, randomness and ids come from. Everything else is handed them, so a
//! test runs on a clock it sets and a source it seeds.
#![allow(clippy::disallowed_methods, reason = "this is the file the lint points to")]

use std::sync::{
    Arc,
    atomic::{AtomicI64, AtomicU64, Ordering},
};

use aws_lc_rs::digest;
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

/// Where instants, random bytes and ids come from. Cheap to clone; clones share the source.
#[derive(Clone)]
pub struct Clock(Source);

#[derive(Clone)]
enum Source {
    System,
    Set(Arc<SetSource>),
}

struct SetSource {
    now: AtomicI64,
    seed: u64,
    drawn: AtomicU64,
}

impl Clock {
    /// The clock and the random source of the machine.
    #[must_use]
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// For tests: a clock that stands at an instant until it is moved, and a random source that
    /// gives the same bytes for the same seed. Never for a server that people use.
    #[must_use]
    pub fn set(now: Timestamp, seed: u64) -> Self {
        let now = AtomicI64::new(now.as_microsecond());
        Self(Source::Set(Arc::new(SetSource { now, seed, drawn: AtomicU64::new(0) })))
    }

    /// Now, in UTC, to the microsecond: what is stored is what was meant.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::System => {
                let now = Timestamp::now();
                Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
            }
            Source::Set(set) => {
                Timestamp::from_microsecond(set.now.load(Ordering::SeqCst)).unwrap_or(Timestamp::UNIX_EPOCH)
            }
        }
    }

    /// Moves a set clock; the clock of the machine does not listen.
    pub fn advance(&self, by: SignedDuration) {
        if let Source::Set(set) = &self.0 {
            set.now.fetch_add(i64::try_from(by.as_micros()).unwrap_or(0), Ordering::SeqCst);
        }
    }

    /// `N` random bytes, from the operating system each time: nothing of it is kept in this process.
    ///
    /// # Panics
    /// When the machine has no randomness to give: nothing safe could be done without.
    #[must_use]
    #[expect(clippy::expect_used, reason = "no secret may be made without randomness")]
    pub fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        match &self.0 {
            Source::System => getrandom::fill(&mut bytes).expect("the machine gives random bytes"),
            Source::Set(set) => {
                for chunk in bytes.chunks_mut(digest::SHA256_OUTPUT_LEN) {
                    let mut input = set.seed.to_be_bytes().to_vec();
                    input.extend_from_slice(&set.drawn.fetch_add(1, Ordering::SeqCst).to_be_bytes());
                    chunk.copy_from_slice(&digest::digest(&digest::SHA256, &input).as_ref()[..chunk.len()]);
                }
            }
        }
        bytes
    }

    /// A new id: UUID version 7 of now.
    #[must_use]
    pub fn id(&self) -> Uuid {
        self.id_at(self.now(), self.random())
    }

    /// The smallest id of an instant: ids made before it are smaller.
    #[must_use]
    pub fn first_id_at(&self, at: Timestamp) -> Uuid {
        self.id_at(at, [0; 10])
    }

    #[expect(clippy::unused_self, reason = "ids are made here and nowhere else")]
    fn id_at(&self, at: Timestamp, random: [u8; 10]) -> Uuid {
        let millis = u64::try_from(at.as_millisecond()).unwrap_or(0);
        uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_clock_repeats_itself_and_moves_only_when_told() {
        let make = || Clock::set(Timestamp::from_second(5).unwrap(), 1);
        let (a, b) = (make(), make());
        assert_eq!((a.random::<40>(), a.id()), (b.random::<40>(), b.id()));
        assert_ne!(a.random::<32>(), a.random::<32>());
        a.advance(SignedDuration::from_secs(2));
        assert_eq!(a.now().as_second(), 7);
        assert_eq!(b.now().as_second(), 5);
    }

    #[test]
    fn the_first_id_of_an_instant_is_the_smallest() {
        let clock = Clock::system();
        let now = clock.now();
        assert!(clock.first_id_at(now) <= clock.id());
        assert!(clock.first_id_at(now + SignedDuration::from_secs(1)) > clock.id());
    }
}
