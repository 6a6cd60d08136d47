//! The task that turns the ring. It yields, so that every woken task runs, and then either takes what has completed
//! or, when nothing ran, sleeps in the ring. glommio itself never sleeps, so nothing here waits for its reactor.

use std::future::{Future, pending, poll_fn};
use std::io;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use mail::Time;

use super::core::{Shared, now};

/// glommio may park although tasks are runnable, when the thread lost its CPU for longer than the preempt timer.
/// A timer of its own wakes it after this long.
const HEARTBEAT: Duration = Duration::from_millis(50);
/// Coming back this late, with nothing else having run, is counted as a stall.
const STALL: Duration = Duration::from_millis(40);
/// Turns that are put off while tasks still run, so that what they send is handed over by the system call that
/// waits, not by one of its own.
const HELD_MAX: u32 = 1;

/// Turns the ring for ever; returns the error after which that makes no sense.
pub(super) async fn pump(shared: Rc<Shared>) -> io::Error {
    let mut held = 0;
    loop {
        let (polls, left) = (shared.polls.get(), now());
        shared.forget_time();
        yield_once().await;
        if shared.has_ended.get() {
            // The main task is done, which glommio notices only once this one no longer runs.
            return pending().await;
        }
        let ran = shared.polls.get() != polls;
        if !ran {
            count_stall(&shared, left);
        }
        let heard = shared.hear_bell();
        if ran && held < HELD_MAX && !shared.core().ring.is_ready() {
            held += 1;
            continue;
        }
        held = 0;
        if let Err(error) = shared.turn(!ran && !heard) {
            return error;
        }
    }
}

/// Keeps glommio from sleeping for ever.
pub(super) async fn heartbeat() {
    loop {
        glommio::timer::sleep(HEARTBEAT).await;
    }
}

fn count_stall(shared: &Shared, left: Time) {
    if now().since(left) > STALL {
        shared.stalls.set(shared.stalls.get() + 1);
    }
}

/// Lets every other runnable task run once.
fn yield_once() -> impl Future<Output = ()> {
    let mut yielded = false;
    poll_fn(move |cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
}
