//! Refusing who is new, for a while.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::clock;
use crate::identity::hash;

/// Triples of client network, sender and recipient remembered, 16 bytes for each; further ones are accepted
/// at once.
const TRIPLES_MAX: usize = 1 << 20;

/// When each triple was seen first, for all threads of a sink.
#[derive(Default)]
pub(super) struct Greylist {
    /// By a hash of the triple, so that an address costs no memory.
    first: Mutex<HashMap<u64, u64>>,
}

impl Greylist {
    /// Everybody is new again.
    pub(super) fn forget(&self) {
        self.first.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Whether this triple has to come again: it was seen first less than `wait` ago.
    pub(super) fn refuses(&self, origin: u64, recipient: &[u8], wait: Duration) -> bool {
        self.refuses_at(clock::now(), origin, recipient, wait)
    }

    fn refuses_at(&self, now: u64, origin: u64, recipient: &[u8], wait: Duration) -> bool {
        let triple = hash(&[&origin.to_le_bytes(), recipient.to_ascii_lowercase().as_slice()].concat());
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        let full = first.len() >= TRIPLES_MAX;
        match first.get(&triple) {
            Some(&seen) => now.saturating_sub(seen) < clock::nanoseconds(wait),
            None if full => false,
            None => {
                first.insert(triple, now);
                true
            }
        }
    }
}

/// A client's network and a sender in one number.
pub(super) fn origin(client: IpAddr, sender: &[u8]) -> u64 {
    let network = match client {
        IpAddr::V4(address) => u64::from(address.to_bits() >> 8),
        IpAddr::V6(address) => (address.to_bits() >> 64) as u64,
    };
    hash(&[&network.to_le_bytes(), sender].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Duration = Duration::from_secs(1);

    #[test]
    fn a_triple_waits_once() {
        let list = Greylist::default();
        let a = origin([127, 0, 0, 1].into(), b"a@x");
        assert!(list.refuses_at(5, a, b"r@y", WAIT));
        assert!(list.refuses_at(1_000_000_004, a, b"R@Y", WAIT));
        assert!(!list.refuses_at(1_000_000_005, a, b"r@y", WAIT));
        assert!(!list.refuses_at(9_000_000_000, a, b"r@y", WAIT));
        assert!(list.refuses_at(9_000_000_000, a, b"other@y", WAIT));
        assert_eq!(a, origin([127, 0, 0, 200].into(), b"a@x"), "the same network");
        assert!(list.refuses_at(9_000_000_000, origin([127, 0, 1, 1].into(), b"a@x"), b"r@y", WAIT));
        assert!(list.refuses_at(9_000_000_000, origin([127, 0, 0, 1].into(), b"b@x"), b"r@y", WAIT));
    }

    #[test]
    fn a_full_list_accepts() {
        let list = Greylist::default();
        let strangers = (0..TRIPLES_MAX as u64).map(|number| (number, 0));
        list.first.lock().unwrap().extend(strangers);
        assert!(!list.refuses_at(1, 1, b"new@y", WAIT));
    }
}
