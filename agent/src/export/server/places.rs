//! How many connections there may be, in all and from one peer: so that one hostile client keeps
//! nobody else out.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

#[derive(Clone, Debug)]
pub(super) struct Places {
    free: Arc<Semaphore>,
    taken: Arc<Mutex<HashMap<IpAddr, usize>>>,
    per_peer: usize,
}

/// A place; dropping it gives it back.
#[derive(Debug)]
pub(super) struct Place {
    peer: IpAddr,
    taken: Arc<Mutex<HashMap<IpAddr, usize>>>,
    _permit: OwnedSemaphorePermit,
}

impl Places {
    pub(super) fn new(in_all: usize, per_peer: usize) -> Self {
        Places {
            free: Arc::new(Semaphore::new(in_all)),
            taken: Arc::default(),
            per_peer,
        }
    }

    /// Waits for a free place, for whoever comes next.
    pub(super) async fn free(&self) -> OwnedSemaphorePermit {
        let permit = Arc::clone(&self.free).acquire_owned().await;
        permit.expect("the semaphore is never closed")
    }

    /// Gives the place to `peer`, unless that has all it may have.
    pub(super) fn take(&self, permit: OwnedSemaphorePermit, peer: IpAddr) -> Option<Place> {
        let peer = network(peer);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(peer).or_default();
        if *count >= self.per_peer {
            return None;
        }
        *count += 1;
        Some(Place {
            peer,
            taken: Arc::clone(&self.taken),
            _permit: permit,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.peer);
            }
        }
    }
}

/// The address that stands for a peer: an IPv6 host has a whole /64 (RFC 4291, 2.5.1) to call from.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(
            address.to_bits() & !u128::from(u64::MAX),
        )),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test says no")]

    use super::*;

    #[tokio::test]
    async fn one_network_cannot_take_all_places() {
        let places = Places::new(3, 2);
        let peer = |address: &str| address.parse::<IpAddr>().unwrap();
        let first = places
            .take(places.free().await, peer("2001:db8::1"))
            .unwrap();
        let _second = places
            .take(places.free().await, peer("2001:db8::2"))
            .unwrap();
        assert!(
            places
                .take(places.free().await, peer("2001:db8::3"))
                .is_none()
        );
        let _other = places.take(places.free().await, peer("192.0.2.1")).unwrap();
        drop(first);
        assert!(
            places
                .take(places.free().await, peer("2001:db8::3"))
                .is_some()
        );
        assert_eq!(places.taken.lock().unwrap().len(), 2);
    }
}
