//! Orders meet connections: which destinations this shard works on, when it opens connections, and what each does.

use crate::message::{Answerer, Lease, Order, ShardMessage};
use crate::plan::{Endpoint, Plan};
use crate::shard::Shard;
use crate::site::{Call, Held, Permit, Site};
use crate::transmit::{Link, Lost};
use crate::ways::Way;
use host::Host;
use mail::{Outcome, Reply, Time};
use queue::{Allowance, Lent, Phase};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Ways that a shard looks up at once; further destinations wait their turn.
const LOOKUPS_MAX: usize = 256;
/// Between two questions for a lease on the same destination.
const LEASE_PAUSE: Duration = Duration::from_millis(200);

/// Takes an order for a destination that we own or hold a lease on.
pub fn take_order<H: Host>(shard: &Rc<Shard<H>>, order: Box<Order>) {
    let site = site(shard, &order.destination);
    site.push(Held::new(shard.clone(), order));
    open_more(shard, &site);
}

fn site<H: Host>(shard: &Shard<H>, name: &Arc<str>) -> Rc<Site<H>> {
    let mut sites = shard.sites.borrow_mut();
    let new = || {
        let allowance = Allowance::Owned(shard.config.delivery.connections_max);
        let way = shard.ways.borrow_mut().take(name, shard.host.now());
        Rc::new(Site::new(name.clone(), allowance, shard.router.shards(), way, shard.host.now()))
    };
    sites.entry(name.clone()).or_insert_with(new).clone()
}

/// Opens connections as far as they are wanted and allowed, once the way is known.
pub fn open_more<H: Host>(shard: &Rc<Shard<H>>, site: &Rc<Site<H>>) {
    let now = shard.host.now();
    if shard.draining.is_raised() || site.ready() == 0 || !site.may_open(now) {
        return;
    }
    match site.way(now) {
        Way::Known(_) | Way::Unknown if !has_room(shard) => wait_for_room(shard, site),
        Way::Known(plan) => {
            while has_room(shard) && site.try_open() {
                let permit = Permit::starting(shard.clone(), site.clone());
                shard.host.spawn(connect(shard.clone(), site.clone(), plan.clone(), permit));
            }
        }
        Way::Nowhere(nowhere) => nowhere_to_go(shard, site, nowhere.outcome),
        Way::Unknown => {
            site.ask_way();
            shard.lookups.set(shard.lookups.get() + 1);
            shard.host.spawn(find_way(shard.clone(), site.clone()));
        }
        Way::Asked => {}
    }
}

/// Opens connections in the place of those that have ended. A task of its own, because a destructor must not start
/// anything.
pub async fn drive_openings<H: Host>(shard: Rc<Shard<H>>) {
    loop {
        shard.freeing.wait().await;
        let freed = shard.freed.take();
        freed.iter().for_each(|site| open_more(&shard, site));
        while let Some(site) = leave_crowd(&shard) {
            open_more(&shard, &site);
        }
    }
}

/// Whether the shard may open one more connection or ask for one more way.
fn has_room<H: Host>(shard: &Shard<H>) -> bool {
    shard.connections_out.get() < shard.config.delivery.shard_connections_max
        && shard.lookups.get() < LOOKUPS_MAX
}

/// Queues a destination until there is room.
fn wait_for_room<H: Host>(shard: &Shard<H>, site: &Rc<Site<H>>) {
    if !site.crowded.replace(true) {
        shard.metrics.count.crowded.bump();
        shard.crowded.borrow_mut().push_back(site.clone());
    }
}

/// The destination that has waited longest, once there is room. The queue is free again when this returns: opening
/// connections may lead to others that must wait.
fn leave_crowd<H: Host>(shard: &Shard<H>) -> Option<Rc<Site<H>>> {
    let site = if has_room(shard) { shard.crowded.borrow_mut().pop_front()? } else { return None };
    site.crowded.set(false);
    Some(site)
}

/// Looks up the way, and opens connections or gives the orders at hand their outcome.
async fn find_way<H: Host>(shard: Rc<Shard<H>>, site: Rc<Site<H>>) {
    let way = site.find_way(&shard).await;
    shard.lookups.set(shard.lookups.get() - 1);
    shard.freeing.raise();
    match way {
        Way::Nowhere(nowhere) => nowhere_to_go(&shard, &site, nowhere.outcome),
        _ => open_more(&shard, &site),
    }
}

/// Ends waits of idle connections that began before `before`.
pub fn close_idle<H: Host>(shard: &Shard<H>, before: Time) {
    all_sites(shard).iter().for_each(|site| site.close_idle(before));
}

/// All destinations, so that looking after one may add or remove others.
fn all_sites<H: Host>(shard: &Shard<H>) -> Vec<Rc<Site<H>>> {
    shard.sites.borrow().values().cloned().collect()
}

