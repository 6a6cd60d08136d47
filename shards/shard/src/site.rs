//! A destination at work: its orders, its connections, and the way there.

use crate::message::{Answerer, Done, Lease, Order, ShardMessage};
use crate::plan;
use crate::shard::Shard;
use crate::signal::Signal;
use crate::ways::Way;
use host::Host;
use mail::{Outcome, Reply, Time};
use queue::{Allowance, Destination, Lent, Phase};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// A destination is remembered at least so long, so that a lease is not given back before an order could use it.
const UNUSED_MIN: Duration = Duration::from_secs(1);

/// One destination that this shard owns or holds a lease on.
pub struct Site<H: Host> {
    /// Its name, which says how to reach it.
    pub name: Arc<str>,
    destination: RefCell<Destination<Held<H>>>,
    /// Connections that wait for an order; the one that waited least is used first.
    idle: RefCell<Vec<Rc<Idle<H>>>>,
    way: RefCell<Way>,
    /// No new connection before this.
    opens_at: Cell<Time>,
    made: Time,
    /// A next hop did not answer commands that came right behind a content; it is not sent any again.
    pub follows_not: Cell<bool>,
    /// It stands in the queue of those that wait for room to open a connection.
    pub crowded: Cell<bool>,
}

/// A connection's wait for an order.
pub struct Idle<H: Host> {
    since: Time,
    call: RefCell<Option<Call<H>>>,
    called: Signal,
}

/// What ends the wait.
pub enum Call<H: Host> {
    /// Deliver this.
    Deliver(Held<H>),
    /// Nothing came for too long, or the shard drains.
    Close,
}

impl<H: Host> Idle<H> {
    /// Waits for the call.
    pub async fn wait(&self) -> Call<H> {
        loop {
            if let Some(call) = self.call.take() {
                return call;
            }
            self.called.wait().await;
        }
    }

    fn call(&self, call: Call<H>) {
        self.call.replace(Some(call));
        self.called.raise();
    }
}

/// An order in this shard's hands. Dropped without an outcome (a panic, a bug), it is deferred: never lost.
pub struct Held<H: Host> {
    order: Option<Box<Order>>,
    shard: Rc<Shard<H>>,
    begun: Option<Time>,
}

impl<H: Host> Held<H> {
    /// Takes an order into hand.
    pub fn new(shard: Rc<Shard<H>>, order: Box<Order>) -> Held<H> {
        Held { order: Some(order), shard, begun: None }
    }

    /// The order.
    pub fn order(&self) -> &Order {
        self.order.as_ref().expect("only `finish` takes it, and consumes the holder")
    }

    /// A connection begins to work on it.
    pub fn begin(&mut self) {
        self.begun = Some(self.shard.host.now());
    }

    /// Sends the outcome, one per recipient, to the shard that accepted the message.
    pub fn finish(mut self, outcomes: Vec<Outcome>, next_hop: Option<Answerer>, rest: Option<Time>) {
        self.send(outcomes, next_hop, rest);
    }

    /// The same outcome for all recipients.
    pub fn finish_all(self, outcome: Outcome, next_hop: Option<Answerer>, rest: Option<Time>) {
        let outcomes = vec![outcome; self.order().recipients.len()];
        self.finish(outcomes, next_hop, rest);
    }

    fn send(&mut self, outcomes: Vec<Outcome>, next_hop: Option<Answerer>, rest: Option<Time>) {
        let Some(order) = self.order.take() else { return };
        assert!(outcomes.len() <= order.recipients.len(), "no more than one outcome per recipient");
        let begun = self.begun.unwrap_or_else(|| self.shard.host.now());
        let (origin, done) = (order.origin, Done { order, outcomes, next_hop, begun, rest });
        if origin == self.shard.number {
            self.shard.settle(done);
        } else {
            self.shard.router.send(origin, ShardMessage::Done(Box::new(done)), &self.shard.metrics);
        }
    }
}

impl<H: Host> Drop for Held<H> {
    fn drop(&mut self) {
        if let Some(order) = &self.order {
            let reply = Reply::new(451, (4, 3, 0), "internal error during the attempt");
            let outcomes = vec![Outcome::Deferred(reply); order.recipients.len()];
            self.send(outcomes, None, None);
        }
    }
}

