//! A world: machines, what is between them, and the time in which they live.

use crate::bell::SimBell;
use crate::disk::{Disk, DiskFaults};
use crate::dns::{DnsFaults, Zone};
use crate::executor::{Event, Executor, Failure, MachineId};
use crate::host::SimHost;
use crate::network::{Network, NetworkFaults};
use crate::random::{Chance, Span, Stream, Streams};
use crate::timers::Timers;
use host::Planted;
use mail::{Time, WallTime};
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

/// Wall time at which every world begins: 25 November 2026.
const BEGINNING: WallTime = WallTime(1_795_566_960_000_000);
/// What a machine's monotonic clock shows when it boots; it differs from boot to boot, as it does in life.
const CLOCK_AT_BOOT: Span = Span::millis(1_000, 100_000_000);
/// The outside never crashes.
const OUTSIDE: MachineId = MachineId(0);

/// What a world is made of.
#[derive(Clone, Debug)]
pub struct Options {
    /// Everything that is drawn comes from this.
    pub seed: u64,
    /// How the network begins.
    pub network: NetworkFaults,
    /// How each disk begins.
    pub disk: DiskFaults,
    /// How name look-ups begin.
    pub dns: DnsFaults,
    /// How likely it is that all worker threads are busy.
    pub workers_busy: Chance,
    /// Faults planted in the program under test.
    pub planted: Vec<Planted>,
    /// A panic ends only its task, as in the real host, instead of the world.
    pub contains_panics: bool,
    /// Polls after which the world gives up.
    pub polls_max: u64,
    /// Virtual time after which the world gives up.
    pub time_max: Duration,
}

impl Options {
    /// A world in which everything works.
    pub fn calm(seed: u64) -> Options {
        Options {
            seed,
            network: NetworkFaults::NONE,
            disk: DiskFaults::NONE,
            dns: DnsFaults::NONE,
            workers_busy: Chance::NEVER,
            planted: Vec::new(),
            contains_panics: false,
            polls_max: 20_000_000,
            time_max: Duration::from_secs(60 * 24 * 3600),
        }
    }
}

/// How a world ended.
#[derive(Clone, Debug)]
pub struct Report<T> {
    /// What its program returned.
    pub result: Result<T, Failure>,
    /// Hash of all that happened: the same seed and code give the same.
    pub trace: u64,
    /// Polls of tasks.
    pub polls: u64,
    /// Virtual time at the end.
    pub end: Time,
}

/// How a machine crashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The process dies. The kernel closes its connections and keeps what was written, synced or not.
    Process,
    /// The power fails. Peers hear nothing, and the disk keeps only what it must.
    Power,
}

/// One life of a machine, from boot to crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Life {
    pub(crate) machine: MachineId,
    boot: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Up,
    Down(Crash),
}

struct Machine {
    state: State,
    boots: u32,
    /// World time at boot, and what the machine's own clock showed then.
    booted: (Time, Time),
    disk: Rc<Disk>,
}

/// What all parts of a world share.
pub(crate) struct Core {
    pub(crate) executor: Executor,
    pub(crate) timers: Timers,
    pub(crate) streams: Streams,
    pub(crate) network: Network,
    pub(crate) zone: RefCell<Zone>,
    pub(crate) planted: RefCell<Vec<Planted>>,
    machines: RefCell<Vec<Machine>>,
    disk_faults: DiskFaults,
    pub(crate) workers_busy: Chance,
    wall_jump_micros: Cell<i64>,
    crash_due: Cell<Option<(MachineId, Crash, u64)>>,
    contains_panics: bool,
    bounds: (u64, Time),
}

/// Runs a world until `program` ends.
pub fn run<T, F>(options: Options, program: impl FnOnce(World) -> F) -> Report<T>
where
    T: 'static,
    F: Future<Output = T> + 'static,
{
    let world = World::new(options);
    let core = world.0.clone();
    let result = Rc::new(RefCell::new(None));
    let (place, future) = (result.clone(), program(world));
    let program = async move {
        let value = future.await;
        place.replace(Some(value));
    };
    core.executor.spawn(OUTSIDE, 0, Box::pin(program));
    let failure = loop {
        if result.borrow().is_some() {
            break None;
        }
        if let Err(failure) = core.step() {
            break Some(failure);
        }
    };
    core.end();
    let result = match (failure, result.take()) {
        (Some(failure), _) => Err(failure),
        (None, value) => Ok(value.expect("the loop ends without failure only once there is a result")),
    };
    let (trace, polls, end) = (core.executor.trace(), core.executor.polls(), core.timers.now());
    Report { result, trace, polls, end }
}

