//! Reading where it may or may not. `read-file PATH`
//!
//! Copies the file to stdout; when refused prints the error to stderr and exits with 3. 2 without a path.

use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(path) = std::env::args().nth(1) else {
        return ExitCode::from(2);
    };
    let copied = std::fs::read(&path).and_then(|bytes| std::io::stdout().write_all(&bytes));
    if let Err(error) = copied {
        eprintln!("refused {path}: {error}");
        return ExitCode::from(3);
    }
    ExitCode::SUCCESS
}
