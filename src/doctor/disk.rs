//! The directory of the spool and what is below it.

use super::Check;
use super::file_system::{FileSystem, Keeps};
use shard::config::Spool;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Bytes of one synced write: a block, as the spool writes them.
const BLOCK_BYTES: usize = 4096;
/// Synced writes that are measured.
const SYNCS: usize = 200;
/// Measuring ends after this time, however few writes were done.
const MEASURE_TIME_MAX: Duration = Duration::from_secs(5);
/// No disk that keeps its word is faster.
const SYNC_TIME_MIN: Duration = Duration::from_micros(20);
/// Slower, and a lone message waits noticeably.
const SYNC_TIME_MAX: Duration = Duration::from_millis(50);
/// Segments that should fit into the free space.
const SEGMENTS_FREE_MIN: u64 = 16;
/// Files that should still be possible.
const INODES_FREE_MIN: u64 = 1000;

/// Where the spool is, or will be.
enum Place {
    /// The directory exists.
    Made(PathBuf),
    /// The nearest directory above, in which it will be made.
    Above(PathBuf),
}

impl Place {
    /// Looks for the directory of the spool.
    fn of(path: &Path) -> Result<Place, Check> {
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.into());
        for above in absolute.ancestors() {
            match std::fs::metadata(above) {
                Ok(found) if found.is_dir() && above == absolute => return Ok(Place::Made(absolute)),
                Ok(found) if found.is_dir() => return Ok(Place::Above(above.into())),
                Ok(_) => {
                    let seen = format!("{} is no directory", shown(above));
                    return Err(Check::missing("spool", seen, "remove it, or choose another spool.path"));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    let seen = format!("{} cannot be looked at ({error})", shown(above));
                    let advice = "let mtad's user look there, or choose another spool.path";
                    return Err(Check::missing("spool", seen, advice));
                }
            }
        }
        Err(Check::missing(
            "spool",
            format!("{} has no place", shown(&absolute)),
            "choose another spool.path",
        ))
    }

    fn directory(&self) -> &Path {
        let (Place::Made(directory) | Place::Above(directory)) = self;
        directory
    }
}

/// What is needed of the spool's directory: it can be written, and keeps what was synced.
pub fn checks(spool: &Spool) -> Vec<Check> {
    match Place::of(&spool.path) {
        Ok(place) => {
            let kept = durability("spool keeps mail", place.directory(), spool.allow_volatile);
            let mut checks = vec![access(&place, &spool.path), kept];
            checks.extend(mounted_below(place.directory()).iter().map(|directory| {
                let name = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
                durability(&format!("spool {name} keeps mail"), directory, spool.allow_volatile)
            }));
            checks
        }
        Err(check) => vec![check],
    }
}

fn access(place: &Place, path: &Path) -> Check {
    // SAFETY: the call has no preconditions and cannot fail.
    let us = unsafe { libc::geteuid() };
    let directory = place.directory();
    if let Err(error) = Scratch::new(directory) {
        let seen = format!("nothing can be written in {} ({error})", shown(directory));
        return Check::missing("spool", seen, format!("chown it to user {us}, or choose another spool.path"));
    }
    let Place::Made(_) = place else {
        return Check::ok("spool", format!("{} will be made", shown(path)));
    };
    match std::fs::metadata(directory).map(|found| (found.uid(), found.mode())) {
        Ok((owner, _)) if owner != us => Check::warning(
            "spool",
            format!("{} belongs to user {owner}, and we are {us}", shown(directory)),
            "chown it, so that mail stays readable",
        ),
        Ok((_, mode)) if mode & 0o002 != 0 => Check::warning(
            "spool",
            format!("everybody can write in {}", shown(directory)),
            format!("chmod 700 {}", shown(directory)),
        ),
        _ => Check::ok("spool", shown(path)),
    }
}

/// The directories of shards that are on a file system of their own.
fn mounted_below(root: &Path) -> Vec<PathBuf> {
    let device = |path: &Path| std::fs::metadata(path).map(|found| found.dev()).ok();
    let of_root = device(root);
    let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
    let mut below: Vec<PathBuf> = entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("shard-"))
        .map(|entry| entry.path())
        .filter(|path| device(path).is_some_and(|found| Some(found) != of_root))
        .collect();
    below.sort();
    below
}

