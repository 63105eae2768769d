//! Everything in which two runs of one program may differ; with a seed they must not. `random-and-time`
//!
//! Prints 16 random bytes, the wall clock, and the steps between monotonic readings, all in nanoseconds.

use std::ffi::{c_int, c_void};
use std::io;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

unsafe extern "C" {
    fn getentropy(buffer: *mut c_void, length: usize) -> c_int;
}

fn main() -> io::Result<()> {
    let mut bytes = [0u8; 16];
    // SAFETY: the buffer is ours and as long as stated.
    if unsafe { getentropy(bytes.as_mut_ptr().cast(), bytes.len()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    println!("random {}", bytes.map(|byte| format!("{byte:02x}")).concat());
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    println!("wall {wall}");
    let start = Instant::now();
    for _ in 0..3 {
        println!("monotonic {}", start.elapsed().as_nanos());
    }
    Ok(())
}
