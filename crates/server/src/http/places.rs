//! The places for connections: so many in all, and half of them at most for one address, so that
//! nobody alone keeps the others out.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ipnet::IpNet;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The places of a server.
pub(super) struct Places {
    all: Arc<Semaphore>,
    /// The most for one address.
    of_one: usize,
    /// Whose connections are many people's.
    proxies: Vec<IpNet>,
    taken: Mutex<HashMap<IpAddr, usize>>,
}

/// A place that nobody is known to sit in yet.
pub(super) struct Free(OwnedSemaphorePermit);

/// A place of an address. Dropped, it is free again.
pub(super) struct Place {
    _permit: OwnedSemaphorePermit,
    places: Arc<Places>,
    whose: Option<IpAddr>,
}

impl Places {
    /// So many in all. The trusted proxies may have as many as there are.
    pub(super) fn new(all: usize, proxies: &[IpNet]) -> Arc<Self> {
        let (of_one, proxies) = (all.div_ceil(2), proxies.to_vec());
        Arc::new(Self { all: Arc::new(Semaphore::new(all)), of_one, proxies, taken: Mutex::default() })
    }

    /// Waits for a place; `None` when there are none any more.
    pub(super) async fn free(&self) -> Option<Free> {
        Arc::clone(&self.all).acquire_owned().await.ok().map(Free)
    }

    /// Gives a place to a peer, unless its address has its half of them already.
    pub(super) fn take(self: &Arc<Self>, free: Free, peer: IpAddr) -> Option<Place> {
        let peer = peer.to_canonical();
        let whose = (!self.proxies.iter().any(|network| network.contains(&peer))).then(|| subscriber(peer));
        if let Some(address) = whose {
            let mut taken = self.taken();
            let count = taken.entry(address).or_default();
            if *count >= self.of_one {
                return None;
            }
            *count += 1;
        }
        Some(Place { _permit: free.0, places: Arc::clone(self), whose })
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        // Nothing is left half-way by a panic in it.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(address) = self.whose else { return };
        let mut taken = self.places.taken();
        if let Some(count) = taken.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&address);
            }
        }
    }
}

/// An address of IPv4, or the /64 of one of IPv6: the least that a subscriber gets.
fn subscriber(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_address_gets_half_of_the_places_and_a_proxy_all() {
        let places = Places::new(4, &["192.0.2.0/24".parse().unwrap()]);
        let take = async |address: &str| {
            let free = places.free().await.unwrap();
            places.take(free, address.parse().unwrap())
        };
        let mut held = vec![take("2001:db8::1").await.unwrap(), take("2001:db8::2").await.unwrap()];
        assert!(take("2001:db8::3").await.is_none(), "a /64 is one subscriber's");
        held.push(take("2001:db8:0:1::1").await.unwrap());
        held.push(take("203.0.113.7").await.unwrap());
        held.clear();
        assert!(places.taken().is_empty(), "nothing is remembered of who left");
        for address in ["192.0.2.1", "::ffff:192.0.2.1", "192.0.2.1", "192.0.2.1"] {
            held.push(take(address).await.unwrap());
        }
        assert!(places.all.try_acquire().is_err(), "and no more than there are");
    }
}
