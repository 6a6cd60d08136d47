//! What a block device did, whoever asked for it.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::Serialize;

/// Bytes of a sector in /proc/diskstats, whatever the device says.
const SECTOR_BYTES: u64 = 512;

/// A device by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Number {
    major: u64,
    minor: u64,
}

/// What a device did, all processes taken together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Device {
    /// The device's name.
    pub name: String,
    /// Flushes of its cache; `None` if the kernel does not count them (before 5.5).
    pub flushes: Option<u64>,
    /// Write requests.
    pub writes: u64,
    /// Bytes written.
    pub written: u64,
}

impl Device {
    /// What it did since `first`.
    pub(super) fn since(&self, first: &Device) -> Device {
        let flushes = self.flushes.zip(first.flushes).map(|(last, first)| last.saturating_sub(first));
        Device {
            name: self.name.clone(),
            flushes,
            writes: self.writes.saturating_sub(first.writes),
            written: self.written.saturating_sub(first.written),
        }
    }
}

/// The device that holds this file or directory: the whole disk, because flushes of a partition are not
/// counted.
pub(super) fn holding(path: &Path) -> io::Result<Number> {
    let number = Number::of(fs::metadata(path)?.dev());
    let number = match number.major {
        // File systems over several devices have numbers of their own, which no device has.
        0 => behind_mount(&fs::read_to_string("/proc/self/mountinfo")?, number)
            .and_then(|source| Some(Number::of(fs::metadata(source).ok()?.rdev())))
            .filter(|number| number.major != 0),
        _ => Some(number),
    };
    let number = number.ok_or_else(|| {
        io::Error::new(ErrorKind::Unsupported, format!("{} is on no block device", path.display()))
    })?;
    Ok(whole(number).unwrap_or(number))
}

/// Reads a device's counters.
pub(super) fn read(number: Number) -> io::Result<Device> {
    parse(&fs::read_to_string("/proc/diskstats")?, number).ok_or_else(|| {
        let Number { major, minor } = number;
        io::Error::new(ErrorKind::NotFound, format!("the kernel counts nothing for device {major}:{minor}"))
    })
}

impl Number {
    fn of(device: u64) -> Self {
        Self { major: libc::major(device).into(), minor: libc::minor(device).into() }
    }

    fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.trim().split_once(':')?;
        Some(Self { major: major.parse().ok()?, minor: minor.parse().ok()? })
    }
}

/// The disk of a partition.
fn whole(number: Number) -> Option<Number> {
    let place = fs::canonicalize(format!("/sys/dev/block/{}:{}", number.major, number.minor)).ok()?;
    fs::metadata(place.join("partition")).ok()?;
    Number::parse(&fs::read_to_string(place.parent()?.join("dev")).ok()?)
}

/// proc(5): what is mounted stands behind the hyphen, after the type of the file system.
fn behind_mount(mountinfo: &str, number: Number) -> Option<&str> {
    mountinfo.lines().find_map(|line| {
        let (mount, source) = line.split_once(" - ")?;
        let of_mount = mount.split(' ').nth(2).and_then(Number::parse)?;
        source.split(' ').nth(1).filter(|source| of_mount == number && source.starts_with('/'))
    })
}

/// Documentation/admin-guide/iostats.rst of the kernel: behind number and name, counters from the reads on.
fn parse(diskstats: &str, number: Number) -> Option<Device> {
    diskstats.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let of = |field: usize| fields.get(field - 1)?.parse::<u64>().ok();
        if (of(1)?, of(2)?) != (number.major, number.minor) {
            return None;
        }
        Some(Device {
            name: fields.get(2)?.to_string(),
            flushes: of(19),
            writes: of(8)?,
            written: of(10)? * SECTOR_BYTES,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DISKSTATS: &str = "   7       0 loop0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n\
        \x20 254       0 vda 10 1 100 5 20 2 400 9 0 30 14 1 0 8 1 77 6\n\
        \x20 254       1 vda1 10 1 100 5 20 2 400 9 0 30 14\n";

    fn number(major: u64, minor: u64) -> Number {
        Number { major, minor }
    }

    #[test]
    fn counters_are_read() {
        let device = parse(DISKSTATS, number(254, 0)).unwrap();
        let expected = Device { name: "vda".into(), flushes: Some(77), writes: 20, written: 400 * 512 };
        assert_eq!(device, expected);
        assert_eq!(parse(DISKSTATS, number(254, 1)).unwrap().flushes, None);
        assert_eq!(parse(DISKSTATS, number(8, 0)), None);
        let later = Device { flushes: Some(80), writes: 25, written: 500 * 512, ..device.clone() };
        let spent = later.since(&device);
        assert_eq!((spent.flushes, spent.writes, spent.written), (Some(3), 5, 51_200));
    }

    #[test]
    fn a_mount_tells_its_device() {
        let mountinfo = "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n\
            30 22 0:42 / /data rw - btrfs /dev/vdb rw,space_cache\n31 22 0:43 / /run rw - tmpfs tmpfs rw\n";
        assert_eq!(behind_mount(mountinfo, number(0, 42)), Some("/dev/vdb"));
        assert_eq!(behind_mount(mountinfo, number(0, 43)), None);
        assert_eq!(behind_mount(mountinfo, number(0, 44)), None);
        assert_eq!(Number::parse("254:16\n"), Some(number(254, 16)));
    }

    #[test]
    fn what_no_device_holds_is_said() {
        assert_eq!(holding(Path::new("/proc")).unwrap_err().kind(), ErrorKind::Unsupported);
        assert!(holding(Path::new("/no/such/file")).is_err());
    }
}
