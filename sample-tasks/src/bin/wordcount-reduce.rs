//! The reduce half of the word count: sums the counts in the files named. `wordcount-reduce FILES...`
//!
//! Reads and writes the lines that `words` defines. A file that cannot be read or holds anything else ends it with 1.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut counts = words::Counts::new();
    for path in std::env::args().skip(1) {
        let read = std::fs::read_to_string(&path).map_err(|error| error.to_string());
        if let Err(error) = read.and_then(|lines| words::merge(&lines, &mut counts)) {
            eprintln!("wordcount-reduce: {path}: {error}");
            return ExitCode::FAILURE;
        }
    }
    print!("{}", words::render(&counts));
    ExitCode::SUCCESS
}
