//! The pure recovery, over bytes built by hand.

use super::{SEGMENT_BYTES, content, envelope};
use crate::record::{self, Stamp};
use crate::recover::{DamageKind, Entry, Scan, scan};
use crate::{OutcomeRecord, RecipientState};
use host::buffer::BLOCK;
use mail::{MessageId, WallTime};

const NUMBER: u32 = 9;
const KEY: u64 = 0x1234_5678_9abc_def1;

/// Builds a segment: groups of messages (by identity and bytes of content) and of outcomes (by identity).
struct Builder {
    bytes: Vec<u8>,
    sequence: u64,
    stamp: Stamp,
}

impl Builder {
    fn new(stamp: Stamp) -> Builder {
        let mut bytes = Vec::new();
        record::put_segment(&mut bytes, stamp);
        bytes.resize(BLOCK, 0);
        Builder { bytes, sequence: 0, stamp }
    }

    fn group(&mut self, messages: &[(u64, usize)], outcomes: &[u64]) {
        let mut group = Vec::new();
        let mut starts = vec![0];
        record::put_group(&mut group);
        for (id, bytes) in messages {
            starts.push(group.len());
            let id = MessageId(*id);
            record::put_message(&mut group, id, WallTime(id.0), &envelope(id), &content(id, *bytes));
        }
        for id in outcomes {
            starts.push(group.len());
            let recipients = vec![(0, RecipientState::Waiting { attempts: 3, next: WallTime(*id) })];
            let outcome = OutcomeRecord { id: MessageId(*id), at: WallTime(1), recipients };
            record::put_outcome(&mut group, 4, &outcome);
        }
        self.sequence += 1;
        record::set_group(&mut group, self.sequence, starts.len() as u32 - 1);
        let base = self.bytes.len();
        starts.iter().for_each(|at| record::stamp(&mut group[*at..], self.stamp, (base + at) as u32));
        group.resize(group.len().next_multiple_of(BLOCK), 0);
        self.bytes.extend(group);
    }
}

/// Three groups, as small as can be.
fn small() -> (Vec<u8>, Vec<usize>) {
    let mut builder = Builder::new(Stamp { segment: NUMBER, key: KEY });
    let mut ends = Vec::new();
    builder.group(&[(1, 50), (2, 100)], &[1]);
    ends.push(builder.bytes.len());
    builder.group(&[(3, 700)], &[]);
    ends.push(builder.bytes.len());
    builder.group(&[(4, 10)], &[2, 3]);
    ends.push(builder.bytes.len());
    (builder.bytes, ends)
}

/// Panics when a record is not exactly one of those that [`small`] has.
fn assert_genuine(scan: &Scan, whole: &Scan) {
    let mut rest = whole.entries.iter();
    for entry in &scan.entries {
        assert!(rest.any(|original| original == entry), "altered or out of order: {entry:?}");
    }
}

/// Entries of the groups that end at or before `end`.
fn entries_before(whole: &Scan, end: usize, outcomes: usize) -> usize {
    let messages = whole
        .entries
        .iter()
        .filter(|e| matches!(e, Entry::Message { offset, .. } if (*offset as usize) < end));
    messages.count() + outcomes
}

#[test]
fn a_whole_segment_is_read_as_written() {
    let (bytes, _) = small();
    let scan = scan(NUMBER, &bytes);
    assert_eq!((scan.groups, scan.torn, scan.damaged.len(), scan.opened), (3, None, 0, true));
    let read = scan.entries.iter().map(|entry| match entry {
        Entry::Message { id, offset, length, body } => {
            assert_eq!((&body.envelope, body.accepted), (&envelope(*id), WallTime(id.0)));
            let end = (offset + length) as usize;
            let text = content(*id, body.content_bytes as usize);
            assert_eq!(bytes[end - text.len()..end], text);
            (true, id.0)
        }
        Entry::Outcome { segment, outcome } => {
            assert_eq!(*segment, 4);
            (false, outcome.id.0)
        }
    });
    assert!(read.eq([(true, 1), (true, 2), (false, 1), (true, 3), (true, 4), (false, 2), (false, 3)]));
}

#[test]
fn every_truncation_keeps_the_groups_before_it() {
    let (bytes, ends) = small();
    let whole = scan(NUMBER, &bytes);
    for cut in 0..bytes.len() {
        for zeros in [false, true] {
            let mut damaged = bytes[..cut].to_vec();
            if zeros {
                damaged.resize(bytes.len(), 0);
            }
            let scan = scan(NUMBER, &damaged);
            assert_genuine(&scan, &whole);
            assert!(scan.damaged.is_empty(), "a tail is no damage, cut at {cut}");
            for (end, outcomes) in ends.iter().zip([1, 1, 3]).filter(|(end, _)| **end <= cut) {
                assert!(scan.entries.len() >= entries_before(&whole, *end, outcomes), "cut at {cut}");
            }
        }
    }
}