/// Looks after what no event drives: idle connections, ages, rests that are over, destinations of no more use.
pub fn tick<H: Host>(shard: &Rc<Shard<H>>, now: Time) {
    let idle_before = Time(now.0.saturating_sub(shard.config.delivery.idle_timeout.as_nanos() as u64));
    for site in all_sites(shard) {
        site.close_idle(idle_before);
        site.expire(now);
        site.forget_unserved();
        open_more(shard, &site);
        if site.is_unused(now) {
            forget(shard, &site);
        }
    }
    shard.lease_asked.borrow_mut().retain(|_, asked| now.since(*asked) < LEASE_PAUSE);
}

fn forget<H: Host>(shard: &Shard<H>, site: &Site<H>) {
    shard.sites.borrow_mut().remove(&site.name);
    let now = shard.host.now();
    shard.ways.borrow_mut().keep(site.name.clone(), site.way(now), now);
    if let Allowance::Leased(Lent { epoch, .. }) = site.allowance() {
        let message =
            ShardMessage::ReturnLease { destination: site.name.clone(), shard: shard.number, epoch };
        shard.router.send(shard.owner(&site.name), message, &shard.metrics);
    }
}

/// Whether this shard may deliver to a destination of another one.
pub fn holds_lease<H: Host>(shard: &Shard<H>, destination: &Arc<str>) -> bool {
    shard.sites.borrow().contains_key(destination)
}

/// Asks the owner for a lease when more is ready for a destination than it takes.
pub fn ask_lease_if_backed_up<H: Host>(shard: &Shard<H>, destination: &Arc<str>, owner: usize) {
    let now = shard.host.now();
    let mut asked = shard.lease_asked.borrow_mut();
    let recently = asked.get(destination).is_some_and(|at| now.since(*at) < LEASE_PAUSE);
    if !recently && shard.queue.borrow().is_backed_up(destination) {
        asked.insert(destination.clone(), now);
        let message = ShardMessage::AskLease { destination: destination.clone(), shard: shard.number };
        shard.router.send(owner, message, &shard.metrics);
    }
}

/// Another shard asks for a lease on a destination of ours.
pub fn lend<H: Host>(shard: &Shard<H>, destination: &Arc<str>, asker: usize) {
    let lease = site(shard, destination).lend(asker);
    if lease.lent.connections > 0 {
        shard.router.send(asker, ShardMessage::Lease(Box::new(lease)), &shard.metrics);
    }
}

/// The owner lets us deliver to one of its destinations.
pub fn take_lease<H: Host>(shard: &Shard<H>, lease: Lease) {
    let Lease { destination, lent, plan } = lease;
    let mut sites = shard.sites.borrow_mut();
    match sites.get(&destination) {
        Some(site) => site.set_lease(lent),
        None => {
            shard.metrics.count.leases_taken.bump();
            let way = plan.map_or(Way::Unknown, Way::Known);
            let site = Site::new(
                destination.clone(),
                Allowance::Leased(lent),
                shard.router.shards(),
                way,
                shard.host.now(),
            );
            sites.insert(destination, Rc::new(site));
        }
    }
}

/// A shard gives a lease back.
pub fn lease_returned<H: Host>(shard: &Rc<Shard<H>>, destination: &Arc<str>, holder: usize, epoch: u32) {
    let site = site(shard, destination);
    site.returned(holder, epoch);
    open_more(shard, &site);
}

/// How a connection ended.
enum Ended<H: Host> {
    /// As it should: nothing more to do, a limit reached, or the shard drains.
    Orderly,
    /// It was refused, or lost before a message was at risk: the next endpoint may try what it had in hand.
    Failed(Reply, Option<Held<H>>),
    /// It was lost, and what it had in hand is settled.
    Broken,
}

/// Opens a connection to the first endpoint that takes one, and works on it.
async fn connect<H: Host>(shard: Rc<Shard<H>>, site: Rc<Site<H>>, plan: Arc<Plan>, mut permit: Permit<H>) {
    let mut carried = None;
    let mut last = None;
    for endpoint in &plan.endpoints {
        if shard.draining.is_raised() {
            break;
        }
        match work(&shard, &site, &mut permit, endpoint, carried.take()).await {
            Ended::Orderly | Ended::Broken => return,
            Ended::Failed(reply, held) => {
                shard.metrics.count.connections_failed.bump();
                tracing::debug!(destination = &*site.name, next_hop = %endpoint.address, %reply, "connection failed");
                permit.shift(Phase::Starting);
                (last, carried) = (Some((endpoint, reply)), held);
            }
        }
    }
    if let Some((endpoint, reply)) = last {
        all_failed(&shard, &site, &plan, carried, endpoint, reply);
    }
}

