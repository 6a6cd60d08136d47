//! Disks that fail under one shard, or under all, while mail comes in: nothing that was acknowledged is lost, the other
//! shards go on, and the one that failed comes back by itself.

use crossbeam_queue::ArrayQueue;
use host::{Conn, Host, Planted};
use mail::Time;
use shard::Links;
use shard::config::{Config, Listen, Reception, Retry, Spool};
use shard::message::{Control, ShardMessage};
use shard::metrics::Snapshot;
use sim::relay::{address, boot};
use sim::{
    Chance, Client, Crash, Disk, DiskFaults, Journal, Lines, MachineId, NextHop, Options, Profile, SimBell,
    Span, Submission, World, oracle, run,
};
use spool::Cause;
use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

const CLIENTS: u64 = 6;
const MESSAGES: u64 = 40;
const ALL: usize = (CLIENTS * MESSAGES) as usize;
const BODY: &[u8] = b"0123456789012345678901234567890123456789012345678901234567890123456789\r\n";
/// Less than a message, so that every attempt reads it from the disk.
const NO_MEMORY: usize = 100;

/// What is wrong with a disk.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Disk(DiskFaults),
    /// Nothing is free.
    Brim,
}

const WRITES: Fault = Fault::Disk(DiskFaults { write_error: Chance::ALWAYS, ..DiskFaults::NONE });
const SOME_WRITES: Fault = Fault::Disk(DiskFaults { write_error: Chance::percent(30), ..DiskFaults::NONE });
const SYNCS: Fault = Fault::Disk(DiskFaults { sync_error: Chance::ALWAYS, ..DiskFaults::NONE });
const SOME_SYNCS: Fault = Fault::Disk(DiskFaults { sync_error: Chance::percent(30), ..DiskFaults::NONE });
const NO_SPACE: Fault = Fault::Disk(DiskFaults { write_full: Chance::ALWAYS, ..DiskFaults::NONE });
const READ_ONLY: Fault = Fault::Disk(DiskFaults { read_only: true, ..DiskFaults::NONE });
const NAMES: Fault = Fault::Disk(DiskFaults { name_error: Chance::percent(50), ..DiskFaults::NONE });
const READS: Fault = Fault::Disk(DiskFaults { read_error: Chance::ALWAYS, ..DiskFaults::NONE });
const FLIPS: Fault = Fault::Disk(DiskFaults { read_flip: Chance::percent(50), ..DiskFaults::NONE });
/// With these a shard takes no mail, and the alarm that is expected at least.
const STOPPING: [(Fault, Cause); 5] = [
    (WRITES, Cause::Write),
    (SYNCS, Cause::Write),
    (NO_SPACE, Cause::Write),
    (READ_ONLY, Cause::ReadOnly),
    (Fault::Brim, Cause::Space),
];

impl Fault {
    fn begin(self, disk: &Disk, under: &Path) {
        match self {
            Fault::Disk(faults) => disk.set_faults_under(under, faults),
            Fault::Brim => disk.set_capacity_under(under, 0),
        }
    }

    fn end(disk: &Disk, under: &Path) {
        disk.set_faults_under(under, DiskFaults::NONE);
        disk.set_capacity_under(under, u64::MAX);
    }
}

fn config() -> Config {
    Config {
        spool: Spool { path: "/spool".into(), segment_bytes: 1 << 20, ..Spool::default() },
        listen: vec![Listen {
            address: address(),
            relay_from: vec!["0.0.0.0/0".parse().expect("a network")],
            relay_to: Vec::new(),
            auth: None,
        }],
        retry: Retry {
            intervals: [1, 2, 5].map(Duration::from_secs).to_vec(),
            max_age: Duration::from_secs(100_000),
            jitter_percent: 10,
        },
        ..Config::default()
    }
}

/// A relay and all that belongs to it.
struct Scene {
    world: World,
    journal: Journal,
    machine: MachineId,
    links: Arc<Links<SimBell>>,
    shards: usize,
    config: Config,
}

impl Scene {
    fn new(world: World, shards: usize, config: Config) -> Scene {
        let (journal, machine) = (Journal::new(), world.add_machine());
        for (number, name) in ["senders.example", "any.example"].into_iter().enumerate() {
            let at = IpAddr::V4(Ipv4Addr::new(10, 1, 0, 1 + number as u8));
            world.zone().add_domain(name, &[at], Duration::from_secs(300));
            NextHop::new(name, SocketAddr::new(at, 25), Profile::kind()).start(&world, &journal);
        }
        let links = boot(&world, machine, shards, &config, 64);
        Scene { world, journal, machine, links, shards, config }
    }

