//! A task that alternates between waiting and working. `sleep-spin [ROUNDS] [MILLISECONDS] [ITERATIONS]` (defaults 10, 10, 1000000)
//!
//! ROUNDS 0 goes on for ever. Every round sleeps, then counts; the checksum at the end depends on the work alone.

use std::hint::black_box;
use std::thread::sleep;
use std::time::Duration;

fn main() {
    let mut args = std::env::args().skip(1).map(|arg| arg.parse::<u64>());
    let mut next = |default| args.next().and_then(Result::ok).unwrap_or(default);
    let (rounds, millis, iterations) = (next(10), next(10), next(1_000_000));
    let mut checksum = 0u64;
    let mut round = 0;
    while rounds == 0 || round < rounds {
        round += 1;
        sleep(Duration::from_millis(millis));
        for i in 0..iterations {
            checksum = black_box(checksum.rotate_left(5) ^ i);
        }
    }
    println!("{round} rounds {checksum:016x}");
}
