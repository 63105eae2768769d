//! A task that waits in the host and uses no CPU while it does. `sleep [MILLISECONDS]` (default 1000)

use std::thread::sleep;
use std::time::Duration;

fn main() {
    let millis = std::env::args().nth(1).and_then(|ms| ms.parse().ok()).unwrap_or(1000);
    sleep(Duration::from_millis(millis));
    println!("slept {millis} ms");
}
