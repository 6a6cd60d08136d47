//! Boots the shards, watches over them, and stops them: the only place that knows that there are several cores.

use crate::metrics::{self, Snapshots};
use crate::signals::Signals;
use crate::users::Source;
use auth::Users;
use crossbeam_queue::ArrayQueue;
use host::ring_host::{self, RingBell, Workers};
use shard::Links;
use shard::config::Config;
use shard::message::{Control, ShardMessage};
use std::fs::{File, TryLockError};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// How long what is under way may take to end once the relay is asked to stop.
const GRACE: Duration = Duration::from_secs(30);
/// How long the last sync of a shard may take.
const FINISH: Duration = Duration::from_secs(30);
/// How long a shard may take to describe itself.
const SNAPSHOT_WAIT: Duration = Duration::from_millis(500);
/// Between two looks at what has no signal of its own.
const LOOK: Duration = Duration::from_millis(2);

/// What the relay needs beyond what its shards are told.
pub struct Options {
    /// The CPU of each shard; `None` for a shard that is not pinned.
    pub cores: Vec<Option<usize>>,
    /// Where metrics are served, if anywhere.
    pub metrics: Option<SocketAddr>,
    /// What asks the relay to stop.
    pub signals: Signals,
    /// Who may log in, if anybody.
    pub users: Option<Source>,
}

/// Runs the relay until it is asked to stop.
pub fn run(config: Config, options: Options) -> Result<(), String> {
    let users = options.users.as_ref().map(|source| source.users.clone());
    let relay = Relay::start(config, &options.cores, Some(options.signals), users)?;
    if let Some(source) = options.users {
        let links = relay.links.clone();
        let hand_on = move |users: Arc<Users>| {
            (0..links.shards()).for_each(|shard| tell(&links, shard, Control::Users(users.clone())));
        };
        std::thread::spawn(move || source.watch(hand_on));
    }
    let server = options.metrics.map(|address| serve_metrics(&relay, address)).transpose()?;
    relay.await_stop()?;
    if let Some(server) = server {
        server.announce_stop();
    }
    relay.stop(GRACE)
}

fn serve_metrics(relay: &Relay, address: SocketAddr) -> Result<metrics::Server, String> {
    metrics::start(address, relay.links.shards(), relay.snapshots())
        .map_err(|error| format!("metrics cannot be served at {address}: {error}"))
}

/// What the program hears.
enum Event {
    /// A shard has ended, and why.
    Ended(usize, Result<(), String>),
    /// Someone asks the relay to stop.
    Stop(String),
}

/// A running relay.
pub struct Relay {
    links: Arc<Links<RingBell>>,
    events: (Sender<Event>, Receiver<Event>),
    _lock: File,
}

impl Relay {
    /// Starts one shard per entry of `cores` and waits until all of them listen. A signal asks it to stop; `users` may
    /// log in.
    pub fn start(
        config: Config,
        cores: &[Option<usize>],
        signals: Option<Signals>,
        users: Option<Arc<Users>>,
    ) -> Result<Relay, String> {
        let lock = lock_spool(&config)?;
        let bells: Vec<RingBell> =
            (0..cores.len()).map(|_| RingBell::new()).collect::<Result<_, _>>().map_err(|error| {
                format!("no descriptors for the bells of the shards: {error}; raise the limit of open files")
            })?;
        let links = Links::new(bells.clone());
        let relay = Relay { links, events: channel(), _lock: lock };
        if let Some(signals) = signals {
            let stop = relay.events.0.clone();
            std::thread::spawn(move || stop.send(Event::Stop(format!("{:?}", signals.wait()))));
        }
        let workers = users.is_some().then(|| Workers::start(config.auth.workers, config.auth.waiting_max));
        let workers = workers.transpose().map_err(|error| format!("worker threads cannot start: {error}"))?;
        for (number, (cpu, bell)) in cores.iter().zip(bells).enumerate() {
            if let Some(users) = &users {
                tell(&relay.links, number, Control::Users(users.clone()));
            }
            let options = ring_host::Options {
                cpu: *cpu,
                name: format!("shard-{number}"),
                bell: Some(bell),
                workers: workers.clone(),
                ..ring_host::Options::default()
            };
            relay.start_shard(number, options, config.clone())?;
        }
        relay.await_ready()?;
        tracing::info!(shards = cores.len(), "relay started");
        Ok(relay)
    }

    fn start_shard(&self, number: usize, options: ring_host::Options, config: Config) -> Result<(), String> {
        let (links, ended) = (self.links.clone(), self.events.0.clone());
        let (report, result) = channel();
        let main = move |host| async move {
            let ended = shard::run(host, Rc::new(config), links, number).await;
            // The receiver waits for the thread and so outlives it.
            report.send(ended).ok();
        };
        let thread = ring_host::start(options, main)
            .map_err(|error| format!("shard {number} cannot start: {error}"))?;
        std::thread::spawn(move || {
            let outcome = match thread.join() {
                Ok(Ok(())) => result.try_recv().unwrap_or_else(|_| Err("it ended without a word".into())),
                Ok(Err(error)) => Err(format!("its ring failed: {error}")),
                Err(_) => Err("its thread panicked".into()),
            };
            ended.send(Event::Ended(number, outcome)).ok();
        });
        Ok(())
    }

