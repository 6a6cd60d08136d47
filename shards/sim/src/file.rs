//! Operations on files and names, with the time that they take and the ways in which they fail.

use crate::disk::{Disk, DiskFaults, Inode};
use crate::executor::Event;
use crate::random::{Chance, Span};
use crate::world::Core;
use host::AlignedBuf;
use host::buffer::BLOCK;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// EIO.
const INPUT_OUTPUT: i32 = 5;
/// ENOSPC.
const NO_SPACE: i32 = 28;
/// EROFS.
const READ_ONLY: i32 = 30;

/// An open file.
pub struct SimFile {
    core: Rc<Core>,
    disk: Rc<Disk>,
    inode: Rc<Inode>,
    /// The name under which it was opened.
    path: PathBuf,
    size: u64,
}

impl SimFile {
    async fn write(&self, bytes: &[u8], offset: usize) -> io::Result<()> {
        let (faults, random) = (self.disk.faults_of(&self.path), &self.core.streams.disk);
        let image = &self.inode.image;
        let ticket = image.borrow_mut().begin(offset, bytes);
        self.core.spend(faults.write).await;
        // Drawn only where it can hit, so that worlds without such faults draw what they always drew.
        let refused = match faults {
            DiskFaults { read_only: true, .. } => Some(READ_ONLY),
            _ if random.hits(faults.write_error) => Some(INPUT_OUTPUT),
            _ if faults.write_full != Chance::NEVER && random.hits(faults.write_full) => Some(NO_SPACE),
            _ => None,
        };
        if let Some(code) = refused {
            image.borrow_mut().fail(ticket, random);
            return Err(io::Error::from_raw_os_error(code));
        }
        image.borrow_mut().end(ticket);
        let sync = image.borrow_mut().begin_sync();
        self.core.spend(faults.sync).await;
        if random.hits(faults.sync_error) {
            image.borrow_mut().fail_sync(sync, random);
            return Err(input_output_error());
        }
        image.borrow_mut().end_sync(sync);
        // Another sync of the same file may have failed while this one was under way, and taken our write along.
        match image.borrow().has_failed(ticket) {
            true => Err(input_output_error()),
            false => Ok(()),
        }
    }
}

impl host::File for SimFile {
    fn size(&self) -> u64 {
        self.size
    }

    async fn write_synced(&self, buffer: AlignedBuf, offset: u64) -> (io::Result<()>, AlignedBuf) {
        assert!(offset.is_multiple_of(BLOCK as u64), "a write starts at a block boundary");
        assert!(buffer.len().is_multiple_of(BLOCK) && !buffer.is_empty(), "a write is of whole blocks");
        let result = self.write(&buffer, offset as usize).await;
        self.core.executor.note(Event::Disk, offset, u64::from(result.is_ok()));
        (result, buffer)
    }

    async fn read_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let (faults, random) = (self.disk.faults_of(&self.path), &self.core.streams.disk);
        self.core.spend(faults.read).await;
        if random.hits(faults.read_error) {
            return Err(input_output_error());
        }
        let read = self.inode.image.borrow().read(offset as usize, len);
        let mut bytes = read.ok_or(io::ErrorKind::UnexpectedEof)?;
        if random.hits(faults.read_flip) && len > 0 {
            bytes[random.below(len)] ^= 1 << random.below(8);
        }
        Ok(bytes)
    }
}

impl Core {
    async fn spend(&self, span: Span) {
        self.timers.sleep(self.streams.disk.span(span)).await;
    }

    /// Takes the time of an operation on names, and fails at times.
    async fn touch_names(&self, disk: &Disk, path: &Path) -> io::Result<()> {
        let faults = disk.faults_of(path);
        self.spend(faults.read).await;
        self.fail_at_times(faults.name_error)
    }

    /// The same for one that changes something.
    async fn change_names(&self, disk: &Disk, path: &Path) -> io::Result<()> {
        self.touch_names(disk, path).await?;
        if disk.faults_of(path).read_only { Err(io::Error::from_raw_os_error(READ_ONLY)) } else { Ok(()) }
    }

    fn fail_at_times(&self, chance: Chance) -> io::Result<()> {
        match self.streams.disk.hits(chance) {
            true => Err(input_output_error()),
            false => Ok(()),
        }
    }

    pub(crate) async fn create_zeroed(
        self: &Rc<Self>,
        disk: Rc<Disk>,
        path: &Path,
        size: u64,
    ) -> io::Result<SimFile> {
        self.change_names(&disk, path).await?;
        let inode = disk.create(path, size)?;
        let faults = disk.faults_of(path);
        self.spend(faults.write).await;
        self.spend(faults.sync).await;
        self.fail_at_times(faults.sync_error)?;
        inode.made.set(true);
        disk.names.borrow_mut().sync_name(path);
        Ok(SimFile { core: self.clone(), disk, inode, path: path.to_owned(), size })
    }

    pub(crate) async fn open(self: &Rc<Self>, disk: Rc<Disk>, path: &Path) -> io::Result<SimFile> {
        self.touch_names(&disk, path).await?;
        let inode = disk.find(path)?;
        let size = inode.image.borrow().size() as u64;
        Ok(SimFile { core: self.clone(), disk, inode, path: path.to_owned(), size })
    }

    pub(crate) async fn rename(&self, disk: &Disk, from: &Path, to: &Path) -> io::Result<()> {
        self.change_names(disk, from).await?;
        found(disk.names.borrow_mut().rename(from, to))
    }

    pub(crate) async fn remove(&self, disk: &Disk, path: &Path) -> io::Result<()> {
        self.change_names(disk, path).await?;
        found(disk.names.borrow_mut().remove(path))
    }

    pub(crate) async fn create_dir(&self, disk: &Disk, path: &Path) -> io::Result<()> {
        self.touch_names(disk, path).await?;
        self.spend(disk.faults_of(path).sync).await;
        disk.names.borrow_mut().create_directory(path);
        Ok(())
    }

    pub(crate) async fn list_dir(&self, disk: &Disk, path: &Path) -> io::Result<Vec<String>> {
        self.touch_names(disk, path).await?;
        let names = disk.names.borrow().list(path);
        names.ok_or(io::ErrorKind::NotFound.into())
    }

    pub(crate) async fn sync_dir(&self, disk: &Disk, path: &Path) -> io::Result<()> {
        let faults = disk.faults_of(path);
        let begun = disk.names.borrow().changes();
        self.spend(faults.sync).await;
        self.fail_at_times(faults.sync_error)?;
        match disk.names.borrow().has_directory(path) {
            true => {}
            false => return Err(io::ErrorKind::NotFound.into()),
        }
        disk.names.borrow_mut().sync(path, begun);
        Ok(())
    }
}

fn found(is_found: bool) -> io::Result<()> {
    match is_found {
        true => Ok(()),
        false => Err(io::ErrorKind::NotFound.into()),
    }
}

/// What a failing disk says: EIO.
fn input_output_error() -> io::Error {
    io::Error::from_raw_os_error(INPUT_OUTPUT)
}
