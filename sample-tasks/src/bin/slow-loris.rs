//! Reads and writes a file one byte at a time, for ever. `slow-loris`

use std::fs::OpenOptions;
use std::io::{Read, Seek, SeekFrom, Write};

fn main() -> std::io::Result<()> {
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open("file")?;
    let mut byte = [b'x'];
    for at in (0..4096).cycle() {
        file.seek(SeekFrom::Start(at))?;
        file.write_all(&byte)?;
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(&mut byte)?;
    }
    Ok(())
}
