//! `memcpy` and `memmove` of this program: they count bytes.
//!
//! The C library would choose among a dozen by the processor; with these the count of instructions is the same
//! everywhere, one for each eight bytes.

use crate::meter::{self, Count};
use crate::sites;
use std::arch::asm;
use std::ffi::c_void;

#[inline]
fn note(bytes: usize) {
    if meter::is_counting() {
        Count::CopiedBytes.add_if_counting(bytes as u64);
        sites::note(Count::CopiedBytes, bytes);
    }
}

/// Copies `bytes` bytes between places that do not overlap.
///
/// # Safety
/// Both are valid for as many bytes.
// SAFETY: it is what the name promises, and takes the place of the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memcpy(to: *mut c_void, from: *const c_void, bytes: usize) -> *mut c_void {
    note(bytes);
    // SAFETY: the caller says that both places are valid, and the direction flag is clear by convention.
    unsafe {
        asm!(
            "rep movsq",
            "mov rcx, {rest}",
            "rep movsb",
            rest = in(reg) bytes % 8,
            inout("rcx") bytes / 8 => _,
            inout("rdi") to => _,
            inout("rsi") from => _,
            options(nostack, preserves_flags)
        );
    }
    to
}

/// Copies `bytes` bytes between places that may overlap.
///
/// # Safety
/// Both are valid for as many bytes.
// SAFETY: it is what the name promises, and takes the place of the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memmove(to: *mut c_void, from: *const c_void, bytes: usize) -> *mut c_void {
    if (to as usize).wrapping_sub(from as usize) >= bytes {
        // SAFETY: forwards nothing is written over before it is read.
        return unsafe { memcpy(to, from, bytes) };
    }
    note(bytes);
    // SAFETY: the caller says that both places are valid; backwards, nothing is written over before it is read.
    // `bytes` is not 0 here. The direction flag is cleared again.
    unsafe {
        asm!(
            "std",
            "rep movsb",
            "mov rcx, {words}",
            "sub rsi, 7",
            "sub rdi, 7",
            "rep movsq",
            "cld",
            words = in(reg) bytes / 8,
            inout("rcx") bytes % 8 => _,
            inout("rdi") to.byte_add(bytes - 1) => _,
            inout("rsi") from.byte_add(bytes - 1) => _,
            options(nostack)
        );
    }
    to
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlapping_or_not_every_byte_arrives() {
        for length in 0..70usize {
            for to in 0..40usize {
                let start: Vec<u8> = (0..128).collect();
                let (mut seen, mut expected) = (start.clone(), start.clone());
                expected.splice(to..to + length, start[20..20 + length].iter().copied());
                let (target, source) = (seen.as_mut_ptr().wrapping_add(to), seen.as_ptr().wrapping_add(20));
                // SAFETY: both places lie within `seen`.
                let returned = unsafe { memmove(target.cast(), source.cast(), length) };
                assert_eq!((returned.cast::<u8>(), &seen), (target, &expected), "{length} to {to}");
            }
        }
    }
}
