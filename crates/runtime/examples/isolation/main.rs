//! How well tasks are kept apart: shares, caps and the agent's ceiling in one and in several processes, wake and kill delays
//! beside busy loops, and whether what tasks are charged is what the process used.
//!
//! `isolation [--seconds N] [--only WHAT]`, best in release. It prints one JSON object per row: what, value, unit, and the
//! ratio to what it should be. CPU time is that of threads, so that other load on the machine disturbs little.

mod group;
mod guests;
mod host;
mod tests;

use std::time::Duration;

use fallible::Fallible;

/// `?` on whatever error.
mod fallible {
    /// What may fail here, for whatever reason.
    pub(crate) type Fallible<T> = Result<T, Box<dyn std::error::Error>>;
}

fn main() -> Fallible<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|first| first == group::CHILD) {
        return group::child(&args[1..]);
    }
    let option = |name: &str| args.iter().position(|arg| arg == name).and_then(|at| args.get(at + 1));
    let seconds = Duration::from_secs(option("--seconds").map_or(Ok(10), |text| text.parse())?);
    let only = option("--only").map(String::as_str);
    for (name, test) in tests::ALL {
        if only.is_none_or(|only| name == only) {
            test(seconds)?;
        }
    }
    Ok(())
}
