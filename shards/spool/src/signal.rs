//! How the tasks of a log wait for each other.

use crate::AppendError;
use host::Host;
use mail::Time;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

/// Wakes one waiting task; a ring while none waits is remembered, several are one.
#[derive(Default)]
pub(crate) struct Signal {
    rung: Cell<bool>,
    waiter: RefCell<Option<Waker>>,
    /// When the alarm under way will ring.
    alarm: Cell<Option<Time>>,
}

impl Signal {
    /// Rings it.
    pub fn ring(&self) {
        self.rung.set(true);
        let waiter = self.waiter.borrow_mut().take();
        if let Some(waiter) = waiter {
            waiter.wake();
        }
    }

    /// Waits until it has been rung since this last returned. One task may wait.
    pub async fn wait(&self) {
        poll_fn(|context| {
            if self.rung.take() {
                return Poll::Ready(());
            }
            *self.waiter.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Rings it at `at`, or earlier when an alarm for an earlier time is under way: whoever waits looks at its own
    /// clock and asks again, so that there is rarely more than one alarm.
    pub fn ring_at<H: Host>(self: &Rc<Self>, host: &H, at: Time) {
        if self.alarm.get().is_some_and(|set| set <= at) {
            return;
        }
        self.alarm.set(Some(at));
        let (signal, timer) = (Rc::clone(self), host.clone());
        host.spawn(async move {
            timer.sleep_until(at).await;
            if signal.alarm.get() == Some(at) {
                signal.alarm.set(None);
            }
            signal.ring();
        });
    }
}

/// Where a group was written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Base {
    pub segment: u32,
    pub offset: u32,
}

/// The result of one group, for all who wait for it.
#[derive(Default)]
pub(crate) struct Ticket {
    result: Cell<Option<Result<Base, AppendError>>>,
    waiters: RefCell<Vec<Waker>>,
}

impl Ticket {
    /// Sets the result, once; a second one is ignored.
    pub fn resolve(&self, result: Result<Base, AppendError>) {
        if self.result.get().is_none() {
            self.result.set(Some(result));
        }
        let waiters = std::mem::take(&mut *self.waiters.borrow_mut());
        waiters.into_iter().for_each(Waker::wake);
    }

    /// Waits for the result.
    pub async fn wait(&self) -> Result<Base, AppendError> {
        let mut slot = None;
        poll_fn(|context| {
            if let Some(result) = self.result.get() {
                return Poll::Ready(result);
            }
            let mut waiters = self.waiters.borrow_mut();
            match slot {
                Some(slot) => Waker::clone_from(&mut waiters[slot], context.waker()),
                None => {
                    slot = Some(waiters.len());
                    waiters.push(context.waker().clone());
                }
            }
            Poll::Pending
        })
        .await
    }
}
