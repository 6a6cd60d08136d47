//! The shard itself: what it owns, and the tasks that drive it.

use crate::config::Config;
use crate::health::{Health, vital};
use crate::login::Logins;
use crate::message::{Control, ShardMessage};
use crate::metrics::{Metrics, Snapshot};
use crate::notified::Notified;
use crate::plan::Routes;
use crate::router::{Links, Router, owner_of};
use crate::signal::{First, Latch, Signal, first};
use crate::site::Site;
use crate::store::Fresh;
use crate::ways::Ways;
use crate::{deliver, receive, recover};
use host::Host;
use mail::{IdSource, Time};
use queue::{Due, Queue};
use spool::{Log, Place, Reader};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Orders of one destination that are out at once, per connection that it may have: one at work, one at hand,
/// and some for the way between shards.
const WINDOW_PER_CONNECTION: usize = 3;
/// Between two looks at what is not driven by events: ages, idle connections, leases.
const TICK: Duration = Duration::from_millis(250);
/// Within this time each delivery's age is looked at once.
const SWEEP_PERIOD_MAX: Duration = Duration::from_secs(60);

/// One core of the relay. Lives on one thread; everything in it is reached through `Rc`.
pub struct Shard<H: Host> {
    me: Weak<Shard<H>>,
    pub(crate) number: usize,
    pub(crate) host: H,
    pub(crate) config: Rc<Config>,
    pub(crate) metrics: Metrics,
    pub(crate) routes: Routes,
    pub(crate) router: Router<H>,
    pub(crate) ids: RefCell<IdSource>,
    /// The log that new messages go to; its number is the shard's.
    pub(crate) home: Log<H>,
    /// All logs whose messages this shard looks after, the home log among them.
    pub(crate) logs: BTreeMap<u16, Log<H>>,
    pub(crate) reader: Reader<H>,
    pub(crate) queue: RefCell<Queue<Place>>,
    pub(crate) fresh: RefCell<Fresh>,
    /// Recipients whose senders know of the delay.
    pub(crate) told: RefCell<Notified>,
    /// Due deliveries whose records must be read from the spool first.
    pub(crate) unread: RefCell<VecDeque<Due<Place>>>,
    pub(crate) reading: Cell<usize>,
    pub(crate) sites: RefCell<BTreeMap<Arc<str>, Rc<Site<H>>>>,
    /// Destinations of which a connection has ended, so that another may be opened.
    pub(crate) freed: RefCell<Vec<Rc<Site<H>>>>,
    pub(crate) freeing: Signal,
    /// Connections to next hops, in any phase.
    pub(crate) connections_out: Cell<usize>,
    /// Ways being looked up.
    pub(crate) lookups: Cell<usize>,
    /// Destinations that wait for room to open a connection.
    pub(crate) crowded: RefCell<VecDeque<Rc<Site<H>>>>,
    /// Bytes of content that travel with orders of ours.
    pub(crate) carried: Cell<usize>,
    /// Ways to destinations that rest.
    pub(crate) ways: RefCell<Ways>,
    /// When we last asked for a lease on a destination.
    pub(crate) lease_asked: RefCell<BTreeMap<Arc<str>, Time>>,
    pub(crate) reception: receive::Load,
    pub(crate) logins: Logins,
    pub(crate) health: Health,
    /// Raised when a timer of the queue became earlier.
    pub(crate) earlier: Signal,
    /// Raised when the shard shall come to rest.
    pub(crate) draining: Latch,
    finishing: Signal,
}

/// Runs shard `number` until it is told to finish. Returns once everything is durable, or at once with the reason
/// why it cannot start.
pub async fn run<H: Host>(
    host: H,
    config: Rc<Config>,
    links: Arc<Links<H::Bell>>,
    number: usize,
) -> Result<(), String> {
    let shard = open(host, config, links, number).await?;
    // What the program has told us already, such as who may log in, counts before the first client does.
    while let Some(message) = shard.router.take() {
        take(&shard, message);
    }
    for listen in &shard.config.listen {
        let listener = shard
            .host
            .listen(listen.address)
            .map_err(|e| format!("cannot listen at {}: {e}", listen.address))?;
        let accept = receive::accept(shard.clone(), listener, Rc::new(listen.clone()));
        shard.host.spawn(vital(shard.clone(), "accept", accept));
    }
    shard.look_at_health();
    shard.host.spawn(vital(shard.clone(), "inbox", drive_inbox(shard.clone())));
    shard.host.spawn(vital(shard.clone(), "timers", drive_timers(shard.clone())));
    shard.host.spawn(vital(shard.clone(), "openings", deliver::drive_openings(shard.clone())));
    shard.router.links().ready.fetch_add(1, Ordering::SeqCst);
    shard.dispatch();
    if let First::Two(why) = first(shard.finishing.wait(), shard.health.fall()).await {
        return Err(why);
    }
    for log in shard.logs.values() {
        log.close().await;
    }
    Ok(())
}

