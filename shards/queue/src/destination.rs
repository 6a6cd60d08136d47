//! A destination as its owner sees it: the orders at hand, the connections open, and who else may open some.

use alloc::collections::{BTreeMap, VecDeque};

/// On whose leave connections are opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowance {
    /// We own the destination: so many connections in all, over all shards.
    Owned(usize),
    /// The owner lent us so many.
    Leased(Lent),
}

/// What a shard that asked for a lease holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lent {
    /// Connections that it may open; none: not yet.
    pub connections: usize,
    /// Rises with each grant, so that a return which crossed a new grant is told apart.
    pub epoch: u32,
}

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Being opened: has taken no order yet.
    Starting,
    /// At work on an order.
    Busy,
    /// Open without an order.
    Idle,
}

/// Orders and connections of one destination. `O` is an order.
///
/// Invariant: the connections here and those lent to other shards never exceed what is owned.
#[derive(Debug)]
pub struct Destination<O> {
    ready: VecDeque<O>,
    allowance: Allowance,
    /// What each shard that asked for a lease holds; its share is kept free for it even while it holds less.
    lent: BTreeMap<usize, Lent>,
    epoch: u32,
    share: usize,
    starting: usize,
    busy: usize,
    idle: usize,
}

impl<O> Destination<O> {
    /// A destination without orders and connections, to be shared evenly by `shards` shards when it is spread.
    pub fn new(allowance: Allowance, shards: usize) -> Destination<O> {
        let share = match allowance {
            Allowance::Owned(all) => all / shards,
            Allowance::Leased(_) => 0,
        };
        Destination {
            ready: VecDeque::new(),
            allowance,
            lent: BTreeMap::new(),
            epoch: 0,
            share,
            starting: 0,
            busy: 0,
            idle: 0,
        }
    }

    /// Takes an order.
    pub fn push(&mut self, order: O) {
        self.ready.push_back(order);
    }

    /// Takes an order back that was popped.
    pub fn put_back(&mut self, order: O) {
        self.ready.push_front(order);
    }

    /// The oldest order.
    pub fn pop(&mut self) -> Option<O> {
        self.ready.pop_front()
    }

    /// The oldest order, to follow another on a connection that is at work: only if it `may`, and only while at least
    /// as many wait as connections are open, so that none of them is about to take it.
    pub fn pop_surplus(&mut self, may: impl FnOnce(&O) -> bool) -> Option<O> {
        let is_surplus = self.ready.len() >= self.open() && self.ready.front().is_some_and(may);
        is_surplus.then(|| self.pop()).flatten()
    }

    /// Takes all orders that `matches`, in order.
    pub fn take_where(&mut self, mut matches: impl FnMut(&O) -> bool) -> VecDeque<O> {
        let (taken, kept) = core::mem::take(&mut self.ready).into_iter().partition(|order| matches(order));
        self.ready = kept;
        taken
    }

    /// Orders that no connection has taken.
    pub fn ready(&self) -> usize {
        self.ready.len()
    }

    /// Connections in any phase.
    pub fn open(&self) -> usize {
        self.starting + self.busy + self.idle
    }

    /// Connections past their start.
    pub fn serving(&self) -> usize {
        self.busy + self.idle
    }

    /// How many connections may be open here just now.
    pub fn connections_max(&self) -> usize {
        match self.allowance {
            Allowance::Owned(all) => all - self.lent.len() * self.share,
            Allowance::Leased(lent) => lent.connections,
        }
    }

    /// The leave under which this shard works.
    pub fn allowance(&self) -> Allowance {
        self.allowance
    }

    /// Changes a lease; connections above it close when their transaction ends.
    pub fn set_lease(&mut self, lent: Lent) {
        self.allowance = Allowance::Leased(lent);
    }

    /// Counts a starting connection in, if one more is wanted and allowed: none is idle, more orders are at hand
    /// than connections are starting for them, and the limit holds.
    pub fn try_open(&mut self) -> bool {
        let wanted = self.idle == 0 && self.ready.len() > self.starting;
        let opens = wanted && self.open() < self.connections_max();
        self.starting += usize::from(opens);
        opens
    }

    /// Moves a connection from one phase to the next; `None` counts it out.
    pub fn shift(&mut self, from: Phase, to: Option<Phase>) {
        let count = self.count(from);
        assert!(*count > 0, "no connection is in the phase {from:?}");
        *count -= 1;
        if let Some(to) = to {
            *self.count(to) += 1;
        }
    }

    fn count(&mut self, phase: Phase) -> &mut usize {
        match phase {
            Phase::Starting => &mut self.starting,
            Phase::Busy => &mut self.busy,
            Phase::Idle => &mut self.idle,
        }
    }

