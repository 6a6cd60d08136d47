//! A disk in memory. Every operation has points at which the power may go off: before, in the middle (a write is torn
//! by sectors, a new file is short), and after it is done but before anyone knows. Renames and removals that no
//! `sync_dir` covers happen or not, each for itself.

use super::TestHost;
use host::{AlignedBuf, File, Host};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

const SECTOR: usize = 512;
/// How long a synced write takes.
const WRITE_TIME: Duration = Duration::from_micros(500);

type Inode = Rc<RefCell<Vec<u8>>>;

#[derive(Default)]
pub(crate) struct Disk {
    names: RefCell<BTreeMap<PathBuf, Inode>>,
    durable: RefCell<BTreeMap<PathBuf, Inode>>,
    unsynced: RefCell<Vec<(PathBuf, Option<PathBuf>)>>,
    points: Cell<u64>,
    off_at: Cell<Option<u64>>,
    off: Cell<bool>,
    /// So many of the next writes behind block 0 fail with EIO, having written some of their sectors.
    pub fail_writes: Cell<u32>,
    /// Whether writes to block 0, renames and removals fail with EIO.
    pub fail_others: Cell<bool>,
    /// Bytes that fit; ENOSPC beyond.
    pub capacity: Cell<Option<u64>>,
    /// Reads at this offset fail with EIO.
    pub fail_read_at: Cell<Option<u64>>,
    /// Opening this file fails with EIO.
    pub fail_open: RefCell<Option<PathBuf>>,
    /// Writes behind block 0, by the number of bytes.
    pub writes: RefCell<Vec<usize>>,
}

pub(crate) struct DiskFile {
    host: TestHost,
    inode: Inode,
    size: u64,
}

impl Disk {
    /// Takes the power away at the `point`th point from now.
    pub fn power_off_at(&self, point: u64) {
        self.off_at.set(Some(self.points.get() + point));
    }

    /// Keeps the power on while something is looked at.
    pub fn with_power<T>(&self, look: impl FnOnce() -> T) -> T {
        let off_at = self.off_at.take();
        let looked = look();
        self.off_at.set(off_at.map(|at| at.max(self.points.get() + 1)));
        looked
    }

    pub fn is_off(&self) -> bool {
        self.off.get()
    }

    /// Points passed.
    pub fn points(&self) -> u64 {
        self.points.get()
    }

    /// What the next start finds.
    pub fn after_crash(&self, seed: u64) -> Disk {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut names = self.durable.borrow().clone();
        for (from, to) in &*self.unsynced.borrow() {
            if random.bool()
                && let Some(inode) = names.remove(from)
                && let Some(to) = to
            {
                names.insert(to.clone(), inode);
            }
        }
        let copy =
            |(path, inode): (&PathBuf, &Inode)| (path.clone(), Rc::new(RefCell::new(inode.borrow().clone())));
        let names: BTreeMap<_, _> = names.iter().map(copy).collect();
        Disk { durable: RefCell::new(names.clone()), names: RefCell::new(names), ..Disk::default() }
    }

    /// The files by name, and their sizes.
    pub fn files(&self) -> Vec<(String, usize)> {
        let names = self.names.borrow();
        names
            .iter()
            .map(|(path, inode)| (path.to_string_lossy().into_owned(), inode.borrow().len()))
            .collect()
    }

    /// Changes a file behind the log's back, or makes it.
    pub fn tamper(&self, path: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let inode = Rc::clone(self.names.borrow_mut().entry(PathBuf::from(path)).or_default());
        change(&mut inode.borrow_mut());
        self.durable.borrow_mut().insert(PathBuf::from(path), inode);
    }

