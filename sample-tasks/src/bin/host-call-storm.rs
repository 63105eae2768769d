//! Host calls and nothing else, for ever: names looked up, files opened and closed, directories listed. `host-call-storm`

use std::fs::{self, File};
use std::hint::black_box;

fn main() {
    let deep = "d/".repeat(1000);
    loop {
        // What comes of it is not the point.
        let _ = black_box(fs::metadata("/"));
        let _ = black_box(File::create("file"));
        let _ = black_box(fs::metadata(&deep));
        let _ = black_box(fs::read_dir("/").map(Iterator::count));
        let _ = black_box(fs::remove_file("file"));
    }
}
