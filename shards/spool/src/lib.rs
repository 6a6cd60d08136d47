//! The durable log of one shard: messages and what became of their recipients.
//!
//! A [`Log`] owns one directory, `spool/shard-N`, of *segments*: files of fixed size, written front to back in
//! *groups*, each one write and one sync. A [`Reader`] reads any shard's segments. Recovery ([`recover`]) is pure.
//!
//! # States of a segment file
//!
//! | state    | name               | block 0          | behind it                        | left by |
//! |----------|--------------------|------------------|----------------------------------|---------|
//! | making   | `NNNNNNNN.seg`     | not N's          | zeros, or records of lower numbers | synced write of block 0 |
//! | open     | `NNNNNNNN.seg`     | number N and key | groups of N, then as in "making" | the next segment is taken, a failed write, a restart |
//! | sealed   | `NNNNNNNN.seg`     | number N and key | groups of N, the last one perhaps torn | rename or removal, once nothing in it is needed |
//! | spare    | `NNNNNNNN.spare`   | anything         | records of N and lower numbers   | rename to a higher number, `sync_dir` |
//! | damaged  | `NNNNNNNN.damaged` | anything         | what could not be read at a start; kept for the operator | the operator; a newer one, beyond the bounds |
//!
//! A segment in "making" at a restart is removed. A sealed segment is needed while a message in it has a recipient
//! without a final outcome, or while an older segment exists for whose messages it holds outcomes: without them
//! those messages would come back. A segment whose write failed is removed in the end, never reused.
//!
//! # Records
//!
//! Little endian, at multiples of 8 bytes, zero-padded. A group starts at a multiple of the block size.
//!
//! | bytes | head of every record | | body of | bytes | |
//! |-------|----------------------|-|---------|-------|-|
//! | 4 | CRC32C of the rest of the head            | | segment | 0  | alone in block 0 |
//! | 4 | CRC32C of the body                        | | group   | 4  | used bytes of the group, this record included |
//! | 8 | key of the segment, random                | |         | 4  | number of records that follow |
//! | 4 | number of the segment                     | | message | 8  | accepted, wall clock in µs |
//! | 4 | offset of the record in the segment       | |         | 1, 1 | flags: 1 8BITMIME, 2 SMTPUTF8, 4 has a sender, 8 BINARYMIME, 16 has parameters; zero |
//! | 4 | length of head and body                   | |         | 2, 4 | recipients; bytes of content |
//! | 4 | kind: 1 segment, 2 group, 3 message, 4 outcome | |    | .. | sender and recipients, 2 bytes of length before each; parameters, 4 bytes of length before them; content |
//! | 8 | message identity, or sequence of the group | | outcome | 8, 4, 2, 2 | wall clock; segment of the message; recipients; zero |
//! |   |                                           | |         | .. | per recipient: 2 index, 1 state (1 waiting, 2 delivered, 3 failed, 4 expired, 5 removed); if waiting 2 attempts, 8 next |
//!
//! A group without records tests a disk that has failed. Key, number and offset make bytes of an earlier use of the
//! file, and content that imitates a record, invalid.
#![deny(clippy::unwrap_used)]
#![forbid(unsafe_code)]

mod alarm;
mod commit;
mod damaged;
mod fall;
mod gather;
mod log;
mod parameters;
mod reader;
mod reclaim;
mod record;
pub mod recover;
mod segment;
mod signal;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use alarm::{Alarm, Alarms, Cause};
pub use log::{Log, LogState, LogStats};
pub use reader::{ReadError, Reader, Stored};
pub use recover::{Damage, DamageKind, Recovered, RecoveredMessage, RecoveredRecipient, RecoveryReport};

use host::buffer::BLOCK;
use mail::{MessageId, WallTime};
use std::fmt;
use std::io;
use std::time::Duration;

