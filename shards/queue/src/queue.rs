//! The deliveries of the messages that one shard accepted.
//!
//! ```text
//!            add            due           next           settle: all done
//! (new) ──────────▶ Waiting ────▶ Ready ─────────▶ Out ──────────────────▶ (gone)
//!                      ▲                            │ settle: some deferred
//!                      └────────────────────────────┘
//! ```
//! From Waiting and Ready a delivery that is too old is claimed by [`Queue::sweep`], and is Out until settled.
//!
//! # What leaves first
//!
//! Destinations take turns, each within its window. Within a destination the oldest first attempt and the oldest retry
//! leave in turn: when a site with a million retries is back, new mail for it takes every second place instead of
//! waiting behind them, and the retries keep the other half. [`Queue::tick`] makes a bounded number ready at once,
//! so that a million that are due together do not stop the shard.
//!
//! # What waiting costs
//!
//! | what | bytes |
//! |---|---|
//! | a message | 40 |
//! | each of its deliveries | 32, and 12 more while it waits for its time; ready and out take none beside |
//! | a delivery for 2 to 4 recipients | 32 more |
//! | a delivery for n > 4 recipients | 32 + 2 n more |
//! | a destination | 56, its name, and about 8 in the table of names (up to 20 while that grows) |
//!
//! So a message with one recipient costs 84 bytes. All tables grow by chunks that stay where they are, so this holds at any
//! count and while they grow; chunks that become empty are given back, and others are filled up first.
//! `tests/memory.rs` measures it.
//!
//! Adding, settling and claiming take constant time but for the timers, where it grows with the logarithm of how many
//! wait. Nothing looks at everything at once: [`Queue::sweep`] and [`Queue::look_through`] go by slices.

use crate::line::{Delivery, Lists, Recipients, State};
use crate::outlook::Outlooks;
use crate::slots::Slots;
use crate::timers::Timers;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::num::NonZeroU32;
use core::time::Duration;
use mail::{Indices, MessageId, Time};

/// At least so many orders of one destination are out at once, whatever its limits.
pub const WINDOW_MIN: usize = 16;
/// Timers that go off in one [`Queue::tick`].
pub const TICK_MAX: usize = 1000;

/// Names a delivery within its queue while it exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryKey(pub(crate) u32);

/// One message to one destination, to be added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewDelivery {
    /// The destination's name.
    pub destination: Arc<str>,
    /// Indices of the recipients in the envelope.
    pub recipients: Indices,
    /// Failed attempts so far.
    pub attempts: u16,
    /// When the next attempt is due.
    pub due: Time,
}

/// A delivery whose time has come. `P` is the message's place in the spool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due<P> {
    /// To be given back to [`Queue::settle`].
    pub key: DeliveryKey,
    /// The message.
    pub id: MessageId,
    /// Where it is.
    pub place: P,
    /// Where to.
    pub destination: Arc<str>,
    /// Indices of the recipients in the envelope.
    pub recipients: Indices,
    /// Failed attempts so far.
    pub attempts: u16,
    /// When the message is too old.
    pub expires: Time,
}

/// What settling an attempt came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled<P> {
    /// No recipient of the message waits any more: retire it from this place.
    pub retired: Option<P>,
}

#[derive(Debug)]
pub(crate) struct Message<P> {
    pub(crate) id: MessageId,
    pub(crate) place: P,
    pub(crate) expires: Time,
    deliveries: NonZeroU32,
    /// Deliveries of it that are out.
    pub(crate) out: u32,
}

/// Everything that waits on one shard, by destination and time.
#[derive(Debug)]
pub struct Queue<P> {
    pub(crate) messages: Slots<Message<P>>,
    pub(crate) deliveries: Slots<Delivery>,
    lists: Lists,
    pub(crate) destinations: Outlooks,
    pub(crate) waiting: Timers,
    resting: Timers,
    /// Destinations with something ready and room for an order, in turn.
    turns: VecDeque<u32>,
    window: u32,
    ready: usize,
    out: usize,
    sweep_at: u32,
}

impl<P: Copy> Queue<P> {
    /// An empty queue that lets at most `window` orders (at least [`WINDOW_MIN`]) of a destination be out at once.
    pub fn new(window: usize) -> Queue<P> {
        Queue {
            messages: Slots::default(),
            deliveries: Slots::default(),
            lists: Slots::default(),
            destinations: Outlooks::default(),
            waiting: Timers::default(),
            resting: Timers::default(),
            turns: VecDeque::new(),
            window: u32::try_from(window.max(WINDOW_MIN)).unwrap_or(u32::MAX),
            ready: 0,
            out: 0,
            sweep_at: 0,
        }
    }

