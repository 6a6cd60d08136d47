//! Files: opened, written, synced, renamed and removed by the ring, so that the shard never waits for a disk.

use std::cell::RefCell;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;

use io_uring::{opcode, squeue, types};
use mail::Time;

use super::core::Shared;
use super::operation::{Ending, Finished, Held};
use crate::File;
use crate::buffer::{AlignedBuf, BLOCK};

/// Bytes of one write of zeros.
const ZEROS_BYTES: usize = 1 << 20;
/// Most bytes of one read entry; more is read in several.
const READ_BYTES_MAX: usize = 1 << 30;

const HERE: types::Fd = types::Fd(libc::AT_FDCWD);

/// An open file. Writes go past the page cache where the file system lets them; reads go through it, at any offset.
pub struct RingFile {
    shared: Rc<Shared>,
    read: Rc<OwnedFd>,
    write: Option<RefCell<Writing>>,
    size: u64,
}

/// How blocks are written.
#[derive(Clone)]
enum Writing {
    Direct(Rc<OwnedFd>),
    /// The file system refused direct access.
    Cached(Rc<OwnedFd>),
}

impl Writing {
    fn descriptor(&self) -> &Rc<OwnedFd> {
        match self {
            Writing::Direct(descriptor) | Writing::Cached(descriptor) => descriptor,
        }
    }
}

impl RingFile {
    /// Opens an existing file for reading.
    pub(super) async fn open_read(shared: &Rc<Shared>, path: &Path) -> io::Result<RingFile> {
        let read = open(shared, path, libc::O_RDONLY).await?;
        let size = size_of_file(&read)?;
        Ok(RingFile { shared: shared.clone(), read, write: None, size })
    }

    /// Opens an existing file for writing in place and reading.
    pub(super) async fn open_write(shared: &Rc<Shared>, path: &Path) -> io::Result<RingFile> {
        let writing = open_writing(shared, path, 0).await?;
        let read = open(shared, path, libc::O_RDONLY).await?;
        let size = size_of_file(&read)?;
        Ok(RingFile { shared: shared.clone(), read, write: Some(RefCell::new(writing)), size })
    }

    /// Creates or empties a file and fills it with zeros that are on disk.
    pub(super) async fn create_zeroed(shared: &Rc<Shared>, path: &Path, size: u64) -> io::Result<RingFile> {
        if !size.is_multiple_of(BLOCK as u64) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a size that is not a multiple of the block",
            ));
        }
        let writing = open_writing(shared, path, libc::O_CREAT | libc::O_TRUNC).await?;
        let read = open(shared, path, libc::O_RDONLY).await?;
        let file = RingFile { shared: shared.clone(), read, write: Some(RefCell::new(writing)), size };
        let mut offset = 0;
        let mut zeros = zeros(ZEROS_BYTES.min(usize::try_from(size).unwrap_or(ZEROS_BYTES)));
        while offset < size {
            if size - offset < zeros.len() as u64 {
                zeros = self::zeros((size - offset) as usize);
            }
            let written;
            (written, zeros) = file.write(zeros, offset, After::Nothing).await;
            written?;
            offset += zeros.len() as u64;
        }
        let [synced, _] =
            sync(shared, &file.writing()?.descriptor().clone(), types::FsyncFlags::empty()).await.results;
        synced?;
        sync_dir(shared, parent(path)).await?;
        Ok(file)
    }

    fn writing(&self) -> io::Result<Writing> {
        let write = self.write.as_ref().ok_or_else(|| io::Error::from_raw_os_error(libc::EBADF))?;
        Ok(write.borrow().clone())
    }

    /// Writes whole blocks. When the file system took O_DIRECT at open but refuses the write, nothing has been
    /// written, and the page cache takes over for good.
    async fn write(&self, buffer: AlignedBuf, offset: u64, after: After) -> (io::Result<()>, AlignedBuf) {
        let writing = match self.writing() {
            Ok(writing) => writing,
            Err(error) => return (Err(error), buffer),
        };
        let (result, buffer) = write_blocks(&self.shared, writing.descriptor(), buffer, offset, after).await;
        match (result, writing) {
            (Err(error), Writing::Direct(descriptor)) if error.raw_os_error() == Some(libc::EINVAL) => {
                if let Err(error) = refuse_direct(&descriptor) {
                    return (Err(error), buffer);
                }
                let cached = Writing::Cached(descriptor.clone());
                self.write.iter().for_each(|write| *write.borrow_mut() = cached.clone());
                write_blocks(&self.shared, &descriptor, buffer, offset, after).await
            }
            (result, _) => (result, buffer),
        }
    }
}