impl Core {
    /// One poll of a task, or one jump in time.
    fn step(&self) -> Result<(), Failure> {
        self.timers.fire();
        match self.executor.poll_one(&self.streams.scheduling, &self.timers) {
            Some(Ok(machine)) => self.count_down(machine),
            Some(Err(Failure::Panic { machine, .. })) if self.contains_panics && machine != OUTSIDE => {}
            Some(Err(failure)) => return Err(failure),
            None => {
                let at = self.timers.jump().ok_or(Failure::Deadlock)?;
                self.executor.note(Event::Jump, at.0, 0);
            }
        }
        match self.bounds {
            (polls, _) if self.executor.polls() > polls => Err(Failure::Livelock),
            (_, time) if self.timers.now() > time => Err(Failure::Overtime),
            _ => Ok(()),
        }
    }

    /// Crashes the machine whose poll was the one to crash after.
    fn count_down(&self, polled: MachineId) {
        match self.crash_due.get() {
            Some((machine, crash, 0 | 1)) if machine == polled => self.crash(machine, crash),
            Some((machine, crash, polls)) if machine == polled => {
                self.crash_due.set(Some((machine, crash, polls - 1)));
            }
            _ => {}
        }
    }

    fn crash(&self, machine: MachineId, crash: Crash) {
        assert_ne!(machine, OUTSIDE, "the outside does not crash");
        let disk = {
            let mut machines = self.machines.borrow_mut();
            let machine = &mut machines[machine.0];
            machine.state = State::Down(crash);
            machine.disk.clone()
        };
        if self.crash_due.get().is_some_and(|(due, ..)| due == machine) {
            self.crash_due.set(None);
        }
        self.executor.note(Event::Crash, machine.0 as u64, crash as u64);
        match crash {
            Crash::Process => disk.lose_process(&self.streams.disk),
            Crash::Power => disk.lose_power(&self.streams.disk),
        }
        self.executor.drop_tasks(|owner| owner == machine);
    }

    /// Drops all tasks and what is large, since a task that was started by a dead one is never dropped.
    fn end(&self) {
        for machine in self.machines.borrow_mut().iter_mut() {
            machine.state = State::Down(Crash::Process);
        }
        self.executor.drop_tasks(|_| true);
        for machine in self.machines.borrow_mut().iter_mut() {
            machine.disk = Rc::new(Disk::new(self.disk_faults));
        }
    }

    pub(crate) fn is_up(&self, machine: MachineId) -> bool {
        self.machines.borrow()[machine.0].state == State::Up
    }

    /// Whether this life goes on.
    pub(crate) fn is_alive(&self, life: Life) -> bool {
        let machines = self.machines.borrow();
        let machine = &machines[life.machine.0];
        machine.state == State::Up && machine.boots == life.boot
    }

    /// Whether the machine of this life has no power just now.
    pub(crate) fn lost_power(&self, life: Life) -> bool {
        self.machines.borrow()[life.machine.0].state == State::Down(Crash::Power)
    }

    pub(crate) fn disk(&self, machine: MachineId) -> Rc<Disk> {
        self.machines.borrow()[machine.0].disk.clone()
    }

    /// The time of the world as the machine's own clock shows it.
    pub(crate) fn to_machine(&self, life: Life, at: Time) -> Time {
        let (booted, clock) = self.machines.borrow()[life.machine.0].booted;
        clock + at.since(booted)
    }

    /// The time of a machine's clock in the time of the world.
    pub(crate) fn to_world(&self, life: Life, at: Time) -> Time {
        let (booted, clock) = self.machines.borrow()[life.machine.0].booted;
        match at {
            Time::FAR => Time::FAR,
            at => booted + at.since(clock),
        }
    }

    pub(crate) fn wall(&self) -> WallTime {
        let micros = BEGINNING.0 + self.timers.now().0 / 1000;
        WallTime(micros.saturating_add_signed(self.wall_jump_micros.get()))
    }

