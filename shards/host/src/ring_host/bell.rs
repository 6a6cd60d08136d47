//! Waking a shard from another thread: a flag while it is awake, an eventfd that its ring polls while it sleeps.
//!
//! The ringer sets `pending`, then looks at `asleep`; the shard sets `asleep`, then looks at `pending`. Both in one
//! total order (SeqCst), so at least one of them sees the other, and no ring is lost.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use crate::Bell;

/// Rings a shard of [`super::RingHost`]; may be made before the shard, so that all shards know all bells.
#[derive(Clone)]
pub struct RingBell(Arc<Inner>);

struct Inner {
    pending: AtomicBool,
    asleep: AtomicBool,
    eventfd: OwnedFd,
}

impl RingBell {
    /// A bell that hangs nowhere yet; hand it to one shard through its options.
    ///
    /// # Errors
    /// Out of descriptors or memory.
    pub fn new() -> io::Result<RingBell> {
        // SAFETY: no memory is passed.
        let descriptor = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just made, and nobody else owns it.
        let eventfd = unsafe { OwnedFd::from_raw_fd(descriptor) };
        Ok(RingBell(Arc::new(Inner {
            pending: AtomicBool::new(false),
            asleep: AtomicBool::new(false),
            eventfd,
        })))
    }

    pub(super) fn eventfd(&self) -> BorrowedFd<'_> {
        self.0.eventfd.as_fd()
    }

    /// Hears it: whether it has rung since it was heard last.
    pub(super) fn hear(&self) -> bool {
        self.0.pending.load(SeqCst) && self.0.pending.swap(false, SeqCst)
    }

    /// Announces that the shard goes to sleep; false when it has rung, and then the shard stays awake.
    pub(super) fn doze(&self) -> bool {
        self.0.asleep.store(true, SeqCst);
        let quiet = !self.0.pending.load(SeqCst);
        if !quiet {
            self.rouse();
        }
        quiet
    }

    /// Announces that the shard is awake.
    pub(super) fn rouse(&self) {
        self.0.asleep.store(false, SeqCst);
    }
}

impl Bell for RingBell {
    fn ring(&self) {
        self.0.pending.store(true, SeqCst);
        // One ringer is enough to wake the shard; the others need no system call.
        if self.0.asleep.load(SeqCst) && self.0.asleep.swap(false, SeqCst) {
            let one = 1u64.to_ne_bytes();
            // A write can only fail when the counter is full, and then the shard is being woken anyway.
            // SAFETY: eight readable bytes, and a descriptor that we own.
            unsafe { libc::write(self.eventfd().as_raw_fd(), one.as_ptr().cast(), one.len()) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wakes(bell: &RingBell) -> u64 {
        let mut count = [0u8; 8];
        // SAFETY: eight writable bytes, and a descriptor that the bell owns.
        let read = unsafe { libc::read(bell.eventfd().as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
        if read == 8 { u64::from_ne_bytes(count) } else { 0 }
    }

    #[test]
    fn an_awake_shard_is_not_written_to_and_hears_many_rings_once() {
        let bell = RingBell::new().unwrap();
        bell.ring();
        bell.ring();
        assert_eq!(wakes(&bell), 0);
        assert!(bell.hear());
        assert!(!bell.hear());
    }

    #[test]
    fn a_sleeping_shard_is_woken_once_and_does_not_fall_asleep_on_a_ring() {
        let bell = RingBell::new().unwrap();
        assert!(bell.doze());
        bell.ring();
        bell.ring();
        assert_eq!(wakes(&bell), 1);
        bell.rouse();
        assert!(!bell.doze());
        assert!(bell.hear());
        assert!(bell.doze());
    }
}
