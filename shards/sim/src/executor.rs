//! A deterministic executor on one thread: the seed picks the next of the ready tasks.

use crate::random::{Stream, mix};
use crate::timers::Timers;
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

/// The longest that one poll of a task takes, in virtual nanoseconds.
const POLL_NANOS_MAX: u64 = 2_000;

/// A machine of the world; 0 is the outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MachineId(pub usize);

/// Why a world ended before its program did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// A task panicked.
    Panic {
        /// Where it ran.
        machine: MachineId,
        /// In which shard of the machine.
        shard: usize,
        /// What it said.
        message: String,
    },
    /// More polls than [`crate::Options::polls_max`]: most likely tasks that wake each other for ever.
    Livelock,
    /// No task is ready, no timer is set, and the program has not ended.
    Deadlock,
    /// The program ran longer than [`crate::Options::time_max`].
    Overtime,
}

/// What a world notes in its trace.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    Poll = 1,
    Jump,
    Connect,
    Write,
    Read,
    Disk,
    Crash,
    Boot,
}

type LocalFuture = Pin<Box<dyn Future<Output = ()>>>;

struct Task {
    id: u32,
    machine: MachineId,
    shard: usize,
    /// Not here while it is being polled.
    future: Option<LocalFuture>,
    signal: Arc<Signal>,
}

/// A task that is ready: its slot, and its identity, since slots are used again.
type Ready = (u32, u32);

struct Signal {
    ready: Ready,
    /// Already in the queue: a task is there once, however often it is woken.
    queued: AtomicBool,
    queue: Arc<Mutex<Vec<Ready>>>,
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        if !self.queued.swap(true, Ordering::Relaxed) {
            self.queue.lock().unwrap_or_else(PoisonError::into_inner).push(self.ready);
        }
    }
}

/// The tasks of a world.
#[derive(Default)]
pub(crate) struct Executor {
    tasks: RefCell<Vec<Option<Task>>>,
    free: RefCell<Vec<u32>>,
    queue: Arc<Mutex<Vec<Ready>>>,
    spawned: Cell<u32>,
    polls: Cell<u64>,
    trace: Cell<u64>,
}

impl Executor {
    /// Adds a task; it is ready at once.
    pub(crate) fn spawn(&self, machine: MachineId, shard: usize, future: LocalFuture) {
        let id = self.spawned.get();
        self.spawned.set(id + 1);
        let mut tasks = self.tasks.borrow_mut();
        let slot = self.free.borrow_mut().pop().unwrap_or_else(|| {
            tasks.push(None);
            tasks.len() as u32 - 1
        });
        let queued = AtomicBool::new(false);
        let signal = Arc::new(Signal { ready: (slot, id), queued, queue: self.queue.clone() });
        signal.clone().wake();
        tasks[slot as usize] = Some(Task { id, machine, shard, future: Some(future), signal });
    }

    /// Polls one of the ready tasks and tells its machine; `None` when there is none.
    pub(crate) fn poll_one(&self, random: &Stream, timers: &Timers) -> Option<Result<MachineId, Failure>> {
        let ready = self.pick(random)?;
        let Some((machine, shard, mut future, waker)) = self.take(ready) else {
            return Some(Ok(MachineId(0)));
        };
        self.note(Event::Poll, u64::from(ready.1), timers.now().0);
        self.polls.set(self.polls.get() + 1);
        let mut context = Context::from_waker(&waker);
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut context)));
        timers.pass(Duration::from_nanos(random.between(0, POLL_NANOS_MAX)));
        match polled {
            Ok(Poll::Pending) => self.put_back(ready, future),
            Ok(Poll::Ready(())) => self.remove(ready),
            Err(panic) => {
                self.remove(ready);
                return Some(Err(Failure::Panic { machine, shard, message: panic_text(&*panic) }));
            }
        }
        Some(Ok(machine))
    }

    fn pick(&self, random: &Stream) -> Option<Ready> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.is_empty() {
            return None;
        }
        let at = random.below(queue.len());
        Some(queue.swap_remove(at))
    }

    /// Takes a future out of its slot for a poll, since the poll may add and drop tasks.
    fn take(&self, (slot, id): Ready) -> Option<(MachineId, usize, LocalFuture, Waker)> {
        let mut tasks = self.tasks.borrow_mut();
        let task = tasks[slot as usize].as_mut().filter(|task| task.id == id)?;
        task.signal.queued.store(false, Ordering::Relaxed);
        Some((task.machine, task.shard, task.future.take()?, Waker::from(task.signal.clone())))
    }

    fn put_back(&self, (slot, id): Ready, future: LocalFuture) {
        // The future is dropped after the borrow ends when its machine crashed during the poll.
        let mut tasks = self.tasks.borrow_mut();
        let dropped = match tasks[slot as usize].as_mut().filter(|task| task.id == id) {
            Some(task) => task.future.replace(future),
            None => Some(future),
        };
        drop(tasks);
        drop(dropped);
    }

    fn remove(&self, (slot, id): Ready) {
        let mut tasks = self.tasks.borrow_mut();
        if tasks[slot as usize].as_ref().is_some_and(|task| task.id == id) {
            tasks[slot as usize] = None;
            self.free.borrow_mut().push(slot);
        }
    }

    /// Drops the tasks that `dies`, wherever they wait.
    pub(crate) fn drop_tasks(&self, dies: impl Fn(MachineId) -> bool) {
        let mut dead = Vec::new();
        for (slot, task) in self.tasks.borrow_mut().iter_mut().enumerate() {
            if let Some(task) = task.take_if(|task| dies(task.machine)) {
                self.free.borrow_mut().push(slot as u32);
                dead.push(task);
            }
        }
        drop(dead);
    }

    /// Adds an event to the trace.
    pub(crate) fn note(&self, event: Event, a: u64, b: u64) {
        self.trace.set(mix(mix(mix(self.trace.get(), event as u64), a), b));
    }

    /// The hash of all events so far.
    pub(crate) fn trace(&self) -> u64 {
        self.trace.get()
    }

    /// Polls so far.
    pub(crate) fn polls(&self) -> u64 {
        self.polls.get()
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "(no text)".to_owned())
}