    fn disk(&self) -> Rc<Disk> {
        self.world.disk(self.machine)
    }

    /// Clients that go on until all their mail is acknowledged.
    fn start_clients(&self) {
        for client in 0..CLIENTS {
            let message = |n| {
                let to = ["a@any.example".to_owned()];
                Rc::new(Submission::new(client * MESSAGES + n, "s@senders.example", &to, BODY))
            };
            let mail = (0..MESSAGES).map(message).collect();
            let plan = Client {
                per_connection: 3,
                attempts: 500,
                pause: Span::millis(500, 3_000),
                pipelines: client % 2 == 0,
                ..Client::plain(address())
            };
            let (world, journal) = (self.world.clone(), self.journal.clone());
            self.world.outside().spawn(async move { plan.run(&world, &journal, mail).await });
        }
    }

    async fn sleep(&self, seconds: u64) {
        self.world.sleep(Duration::from_secs(seconds)).await;
    }

    fn acknowledged(&self) -> usize {
        self.journal.records().sent.values().filter(|sent| !sent.owed.is_empty()).count()
    }

    fn delivered(&self) -> usize {
        self.journal.records().deliveries.len()
    }

    fn listening(&self) -> usize {
        self.world.network().listeners_at(address())
    }

    async fn snapshots(&self) -> Vec<Snapshot> {
        let place = Arc::new(ArrayQueue::new(self.shards));
        for shard in 0..self.shards {
            let ask = ShardMessage::Control(Control::Snapshot(place.clone()));
            self.links.try_send(shard, ask).expect("inboxes have room");
        }
        self.sleep(1).await;
        let mut snapshots: Vec<Snapshot> = std::iter::from_fn(|| place.pop()).collect();
        snapshots.sort_by_key(|snapshot| snapshot.shard);
        assert_eq!(snapshots.len(), self.shards);
        snapshots
    }

    /// The alarms of a shard.
    async fn causes(&self, shard: usize) -> Vec<Cause> {
        self.snapshots().await[shard].alarms.iter().map(|alarm| alarm.cause).collect()
    }

    /// All mail has come through, each message as often as it must.
    async fn assert_whole(&self, why: &str) {
        self.sleep(600).await;
        assert_eq!((self.acknowledged(), self.listening()), (ALL, self.shards), "{why}");
        assert_eq!(oracle::check(&self.journal.records(), &[]), [], "{why}");
        for snapshot in self.snapshots().await {
            assert_eq!((snapshot.takes_mail, snapshot.alarms), (true, vec![]), "{why}");
            let waiting = snapshot.gauges.iter().find(|gauge| gauge.0 == "spool_messages");
            assert_eq!(waiting.map(|gauge| gauge.2), Some(0), "{why}");
        }
    }
}

fn in_scene<F: Future<Output = ()> + 'static>(
    seed: u64,
    shards: usize,
    config: Config,
    program: impl FnOnce(Scene) -> F + 'static,
) {
    let report = run(Options::calm(seed), move |world| async move {
        program(Scene::new(world, shards, config)).await;
    });
    report.result.unwrap_or_else(|failure| panic!("seed {seed}, {shards} shards: {failure:?}"));
}

#[test]
fn a_shard_whose_disk_fails_steps_out_and_the_others_go_on() {
    for (number, (fault, cause)) in STOPPING.into_iter().enumerate() {
        for seed in 0..8 {
            let shards = 2 + seed as usize % 2;
            in_scene(100 * number as u64 + seed, shards, config(), move |scene| async move {
                let why = format!("{fault:?}, seed {seed}");
                let under = Path::new("/spool/shard-1");
                scene.start_clients();
                scene.sleep(3 + seed).await;
                fault.begin(&scene.disk(), under);
                scene.sleep(8).await;
                let (acknowledged, delivered) = (scene.acknowledged(), scene.delivered());
                assert_eq!(scene.listening(), shards - 1, "{why}");
                let snapshots = scene.snapshots().await;
                let taking: Vec<bool> = snapshots.iter().map(|snapshot| snapshot.takes_mail).collect();
                assert_eq!(taking, (0..shards).map(|shard| shard != 1).collect::<Vec<_>>(), "{why}");
                let alarms: Vec<Cause> = snapshots[1].alarms.iter().map(|alarm| alarm.cause).collect();
                assert!(alarms.contains(&cause), "{alarms:?}, {why}");
                assert!(snapshots[0].alarms.is_empty(), "{why}");
                scene.sleep(8).await;
                assert!(scene.acknowledged() > acknowledged + 5, "the others take mail: {why}");
                assert!(scene.delivered() > delivered + 5, "and deliver it: {why}");
                Fault::end(&scene.disk(), under);
                scene.assert_whole(&why).await;
            });
        }
    }
}