/// A connection's place in the count; gives it back however the connection ends.
pub struct Permit<H: Host> {
    shard: Rc<Shard<H>>,
    site: Rc<Site<H>>,
    phase: Phase,
}

impl<H: Host> Permit<H> {
    /// The place that [`Site::try_open`] counted in.
    pub fn starting(shard: Rc<Shard<H>>, site: Rc<Site<H>>) -> Permit<H> {
        shard.connections_out.set(shard.connections_out.get() + 1);
        Permit { shard, site, phase: Phase::Starting }
    }

    /// The call that ended an idle wait has moved it on already.
    pub fn called(&mut self) {
        self.phase = Phase::Busy;
    }

    /// Moves on to another phase.
    pub fn shift(&mut self, to: Phase) {
        if self.phase != to {
            self.site.destination.borrow_mut().shift(self.phase, Some(to));
            self.phase = to;
        }
    }
}

impl<H: Host> Drop for Permit<H> {
    fn drop(&mut self) {
        self.site.destination.borrow_mut().shift(self.phase, None);
        self.shard.connections_out.set(self.shard.connections_out.get() - 1);
        self.shard.freed.borrow_mut().push(self.site.clone());
        self.shard.freeing.raise();
    }
}

impl<H: Host> Site<H> {
    /// A destination without orders.
    pub fn new(name: Arc<str>, allowance: Allowance, shards: usize, way: Way, now: Time) -> Site<H> {
        Site {
            name,
            destination: RefCell::new(Destination::new(allowance, shards)),
            idle: RefCell::default(),
            way: RefCell::new(way),
            opens_at: Cell::new(Time(0)),
            made: now,
            follows_not: Cell::new(false),
            crowded: Cell::new(false),
        }
    }

    /// Hands an order to a waiting connection, or keeps it for the next one.
    pub fn push(&self, held: Held<H>) {
        match self.pop_idle() {
            Some(idle) => idle.call(Call::Deliver(held)),
            None => self.destination.borrow_mut().push(held),
        }
    }

    /// Takes an order back that a connection could not begin: it is the next one.
    pub fn put_back(&self, held: Held<H>) {
        match self.pop_idle() {
            Some(idle) => idle.call(Call::Deliver(held)),
            None => self.destination.borrow_mut().put_back(held),
        }
    }

    /// The oldest order at hand.
    pub fn pop(&self) -> Option<Held<H>> {
        self.destination.borrow_mut().pop()
    }

    /// The order whose commands may leave behind the content of another. Its content is in memory, so that it can
    /// leave as soon as the next hop asks for it.
    pub fn pop_follower(&self) -> Option<Held<H>> {
        if self.follows_not.get() {
            return None;
        }
        self.destination.borrow_mut().pop_surplus(|held| held.order().content.is_some())
    }

    /// Begins to wait for an order. The permit must be idle before.
    pub fn wait_idle(&self, now: Time) -> Rc<Idle<H>> {
        let idle = Rc::new(Idle { since: now, call: RefCell::new(None), called: Signal::default() });
        self.idle.borrow_mut().push(idle.clone());
        idle
    }

    /// The connection that waited least. It counts as busy from here on, not only when its task runs.
    fn pop_idle(&self) -> Option<Rc<Idle<H>>> {
        let idle = self.idle.borrow_mut().pop()?;
        self.destination.borrow_mut().shift(Phase::Idle, Some(Phase::Busy));
        Some(idle)
    }

    /// Ends the waits that began before `before`.
    pub fn close_idle(&self, before: Time) {
        if !self.idle.borrow().iter().any(|idle| idle.since < before) {
            return;
        }
        let (over, kept): (Vec<_>, Vec<_>) =
            self.idle.take().into_iter().partition(|idle| idle.since < before);
        *self.idle.borrow_mut() = kept;
        for idle in over {
            self.destination.borrow_mut().shift(Phase::Idle, Some(Phase::Busy));
            idle.call(Call::Close);
        }
    }

