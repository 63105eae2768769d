//! More files than anyone allowed. `file-flood huge|sparse|many|directories|links|deleted`
//!
//! `huge` writes one file for ever, `sparse` makes one ever longer without writing, `many` makes empty files, `directories` one
//! directory below the other, `links` names of one file, `deleted` files that it removes and keeps open. Ends with 1 at the
//! first refusal, after saying how far it came.

use std::fs::{self, File};
use std::io::{self, Write};
use std::process::ExitCode;

fn main() -> ExitCode {
    let way = std::env::args().nth(1).unwrap_or_default();
    let mut done = 0_u64;
    let Err(error) = flood(&way, &mut done) else { return ExitCode::from(2) };
    println!("{way}: {done} and then {:?}", error.kind());
    ExitCode::from(1)
}

fn flood(way: &str, done: &mut u64) -> io::Result<()> {
    let block = [b'x'; 16 << 10];
    let mut kept = Vec::new();
    let mut path = String::new();
    let mut huge = if matches!(way, "huge" | "sparse" | "links") { Some(File::create("file")?) } else { None };
    loop {
        match (way, &mut huge) {
            ("huge", Some(file)) => file.write_all(&block)?,
            ("sparse", Some(file)) => file.set_len((*done + 1) << 30)?,
            ("links", Some(_)) => fs::hard_link("file", format!("link-{done}"))?,
            ("many", _) => drop(File::create(format!("file-{done}"))?),
            ("directories", _) => {
                path.push_str("d/");
                fs::create_dir(&path)?;
            }
            ("deleted", _) => {
                let name = format!("file-{done}");
                let mut file = File::create(&name)?;
                file.write_all(&block)?;
                fs::remove_file(&name)?;
                kept.push(file);
            }
            _ => return Ok(()),
        }
        *done += 1;
    }
}
