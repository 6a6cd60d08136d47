//! Tasks: counted at each poll, and contained when they panic.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use super::core::Shared;

/// Starts a task that is never cancelled. It is boxed, because glommio would copy a large future twice.
pub(super) fn spawn(shared: &Rc<Shared>, task: impl Future<Output = ()> + 'static) {
    shared.spawned.set(shared.spawned.get() + 1);
    glommio::spawn_local(contained(shared.clone(), Box::pin(task))).detach();
}

/// Runs a task to its end or its panic.
async fn contained(shared: Rc<Shared>, task: Pin<Box<dyn Future<Output = ()>>>) {
    let mut task = Some(task);
    poll_fn(|cx| {
        shared.polls.set(shared.polls.get() + 1);
        let Some(running) = &mut task else { return Poll::Ready(()) };
        match catch_unwind(AssertUnwindSafe(|| running.as_mut().poll(cx))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(())) => Poll::Ready(()),
            Err(panic) => {
                report(&shared, &*panic);
                // What the task held may panic once more when it is dropped.
                if let Err(panic) = catch_unwind(AssertUnwindSafe(|| task = None)) {
                    report(&shared, &*panic);
                }
                Poll::Ready(())
            }
        }
    })
    .await;
}

fn report(shared: &Shared, panic: &(dyn Any + Send)) {
    shared.panics.set(shared.panics.get() + 1);
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no text");
    tracing::error!(panic = text, "a task panicked; it has ended, the shard goes on");
}