impl File for RingFile {
    fn size(&self) -> u64 {
        self.size
    }

    async fn write_synced(&self, buffer: AlignedBuf, offset: u64) -> (io::Result<()>, AlignedBuf) {
        self.write(buffer, offset, After::Sync).await
    }

    async fn read_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(len);
        while bytes.len() < len {
            let had = bytes.len();
            let room = bytes.spare_capacity_mut();
            let wanted = room.len().min(len - had).min(READ_BYTES_MAX) as u32;
            let entry = opcode::Read::new(types::Fd(self.read.as_raw_fd()), room.as_mut_ptr().cast(), wanted);
            let entry = entry.offset(offset + had as u64).build();
            let held = Held::Read(self.read.clone(), bytes);
            // SAFETY: `held` owns the file and the vector, whose memory does not move with it.
            let finished = unsafe { Ending::start(&self.shared, held, entry, None, Time::FAR) }.await;
            let [read, _] = finished.results;
            let (read, Held::Read(_, mut filled)) = (read?, finished.held) else {
                return Err(io::ErrorKind::UnexpectedEof.into());
            };
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            // SAFETY: the kernel has filled `read` bytes after the first `had`, within the capacity.
            unsafe { filled.set_len(had + read as usize) };
            bytes = filled;
        }
        Ok(bytes)
    }
}

/// What follows a write.
#[derive(Clone, Copy)]
enum After {
    Nothing,
    /// An fdatasync, started by the kernel when, and only when, all has been written.
    Sync,
}

async fn write_blocks(
    shared: &Rc<Shared>,
    file: &Rc<OwnedFd>,
    buffer: AlignedBuf,
    offset: u64,
    after: After,
) -> (io::Result<()>, AlignedBuf) {
    let Some(len) = u32::try_from(buffer.len()).ok().filter(|len| len.is_multiple_of(BLOCK as u32)) else {
        return (
            Err(io::Error::new(io::ErrorKind::InvalidInput, "not whole blocks, or 4 GiB of them")),
            buffer,
        );
    };
    let descriptor = types::Fd(file.as_raw_fd());
    let write = opcode::Write::new(descriptor, buffer.as_ptr(), len).offset(offset).build();
    let linked = match after {
        After::Nothing => None,
        After::Sync => Some(opcode::Fsync::new(descriptor).flags(types::FsyncFlags::DATASYNC).build()),
    };
    // SAFETY: the operation owns the file and the buffer, whose memory does not move with it.
    let ending =
        unsafe { Ending::start(shared, Held::Write(file.clone(), buffer), write, linked, Time::FAR) };
    let finished = ending.await;
    let Held::Write(_, buffer) = finished.held else {
        unreachable!("an operation returns what it was given")
    };
    let result = match finished.results {
        [Ok(written), Ok(_)] if written == len => Ok(()),
        [Ok(written), _] if written != len => Err(io::Error::new(io::ErrorKind::WriteZero, "a short write")),
        [Err(error), _] | [Ok(_), Err(error)] => Err(error),
        [Ok(_), Ok(_)] => unreachable!("the first two arms cover every count"),
    };
    (result, buffer)
}

/// Syncs a file or a directory.
async fn sync(shared: &Rc<Shared>, file: &Rc<OwnedFd>, flags: types::FsyncFlags) -> Finished {
    let entry = opcode::Fsync::new(types::Fd(file.as_raw_fd())).flags(flags).build();
    // SAFETY: the operation owns the file.
    unsafe { Ending::start(shared, Held::File(file.clone()), entry, None, Time::FAR) }.await
}

