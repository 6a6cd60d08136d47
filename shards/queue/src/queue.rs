//! The deliveries of the messages that one shard accepted.
//!
//! ```text
//!            add            due           next           settle: all done
//! (new) ──────────▶ Waiting ────▶ Ready ─────────▶ Out ──────────────────▶ (gone)
//!                      ▲                            │ settle: some deferred
//!                      └────────────────────────────┘
//! ```
//! From Waiting and Ready a delivery that is too old is claimed by [`Queue::sweep`], and is Out until settled.

use alloc::collections::{BinaryHeap, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cmp::Reverse;
use core::hash::BuildHasherDefault;
use core::time::Duration;
use hashbrown::HashMap;
use mail::{Indices, MessageId, Time};
use slab::Slab;

/// At least so many orders of one destination are out at once, whatever its limits.
pub const WINDOW_MIN: usize = 16;

/// Names a delivery within its queue while it exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryKey(u32);

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
struct Message<P> {
    id: MessageId,
    place: P,
    expires: Time,
    deliveries: u32,
}

#[derive(Debug)]
enum State {
    Waiting(Time),
    Ready,
    Out,
}

#[derive(Debug)]
struct Delivery {
    message: u32,
    destination: u32,
    attempts: u16,
    state: State,
    recipients: Indices,
}

#[derive(Debug)]
struct Outlook {
    name: Arc<str>,
    ready: VecDeque<u32>,
    out: usize,
    deliveries: usize,
    rests_until: Time,
    /// It stands in `turns`.
    in_turn: bool,
}

/// Everything that waits on one shard, by destination and time.
#[derive(Debug)]
pub struct Queue<P> {
    messages: Slab<Message<P>>,
    deliveries: Slab<Delivery>,
    destinations: Slab<Outlook>,
    names: HashMap<Arc<str>, u32, BuildHasherDefault<NameHasher>>,
    waiting: BinaryHeap<Reverse<(Time, u32)>>,
    resting: BinaryHeap<Reverse<(Time, u32)>>,
    /// Destinations with something ready and room for an order, in turn.
    turns: VecDeque<u32>,
    window: usize,
    ready: usize,
    out: usize,
    sweep_at: u32,
}

impl<P: Copy> Queue<P> {
    /// An empty queue that lets at most `window` orders (at least [`WINDOW_MIN`]) of a destination be out at once.
    pub fn new(window: usize) -> Queue<P> {
        Queue {
            messages: Slab::new(),
            deliveries: Slab::new(),
            destinations: Slab::new(),
            names: HashMap::default(),
            waiting: BinaryHeap::new(),
            resting: BinaryHeap::new(),
            turns: VecDeque::new(),
            window: window.max(WINDOW_MIN),
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
        let message = self.messages.insert(Message { id, place, expires, deliveries: 0 });
        for new in deliveries {
            self.messages[message].deliveries += 1;
            self.add_delivery(message as u32, new, now);
        }
        assert!(self.messages[message].deliveries > 0, "a message without deliveries is done, not queued");
    }

    fn add_delivery(&mut self, message: u32, new: NewDelivery, now: Time) {
        let destination = self.destination(&new.destination);
        self.destinations[destination as usize].deliveries += 1;
        let NewDelivery { recipients, attempts, due, .. } = new;
        let delivery = Delivery { message, destination, attempts, state: State::Waiting(due), recipients };
        let key = self.deliveries.insert(delivery) as u32;
        if due <= now { self.make_ready(key) } else { self.waiting.push(Reverse((due, key))) }
    }

    fn destination(&mut self, name: &Arc<str>) -> u32 {
        if let Some(known) = self.names.get(name) {
            return *known;
        }
        let outlook = Outlook {
            name: name.clone(),
            ready: VecDeque::new(),
            out: 0,
            deliveries: 0,
            rests_until: Time(0),
            in_turn: false,
        };
        let index = self.destinations.insert(outlook) as u32;
        self.names.insert(name.clone(), index);
        index
    }

    fn make_ready(&mut self, key: u32) {
        let delivery = &mut self.deliveries[key as usize];
        delivery.state = State::Ready;
        let destination = delivery.destination;
        self.destinations[destination as usize].ready.push_back(key);
        self.ready += 1;
        self.take_turn(destination);
    }

    /// Puts a destination in turn if it has something ready, room in its window, and does not rest.
    fn take_turn(&mut self, destination: u32) {
        let outlook = &mut self.destinations[destination as usize];
        let able = !outlook.ready.is_empty() && outlook.out < self.window && outlook.rests_until == Time(0);
        if able && !outlook.in_turn {
            outlook.in_turn = true;
            self.turns.push_back(destination);
        }
    }

    /// When [`Queue::tick`] has something to do next.
    pub fn next_due(&self) -> Time {
        let first =
            |heap: &BinaryHeap<Reverse<(Time, u32)>>| heap.peek().map_or(Time::FAR, |Reverse((at, _))| *at);
        first(&self.waiting).min(first(&self.resting))
    }

    /// Makes ready what is due, and ends the rests that are over.
    pub fn tick(&mut self, now: Time) {
        while let Some(Reverse((at, destination))) =
            self.resting.peek().copied().filter(|Reverse((at, _))| *at <= now)
        {
            self.resting.pop();
            if let Some(outlook) = self.destinations.get_mut(destination as usize)
                && outlook.rests_until == at
            {
                outlook.rests_until = Time(0);
                self.take_turn(destination);
            }
        }
        while let Some(Reverse((at, key))) =
            self.waiting.peek().copied().filter(|Reverse((at, _))| *at <= now)
        {
            self.waiting.pop();
            // An entry is stale when its delivery was claimed meanwhile, or its slot holds another one.
            if let Some(Delivery { state: State::Waiting(due), .. }) = self.deliveries.get(key as usize)
                && *due == at
            {
                self.make_ready(key);
            }
        }
    }

    /// The next delivery to be sent on its way, destinations taking turns.
    pub fn take(&mut self) -> Option<Due<P>> {
        loop {
            let destination = self.turns.pop_front()?;
            let outlook = &mut self.destinations[destination as usize];
            outlook.in_turn = false;
            if outlook.rests_until != Time(0) || outlook.out >= self.window {
                continue;
            }
            let Some(key) = self.pop_ready(destination) else {
                self.forget_if_unused(destination);
                continue;
            };
            self.set_out(key);
            self.take_turn(destination);
            return Some(self.describe(key));
        }
    }

    /// The oldest ready delivery of a destination; entries that were claimed meanwhile are passed over.
    fn pop_ready(&mut self, destination: u32) -> Option<u32> {
        while let Some(key) = self.destinations[destination as usize].ready.pop_front() {
            let delivery = self.deliveries.get(key as usize);
            if delivery.is_some_and(|d| matches!(d.state, State::Ready) && d.destination == destination) {
                return Some(key);
            }
        }
        None
    }

    fn set_out(&mut self, key: u32) {
        let delivery = &mut self.deliveries[key as usize];
        if matches!(delivery.state, State::Ready) {
            self.ready -= 1;
        }
        delivery.state = State::Out;
        self.destinations[delivery.destination as usize].out += 1;
        self.out += 1;
    }

    fn describe(&self, key: u32) -> Due<P> {
        let delivery = &self.deliveries[key as usize];
        let message = &self.messages[delivery.message as usize];
        Due {
            key: DeliveryKey(key),
            id: message.id,
            place: message.place,
            destination: self.destinations[delivery.destination as usize].name.clone(),
            recipients: delivery.recipients.clone(),
            attempts: delivery.attempts,
            expires: message.expires,
        }
    }

    /// Ends the attempt of a delivery that is out. `deferred` recipients wait until `again`; none: it is done.
    pub fn settle(&mut self, key: DeliveryKey, deferred: Indices, again: Time) -> Settled<P> {
        let DeliveryKey(index) = key;
        let delivery = &mut self.deliveries[index as usize];
        assert!(matches!(delivery.state, State::Out), "only what is out is settled");
        let destination = delivery.destination;
        self.out -= 1;
        self.destinations[destination as usize].out -= 1;
        let settled = if deferred.is_empty() {
            self.remove(index)
        } else {
            delivery.recipients = deferred;
            delivery.attempts = delivery.attempts.saturating_add(1);
            delivery.state = State::Waiting(again);
            self.waiting.push(Reverse((again, index)));
            Settled { retired: None }
        };
        if self.destinations.contains(destination as usize) {
            self.take_turn(destination);
        }
        settled
    }

    fn remove(&mut self, key: u32) -> Settled<P> {
        let delivery = self.deliveries.remove(key as usize);
        self.destinations[delivery.destination as usize].deliveries -= 1;
        self.forget_if_unused(delivery.destination);
        let message = &mut self.messages[delivery.message as usize];
        message.deliveries -= 1;
        let done = message.deliveries == 0;
        Settled { retired: done.then(|| self.messages.remove(delivery.message as usize).place) }
    }

    fn forget_if_unused(&mut self, destination: u32) {
        let outlook = &self.destinations[destination as usize];
        if outlook.deliveries == 0 && !outlook.in_turn {
            let outlook = self.destinations.remove(destination as usize);
            self.names.remove(&outlook.name);
        }
    }

    /// Lets a destination rest until `until`: nothing of it leaves before, though its deliveries stay ready.
    pub fn rest(&mut self, destination: &str, until: Time) {
        if let Some(index) = self.names.get(destination).copied() {
            self.destinations[index as usize].rests_until = until;
            self.resting.push(Reverse((until, index)));
        }
    }

    /// Whether a destination has more ready than its window lets out.
    pub fn is_backed_up(&self, destination: &str) -> bool {
        self.names.get(destination).is_some_and(|index| !self.destinations[*index as usize].ready.is_empty())
    }

    /// Looks at the next `budget` deliveries in turn and claims those that wait or are ready but too old, at most
    /// `claims_max`: they are out afterwards, and the caller settles them.
    pub fn sweep(&mut self, now: Time, budget: usize, claims_max: usize) -> Vec<Due<P>> {
        let mut claimed = Vec::new();
        let end = self.deliveries.capacity() as u32;
        for _ in 0..budget.min(end as usize) {
            if claimed.len() == claims_max {
                break;
            }
            self.sweep_at = if self.sweep_at + 1 >= end { 0 } else { self.sweep_at + 1 };
            if self.is_overdue(self.sweep_at, now) {
                self.set_out(self.sweep_at);
                claimed.push(self.describe(self.sweep_at));
            }
        }
        claimed
    }

    fn is_overdue(&self, key: u32, now: Time) -> bool {
        self.deliveries.get(key as usize).is_some_and(|delivery| {
            !matches!(delivery.state, State::Out) && self.messages[delivery.message as usize].expires <= now
        })
    }

    /// How many deliveries [`Queue::sweep`] must look at within `passed` so that each is seen once in `period`.
    pub fn sweep_budget(&self, passed: Duration, period: Duration) -> usize {
        let all = self.deliveries.capacity() as u128;
        let share = all * passed.as_nanos() / period.as_nanos().max(1) + 1;
        usize::try_from(share.min(all)).unwrap_or(usize::MAX)
    }
}

/// FNV-1a with a final mix: the same in every run, so that a simulation can be repeated.
#[derive(Debug)]
pub struct NameHasher(u64);

impl Default for NameHasher {
    fn default() -> NameHasher {
        NameHasher(0xcbf2_9ce4_8422_2325)
    }
}

impl core::hash::Hasher for NameHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        let folded = (self.0 ^ (self.0 >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        folded ^ (folded >> 29)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn one(destination: &str, due: u64) -> Vec<NewDelivery> {
        alloc::vec![NewDelivery {
            destination: Arc::from(destination),
            recipients: [0].into_iter().collect(),
            attempts: 0,
            due: Time(due)
        }]
    }

    fn add(queue: &mut Queue<u32>, id: u64, destination: &str) {
        queue.add(MessageId(id), id as u32, Time(100 * SECOND), one(destination, 0), Time(0));
    }

    fn drain(queue: &mut Queue<u32>) -> Vec<Due<u32>> {
        core::iter::from_fn(|| queue.take()).collect()
    }

    #[test]
    fn destinations_take_turns_within_their_windows() {
        let mut queue = Queue::new(0);
        (0..100).for_each(|id| add(&mut queue, id, "slow"));
        (100..103).for_each(|id| add(&mut queue, id, "quick"));
        let out = drain(&mut queue);
        assert_eq!(out.len(), WINDOW_MIN + 3);
        assert!(out[..6].iter().filter(|due| &*due.destination == "quick").count() == 3);
        assert!(queue.is_backed_up("slow") && !queue.is_backed_up("quick"));
        let settled = queue.settle(out[0].key, Indices::new(), Time(0));
        assert_eq!(settled.retired, Some(out[0].place));
        assert_eq!(drain(&mut queue).len(), 1, "one settled, one more may leave");
    }

    #[test]
    fn deferred_recipients_come_back_when_due_and_only_they() {
        let mut queue = Queue::new(0);
        let both = NewDelivery { recipients: [0, 1].into_iter().collect(), ..one("a", 0).remove(0) };
        queue.add(MessageId(1), 1, Time(100 * SECOND), alloc::vec![both], Time(0));
        let due = queue.take().expect("ready");
        assert_eq!(queue.settle(due.key, [1].into_iter().collect(), Time(5 * SECOND)).retired, None);
        assert_eq!((queue.take(), queue.next_due()), (None, Time(5 * SECOND)));
        queue.tick(Time(5 * SECOND - 1));
        assert_eq!(queue.take(), None);
        queue.tick(Time(5 * SECOND));
        let again = queue.take().expect("due");
        assert_eq!((&*again.recipients, again.attempts), (&[1u16][..], 1));
        assert_eq!(queue.settle(again.key, Indices::new(), Time(0)).retired, Some(1));
        assert_eq!(
            (queue.messages(), queue.deliveries(), queue.out(), queue.next_due()),
            (0, 0, 0, Time::FAR)
        );
    }

    #[test]
    fn a_message_is_retired_with_its_last_delivery() {
        let mut queue = Queue::new(0);
        let deliveries = ["a", "b", "c"].iter().flat_map(|name| one(name, 0));
        queue.add(MessageId(1), 7, Time(100 * SECOND), deliveries, Time(0));
        let out = drain(&mut queue);
        let retired: Vec<_> =
            out.iter().map(|due| queue.settle(due.key, Indices::new(), Time(0)).retired).collect();
        assert_eq!(retired, [None, None, Some(7)]);
    }

    #[test]
    fn a_resting_destination_keeps_its_deliveries_ready() {
        let mut queue = Queue::new(0);
        add(&mut queue, 1, "a");
        queue.rest("a", Time(3 * SECOND));
        assert_eq!((queue.take(), queue.ready(), queue.next_due()), (None, 1, Time(3 * SECOND)));
        queue.rest("a", Time(4 * SECOND));
        queue.tick(Time(3 * SECOND));
        assert_eq!(queue.take(), None, "the later rest holds");
        queue.tick(Time(4 * SECOND));
        assert!(queue.take().is_some());
    }

    #[test]
    fn age_is_seen_in_every_state_but_out() {
        let mut queue = Queue::new(0);
        (0..20).for_each(|id| add(&mut queue, id, "ready"));
        queue.add(MessageId(50), 50, Time(100 * SECOND), one("later", 99 * SECOND), Time(0));
        let out = drain(&mut queue);
        assert!(queue.sweep(Time(99 * SECOND), 1000, 1000).is_empty());
        let old = queue.sweep(Time(100 * SECOND), 1000, 1000);
        assert_eq!(old.len(), 21 - out.len());
        for due in old.iter().chain(&out) {
            queue.settle(due.key, Indices::new(), Time(0));
        }
        assert_eq!((queue.messages(), queue.ready(), queue.out()), (0, 0, 0));
        queue.tick(Time(1000 * SECOND));
        assert_eq!(queue.take(), None, "stale timers make nothing ready");
    }

    #[test]
    fn a_sweep_sees_everything_once_per_period() {
        let mut queue = Queue::new(0);
        (0..1000).for_each(|id| add(&mut queue, id, "a"));
        let (tick, period) = (Duration::from_secs(1), Duration::from_secs(60));
        let seen: usize = (0..=60)
            .map(|_| {
                let budget = queue.sweep_budget(tick, period);
                queue.sweep(Time(100 * SECOND), budget, 1000).len()
            })
            .sum();
        assert_eq!(seen, 1000);
    }

    #[test]
    fn waiting_costs_little_memory() {
        // A delivery includes the indices of up to four recipients: nothing else is allocated for it.
        assert!(size_of::<Message<[u32; 4]>>() <= 48 && size_of::<Delivery>() <= 56);
    }
}
