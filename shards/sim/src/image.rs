//! The content of one file: what is durable, and what a power failure may still undo.
//!
//! | stage of a write | read while up | after a power failure |
//! |---|---|---|
//! | Writing: under way | yes | any of its sectors |
//! | Written: done, not synced | yes | any of its sectors |
//! | Ghost: a write or sync of it failed | perhaps | the sectors that were drawn when it failed |
//! | (none): a later sync succeeded | yes | all of it |

use crate::random::Stream;

/// What a disk writes in one piece, in bytes.
const SECTOR: usize = 512;

/// Names a write in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Writing,
    /// Done as the so-manieth.
    Written(u64),
    Ghost {
        visible: bool,
    },
}

#[derive(Debug)]
struct Write {
    ticket: Ticket,
    offset: usize,
    bytes: Vec<u8>,
    stage: Stage,
}

/// The content of one file.
#[derive(Debug)]
pub(crate) struct Image {
    durable: Vec<u8>,
    /// In the order in which they began.
    writes: Vec<Write>,
    counter: u64,
}

impl Image {
    pub(crate) fn zeroed(size: usize) -> Image {
        Image { durable: vec![0; size], writes: Vec::new(), counter: 0 }
    }

    pub(crate) fn size(&self) -> usize {
        self.durable.len()
    }

    /// Cuts the file off: what a power failure leaves of one that was being made.
    pub(crate) fn truncate(&mut self, size: usize) {
        self.durable.truncate(size);
    }

    /// Begins a write within the file.
    pub(crate) fn begin(&mut self, offset: usize, bytes: &[u8]) -> Ticket {
        assert!(offset + bytes.len() <= self.size(), "a write beyond the end of a file");
        let ticket = Ticket(self.count());
        self.writes.push(Write { ticket, offset, bytes: bytes.to_vec(), stage: Stage::Writing });
        ticket
    }

    /// Ends a write well.
    pub(crate) fn end(&mut self, ticket: Ticket) {
        let order = self.count();
        if let Some(write) = self.writes.iter_mut().find(|write| write.ticket == ticket) {
            write.stage = Stage::Written(order);
        }
    }

    /// Ends a write badly: some of its sectors are durable.
    pub(crate) fn fail(&mut self, ticket: Ticket, random: &Stream) {
        if let Some(write) = self.writes.iter_mut().find(|write| write.ticket == ticket) {
            tear(write, &mut self.durable, random);
            write.stage = Stage::Ghost { visible: random.coin() };
        }
    }

    /// The writes that a sync which begins now covers.
    pub(crate) fn begin_sync(&mut self) -> u64 {
        self.count()
    }

    /// Ends a sync well: what it covers is durable.
    pub(crate) fn end_sync(&mut self, begun: u64) {
        let mut covered: Vec<Write> = self
            .writes
            .extract_if(.., |write| matches!(write.stage, Stage::Written(n) if n < begun))
            .collect();
        covered.sort_by_key(|write| match write.stage {
            Stage::Written(order) => order,
            Stage::Writing | Stage::Ghost { .. } => u64::MAX,
        });
        for write in &covered {
            self.durable[write.range()].copy_from_slice(&write.bytes);
            // What failed here before is written over.
            self.writes.retain(|old| !(matches!(old.stage, Stage::Ghost { .. }) && old.overlaps(write)));
        }
    }

    /// Ends a sync badly: the disk may have taken what it covers or not, and will not be asked again.
    pub(crate) fn fail_sync(&mut self, begun: u64, random: &Stream) {
        for write in &mut self.writes {
            if matches!(write.stage, Stage::Written(order) if order < begun) {
                tear(write, &mut self.durable, random);
                write.stage = Stage::Ghost { visible: random.coin() };
            }
        }
    }

    /// Whether a write or a sync of it has failed.
    pub(crate) fn has_failed(&self, ticket: Ticket) -> bool {
        self.writes.iter().any(|write| write.ticket == ticket && matches!(write.stage, Stage::Ghost { .. }))
    }

    /// What a reader sees while the machine is up; `None` past the end.
    pub(crate) fn read(&self, offset: usize, len: usize) -> Option<Vec<u8>> {
        let end = offset.checked_add(len)?;
        let mut seen = self.durable.get(offset..end)?.to_vec();
        for write in self.writes.iter().filter(|write| write.stage != Stage::Ghost { visible: false }) {
            let (from, to) = (write.offset.max(offset), write.range().end.min(end));
            if from < to {
                let bytes = &write.bytes[from - write.offset..to - write.offset];
                seen[from - offset..to - offset].copy_from_slice(bytes);
            }
        }
        Some(seen)
    }

    /// Turns one bit over, for good.
    pub(crate) fn flip(&mut self, byte: usize, bit: u8) {
        self.durable[byte] ^= 1 << bit;
    }

    /// The power fails: of each write that no sync has covered any sectors are left, in any order.
    pub(crate) fn lose_power(&mut self, random: &Stream) {
        let mut writes = std::mem::take(&mut self.writes);
        random.shuffle(&mut writes);
        for write in writes.iter().filter(|write| !matches!(write.stage, Stage::Ghost { .. })) {
            tear(write, &mut self.durable, random);
        }
    }

