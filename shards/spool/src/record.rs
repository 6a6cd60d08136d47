//! The bytes of a record: a head of [`HEAD_BYTES`], a body, zeros up to the next multiple of [`ALIGN`].
//!
//! The head says where the record must stand: in which segment, under which key, at which offset. That is known only
//! when its group is about to be written, so records are built without it and [`stamp`]ed then; the long checksum,
//! over the body, is made once, when the body is hot in the cache.

use crate::{OutcomeRecord, RecipientState, parameters};
use host::AlignedBuf;
use host::buffer::BLOCK;
use mail::{Address, BodyType, Envelope, MessageId, WallTime};
use std::ops::DerefMut;

/// Bytes of a head.
pub(crate) const HEAD_BYTES: usize = 40;
/// Records start at multiples of this within their segment.
pub(crate) const ALIGN: usize = 8;
/// Bytes of a group's own record: head, used bytes, number of records.
pub(crate) const GROUP_BYTES: usize = HEAD_BYTES + 8;
/// Recipients in one outcome record; more of them make several records.
pub(crate) const OUTCOME_RECIPIENTS_MAX: usize = 256;
/// Fixed part of a message's body, in bytes.
const MESSAGE_FIXED_BYTES: usize = 16;
/// Fixed part of an outcome's body, in bytes.
const OUTCOME_FIXED_BYTES: usize = 16;
/// Longest form of one recipient's state, in bytes.
const RECIPIENT_BYTES_MAX: usize = 13;

/// Any outcome record fits into a group of a single block, so that even a nearly full segment takes it.
const _: () = assert!(
    GROUP_BYTES + HEAD_BYTES + OUTCOME_FIXED_BYTES + OUTCOME_RECIPIENTS_MAX * RECIPIENT_BYTES_MAX + ALIGN
        <= BLOCK
);

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Opens a segment: number and key.
    Segment = 1,
    /// Opens a group.
    Group = 2,
    /// Envelope and content.
    Message = 3,
    /// New states of recipients.
    Outcome = 4,
}

/// The first bytes of a record, in the order in which they are stored after their own checksum; little endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// CRC32C of the body.
    pub body_crc: u32,
    /// The segment's random key: content that looks like a record does not know it.
    pub key: u64,
    /// The segment's number.
    pub segment: u32,
    /// Where in the segment the record starts.
    pub offset: u32,
    /// Bytes of head and body.
    pub length: u32,
    /// What it is.
    pub kind: Kind,
    /// Message identity, group sequence, or zero.
    pub id: u64,
}

/// Where a record's group is going.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stamp {
    /// The segment's number.
    pub segment: u32,
    /// The segment's key.
    pub key: u64,
}

impl Head {
    /// Reads a head whose checksum holds; `None` also for unknown kinds and impossible lengths.
    pub fn parse(bytes: &[u8]) -> Option<Head> {
        let head = bytes.get(..HEAD_BYTES)?;
        let crc = Cursor(head).u32()?;
        (crc == crc32c::crc32c(&head[4..])).then(|| Head::unstamped(head)).flatten()
    }

    /// Reads a head that this process built, stamped or not.
    pub fn unstamped(bytes: &[u8]) -> Option<Head> {
        let mut cursor = Cursor(bytes.get(4..HEAD_BYTES)?);
        let body_crc = cursor.u32()?;
        let key = cursor.u64()?;
        let segment = cursor.u32()?;
        let offset = cursor.u32()?;
        let length = cursor.u32()?;
        let kind = match cursor.u32()? {
            1 => Kind::Segment,
            2 => Kind::Group,
            3 => Kind::Message,
            4 => Kind::Outcome,
            _ => return None,
        };
        let id = cursor.u64()?;
        (length as usize >= HEAD_BYTES).then_some(Head { body_crc, key, segment, offset, length, kind, id })
    }

    /// The body, given the bytes from the record's start on; `None` when it is cut off or its checksum fails.
    pub fn body<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let body = bytes.get(HEAD_BYTES..self.length as usize)?;
        (crc32c::crc32c(body) == self.body_crc).then_some(body)
    }
}

