//! Host calls with absurd arguments: the host must neither copy nor allocate what the guest merely names.
//! `string-bomb write|iovec|path|name` (default: all, one after another)
//!
//! Each prints what came back. `write` is one write of 64 MiB; `iovec` one vectored write of a million slices of 64 KiB over the same
//! memory (64 GiB on paper); `path` opens a path of 64 MiB; `name` creates a file whose name has 1 MiB.

use std::ffi::{c_int, c_void};
use std::fs::File;
use std::io;

#[repr(C)]
#[derive(Clone, Copy)]
struct Iovec {
    base: *const c_void,
    length: usize,
}

unsafe extern "C" {
    fn write(fd: c_int, buffer: *const c_void, length: usize) -> isize;
    fn writev(fd: c_int, slices: *const Iovec, count: c_int) -> isize;
}

fn main() {
    let only = std::env::args().nth(1);
    let wanted = |name: &str| only.as_deref().is_none_or(|only| only == name);
    let (block, slices) = (vec![b'w'; 64 << 20], 1 << 20);
    if wanted("write") {
        // SAFETY: the buffer is as long as stated.
        report("write", unsafe { write(1, block.as_ptr().cast(), block.len()) });
    }
    if wanted("iovec") {
        let bomb = vec![Iovec { base: block.as_ptr().cast(), length: 64 << 10 }; slices as usize];
        // SAFETY: every slice lies within `block`, and there are as many as stated.
        report("iovec", unsafe { writev(1, bomb.as_ptr(), slices) });
    }
    if wanted("path") {
        let path = String::from_utf8_lossy(&block);
        eprintln!("path: {:?}", File::open(&*path).map(drop).map_err(|error| error.kind()));
    }
    if wanted("name") {
        eprintln!("name: {:?}", File::create("n".repeat(1 << 20)).map(drop).map_err(|error| error.kind()));
    }
}

fn report(what: &str, wrote: isize) {
    let error = if wrote < 0 { io::Error::last_os_error().to_string() } else { String::new() };
    eprintln!("{what}: {wrote} {error}");
}
