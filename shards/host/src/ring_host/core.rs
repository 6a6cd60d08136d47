//! All that is under way on one shard, and the turn that moves it: hand over, take completions, wake.

use std::cell::{Cell, RefCell, RefMut};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
use std::rc::Rc;
use std::sync::OnceLock;
use std::task::{Context, Waker};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use io_uring::{opcode, squeue, types};
use mail::{Time, WallTime};

use super::bell::RingBell;
use super::listener::Accepting;
use super::operation::Operation;
use super::pool::{Memory, Pool};
use super::ring::{Completion, Ring};
use super::slots::{Key, Slots};
use super::stream::Stream;
use super::timers::Timers;
use super::token::{Kind, Token};

/// Longest wait in the ring. All that a shard waits for ends it early; it only bounds how long glommio's own
/// reactor goes without a look.
const WAIT_MAX: Duration = Duration::from_secs(1);
/// How long the end of a shard waits for the last completions.
const END_MAX: Duration = Duration::from_secs(2);

/// What a timer is for.
pub(super) enum Due {
    /// A receive or a send of a stream.
    Stream(Key),
    /// A one-shot operation.
    Operation(Key),
    /// A sleeping task.
    Sleep(Waker),
}

/// The ring and everything that refers to it. The ring comes first, so that it is dropped first.
pub(super) struct Core {
    pub(super) ring: Ring,
    pub(super) pool: Pool,
    pub(super) streams: Slots<Stream>,
    pub(super) listeners: Slots<Accepting>,
    pub(super) operations: Slots<Operation>,
    pub(super) timers: Timers<Due>,
    /// Streams whose receive ended for want of a buffer.
    pub(super) starved: VecDeque<Key>,
    pub(super) bell_waiter: Option<Waker>,
    pub(super) counters: Counters,
    /// Woken only when the core is not borrowed: what a waker runs is not ours.
    ready: Vec<Waker>,
    reaped: Vec<Completion>,
}

/// What only ever grows.
#[derive(Default)]
pub(super) struct Counters {
    pub(super) turns: u64,
    pub(super) completions: u64,
    pub(super) enobufs: u64,
    pub(super) spilled: u64,
}

/// One shard's core and what is looked at without borrowing it. `core` is empty once the shard has ended.
pub(super) struct Shared {
    core: RefCell<Option<Core>>,
    pub(super) memory: Rc<Memory>,
    pub(super) bell: RingBell,
    /// Whether the bell was heard and nobody has been told.
    pub(super) rung: Cell<bool>,
    /// Who waits for answers of worker threads, which ring the bell.
    pub(super) answers: RefCell<BTreeMap<u64, Waker>>,
    answers_begun: Cell<u64>,
    /// What the clocks said when they were first asked since the pump last ran. Reading one costs as much as parsing a
    /// command, and a message asks dozens of times.
    now: Cell<Option<Time>>,
    wall: Cell<Option<WallTime>>,
    /// Polls of tasks, by which the pump knows whether anything ran.
    pub(super) polls: Cell<u64>,
    /// Whether the main task has returned.
    pub(super) has_ended: Cell<bool>,
    pub(super) spawned: Cell<u64>,
    pub(super) panics: Cell<u64>,
    pub(super) stalls: Cell<u64>,
    /// Why the ring is of no use any more, and who wants to know.
    fatal: RefCell<(Option<io::Error>, Option<Waker>)>,
}