    /// The process dies: the kernel keeps what was written, and what was being written ends or does not.
    pub(crate) fn lose_process(&mut self, random: &Stream) {
        let order = self.count();
        for write in self.writes.iter_mut().filter(|write| write.stage == Stage::Writing) {
            write.stage = match random.coin() {
                true => Stage::Written(order),
                false => Stage::Ghost { visible: false },
            };
        }
    }

    fn count(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }
}

impl Write {
    fn range(&self) -> std::ops::Range<usize> {
        self.offset..self.offset + self.bytes.len()
    }

    fn overlaps(&self, other: &Write) -> bool {
        self.offset < other.range().end && other.offset < self.range().end
    }
}

/// Makes any of the sectors of a write durable: mostly a mixture, at times all or none.
fn tear(write: &Write, durable: &mut [u8], random: &Stream) {
    let (all, none) = (random.below(4) == 0, random.below(4) == 0);
    for (index, sector) in write.bytes.chunks(SECTOR).enumerate() {
        if all || (!none && random.coin()) {
            let at = write.offset + index * SECTOR;
            durable[at..at + sector.len()].copy_from_slice(sector);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: usize = 4096;

    fn durable_after(image: &mut Image, seed: u64) -> Vec<u8> {
        image.lose_power(&Stream::new(seed, "power"));
        image.read(0, image.size()).expect("within the file")
    }

    #[test]
    fn what_a_sync_covers_survives_and_the_rest_tears() {
        let (mut kept, mut lost, mut torn) = (0, 0, 0);
        for seed in 0..1000 {
            let mut image = Image::zeroed(2 * BLOCK);
            let first = image.begin(0, &[1; BLOCK]);
            image.end(first);
            let sync = image.begin_sync();
            let second = image.begin(BLOCK, &[2; BLOCK]);
            image.end(second);
            image.end_sync(sync);
            let bytes = durable_after(&mut image, seed);
            assert!(bytes[..BLOCK].iter().all(|b| *b == 1));
            match bytes[BLOCK..].iter().filter(|b| **b == 2).count() {
                0 => lost += 1,
                BLOCK => kept += 1,
                part => {
                    assert_eq!(part % SECTOR, 0);
                    torn += 1;
                }
            }
        }
        assert!(kept > 100 && lost > 100 && torn > 300, "{kept} {lost} {torn}");
    }

    #[test]
    fn a_write_under_way_is_not_covered() {
        let lost = (0..100).any(|seed| {
            let mut image = Image::zeroed(BLOCK);
            let write = image.begin(0, &[1; BLOCK]);
            let sync = image.begin_sync();
            image.end(write);
            image.end_sync(sync);
            assert_eq!(image.read(0, 1), Some(vec![1]));
            durable_after(&mut image, seed)[0] == 0
        });
        assert!(lost);
    }

    #[test]
    fn after_a_failed_sync_reads_may_show_what_is_not_durable_and_no_later_sync_helps() {
        let mut deceived = 0;
        for seed in 0..200 {
            let mut image = Image::zeroed(BLOCK);
            let write = image.begin(0, &[1; BLOCK]);
            image.end(write);
            let sync = image.begin_sync();
            image.fail_sync(sync, &Stream::new(seed, "fail"));
            assert!(image.has_failed(write));
            let again = image.begin_sync();
            image.end_sync(again);
            let seen = image.read(0, BLOCK).expect("within the file");
            deceived += usize::from(seen != durable_after(&mut image, seed));
        }
        assert!(deceived > 20);
    }

    #[test]
    fn a_good_write_covers_what_failed_before() {
        let mut image = Image::zeroed(BLOCK);
        let bad = image.begin(0, &[1; BLOCK]);
        image.fail(bad, &Stream::new(0, "fail"));
        let good = image.begin(0, &[2; BLOCK]);
        image.end(good);
        let sync = image.begin_sync();
        image.end_sync(sync);
        assert_eq!(image.read(0, BLOCK), Some(vec![2; BLOCK]));
        assert_eq!(durable_after(&mut image, 0), vec![2; BLOCK]);
    }

    #[test]
    fn a_dead_process_leaves_its_writes_to_the_kernel() {
        let mut image = Image::zeroed(BLOCK);
        let write = image.begin(0, &[1; BLOCK]);
        image.end(write);
        image.lose_process(&Stream::new(0, "kill"));
        assert_eq!(image.read(0, BLOCK), Some(vec![1; BLOCK]));
        assert!((0..50).any(|seed| {
            let mut image = Image::zeroed(BLOCK);
            let write = image.begin(0, &[1; BLOCK]);
            image.end(write);
            image.lose_process(&Stream::new(seed, "kill"));
            durable_after(&mut image, seed)[0] == 0
        }));
    }

    #[test]
    fn reads_past_the_end_are_none() {
        let image = Image::zeroed(10);
        assert!(image.read(5, 6).is_none() && image.read(usize::MAX, 2).is_none());
        assert_eq!(image.read(10, 0), Some(Vec::new()));
    }
}
