//! Pure computation, for measuring what metering costs. `kernel NAME ROUNDS`
//!
//! Prints a checksum, so that nothing can be left out and every run can be compared.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::hint::black_box;
use std::process::ExitCode;

/// The same numbers in every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// A tight loop of shifts and exclusive ors that never touches memory.
fn shifts() -> u64 {
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    (0..4_000_000).fold(0, |sum: u64, _| sum.wrapping_add(numbers.next()))
}

/// Almost nothing but calls.
fn fib() -> u64 {
    fn of(n: u32) -> u64 {
        if n < 2 { u64::from(n) } else { black_box(of as fn(u32) -> u64)(n - 1) + of(n - 2) }
    }
    of(black_box(27))
}

/// Comparisons and moves.
fn sort() -> u64 {
    let mut numbers = Numbers(42);
    let mut list: Vec<u64> = (0..100_000).map(|_| numbers.next()).collect();
    list.sort_unstable();
    list.iter().enumerate().fold(0, |sum: u64, (at, number)| sum.wrapping_add(number.wrapping_mul(at as u64)))
}

/// FNV-1a over a buffer: one byte at a time, each step waits for the one before.
fn hash() -> u64 {
    let bytes: Vec<u8> = (0..1_u32 << 20).map(|at| (at % 251) as u8).collect();
    (0..4).fold(0xcbf2_9ce4_8422_2325, |hash: u64, _| {
        bytes.iter().fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
    })
}

/// Floating point in nested loops.
fn matmul() -> u64 {
    const SIDE: usize = 160;
    let fill = |seed: usize| (0..SIDE * SIDE).map(|at| ((at * seed) % 17) as f64).collect::<Vec<f64>>();
    let (left, right) = (fill(3), fill(5));
    let mut product = vec![0.0; SIDE * SIDE];
    for row in 0..SIDE {
        for column in 0..SIDE {
            let cells = (0..SIDE).map(|inner| left[row * SIDE + inner] * right[inner * SIDE + column]);
            product[row * SIDE + column] = cells.sum();
        }
    }
    product.iter().sum::<f64>().to_bits()
}

/// Lookups and insertions, with a hasher of fixed keys.
fn hashmap() -> u64 {
    let mut numbers = Numbers(7);
    let mut counts: HashMap<u64, u64, BuildHasherDefault<DefaultHasher>> = HashMap::default();
    for _ in 0..200_000 {
        *counts.entry(numbers.next() % 20_000).or_default() += 1;
    }
    counts.iter().fold(0, |sum: u64, (key, count)| sum.wrapping_add(key.wrapping_mul(*count)))
}

/// Stores with a stride.
fn sieve() -> u64 {
    const LIMIT: usize = 1 << 20;
    let mut composite = vec![false; LIMIT];
    for number in 2..LIMIT {
        if !composite[number] {
            (number.saturating_mul(number)..LIMIT).step_by(number).for_each(|at| composite[at] = true);
        }
    }
    composite.iter().skip(2).filter(|composite| !**composite).count() as u64
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let kernel: fn() -> u64 = match args.first().map_or("shifts", String::as_str) {
        "shifts" => shifts,
        "fib" => fib,
        "sort" => sort,
        "hash" => hash,
        "matmul" => matmul,
        "hashmap" => hashmap,
        "sieve" => sieve,
        other => {
            eprintln!("no kernel is called {other:?}");
            return ExitCode::FAILURE;
        }
    };
    let rounds: u32 = args.get(1).and_then(|rounds| rounds.parse().ok()).unwrap_or(1);
    let sum = (0..rounds).fold(0, |sum: u64, _| sum.wrapping_mul(31).wrapping_add(black_box(kernel)()));
    println!("{sum:016x}");
    ExitCode::SUCCESS
}