/// Says where the record at the start of `record` stands, and seals its head.
pub(crate) fn stamp(record: &mut [u8], stamp: Stamp, offset: u32) {
    record[8..16].copy_from_slice(&stamp.key.to_le_bytes());
    record[16..20].copy_from_slice(&stamp.segment.to_le_bytes());
    record[20..24].copy_from_slice(&offset.to_le_bytes());
    let crc = crc32c::crc32c(&record[4..HEAD_BYTES]);
    record[..4].copy_from_slice(&crc.to_le_bytes());
}

/// What records are built in.
pub(crate) trait Output: DerefMut<Target = [u8]> {
    /// Appends bytes.
    fn put(&mut self, bytes: &[u8]);
}

impl Output for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

impl Output for AlignedBuf {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

fn begin(out: &mut impl Output, kind: Kind, id: u64) -> usize {
    let start = out.len();
    let mut head = [0; HEAD_BYTES];
    head[28..32].copy_from_slice(&(kind as u32).to_le_bytes());
    head[32..40].copy_from_slice(&id.to_le_bytes());
    out.put(&head);
    start
}

fn end(out: &mut impl Output, start: usize) {
    let length = out.len() - start;
    let crc = crc32c::crc32c(&out[start + HEAD_BYTES..]);
    out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
    out[start + 24..start + 28].copy_from_slice(&(length as u32).to_le_bytes());
    out.put(&[0; ALIGN][..length.next_multiple_of(ALIGN) - length]);
}

/// Appends the record that opens a segment, stamped: it always stands at offset 0.
pub(crate) fn put_segment(out: &mut impl Output, at: Stamp) {
    let start = begin(out, Kind::Segment, 0);
    end(out, start);
    stamp(&mut out[start..], at, 0);
}

/// Appends an empty group record, to be completed by [`set_group`].
pub(crate) fn put_group(out: &mut impl Output) {
    let start = begin(out, Kind::Group, 0);
    out.put(&[0; GROUP_BYTES - HEAD_BYTES]);
    end(out, start);
}

/// Completes the group record at the start of `group`, which is not padded yet and holds `records` others.
pub(crate) fn set_group(group: &mut [u8], sequence: u64, records: u32) {
    let used = group.len() as u32;
    group[HEAD_BYTES..HEAD_BYTES + 4].copy_from_slice(&used.to_le_bytes());
    group[HEAD_BYTES + 4..GROUP_BYTES].copy_from_slice(&records.to_le_bytes());
    group[32..40].copy_from_slice(&sequence.to_le_bytes());
    let crc = crc32c::crc32c(&group[HEAD_BYTES..GROUP_BYTES]);
    group[4..8].copy_from_slice(&crc.to_le_bytes());
}

/// The used bytes of a group, from its record's start to the end of its last record's padding.
pub(crate) fn group_used(body: &[u8]) -> Option<u32> {
    Cursor(body).u32()
}

/// Bytes of a message's record with padding.
pub(crate) fn message_bytes(envelope: &Envelope, content: usize) -> usize {
    let addresses = envelope.sender.iter().chain(&envelope.recipients);
    let addresses: usize = addresses.map(|a| 2 + a.as_str().len()).sum();
    let parameters = envelope.parameters.as_deref().map_or(0, parameters::block_bytes);
    (HEAD_BYTES + MESSAGE_FIXED_BYTES + addresses + parameters + content).next_multiple_of(ALIGN)
}

/// Whether the envelope can be read back as it is. Lower case can be longer than what was parsed, so that an
/// address with UTF-8 may have outgrown what [`Address::parse`] takes.
pub(crate) fn is_storable(envelope: &Envelope) -> bool {
    let reads_back = |a: &Address| !a.is_utf8() || Address::parse(a.as_str(), true).as_ref() == Ok(a);
    envelope.recipients.len() <= usize::from(u16::MAX)
        && envelope.sender.iter().chain(&envelope.recipients).all(reads_back)
}

/// Appends a message's record and returns its length without padding. The caller has checked
/// [`message_bytes`] and [`is_storable`].
pub(crate) fn put_message(
    out: &mut impl Output,
    id: MessageId,
    accepted: WallTime,
    envelope: &Envelope,
    content: &[u8],
) -> u32 {
    let start = begin(out, Kind::Message, id.0);
    let mut fixed = [0; MESSAGE_FIXED_BYTES];
    fixed[..8].copy_from_slice(&accepted.0.to_le_bytes());
    fixed[8] = u8::from(envelope.body == BodyType::EightBit)
        | u8::from(envelope.utf8) << 1
        | u8::from(envelope.sender.is_some()) << 2
        | u8::from(envelope.body == BodyType::Binary) << 3
        | u8::from(envelope.parameters.is_some()) << 4;
    fixed[10..12].copy_from_slice(&(envelope.recipients.len() as u16).to_le_bytes());
    fixed[12..16].copy_from_slice(&(content.len() as u32).to_le_bytes());
    out.put(&fixed);
    for address in envelope.sender.iter().chain(&envelope.recipients) {
        let text = address.as_str().as_bytes();
        out.put(&(text.len() as u16).to_le_bytes());
        out.put(text);
    }
    if let Some(parameters) = &envelope.parameters {
        parameters::put_block(out, parameters);
    }
    out.put(content);
    let length = (out.len() - start) as u32;
    end(out, start);
    length
}

/// A message's body, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct MessageBody {
    pub accepted: WallTime,
    pub envelope: Envelope,
    /// Bytes of content; it ends the body.
    pub content_bytes: u32,
}