async fn open<H: Host>(
    host: H,
    config: Rc<Config>,
    links: Arc<Links<H::Bell>>,
    number: usize,
) -> Result<Rc<Shard<H>>, String> {
    let recovered = recover::open_logs(&host, &config, number, links.shards()).await?;
    let home = recovered.logs.get(&(number as u16)).expect("open_logs makes the home log").clone();
    let shard = Rc::new_cyclic(|me| Shard {
        me: me.clone(),
        number,
        metrics: Metrics::default(),
        routes: Routes::new(&config),
        router: Router::new(host.clone(), links, number),
        ids: RefCell::new(IdSource::new(number, recovered.newest)),
        home,
        logs: recovered.logs,
        reader: Reader::new(host.clone(), config.spool.path.clone()),
        queue: RefCell::new(Queue::new(config.delivery.connections_max * WINDOW_PER_CONNECTION)),
        fresh: RefCell::new(Fresh::new(config.reception.body_memory)),
        told: RefCell::default(),
        unread: RefCell::default(),
        reading: Cell::new(0),
        sites: RefCell::default(),
        freed: RefCell::default(),
        freeing: Signal::default(),
        connections_out: Cell::new(0),
        lookups: Cell::new(0),
        crowded: RefCell::default(),
        carried: Cell::new(0),
        ways: RefCell::default(),
        lease_asked: RefCell::default(),
        reception: receive::Load::default(),
        logins: Logins::new(&config.auth),
        health: Health::default(),
        earlier: Signal::default(),
        draining: Latch::default(),
        finishing: Signal::default(),
        host,
        config,
    });
    recover::requeue(&shard, recovered.messages);
    Ok(shard)
}

/// Takes what other shards and the program send. Never waits for anything else, so that inboxes always drain.
async fn drive_inbox<H: Host>(shard: Rc<Shard<H>>) {
    loop {
        while let Some(message) = shard.router.take() {
            take(&shard, message);
        }
        shard.router.announce_room();
        shard.router.flush();
        shard.host.rung().await;
    }
}

fn take<H: Host>(shard: &Rc<Shard<H>>, message: ShardMessage) {
    match message {
        ShardMessage::Order(order) => {
            shard.metrics.count.orders_taken.bump();
            deliver::take_order(shard, order);
        }
        ShardMessage::Done(done) => shard.settle(*done),
        ShardMessage::AskLease { destination, shard: asker } => deliver::lend(shard, &destination, asker),
        ShardMessage::Lease(lease) => deliver::take_lease(shard, *lease),
        ShardMessage::ReturnLease { destination, shard: holder, epoch } => {
            deliver::lease_returned(shard, &destination, holder, epoch);
        }
        ShardMessage::Control(Control::Snapshot(place)) => drop(place.push(shard.snapshot())),
        ShardMessage::Control(Control::Users(users)) => shard.logins.replace(users),
        ShardMessage::Control(Control::Drain(grace)) => shard.host.spawn(drain(shard.clone(), grace)),
        ShardMessage::Control(Control::Finish) => shard.finishing.raise(),
    }
}

/// Comes to rest: nothing new is accepted or begun, and what is under way ends by itself or at `grace`.
async fn drain<H: Host>(shard: Rc<Shard<H>>, grace: Duration) {
    let deadline = shard.host.now() + grace;
    shard.draining.raise();
    deliver::close_idle(&shard, Time::FAR);
    while !shard.is_quiet() && shard.host.now() < deadline {
        shard.host.sleep_until(shard.host.now() + Duration::from_millis(5)).await;
    }
    shard.router.links().quiet.fetch_add(1, Ordering::SeqCst);
}

