//! Deterministic CPU work: the same N costs the same fuel and prints the same checksum. `count [N]` (default 1000000)

use std::hint::black_box;

fn main() {
    let n: u64 = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(1_000_000);
    let mut checksum = 0xcbf2_9ce4_8422_2325u64;
    for i in 0..n {
        checksum = black_box((checksum ^ i).wrapping_mul(0x0000_0100_0000_01b3));
    }
    println!("{checksum:016x}");
}
