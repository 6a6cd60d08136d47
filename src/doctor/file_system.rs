//! Which file system a directory is on, and whether it keeps what was synced.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What becomes of synced writes at power loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeps {
    /// They stay, as far as the disk keeps its word.
    Yes,
    /// They are gone.
    No,
    /// It depends on another machine or program.
    Elsewhere,
    /// It is not known here.
    Unknown,
}

/// A file system as `statfs` describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSystem {
    /// The name of its type.
    pub name: String,
    /// What becomes of synced writes.
    pub keeps: Keeps,
    /// Bytes that are free for us.
    pub bytes_free: u64,
    /// Files that can still be made; `None` when there is no fixed number.
    pub inodes_free: Option<u64>,
}

impl FileSystem {
    /// Looks at the file system of `path`, which exists.
    pub fn of(path: &Path) -> io::Result<FileSystem> {
        let stat = statfs(path)?;
        let (name, keeps) = kind(stat.f_type as u32);
        let mount = std::fs::read_to_string("/proc/self/mountinfo").ok();
        let options = mount.and_then(|mounts| options_of(&mounts, std::fs::metadata(path).ok()?.dev()));
        let options = options.unwrap_or_default();
        let (name, keeps) = match name {
            "overlay" => below_overlay(&options),
            _ if promises_nothing(&options) => (format!("{name} without write barriers"), Keeps::No),
            _ => (name.to_string(), keeps),
        };
        let bytes_free = (stat.f_bavail).saturating_mul(stat.f_bsize as u64);
        Ok(FileSystem { name, keeps, bytes_free, inodes_free: (stat.f_files > 0).then_some(stat.f_ffree) })
    }
}

fn statfs(path: &Path) -> io::Result<libc::statfs> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut stat = std::mem::MaybeUninit::<libc::statfs>::zeroed();
    // SAFETY: the path ends in NUL, and `stat` is valid for writes of its type.
    match unsafe { libc::statfs(path.as_ptr(), stat.as_mut_ptr()) } {
        // SAFETY: the call succeeded and so has filled it in.
        0 => Ok(unsafe { stat.assume_init() }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Name and nature of a type of file system, by its magic number in linux/magic.h and the kernel's sources.
fn kind(magic: u32) -> (&'static str, Keeps) {
    match magic {
        0x0102_1994 => ("tmpfs", Keeps::No),
        0x8584_58f6 => ("ramfs", Keeps::No),
        0x9584_58f6 => ("hugetlbfs", Keeps::No),
        0xef53 => ("ext4", Keeps::Yes),
        0x5846_5342 => ("xfs", Keeps::Yes),
        0x9123_683e => ("btrfs", Keeps::Yes),
        0x2fc1_2fc1 => ("zfs", Keeps::Yes),
        0xf2f5_2010 => ("f2fs", Keeps::Yes),
        0xca45_1a4e => ("bcachefs", Keeps::Yes),
        0x794c_7630 => ("overlay", Keeps::Unknown),
        0x6969 => ("nfs", Keeps::Elsewhere),
        0xff53_4d42 => ("cifs", Keeps::Elsewhere),
        0xfe53_4d42 => ("smb", Keeps::Elsewhere),
        0x6573_5546 => ("fuse", Keeps::Elsewhere),
        0x0102_1997 => ("9p", Keeps::Elsewhere),
        0x00c3_6400 => ("ceph", Keeps::Elsewhere),
        _ => ("of an unknown type", Keeps::Unknown),
    }
}

/// What an overlay keeps is decided by the file system of its upper directory, when that can be seen from here.
fn below_overlay(options: &str) -> (String, Keeps) {
    let upper = options.split(',').find_map(|option| option.strip_prefix("upperdir=")).map(PathBuf::from);
    let below = upper.and_then(|upper| statfs(&upper).ok()).map(|stat| kind(stat.f_type as u32));
    match below {
        _ if options.split(',').any(|option| option == "volatile") => {
            ("a volatile overlay".into(), Keeps::No)
        }
        Some((name, keeps)) => (format!("an overlay on {name}"), keeps),
        None => ("an overlay on something that cannot be seen from here".into(), Keeps::Unknown),
    }
}

/// Whether the file system was mounted so that a sync does not reach the disk.
fn promises_nothing(options: &str) -> bool {
    options.split(',').any(|option| ["nobarrier", "barrier=0"].contains(&option))
}

/// The options of the mount with the device number `device`, from `/proc/self/mountinfo`.
fn options_of(mounts: &str, device: u64) -> Option<String> {
    let wanted = format!("{}:{}", libc::major(device), libc::minor(device));
    let line = mounts.lines().rfind(|line| line.split(' ').nth(2) == Some(&wanted))?;
    let (_, of_super_block) = line.split_once(" - ")?;
    let options = of_super_block.splitn(3, ' ').nth(2)?;
    Some(options.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_those_of_the_mount_with_the_device() {
        let mounts = "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,barrier=0\n\
                      40 22 0:35 / /x rw - overlay overlay rw,lowerdir=/l,upperdir=/dev/shm,workdir=/w\n";
        assert_eq!(options_of(mounts, libc::makedev(8, 1)).as_deref(), Some("rw,barrier=0"));
        let overlay = options_of(mounts, libc::makedev(0, 35)).expect("is there");
        assert!(overlay.contains("upperdir=/dev/shm"));
        assert_eq!(options_of(mounts, libc::makedev(9, 9)), None);
        assert!(promises_nothing("rw,barrier=0") && !promises_nothing("rw,barrier=1"));
    }

    #[test]
    fn an_overlay_keeps_what_its_upper_directory_keeps() {
        assert_eq!(below_overlay("rw,upperdir=/nowhere/at/all").1, Keeps::Unknown);
        assert_eq!(below_overlay("rw,upperdir=/,volatile").1, Keeps::No);
        if Path::new("/dev/shm").is_dir() {
            assert_eq!(below_overlay("rw,upperdir=/dev/shm"), ("an overlay on tmpfs".into(), Keeps::No));
        }
    }
}