/// Lets timers of the queue go off, and looks after ages, idle connections and leases.
async fn drive_timers<H: Host>(shard: Rc<Shard<H>>) {
    let sweep_period = SWEEP_PERIOD_MAX.min(shard.config.retry.max_age / 16).max(TICK);
    let mut swept = shard.host.now();
    loop {
        // What is due beyond one tick of the queue comes in the next round, after all other tasks have had their turn.
        let soonest = shard.host.now() + Duration::from_nanos(1);
        let wake_at = shard.queue.borrow().next_due().max(soonest).min(swept + shard.tick_interval());
        first(shard.host.sleep_until(wake_at), shard.earlier.wait()).await;
        let now = shard.host.now();
        shard.queue.borrow_mut().tick(now);
        if now.since(swept) >= TICK {
            let budget = shard.queue.borrow().sweep_budget(now.since(swept), sweep_period);
            swept = now;
            shard.expire(budget);
            deliver::tick(&shard, now);
            shard.look_at_health();
        }
        shard.dispatch();
    }
}

impl<H: Host> Shard<H> {
    /// The shard, to be shared with a task.
    pub(crate) fn me(&self) -> Rc<Shard<H>> {
        self.me.upgrade().expect("whoever calls this holds the shard")
    }

    /// An idle shard looks around seldom, so that it costs nothing.
    fn tick_interval(&self) -> Duration {
        let idle = self.queue.borrow().deliveries() == 0 && self.sites.borrow().is_empty();
        if idle { TICK * 4 } else { TICK }
    }

    /// The shard that owns a destination.
    pub(crate) fn owner(&self, destination: &str) -> usize {
        owner_of(destination, self.router.shards())
    }

    /// The log that a message's outcomes belong to.
    pub(crate) fn log_of(&self, place: Place) -> &Log<H> {
        self.logs.get(&place.log).expect("only messages of our logs are in our queue")
    }

    fn is_quiet(&self) -> bool {
        let sites_rest = self.sites.borrow().values().all(|site| site.is_quiet());
        self.reception.sessions() == 0 && sites_rest && self.router.waiting() == 0
    }

    fn snapshot(&self) -> Snapshot {
        let queue = self.queue.borrow();
        let sites = self.sites.borrow();
        let (clients, users, verified) = self.logins.remembered();
        let mut gauges = vec![
            ("takes_mail", "Whether the shard takes mail.", u64::from(self.health.takes_mail())),
            ("connections_in", "Sessions open.", self.reception.sessions() as u64),
            ("body_bytes_held", "Memory held by contents under way.", self.reception.held() as u64),
            ("login_failures_clients", "Networks with failed logins that are remembered.", clients as u64),
            ("login_failures_users", "Users with failed logins that are remembered.", users as u64),
            ("logins_verified", "Passwords that need not be checked again yet.", verified as u64),
            ("queue_messages", "Messages in the queue.", queue.messages() as u64),
            ("queue_deliveries", "Deliveries in the queue.", queue.deliveries() as u64),
            ("queue_ready", "Deliveries ready to leave.", queue.ready() as u64),
            ("queue_out", "Deliveries on their way.", queue.out() as u64),
            (
                "fresh_bytes",
                "Memory held by stored messages before their first attempt.",
                self.fresh.borrow().bytes() as u64,
            ),
            ("carried_bytes", "Memory held by contents that travel with orders.", self.carried.get() as u64),
            ("destinations", "Destinations with orders or connections.", sites.len() as u64),
            ("ways_kept", "Ways to destinations that rest.", self.ways.borrow().len() as u64),
            ("connections_out", "Connections to next hops.", self.connections_out.get() as u64),
            ("outbox_messages", "Messages to other shards that wait for room.", self.router.waiting() as u64),
        ];
        gauges.extend(self.host.gauges());
        let mut counters = self.metrics.count.list();
        counters.extend(self.host.counters());
        self.logs.values().for_each(|log| recover::add_log_stats(log, &mut counters, &mut gauges));
        Snapshot {
            shard: self.number,
            counters,
            gauges,
            latencies: self.metrics.latencies(),
            takes_mail: self.health.takes_mail(),
            alarms: self.logs.values().flat_map(|log| log.alarms().list()).collect(),
        }
    }
}
