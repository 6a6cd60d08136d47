//! Failures counted by the client's network and by user name: each costs a delay that doubles, and too many shut out
//! for a time.
//!
//! Names that nobody has are counted like those of users, or else lock-out would tell them apart. Both tables are
//! bounded; when one is full the key whose last failure is the oldest is forgotten.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use core::net::{IpAddr, Ipv6Addr};
use core::time::Duration;

use mail::Time;

/// When and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Failures after which a network or a user is shut out.
    pub failures_max: u32,
    /// For how long, from the last failure on; after as long without a failure, failures are forgotten.
    pub lockout: Duration,
    /// The delay of the first failure; each further one doubles it.
    pub delay: Duration,
    /// The longest delay.
    pub delay_max: Duration,
    /// Networks, and users, that are remembered.
    pub keys_max: usize,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds {
            failures_max: 10,
            lockout: Duration::from_secs(900),
            delay: Duration::from_secs(1),
            delay_max: Duration::from_secs(16),
            keys_max: 10_000,
        }
    }
}

/// Whether an attempt is looked at at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is.
    Free,
    /// It is not, because of the client's network.
    ClientLocked,
    /// It is not, because of the user.
    UserLocked,
}

/// What a failure led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed {
    /// How long the reply has to wait.
    pub delay: Duration,
    /// The client's network is shut out from now on.
    pub locks_client: bool,
    /// The user is.
    pub locks_user: bool,
}

/// Counts failures.
#[derive(Debug)]
pub struct Guard {
    bounds: Bounds,
    clients: Table<IpAddr>,
    users: Table<Box<str>>,
}

impl Guard {
    /// No failures yet.
    pub fn new(bounds: Bounds) -> Guard {
        Guard { bounds, clients: Table::default(), users: Table::default() }
    }

    /// How an attempt of `client` to be `user` stands.
    pub fn standing(&self, client: IpAddr, user: &str, now: Time) -> Standing {
        if self.clients.is_locked(&network(client), now, &self.bounds) {
            Standing::ClientLocked
        } else if self.users.is_locked(user, now, &self.bounds) {
            Standing::UserLocked
        } else {
            Standing::Free
        }
    }

    /// `client` was not `user`.
    pub fn failed(&mut self, client: IpAddr, user: &str, now: Time) -> Failed {
        let by_client = self.clients.count(network(client), now, &self.bounds);
        let by_user = self.users.count(user.into(), now, &self.bounds);
        let doublings = by_client.max(by_user).saturating_sub(1).min(16);
        Failed {
            delay: (self.bounds.delay * (1 << doublings)).min(self.bounds.delay_max),
            locks_client: by_client == self.bounds.failures_max,
            locks_user: by_user == self.bounds.failures_max,
        }
    }

    /// `user` has come in: its failures are forgotten. Those of the client's network are not, or else whoever has one
    /// account could guess the passwords of others for ever.
    pub fn succeeded(&mut self, user: &str) {
        self.users.forget(user);
    }

    /// Networks and users that are remembered.
    pub fn len(&self) -> (usize, usize) {
        (self.clients.entries.len(), self.users.entries.len())
    }
}

/// IPv4 addresses one by one, IPv6 by /64, which is what a single customer has.
fn network(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V4(client) => IpAddr::V4(client),
        IpAddr::V6(client) => IpAddr::V6(Ipv6Addr::from_bits(client.to_bits() >> 64 << 64)),
    }
}

#[derive(Debug)]
struct Entry {
    failures: u32,
    last: Time,
}

#[derive(Debug)]
struct Table<K> {
    entries: BTreeMap<K, Entry>,
    /// The same keys by their last failure.
    order: BTreeSet<(Time, K)>,
}

impl<K> Default for Table<K> {
    fn default() -> Table<K> {
        Table { entries: BTreeMap::new(), order: BTreeSet::new() }
    }
}

