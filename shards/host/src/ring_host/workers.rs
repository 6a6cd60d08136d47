//! Threads for work that would hold up a shard: checking a password takes tens of milliseconds.
//!
//! The queue before them is bounded and shared by all shards: when it is full, work is refused, and whoever asked says
//! so to its peer. The answer comes back in a slot of the asker's own, and the asker's bell is rung. Nobody waits on a
//! lock for longer than it takes to move a pointer.

use std::any::Any;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use mail::Time;

use super::core::{Due, Shared};
use super::timers::TimerId;
use crate::{Bell, WorkError};

type Work = Box<dyn FnOnce() + Send>;

/// Worker threads, and the queue before them. They end once the last clone is dropped and the queue is empty.
#[derive(Clone)]
pub struct Workers(Arc<Ending>);

/// Tells the threads to end when it is dropped.
struct Ending(Arc<Pool>);

struct Pool {
    queue: Mutex<Queue>,
    filled: Condvar,
    queue_max: usize,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Work>,
    has_ended: bool,
}

impl Workers {
    /// Starts `threads` threads, before which up to `queue_max` pieces of work may wait.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(threads: usize, queue_max: usize) -> io::Result<Workers> {
        let pool = Pool { queue: Mutex::default(), filled: Condvar::new(), queue_max };
        let workers = Workers(Arc::new(Ending(Arc::new(pool))));
        for number in 0..threads {
            let pool = workers.0.0.clone();
            let thread = std::thread::Builder::new().name(format!("worker-{number}"));
            thread.spawn(move || pool.work())?;
        }
        Ok(workers)
    }

    /// Pieces of work that wait for a thread.
    pub fn waiting(&self) -> usize {
        self.0.0.queue().waiting.len()
    }

    fn submit(&self, work: Work) -> Result<(), WorkError> {
        let pool = &self.0.0;
        let mut queue = pool.queue();
        if queue.waiting.len() >= pool.queue_max {
            return Err(WorkError::Busy);
        }
        queue.waiting.push_back(work);
        drop(queue);
        pool.filled.notify_one();
        Ok(())
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.queue().has_ended = true;
        self.0.filled.notify_all();
    }
}

impl Pool {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        loop {
            let mut queue = self.queue();
            let work = loop {
                match queue.waiting.pop_front() {
                    Some(work) => break work,
                    None if queue.has_ended => return,
                    None => queue = self.filled.wait(queue).unwrap_or_else(PoisonError::into_inner),
                }
            };
            drop(queue);
            work();
        }
    }
}

/// Where an answer is put, and whether anybody still wants it.
struct Slot<T> {
    answer: Mutex<Option<Result<T, Box<dyn Any + Send>>>>,
    is_abandoned: AtomicBool,
}

impl<T> Slot<T> {
    fn take(&self) -> Option<Result<T, WorkError>> {
        let answer = self.answer.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        Some(answer.map_err(|_| WorkError::Panicked))
    }
}

/// One wait for an answer. Dropping it abandons the work: what has not begun is skipped, a late answer is dropped.
struct Waiting<T> {
    slot: Arc<Slot<T>>,
    shared: Rc<Shared>,
    number: u64,
    timer: Option<TimerId>,
}

impl<T> Drop for Waiting<T> {
    fn drop(&mut self) {
        self.slot.is_abandoned.store(true, Ordering::Relaxed);
        self.shared.answers.borrow_mut().remove(&self.number);
        if let Some(timer) = self.timer.take()
            && let Some(mut core) = self.shared.living_core()
        {
            core.timers.cancel(timer);
        }
    }
}

/// Has `work` done by one of `workers`, and waits for the answer until `deadline`.
pub(super) async fn work<T: Send + 'static>(
    shared: Rc<Shared>,
    workers: &Workers,
    work: impl FnOnce() -> T + Send + 'static,
    deadline: Time,
) -> Result<T, WorkError> {
    let slot = Arc::new(Slot { answer: Mutex::new(None), is_abandoned: AtomicBool::new(false) });
    let (place, bell) = (slot.clone(), shared.bell.clone());
    workers.submit(Box::new(move || {
        if place.is_abandoned.load(Ordering::Relaxed) {
            return;
        }
        let answer = catch_unwind(AssertUnwindSafe(work));
        *place.answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
        bell.ring();
    }))?;
    let number = shared.next_answer();
    let mut waiting = Waiting { slot, shared, number, timer: None };
    poll_fn(move |cx| {
        // First the place where to be woken, then the look: an answer in between rings for the next poll.
        waiting.shared.answers.borrow_mut().insert(number, cx.waker().clone());
        if let Some(answer) = waiting.slot.take() {
            return Poll::Ready(answer);
        }
        if waiting.shared.now() >= deadline {
            return Poll::Ready(Err(WorkError::Late));
        }
        if let Some(mut core) = waiting.shared.living_core() {
            if let Some(timer) = waiting.timer.take() {
                core.timers.cancel(timer);
            }
            waiting.timer = Some(core.timers.insert(deadline, Due::Sleep(cx.waker().clone())));
        }
        Poll::Pending
    })
    .await
}