/// Takes a message's body apart; `None` when it is not one.
pub(crate) fn message_body(body: &[u8]) -> Option<MessageBody> {
    let mut cursor = Cursor(body);
    let accepted = WallTime(cursor.u64()?);
    let flags = cursor.u8()?;
    cursor.u8()?;
    let count = cursor.u16()?;
    let content_bytes = cursor.u32()?;
    let sender = if flags & 4 != 0 { Some(cursor.address()?) } else { None };
    let recipients = (0..count).map(|_| cursor.address()).collect::<Option<Vec<_>>>()?;
    let parameters = if flags & 16 != 0 { Some(Box::new(parameters::block(&mut cursor)?)) } else { None };
    let body = match flags & 0b1001 {
        0 => BodyType::SevenBit,
        1 => BodyType::EightBit,
        8 => BodyType::Binary,
        _ => return None,
    };
    let envelope = Envelope { sender, recipients, body, utf8: flags & 2 != 0, parameters };
    (cursor.0.len() == content_bytes as usize).then_some(MessageBody { accepted, envelope, content_bytes })
}

/// The recipients of a message's body, without taking it apart.
pub(crate) fn message_recipients(body: &[u8]) -> u16 {
    body.get(10..12).map_or(0, |b| u16::from_le_bytes([b[0], b[1]]))
}

/// Appends an outcome for a message that stands in `segment`, and returns the number of records it took.
pub(crate) fn put_outcome(out: &mut impl Output, segment: u32, outcome: &OutcomeRecord) -> u32 {
    let mut records = 0;
    for recipients in outcome.recipients.chunks(OUTCOME_RECIPIENTS_MAX) {
        let start = begin(out, Kind::Outcome, outcome.id.0);
        let mut fixed = [0; OUTCOME_FIXED_BYTES];
        fixed[..8].copy_from_slice(&outcome.at.0.to_le_bytes());
        fixed[8..12].copy_from_slice(&segment.to_le_bytes());
        fixed[12..14].copy_from_slice(&(recipients.len() as u16).to_le_bytes());
        out.put(&fixed);
        for (index, state) in recipients {
            out.put(&index.to_le_bytes());
            put_state(out, state);
        }
        end(out, start);
        records += 1;
    }
    records
}

fn put_state(out: &mut impl Output, state: &RecipientState) {
    match state {
        RecipientState::Waiting { attempts, next } => {
            out.put(&[1]);
            out.put(&attempts.to_le_bytes());
            out.put(&next.0.to_le_bytes());
        }
        RecipientState::Delivered => out.put(&[2]),
        RecipientState::Failed => out.put(&[3]),
        RecipientState::Expired => out.put(&[4]),
        RecipientState::Removed => out.put(&[5]),
    }
}

