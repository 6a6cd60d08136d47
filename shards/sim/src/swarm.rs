//! What a world is like, drawn from its seed: each seed has some of the faults, at some rates, so that faults that
//! hide each other do not always come together.

use crate::client::{Client, Submission};
use crate::disk::DiskFaults;
use crate::dns::DnsFaults;
use crate::executor::MachineId;
use crate::journal::Journal;
use crate::network::{Meter, NetworkFaults};
use crate::next_hop::{NextHop, Profile};
use crate::random::{Chance, Span, Stream};
use crate::world::{Crash, Options, World};
use host::Host;
use mail::Time;
use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

/// Where senders live, and reports go.
pub const SENDER_DOMAIN: &str = "senders.example";
/// How long what the zone says of a domain holds.
const TTL: Duration = Duration::from_secs(300);
/// The longest body, in lines.
const BODY_LINES_MAX: u64 = 60;
/// The time in which crashes and outages happen.
const TROUBLE: Span = Span::millis(1, 60_000);
/// The furthest that the wall clock jumps, either way: a day.
const JUMP_MICROS_MAX: u64 = 86_400_000_000;
/// How long a machine is down.
const DOWN: Span = Span::millis(1, 20_000);

/// A domain with its next hops, which all answer for the whole domain.
pub struct Domain {
    /// Its name.
    pub name: String,
    /// One for each address of its mail exchanger.
    pub next_hops: Vec<NextHop>,
}

/// What one world is like.
pub struct Swarm {
    /// How its parts begin.
    pub options: Options,
    /// Shards of the relay, 1 to 4.
    pub shards: usize,
    /// The next hops; the first domain is [`SENDER_DOMAIN`], which refuses nothing for good.
    pub domains: Vec<Domain>,
    /// Each client with its messages.
    pub clients: Vec<(Client, Vec<Rc<Submission>>)>,
    /// When the relay crashes after it was booted, one after the other, and how.
    pub crashes: Vec<(Duration, Crash)>,
    /// When the wall clock jumps, one after the other, and by how many microseconds.
    pub jumps: Vec<(Duration, i64)>,
    /// When the disk begins to fail, and how. Used only by worlds that also excuse what a failing disk loses.
    pub failing_disk: Option<(Duration, DiskFaults)>,
}

impl Swarm {
    /// The world of `seed`, whose relay listens at `relay`.
    pub fn draw(seed: u64, relay: SocketAddr) -> Swarm {
        let random = Stream::new(seed, "swarm");
        let options = Options {
            network: network(&random),
            disk: disk(&random),
            dns: dns(&random),
            ..Options::calm(seed)
        };
        let domains = domains(&random);
        let clients = clients(&random, &domains, relay);
        let crashes = (0..random.below(3)).map(|_| {
            let crash = if random.coin() { Crash::Power } else { Crash::Process };
            (random.span(TROUBLE) / (1 + random.below(60) as u32), crash)
        });
        let crashes = crashes.collect();
        let jump = |_| {
            (random.span(TROUBLE), random.between(0, 2 * JUMP_MICROS_MAX) as i64 - JUMP_MICROS_MAX as i64)
        };
        let jumps = (0..random.below(3)).map(jump).collect();
        let failing_disk = (random.below(4) == 0).then(|| (random.span(TROUBLE), failing_disk(&random)));
        let shards = 1 + random.below(4);
        Swarm { options, shards, domains, clients, crashes, jumps, failing_disk }
    }

    /// Starts the next hops and puts their domains into the zone; one meter for each domain, in order.
    pub fn start_next_hops(&self, world: &World, journal: &Journal) -> Vec<Rc<Meter>> {
        let start = |domain: &Domain| {
            let addresses: Vec<IpAddr> = domain.next_hops.iter().map(|next_hop| next_hop.at.ip()).collect();
            world.zone().add_domain(&domain.name, &addresses, TTL);
            domain.next_hops.iter().for_each(|next_hop| next_hop.start(world, journal));
            world.network().meter(&addresses)
        };
        self.domains.iter().map(start).collect()
    }

    /// Starts the crashes of a machine, each followed by a `boot`, and the jumps of the wall clock. `forgets` is how
    /// long the machine may keep an outcome in memory only: a crash excuses what it learned in that time.
    pub fn start_trouble(
        &self,
        world: &World,
        journal: &Journal,
        machine: MachineId,
        forgets: Duration,
        boot: impl Fn(&World) + 'static,
    ) {
        let (jumping, jumps) = (world.clone(), self.jumps.clone());
        world.outside().spawn(async move {
            for (after, micros) in jumps {
                jumping.sleep(after).await;
                jumping.jump_wall(micros);
            }
        });
        let (world, journal, crashes) = (world.clone(), journal.clone(), self.crashes.clone());
        world.outside().clone().spawn(async move {
            for (after, crash) in crashes {
                world.sleep(after).await;
                let now = world.now();
                let forgets = u64::try_from(forgets.as_nanos()).unwrap_or(u64::MAX);
                journal.excuse(Time(now.0.saturating_sub(forgets))..=now);
                world.crash(machine, crash);
                world.sleep(world.workload().span(DOWN)).await;
                boot(&world);
            }
        });
    }

    /// Runs all clients to their ends.
    pub async fn run_clients(&self, world: &World, journal: &Journal) {
        let running = Rc::new(Cell::new(self.clients.len()));
        for (client, mail) in self.clients.clone() {
            let (world, journal, running) = (world.clone(), journal.clone(), running.clone());
            world.outside().clone().spawn(async move {
                client.run(&world, &journal, mail).await;
                running.set(running.get() - 1);
            });
        }
        while running.get() > 0 {
            world.sleep(Duration::from_millis(100)).await;
        }
    }

