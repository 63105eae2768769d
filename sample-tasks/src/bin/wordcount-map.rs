//! The map half of the word count: counts the words of the files named. `wordcount-map FILES...`
//!
//! Writes the lines that `words` defines to stdout. A file that cannot be read ends it with 1 before anything is written, since a
//! partial count would look like a whole one. No files count nothing.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut counts = words::Counts::new();
    for path in std::env::args().skip(1) {
        match std::fs::read(&path) {
            Ok(text) => words::count(&text, &mut counts),
            Err(error) => {
                eprintln!("wordcount-map: {path}: {error}");
                return ExitCode::FAILURE;
            }
        }
    }
    print!("{}", words::render(&counts));
    ExitCode::SUCCESS
}
