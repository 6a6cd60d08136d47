//! What figures depend on: the machine, its disk, and the moment.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use jiff::Timestamp;

use crate::clock;
use crate::latency::Latencies;
use crate::undo::Undo;

/// Writes to find out what a sync takes.
const SYNCS: usize = 200;
/// Bytes of each.
const SYNC_BYTES: usize = 4096;

/// Everything that can be found out, by name. `directory` is on the disk under test.
pub fn card(directory: &Path) -> io::Result<BTreeMap<String, String>> {
    let mut card = BTreeMap::new();
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            card.insert(name.to_string(), value);
        }
    };
    let now = Timestamp::from_nanosecond(clock::now().into()).unwrap_or_default();
    add("date", Some(now.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()));
    add("rig", Some(format!("mtad-bench {}", env!("CARGO_PKG_VERSION"))));
    add("kernel", line("/proc/sys/kernel/osrelease"));
    let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    add("processor", processor(&processors));
    add("governor", line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"));
    add("memory", fs::read_to_string("/proc/meminfo").ok().as_deref().and_then(memory));
    add("load average at start", line("/proc/loadavg"));
    let directory = fs::canonicalize(directory)?;
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    add("file system", file_system(&mounts, &directory));
    let sync = sync_latency(&directory)?.summary();
    let text = format!("p50 {} us, p99 {} us ({SYNCS} writes of {SYNC_BYTES} bytes)", sync.p50, sync.p99);
    add("sync", Some(text));
    Ok(card)
}

fn line(path: &str) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_string())
}

fn processor(text: &str) -> Option<String> {
    let models: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("model name")).collect();
    let count = text.lines().filter(|line| line.starts_with("processor")).count();
    let model = models.first().map_or("unknown", |model| model.trim_start_matches([' ', '\t', ':']));
    (count > 0).then(|| format!("{count} x {model}"))
}

fn memory(text: &str) -> Option<String> {
    let kilobytes = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kilobytes: u64 = kilobytes.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(format!("{} MiB", kilobytes / 1024))
}

/// Type and device of the file system that holds the directory: the longest mount point above it, of several
/// at one place the last.
fn file_system(mounts: &str, directory: &Path) -> Option<String> {
    let fields = |line: &str| {
        let fields: Vec<_> = line.split(' ').map(|field| field.replace("\\040", " ")).collect();
        let [device, place, kind, options, ..] = fields.as_slice() else { return None };
        let depth = Path::new(place).components().count();
        directory.starts_with(place).then(|| (depth, format!("{kind} on {device}, {options}")))
    };
    mounts.lines().filter_map(fields).max_by_key(|(depth, _)| *depth).map(|(_, text)| text)
}

/// How long a write of one block takes until the device has it.
fn sync_latency(directory: &Path) -> io::Result<Latencies> {
    let path = directory.join(format!("sync-{}", std::process::id()));
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).custom_flags(libc::O_DSYNC).open(&path)?;
    // A file that is left is no reason to have no card.
    let _undo = Undo::new(move || drop(fs::remove_file(&path)));
    let mut latencies = Latencies::default();
    for _ in 0..SYNCS {
        let start = clock::now();
        file.write_all(&[1; SYNC_BYTES])?;
        latencies.record(clock::now() - start);
    }
    Ok(latencies)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_is_read_from_its_files() {
        let processors = "processor\t: 0\nmodel name\t: Model X\nprocessor\t: 1\nmodel name\t: Model X\n";
        assert_eq!(processor(processors).unwrap(), "2 x Model X");
        assert_eq!(processor(""), None);
        assert_eq!(memory("MemTotal:        2048 kB\nMemFree: 1 kB\n").unwrap(), "2 MiB");
        let mounts = "/dev/a / ext4 rw 0 0\ntmpfs /disk tmpfs rw 0 0\n/dev/b /disk xfs rw,noatime 0 0\n/dev/c /disk\\040x ext3 rw 0 0\n";
        let at = |path: &str| file_system(mounts, Path::new(path)).unwrap();
        assert_eq!(at("/disk/queue"), "xfs on /dev/b, rw,noatime");
        assert_eq!(at("/diskette"), "ext4 on /dev/a, rw");
        assert_eq!(at("/disk x/y"), "ext3 on /dev/c, rw");
    }

    #[test]
    fn a_card_of_this_machine_has_what_every_machine_has() {
        let directory = std::env::temp_dir();
        let card = card(&directory).unwrap();
        for name in ["date", "rig", "kernel", "memory", "load average at start", "sync"] {
            assert!(card.get(name).is_some_and(|value| !value.is_empty()), "{name}: {card:?}");
        }
        assert!(!directory.join(format!("sync-{}", std::process::id())).exists());
        assert!(super::card(Path::new("/nowhere/at/all")).is_err());
    }
}
