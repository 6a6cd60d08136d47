//! What could not be read is kept for the operator, within bounds.

use crate::log::Inner;
use crate::segment::Name;
use host::{File, Host};
use std::collections::BTreeMap;
use std::io;

/// Files set aside, by number: the oldest first, with their sizes in bytes.
pub(crate) type Damaged = BTreeMap<u32, u64>;

/// Whether an error in opening a segment is about that file alone. Of others (no descriptors, no memory, no
/// permission) the file is whole, and the start must wait until they are put right.
pub(crate) fn is_of_the_file(error: &io::Error) -> bool {
    let of_the_process = [io::ErrorKind::PermissionDenied, io::ErrorKind::OutOfMemory];
    // ENFILE and EMFILE.
    let descriptors = [23, 24];
    !of_the_process.contains(&error.kind())
        && error.raw_os_error().is_none_or(|code| !descriptors.contains(&code))
}

impl<H: Host> Inner<H> {
    /// Notes the files that earlier starts have set aside.
    pub async fn find_damaged(&self, numbers: Vec<u32>) {
        for number in numbers {
            let opened = self.host.open_read(&Name::Damaged(number).path(&self.directory)).await;
            let bytes = opened.map_or(self.limits.segment_bytes, |file| file.size());
            self.damaged.borrow_mut().insert(number, bytes);
        }
    }

    /// Removes the oldest files beyond the bounds. One that cannot be removed is tried again the next time.
    pub async fn bound_damaged(&self) {
        while let Some(number) = self.beyond_bounds() {
            let path = Name::Damaged(number).path(&self.directory);
            tracing::warn!(
                log = self.number,
                path = %path.display(),
                files_max = self.limits.damaged_max,
                bytes_max = self.limits.damaged_bytes_max,
                "too many damaged segments are kept: the oldest is removed"
            );
            match self.host.remove(&path).await {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return,
                _ => drop(self.damaged.borrow_mut().remove(&number)),
            }
        }
    }

    fn beyond_bounds(&self) -> Option<u32> {
        let damaged = self.damaged.borrow();
        let too_many = damaged.len() > self.limits.damaged_max
            || damaged.values().sum::<u64>() > self.limits.damaged_bytes_max;
        damaged.keys().next().copied().filter(|_| too_many)
    }
}