#[test]
fn faults_that_come_and_go_cost_nothing_that_was_acknowledged() {
    for (number, fault) in [SOME_WRITES, SOME_SYNCS, NAMES, READS, FLIPS].into_iter().enumerate() {
        for seed in 0..8 {
            let shards = 1 + seed as usize % 3;
            let reception = Reception { body_memory: NO_MEMORY, ..Reception::default() };
            let config = Config { reception, ..config() };
            in_scene(1_000 + 100 * number as u64 + seed, shards, config, move |scene| async move {
                let why = format!("{fault:?}, seed {seed}");
                let under = Path::new("/spool/shard-0");
                scene.start_clients();
                scene.sleep(3).await;
                fault.begin(&scene.disk(), under);
                scene.sleep(30).await;
                assert!(scene.listening() >= 1, "{why}");
                Fault::end(&scene.disk(), under);
                scene.assert_whole(&why).await;
            });
        }
    }
}

#[test]
fn when_no_shard_takes_mail_all_listen_and_refuse_until_it_is_over() {
    for (number, (fault, _)) in STOPPING.into_iter().enumerate() {
        for shards in 1..4 {
            in_scene(2_000 + 100 * number as u64, shards, config(), move |scene| async move {
                let why = format!("{fault:?}, {shards} shards");
                scene.start_clients();
                scene.sleep(5).await;
                fault.begin(&scene.disk(), Path::new("/spool"));
                (0..shards).for_each(|shard| fault.begin(&scene.disk(), shard_directory(shard).as_ref()));
                // Who has no mail learns of a disk that fails only when somebody tries.
                scene.sleep(20).await;
                assert_eq!(scene.listening(), shards, "{why}");
                let acknowledged = scene.acknowledged();
                for _ in 0..10 {
                    let code = mail_code(&scene, "MAIL FROM:<a@b.example>\r\n").await;
                    let expected = if matches!(fault, Fault::Brim) { 452 } else { 451 };
                    assert_eq!(code, expected, "{why}");
                }
                assert_eq!(scene.acknowledged(), acknowledged, "{why}");
                Fault::end(&scene.disk(), Path::new("/spool"));
                (0..shards).for_each(|shard| Fault::end(&scene.disk(), shard_directory(shard).as_ref()));
                scene.assert_whole(&why).await;
            });
        }
    }
}

fn shard_directory(shard: usize) -> String {
    format!("/spool/shard-{shard}")
}

/// The reply to MAIL on a new connection.
async fn mail_code(scene: &Scene, mail: &str) -> u16 {
    let deadline = || scene.world.now() + Duration::from_secs(10);
    let conn = scene.world.outside().connect(address(), None, deadline()).await.expect("somebody listens");
    let mut lines = Lines::new(conn);
    lines.reply(deadline()).await.expect("a greeting");
    lines.send(b"EHLO client.example\r\n", deadline()).await.expect("sent");
    lines.reply(deadline()).await.expect("a reply");
    lines.send(mail.as_bytes(), deadline()).await.expect("sent");
    let code = lines.reply(deadline()).await.expect("a reply").0;
    lines.into_conn().close().await;
    code
}

#[test]
fn a_session_on_a_shard_that_stepped_out_is_sent_to_the_others() {
    in_scene(3_000, 2, config(), |scene| async move {
        scene.start_clients();
        scene.sleep(1).await;
        let deadline = Time::FAR;
        let mut sessions = Vec::new();
        for _ in 0..12 {
            let conn = scene.world.outside().connect(address(), None, deadline).await.expect("they listen");
            let mut lines = Lines::new(conn);
            lines.reply(deadline).await.expect("a greeting");
            lines.send(b"EHLO client.example\r\n", deadline).await.expect("sent");
            lines.reply(deadline).await.expect("a reply");
            sessions.push(lines);
        }
        WRITES.begin(&scene.disk(), Path::new("/spool/shard-1"));
        scene.sleep(20).await;
        assert_eq!(scene.listening(), 1);
        let mut codes = Vec::new();
        for mut lines in sessions {
            lines.send(b"MAIL FROM:<a@b.example>\r\n", deadline).await.expect("sent");
            codes.push(lines.reply(deadline).await.expect("a reply").0);
        }
        assert!(codes.iter().all(|code| [250, 421].contains(code)), "{codes:?}");
        assert!(codes.contains(&250) && codes.contains(&421), "{codes:?}");
        Fault::end(&scene.disk(), Path::new("/spool/shard-1"));
        scene.assert_whole("sessions").await;
    });
}

