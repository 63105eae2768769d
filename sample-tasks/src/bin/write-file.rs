//! Writing where it may or may not. `write-file PATH CONTENT`
//!
//! Prints the bytes written; when refused prints the error and exits with 3. 2 without both arguments.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let (Some(path), Some(content)) = (args.next(), args.next()) else {
        return ExitCode::from(2);
    };
    match std::fs::write(&path, &content) {
        Ok(()) => {
            println!("wrote {} bytes to {path}", content.len());
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("refused {path}: {error}");
            ExitCode::from(3)
        }
    }
}
