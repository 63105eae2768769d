//! More output than anyone reads: BYTES bytes to stderr, in lines of 64. `stderr-flood [BYTES]` (default 16 MiB)

use std::io::{self, Write};

fn main() -> io::Result<()> {
    let mut left: usize = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(16 << 20);
    let mut block = [b'x'; 4096];
    block.iter_mut().skip(63).step_by(64).for_each(|end| *end = b'\n');
    let mut out = io::stderr().lock();
    while left > 0 {
        let n = left.min(block.len());
        out.write_all(&block[..n])?;
        left -= n;
    }
    out.flush()
}