/// The monotonic clock, with one origin for all shards of the process, so that times may travel between them.
#[expect(clippy::disallowed_methods, reason = "this is the clock that the others ask")]
pub(super) fn now() -> Time {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    let now = Instant::now();
    let since = now.saturating_duration_since(*ORIGIN.get_or_init(|| now));
    Time(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

#[expect(clippy::disallowed_methods, reason = "this is the clock that the others ask")]
fn wall() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

fn remember<T: Copy>(place: &Cell<Option<T>>, read: fn() -> T) -> T {
    place.get().unwrap_or_else(|| {
        let read = read();
        place.set(Some(read));
        read
    })
}

impl Shared {
    /// Makes the ring, on the thread that will use it.
    pub(super) fn new(memory: Memory, bell: RingBell) -> io::Result<Shared> {
        let memory = Rc::new(memory);
        let mut core = Core::new(memory.clone())?;
        core.watch_bell(&bell);
        Ok(Shared {
            core: RefCell::new(Some(core)),
            memory,
            bell,
            rung: Cell::new(false),
            answers: RefCell::default(),
            answers_begun: Cell::new(0),
            now: Cell::new(None),
            wall: Cell::new(None),
            polls: Cell::new(0),
            has_ended: Cell::new(false),
            spawned: Cell::new(0),
            panics: Cell::new(0),
            stalls: Cell::new(0),
            fatal: RefCell::new((None, None)),
        })
    }

    /// The monotonic clock as tasks see it: it stands still while they run one after the other.
    pub(super) fn now(&self) -> Time {
        remember(&self.now, now)
    }

    /// The same for the wall clock.
    pub(super) fn wall(&self) -> WallTime {
        remember(&self.wall, wall)
    }

    /// Lets the clocks be read anew.
    pub(super) fn forget_time(&self) {
        self.now.set(None);
        self.wall.set(None);
    }

    /// The core, for the length of one expression or block without an await.
    pub(super) fn core(&self) -> RefMut<'_, Core> {
        self.living_core().expect("tasks do not run after their shard has ended")
    }

    /// The core, or nothing once the shard has ended; for destructors, which may still run then.
    pub(super) fn living_core(&self) -> Option<RefMut<'_, Core>> {
        RefMut::filter_map(self.core.borrow_mut(), Option::as_mut).ok()
    }

    /// Hands over, takes completions and expired timers, and wakes whom they concern. With `block` it first waits
    /// until there is something of that. An error means that the ring is of no use any more.
    pub(super) fn turn(&self, block: bool) -> io::Result<()> {
        let mut core = self.core();
        core.counters.turns += 1;
        match core.patience().filter(|_| block) {
            // Whoever rings from here on sees that the shard sleeps and wakes it; who rang before is seen here.
            Some(patience) if self.bell.doze() => {
                core.ring.wait(patience);
                self.bell.rouse();
            }
            _ => core.ring.submit(),
        }
        core.settle(&self.bell);
        let fatal = core.ring.take_fatal();
        let ready = std::mem::take(&mut core.ready);
        drop(core);
        self.wake(ready);
        fatal.map_or(Ok(()), Err)
    }

    /// Takes what has completed without ever waiting, for a task that wants to know now.
    pub(super) fn glance(&self) {
        let mut core = self.core();
        if core.ring.is_ready() {
            core.ring.submit();
            core.settle(&self.bell);
        }
        let ready = std::mem::take(&mut core.ready);
        drop(core);
        self.wake(ready);
    }

    /// Wakes, and puts the emptied vector back for its room.
    fn wake(&self, mut ready: Vec<Waker>) {
        ready.drain(..).for_each(Waker::wake);
        if let Some(mut core) = self.living_core()
            && core.ready.is_empty()
        {
            core.ready = ready;
        }
    }

    /// Notes the bell; true when that woke a task.
    pub(super) fn hear_bell(&self) -> bool {
        if !self.bell.hear() {
            return false;
        }
        self.rung.set(true);
        let waiter = self.core().bell_waiter.take();
        let wakes_inbox = waiter.map(Waker::wake).is_some();
        self.wake_answers() || wakes_inbox
    }

    /// Lets all who wait for a worker thread look for their answer; true when there was one.
    fn wake_answers(&self) -> bool {
        let answers = std::mem::take(&mut *self.answers.borrow_mut());
        let wakes = !answers.is_empty();
        answers.into_values().for_each(Waker::wake);
        wakes
    }

    /// A number for one who waits for a worker thread.
    pub(super) fn next_answer(&self) -> u64 {
        self.answers_begun.set(self.answers_begun.get() + 1);
        self.answers_begun.get()
    }

    /// Whether the bell has rung since this was asked last.
    pub(super) fn take_rung(&self) -> bool {
        let heard = self.bell.hear();
        if heard {
            self.wake_answers();
        }
        heard | self.rung.take()
    }

    /// Tells whoever waits in [`Shared::failure`] that the ring is of no use any more.
    pub(super) fn fail(&self, error: io::Error) {
        let mut fatal = self.fatal.borrow_mut();
        fatal.0 = Some(error);
        let waiter = fatal.1.take();
        drop(fatal);
        waiter.into_iter().for_each(Waker::wake);
    }

    /// The error after which the shard cannot go on; the caller is woken when there is one.
    pub(super) fn failure(&self, cx: &mut Context<'_>) -> Option<io::Error> {
        let mut fatal = self.fatal.borrow_mut();
        fatal.1 = Some(cx.waker().clone());
        fatal.0.take()
    }

    /// Ends all that is under way, waits for the kernel to be done with our memory, and closes the ring.
    pub(super) fn end(&self) {
        let Some(mut core) = self.core.borrow_mut().take() else { return };
        if !core.end() {
            tracing::error!("operations did not end; their memory is left behind");
            std::mem::forget(core);
        }
    }
}