    /// Ends all faults, for the time in which everything must come to its end. Connections that are open keep theirs.
    pub fn calm(&self, world: &World) {
        world.network().set_faults(NetworkFaults::NONE);
        world.zone().set_faults(DnsFaults::NONE);
        for next_hop in self.domains.iter().flat_map(|domain| &domain.next_hops) {
            next_hop.profile.replace(Profile::kind());
        }
    }
}

/// A rate that is nothing in half of all worlds, and up to `percent` in the others.
fn rate(random: &Stream, percent: u32) -> Chance {
    let rate = Chance(random.between(0, u64::from(percent) * 10_000) as u32);
    if random.coin() { rate } else { Chance::NEVER }
}

fn network(random: &Stream) -> NetworkFaults {
    NetworkFaults {
        latency: *random.one_of(&[Span::micros(10, 50), Span::micros(20, 2_000), Span::millis(1, 150)]),
        slow: rate(random, 10),
        reset: rate(random, 20),
        silence: rate(random, 5),
        refused: rate(random, 10),
        unreachable: rate(random, 5),
        choppy: rate(random, 100),
        room: *random.one_of(&[1_000, 8_192, 65_536]),
        accept_error: rate(random, 5),
        ..NetworkFaults::NONE
    }
}

/// A disk that is slow or fast, but whole.
fn disk(random: &Stream) -> DiskFaults {
    let sync = *random.one_of(&[Span::micros(10, 100), Span::micros(100, 5_000), Span::millis(1, 50)]);
    DiskFaults { sync, ..DiskFaults::NONE }
}

fn failing_disk(random: &Stream) -> DiskFaults {
    DiskFaults {
        write_error: rate(random, 20),
        sync_error: rate(random, 20),
        read_error: rate(random, 10),
        read_flip: rate(random, 5),
        name_error: rate(random, 10),
        ..disk(random)
    }
}

fn dns(random: &Stream) -> DnsFaults {
    DnsFaults { server_failure: rate(random, 30), silence: rate(random, 10), ..DnsFaults::NONE }
}

fn domains(random: &Stream) -> Vec<Domain> {
    let count = 2 + random.below(5);
    let domain = |number: usize| {
        let name = if number == 0 { SENDER_DOMAIN.to_owned() } else { format!("domain-{number}.example") };
        let next_hop = |host: usize| {
            let address = IpAddr::V4(Ipv4Addr::new(10, 1, number as u8, 1 + host as u8));
            let mut profile = profile(random);
            if number == 0 {
                profile.permanent = Chance::NEVER;
            }
            NextHop::new(&name, SocketAddr::new(address, 25), profile)
        };
        let next_hops = (0..1 + random.below(2)).map(next_hop).collect();
        Domain { name: name.clone(), next_hops }
    };
    (0..count).map(domain).collect()
}

fn profile(random: &Stream) -> Profile {
    let outage = || {
        let start = Time(0) + random.span(TROUBLE);
        start..start + random.span(TROUBLE)
    };
    Profile {
        transient: rate(random, 20),
        permanent: rate(random, 5),
        says_421: rate(random, 5),
        tarpits: rate(random, 20),
        splits: rate(random, 50),
        closes_in_data: rate(random, 10),
        resets_after_dot: rate(random, 10),
        silent_after_dot: rate(random, 3),
        pipelines: random.below(4) > 0,
        outages: (0..random.below(2)).map(|_| outage()).collect(),
        ..Profile::kind()
    }
}

type ClientMail = (Client, Vec<Rc<Submission>>);

fn clients(random: &Stream, domains: &[Domain], relay: SocketAddr) -> Vec<ClientMail> {
    let mut token = 0;
    let client = |_| {
        let plan = Client {
            from: Some(IpAddr::V4(Ipv4Addr::new(10, 2, 0, 1 + random.below(20) as u8))),
            pipelines: random.coin(),
            chunks: random.coin(),
            per_connection: 1 + random.below(5),
            attempts: 1 + random.below(3),
            pause: Span::millis(0, 2_000),
            abandons: rate(random, 10),
            ..Client::plain(relay)
        };
        let mail = (0..random.below(8)).map(|_| {
            token += 1;
            Rc::new(submission(random, domains, token))
        });
        (plan, mail.collect())
    };
    (0..1 + random.below(6)).map(client).collect()
}

fn submission(random: &Stream, domains: &[Domain], token: u64) -> Submission {
    let recipients = 1 + random.below(if random.below(10) == 0 { 30 } else { 4 });
    let recipient = |number| format!("r{number}@{}", random.one_of(&domains[1..]).name);
    let recipients: Vec<String> = (0..recipients).map(recipient).collect();
    Submission::new(token, &format!("s{token}@{SENDER_DOMAIN}"), &recipients, &body(random))
}

/// Lines of the kinds that are easily got wrong.
fn body(random: &Stream) -> Vec<u8> {
    let mut body = Vec::new();
    for _ in 0..random.between(0, BODY_LINES_MAX) {
        match random.below(8) {
            0 => body.extend_from_slice(b"."),
            1 => body.extend_from_slice(b".."),
            2 => {}
            3 => body.extend_from_slice(&[b'x'; 998]),
            4 => body.extend_from_slice(b"From here"),
            5 => body.extend_from_slice("äöü".as_bytes()),
            _ => body.extend_from_slice(format!("line {:x}", random.any()).as_bytes()),
        }
        body.extend_from_slice(b"\r\n");
    }
    body
}
