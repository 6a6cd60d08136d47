//! Watches the room on file systems. There is no io_uring operation that asks for it, and the system call waits for a
//! disk, so each directory has a thread of its own that publishes what it saw: a file system that hangs holds up
//! nobody else.

use std::cell::RefCell;
use std::ffi::CString;
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::Room;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(200);

/// The directories that a shard has asked about, each with what was seen last.
#[derive(Default)]
pub(super) struct Rooms(RefCell<Vec<(PathBuf, Arc<Sighting>)>>);

/// What was seen last. The fields need not be of the same look.
#[derive(Default)]
struct Sighting {
    is_known: AtomicBool,
    bytes: AtomicU64,
    bytes_free: AtomicU64,
    inodes: AtomicU64,
    inodes_free: AtomicU64,
    read_only: AtomicBool,
}

impl Rooms {
    /// What was last seen of the file system of `directory`; the first question starts the watch.
    pub fn of(&self, directory: &Path) -> Option<Room> {
        let mut rooms = self.0.borrow_mut();
        if let Some((_, sighting)) = rooms.iter().find(|(path, _)| path == directory) {
            return sighting.room();
        }
        let sighting = Arc::new(Sighting::default());
        watch(directory.to_owned(), Arc::downgrade(&sighting));
        rooms.push((directory.to_owned(), sighting));
        None
    }
}

/// Looks again and again, as long as anybody wants to know.
fn watch(directory: PathBuf, sighting: Weak<Sighting>) {
    let look = move || {
        while let Some(sighting) = sighting.upgrade() {
            sighting.publish(statvfs(&directory));
            drop(sighting);
            std::thread::park_timeout(LOOK);
        }
    };
    if let Err(error) = std::thread::Builder::new().name("room".into()).spawn(look) {
        tracing::error!(%error, "the room on the spool's disk cannot be watched");
    }
}

impl Sighting {
    /// A directory that cannot be looked at says nothing of the room: whatever is wrong with it, writes will tell.
    fn publish(&self, seen: io::Result<Room>) {
        if let Ok(room) = seen {
            self.bytes.store(room.bytes, Relaxed);
            self.bytes_free.store(room.bytes_free, Relaxed);
            self.inodes.store(room.inodes, Relaxed);
            self.inodes_free.store(room.inodes_free, Relaxed);
            self.read_only.store(room.read_only, Relaxed);
        }
        self.is_known.store(seen.is_ok(), Relaxed);
    }

    fn room(&self) -> Option<Room> {
        self.is_known.load(Relaxed).then(|| Room {
            bytes: self.bytes.load(Relaxed),
            bytes_free: self.bytes_free.load(Relaxed),
            inodes: self.inodes.load(Relaxed),
            inodes_free: self.inodes_free.load(Relaxed),
            read_only: self.read_only.load(Relaxed),
        })
    }
}

fn statvfs(path: &Path) -> io::Result<Room> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut stat = MaybeUninit::<libc::statvfs>::zeroed();
    // SAFETY: the path ends in NUL, and `stat` is valid for writes of its type.
    if unsafe { libc::statvfs(path.as_ptr(), stat.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded and so has filled it in.
    let stat = unsafe { stat.assume_init() };
    Ok(Room {
        bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
        bytes_free: stat.f_bavail.saturating_mul(stat.f_frsize),
        inodes: stat.f_files,
        inodes_free: stat.f_favail,
        read_only: stat.f_flag & libc::ST_RDONLY != 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_is_seen_after_a_moment_and_what_is_not_there_never() {
        let rooms = Rooms::default();
        let look = |_| {
            assert_eq!(rooms.of(Path::new("/no/such/directory")), None);
            std::thread::park_timeout(Duration::from_millis(5));
            rooms.of(&std::env::temp_dir())
        };
        let room = (0..2_000).find_map(look).expect("it is seen within seconds");
        assert!(room.bytes_free > 0 && room.bytes >= room.bytes_free && !room.read_only, "{room:?}");
        assert!(room.inodes >= room.inodes_free, "{room:?}");
    }
}
