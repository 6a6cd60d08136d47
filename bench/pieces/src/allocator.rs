//! The allocator of the relay, counted.

use crate::meter::{self, Count};
use crate::sites;
use mimalloc::MiMalloc;
use std::alloc::{GlobalAlloc, Layout};

/// mimalloc as the relay uses it; it counts while counting is on.
pub struct Counted;

impl Counted {
    #[inline]
    fn note(bytes: usize) {
        if meter::is_counting() {
            Count::Allocations.add_if_counting(1);
            Count::AllocatedBytes.add_if_counting(bytes as u64);
            sites::note(Count::Allocations, bytes);
        }
    }
}

// SAFETY: every call is handed on to an allocator as it is.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Counted::note(layout.size());
        // SAFETY: the caller keeps the contract of `alloc`, which is the same.
        unsafe { MiMalloc.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Counted::note(layout.size());
        // SAFETY: as above.
        unsafe { MiMalloc.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        Counted::note(bytes);
        // SAFETY: as above.
        unsafe { MiMalloc.realloc(pointer, layout, bytes) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { MiMalloc.dealloc(pointer, layout) }
    }
}