/// There is no way to the destination, for good or for now: what waits for it has its outcome.
fn nowhere_to_go<H: Host>(shard: &Shard<H>, site: &Site<H>, outcome: Outcome) {
    let rest = (!outcome.is_final()).then(|| site.rest(shard));
    site.finish_ready(&outcome, rest);
}

/// No endpoint took a connection. Orders at hand are deferred, unless other connections are serving them.
fn all_failed<H: Host>(
    shard: &Shard<H>,
    site: &Site<H>,
    plan: &Plan,
    carried: Option<Held<H>>,
    endpoint: &Endpoint,
    reply: Reply,
) {
    let rest = site.rest(shard);
    tracing::info!(destination = &*site.name, endpoints = plan.endpoints.len(), %reply, "no next hop took a connection");
    // A host that does not greet us has said nothing about these recipients, so even a 5yz is no failure of theirs.
    let outcome = Outcome::Deferred(reply);
    let next_hop = Some(Answerer { name: endpoint.address.to_string().into(), dsn: false });
    let alone = !site.has_others();
    if let Some(held) = carried {
        held.finish_all(outcome.clone(), next_hop, alone.then_some(rest));
    }
    if alone {
        site.finish_ready(&outcome, Some(rest));
    }
}

/// Opens one connection and delivers orders over it until there are none for a while.
async fn work<H: Host>(
    shard: &Rc<Shard<H>>,
    site: &Rc<Site<H>>,
    permit: &mut Permit<H>,
    endpoint: &Endpoint,
    carried: Option<Held<H>>,
) -> Ended<H> {
    let mut link = match Link::open(shard, endpoint).await {
        Ok(link) => link,
        Err(reply) => return Ended::Failed(reply, carried),
    };
    let name = Answerer { name: endpoint.address.to_string().into(), dsn: link.makes_reports() };
    let mut next = carried;
    let most = shard.config.delivery.transactions_max.min(link.transactions_max());
    for served in 0..most {
        let Some(mut held) = next_order(shard, site, permit, next.take()).await else { break };
        held.begin();
        shard.metrics.count.transactions.bump();
        // The first transaction of a connection shows whether the next hop goes on after it.
        let may_follow = shard.config.delivery.pipeline_messages
            && served > 0
            && served + 1 < most
            && goes_on(shard, site);
        let delivered = link.deliver(shard, held.order(), site, may_follow).await;
        next = link.take_follower();
        match delivered {
            Ok(outcomes) => {
                // A next hop that hangs up on the first message of a connection is not to be tried with the rest.
                let hung_up =
                    served == 0 && link.has_hung_up(shard) && !outcomes.iter().any(Outcome::is_final);
                let rest = hung_up.then(|| site.rest(shard));
                held.finish(outcomes, Some(name.clone()), rest);
            }
            Err(lost) => return broken(site, name, served, (held, next), lost),
        }
        if next.is_none() && !goes_on(shard, site) {
            break;
        }
    }
    link.quit(shard).await;
    Ended::Orderly
}

/// Whether a connection may begin another transaction.
fn goes_on<H: Host>(shard: &Shard<H>, site: &Site<H>) -> bool {
    !shard.draining.is_raised() && !site.is_over_limit()
}

/// Settles what a lost connection had in hand: an order, and perhaps the one that followed it, of which nothing was at
/// risk.
fn broken<H: Host>(
    site: &Site<H>,
    name: Answerer,
    served: u32,
    (held, follower): (Held<H>, Option<Held<H>>),
    lost: Lost,
) -> Ended<H> {
    if let Some(follower) = follower {
        site.put_back(follower);
    }
    match lost {
        Lost { at_risk: false, .. } if served > 0 => {
            // The next hop has had enough of this connection; a new one begins the order again.
            site.put_back(held);
            Ended::Broken
        }
        Lost { reply, at_risk: false, .. } => Ended::Failed(reply, Some(held)),
        Lost { outcomes, .. } => {
            held.finish(outcomes, Some(name), None);
            Ended::Broken
        }
    }
}

/// The next order for a connection: the one in hand, one that waits, or one that comes while it is idle.
async fn next_order<H: Host>(
    shard: &Shard<H>,
    site: &Site<H>,
    permit: &mut Permit<H>,
    carried: Option<Held<H>>,
) -> Option<Held<H>> {
    let ready = carried.or_else(|| site.pop());
    if let Some(held) = ready {
        permit.shift(Phase::Busy);
        return Some(held);
    }
    if shard.draining.is_raised() {
        return None;
    }
    permit.shift(Phase::Idle);
    let call = site.wait_idle(shard.host.now()).wait().await;
    permit.called();
    match call {
        Call::Deliver(held) => Some(held),
        Call::Close => None,
    }
}