    /// Whether a connection that has just ended a transaction must close, so that others get their share.
    pub fn is_over_limit(&self) -> bool {
        self.open() > self.connections_max()
    }

    /// Lends connections to another shard: its even share, or as much of it as is free now; it may ask again for
    /// the rest. Nothing, for good, when there are fewer connections than shards, or we do not own this.
    pub fn lend(&mut self, shard: usize) -> Lent {
        let Allowance::Owned(all) = self.allowance else { return Lent::default() };
        if self.share == 0 {
            return Lent::default();
        }
        let held = self.lent.get(&shard).map_or(0, |lent| lent.connections);
        let taken = self.open() + self.lent.values().map(|lent| lent.connections).sum::<usize>();
        let connections = self.share.min(held + all.saturating_sub(taken));
        self.epoch += u32::from(connections > 0);
        let lent = Lent { connections, epoch: self.epoch };
        self.lent.insert(shard, lent);
        lent
    }

    /// A shard gives a lease back; it has no connection open any more. One that has since been granted anew stays.
    pub fn returned(&mut self, shard: usize, epoch: u32) {
        if self.lent.get(&shard).is_some_and(|lent| lent.epoch == epoch) {
            self.lent.remove(&shard);
        }
    }

    /// Keeps nothing free any longer for shards that asked and got nothing; those that still want will ask again.
    pub fn forget_unserved(&mut self) {
        self.lent.retain(|_, lent| lent.connections > 0);
    }

    /// Whether nothing is left to remember.
    pub fn is_unused(&self) -> bool {
        self.ready.is_empty() && self.open() == 0 && self.lent.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(all: usize, orders: usize) -> Destination<usize> {
        let mut destination = Destination::new(Allowance::Owned(all), 2);
        (0..orders).for_each(|order| destination.push(order));
        destination
    }

    #[test]
    fn one_connection_starts_per_order_up_to_the_limit() {
        let mut few = owned(5, 2);
        assert_eq!((0..9).filter(|_| few.try_open()).count(), 2);
        let mut many = owned(5, 100);
        assert_eq!((0..9).filter(|_| many.try_open()).count(), 5);
    }

    #[test]
    fn an_idle_connection_is_used_before_a_new_one_is_opened() {
        let mut destination = owned(5, 1);
        assert!(destination.try_open());
        destination.shift(Phase::Starting, Some(Phase::Idle));
        assert!(!destination.try_open());
        destination.shift(Phase::Idle, Some(Phase::Busy));
        assert!(destination.try_open());
    }

    #[test]
    fn what_is_lent_and_what_is_open_never_exceed_the_limit() {
        let mut destination = owned(10, 100);
        while destination.try_open() {}
        assert_eq!(destination.open(), 10);
        assert_eq!(destination.lend(1).connections, 0, "nothing is free yet");
        assert!(destination.is_over_limit());
        destination.shift(Phase::Starting, None);
        destination.shift(Phase::Starting, None);
        let first = destination.lend(1);
        assert_eq!(first.connections, 2);
        for _ in 0..3 {
            destination.shift(Phase::Starting, None);
        }
        assert!(!destination.try_open(), "the share of the other shard is kept free");
        let second = destination.lend(1);
        assert_eq!((second.connections, destination.open()), (5, 5));
        destination.returned(1, first.epoch);
        assert!(!destination.try_open(), "a return that crossed a new grant changes nothing");
        destination.returned(1, second.epoch);
        assert!(destination.try_open());
    }

    #[test]
    fn who_asked_in_vain_is_forgotten() {
        let mut destination = owned(10, 100);
        while destination.try_open() {}
        destination.lend(1);
        assert!(destination.is_over_limit());
        destination.forget_unserved();
        assert!(!destination.is_over_limit());
    }

    #[test]
    fn a_limit_below_the_number_of_shards_is_never_spread() {
        let mut destination = owned(1, 10);
        assert_eq!(destination.lend(1).connections, 0);
        assert!(destination.try_open() && !destination.is_over_limit());
    }

    #[test]
    fn only_an_order_that_no_connection_is_about_to_take_follows_another() {
        let mut destination = owned(2, 4);
        while destination.try_open() {}
        assert_eq!(destination.pop_surplus(|order| *order > 0), None, "the oldest may not");
        let popped = [(); 4].map(|()| destination.pop_surplus(|_| true));
        assert_eq!(popped, [Some(0), Some(1), Some(2), None]);
    }

    #[test]
    fn orders_leave_in_order() {
        let mut destination = owned(1, 6);
        assert_eq!(destination.take_where(|order| order % 2 == 0), [0, 2, 4]);
        assert_eq!((destination.pop(), destination.ready()), (Some(1), 2));
    }
}