    pub fn list(&self, directory: &Path) -> Vec<String> {
        let names = self.names.borrow();
        let inside = names.keys().filter(|path| path.parent() == Some(directory));
        inside.filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned())).collect()
    }

    /// Passes a point; false when the power goes off at it.
    fn pass_point(&self) -> bool {
        self.points.set(self.points.get() + 1);
        if self.off_at.get() == Some(self.points.get()) {
            self.off.set(true);
        }
        !self.off.get()
    }

    async fn point(&self) {
        if !self.pass_point() {
            std::future::pending::<()>().await;
        }
    }

    fn other_fault(&self) -> io::Result<()> {
        if self.fail_others.get() { Err(io::Error::from_raw_os_error(5)) } else { Ok(()) }
    }

    pub async fn create_zeroed(host: &TestHost, path: &Path, size: u64) -> io::Result<DiskFile> {
        let disk = host.disk();
        disk.point().await;
        host.sleep_until(host.now() + WRITE_TIME).await;
        let used: usize = disk.names.borrow().values().map(|inode| inode.borrow().len()).sum();
        let inode = Inode::default();
        disk.names.borrow_mut().insert(path.to_owned(), Rc::clone(&inode));
        disk.durable.borrow_mut().insert(path.to_owned(), Rc::clone(&inode));
        inode.borrow_mut().resize(host.below(size as usize), 0);
        if disk.capacity.get().is_some_and(|capacity| used as u64 + size > capacity) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        disk.point().await;
        inode.borrow_mut().resize(size as usize, 0);
        disk.point().await;
        Ok(DiskFile { host: host.clone(), inode, size })
    }

    pub async fn open(host: &TestHost, path: &Path) -> io::Result<DiskFile> {
        if host.disk().fail_open.borrow().as_deref() == Some(path) {
            return Err(io::Error::from_raw_os_error(5));
        }
        let inode = host.disk().names.borrow().get(path).cloned().ok_or(io::ErrorKind::NotFound)?;
        let size = inode.borrow().len() as u64;
        Ok(DiskFile { host: host.clone(), inode, size })
    }

    pub async fn rename(host: &TestHost, from: &Path, to: &Path) -> io::Result<()> {
        Disk::change(host, from, Some(to)).await
    }

    pub async fn remove(host: &TestHost, path: &Path) -> io::Result<()> {
        Disk::change(host, path, None).await
    }

    async fn change(host: &TestHost, from: &Path, to: Option<&Path>) -> io::Result<()> {
        let disk = host.disk();
        disk.point().await;
        host.sleep_until(host.now() + WRITE_TIME).await;
        disk.other_fault()?;
        {
            let mut names = disk.names.borrow_mut();
            let inode = names.remove(from).ok_or(io::ErrorKind::NotFound)?;
            if let Some(to) = to {
                assert!(!names.contains_key(to), "{} is in use", to.display());
                names.insert(to.to_owned(), inode);
            }
        }
        disk.unsynced.borrow_mut().push((from.to_owned(), to.map(Path::to_owned)));
        disk.point().await;
        Ok(())
    }

    pub async fn sync_dir(host: &TestHost) -> io::Result<()> {
        let disk = host.disk();
        disk.point().await;
        host.sleep_until(host.now() + WRITE_TIME).await;
        disk.other_fault()?;
        disk.durable.replace(disk.names.borrow().clone());
        disk.unsynced.borrow_mut().clear();
        disk.point().await;
        Ok(())
    }
}

impl DiskFile {
    fn put(&self, buffer: &[u8], offset: u64, torn: bool) {
        let mut data = self.inode.borrow_mut();
        for (sector, bytes) in buffer.chunks(SECTOR).enumerate() {
            if !torn || self.host.chance(50) {
                let at = offset as usize + sector * SECTOR;
                data[at..at + bytes.len()].copy_from_slice(bytes);
            }
        }
    }
}

impl File for DiskFile {
    fn size(&self) -> u64 {
        self.size
    }

    async fn write_synced(&self, buffer: AlignedBuf, offset: u64) -> (io::Result<()>, AlignedBuf) {
        let disk = self.host.disk();
        assert!(buffer.len().is_multiple_of(4096) && offset.is_multiple_of(4096) && !buffer.is_empty());
        assert!(offset + buffer.len() as u64 <= self.size, "a write past the end");
        disk.point().await;
        self.host.sleep_until(self.host.now() + WRITE_TIME).await;
        if !disk.pass_point() {
            self.put(&buffer, offset, true);
            std::future::pending::<()>().await;
        }
        if offset > 0 {
            disk.writes.borrow_mut().push(buffer.len());
        }
        let failing = offset > 0 && disk.fail_writes.get() > 0;
        if failing || (offset == 0 && disk.fail_others.get()) {
            disk.fail_writes.set(disk.fail_writes.get().saturating_sub(u32::from(failing)));
            self.put(&buffer, offset, true);
            return (Err(io::Error::from_raw_os_error(5)), buffer);
        }
        self.put(&buffer, offset, false);
        disk.point().await;
        (Ok(()), buffer)
    }

    async fn read_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        if self.host.disk().fail_read_at.get() == Some(offset) {
            return Err(io::Error::from_raw_os_error(5));
        }
        let data = self.inode.borrow();
        let bytes = data.get(offset as usize..offset as usize + len).ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(bytes.to_vec())
    }
}
