//! Memory taken MiB by MiB, every page touched, until it has enough or is refused. `grow-memory [MIB]` (default 64)
//!
//! A refused growth ends the task the way it ends any Rust program: an abort in the allocator.

const PAGE: usize = 4096;
const MIB: usize = 1 << 20;

fn main() {
    let limit: usize = std::env::args().nth(1).and_then(|mib| mib.parse().ok()).unwrap_or(64);
    let mut held = Vec::new();
    for mib in 1..=limit {
        let mut block = vec![0u8; MIB];
        block.iter_mut().step_by(PAGE).for_each(|byte| *byte = 1);
        held.push(std::hint::black_box(block));
        println!("{mib} MiB");
    }
}
