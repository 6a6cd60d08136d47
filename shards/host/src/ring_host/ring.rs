//! The shard's io_uring: entries in, completions out, and what the kernel may say in between.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use io_uring::{IoUring, cqueue, opcode, squeue, types};

use super::token::{Kind, Token};

/// Entries that can be handed over by one system call; when there are more, the ring is entered early.
pub(super) const SUBMISSIONS: u32 = 1024;
/// Completions that fit before the kernel has to keep them aside.
pub(super) const COMPLETIONS: u32 = 8192;

/// An io_uring that only its own thread enters.
pub(super) struct Ring {
    uring: IoUring,
    /// Entries that the kernel would not take just now; they go first. Linked pairs stay together.
    backlog: VecDeque<(squeue::Entry, Option<squeue::Entry>)>,
    /// Whether a linked pair waits to be handed over.
    pair_pending: bool,
    /// Set when a hand-over stopped half-way with a pair in it, so that the order of its parts is not certain.
    pair_torn: bool,
    fatal: Option<io::Error>,
    pub(super) enters: u64,
    pub(super) waits: u64,
}

/// One completion.
#[derive(Clone, Copy, Debug)]
pub(super) struct Completion {
    pub(super) token: Token,
    /// A count, a descriptor, or a negated errno.
    pub(super) result: i32,
    flags: u32,
}

impl Completion {
    /// Whether the operation goes on and will complete again.
    pub(super) fn more(self) -> bool {
        cqueue::more(self.flags)
    }

    /// The provided buffer that comes with it, now ours, whatever the result is.
    pub(super) fn buffer(self) -> Option<u16> {
        cqueue::buffer_select(self.flags)
    }
}

/// A ring with the flags that shards use. It must be made on the thread that uses it.
pub(super) fn build() -> io::Result<IoUring> {
    IoUring::builder()
        .setup_single_issuer()
        .setup_coop_taskrun()
        .setup_taskrun_flag()
        .setup_submit_all()
        .setup_cqsize(COMPLETIONS)
        .build(SUBMISSIONS)
}

impl Ring {
    pub(super) fn new() -> io::Result<Ring> {
        Ok(Ring {
            uring: build()?,
            backlog: VecDeque::new(),
            pair_pending: false,
            pair_torn: false,
            fatal: None,
            enters: 0,
            waits: 0,
        })
    }

    pub(super) fn submitter(&self) -> io_uring::Submitter<'_> {
        self.uring.submitter()
    }

    /// Queues an entry; it is handed over at the next turn at the latest.
    ///
    /// # Safety
    /// Memory and descriptors that it names stay valid until its last completion.
    pub(super) unsafe fn push(&mut self, entry: squeue::Entry, token: Token) {
        self.backlog.push_back((entry.user_data(token.pack()), None));
        self.flush();
    }

    /// Queues two entries of which the second starts only when the first has wholly succeeded.
    ///
    /// # Safety
    /// As for [`Ring::push`].
    pub(super) unsafe fn push_linked(
        &mut self,
        first: (squeue::Entry, Token),
        second: (squeue::Entry, Token),
    ) {
        let head = first.0.flags(squeue::Flags::IO_LINK).user_data(first.1.pack());
        self.backlog.push_back((head, Some(second.0.user_data(second.1.pack()))));
        self.flush();
    }

    /// Asks for the end of an operation, which completes all the same, mostly with ECANCELED.
    pub(super) fn cancel(&mut self, token: Token) {
        let entry = opcode::AsyncCancel::new(token.pack()).build().flags(squeue::Flags::SKIP_SUCCESS);
        // SAFETY: the entry names no memory.
        unsafe { self.push(entry, Token::alone(Kind::Ignored)) };
    }

    /// Whether completions are there, or would be after a moment in the kernel.
    pub(super) fn is_ready(&mut self) -> bool {
        !self.uring.completion().is_empty() || {
            let queue = self.uring.submission();
            queue.taskrun() || queue.cq_overflow()
        }
    }

    /// Hands over what is queued and lets the kernel finish what it can, without waiting.
    pub(super) fn submit(&mut self) {
        self.flush();
        let queue = self.uring.submission();
        if !queue.is_empty() || queue.taskrun() || queue.cq_overflow() {
            drop(queue);
            self.enter(None);
        }
    }

    /// Hands over what is queued, then waits for a completion, at most for `timeout`.
    pub(super) fn wait(&mut self, timeout: Duration) {
        self.flush();
        if self.backlog.is_empty() && self.uring.completion().is_empty() {
            self.waits += 1;
            self.enter(Some(timeout));
        } else {
            self.submit();
        }
    }

    /// Takes all completions that are there.
    pub(super) fn reap(&mut self, into: &mut Vec<Completion>) {
        into.extend(self.uring.completion().map(|entry| Completion {
            token: Token::unpack(entry.user_data()),
            result: entry.result(),
            flags: entry.flags(),
        }));
    }

    /// Whether since the last call the parts of a linked pair may have started in the wrong order.
    pub(super) fn take_torn(&mut self) -> bool {
        std::mem::take(&mut self.pair_torn)
    }

    /// The error after which the ring is of no use any more.
    pub(super) fn take_fatal(&mut self) -> Option<io::Error> {
        self.fatal.take()
    }

    /// Moves the backlog into the submission queue, entering the ring when that is full.
    fn flush(&mut self) {
        while let Some((first, second)) = self.backlog.front() {
            let mut queue = self.uring.submission();
            let pushed = match second {
                // SAFETY: `push` and `push_linked` had the caller's word for it.
                None => unsafe { queue.push(first) },
                // SAFETY: as above. Both parts or none: a pair must not straddle two hand-overs.
                Some(second) => unsafe { queue.push_multiple(&[first.clone(), second.clone()]) },
            };
            drop(queue);
            if pushed.is_ok() {
                self.pair_pending |= second.is_some();
                self.backlog.pop_front();
            } else if !self.enter(None) {
                return;
            }
        }
    }

    /// One io_uring_enter; says whether the kernel took something. EAGAIN and EBUSY mean "not now" and are tried
    /// again at the next turn, after completions have been taken.
    fn enter(&mut self, timeout: Option<Duration>) -> bool {
        self.enters += 1;
        let queued = self.uring.submission().len();
        let outcome = match timeout {
            None => self.uring.submitter().submit(),
            Some(timeout) => {
                let timespec = types::Timespec::from(timeout);
                self.uring.submitter().submit_with_args(1, &types::SubmitArgs::new().timespec(&timespec))
            }
        };
        let left = self.uring.submission().len();
        if left < queued {
            self.pair_torn |= self.pair_pending && left > 0;
            self.pair_pending &= left > 0;
        }
        match outcome {
            Ok(_) => {}
            Err(error) => match error.raw_os_error() {
                Some(libc::EINTR | libc::ETIME | libc::EBUSY | libc::EAGAIN) => {}
                _ => self.fatal = Some(error),
            },
        }
        left < queued
    }
}
