//! What is counted, and when.
//!
//! Counting is on inside [`counted`] and off again inside [`uncounted`]. Both are functions with a name of their own,
//! so that callgrind can collect between the entry and the return of the same two (`--toggle-collect`), and
//! instructions are those of exactly the code whose allocations and copies are counted here.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The names by which callgrind knows where counting is turned on or off.
pub const TOGGLES: [&str; 2] = ["mtad_pieces_counted", "mtad_pieces_uncounted"];

static ARMED: AtomicBool = AtomicBool::new(false);
static COUNTING: AtomicBool = AtomicBool::new(false);
static COUNTS: [AtomicU64; COUNTERS] = [const { AtomicU64::new(0) }; COUNTERS];
const COUNTERS: usize = 7;

/// Something that is counted. The pieces run on one thread, so that a count is a load and a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// Calls of the allocator that ask for memory, growth included.
    Allocations,
    /// Bytes asked for; growth counts as its new size, which may have to be copied.
    AllocatedBytes,
    /// Bytes that `memcpy` and `memmove` copied; copies of a few words are instructions and not calls.
    CopiedBytes,
    /// Buffers that a peer sent and the host handed in.
    Receives,
    /// Buffers handed to the host to be sent.
    Sends,
    /// Writes to the log, each with its sync.
    Commits,
    /// Bytes of those writes.
    LogBytes,
}

impl Count {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Count; COUNTERS] = [
        Count::Allocations,
        Count::AllocatedBytes,
        Count::CopiedBytes,
        Count::Receives,
        Count::Sends,
        Count::Commits,
        Count::LogBytes,
    ];

    /// Its name in the bounds.
    pub fn name(self) -> &'static str {
        match self {
            Count::Allocations => "allocations",
            Count::AllocatedBytes => "allocated_bytes",
            Count::CopiedBytes => "copied_bytes",
            Count::Receives => "receives",
            Count::Sends => "sends",
            Count::Commits => "commits",
            Count::LogBytes => "log_bytes",
        }
    }

    /// Whether every piece is held against it, even at zero.
    pub fn is_general(self) -> bool {
        matches!(self, Count::Allocations | Count::AllocatedBytes | Count::CopiedBytes)
    }

    /// How many so far.
    pub fn value(self) -> u64 {
        COUNTS[self as usize].load(Ordering::Relaxed)
    }

    /// Counts while counting is armed, wherever the code is.
    pub fn add(self, by: u64) {
        if ARMED.load(Ordering::Relaxed) {
            self.bump(by);
        }
    }

    /// Counts while counting is on.
    #[inline]
    pub fn add_if_counting(self, by: u64) {
        if is_counting() {
            self.bump(by);
        }
    }

    fn bump(self, by: u64) {
        let counter = &COUNTS[self as usize];
        counter.store(counter.load(Ordering::Relaxed) + by, Ordering::Relaxed);
    }
}

/// Whether what happens now is counted.
#[inline]
pub fn is_counting() -> bool {
    COUNTING.load(Ordering::Relaxed)
}

/// Lets [`counted`] count from now on, or not: what comes before is warm-up.
pub fn arm(armed: bool) {
    ARMED.store(armed, Ordering::Relaxed);
}

/// Does `work` and counts it, once armed.
pub fn counted<R>(work: impl FnOnce() -> R) -> R {
    if ARMED.load(Ordering::Relaxed) { through(mtad_pieces_counted, work) } else { work() }
}

/// Does `work` without counting it, whoever calls.
pub fn uncounted<R>(work: impl FnOnce() -> R) -> R {
    if is_counting() { through(mtad_pieces_uncounted, work) } else { work() }
}

/// Does `work` armed and counted: a piece that is one call.
pub fn count<R>(work: impl FnOnce() -> R) -> R {
    arm(true);
    let result = counted(work);
    arm(false);
    result
}

fn through<R>(toggle: fn(&mut dyn FnMut()), work: impl FnOnce() -> R) -> R {
    let (mut work, mut result) = (Some(work), None);
    toggle(&mut || result = work.take().map(|work| work()));
    result.expect("the toggle calls its work")
}

// SAFETY: no other symbol of these names exists.
#[unsafe(no_mangle)]
#[inline(never)]
fn mtad_pieces_counted(work: &mut dyn FnMut()) {
    COUNTING.store(true, Ordering::Relaxed);
    work();
    COUNTING.store(false, Ordering::Relaxed);
}

// SAFETY: no other symbol of these names exists.
#[unsafe(no_mangle)]
#[inline(never)]
fn mtad_pieces_uncounted(work: &mut dyn FnMut()) {
    COUNTING.store(false, Ordering::Relaxed);
    work();
    COUNTING.store(true, Ordering::Relaxed);
}
