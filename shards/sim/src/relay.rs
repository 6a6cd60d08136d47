//! Worlds of whole relays: every shard as it runs for real, on a faulty network, crashing and coming back with another
//! number of shards. The oracle judges by what clients and next hops saw.

use crate::oracle::{self, Complaint};
use crate::{Crash, Journal, MachineId, Options, SimBell, Span, Stream, Swarm, World, run};
use host::{Host, Planted};
use shard::Links;
use shard::config::{Auth, Bounce, Config, Delivery, Listen, Reception, Retry, Spool};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// How long before a crash the relay may have known of a delivery without having it on record: the outcome's way
/// between shards, the wait for a group to ride with, and its sync.
const UNRECORDED: Duration = Duration::from_millis(700);

/// Where the relay listens.
pub fn address() -> SocketAddr {
    SocketAddr::from(([10, 3, 0, 1], 25))
}

/// What differs between worlds beyond the swarm.
#[derive(Clone, Copy)]
struct Shape {
    connections_max: usize,
    inbox_messages_max: usize,
    segment_bytes: u64,
    retry: Duration,
    max_age: Duration,
    body_memory: usize,
    /// The first recipient domain cannot be reached at all, so that its mail expires and is reported.
    cuts_off: bool,
}

impl Shape {
    fn draw(seed: u64) -> Shape {
        let pick = |salt: u64, options: &[u64]| {
            let mixed = (seed ^ salt.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0xd129_0d3c_51a4_0af3);
            options[(mixed >> 33) as usize % options.len()]
        };
        Shape {
            connections_max: pick(1, &[3, 4, 8]) as usize,
            inbox_messages_max: pick(2, &[1, 2, 64]) as usize,
            segment_bytes: pick(3, &[4 << 16, 16 << 16]),
            retry: Duration::from_secs(pick(4, &[5, 20, 100])),
            max_age: Duration::from_secs(400_000),
            body_memory: pick(6, &[200_000, 1 << 20, 64 << 20]) as usize,
            cuts_off: pick(7, &[0, 0, 1]) == 1,
        }
        .sound()
    }

    /// What cannot be delivered must expire before the world ends.
    fn sound(self) -> Shape {
        if self.cuts_off { Shape { max_age: Duration::from_secs(1500), ..self } } else { self }
    }

    fn config(self) -> Config {
        let relay_from = vec!["10.0.0.0/8".parse().expect("a network")];
        Config {
            hostname: "relay.example".into(),
            spool: Spool {
                path: "/spool".into(),
                segment_bytes: self.segment_bytes,
                spares_max: 2,
                ..Spool::default()
            },
            listen: vec![Listen { address: address(), relay_from, relay_to: Vec::new(), auth: None }],
            routes: Vec::new(),
            bounce: Bounce::default(),
            retry: Retry { intervals: vec![self.retry], max_age: self.max_age, jitter_percent: 10 },
            reception: Reception {
                message_bytes_max: 128 << 10,
                body_memory: self.body_memory,
                ..Reception::default()
            },
            delivery: Delivery {
                connections_max: self.connections_max,
                recipients_max: 7,
                idle_timeout: Duration::from_secs(2),
                ..Delivery::default()
            },
            auth: Auth::default(),
        }
    }
}

/// Boots a relay with so many shards; what it gives leads to their inboxes.
pub fn boot(
    world: &World,
    machine: MachineId,
    shards: usize,
    config: &Config,
    inbox_messages_max: usize,
) -> Arc<Links<SimBell>> {
    let hosts = world.boot(machine, shards);
    let links = Links::with_capacity(hosts.iter().map(Host::bell).collect(), inbox_messages_max);
    for (number, host) in hosts.into_iter().enumerate() {
        let (config, links) = (Rc::new(config.clone()), links.clone());
        host.clone().spawn(async move {
            shard::run(host, config, links, number).await.expect("these worlds have disks that can be read");
        });
    }
    links
}

/// What a world came to.
#[derive(Debug, PartialEq)]
pub struct End {
    /// What the oracle says.
    pub complaints: Vec<Complaint>,
    /// Messages that next hops took.
    pub deliveries: usize,
    /// Crashes of the relay.
    pub crashes: usize,
    /// Hash of all that happened.
    pub trace: u64,
}

/// Clients send while the relay crashes, then everything becomes calm and must come to its end: nothing waits.
pub fn end_of(seed: u64, planted: Vec<Planted>) -> End {
    run_world(seed, Swarm::draw(seed, address()), planted)
}

/// The same with a slow disk and power that fails again and again while mail comes in.
pub fn dark_end_of(seed: u64, planted: Vec<Planted>) -> End {
    let mut swarm = Swarm::draw(seed, address());
    swarm.options.disk.sync = Span::millis(1, 50);
    let random = Stream::new(seed, "dark");
    let crash = |_| (random.span(Span::millis(100, 4_000)), Crash::Power);
    swarm.crashes = (0..8).map(crash).collect();
    run_world(seed, swarm, planted)
}

fn run_world(seed: u64, mut swarm: Swarm, planted: Vec<Planted>) -> End {
    let shape = Shape::draw(seed);
    if shape.cuts_off {
        // A wall clock that jumps by hours makes mail expire that should live for minutes, reports among it.
        swarm.jumps.clear();
    }
    let crashes = swarm.crashes.len();
    let options = Options { planted, ..swarm.options.clone() };
    let report = run(options, move |world| async move {
        let (journal, machine) = (Journal::new(), world.add_machine());
        let meters = swarm.start_next_hops(&world, &journal);
        if shape.cuts_off {
            swarm.domains[1].next_hops.iter().for_each(|hop| world.network().cut_off(hop.at.ip(), true));
        }
        let (config, inbox) = (shape.config(), shape.inbox_messages_max);
        boot(&world, machine, swarm.shards, &config, inbox);
        let again = move |world: &World| {
            boot(world, machine, 1 + world.workload().below(4), &config, inbox);
        };
        swarm.start_trouble(&world, &journal, machine, UNRECORDED, again);
        swarm.run_clients(&world, &journal).await;
        world.sleep(Duration::from_secs(200)).await;
        swarm.calm(&world);
        world.sleep(Duration::from_secs(3_000)).await;
        let mut complaints = oracle::check(&journal.records(), &[]);
        for (domain, meter) in swarm.domains.iter().zip(meters) {
            complaints.extend(oracle::check_limit(&domain.name, &meter, shape.connections_max));
        }
        (complaints, journal.records().deliveries.len())
    });
    let (complaints, deliveries) = report.result.unwrap_or_else(|failure| panic!("seed {seed}: {failure:?}"));
    End { complaints, deliveries, crashes, trace: report.trace }
}
