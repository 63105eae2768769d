//! Opens a file again and again and closes nothing. `handle-bomb [PATH]` (default `file`, made if need be)
//!
//! Prints how many handles it got and what the next attempt said.

use std::fs::{File, OpenOptions};

fn main() {
    let path = std::env::args().nth(1).unwrap_or_else(|| "file".to_owned());
    let mut handles: Vec<File> = Vec::new();
    loop {
        match OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path) {
            Ok(file) => handles.push(file),
            Err(error) => {
                println!("{} handles and then {error}", handles.len());
                return;
            }
        }
    }
}
