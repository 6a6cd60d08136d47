//! A task of a log that panics takes the log down with it, at once and for all to see: a log without its committer
//! would keep everybody waiting for ever.

use crate::AppendError;
use crate::alarm::Cause;
use crate::log::{Inner, Phase};
use host::Host;
use std::future::Future;
use std::rc::Rc;

/// Dropped while its task unwinds.
struct Fall<H: Host> {
    inner: Rc<Inner<H>>,
    task: &'static str,
}

/// Runs a task without which the log is of no use.
pub(crate) async fn watch<H: Host>(inner: Rc<Inner<H>>, task: &'static str, work: impl Future<Output = ()>) {
    let _fall = Fall { inner, task };
    work.await;
}

impl<H: Host> Drop for Fall<H> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.inner.fall(self.task);
        }
    }
}

impl<H: Host> Inner<H> {
    fn fall(&self, task: &'static str) {
        self.has_fallen.set(true);
        self.phase.set(Phase::Stopped);
        let what = format!("the {task} has panicked; the log takes nothing until a restart");
        self.alarms.raise(Cause::Panic, self.host.now(), self.host.wall(), &what);
        self.gather.borrow().ticket.resolve(Err(AppendError::Failed));
        if let Some(ticket) = self.writing.take() {
            ticket.resolve(Err(AppendError::Failed));
        }
        self.wake_queued();
        self.work.ring();
        self.reclaim.ring();
        self.ended.resolve(Err(AppendError::Closed));
    }
}