#[test]
fn a_declared_size_that_does_not_fit_is_refused_early() {
    in_scene(3_100, 1, config(), |scene| async move {
        scene.sleep(1).await;
        let spool = &scene.config.spool;
        let disk = scene.disk();
        disk.set_capacity_under(Path::new("/spool/shard-0"), disk.used() + spool.free_bytes_min + (1 << 20));
        scene.sleep(2).await;
        for (size, code) in [(1 << 19, 250), (3 << 20, 452), (1_u64 << 40, 552)] {
            assert_eq!(mail_code(&scene, &format!("MAIL FROM:<> SIZE={size}\r\n")).await, code, "{size}");
        }
    });
}

#[test]
fn power_that_fails_while_a_disk_fails_loses_nothing_that_was_acknowledged() {
    for (number, fault) in
        [WRITES, SOME_WRITES, SYNCS, SOME_SYNCS, NO_SPACE, READ_ONLY, Fault::Brim].into_iter().enumerate()
    {
        for seed in 0..8 {
            let shards = 1 + seed as usize % 3;
            in_scene(4_000 + 100 * number as u64 + seed, shards, config(), move |scene| async move {
                let why = format!("{fault:?}, seed {seed}");
                let under = Path::new("/spool/shard-0");
                scene.start_clients();
                scene.sleep(3).await;
                let begun = scene.world.now();
                fault.begin(&scene.disk(), under);
                scene.sleep(2 + seed).await;
                // Outcomes that the disk did not take are forgotten.
                scene.journal.excuse(begun..=scene.world.now());
                scene.world.crash(scene.machine, Crash::Power);
                Fault::end(&scene.disk(), under);
                scene.sleep(1).await;
                let links = boot(&scene.world, scene.machine, shards, &scene.config, 64);
                Scene { links, ..scene }.assert_whole(&why).await;
            });
        }
    }
}

#[test]
fn a_message_that_cannot_be_read_is_one_alarm_and_is_given_up_with_its_segment_kept() {
    let retry = Retry { max_age: Duration::from_secs(60), ..config().retry };
    let reception = Reception { body_memory: NO_MEMORY, ..Reception::default() };
    in_scene(5_000, 1, Config { retry, reception, ..config() }, |scene| async move {
        READS.begin(&scene.disk(), Path::new("/spool/shard-0"));
        scene.start_clients();
        scene.sleep(60).await;
        assert_eq!((scene.acknowledged(), scene.delivered(), scene.listening()), (ALL, 0, 1));
        assert_eq!(scene.causes(0).await, [Cause::Read]);
        scene.sleep(400).await;
        let snapshot = scene.snapshots().await.remove(0);
        let gauge = |name| snapshot.gauges.iter().find(|gauge| gauge.0 == name).map(|gauge| gauge.2);
        assert_eq!((gauge("queue_messages"), snapshot.alarms), (Some(0), vec![]));
        let failed = snapshot.counters.iter().find(|counter| counter.0 == "reads_failed");
        assert!(failed.is_some_and(|counter| counter.2 < 40 * ALL as u64), "no hot loop: {failed:?}");
    });
}

#[test]
fn a_shard_whose_committer_panics_ends_and_says_why() {
    let options = Options { contains_panics: true, ..Options::calm(6_000) };
    let report = run(options, |world| async move {
        let machine = world.add_machine();
        let host = world.boot(machine, 1).remove(0);
        let links = Links::with_capacity(vec![host.bell()], 64);
        let ended = Rc::new(RefCell::new(None));
        let (slot, running, config) = (ended.clone(), host.clone(), Rc::new(config()));
        host.spawn(async move { *slot.borrow_mut() = Some(shard::run(running, config, links, 0).await) });
        world.sleep(Duration::from_secs(1)).await;
        world.plant(vec![Planted::CommitterPanics]);
        let message = Submission::new(1, "s@senders.example", &["a@any.example".to_owned()], BODY);
        Client::plain(address()).run(&world, &Journal::new(), vec![Rc::new(message)]).await;
        world.sleep(Duration::from_secs(2)).await;
        ended.take()
    });
    let ended = report.result.expect("the world goes on").expect("the shard has ended");
    assert!(ended.as_ref().is_err_and(|why| why.contains("/spool/shard-0 panicked")), "{ended:?}");
}
