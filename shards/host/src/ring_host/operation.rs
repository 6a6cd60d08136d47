//! One-shot operations: what they refer to stays in their slot until the kernel is done with it, so that the
//! future that waits may be dropped at any moment.

use std::ffi::CString;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use io_uring::squeue;
use mail::Time;
use socket2::SockAddr;

use super::core::{Core, Due, Shared};
use super::slots::Key;
use super::timers::TimerId;
use super::token::{Kind, Token};
use crate::AlignedBuf;

/// An operation of one entry, or of two linked ones.
pub(super) struct Operation {
    held: Held,
    /// Entries that have not completed yet.
    left: u8,
    results: [i32; 2],
    caller: Caller,
    alarm: Option<TimerId>,
}

/// What the kernel may still look at.
pub(super) enum Held {
    /// The name of a file.
    Name(#[expect(dead_code, reason = "kept alive for the kernel")] CString),
    /// The name of a file to open; the result is a descriptor.
    Opened(#[expect(dead_code, reason = "kept alive for the kernel")] CString),
    /// Two names.
    Names(#[expect(dead_code, reason = "kept alive for the kernel")] [CString; 2]),
    /// An open file.
    File(#[expect(dead_code, reason = "kept alive for the kernel")] Rc<OwnedFd>),
    /// A file, and blocks for it.
    Write(#[expect(dead_code, reason = "kept alive for the kernel")] Rc<OwnedFd>, AlignedBuf),
    /// A file, and room for what is read from it.
    Read(#[expect(dead_code, reason = "kept alive for the kernel")] Rc<OwnedFd>, Vec<u8>),
    /// A socket, and the address that it connects to. Boxed, because the kernel reads it where it lies.
    Connect(OwnedFd, #[expect(dead_code, reason = "kept alive for the kernel")] Box<SockAddr>),
}

enum Caller {
    Waiting(Option<Waker>),
    /// Waits, but the deadline has passed and the operation is being cancelled.
    Late(Option<Waker>),
    Gone,
}

impl Operation {
    /// Makes a linked pair fail whose parts may have run in the wrong order.
    pub(super) fn distrust(&mut self) {
        if self.left > 0 && matches!(self.held, Held::Write(..)) {
            self.results[1] = -libc::EIO;
        }
    }
}

/// How an operation ended.
pub(super) struct Finished {
    pub(super) results: [io::Result<u32>; 2],
    pub(super) held: Held,
}

/// Waits for an operation.
pub(super) struct Ending {
    shared: Rc<Shared>,
    key: Key,
}

impl Ending {
    /// Starts an operation; `TimedOut` at `deadline`, if the kernel can still stop it.
    ///
    /// # Safety
    /// All memory and descriptors that the entries name are owned by `held`, at addresses that do not move with it,
    /// or are valid for good.
    pub(super) unsafe fn start(
        shared: &Rc<Shared>,
        held: Held,
        entry: squeue::Entry,
        linked: Option<squeue::Entry>,
        deadline: Time,
    ) -> Ending {
        let mut core = shared.core();
        let left = 1 + u8::from(linked.is_some());
        let operation = Operation { held, left, results: [0; 2], caller: Caller::Waiting(None), alarm: None };
        let key = core.operations.insert(operation);
        let token = Token::new(Kind::Operation, key);
        // SAFETY: the slot keeps `held` until the last completion.
        unsafe {
            match linked {
                None => core.ring.push(entry, token),
                Some(linked) => {
                    core.ring.push_linked((entry, token), (linked, Token::new(Kind::Linked, key)))
                }
            }
        }
        core.set_operation_alarm(key, deadline);
        drop(core);
        Ending { shared: shared.clone(), key }
    }
}

impl Future for Ending {
    type Output = Finished;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Finished> {
        self.shared.core().poll_operation(self.key, cx)
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        if let Some(mut core) = self.shared.living_core() {
            core.abandon_operation(self.key);
        }
    }
}

impl Core {
    fn set_operation_alarm(&mut self, key: Key, deadline: Time) {
        if deadline != Time::FAR
            && let Some(operation) = self.operations.get_mut(key)
        {
            operation.alarm = Some(self.timers.insert(deadline, Due::Operation(key)));
        }
    }

    fn poll_operation(&mut self, key: Key, cx: &mut Context<'_>) -> Poll<Finished> {
        let operation = self.operations.get_mut(key).expect("polled until it is ready, then not again");
        if operation.left > 0 {
            if let Caller::Waiting(waker) | Caller::Late(waker) = &mut operation.caller {
                *waker = Some(cx.waker().clone());
            }
            return Poll::Pending;
        }
        let operation = self.operations.remove(key).expect("just looked at");
        let late = matches!(operation.caller, Caller::Late(_));
        let results = operation.results.map(|result| match -result {
            libc::ECANCELED if late => Err(io::ErrorKind::TimedOut.into()),
            error @ 1.. => Err(io::Error::from_raw_os_error(error)),
            _ => Ok(result as u32),
        });
        Poll::Ready(Finished { results, held: operation.held })
    }

    pub(super) fn on_operation(&mut self, key: Key, part: usize, result: i32) {
        let Some(operation) = self.operations.get_mut(key) else { return };
        operation.left -= 1;
        if operation.results[part] == 0 {
            operation.results[part] = result;
        }
        if operation.left > 0 {
            return;
        }
        if let Some(alarm) = operation.alarm.take() {
            self.timers.cancel(alarm);
        }
        match &mut operation.caller {
            Caller::Waiting(waker) | Caller::Late(waker) => {
                let waker = waker.take();
                self.wake(waker);
            }
            Caller::Gone => self.retire_operation(key),
        }
    }

    pub(super) fn on_operation_due(&mut self, key: Key) {
        let Some(operation) = self.operations.get_mut(key) else { return };
        operation.alarm = None;
        if let Caller::Waiting(waker) = &mut operation.caller {
            operation.caller = Caller::Late(waker.take());
            self.ring.cancel(Token::new(Kind::Operation, key));
        }
    }

    /// Lets go of an operation. A connection in the making is stopped; a file operation runs to its end.
    pub(super) fn abandon_operation(&mut self, key: Key) {
        let Some(operation) = self.operations.get_mut(key) else { return };
        if let Some(alarm) = operation.alarm.take() {
            self.timers.cancel(alarm);
        }
        operation.caller = Caller::Gone;
        if operation.left == 0 {
            self.retire_operation(key);
        } else if matches!(operation.held, Held::Connect(..)) {
            self.ring.cancel(Token::new(Kind::Operation, key));
        }
    }

    /// Frees the slot of an abandoned operation, and closes what it opened for nobody.
    fn retire_operation(&mut self, key: Key) {
        let Some(operation) = self.operations.remove(key) else { return };
        match operation.held {
            Held::Opened(_) if operation.results[0] >= 0 => {
                // SAFETY: an open hands a new descriptor over, and nobody else knows it.
                self.close(unsafe { OwnedFd::from_raw_fd(operation.results[0]) });
            }
            Held::Connect(socket, _) => self.close(socket),
            _ => {}
        }
    }
}