/// Takes an outcome's body apart; with it comes the segment that the message stands in.
pub(crate) fn outcome_body(id: u64, body: &[u8]) -> Option<(u32, OutcomeRecord)> {
    let mut cursor = Cursor(body);
    let at = WallTime(cursor.u64()?);
    let segment = cursor.u32()?;
    let count = cursor.u16()?;
    cursor.u16()?;
    let recipients =
        (0..count).map(|_| Some((cursor.u16()?, cursor.state()?))).collect::<Option<Vec<_>>>()?;
    cursor.0.is_empty().then_some((segment, OutcomeRecord { id: MessageId(id), at, recipients }))
}

/// The segment that an outcome's message stands in.
pub(crate) fn outcome_segment(body: &[u8]) -> Option<u32> {
    Cursor(body.get(8..)?).u32()
}

/// Reads little-endian numbers from the front; `None` when nothing is left.
pub(crate) struct Cursor<'a>(pub(crate) &'a [u8]);

impl<'a> Cursor<'a> {
    pub(crate) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn address(&mut self) -> Option<Address> {
        let len = self.u16()?;
        let text = std::str::from_utf8(self.take(usize::from(len))?).ok()?;
        Address::parse(text, true).ok()
    }

    fn state(&mut self) -> Option<RecipientState> {
        Some(match self.u8()? {
            1 => RecipientState::Waiting { attempts: self.u16()?, next: WallTime(self.u64()?) },
            2 => RecipientState::Delivered,
            3 => RecipientState::Failed,
            4 => RecipientState::Expired,
            5 => RecipientState::Removed,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mail::{Notify, Parameters, RecipientParameters, Return};

    fn address(text: &str) -> Address {
        Address::parse(text, true).unwrap()
    }

    fn envelopes() -> Vec<Envelope> {
        let mut all = Vec::new();
        for sender in [None, Some(address("a@b.example")), Some(address("jörg@münchen.example"))] {
            for body in [BodyType::SevenBit, BodyType::EightBit, BodyType::Binary] {
                for utf8 in [false, true] {
                    for count in [1, 2, 300] {
                        let recipients =
                            (0..count).map(|n| address(&format!("\"r @{n}\"@[IPv6:::1]"))).collect();
                        let parameters = (count == 2).then(|| {
                            Box::new(Parameters {
                                returns: Some(Return::Full),
                                envelope_id: Some("QQ".into()),
                                recipients: vec![(
                                    1,
                                    RecipientParameters { notify: Some(Notify::default()), original: None },
                                )],
                                ..Parameters::default()
                            })
                        });
                        all.push(Envelope { sender: sender.clone(), recipients, body, utf8, parameters });
                    }
                }
            }
        }
        all
    }

    #[test]
    fn messages_round_trip() {
        for envelope in envelopes() {
            for content in [&b""[..], b"x", &[0xa5; 5000]] {
                let mut out = Vec::new();
                let length = put_message(&mut out, MessageId(7), WallTime(9), &envelope, content);
                assert_eq!(out.len(), message_bytes(&envelope, content.len()));
                assert!(Head::parse(&out).is_none(), "unstamped records are no records");
                stamp(&mut out, Stamp { segment: 3, key: 4 }, 4096);
                let head = Head::parse(&out).unwrap();
                assert_eq!((head.segment, head.key, head.offset, head.id), (3, 4, 4096, 7));
                assert_eq!((head.kind, head.length), (Kind::Message, length));
                let body = head.body(&out).unwrap();
                assert_eq!(usize::from(message_recipients(body)), envelope.recipients.len());
                assert_eq!(&body[body.len() - content.len()..], content);
                let expected = MessageBody {
                    accepted: WallTime(9),
                    envelope: envelope.clone(),
                    content_bytes: content.len() as u32,
                };
                assert_eq!(message_body(body), Some(expected));
            }
        }
    }

    #[test]
    fn a_record_without_parameters_is_as_it_always_was() {
        let envelope = Envelope {
            sender: Some(address("a@b")),
            recipients: vec![address("c@d")],
            body: BodyType::EightBit,
            ..Envelope::default()
        };
        let mut out = Vec::new();
        let length = put_message(&mut out, MessageId(1), WallTime(2), &envelope, b"x") as usize;
        let body = [
            &[2, 0, 0, 0, 0, 0, 0, 0, 0b101, 0, 1, 0, 1, 0, 0, 0][..],
            &[3, 0, b'a', b'@', b'b', 3, 0, b'c', b'@', b'd', b'x'],
        ];
        assert_eq!(out[HEAD_BYTES..length], body.concat());
    }

    #[test]
    fn outcomes_round_trip_in_as_many_records_as_they_need() {
        let states = [
            RecipientState::Waiting { attempts: 5, next: WallTime(u64::MAX) },
            RecipientState::Delivered,
            RecipientState::Failed,
            RecipientState::Expired,
            RecipientState::Removed,
        ];
        for count in [1, 5, OUTCOME_RECIPIENTS_MAX, OUTCOME_RECIPIENTS_MAX + 1, 1000] {
            let recipients: Vec<_> = (0..count).map(|n| (n as u16, states[n % 5])).collect();
            let outcome = OutcomeRecord { id: MessageId(u64::MAX), at: WallTime(1), recipients };
            let mut out = Vec::new();
            let records = put_outcome(&mut out, 77, &outcome);
            let (mut at, mut read, mut seen) = (0, Vec::new(), 0);
            while at < out.len() {
                stamp(&mut out[at..], Stamp { segment: 1, key: 2 }, at as u32);
                let head = Head::parse(&out[at..]).unwrap();
                let body = head.body(&out[at..]).unwrap();
                assert_eq!(outcome_segment(body), Some(77));
                let (segment, part) = outcome_body(head.id, body).unwrap();
                assert_eq!((segment, part.id, part.at), (77, outcome.id, outcome.at));
                read.extend(part.recipients);
                at += (head.length as usize).next_multiple_of(ALIGN);
                seen += 1;
            }
            assert_eq!((read, seen), (outcome.recipients, records));
        }
    }

    #[test]
    fn groups_and_segments_round_trip() {
        let mut out = Vec::new();
        put_segment(&mut out, Stamp { segment: 8, key: 9 });
        let head = Head::parse(&out).unwrap();
        assert_eq!((head.kind, head.segment, head.key, head.offset), (Kind::Segment, 8, 9, 0));
        assert_eq!(head.body(&out), Some(&[][..]));
        let mut out = Vec::new();
        put_group(&mut out);
        out.put(&[1; 16]);
        set_group(&mut out, 12, 1);
        stamp(&mut out, Stamp { segment: 8, key: 9 }, 4096);
        let head = Head::parse(&out).unwrap();
        assert_eq!((head.kind, head.id), (Kind::Group, 12));
        assert_eq!(group_used(head.body(&out).unwrap()), Some(GROUP_BYTES as u32 + 16));
    }

    #[test]
    fn bodies_cut_short_or_prolonged_are_none() {
        let envelope = Envelope { recipients: vec![address("a@b")], ..Envelope::default() };
        let outcome = OutcomeRecord {
            id: MessageId(1),
            at: WallTime(2),
            recipients: vec![(0, RecipientState::Waiting { attempts: 1, next: WallTime(3) })],
        };
        let (mut message, mut other) = (Vec::new(), Vec::new());
        let length = put_message(&mut message, MessageId(1), WallTime(1), &envelope, b"content") as usize;
        put_outcome(&mut other, 0, &outcome);
        let body = &message[HEAD_BYTES..length];
        assert!(message_body(body).is_some());
        assert!((0..body.len()).all(|cut| message_body(&body[..cut]).is_none()));
        assert!(message_body(&[body, b"x"].concat()).is_none());
        let body = &other[HEAD_BYTES..Head::unstamped(&other).unwrap().length as usize];
        assert!(outcome_body(1, body).is_some());
        assert!((0..body.len()).all(|cut| outcome_body(1, &body[..cut]).is_none()));
        assert!(outcome_body(1, &[body, b"x"].concat()).is_none());
    }

    #[test]
    fn an_address_that_outgrew_its_limit_is_not_storable() {
        // U+023A has two bytes, its lower case three.
        let domain = "\u{23a}".repeat(30);
        let grown = Envelope { recipients: vec![address(&format!("a@{domain}"))], ..Envelope::default() };
        assert!(!is_storable(&grown));
        assert!(envelopes().iter().all(is_storable));
    }
}
