//! File operations one after another, each with what came of it. `file-ops COMMAND [: COMMAND]...`
//!
//! | command | does |
//! |---|---|
//! | `open KEY PATH` | opens for writing, making it if need be; KEY names the handle from then on |
//! | `append KEY PATH` | likewise, writing to the end |
//! | `read KEY PATH` | opens for reading |
//! | `close KEY` | closes it |
//! | `write KEY BYTES [AT]` | writes, at an offset if one is given |
//! | `size KEY BYTES` | sets the length |
//! | `truncate PATH` | opens for writing, cutting it to nothing, and closes it |
//! | `mkdir PATH`, `rmdir PATH`, `rm PATH`, `mv FROM TO`, `ln FROM TO` | as in a shell |
//!
//! Prints `ok` or the kind of the error, separated by spaces; 2 for a command it does not know.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let mut open = BTreeMap::new();
    let mut said = Vec::new();
    for command in args.split(|arg| arg == ":") {
        let words: Vec<&str> = command.iter().map(String::as_str).collect();
        match perform(&words, &mut open) {
            Some(Ok(())) => said.push("ok".to_owned()),
            Some(Err(error)) => said.push(format!("{:?}", error.kind())),
            None => return ExitCode::from(2),
        }
    }
    println!("{}", said.join(" "));
    ExitCode::SUCCESS
}

fn perform(words: &[&str], open: &mut BTreeMap<String, File>) -> Option<io::Result<()>> {
    let mut keep = |key: &str, file: io::Result<File>| file.map(|file| drop(open.insert(key.to_owned(), file)));
    Some(match words {
        ["open", key, path] => keep(key, OpenOptions::new().write(true).create(true).truncate(false).open(path)),
        ["append", key, path] => keep(key, OpenOptions::new().append(true).create(true).open(path)),
        ["read", key, path] => keep(key, File::open(path)),
        ["close", key] => open.remove(*key).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into()),
        ["write", key, bytes] => write(open.get_mut(*key)?, bytes.parse().ok()?, None),
        ["write", key, bytes, at] => write(open.get_mut(*key)?, bytes.parse().ok()?, Some(at.parse().ok()?)),
        ["size", key, bytes] => open.get(*key)?.set_len(bytes.parse().ok()?),
        ["truncate", path] => OpenOptions::new().write(true).truncate(true).open(path).map(drop),
        ["mkdir", path] => fs::create_dir(path),
        ["rmdir", path] => fs::remove_dir(path),
        ["rm", path] => fs::remove_file(path),
        ["mv", from, to] => fs::rename(from, to),
        ["ln", from, to] => fs::hard_link(from, to),
        _ => return None,
    })
}

fn write(file: &mut File, bytes: usize, at: Option<u64>) -> io::Result<()> {
    if let Some(at) = at {
        file.seek(SeekFrom::Start(at))?;
    }
    file.write_all(&vec![b'x'; bytes])
}
