//! A growing byte buffer whose memory is aligned for direct I/O.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;

/// Alignment of memory, file offsets and lengths of writes, in bytes.
pub const BLOCK: usize = 4096;

/// Bytes in block-aligned memory, appended like a `Vec` and padded with zeros to whole blocks before writing.
pub struct AlignedBuf {
    memory: NonNull<u8>,
    capacity: usize,
    len: usize,
}

impl AlignedBuf {
    /// An empty buffer with room for at least `capacity` bytes.
    pub fn with_capacity(capacity: usize) -> AlignedBuf {
        let capacity = capacity.max(1).next_multiple_of(BLOCK);
        AlignedBuf { memory: allocate(capacity), capacity, len: 0 }
    }

    /// Bytes held.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes that fit without growing.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Forgets the content, keeps the memory.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// Appends `bytes`, growing to the next power of two when they do not fit.
    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        let len = self.len + bytes.len();
        if len > self.capacity {
            self.grow(len);
        }
        // SAFETY: `len` is within the allocation, and `bytes` cannot overlap it, since we hold it exclusively.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.memory.as_ptr().add(self.len), bytes.len())
        };
        self.len = len;
    }

    /// Appends zeros up to the next block boundary.
    pub fn pad_to_block(&mut self) {
        const ZEROS: [u8; BLOCK] = [0; BLOCK];
        self.extend_from_slice(&ZEROS[..self.len.next_multiple_of(BLOCK) - self.len]);
    }

    fn grow(&mut self, needed: usize) {
        let mut larger = AlignedBuf::with_capacity(needed.next_power_of_two());
        larger.extend_from_slice(self);
        *self = larger;
    }
}

impl std::ops::Deref for AlignedBuf {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: the first `len` bytes are within the allocation and initialised (zeroed, then written).
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr(), self.len) }
    }
}

impl std::ops::DerefMut for AlignedBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as for `deref`, and `&mut self` makes it exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.memory.as_ptr(), self.len) }
    }
}

impl Drop for AlignedBuf {
    fn drop(&mut self) {
        // SAFETY: allocated by `allocate` with this very layout.
        unsafe { dealloc(self.memory.as_ptr(), layout(self.capacity)) };
    }
}

fn allocate(capacity: usize) -> NonNull<u8> {
    // SAFETY: the layout is not empty: `capacity` is at least one block.
    NonNull::new(unsafe { alloc_zeroed(layout(capacity)) })
        .unwrap_or_else(|| handle_alloc_error(layout(capacity)))
}

fn layout(capacity: usize) -> Layout {
    Layout::from_size_align(capacity, BLOCK).expect("a power of two as alignment and a size below isize::MAX")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_keeps_alignment_and_pads_with_zeros() {
        let mut buffer = AlignedBuf::with_capacity(1);
        let piece = [7u8; 1000];
        for _ in 0..100 {
            buffer.extend_from_slice(&piece);
            assert_eq!(buffer.as_ptr() as usize % BLOCK, 0);
        }
        buffer.pad_to_block();
        assert_eq!(buffer.len(), 100_000usize.next_multiple_of(BLOCK));
        assert!(buffer[..100_000].iter().all(|b| *b == 7) && buffer[100_000..].iter().all(|b| *b == 0));
        buffer.clear();
        assert!(buffer.is_empty() && buffer.capacity() >= 100_000);
    }
}
