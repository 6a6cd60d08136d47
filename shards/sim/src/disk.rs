//! A disk: it belongs to one machine, survives its crashes, and fails when the world says so.

use crate::image::Image;
use crate::names::Names;
use crate::random::{Chance, Span, Stream};
use host::Room;
use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// How a disk behaves. Each chance is drawn for each operation.
#[derive(Clone, Copy, Debug)]
pub struct DiskFaults {
    /// How long a write takes.
    pub write: Span,
    /// How long a sync of a file or directory takes.
    pub sync: Span,
    /// How long a read or an operation on names takes.
    pub read: Span,
    /// A write fails (EIO), and some of it may have been written.
    pub write_error: Chance,
    /// A sync fails (EIO), and nothing is known of what it covered.
    pub sync_error: Chance,
    /// A read fails (EIO).
    pub read_error: Chance,
    /// A read shows one bit turned over; the next one does not.
    pub read_flip: Chance,
    /// Creating, opening, renaming or removing fails (EIO) without effect.
    pub name_error: Chance,
    /// A write fails for want of room (ENOSPC), as on a disk that promised more than it has.
    pub write_full: Chance,
    /// Everything that changes something fails (EROFS).
    pub read_only: bool,
}

impl DiskFaults {
    /// A disk that works.
    pub const NONE: DiskFaults = DiskFaults {
        write: Span::micros(20, 200),
        sync: Span::micros(100, 2_000),
        read: Span::micros(20, 200),
        write_error: Chance::NEVER,
        sync_error: Chance::NEVER,
        read_error: Chance::NEVER,
        read_flip: Chance::NEVER,
        name_error: Chance::NEVER,
        write_full: Chance::NEVER,
        read_only: false,
    };
}

/// A file, whatever its names.
#[derive(Debug)]
pub(crate) struct Inode {
    pub(crate) image: RefCell<Image>,
    /// Its zeros are all written.
    pub(crate) made: Cell<bool>,
    charged: u64,
    used: Rc<Cell<u64>>,
}

impl Drop for Inode {
    fn drop(&mut self) {
        self.used.set(self.used.get() - self.charged);
    }
}

/// The disk of a machine.
#[derive(Debug)]
pub struct Disk {
    pub(crate) names: RefCell<Names<Rc<Inode>>>,
    faults: Cell<DiskFaults>,
    faults_under: RefCell<Vec<(PathBuf, DiskFaults)>>,
    capacity: Cell<u64>,
    capacity_under: RefCell<Vec<(PathBuf, u64)>>,
    used: Rc<Cell<u64>>,
}

impl Disk {
    pub(crate) fn new(faults: DiskFaults) -> Disk {
        Disk {
            names: RefCell::new(Names::new()),
            faults: Cell::new(faults),
            faults_under: RefCell::default(),
            capacity: Cell::new(u64::MAX),
            capacity_under: RefCell::default(),
            used: Rc::default(),
        }
    }

    /// How everything on the disk behaves from now on; forgets [`Disk::set_faults_under`].
    pub fn set_faults(&self, faults: DiskFaults) {
        self.faults.set(faults);
        self.faults_under.borrow_mut().clear();
    }

    /// How the files under `prefix` behave from now on.
    pub fn set_faults_under(&self, prefix: &Path, faults: DiskFaults) {
        let mut under = self.faults_under.borrow_mut();
        under.retain(|(other, _)| other != prefix);
        under.push((prefix.to_owned(), faults));
    }

    /// How a file behaves.
    pub fn faults_of(&self, path: &Path) -> DiskFaults {
        let under = self.faults_under.borrow();
        under
            .iter()
            .find(|(prefix, _)| path.starts_with(prefix))
            .map_or(self.faults.get(), |(_, faults)| *faults)
    }

    /// Bytes that fit (a new disk has no limit); creating a file beyond that fails (ENOSPC).
    pub fn set_capacity(&self, bytes: u64) {
        self.capacity.set(bytes);
    }

