//! Input to output: copies the files named, or stdin when none is. `cat [FILES...]`
//!
//! A file that cannot be opened is named on stderr and makes the exit code 1; the others are still copied.

use std::fs::File;
use std::io;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut stdout = io::stdout().lock();
    let mut code = ExitCode::SUCCESS;
    let mut report = |name: &str, copied: io::Result<u64>| {
        if let Err(error) = copied {
            eprintln!("cat: {name}: {error}");
            code = ExitCode::FAILURE;
        }
    };
    let files: Vec<String> = std::env::args().skip(1).collect();
    if files.is_empty() {
        report("stdin", io::copy(&mut io::stdin().lock(), &mut stdout));
    }
    for name in &files {
        report(name, File::open(name).and_then(|mut file| io::copy(&mut file, &mut stdout)));
    }
    code
}
