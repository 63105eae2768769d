//! Output that arrives bit by bit, to follow a log with. `lines [N] [MILLISECONDS]` (defaults 10 and 100)

use std::io::{self, Write};
use std::thread::sleep;
use std::time::Duration;

fn main() -> io::Result<()> {
    let mut args = std::env::args().skip(1).map(|arg| arg.parse::<u64>());
    let n = args.next().and_then(Result::ok).unwrap_or(10);
    let delay = Duration::from_millis(args.next().and_then(Result::ok).unwrap_or(100));
    let mut stdout = io::stdout().lock();
    for line in 1..=n {
        writeln!(stdout, "line {line} of {n}")?;
        stdout.flush()?;
        if line < n {
            sleep(delay);
        }
    }
    Ok(())
}
