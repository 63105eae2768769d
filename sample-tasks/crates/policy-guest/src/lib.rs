//! What a policy in Rust takes instead of the standard library, whose panics would import WASI: memory, an end for panics, and
//! the function through which the host hands over lists.
//!
//! A policy needs nothing else of this crate than `use policy_guest as _;`.

#![no_std]

extern crate alloc;

use alloc::alloc::{Layout, alloc, realloc};

#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    core::arch::wasm32::unreachable()
}

// `memcmp` and its like, which compilers expect everywhere. What is used of it imports nothing.
#[link(name = "c")]
unsafe extern "C" {}

/// The component model's way to get memory for arguments.
///
/// # Safety
/// As for [`realloc`]: `old` has the layout that the caller says, or `old_len` is zero.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cabi_realloc(old: *mut u8, old_len: usize, align: usize, new_len: usize) -> *mut u8 {
    if new_len == 0 {
        return core::ptr::without_provenance_mut(align);
    }
    // SAFETY: the component model asks for alignments that are powers of two, for less than the address space, and hands back
    // only what it was given here; the new length is not zero.
    let memory = unsafe {
        if old_len == 0 {
            alloc(Layout::from_size_align_unchecked(new_len, align))
        } else {
            realloc(old, Layout::from_size_align_unchecked(old_len, align), new_len)
        }
    };
    if memory.is_null() { core::arch::wasm32::unreachable() } else { memory }
}