fn durability(name: &str, directory: &Path, allow_volatile: bool) -> Check {
    let found = match FileSystem::of(directory) {
        Ok(found) => found,
        Err(error) => {
            let seen = format!("{} has no file system to be asked ({error})", shown(directory));
            return Check::warning(name, seen, "make sure that it keeps what was synced");
        }
    };
    let kind = &found.name;
    match found.keeps {
        Keeps::Yes => Check::ok(name, format!("the file system is {kind}")),
        Keeps::No if allow_volatile => Check::warning(
            name,
            format!("the file system is {kind}, volatile: acknowledged mail is lost at power loss"),
            "allow_volatile_spool permits it; never for mail that matters",
        ),
        Keeps::No => Check::missing(
            name,
            format!("the file system is {kind}, volatile: acknowledged mail would be lost at power loss"),
            "set spool.path to a directory on a disk, or allow_volatile_spool = true in [spool] to try things out",
        ),
        Keeps::Elsewhere => Check::warning(
            name,
            format!("the file system is {kind}, and durable only if what serves it is"),
            "prefer a local disk",
        ),
        Keeps::Unknown => Check::warning(
            name,
            format!("the file system is {kind}"),
            "make sure that it keeps what was synced; a directory on ext4 or xfs does",
        ),
    }
}

/// Free space and inodes; nothing when the directory cannot be found, which [`checks`] has told.
pub fn space(spool: &Spool) -> Option<Check> {
    let place = Place::of(&spool.path).ok()?;
    let found = FileSystem::of(place.directory()).ok()?;
    let (mib, inodes) = (found.bytes_free >> 20, found.inodes_free);
    let files = inodes.map_or("any number of files".into(), |inodes| format!("{inodes} files"));
    let seen = format!("{mib} MiB and {files} are free");
    let wanted = spool.segment_bytes.saturating_mul(SEGMENTS_FREE_MIN);
    let enough = found.bytes_free >= wanted && inodes.is_none_or(|inodes| inodes >= INODES_FREE_MIN);
    Some(match enough {
        true => Check::ok("spool space", seen),
        false => {
            let advice = format!("make room for {} MiB and {INODES_FREE_MIN} files", wanted >> 20);
            Check::warning("spool space", seen, advice)
        }
    })
}

/// How long a synced write of one block takes, as a lone message would have it.
pub fn sync_latency(spool: &Spool) -> Check {
    let name = "spool sync";
    let measured = match Place::of(&spool.path) {
        Ok(place) => measure(place.directory()),
        Err(_) => Err(io::ErrorKind::NotFound.into()),
    };
    match measured {
        Ok(times) => judge_times(&times),
        Err(error) => {
            Check::missing(name, format!("could not be measured ({error})"), "see the line on the spool")
        }
    }
}

/// The times of synced writes into a file that was written before, so that only data has to reach the disk.
fn measure(directory: &Path) -> io::Result<Vec<Duration>> {
    let scratch = Scratch::new(directory)?;
    let file = &scratch.file;
    file.write_all_at(&vec![0; BLOCK_BYTES * SYNCS], 0)?;
    file.sync_all()?;
    let block = [0x5a; BLOCK_BYTES];
    let begun = Instant::now();
    let mut times = Vec::with_capacity(SYNCS);
    for index in 0..SYNCS {
        let before = Instant::now();
        file.write_all_at(&block, (index * BLOCK_BYTES) as u64)?;
        file.sync_data()?;
        times.push(before.elapsed());
        if begun.elapsed() > MEASURE_TIME_MAX {
            break;
        }
    }
    times.sort_unstable();
    Ok(times)
}

/// Judges sorted times, of which there is at least one.
fn judge_times(times: &[Duration]) -> Check {
    let name = "spool sync";
    let at = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)];
    let seen = format!(
        "{} writes of 4 KiB, each synced: min {} us, median {} us, p99 {} us",
        times.len(),
        at(0).as_micros(),
        at(50).as_micros(),
        at(99).as_micros()
    );
    if at(50) < SYNC_TIME_MIN {
        let advice = "faster than a disk can be: make sure that no volatile cache swallows syncs";
        return Check::warning(name, seen, advice);
    }
    if at(50) > SYNC_TIME_MAX {
        return Check::warning(
            name,
            seen,
            "slow: a disk with power loss protection answers within a millisecond",
        );
    }
    Check::ok(name, seen)
}

/// A file that is removed when it is dropped.
struct Scratch {
    file: File,
    path: PathBuf,
}

impl Scratch {
    fn new(directory: &Path) -> io::Result<Scratch> {
        let path = directory.join(format!(".mtad-doctor-{}", std::process::id()));
        // What a killed run with the same process number has left must not be in the way.
        let _ = std::fs::remove_file(&path);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        Ok(Scratch { file, path })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests;