/// Makes changes of names in a directory durable.
pub(super) async fn sync_dir(shared: &Rc<Shared>, path: &Path) -> io::Result<()> {
    let directory = open(shared, path, libc::O_RDONLY | libc::O_DIRECTORY).await?;
    let [synced, _] = sync(shared, &directory, types::FsyncFlags::empty()).await.results;
    synced.map(drop)
}

/// Renames, replacing what bears the name `to`.
pub(super) async fn rename(shared: &Rc<Shared>, from: &Path, to: &Path) -> io::Result<()> {
    let names = [name(from)?, name(to)?];
    let entry = opcode::RenameAt::new(HERE, names[0].as_ptr(), HERE, names[1].as_ptr()).build();
    by_name(shared, Held::Names(names), entry).await
}

/// Removes a file.
pub(super) async fn remove(shared: &Rc<Shared>, path: &Path) -> io::Result<()> {
    let name = name(path)?;
    let entry = opcode::UnlinkAt::new(HERE, name.as_ptr()).build();
    by_name(shared, Held::Name(name), entry).await
}

/// Makes a directory and its parents, each durable.
pub(super) async fn create_dir(shared: &Rc<Shared>, path: &Path) -> io::Result<()> {
    for directory in
        path.ancestors().filter(|path| !path.as_os_str().is_empty()).collect::<Vec<_>>().iter().rev()
    {
        let name = name(directory)?;
        let entry = opcode::MkDirAt::new(HERE, name.as_ptr()).mode(0o750).build();
        match by_name(shared, Held::Name(name), entry).await {
            Ok(()) => sync_dir(shared, parent(directory)).await?,
            // The root of a read-only system says EROFS for what is there, too; opening it will tell.
            Err(_) if directory.is_dir() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn by_name(shared: &Rc<Shared>, held: Held, entry: squeue::Entry) -> io::Result<()> {
    // SAFETY: the callers made the entry from the names in `held`, whose memory does not move with it.
    let finished = unsafe { Ending::start(shared, held, entry, None, Time::FAR) }.await;
    let [result, _] = finished.results;
    result.map(drop)
}

async fn open_writing(shared: &Rc<Shared>, path: &Path, flags: i32) -> io::Result<Writing> {
    match open(shared, path, libc::O_RDWR | libc::O_DIRECT | flags).await {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            Ok(Writing::Cached(open(shared, path, libc::O_RDWR | flags).await?))
        }
        opened => opened.map(Writing::Direct),
    }
}

async fn open(shared: &Rc<Shared>, path: &Path, flags: i32) -> io::Result<Rc<OwnedFd>> {
    let name = name(path)?;
    let entry = opcode::OpenAt::new(HERE, name.as_ptr()).flags(flags | libc::O_CLOEXEC).mode(0o640).build();
    // SAFETY: `held` owns the name, whose memory does not move with it.
    let finished = unsafe { Ending::start(shared, Held::Opened(name), entry, None, Time::FAR) }.await;
    let [opened, _] = finished.results;
    // SAFETY: an open hands a new descriptor over, and nobody else knows it.
    opened.map(|descriptor| Rc::new(unsafe { OwnedFd::from_raw_fd(descriptor as i32) }))
}

/// Takes O_DIRECT off an open file.
fn refuse_direct(file: &OwnedFd) -> io::Result<()> {
    // SAFETY: F_GETFL and F_SETFL take and give integers only.
    let failed = unsafe {
        let flags = libc::fcntl(file.as_raw_fd(), libc::F_GETFL);
        flags < 0 || libc::fcntl(file.as_raw_fd(), libc::F_SETFL, flags & !libc::O_DIRECT) < 0
    };
    if failed { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn size_of_file(file: &OwnedFd) -> io::Result<u64> {
    Ok(std::fs::File::from(file.as_fd().try_clone_to_owned()?).metadata()?.len())
}

fn zeros(len: usize) -> AlignedBuf {
    let mut zeros = AlignedBuf::with_capacity(len);
    const BLOCK_OF_ZEROS: [u8; BLOCK] = [0; BLOCK];
    (0..len / BLOCK).for_each(|_| zeros.extend_from_slice(&BLOCK_OF_ZEROS));
    zeros
}

fn name(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// The directory that holds `path`.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => Path::new("/"),
    }
}