    /// Messages in the queue.
    pub fn messages(&self) -> usize {
        self.messages.len()
    }

    /// Deliveries in the queue, in any state.
    pub fn deliveries(&self) -> usize {
        self.deliveries.len()
    }

    /// Deliveries that are ready but not out.
    pub fn ready(&self) -> usize {
        self.ready
    }

    /// Deliveries that are out.
    pub fn out(&self) -> usize {
        self.out
    }

    /// Adds a message with its deliveries (at least one).
    pub fn add(
        &mut self,
        id: MessageId,
        place: P,
        expires: Time,
        deliveries: impl IntoIterator<Item = NewDelivery>,
        now: Time,
    ) {
        let mut deliveries = deliveries.into_iter();
        let first = deliveries.next().expect("a message without deliveries is done, not queued");
        let message =
            self.messages.insert(Message { id, place, expires, deliveries: NonZeroU32::MIN, out: 0 });
        self.add_delivery(message, first, now);
        for new in deliveries {
            let count = &mut self.messages[message].deliveries;
            *count = count.saturating_add(1);
            self.add_delivery(message, new, now);
        }
    }

    fn add_delivery(&mut self, message: u32, new: NewDelivery, now: Time) {
        let NewDelivery { destination, recipients, attempts, due } = new;
        let destination = self.destinations.find_or_add(&destination);
        self.destinations.slots[destination].deliveries += 1;
        let recipients = Recipients::keep(&mut self.lists, recipients);
        let delivery = Delivery { message, destination, attempts, state: State::Out, recipients };
        let key = self.deliveries.insert(delivery);
        if due <= now { self.make_ready(key) } else { self.make_wait(key, due) }
    }

    fn make_wait(&mut self, key: u32, due: Time) {
        let deliveries = &mut self.deliveries;
        self.waiting.push(due, key, |key, position| deliveries[key].state = State::Waiting { position });
    }

    fn make_ready(&mut self, key: u32) {
        let Delivery { destination, attempts, .. } = self.deliveries[key];
        self.destinations.slots[destination].line(attempts).push(&mut self.deliveries, key);
        self.ready += 1;
        self.take_turn(destination);
    }

    /// Takes a delivery from among the timers or out of its line.
    fn withdraw(&mut self, key: u32) {
        let Delivery { destination, attempts, state, .. } = self.deliveries[key];
        match state {
            State::Waiting { position } => {
                let deliveries = &mut self.deliveries;
                self.waiting
                    .remove(position, |key, position| deliveries[key].state = State::Waiting { position });
            }
            State::Ready { before, behind } => {
                let line = self.destinations.slots[destination].line(attempts);
                line.remove(&mut self.deliveries, before, behind);
                self.ready -= 1;
            }
            State::Out => unreachable!("what is out stands nowhere"),
        }
    }

    /// Puts a destination in turn if something of it may leave.
    fn take_turn(&mut self, destination: u32) {
        let outlook = &mut self.destinations.slots[destination];
        if outlook.is_able(self.window) && !outlook.in_turn {
            outlook.in_turn = true;
            self.turns.push_back(destination);
        }
    }

    /// When [`Queue::tick`] has something to do next.
    pub fn next_due(&self) -> Time {
        let first = |timers: &Timers| timers.first().map_or(Time::FAR, |(at, _)| at);
        first(&self.waiting).min(first(&self.resting))
    }

    /// Makes ready what is due, and ends the rests that are over: at most [`TICK_MAX`] of each, so that
    /// [`Queue::next_due`] may be in the past afterwards.
    pub fn tick(&mut self, now: Time) {
        for _ in 0..TICK_MAX {
            let Some((_, destination)) = self.resting.first().filter(|(at, _)| *at <= now) else { break };
            self.end_rest(destination);
            self.take_turn(destination);
        }
        for _ in 0..TICK_MAX {
            let Some((_, key)) = self.waiting.first().filter(|(at, _)| *at <= now) else { break };
            self.withdraw(key);
            self.make_ready(key);
        }
    }

    fn end_rest(&mut self, destination: u32) {
        let outlooks = &mut self.destinations.slots;
        if let Some(position) = outlooks[destination].rest.take() {
            self.resting.remove(position, |key, position| outlooks[key].rest = Some(position));
        }
    }

    /// The next delivery to be sent on its way, destinations taking turns.
    pub fn take(&mut self) -> Option<Due<P>> {
        loop {
            let destination = self.turns.pop_front()?;
            let outlook = &mut self.destinations.slots[destination];
            outlook.in_turn = false;
            let next = if outlook.is_able(self.window) { outlook.next() } else { None };
            let Some(key) = next else {
                self.forget_if_unused(destination);
                continue;
            };
            self.set_out(key);
            self.take_turn(destination);
            return Some(self.describe(key));
        }
    }

