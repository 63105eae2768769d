//! Ways out of a sandbox that must stay shut. `escape [DIR] [TARGET]` (defaults `.` and `etc/passwd`)
//!
//! Tries absolute paths, `..`, and symbolic links it makes in DIR; prints `opened WAY` or `refused WAY: ERROR` for each. The exit
//! code is the number of ways that opened, so 0 means nothing leaked.

use std::ffi::{CString, c_char, c_int};
use std::fs::File;
use std::io;
use std::process::ExitCode;

unsafe extern "C" {
    fn symlink(target: *const c_char, link: *const c_char) -> c_int;
}

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let dir = args.next().unwrap_or_else(|| ".".to_owned());
    let target = args.next().unwrap_or_else(|| "etc/passwd".to_owned());
    let up = "../".repeat(16);
    let mut ways = vec![
        format!("/{target}"),
        format!("{up}{target}"),
        format!("{dir}/{up}{target}"),
        format!("{dir}/./x/../{up}{target}"),
        format!("/proc/self/root/{target}"),
    ];
    for (name, to) in
        [("link-absolute", "/".to_owned()), ("link-up", up.clone()), ("link-proc", "/proc/self/root".to_owned())]
    {
        let link = format!("{dir}/{name}");
        // Whether or not it can be made: one that was already there is tried as well.
        println!("link {link} -> {to}: {:?}", make_link(&to, &link));
        ways.push(format!("{link}/{target}"));
    }
    let mut opened = 0u8;
    for way in ways {
        match File::open(&way) {
            Ok(_) => {
                opened += 1;
                println!("opened {way}");
            }
            Err(error) => println!("refused {way}: {error}"),
        }
    }
    ExitCode::from(opened)
}

fn make_link(to: &str, link: &str) -> io::Result<()> {
    let (to, link) = (CString::new(to)?, CString::new(link)?);
    // SAFETY: both are strings that end in NUL and outlive the call.
    let made = unsafe { symlink(to.as_ptr(), link.as_ptr()) };
    if made == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
