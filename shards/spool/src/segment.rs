//! Segment files: their names, the one that is being written, and what is known of each.

use crate::record::{self, Stamp};
use host::buffer::BLOCK;
use host::{AlignedBuf, File, Host};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// What a file in a log's directory is, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    Segment(u32),
    Spare(u32),
    Damaged(u32),
}

impl Name {
    /// Reads a name; `None` for files that are not ours.
    pub fn parse(name: &str) -> Option<Name> {
        let (number, suffix) = name.split_once('.')?;
        let plain = number.len() >= 8 && number.bytes().all(|b| b.is_ascii_digit());
        let number = number.parse().ok().filter(|_| plain)?;
        let parsed = match suffix {
            "seg" => Name::Segment(number),
            "spare" => Name::Spare(number),
            "damaged" => Name::Damaged(number),
            _ => return None,
        };
        (parsed.text() == name).then_some(parsed)
    }

    /// The number in it.
    pub fn number(self) -> u32 {
        match self {
            Name::Segment(number) | Name::Spare(number) | Name::Damaged(number) => number,
        }
    }

    /// The file's path.
    pub fn path(self, directory: &Path) -> PathBuf {
        directory.join(self.text())
    }

    fn text(self) -> String {
        match self {
            Name::Segment(number) => format!("{number:08}.seg"),
            Name::Spare(number) => format!("{number:08}.spare"),
            Name::Damaged(number) => format!("{number:08}.damaged"),
        }
    }
}

/// A segment that takes groups.
pub(crate) struct Segment<H: Host> {
    pub file: H::File,
    pub stamp: Stamp,
    /// Where the next group goes.
    pub offset: u64,
    /// Sequence of the next group.
    pub sequence: u64,
}

impl<H: Host> Segment<H> {
    /// Writes block 0 of a file that holds nothing needed, which makes it the segment `number`.
    pub async fn begin(host: &H, file: H::File, number: u32) -> io::Result<Segment<H>> {
        let stamp = Stamp { segment: number, key: host.random() };
        let mut block = AlignedBuf::with_capacity(BLOCK);
        record::put_segment(&mut block, stamp);
        block.pad_to_block();
        file.write_synced(block, 0).await.0?;
        Ok(Segment { file, stamp, offset: BLOCK as u64, sequence: 1 })
    }
}

/// What may happen to a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// It takes groups, or will.
    Open,
    /// It takes no more.
    Sealed,
    /// A write failed: it takes no more, and its file is never used again.
    Failed,
    /// Something in it could not be read at the start.
    Damaged,
    /// Removed, or renamed to a spare, which is not durable yet.
    Leaving { spare: bool },
}

/// What is known of one segment.
#[derive(Clone, Debug)]
pub(crate) struct Usage {
    pub stage: Stage,
    /// Messages in it with a recipient that has no final outcome.
    pub live: u32,
    /// Size of its file.
    pub bytes: u64,
    /// Older segments for whose messages it holds outcomes.
    pub older: Vec<u32>,
}

impl Usage {
    /// A segment that holds nothing yet.
    pub fn new(stage: Stage, bytes: u64) -> Usage {
        Usage { stage, live: 0, bytes, older: Vec::new() }
    }

    /// Notes an outcome for a message in segment `older`.
    pub fn refer(&mut self, older: u32) {
        if self.older.last() != Some(&older) && !self.older.contains(&older) {
            self.older.push(older);
        }
    }
}

/// All segments of a log, by number.
#[derive(Default)]
pub(crate) struct Table(pub BTreeMap<u32, Usage>);

impl Table {
    /// The segments that may go now. Those that are leaving still count as there, for those that refer to them.
    pub fn free(&self) -> Vec<(u32, Usage)> {
        let is_free = |number: u32, usage: &Usage| {
            usage.live == 0
                && !matches!(usage.stage, Stage::Open | Stage::Leaving { .. })
                && !usage.older.iter().any(|older| *older < number && self.0.contains_key(older))
        };
        self.0.iter().filter(|(n, u)| is_free(**n, u)).map(|(n, u)| (*n, u.clone())).collect()
    }

    /// The segments that are leaving, and whether each becomes a spare.
    pub fn leaving(&self) -> Vec<(u32, bool)> {
        let leaving = |(number, usage): (&u32, &Usage)| match usage.stage {
            Stage::Leaving { spare } => Some((*number, spare)),
            Stage::Open | Stage::Sealed | Stage::Failed | Stage::Damaged => None,
        };
        self.0.iter().filter_map(leaving).collect()
    }

    /// Changes what is known of `number`; nothing when it is gone.
    pub fn update(&mut self, number: u32, change: impl FnOnce(&mut Usage)) {
        if let Some(usage) = self.0.get_mut(&number) {
            change(usage);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_others_are_ignored() {
        for number in [0, 7, 99_999_999, u32::MAX] {
            for name in [Name::Segment(number), Name::Spare(number), Name::Damaged(number)] {
                assert_eq!(Name::parse(&name.text()), Some(name));
                assert_eq!(name.number(), number);
            }
        }
        for name in ["", ".seg", "1.seg", "0000001x.seg", "00000001.tmp", "000000001.seg", "+0000001.seg"] {
            assert_eq!(Name::parse(name), None, "{name}");
        }
    }

    #[test]
    fn a_segment_goes_only_after_those_its_outcomes_are_about() {
        let mut table = Table::default();
        for number in 1..=4 {
            table.0.insert(number, Usage::new(Stage::Sealed, 0));
        }
        table.update(1, |u| u.live = 1);
        table.update(2, |u| u.refer(1));
        table.update(3, |u| u.refer(2));
        table.update(4, |u| u.stage = Stage::Open);
        let free = |table: &Table| table.free().iter().map(|(n, _)| *n).collect::<Vec<_>>();
        assert_eq!(free(&table), []);
        table.update(1, |u| u.live = 0);
        assert_eq!(free(&table), [1]);
        table.update(1, |u| u.stage = Stage::Leaving { spare: true });
        assert_eq!(free(&table), [], "leaving is not gone");
        table.0.remove(&1);
        assert_eq!(free(&table), [2]);
        table.0.remove(&2);
        assert_eq!(free(&table), [3]);
    }
}
