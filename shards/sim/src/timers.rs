//! Virtual time: it stands still while a task runs, and jumps to the next timer when no task is ready.

use mail::Time;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::task::{Poll, Waker};
use std::time::Duration;

type Key = (Time, u64);

/// The clock of a world and what waits for it. Timers of one deadline fire in the order in which they were set.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    now: Cell<Time>,
    waiting: RefCell<BTreeMap<Key, Waker>>,
    sequence: Cell<u64>,
}

impl Timers {
    pub(crate) fn now(&self) -> Time {
        self.now.get()
    }

    /// Lets time pass while a task runs.
    pub(crate) fn pass(&self, time: Duration) {
        self.now.set(self.now.get() + time);
    }

    /// Wakes whatever is due.
    pub(crate) fn fire(&self) {
        let mut waiting = self.waiting.borrow_mut();
        while let Some(first) = waiting.first_entry()
            && first.key().0 <= self.now.get()
        {
            first.remove().wake();
        }
    }

    /// Goes to the next timer and tells its time; `None` when there is none.
    pub(crate) fn jump(&self) -> Option<Time> {
        let next = self.waiting.borrow().first_key_value().map(|(key, _)| key.0)?;
        self.now.set(self.now.get().max(next));
        Some(next)
    }

    fn set(&self, at: Time, waker: &Waker) -> Key {
        let key = (at, self.sequence.get());
        self.sequence.set(key.1 + 1);
        self.waiting.borrow_mut().insert(key, waker.clone());
        key
    }

    /// Waits for a wake-up by whatever `register` handed the waker to, or for `until`. May also return early:
    /// the caller looks again at what it waits for.
    pub(crate) async fn park(&self, until: Time, register: impl FnOnce(&Waker)) {
        let mut register = Some(register);
        let mut armed = Armed { timers: self, key: None };
        poll_fn(|context| match register.take() {
            Some(register) => {
                register(context.waker());
                armed.key = (until != Time::FAR).then(|| self.set(until, context.waker()));
                Poll::Pending
            }
            None => Poll::Ready(()),
        })
        .await;
    }

    /// Waits until `at`.
    pub(crate) async fn sleep_until(&self, at: Time) {
        while self.now() < at {
            self.park(at, |_| ()).await;
        }
    }

    /// Waits for `time` to pass.
    pub(crate) async fn sleep(&self, time: Duration) {
        self.sleep_until(self.now() + time).await;
    }
}

/// A timer that goes when its future goes, so that time never jumps to a deadline nobody waits for.
struct Armed<'t> {
    timers: &'t Timers,
    key: Option<Key>,
}

impl Drop for Armed<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.timers.waiting.borrow_mut().remove(&key);
        }
    }
}