impl<K: Ord + Clone> Table<K> {
    fn is_locked<Q: Ord + ?Sized>(&self, key: &Q, now: Time, bounds: &Bounds) -> bool
    where
        K: core::borrow::Borrow<Q>,
    {
        self.entries
            .get(key)
            .is_some_and(|entry| entry.failures >= bounds.failures_max && now < entry.last + bounds.lockout)
    }

    fn count(&mut self, key: K, now: Time, bounds: &Bounds) -> u32 {
        let failures = match self.entries.get(&key) {
            Some(entry) if now < entry.last + bounds.lockout => entry.failures.saturating_add(1),
            _ => 1,
        };
        self.forget(&key);
        if self.entries.len() >= bounds.keys_max
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.entries.remove(&oldest);
        }
        self.order.insert((now, key.clone()));
        self.entries.insert(key, Entry { failures, last: now });
        failures
    }

    fn forget<Q: Ord + ?Sized>(&mut self, key: &Q)
    where
        K: core::borrow::Borrow<Q>,
    {
        if let Some((key, entry)) = self.entries.remove_entry(key) {
            self.order.remove(&(entry.last, key));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::vec::Vec;

    const SECOND: u64 = 1_000_000_000;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn delays_double_up_to_their_bound() {
        let mut guard = Guard::new(Bounds::default());
        let delays: Vec<u64> =
            (0..7).map(|n| guard.failed(ip("192.0.2.1"), "a", Time(n)).delay.as_secs()).collect();
        assert_eq!(delays, [1, 2, 4, 8, 16, 16, 16]);
    }

    #[test]
    fn a_network_is_shut_out_for_a_time_and_said_so_once() {
        let bounds = Bounds { failures_max: 3, ..Bounds::default() };
        let mut guard = Guard::new(bounds);
        let locks: Vec<bool> = ["a", "b", "c", "d"]
            .into_iter()
            .map(|user| guard.failed(ip("2001:db8::1"), user, Time(0)).locks_client)
            .collect();
        assert_eq!(locks, [false, false, true, false]);
        let end = Time(900 * SECOND);
        assert_eq!(guard.standing(ip("2001:db8::ffff"), "x", Time(end.0 - 1)), Standing::ClientLocked);
        assert_eq!(guard.standing(ip("2001:db8::ffff"), "x", end), Standing::Free);
        assert_eq!(guard.standing(ip("2001:db8:0:1::1"), "x", Time(0)), Standing::Free);
        // Forgotten, not only free.
        assert_eq!(guard.failed(ip("2001:db8::1"), "x", end).delay.as_secs(), 1);
    }

    #[test]
    fn a_user_is_shut_out_from_everywhere_until_it_comes_in() {
        let mut guard = Guard::new(Bounds { failures_max: 2, ..Bounds::default() });
        assert!(!guard.failed(ip("192.0.2.1"), "a", Time(0)).locks_user);
        guard.succeeded("a");
        assert!(!guard.failed(ip("192.0.2.2"), "a", Time(0)).locks_user);
        assert!(guard.failed(ip("192.0.2.3"), "a", Time(0)).locks_user);
        assert_eq!(guard.standing(ip("192.0.2.9"), "a", Time(1)), Standing::UserLocked);
        assert_eq!(guard.standing(ip("192.0.2.9"), "b", Time(1)), Standing::Free);
    }

    #[test]
    fn a_flood_of_keys_stays_within_the_bound_and_pushes_out_the_oldest() {
        let mut guard = Guard::new(Bounds { failures_max: 1, keys_max: 100, ..Bounds::default() });
        for n in 0..1000_u32 {
            guard.failed(IpAddr::V4(n.into()), &format!("user{n}"), Time(u64::from(n)));
        }
        assert_eq!(guard.len(), (100, 100));
        assert_eq!((guard.clients.order.len(), guard.users.order.len()), (100, 100));
        assert_eq!(guard.standing(IpAddr::V4(899.into()), "x", Time(1000)), Standing::Free);
        assert_eq!(guard.standing(IpAddr::V4(900.into()), "x", Time(1000)), Standing::ClientLocked);
    }
}