impl Core {
    fn new(memory: Rc<Memory>) -> io::Result<Core> {
        let ring = Ring::new()?;
        let pool = Pool::register(memory, &ring.submitter())?;
        Ok(Core {
            ring,
            pool,
            streams: Slots::new(),
            listeners: Slots::new(),
            operations: Slots::new(),
            timers: Timers::new(),
            starved: VecDeque::new(),
            bell_waiter: None,
            counters: Counters::default(),
            ready: Vec::new(),
            reaped: Vec::new(),
        })
    }

    /// Wakes a task at the end of the turn.
    pub(super) fn wake(&mut self, waker: Option<Waker>) {
        self.ready.extend(waker);
    }

    /// Closes a descriptor by the ring, together with whatever else is handed over.
    pub(super) fn close(&mut self, descriptor: OwnedFd) {
        let entry = opcode::Close::new(types::Fd(descriptor.into_raw_fd())).build();
        // SAFETY: the descriptor was owned and nobody else knows it.
        unsafe { self.ring.push(entry.flags(squeue::Flags::SKIP_SUCCESS), Token::alone(Kind::Ignored)) };
    }

    fn watch_bell(&mut self, bell: &RingBell) {
        let entry = opcode::PollAdd::new(types::Fd(bell.eventfd().as_raw_fd()), libc::POLLIN as u32);
        // SAFETY: the bell lives as long as the shard, and the entry names no memory.
        unsafe { self.ring.push(entry.multi(true).build(), Token::alone(Kind::Bell)) };
    }

    /// How long to wait for a completion; nothing when a timer is due.
    fn patience(&self) -> Option<Duration> {
        let left = self.timers.next().map_or(WAIT_MAX, |at| at.since(now()).min(WAIT_MAX));
        (!left.is_zero()).then_some(left)
    }

    /// Takes completions and expired timers.
    fn settle(&mut self, bell: &RingBell) {
        let mut reaped = std::mem::take(&mut self.reaped);
        self.ring.reap(&mut reaped);
        self.counters.completions += reaped.len() as u64;
        if self.ring.take_torn() {
            self.operations.iter_mut().for_each(Operation::distrust);
        }
        for completion in reaped.drain(..) {
            self.complete(completion, Some(bell));
        }
        self.reaped = reaped;
        self.expire();
    }

    /// `bell` is to be watched again when its watch has ended.
    fn complete(&mut self, completion: Completion, bell: Option<&RingBell>) {
        let key = completion.token.key;
        match completion.token.kind {
            Kind::Receive => self.on_received(key, completion),
            Kind::Send => self.on_sent(key, completion.result),
            Kind::Accept => self.on_accepted(key, completion),
            Kind::Operation => self.on_operation(key, 0, completion.result),
            Kind::Linked => self.on_operation(key, 1, completion.result),
            Kind::Bell if !completion.more() => bell.into_iter().for_each(|bell| self.watch_bell(bell)),
            Kind::Bell | Kind::Ignored => {}
        }
    }

    fn expire(&mut self) {
        let Some(first) = self.timers.next() else { return };
        let now = now();
        if first > now {
            return;
        }
        while let Some(due) = self.timers.expire(now) {
            match due {
                Due::Stream(key) => self.on_stream_due(key, now),
                Due::Operation(key) => self.on_operation_due(key),
                Due::Sleep(waker) => self.wake(Some(waker)),
            }
        }
    }

    /// Abandons everything and waits for the last completions; false when some do not come.
    fn end(&mut self) -> bool {
        self.streams.keys().into_iter().for_each(|key| self.abandon_stream(key));
        self.listeners.keys().into_iter().for_each(|key| self.abandon_listener(key));
        self.operations.keys().into_iter().for_each(|key| self.abandon_operation(key));
        self.ring.cancel(Token::alone(Kind::Bell));
        let until = now() + END_MAX;
        loop {
            self.ring.submit();
            let mut reaped = Vec::new();
            self.ring.reap(&mut reaped);
            reaped.into_iter().for_each(|completion| self.complete(completion, None));
            if self.streams.is_empty() && self.listeners.is_empty() && self.operations.is_empty() {
                self.ring.submit();
                return true;
            }
            if now() > until || self.ring.take_fatal().is_some() {
                return false;
            }
            self.ring.wait(Duration::from_millis(50));
        }
    }
}
