//! A task that never ends and never calls the host: only its limits can stop it. `spin`

fn main() {
    println!("spinning");
    let mut n = 0u64;
    loop {
        n = std::hint::black_box(n.wrapping_add(1));
    }
}
