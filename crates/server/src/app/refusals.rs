//! How many refusals of one origin are written to the audit log one by one. Beyond that they are
//! still refused, but a stranger cannot fill the log or keep its lock busy.
//!
//! Only refusals are ever counted: what is right is always taken (protocol 18).

use std::{
    net::IpAddr,
    num::NonZeroU32,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use governor::{Quota, RateLimiter, clock, middleware::NoOpMiddleware, state::keyed::DashMapStateStore};
use ipnet::IpNet;
use portcullis_domain::audit::Origin;

use crate::clock::Clock;

/// Recorded one by one, per minute, origin and name.
const A_MINUTE: NonZeroU32 = NonZeroU32::new(20).unwrap();
/// Recorded one by one, per minute and origin, whatever the name.
const A_MINUTE_OF_ALL: NonZeroU32 = NonZeroU32::new(120).unwrap();
/// Forgotten passwords asked about at once from one origin, and again each two minutes.
const RESETS: Quota = Quota::per_hour(NonZeroU32::new(30).unwrap());
/// Begun by a stranger and remembered for them, per minute and origin.
const BEGUN_A_MINUTE: NonZeroU32 = NonZeroU32::new(60).unwrap();
/// Names are counted in so many buckets for each origin, so that made-up ones cannot fill the
/// memory.
const BUCKETS: u32 = 256;

/// How many origins (with a name each, where names are counted) a counter tells apart. While there are
/// more, the further ones share what one has with their neighbourhood: made-up addresses cannot fill the
/// memory either, and whoever has many does not shut out those who are elsewhere.
const TOLD_APART: usize = 20_000;

type Key = (String, u32);

/// One counter.
struct Limiter {
    rates: RateLimiter<Key, DashMapStateStore<Key>, ProductClock, NoOpMiddleware<Duration>>,
    clock: ProductClock,
    /// The minute in which the quiet ones were last dropped for want of room.
    dropped: AtomicU64,
}

impl Limiter {
    fn new(quota: Quota, clock: &ProductClock) -> Self {
        let rates = RateLimiter::new(quota, DashMapStateStore::default(), clock.clone());
        Self { rates, clock: clock.clone(), dropped: AtomicU64::new(0) }
    }

    /// Counts one more, and tells whether it is within the quota.
    fn takes(&self, network: String, bucket: u32) -> bool {
        let network = match self.has_room() {
            true => network,
            // Only who is near to those that fill it shares with them.
            false if self.rates.len() < 2 * TOLD_APART => neighbourhood(&network),
            false => "all others".to_owned(),
        };
        self.rates.check_key(&(network, bucket)).is_ok()
    }

    /// Whether one more can be told apart. Of those it knows, the ones that were quiet for long enough
    /// are dropped, once a minute at most: it takes a look at all of them.
    fn has_room(&self) -> bool {
        use governor::clock::Clock as _;
        if self.rates.len() < TOLD_APART {
            return true;
        }
        let minute = self.clock.now().as_secs() / 60;
        if self.dropped.swap(minute, Ordering::Relaxed) != minute {
            self.rates.retain_recent();
        }
        self.rates.len() < TOLD_APART
    }
}

/// Counts refusals per origin and the name that was tried, and per origin.
pub struct Refusals {
    by_name: Limiter,
    of_all: Limiter,
    /// Refusals of clients that proved themselves, by Client ID alone.
    proven: Limiter,
    /// Wishes for new passwords, by origin.
    resets: Limiter,
    /// What strangers begin and the server remembers for them (visits to providers, questions for
    /// passkeys), by origin.
    begun: Limiter,
    /// How many were not recorded since the last time that was.
    unrecorded: AtomicU64,
}

/// Lets the limiter run on the product's clock.
#[derive(Clone)]
struct ProductClock(Clock);

impl clock::Clock for ProductClock {
    type Instant = Duration;
    fn now(&self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.now().as_microsecond()).unwrap_or(0))
    }
}