    fn set_out(&mut self, key: u32) {
        self.withdraw(key);
        let delivery = &mut self.deliveries[key];
        delivery.state = State::Out;
        self.messages[delivery.message].out += 1;
        self.destinations.slots[delivery.destination].out += 1;
        self.out += 1;
    }

    fn describe(&self, key: u32) -> Due<P> {
        let delivery = &self.deliveries[key];
        let message = &self.messages[delivery.message];
        Due {
            key: DeliveryKey(key),
            id: message.id,
            place: message.place,
            destination: self.destinations.slots[delivery.destination].name.clone(),
            recipients: delivery.recipients.indices(&self.lists),
            attempts: delivery.attempts,
            expires: message.expires,
        }
    }

    /// Ends the attempt of a delivery that is out. `deferred` recipients wait until `again`; none: it is done.
    pub fn settle(&mut self, key: DeliveryKey, deferred: Indices, again: Time) -> Settled<P> {
        let DeliveryKey(key) = key;
        let delivery = &mut self.deliveries[key];
        assert!(delivery.state == State::Out, "only what is out is settled");
        let destination = delivery.destination;
        delivery.recipients.forget(&mut self.lists);
        self.out -= 1;
        self.messages[delivery.message].out -= 1;
        self.destinations.slots[destination].out -= 1;
        if deferred.is_empty() {
            return self.remove(key);
        }
        delivery.recipients = Recipients::keep(&mut self.lists, deferred);
        delivery.attempts = delivery.attempts.saturating_add(1);
        self.make_wait(key, again);
        self.take_turn(destination);
        Settled { retired: None }
    }

    fn remove(&mut self, key: u32) -> Settled<P> {
        let Delivery { message, destination, .. } = self.deliveries.remove(key);
        self.destinations.slots[destination].deliveries -= 1;
        self.take_turn(destination);
        self.forget_if_unused(destination);
        let count = &mut self.messages[message].deliveries;
        match NonZeroU32::new(count.get() - 1) {
            Some(left) => *count = left,
            None => return Settled { retired: Some(self.messages.remove(message).place) },
        }
        Settled { retired: None }
    }

    fn forget_if_unused(&mut self, destination: u32) {
        let outlook = &self.destinations.slots[destination];
        if outlook.deliveries == 0 && !outlook.in_turn {
            self.end_rest(destination);
            self.destinations.remove(destination);
        }
    }

    /// Lets a destination rest until `until`: nothing of it leaves before, though its deliveries stay ready.
    pub fn rest(&mut self, destination: &str, until: Time) {
        if let Some(key) = self.destinations.find(destination) {
            self.end_rest(key);
            let outlooks = &mut self.destinations.slots;
            self.resting.push(until, key, |key, position| outlooks[key].rest = Some(position));
        }
    }

    /// Whether a destination has more ready than its window lets out.
    pub fn is_backed_up(&self, destination: &str) -> bool {
        self.destinations.find(destination).is_some_and(|key| self.destinations.slots[key].has_ready())
    }

    /// Looks at the next `budget` deliveries in turn and claims those that wait or are ready but too old, at most
    /// `claims_max`: they are out afterwards, and the caller settles them.
    pub fn sweep(&mut self, now: Time, budget: usize, claims_max: usize) -> Vec<Due<P>> {
        let mut claimed = Vec::new();
        for _ in 0..budget.min(self.deliveries.held()) {
            let next = self.deliveries.next_held(self.sweep_at).or_else(|| self.deliveries.next_held(0));
            let Some(key) = next.filter(|_| claimed.len() < claims_max) else { break };
            self.sweep_at = key + 1;
            if self.is_overdue(key, now) {
                self.set_out(key);
                claimed.push(self.describe(key));
            }
        }
        claimed
    }

    fn is_overdue(&self, key: u32, now: Time) -> bool {
        self.deliveries.get(key).is_some_and(|delivery| {
            delivery.state != State::Out && self.messages[delivery.message].expires <= now
        })
    }

    /// How many deliveries [`Queue::sweep`] must look at within `passed` so that each is seen once in `period`.
    pub fn sweep_budget(&self, passed: Duration, period: Duration) -> usize {
        let all = self.deliveries.held() as u128;
        let share = all * passed.as_nanos() / period.as_nanos().max(1) + 1;
        usize::try_from(share.min(all)).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests;