#[test]
fn every_flipped_byte_costs_at_most_its_record() {
    let (bytes, ends) = small();
    let whole = scan(NUMBER, &bytes);
    let records = whole.entries.len();
    let mut damaged = bytes.clone();
    for at in 0..bytes.len() {
        for flip in [0x01, 0x80, 0xff] {
            damaged[at] ^= flip;
            let scan = scan(NUMBER, &damaged);
            assert_genuine(&scan, &whole);
            assert!(scan.entries.len() + 1 >= records, "byte {at} costs more than its record");
            if scan.entries.len() < records {
                let reported = scan.damaged.len() == 1 && scan.torn.is_none();
                let torn = scan.damaged.is_empty() && scan.torn.is_some();
                let last_group = at >= ends[1];
                assert!(
                    if last_group { torn } else { reported },
                    "byte {at}: {:?} {:?}",
                    scan.damaged,
                    scan.torn
                );
            }
            damaged[at] ^= flip;
        }
    }
}

#[test]
fn damage_says_which_message_is_lost() {
    let (mut bytes, _) = small();
    let whole = scan(NUMBER, &bytes);
    let Entry::Message { offset, length, .. } = whole.entries[1] else { panic!("a message") };
    bytes[(offset + length) as usize - 1] ^= 1;
    let found = scan(NUMBER, &bytes);
    assert_eq!(found.damaged.len(), 1);
    assert_eq!((found.damaged[0].offset, found.damaged[0].what), (offset, DamageKind::Message(MessageId(2))));
    bytes[offset as usize] ^= 1;
    let found = scan(NUMBER, &bytes);
    assert_eq!(found.damaged.len(), 1);
    assert!(matches!(found.damaged[0].what, DamageKind::Unknown(bytes) if bytes >= length));
}

#[test]
fn several_flipped_bytes_never_panic_and_never_alter() {
    let (bytes, _) = small();
    let whole = scan(NUMBER, &bytes);
    let mut random = fastrand::Rng::with_seed(5);
    for _ in 0..3000 {
        let mut damaged = bytes.clone();
        for _ in 0..random.usize(1..40) {
            let at = random.usize(..damaged.len());
            let len = random.usize(1..=300).min(damaged.len() - at);
            match random.u8(0..3) {
                0 => damaged[at] ^= random.u8(1..),
                1 => damaged[at..at + len].fill(0),
                _ => damaged[at..at + len].fill_with(|| random.u8(..)),
            }
        }
        assert_genuine(&scan(NUMBER, &damaged), &whole);
    }
}

#[test]
fn random_bytes_are_an_empty_segment() {
    let mut random = fastrand::Rng::with_seed(6);
    for len in [0, 1, 39, 40, 41, BLOCK, 3 * BLOCK + 17, SEGMENT_BYTES as usize] {
        for _ in 0..20 {
            let bytes: Vec<u8> = (0..len).map(|_| random.u8(..)).collect();
            assert_eq!(scan(NUMBER, &bytes), Scan::default());
        }
    }
}

#[test]
fn stale_records_of_an_earlier_use_are_never_replayed() {
    let mut stale = Builder::new(Stamp { segment: 5, key: 77 });
    (0..8).for_each(|n| stale.group(&[(100 + n, 700)], &[]));
    let mut new = Builder::new(Stamp { segment: NUMBER, key: KEY });
    new.group(&[(1, 700)], &[]);
    new.group(&[(2, 700)], &[]);
    for cut in (0..new.bytes.len()).step_by(8) {
        let mut bytes = stale.bytes.clone();
        bytes[..cut].copy_from_slice(&new.bytes[..cut]);
        let scan = scan(NUMBER, &bytes);
        let is_new = |e: &Entry| matches!(e, Entry::Message { id, .. } if id.0 < 100);
        assert!(scan.entries.iter().all(is_new), "cut at {cut}");
        assert!(scan.damaged.is_empty());
    }
    assert_eq!(scan(NUMBER, &stale.bytes), Scan::default(), "another number than the file's");
}

#[test]
fn content_that_imitates_records_is_not_read_even_when_the_group_is_torn() {
    // The forger knows everything but the key.
    let mut forged = Builder::new(Stamp { segment: NUMBER, key: KEY ^ 1 });
    forged.group(&[(50, 30)], &[]);
    forged.group(&[(666, 30)], &[]);
    let mut bytes = Builder::new(Stamp { segment: NUMBER, key: KEY }).bytes;
    bytes.extend(&forged.bytes[BLOCK..]);
    let found = scan(NUMBER, &bytes);
    assert_eq!((found.entries.len(), found.groups), (0, 0));
}

#[test]
fn without_its_first_block_a_segment_is_still_read() {
    let (mut bytes, _) = small();
    let whole = scan(NUMBER, &bytes);
    bytes[..BLOCK].fill(0xff);
    let found = scan(NUMBER, &bytes);
    assert_eq!(found.entries, whole.entries);
    assert_eq!(found.damaged[0].what, DamageKind::Header);
}

#[test]
fn without_its_group_record_a_group_is_still_read() {
    let (mut bytes, _) = small();
    let whole = scan(NUMBER, &bytes);
    bytes[BLOCK] ^= 1;
    let found = scan(NUMBER, &bytes);
    assert_eq!(found.entries, whole.entries);
    assert_eq!(found.damaged.len(), 1);
}
