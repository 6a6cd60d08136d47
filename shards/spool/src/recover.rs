//! What a log holds after a restart, worked out from the bytes of its segments alone.
//!
//! [`scan`] reads one segment: every record whose checksums, key, number and offset hold counts, wherever it stands. An
//! invalid stretch with a later group behind it is damage, since groups are written one after the other; without one it
//! is the torn tail of a group that was never acknowledged. `Merge` puts segments together in the order of their numbers.

use crate::record::{self, ALIGN, HEAD_BYTES, Head, Kind, MessageBody};
use crate::segment::{Stage, Usage};
use crate::{OutcomeRecord, Place, RecipientState};
use host::buffer::BLOCK;
use mail::{Address, BodyType, MessageId, WallTime};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

/// What a log held when it was opened.
#[derive(Debug, Default)]
pub struct Recovered {
    /// Messages with a recipient that has no final outcome, in the order in which they were accepted.
    pub messages: Vec<RecoveredMessage>,
    /// The largest identity seen, even of messages long gone; new ones must be above.
    pub newest: Option<MessageId>,
    /// What could not be read although it was once durable. The files are kept, as `.damaged`, once nothing else in
    /// them is needed.
    pub damaged: Vec<Damage>,
    /// Numbers for the log.
    pub report: RecoveryReport,
}

/// How much work a recovery was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Segments read.
    pub segments: u32,
    /// Their bytes.
    pub bytes: u64,
    /// Groups in them.
    pub groups: u32,
    /// Message and outcome records in them.
    pub records: u64,
    /// Segments that ended in a torn group.
    pub torn: u32,
    /// Time that it took.
    pub took: Duration,
}

/// A message that still has to go somewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveredMessage {
    /// Its identity.
    pub id: MessageId,
    /// Where it is.
    pub place: Place,
    /// When it was accepted.
    pub accepted: WallTime,
    /// The reverse-path.
    pub sender: Option<Address>,
    /// The recipients without a final outcome.
    pub recipients: Vec<RecoveredRecipient>,
    /// The declared body type.
    pub body: BodyType,
    /// Whether it needs SMTPUTF8.
    pub utf8: bool,
    /// Bytes of content.
    pub content_bytes: u32,
}

/// A recipient that has no final outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveredRecipient {
    /// Index in the envelope.
    pub index: u16,
    /// The forward-path.
    pub address: Address,
    /// Attempts recorded.
    pub attempts: u16,
    /// When the next is due; the time of acceptance when none was made.
    pub next: WallTime,
}

/// A stretch of a segment that cannot be read although it was once durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The segment.
    pub segment: u32,
    /// Where it starts, in bytes.
    pub offset: u32,
    /// What is known of it.
    pub what: DamageKind,
}

/// What a damaged stretch was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DamageKind {
    /// The first block of the segment.
    Header,
    /// A group's own record; what is in the group may be whole.
    Group,
    /// This message.
    Message(MessageId),
    /// An outcome of this message, which may be delivered again.
    Outcome(MessageId),
    /// This many bytes of which nothing is known.
    Unknown(u32),
    /// The host could not read this many bytes.
    Unreadable(u32),
    /// A second record of this message; the first one counts.
    Twice(MessageId),
}

/// One record that counts.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    Message { id: MessageId, offset: u32, length: u32, body: MessageBody },
    Outcome { segment: u32, outcome: OutcomeRecord },
}

/// What one segment holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// The records, in the order in which they were written.
    pub(crate) entries: Vec<Entry>,
    /// What was lost.
    pub damaged: Vec<Damage>,
    /// Where a group that was never completed starts to be unreadable.
    pub torn: Option<u32>,
    /// Groups whose own record is whole.
    pub groups: u32,
    /// Whether block 0 is whole. Without it and without records the segment was never put to use.
    pub opened: bool,
}

/// Reads the segment `number` from the bytes of its file. Any bytes will do.
pub fn scan(number: u32, bytes: &[u8]) -> Scan {
    let mut scanner = Scanner { bytes, number, key: 0, used_end: None, sequence: 0, scan: Scan::default() };
    match Head::parse(bytes).filter(|h| h.kind == Kind::Segment && h.segment == number && h.offset == 0) {
        Some(head) => {
            scanner.key = head.key;
            scanner.scan.opened = true;
            scanner.run(BLOCK, Vec::new());
        }
        // Block 0 was durable before the first group: where there is a record, block 0 is damaged.
        None => {
            if let Some((key, at)) = scanner.first_key() {
                scanner.key = key;
                scanner.run(at, vec![(0, DamageKind::Header)]);
            }
        }
    }
    scanner.scan
}

struct Scanner<'a> {
    bytes: &'a [u8],
    number: u32,
    key: u64,
    /// Where the records of the current group end, when its own record is whole.
    used_end: Option<usize>,
    sequence: u64,
    scan: Scan,
}

