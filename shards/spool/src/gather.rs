//! What waits for the next group: messages in the buffer that will be written, appends for which it has no room
//! any more, and outcomes.

use crate::record::{self, GROUP_BYTES, HEAD_BYTES, Head};
use crate::signal::Ticket;
use crate::{AppendError, OutcomeRecord, RecipientState};
use host::AlignedBuf;
use mail::{MessageId, Time, WallTime};
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::Waker;

/// Room of a new buffer, in bytes; it grows with the groups.
const BUFFER_BYTES: usize = 256 << 10;

/// A group on its way.
pub(crate) struct Batch {
    /// The group's own record, messages, outcomes.
    pub buffer: AlignedBuf,
    pub messages: u32,
    pub outcomes: u32,
    /// Bytes of outcomes, which end the buffer.
    pub outcome_bytes: usize,
    /// Older segments that the outcomes are about.
    pub older: Vec<u32>,
    pub ticket: Rc<Ticket>,
    /// Whether it is written even if it holds nothing, to see if the disk is well.
    pub probes: bool,
}

/// The group that gathers.
pub(crate) struct Gather {
    pub buffer: AlignedBuf,
    pub messages: u32,
    /// Whether someone waits for whatever is written next.
    pub joined: bool,
    pub ticket: Rc<Ticket>,
    /// The memory of the last group, for the next.
    other: Option<AlignedBuf>,
    queue: VecDeque<Queued>,
    queued_bytes: usize,
    turns: u64,
}

/// An append that waits for the next group.
struct Queued {
    turn: u64,
    bytes: usize,
    waker: Option<Waker>,
}

impl Gather {
    pub fn new() -> Gather {
        Gather {
            buffer: opened(None),
            messages: 0,
            joined: false,
            ticket: Rc::default(),
            other: None,
            queue: VecDeque::new(),
            queued_bytes: 0,
            turns: 0,
        }
    }

    /// Whether an append of `bytes` may enter now, before all that are queued. Alone it always may.
    pub fn has_room(&self, bytes: usize, group_bytes_max: usize) -> bool {
        self.messages == 0 || self.buffer.len() + bytes <= group_bytes_max
    }

    /// Whether none is queued.
    pub fn is_unqueued(&self) -> bool {
        self.queue.is_empty()
    }

    /// Bytes that gather or are queued.
    pub fn pending_bytes(&self) -> usize {
        self.buffer.len() + self.queued_bytes
    }

    /// Queues an append and returns its turn.
    pub fn queue(&mut self, bytes: usize) -> u64 {
        self.turns += 1;
        self.queued_bytes += bytes;
        self.queue.push_back(Queued { turn: self.turns, bytes, waker: None });
        self.turns
    }

    /// Whether `turn` is the next one; otherwise `waker` will be woken when it is.
    pub fn is_next(&mut self, turn: u64, waker: &Waker) -> bool {
        if let Some(queued) = self.queue.iter_mut().find(|q| q.turn == turn) {
            queued.waker = Some(waker.clone());
        }
        self.queue.front().is_some_and(|q| q.turn == turn)
    }

    /// Takes `turn` out of the queue.
    pub fn leave(&mut self, turn: u64) {
        if let Some(at) = self.queue.iter().position(|q| q.turn == turn) {
            self.queued_bytes -= self.queue.remove(at).map_or(0, |q| q.bytes);
        }
    }

    /// The one to wake when there may be room.
    pub fn first_waker(&mut self) -> Option<Waker> {
        self.queue.front_mut().and_then(|q| q.waker.take())
    }

    /// All who are queued, to be told that the log refuses.
    pub fn wakers(&mut self) -> Vec<Waker> {
        self.queue.iter_mut().filter_map(|q| q.waker.take()).collect()
    }

    /// Takes what gathered; the next group gathers in the other buffer.
    pub fn take(&mut self) -> Batch {
        self.joined = false;
        let next = opened(self.other.take());
        Batch {
            buffer: std::mem::replace(&mut self.buffer, next),
            messages: std::mem::take(&mut self.messages),
            outcomes: 0,
            outcome_bytes: 0,
            older: Vec::new(),
            ticket: std::mem::take(&mut self.ticket),
            probes: false,
        }
    }

    /// Gives a buffer back; one that a huge message has blown up is let go.
    pub fn give_back(&mut self, buffer: AlignedBuf, group_bytes_max: usize) {
        let keep = buffer.capacity() <= 2 * group_bytes_max.max(BUFFER_BYTES);
        self.other = keep.then_some(buffer);
    }
}

fn opened(buffer: Option<AlignedBuf>) -> AlignedBuf {
    let mut buffer = buffer.unwrap_or_else(|| AlignedBuf::with_capacity(BUFFER_BYTES));
    buffer.clear();
    record::put_group(&mut buffer);
    buffer
}

/// Outcomes that no group holds yet, oldest first, as records without a stamp.
#[derive(Default)]
pub(crate) struct Outcomes {
    bytes: Vec<u8>,
    /// When they go out even without a message.
    pub due: Time,
    /// Bytes ever added.
    added: u64,
    /// Bytes of them that are durable.
    done: u64,
}

impl Outcomes {
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// A mark for [`Outcomes::are_durable`].
    pub fn mark(&self) -> u64 {
        self.added
    }

    /// Whether all that had been added at `mark` is durable.
    pub fn are_durable(&self, mark: u64) -> bool {
        self.done >= mark
    }

    /// Adds one.
    pub fn add(&mut self, segment: u32, outcome: &OutcomeRecord) {
        let before = self.bytes.len();
        record::put_outcome(&mut self.bytes, segment, outcome);
        self.added += (self.bytes.len() - before) as u64;
    }

    /// Moves as many as fit into `room` bytes to the end of `batch`.
    pub fn fill(&mut self, batch: &mut Batch, room: usize) {
        let mut end = 0;
        while let Some(length) = record_bytes(&self.bytes[end..]).filter(|length| end + length <= room) {
            end += length;
            batch.outcomes += 1;
        }
        batch.buffer.extend_from_slice(&self.bytes[..end]);
        batch.outcome_bytes = end;
        self.bytes.drain(..end);
    }

    /// A group was written.
    pub fn written(&mut self, batch: &Batch) {
        self.done += batch.outcome_bytes as u64;
    }

    /// A group was not written: its outcomes come first again, and its messages, which their senders will repeat,
    /// get an outcome that keeps a restart from bringing them back.
    pub fn unwritten(&mut self, messages: &[u8], outcomes: &[u8], segment: u32, at: WallTime) {
        self.bytes.splice(..0, outcomes.iter().copied());
        let mut rest = &messages[GROUP_BYTES..];
        while let (Some(head), Some(length)) = (Head::unstamped(rest), record_bytes(rest)) {
            let removed = |index| (index, RecipientState::Removed);
            let count = record::message_recipients(&rest[HEAD_BYTES..]);
            let recipients = (0..count).map(removed).collect();
            self.add(segment, &OutcomeRecord { id: MessageId(head.id), at, recipients });
            rest = &rest[length..];
        }
    }
}

/// Bytes of the record at the start of `bytes`, with padding.
fn record_bytes(bytes: &[u8]) -> Option<usize> {
    Head::unstamped(bytes).map(|head| (head.length as usize).next_multiple_of(record::ALIGN))
}

impl Batch {
    /// Refuses the messages; the outcomes may still come.
    pub fn refuse(&mut self, error: AppendError) {
        self.ticket.resolve(Err(error));
        self.messages = 0;
        self.buffer.clear();
        record::put_group(&mut self.buffer);
    }
}