    fn await_ready(&self) -> Result<(), String> {
        while self.links.ready.load(Ordering::SeqCst) < self.links.shards() {
            match self.events.1.recv_timeout(LOOK) {
                Ok(Event::Ended(shard, ended)) => return Err(ended_early(shard, ended)),
                Ok(Event::Stop(why)) => {
                    return Err(format!("{why} while the spool was being read; nothing was changed"));
                }
                Err(_) => {}
            }
        }
        Ok(())
    }

    /// Waits until someone asks the relay to stop. A shard that ends by itself is an error: the others cannot take
    /// over what it holds, a new start can.
    fn await_stop(&self) -> Result<(), String> {
        match self.events.1.recv() {
            Ok(Event::Stop(why)) => {
                tracing::info!(why, "stopping");
                Ok(())
            }
            Ok(Event::Ended(shard, ended)) => Err(ended_early(shard, ended)),
            Err(_) => unreachable!("we hold a sender"),
        }
    }

    /// Stops accepting, lets what is under way end within `grace`, and makes everything durable.
    pub fn stop(&self, grace: Duration) -> Result<(), String> {
        self.tell_all(|| Control::Drain(grace));
        let deadline = Instant::now() + grace + SNAPSHOT_WAIT;
        while self.links.quiet.load(Ordering::SeqCst) < self.links.shards() && Instant::now() < deadline {
            self.pause(LOOK)?;
        }
        let quiet = self.links.quiet.load(Ordering::SeqCst);
        tracing::info!(quiet, shards = self.links.shards(), "drained");
        self.tell_all(|| Control::Finish);
        let deadline = Instant::now() + FINISH;
        for ended in 0..self.links.shards() {
            match self.events.1.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(Event::Ended(_, Ok(()))) | Ok(Event::Stop(_)) => {}
                Ok(Event::Ended(shard, Err(error))) => {
                    return Err(format!("shard {shard} did not end well: {error}"));
                }
                Err(_) => {
                    return Err(format!("only {ended} shards have ended; what they acknowledged is durable"));
                }
            }
        }
        tracing::info!("stopped");
        Ok(())
    }

    /// Waits a moment; a shard that dies meanwhile is an error.
    fn pause(&self, time: Duration) -> Result<(), String> {
        match self.events.1.recv_timeout(time) {
            Ok(Event::Ended(shard, ended)) => Err(ended_early(shard, ended)),
            Ok(Event::Stop(_)) | Err(RecvTimeoutError::Timeout) => Ok(()),
            Err(RecvTimeoutError::Disconnected) => unreachable!("we hold a sender"),
        }
    }

    fn tell_all(&self, control: impl Fn() -> Control) {
        (0..self.links.shards()).for_each(|shard| tell(&self.links, shard, control()));
    }

    /// Asks the shards to describe themselves; one that does not answer in time is left out.
    pub fn snapshots(&self) -> Snapshots {
        let links = self.links.clone();
        Arc::new(move || {
            let answers = Arc::new(ArrayQueue::new(links.shards()));
            (0..links.shards()).for_each(|shard| {
                // A full inbox is a busy shard: it is left out like one that is late.
                links.try_send(shard, ShardMessage::Control(Control::Snapshot(answers.clone()))).ok();
            });
            let deadline = Instant::now() + SNAPSHOT_WAIT;
            while !answers.is_full() && Instant::now() < deadline {
                std::thread::park_timeout(LOOK);
            }
            let mut snapshots: Vec<_> = std::iter::from_fn(|| answers.pop()).collect();
            snapshots.sort_by_key(|snapshot| snapshot.shard);
            snapshots
        })
    }
}

/// Sends a control message, waiting for room.
fn tell(links: &Links<RingBell>, shard: usize, control: Control) {
    let mut message = ShardMessage::Control(control);
    while let Err(refused) = links.try_send(shard, message) {
        message = refused;
        std::thread::park_timeout(LOOK);
    }
}

fn ended_early(shard: usize, ended: Result<(), String>) -> String {
    let why = ended.err().unwrap_or_else(|| "it ended without being asked".into());
    format!("shard {shard}: {why}")
}

/// One process per spool. The lock goes with the process, so a crash leaves none behind.
fn lock_spool(config: &Config) -> Result<File, String> {
    let path = config.spool.path.join("lock");
    let failed = |error: &dyn std::fmt::Display| format!("the spool's lock {}: {error}", path.display());
    std::fs::create_dir_all(&config.spool.path).map_err(|error| failed(&error))?;
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|error| failed(&error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(failed(&"another mtad uses this spool; stop it, or set spool.path"))
        }
        Err(TryLockError::Error(error)) => Err(failed(&error)),
    }
}
