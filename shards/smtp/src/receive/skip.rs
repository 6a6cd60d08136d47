//! A chunk that is not wanted: its bytes must be read all the same, or they would be taken for commands.

use mail::{Reply, Time};

use super::Profile;
use super::pace::Pace;
use crate::command::Chunk;

/// The bytes of a refused chunk, and the reply that follows them (RFC 3030 section 2).
#[derive(Debug)]
pub(super) struct Skip {
    left: u64,
    skipped: u64,
    pace: Pace,
    refusal: Refusal,
}

/// Why a chunk is not wanted.
#[derive(Debug)]
pub(super) enum Refusal {
    /// It came out of order, as all do that were on their way when one was refused.
    Misplaced(&'static Reply),
    /// It, or its message, is refused for what it is.
    Refused(Reply),
}

impl Skip {
    pub(super) fn new(chunk: Chunk, refusal: Refusal) -> Skip {
        Skip { left: chunk.bytes, skipped: 0, pace: Pace::default(), refusal }
    }

    /// Uses up `bytes` to the end of the chunk at most; says how many.
    pub(super) fn take(&mut self, bytes: &[u8]) -> usize {
        let used = usize::try_from(self.left).map_or(bytes.len(), |left| left.min(bytes.len()));
        self.left -= used as u64;
        self.skipped += used as u64;
        used
    }

    pub(super) fn is_complete(&self) -> bool {
        self.left == 0
    }

    /// When bytes must have come, if some came at `now`.
    pub(super) fn deadline(&mut self, now: Time, profile: &Profile) -> Time {
        self.pace.deadline(self.skipped, now, profile)
    }

    pub(super) fn into_refusal(self) -> Refusal {
        self.refusal
    }
}
