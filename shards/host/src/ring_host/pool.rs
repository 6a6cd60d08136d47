//! The provided buffers that receives draw from: memory that belongs to the kernel until a completion hands a
//! buffer over, and to us until it is given back.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::io;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::{Submitter, types::BufRingEntry};

/// The group under which receives name the pool.
pub(super) const GROUP: u16 = 1;

/// Fewest buffers of a pool.
pub(super) const BUFFERS_MIN: u16 = 16;
/// Most buffers of a pool; the kernel takes no more.
pub(super) const BUFFERS_MAX: u16 = 1 << 15;
/// Smallest buffer, in bytes: a DNS answer over UDP fits.
pub(super) const BUFFER_BYTES_MIN: usize = 512;
/// Largest buffer, in bytes.
pub(super) const BUFFER_BYTES_MAX: usize = 1 << 20;

const PAGE: usize = 4096;

/// The memory of the buffers and of the ring through which the kernel learns which are free.
pub(super) struct Memory {
    ring: NonNull<u8>,
    buffers: NonNull<u8>,
    count: u16,
    bytes: usize,
}

impl Memory {
    /// `count` is rounded up to a power of two, and both are held within the bounds above.
    pub(super) fn new(count: u16, bytes: usize) -> Memory {
        let count = count.clamp(BUFFERS_MIN, BUFFERS_MAX).next_power_of_two();
        let bytes = bytes.clamp(BUFFER_BYTES_MIN, BUFFER_BYTES_MAX);
        let ring = allocate(ring_layout(count));
        Memory { ring, buffers: allocate(buffers_layout(count, bytes)), count, bytes }
    }

    /// The first `len` bytes of a buffer.
    ///
    /// # Safety
    /// The buffer has been handed over by a completion that filled `len` bytes and is not given back while the
    /// slice lives.
    pub(super) unsafe fn filled(&self, buffer: u16, len: u32) -> &[u8] {
        debug_assert!(buffer < self.count && len as usize <= self.bytes);
        let start = buffer as usize * self.bytes;
        // SAFETY: within the allocation, which was zeroed; the kernel leaves it alone by the caller's word.
        unsafe { std::slice::from_raw_parts(self.buffers.as_ptr().add(start), len as usize) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with these very layouts.
        unsafe {
            dealloc(self.ring.as_ptr(), ring_layout(self.count));
            dealloc(self.buffers.as_ptr(), buffers_layout(self.count, self.bytes));
        }
    }
}

/// Which buffers are whose.
pub(super) struct Pool {
    memory: Rc<Memory>,
    tail: u16,
    available: u16,
    /// The fewest that were available at any time.
    low: u16,
}

impl Pool {
    /// Registers all buffers with the ring.
    pub(super) fn register(memory: Rc<Memory>, submitter: &Submitter<'_>) -> io::Result<Pool> {
        let ring = memory.ring.as_ptr() as u64;
        // SAFETY: the memory outlives the ring: whoever drops a ring drops it before the pool.
        unsafe { submitter.register_buf_ring_with_flags(ring, memory.count, GROUP, 0)? };
        let mut pool = Pool { tail: 0, available: 0, low: memory.count, memory };
        for buffer in 0..pool.memory.count {
            pool.give(buffer);
        }
        Ok(pool)
    }

    /// Hands a buffer back to the kernel.
    pub(super) fn give(&mut self, buffer: u16) {
        let ring = self.memory.ring.as_ptr().cast::<BufRingEntry>();
        let slot = usize::from(self.tail & (self.memory.count - 1));
        // SAFETY: the slot is within the ring, and the kernel reads it only once the tail has passed it.
        unsafe {
            let entry = &mut *ring.add(slot);
            let start = usize::from(buffer) * self.memory.bytes;
            entry.set_addr(self.memory.buffers.as_ptr().add(start) as u64);
            entry.set_len(self.memory.bytes as u32);
            entry.set_bid(buffer);
        }
        self.tail = self.tail.wrapping_add(1);
        self.available += 1;
        // SAFETY: the tail lives in the ring's memory, is aligned, and is only ever touched atomically by both.
        let tail = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(ring).cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }

    /// Notes that a completion handed a buffer over.
    pub(super) fn taken(&mut self) {
        self.available -= 1;
        self.low = self.low.min(self.available);
    }

    pub(super) fn count(&self) -> u16 {
        self.memory.count
    }

    pub(super) fn bytes(&self) -> usize {
        self.memory.bytes
    }

    pub(super) fn available(&self) -> u16 {
        self.available
    }

    pub(super) fn low(&self) -> u16 {
        self.low
    }

    /// Whether enough buffers are free to start receives again after there were none; starting them for less would
    /// only make them fail again.
    pub(super) fn is_refreshed(&self) -> bool {
        self.available >= (self.memory.count / 8).clamp(1, 16)
    }

    /// Copies what a filled buffer holds.
    ///
    /// # Safety
    /// As for [`Memory::filled`].
    pub(super) unsafe fn copy(&self, buffer: u16, len: u32) -> Vec<u8> {
        // SAFETY: by the caller's word.
        unsafe { self.memory.filled(buffer, len) }.to_vec()
    }
}

fn ring_layout(count: u16) -> Layout {
    layout(usize::from(count) * size_of::<BufRingEntry>())
}

fn buffers_layout(count: u16, bytes: usize) -> Layout {
    layout(usize::from(count) * bytes)
}

fn layout(bytes: usize) -> Layout {
    Layout::from_size_align(bytes, PAGE).expect("at most 2^15 buffers of 2^20 bytes")
}

fn allocate(layout: Layout) -> NonNull<u8> {
    // SAFETY: no layout is empty: there are at least BUFFERS_MIN buffers of BUFFER_BYTES_MIN.
    NonNull::new(unsafe { alloc_zeroed(layout) }).unwrap_or_else(|| handle_alloc_error(layout))
}