/// The bounds of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Size of a segment file: a multiple of 16 blocks, below 4 GiB. A message that does not fit is
    /// [`AppendError::TooLarge`].
    pub segment_bytes: u64,
    /// A group takes no further append beyond this; later ones wait for the next. A longer message is a group alone.
    pub group_bytes_max: usize,
    /// Finished segments kept for reuse; further ones are removed.
    pub spares_max: usize,
    /// Outcomes wait this long for a message to ride with, then are written without.
    pub outcome_delay: Duration,
    /// Bytes of appends that gather or wait for the next group; an append beyond is [`AppendError::Busy`].
    pub pending_bytes_max: usize,
    /// Bytes of outcomes that could not be written yet. Beyond it outcomes that leave all their recipients waiting
    /// are forgotten and counted, which costs only the count of attempts; final ones are always kept, since there is
    /// at most one for each recipient.
    pub outcome_bytes_max: usize,
    /// Damaged segments kept for the operator; beyond it the oldest is removed, with a warning.
    pub damaged_max: usize,
    /// Their bytes, likewise.
    pub damaged_bytes_max: u64,
    /// After a failure that stopped the log, or without room for a new segment: when to try again.
    pub retry_delay: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            segment_bytes: 64 << 20,
            group_bytes_max: 4 << 20,
            spares_max: 4,
            outcome_delay: Duration::from_millis(50),
            pending_bytes_max: 32 << 20,
            outcome_bytes_max: 16 << 20,
            damaged_max: 16,
            damaged_bytes_max: 1 << 30,
            retry_delay: Duration::from_secs(1),
        }
    }
}

impl Limits {
    /// The end of a segment that messages use only while the next segment is ready, so that outcomes can still be
    /// written when the disk is full.
    pub(crate) fn reserve_bytes(&self) -> u64 {
        self.segment_bytes / 16
    }

    /// The largest group, in bytes, that any segment takes.
    pub(crate) fn group_room(&self) -> usize {
        (self.segment_bytes - self.reserve_bytes()) as usize - BLOCK
    }

    fn check(&self) -> Result<(), OpenError> {
        let size = self.segment_bytes;
        let fits = size > 0 && size.is_multiple_of(16 * BLOCK as u64) && size <= u64::from(u32::MAX);
        fits.then_some(()).ok_or(OpenError::SegmentBytes(size))
    }
}

/// Where a message is. Valid until it is retired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The log's number, N of `shard-N`.
    pub log: u16,
    /// The segment's number.
    pub segment: u32,
    /// Where the record starts in the segment, in bytes.
    pub offset: u32,
    /// Bytes of the record without padding.
    pub length: u32,
}

const _: () = assert!(size_of::<Place>() <= 16);

/// New states of some recipients of one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutcomeRecord {
    /// The message.
    pub id: MessageId,
    /// When it happened.
    pub at: WallTime,
    /// Index in the envelope, and the state.
    pub recipients: Vec<(u16, RecipientState)>,
}

/// What is known of a recipient. A later record replaces an earlier one; the final states are never left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RecipientState {
    /// To be tried again.
    Waiting {
        /// Attempts made.
        attempts: u16,
        /// When the next one is due.
        next: WallTime,
    },
    /// The next hop took responsibility. Final.
    Delivered,
    /// Refused, and its bounce is durable. Final.
    Failed,
    /// Too old, and its bounce is durable. Final.
    Expired,
    /// Taken out by an operator, or never accepted: the append that brought it failed. Final.
    Removed,
}

impl RecipientState {
    /// Whether nothing more will happen to the recipient.
    pub fn is_final(&self) -> bool {
        !matches!(self, RecipientState::Waiting { .. })
    }
}

/// Why a message was not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AppendError {
    /// It does not fit into a segment, has more than 65,535 recipients, or an address that cannot be read back.
    /// The sender must change it (552 or 554).
    TooLarge,
    /// Too much is waiting in memory already (451).
    Busy,
    /// No room on the disk (452).
    Full,
    /// The disk failed; nothing is known of the message's bytes, and a restart before the next successful group may
    /// bring it back (451).
    Failed,
    /// The log was closed (421).
    Closed,
}

impl AppendError {
    fn from_io(error: &io::Error) -> AppendError {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => AppendError::Full,
            _ => AppendError::Failed,
        }
    }
}

impl fmt::Display for AppendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AppendError::TooLarge => "message too large for a segment",
            AppendError::Busy => "too many appends are waiting",
            AppendError::Full => "no room on the disk",
            AppendError::Failed => "the disk failed",
            AppendError::Closed => "the log is closed",
        })
    }
}

impl std::error::Error for AppendError {}

/// Why a log could not be opened.
#[derive(Debug)]
pub enum OpenError {
    /// [`Limits::segment_bytes`] is out of range.
    SegmentBytes(u64),
    /// The directory cannot be made or listed, or a segment cannot be opened.
    Io {
        /// The file or directory.
        path: std::path::PathBuf,
        /// What the host said.
        error: io::Error,
    },
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::SegmentBytes(size) => {
                write!(f, "segments of {size} bytes: need a multiple of {} below 4 GiB", 16 * BLOCK)
            }
            OpenError::Io { path, error } => write!(f, "{}: {error}", path.display()),
        }
    }
}

impl std::error::Error for OpenError {}
