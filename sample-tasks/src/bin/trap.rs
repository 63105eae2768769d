//! Ways to end that are no exit. `trap panic|unreachable|oob|div|stack`
//!
//! `panic` prints its message before it traps; the others trap without a word. 2 for any other argument.

use std::hint::black_box;
use std::num::NonZeroU32;

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("panic") => panic!("a task panicked on purpose"),
        Some("unreachable") => unreachable_instruction(),
        Some("oob") => out_of_bounds(),
        Some("div") => divide_by_zero(),
        Some("stack") => println!("{}", recurse(black_box(1))),
        _ => std::process::exit(2),
    }
}

fn unreachable_instruction() {
    #[cfg(target_arch = "wasm32")]
    core::arch::wasm32::unreachable();
    #[cfg(not(target_arch = "wasm32"))]
    std::process::abort();
}

fn out_of_bounds() {
    let beyond = black_box(usize::MAX - 15) as *const u64;
    // SAFETY: none, on purpose. Wasm defines a load outside the memory as a trap, and nothing is ever allocated up there.
    println!("{}", unsafe { beyond.read_volatile() });
}

fn divide_by_zero() {
    // SAFETY: none, on purpose. The wrong promise removes the zero check, so that the division instruction itself traps;
    // `black_box` keeps the compiler from building on the promise.
    let zero = unsafe { NonZeroU32::new_unchecked(black_box(0)) };
    println!("{}", black_box(1) / zero);
}

#[allow(unconditional_recursion, reason = "running out of stack is what this shows")]
fn recurse(n: u64) -> u64 {
    let frame = black_box([n; 32]);
    recurse(n + 1) + black_box(frame)[7]
}