/// Invalid stretches of which it is open whether they are damage or the torn tail.
type Suspects = Vec<(usize, DamageKind)>;

impl Scanner<'_> {
    fn run(&mut self, mut at: usize, mut suspects: Suspects) {
        loop {
            if self.used_end == Some(at) || self.is_padding(at) {
                at = at.next_multiple_of(BLOCK);
                self.used_end = None;
            }
            if let Some(head) = self.head_at(at) {
                at = self.record(at, head, &mut suspects);
                continue;
            }
            let Some(next) = self.seek(at + ALIGN) else { break };
            suspects.push((at, DamageKind::Unknown((next - at) as u32)));
            at = self.land(next);
        }
        let cut = self.used_end.is_some_and(|end| at < end).then_some(at);
        self.scan.torn = suspects.first().map(|(offset, _)| *offset).or(cut).map(|offset| offset as u32);
    }

    /// Takes the record at `at` and says where the next one should be.
    fn record(&mut self, at: usize, head: Head, suspects: &mut Suspects) -> usize {
        let end = at + head.length as usize;
        let id = MessageId(head.id);
        let Some(body) = head.body(&self.bytes[at..]) else {
            let what = match head.kind {
                Kind::Segment => DamageKind::Header,
                Kind::Group => DamageKind::Group,
                Kind::Message => DamageKind::Message(id),
                Kind::Outcome => DamageKind::Outcome(id),
            };
            suspects.push((at, what));
            let next = if end <= self.bytes.len() { Some(end) } else { self.seek(at + ALIGN) };
            return self.land(next.unwrap_or(self.bytes.len()).next_multiple_of(ALIGN));
        };
        if head.kind == Kind::Group && head.id > self.sequence {
            self.group(at, head.id, body, suspects);
        } else if let Some(entry) = entry(at, &head, body) {
            self.scan.entries.push(entry);
        } else {
            suspects.push((at, DamageKind::Unknown(head.length)));
        }
        end.next_multiple_of(ALIGN)
    }

    fn group(&mut self, at: usize, sequence: u64, body: &[u8], suspects: &mut Suspects) {
        self.sequence = sequence;
        self.used_end = record::group_used(body).map(|used| at + used as usize);
        self.scan.groups += 1;
        let segment = self.number;
        let lost = suspects.drain(..).map(|(offset, what)| Damage { segment, offset: offset as u32, what });
        self.scan.damaged.extend(lost);
    }

    /// Where reading goes on after an invalid stretch: perhaps in another group.
    fn land(&mut self, next: usize) -> usize {
        if self.used_end.is_some_and(|end| end < next) {
            self.used_end = None;
        }
        next
    }

    /// Whether only zeros are left of the block at `at`. Asked only where the group's own record is lost, which would
    /// tell where the padding starts.
    fn is_padding(&self, at: usize) -> bool {
        let rest = self.bytes.get(at..at.next_multiple_of(BLOCK)).unwrap_or_default();
        self.used_end.is_none() && !rest.is_empty() && rest.iter().all(|b| *b == 0)
    }

    fn head_at(&self, at: usize) -> Option<Head> {
        let head = Head::parse(self.bytes.get(at..)?)?;
        (head.key == self.key && head.segment == self.number && head.offset as usize == at).then_some(head)
    }

    /// The next record from `from` on.
    fn seek(&self, from: usize) -> Option<usize> {
        let key = self.key.to_le_bytes();
        let last = self.bytes.len().checked_sub(HEAD_BYTES)?;
        (from..=last)
            .step_by(ALIGN)
            .find(|at| self.bytes[at + 8..at + 16] == key && self.head_at(*at).is_some())
    }

    /// The key of the first head that stands where it says, without block 0 to ask. Content could imitate one, but
    /// would have to be in a segment whose first block is damaged, and know its number and its own offset.
    fn first_key(&self) -> Option<(u64, usize)> {
        let number = self.number.to_le_bytes();
        let last = self.bytes.len().checked_sub(HEAD_BYTES)?;
        (0..=last).step_by(ALIGN).filter(|at| self.bytes[at + 16..at + 20] == number).find_map(|at| {
            let head = Head::parse(&self.bytes[at..])?;
            (head.segment == self.number && head.offset as usize == at).then_some((head.key, at))
        })
    }
}

fn entry(at: usize, head: &Head, body: &[u8]) -> Option<Entry> {
    match head.kind {
        Kind::Message => {
            let (offset, length, id) = (at as u32, head.length, MessageId(head.id));
            record::message_body(body).map(|body| Entry::Message { id, offset, length, body })
        }
        Kind::Outcome => {
            record::outcome_body(head.id, body).map(|(segment, outcome)| Entry::Outcome { segment, outcome })
        }
        Kind::Segment | Kind::Group => None,
    }
}