impl Refusals {
    /// Counts on this clock.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        let clock = ProductClock(clock);
        let limiter = |n| Limiter::new(Quota::per_minute(n), &clock);
        let resets = Limiter::new(RESETS, &clock);
        Self {
            by_name: limiter(A_MINUTE),
            of_all: limiter(A_MINUTE_OF_ALL),
            proven: limiter(A_MINUTE),
            resets,
            begun: limiter(BEGUN_A_MINUTE),
            unrecorded: AtomicU64::new(0),
        }
    }

    /// Counts one more refusal of `name` for this origin (one address, or one /64 of IPv6), and
    /// tells whether it is to be recorded.
    #[must_use]
    pub fn is_to_be_recorded(&self, origin: &Origin, name: &str) -> bool {
        let bucket = crc32fast::hash(name.as_bytes()) % BUCKETS;
        let network = network(&origin.ip, 32);
        self.counted(self.by_name.takes(network.clone(), bucket) && self.of_all.takes(network, 0))
    }

    /// The same for a client that presented the right secret of a credential that does not work:
    /// nobody else's failures hide it.
    #[must_use]
    pub fn of_proven_is_to_be_recorded(&self, client_id: &str) -> bool {
        self.counted(self.proven.takes(client_id.to_owned(), 0))
    }

    fn counted(&self, recorded: bool) -> bool {
        if !recorded {
            self.unrecorded.fetch_add(1, Ordering::Relaxed);
        }
        recorded
    }

    /// How many were not recorded one by one since this was last asked.
    #[must_use]
    pub fn take_unrecorded(&self) -> u64 {
        self.unrecorded.swap(0, Ordering::Relaxed)
    }

    /// Whether somebody at this origin may ask for a new password once more: whose it is makes no
    /// difference.
    #[must_use]
    pub fn may_ask_for_reset(&self, origin: &Origin) -> bool {
        self.resets.takes(network(&origin.ip, 32), 0)
    }

    /// Whether somebody at this origin may begin one more thing that the server remembers for them.
    #[must_use]
    pub fn may_begin(&self, origin: &Origin) -> bool {
        self.begun.takes(network(&origin.ip, 32), 0)
    }

    /// Drops what is remembered of quiet origins.
    pub fn forget_quiet(&self) {
        for limiter in [&self.by_name, &self.of_all, &self.proven, &self.resets, &self.begun] {
            limiter.rates.retain_recent();
            limiter.rates.shrink_to_fit();
        }
    }
}

/// The network an address belongs to: `ipv4_bits` of IPv4, 64 of IPv6, where a whole /64 is one
/// subscriber's.
#[must_use]
pub fn network(ip: &str, ipv4_bits: u8) -> String {
    let Ok(address) = ip.parse::<IpAddr>() else { return ip.to_owned() };
    let bits = if address.is_ipv4() { ipv4_bits } else { 64 };
    IpNet::new(address, bits).map_or_else(|_| ip.to_owned(), |net| net.trunc().to_string())
}

/// What a network is counted as when there is no room for it: a /16 of IPv4, a /32 of IPv6, which is a
/// provider's. What is no network is all one.
fn neighbourhood(network: &str) -> String {
    let Ok(net) = network.parse::<IpNet>() else { return "all others".to_owned() };
    let bits = if net.addr().is_ipv4() { 16 } else { 32 };
    IpNet::new(net.addr(), bits).map_or_else(|_| network.to_owned(), |wide| wide.trunc().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::{SignedDuration, Timestamp};

    #[test]
    fn so_many_a_minute_are_recorded_for_each_origin_and_name() {
        let clock = Clock::set(Timestamp::from_second(1_795_000_000).unwrap(), 1);
        let refusals = Refusals::new(clock.clone());
        let recorded = |ip: &str, name: &str| {
            let origin = Origin::new(ip.to_owned(), "");
            (0..100).filter(|_| refusals.is_to_be_recorded(&origin, name)).count()
        };
        assert_eq!(recorded("203.0.113.7", "a"), 20);
        assert_eq!((refusals.take_unrecorded(), refusals.take_unrecorded()), (80, 0));
        assert_eq!(
            (0..100).filter(|_| refusals.of_proven_is_to_be_recorded("a")).count(),
            20,
            "not hidden by those"
        );
        assert_eq!(recorded("203.0.113.8", "a"), 20, "another origin has its own count");
        assert_eq!(recorded("203.0.113.7", "b"), 20, "another name too");
        let names = (0..200).map(|n| recorded("203.0.113.9", &format!("made-up-{n}")));
        assert_eq!(names.sum::<usize>(), 120, "and made-up names do not go round it");
        assert_eq!(recorded("2001:db8::1", "a") + recorded("2001:db8::2", "a"), 20, "a /64 is one origin");
        clock.advance(SignedDuration::from_mins(1));
        assert_eq!(recorded("203.0.113.7", "a"), 20);
    }

    #[test]
    fn made_up_addresses_fill_no_memory_and_hide_nobody_for_long() {
        let clock = Clock::set(Timestamp::from_second(1_795_000_000).unwrap(), 1);
        let refusals = Refusals::new(clock.clone());
        let recorded = |n: u32| {
            let origin = Origin::new(std::net::Ipv4Addr::from_bits(0xcb00_7100 + n).to_string(), "");
            refusals.is_to_be_recorded(&origin, "a")
        };
        let strangers = u32::try_from(TOLD_APART).unwrap();
        assert!((0..strangers).all(recorded), "each is told apart");
        let more = (strangers..3 * strangers).filter(|n| recorded(*n)).count();
        assert_eq!(more, 2 * 20, "the others share what one has: they are of two neighbourhoods");
        let elsewhere = Origin::new("198.51.100.7".to_owned(), "");
        assert!(refusals.is_to_be_recorded(&elsewhere, "a"), "and are in nobody's way who is elsewhere");
        for limiter in [&refusals.by_name, &refusals.of_all] {
            assert!(limiter.rates.len() <= TOLD_APART + 3, "{}", limiter.rates.len());
        }
        clock.advance(SignedDuration::from_mins(1));
        assert!((0..100).all(|n| recorded(5 * strangers + n)), "after a minute there is room again");
    }
}
