//! What a control group cost, of either version of cgroups. What the kernel does not tell stays absent.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::sys;

/// Where groups are looked for that are given without a leading slash: the second version is mounted at the
/// first or second place, and the first version has a place for each of its controllers.
const ROOTS: [&str; 6] = ["", "unified", "cpuacct", "cpu,cpuacct", "memory", "blkio"];

/// One reading of a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Group {
    /// CPU time in microseconds.
    pub cpu: Option<u64>,
    /// Of it, in user mode.
    pub user: Option<u64>,
    /// Of it, in the kernel.
    pub system: Option<u64>,
    /// Memory charged to the group in bytes, its share of the page cache included.
    pub memory: Option<u64>,
    /// The most that it ever was, from before the run too.
    pub memory_peak: Option<u64>,
    /// Bytes read from devices.
    pub read: Option<u64>,
    /// Bytes written to devices.
    pub written: Option<u64>,
}

impl Group {
    /// What was spent since `first`; memory is as it is now.
    pub(super) fn since(&self, first: &Group) -> Group {
        // A group that had not used a device before has no figure for it in the first reading.
        let spent = |last: Option<u64>, first: Option<u64>| Some(last?.saturating_sub(first.unwrap_or(0)));
        Group {
            cpu: spent(self.cpu, first.cpu),
            user: spent(self.user, first.user),
            system: spent(self.system, first.system),
            memory: self.memory,
            memory_peak: self.memory_peak,
            read: spent(self.read, first.read),
            written: spent(self.written, first.written),
        }
    }
}

/// Where the files of a group may be: a path as it is, or a name below the usual mounts.
pub(super) fn places(group: &Path) -> Vec<PathBuf> {
    if group.is_absolute() {
        return vec![group.into()];
    }
    ROOTS.iter().map(|root| Path::new("/sys/fs/cgroup").join(root).join(group)).collect()
}

/// Reads what there is. Fails if there is nothing.
pub(super) fn read(places: &[PathBuf]) -> io::Result<Group> {
    let group = parse(|name| places.iter().find_map(|place| fs::read_to_string(place.join(name)).ok()));
    if group == Group::default() {
        let place = places.first().map(|place| place.display().to_string()).unwrap_or_default();
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            format!("no control group to be read at {place}"),
        ));
    }
    Ok(group)
}

fn parse(file: impl Fn(&str) -> Option<String>) -> Group {
    let number = |name: &str| file(name)?.trim().parse().ok();
    let of_stat = |name: &str| super::field(&file("cpu.stat")?, name);
    let of_ticks = |name: &str| {
        let ticks: u64 = super::field(&file("cpuacct.stat")?, name)?;
        Some(ticks * 1_000_000 / sys::ticks_per_second())
    };
    let io = file("io.stat");
    let bytes = |name: &str| io.as_deref().map(|text| keyed(text, name));
    // Groups below count too, as they do in the second version.
    let service = file("blkio.throttle.io_service_bytes_recursive");
    let service = service.or_else(|| file("blkio.throttle.io_service_bytes"));
    let served = |name: &str| service.as_deref().and_then(|text| listed(text, name));
    Group {
        cpu: of_stat("usage_usec").or_else(|| number("cpuacct.usage").map(|nanoseconds| nanoseconds / 1000)),
        user: of_stat("user_usec").or_else(|| of_ticks("user")),
        system: of_stat("system_usec").or_else(|| of_ticks("system")),
        memory: number("memory.current").or_else(|| number("memory.usage_in_bytes")),
        memory_peak: number("memory.peak").or_else(|| number("memory.max_usage_in_bytes")),
        read: bytes("rbytes=").or_else(|| served("Read")),
        written: bytes("wbytes=").or_else(|| served("Write")),
    }
}

/// The sum over all devices of `8:0 rbytes=1 wbytes=2 ...`.
fn keyed(text: &str, name: &str) -> u64 {
    let values =
        text.split_ascii_whitespace().filter_map(|word| word.strip_prefix(name)?.parse::<u64>().ok());
    values.sum()
}

/// The sum over all devices of `8:0 Read 1`; absent if no device is listed, as where the kernel does not count.
fn listed(text: &str, name: &str) -> Option<u64> {
    let value = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        words.next();
        words.next().filter(|word| *word == name)?;
        words.next()?.parse::<u64>().ok()
    };
    text.lines().filter_map(value).reduce(|sum, bytes| sum + bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(files: &[(&str, &str)]) -> Group {
        parse(|name| files.iter().find(|(file, _)| *file == name).map(|(_, text)| text.to_string()))
    }

    #[test]
    fn the_second_version_is_read() {
        let files = [
            ("cpu.stat", "usage_usec 500\nuser_usec 300\nsystem_usec 200\nnr_periods 0\n"),
            ("memory.current", "4096\n"),
            ("memory.peak", "8192\n"),
            ("io.stat", "254:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n8:0 rbytes=1 wbytes=2\n"),
        ];
        let expected = Group {
            cpu: Some(500),
            user: Some(300),
            system: Some(200),
            memory: Some(4096),
            memory_peak: Some(8192),
            read: Some(11),
            written: Some(22),
        };
        assert_eq!(group(&files), expected);
        assert_eq!(group(&files).since(&group(&files)).cpu, Some(0));
    }

    #[test]
    fn the_first_version_is_read() {
        let tick = 1_000_000 / sys::ticks_per_second();
        let files = [
            ("cpuacct.usage", "5000000\n"),
            ("cpuacct.stat", "user 3\nsystem 2\n"),
            ("memory.usage_in_bytes", "4096\n"),
            ("memory.max_usage_in_bytes", "8192\n"),
            (
                "blkio.throttle.io_service_bytes",
                "8:0 Read 10\n8:0 Write 20\n8:0 Sync 1\n8:16 Write 5\nTotal 36\n",
            ),
        ];
        let expected = Group {
            cpu: Some(5000),
            user: Some(3 * tick),
            system: Some(2 * tick),
            memory: Some(4096),
            memory_peak: Some(8192),
            read: Some(10),
            written: Some(25),
        };
        assert_eq!(group(&files), expected);
        let recursive =
            [&files[..], &[("blkio.throttle.io_service_bytes_recursive", "8:0 Write 99\n")]].concat();
        assert_eq!((group(&recursive).read, group(&recursive).written), (None, Some(99)));
    }

    #[test]
    fn what_is_absent_stays_absent() {
        assert_eq!(group(&[("blkio.throttle.io_service_bytes", "Total 0\n")]), Group::default());
        assert_eq!(group(&[("io.stat", "")]).written, Some(0));
        let only = group(&[("memory.current", "1\n"), ("memory.peak", "max\n")]);
        assert_eq!(only, Group { memory: Some(1), ..Group::default() });
        assert_eq!(only.since(&only), only);
        assert!(read(&places(Path::new("no/such/group"))).is_err());
        assert_eq!(places(Path::new("/a/b")), [Path::new("/a/b")]);
        assert!(places(Path::new("x")).contains(&"/sys/fs/cgroup/memory/x".into()));
    }
}
