//! What a task can see of a directory, sorted: kind, size and name. `list-dir [PATH]` (default `.`)
//!
//! When refused prints the error to stderr and exits with 3.

use std::fs;
use std::io;
use std::process::ExitCode;

fn main() -> ExitCode {
    let path = std::env::args().nth(1).unwrap_or_else(|| ".".to_owned());
    match list(&path) {
        Ok(lines) => {
            print!("{}", lines.concat());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("refused {path}: {error}");
            ExitCode::from(3)
        }
    }
}

fn list(path: &str) -> io::Result<Vec<String>> {
    let mut entries = fs::read_dir(path)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(|entry| entry.file_name());
    entries.iter().map(line).collect()
}

fn line(entry: &fs::DirEntry) -> io::Result<String> {
    let name = entry.file_name();
    let kind = entry.file_type()?;
    let kind = if kind.is_dir() {
        "dir"
    } else if kind.is_symlink() {
        "link"
    } else {
        "file"
    };
    let size = entry.metadata().map_or(0, |meta| if meta.is_file() { meta.len() } else { 0 });
    Ok(format!("{kind} {size} {}\n", name.to_string_lossy()))
}