    /// The same for the files under `prefix` alone, as on a file system of their own.
    pub fn set_capacity_under(&self, prefix: &Path, bytes: u64) {
        let mut under = self.capacity_under.borrow_mut();
        under.retain(|(other, _)| other != prefix);
        under.push((prefix.to_owned(), bytes));
    }

    /// Size and free bytes of the file system of `path`.
    fn size_and_free(&self, path: &Path) -> (u64, u64) {
        let under = self.capacity_under.borrow();
        let (size, used) = match under.iter().find(|(prefix, _)| path.starts_with(prefix)) {
            Some((prefix, size)) => (*size, self.used_under(prefix)),
            None => (self.capacity.get(), self.used.get()),
        };
        (size, size.saturating_sub(used))
    }

    fn used_under(&self, prefix: &Path) -> u64 {
        let names = self.names.borrow();
        let files = names.list(prefix).unwrap_or_default();
        let sizes = files.iter().filter_map(|name| names.get(&prefix.join(name)));
        sizes.map(|inode| inode.charged).sum()
    }

    /// The room on the file system of `path`.
    pub(crate) fn room(&self, path: &Path) -> Room {
        let (bytes, bytes_free) = self.size_and_free(path);
        Room { bytes, bytes_free, read_only: self.faults_of(path).read_only, ..Room::default() }
    }

    /// Bytes in files that have a name, are open, or would be back after a power failure.
    pub fn used(&self) -> u64 {
        self.used.get()
    }

    /// The content of a file as a reader sees it now, without latency or faults.
    pub fn peek(&self, path: &Path) -> Option<Vec<u8>> {
        let names = self.names.borrow();
        let image = names.get(path)?.image.borrow();
        image.read(0, image.size())
    }

    /// The names in a directory, without latency or faults.
    pub fn names_in(&self, directory: &Path) -> Vec<String> {
        self.names.borrow().list(directory).unwrap_or_default()
    }

    /// Turns over one bit of a file for good. Nothing happens when the file is shorter.
    pub fn flip_bit(&self, path: &Path, byte: usize, bit: u8) {
        if let Some(inode) = self.names.borrow().get(path)
            && byte < inode.image.borrow().size()
        {
            inode.image.borrow_mut().flip(byte, bit % 8);
        }
    }

    pub(crate) fn find(&self, path: &Path) -> io::Result<Rc<Inode>> {
        self.names.borrow().get(path).cloned().ok_or(ErrorKind::NotFound.into())
    }

    /// Gives a name to a new file of zeros.
    pub(crate) fn create(&self, path: &Path, size: u64) -> io::Result<Rc<Inode>> {
        let free = self.size_and_free(path).1;
        let mut names = self.names.borrow_mut();
        if !path.parent().is_some_and(|parent| names.has_directory(parent)) {
            return Err(ErrorKind::NotFound.into());
        }
        if size > free {
            return Err(ErrorKind::StorageFull.into());
        }
        self.used.set(self.used.get() + size);
        let image = RefCell::new(Image::zeroed(size as usize));
        let inode = Rc::new(Inode { image, made: Cell::new(false), charged: size, used: self.used.clone() });
        names.create(path, inode.clone());
        Ok(inode)
    }

    /// The power fails.
    pub(crate) fn lose_power(&self, random: &Stream) {
        let mut names = self.names.borrow_mut();
        names.lose_power(random);
        for inode in names.values() {
            let mut image = inode.image.borrow_mut();
            image.lose_power(random);
            if !inode.made.replace(true) {
                let size = random.below(image.size() + 1);
                image.truncate(size);
            }
        }
    }

    /// The process dies, the kernel goes on.
    pub(crate) fn lose_process(&self, random: &Stream) {
        let names = self.names.borrow();
        for inode in names.values() {
            let mut image = inode.image.borrow_mut();
            image.lose_process(random);
            if !inode.made.replace(true) {
                let size = random.below(image.size() + 1);
                image.truncate(size);
            }
        }
    }
}