    /// Whether the destination does not rest.
    pub fn may_open(&self, now: Time) -> bool {
        now >= self.opens_at.get()
    }

    /// Counts a new connection in, if one is wanted and allowed.
    pub fn try_open(&self) -> bool {
        self.destination.borrow_mut().try_open()
    }

    /// A connection came to nothing: no other is opened for a while. Says until when; failures during a rest, of
    /// connections that began before it, do not make it longer.
    pub fn rest(&self, shard: &Shard<H>) -> Time {
        let now = shard.host.now();
        if self.may_open(now) {
            self.opens_at.set(now + shard.config.retry.rest());
        }
        self.opens_at.get()
    }

    /// Ends every order at hand that no connection has taken.
    pub fn finish_ready(&self, outcome: &Outcome, rest: Option<Time>) {
        let ready = self.destination.borrow_mut().take_where(|_| true);
        ready.into_iter().for_each(|held| held.finish_all(outcome.clone(), None, rest));
    }

    /// Ends the orders at hand whose messages are too old.
    pub fn expire(&self, now: Time) {
        if self.ready() == 0 {
            return;
        }
        let old = self.destination.borrow_mut().take_where(|held| held.order().expires <= now);
        let reply = Reply::new(451, (4, 4, 7), "no attempt was possible in time");
        old.into_iter().for_each(|held| held.finish_all(Outcome::Deferred(reply.clone()), None, None));
    }

    /// Orders at hand that no connection has taken.
    pub fn ready(&self) -> usize {
        self.destination.borrow().ready()
    }

    /// Whether other connections are at work or at hand, beside one that asks while it counts as starting.
    pub fn has_others(&self) -> bool {
        self.destination.borrow().serving() > 0
    }

    /// Whether a connection that has ended a transaction must close for others to get their share.
    pub fn is_over_limit(&self) -> bool {
        self.destination.borrow().is_over_limit()
    }

    /// Whether no connection is open but idle ones, which are being closed.
    pub fn is_quiet(&self) -> bool {
        self.destination.borrow().open() == 0
    }

    /// Whether there is nothing left to remember: no order, connection, lease or rest, and not only just made.
    pub fn is_unused(&self, now: Time) -> bool {
        self.destination.borrow().is_unused() && self.may_open(now) && now.since(self.made) > UNUSED_MIN
    }

    /// On whose leave we work.
    pub fn allowance(&self) -> Allowance {
        self.destination.borrow().allowance()
    }

    /// Lends a share of an owned destination to another shard.
    pub fn lend(&self, shard: usize) -> Lease {
        let lent = self.destination.borrow_mut().lend(shard);
        let plan = match &*self.way.borrow() {
            Way::Known(plan) => Some(plan.clone()),
            _ => None,
        };
        Lease { destination: self.name.clone(), lent, plan }
    }

    /// A lease has grown.
    pub fn set_lease(&self, lent: Lent) {
        self.destination.borrow_mut().set_lease(lent);
    }

    /// A lease has come back.
    pub fn returned(&self, shard: usize, epoch: u32) {
        self.destination.borrow_mut().returned(shard, epoch);
    }

    /// Keeps nothing free any longer for shards that asked for a lease in vain.
    pub fn forget_unserved(&self) {
        self.destination.borrow_mut().forget_unserved();
    }

    /// What is known of the way now; what is too old is not.
    pub fn way(&self, now: Time) -> Way {
        let way = &mut *self.way.borrow_mut();
        if way.expires() <= now {
            *way = Way::Unknown;
        }
        way.clone()
    }

    /// Looks the way up; one task at a time does so.
    pub async fn find_way(&self, shard: &Shard<H>) -> Way {
        let way = match plan::make(&shard.host, &self.name, &shard.config).await {
            Ok(plan) => Way::Known(Arc::new(plan)),
            Err(nowhere) => Way::Nowhere(nowhere),
        };
        *self.way.borrow_mut() = way.clone();
        way
    }

    /// The way is about to be looked up.
    pub fn ask_way(&self) {
        *self.way.borrow_mut() = Way::Asked;
    }
}