    fn boot(self: &Rc<Self>, id: MachineId, shards: usize) -> Vec<SimHost> {
        let life = {
            let mut machines = self.machines.borrow_mut();
            let machine = &mut machines[id.0];
            assert_ne!(machine.state, State::Up, "the machine is up already");
            machine.state = State::Up;
            machine.boots += 1;
            if id != OUTSIDE {
                let clock = Time(0) + self.streams.scheduling.span(CLOCK_AT_BOOT);
                machine.booted = (self.timers.now(), clock);
            }
            Life { machine: id, boot: machine.boots }
        };
        self.executor.note(Event::Boot, id.0 as u64, self.timers.now().0);
        (0..shards).map(|shard| SimHost::new(self.clone(), life, shard, SimBell::default())).collect()
    }

    fn add_machine(&self) -> MachineId {
        let mut machines = self.machines.borrow_mut();
        machines.push(Machine {
            state: State::Down(Crash::Process),
            boots: 0,
            booted: (Time(0), Time(0)),
            disk: Rc::new(Disk::new(self.disk_faults)),
        });
        MachineId(machines.len() - 1)
    }
}

/// What the program of a world may do to it.
#[derive(Clone)]
pub struct World(Rc<Core>, SimHost);

impl World {
    fn new(options: Options) -> World {
        let core = Rc::new(Core {
            executor: Executor::default(),
            timers: Timers::default(),
            streams: Streams::new(options.seed),
            network: Network::new(options.network),
            zone: RefCell::new(Zone::new(options.dns)),
            planted: RefCell::new(options.planted),
            machines: RefCell::default(),
            disk_faults: options.disk,
            workers_busy: options.workers_busy,
            wall_jump_micros: Cell::new(0),
            crash_due: Cell::new(None),
            contains_panics: options.contains_panics,
            bounds: (options.polls_max, Time(0) + options.time_max),
        });
        let outside = core.add_machine();
        let host = core.boot(outside, 1).remove(0);
        World(core, host)
    }

    /// The host of everything that is scripted; it never crashes, and its clock is the clock of the world.
    pub fn outside(&self) -> &SimHost {
        &self.1
    }

    /// The time of the world.
    pub fn now(&self) -> Time {
        self.0.timers.now()
    }

    /// Waits for `time` to pass.
    pub async fn sleep(&self, time: Duration) {
        self.0.timers.sleep(time).await;
    }

    /// What scripts draw from.
    pub fn workload(&self) -> &Stream {
        &self.0.streams.workload
    }

    /// The network.
    pub fn network(&self) -> &Network {
        &self.0.network
    }

    /// The names that look-ups find.
    pub fn zone(&self) -> std::cell::RefMut<'_, Zone> {
        self.0.zone.borrow_mut()
    }

    /// Adds a machine with an empty disk; it is down.
    pub fn add_machine(&self) -> MachineId {
        self.0.add_machine()
    }

    /// Switches a machine on; gives the host of each of its shards, on which its program is to be spawned.
    pub fn boot(&self, machine: MachineId, shards: usize) -> Vec<SimHost> {
        self.0.boot(machine, shards)
    }

    /// Crashes a machine now; nothing happens when it is down.
    pub fn crash(&self, machine: MachineId, crash: Crash) {
        if self.is_up(machine) {
            self.0.crash(machine, crash);
        }
    }

    /// Crashes a machine after so many more polls of its tasks (at least one); one such crash can be due at a time.
    pub fn crash_after_polls(&self, machine: MachineId, crash: Crash, polls: u64) {
        self.0.crash_due.set(Some((machine, crash, polls)));
    }

    /// Whether a machine is up.
    pub fn is_up(&self, machine: MachineId) -> bool {
        self.0.is_up(machine)
    }

    /// The disk of a machine.
    pub fn disk(&self, machine: MachineId) -> Rc<Disk> {
        self.0.disk(machine)
    }

    /// Moves the wall clock of all machines, forwards or backwards.
    pub fn jump_wall(&self, micros: i64) {
        self.0.wall_jump_micros.set(self.0.wall_jump_micros.get() + micros);
    }

    /// The faults that are planted from now on.
    pub fn plant(&self, planted: Vec<Planted>) {
        self.0.planted.replace(planted);
    }
}
