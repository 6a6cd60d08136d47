//! The bell of a simulated shard.

use crate::random::{Span, Stream};
use crate::timers::Timers;
use mail::Time;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

/// How long it takes until a shard that was rung runs again.
const WAKE_UP: Span = Span::micros(0, 200);

#[derive(Default)]
struct State {
    rung: bool,
    waiter: Option<Waker>,
}

/// Wakes a shard after a scheduling delay.
#[derive(Clone, Default)]
pub struct SimBell(Arc<Mutex<State>>);

impl SimBell {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until it has been rung since this last returned.
    pub(crate) async fn rung(&self, timers: &Timers, random: &Stream) {
        while !self.state().rung {
            timers.park(Time::FAR, |waker| self.state().waiter = Some(waker.clone())).await;
        }
        timers.sleep(random.span(WAKE_UP)).await;
        self.state().rung = false;
    }
}

impl host::Bell for SimBell {
    fn ring(&self) {
        let waiter = {
            let mut state = self.state();
            state.rung = true;
            state.waiter.take()
        };
        if let Some(waiter) = waiter {
            waiter.wake();
        }
    }
}