/// Puts the segments of one log together; they come in rising order of their numbers.
pub(crate) struct Merge {
    log: u16,
    recovered: Recovered,
    messages: Vec<Merged>,
    index: HashMap<MessageId, usize>,
    usage: BTreeMap<u32, Usage>,
}

/// A message while outcomes are still to come.
struct Merged {
    message: RecoveredMessage,
    /// By index in the envelope; `None` once final. Emptied when all are, which gives the memory back.
    open: Vec<Option<RecoveredRecipient>>,
    left: usize,
}

impl Merge {
    pub fn new(log: u16) -> Merge {
        let (recovered, index) = (Recovered::default(), HashMap::new());
        Merge { log, recovered, messages: Vec::new(), index, usage: BTreeMap::new() }
    }

    /// Adds one segment.
    pub fn add(&mut self, segment: u32, bytes: u64, scan: Scan) {
        let report = &mut self.recovered.report;
        report.segments += 1;
        report.bytes += bytes;
        report.groups += scan.groups;
        report.records += scan.entries.len() as u64;
        report.torn += u32::from(scan.torn.is_some());
        let stage = match (scan.damaged.is_empty(), scan.opened) {
            (false, _) => Stage::Damaged,
            (true, true) => Stage::Sealed,
            // It may be a file whose zeros never reached the disk.
            (true, false) => Stage::Failed,
        };
        self.usage.insert(segment, Usage::new(stage, bytes));
        self.recovered.damaged.extend(scan.damaged);
        for entry in scan.entries {
            match entry {
                Entry::Message { id, offset, length, body } => {
                    self.message(id, Place { log: self.log, segment, offset, length }, body);
                }
                Entry::Outcome { segment: older, outcome } => {
                    if let Some(usage) = self.usage.get_mut(&segment).filter(|_| older < segment) {
                        usage.refer(older);
                    }
                    self.outcome(&outcome);
                }
            }
        }
    }

    /// Notes bytes that the host could not read.
    pub fn unreadable(&mut self, segment: u32, offset: u64, bytes: u64) {
        let what = DamageKind::Unreadable(bytes as u32);
        self.recovered.damaged.push(Damage { segment, offset: offset as u32, what });
        if let Some(usage) = self.usage.get_mut(&segment) {
            usage.stage = Stage::Damaged;
        }
    }

    fn message(&mut self, id: MessageId, place: Place, body: MessageBody) {
        self.recovered.newest = self.recovered.newest.max(Some(id));
        if self.index.contains_key(&id) {
            let what = DamageKind::Twice(id);
            self.recovered.damaged.push(Damage { segment: place.segment, offset: place.offset, what });
            return;
        }
        let MessageBody { accepted, envelope, content_bytes } = body;
        let recipient = |(index, address)| {
            Some(RecoveredRecipient { index: index as u16, address, attempts: 0, next: accepted })
        };
        let open: Vec<_> = envelope.recipients.into_iter().enumerate().map(recipient).collect();
        let message = RecoveredMessage {
            id,
            place,
            accepted,
            sender: envelope.sender,
            recipients: Vec::new(),
            body: envelope.body,
            utf8: envelope.utf8,
            content_bytes,
        };
        self.index.insert(id, self.messages.len());
        self.messages.push(Merged { message, left: open.len(), open });
    }

    fn outcome(&mut self, outcome: &OutcomeRecord) {
        self.recovered.newest = self.recovered.newest.max(Some(outcome.id));
        let Some(merged) = self.index.get(&outcome.id).and_then(|at| self.messages.get_mut(*at)) else {
            return;
        };
        for (index, state) in &outcome.recipients {
            let Some(slot) = merged.open.get_mut(usize::from(*index)) else { continue };
            match (slot.as_mut(), state) {
                (None, _) => {}
                (Some(recipient), RecipientState::Waiting { attempts, next }) => {
                    recipient.attempts = *attempts;
                    recipient.next = *next;
                }
                (Some(_), _) => {
                    *slot = None;
                    merged.left -= 1;
                }
            }
        }
        if merged.left == 0 {
            merged.open = Vec::new();
            merged.message.sender = None;
        }
    }

    /// What is left to do, and what is known of each segment.
    pub fn finish(self) -> (Recovered, BTreeMap<u32, Usage>) {
        let Merge { mut recovered, messages, mut usage, .. } = self;
        for Merged { mut message, open, left } in messages {
            if left == 0 {
                continue;
            }
            if let Some(usage) = usage.get_mut(&message.place.segment) {
                usage.live += 1;
            }
            message.recipients = open.into_iter().flatten().collect();
            recovered.messages.push(message);
        }
        (recovered, usage)
    }
}
