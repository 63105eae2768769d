//! Simulated guests: what a task does is written in its arguments.

use std::sync::Arc;
use std::time::Duration;

use holm_model::{Reason, TaskSpec, TaskState, TaskStatus, Usage};

use crate::text::{parse_duration, show_duration};

/// How a guest ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuestEnd {
    /// It exits with this code.
    Exit(i32),
    /// It traps.
    Trap,
    /// It uses up its fuel.
    Fuel,
    /// It asks for more memory than it may have.
    Memory,
}

/// What a simulated task does. Its text form (`run:5s,exit:3`) is the task's only argument, or what its executor is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guest {
    /// How long it runs; none is until it is stopped.
    pub run: Option<Duration>,
    /// How it ends then.
    pub end: GuestEnd,
    /// Whether it ends by itself when asked to stop.
    pub polite: bool,
    /// Whether its module can be fetched.
    pub fetchable: bool,
}

impl Default for Guest {
    fn default() -> Guest {
        Guest { run: Some(Duration::from_secs(1)), end: GuestEnd::Exit(0), polite: true, fetchable: true }
    }
}

impl Guest {
    /// Reads `run:5s`, `forever`, `exit:3`, `trap`, `fuel`, `memory`, `deaf`, `unfetchable`, separated by commas.
    ///
    /// # Errors
    /// The part that is none of these.
    pub fn parse(text: &str) -> Result<Guest, String> {
        let mut guest = Guest::default();
        for part in text.split(',') {
            match part.split_once(':').unwrap_or((part, "")) {
                ("run", duration) => guest.run = Some(parse_duration(duration)?),
                ("forever", "") => guest.run = None,
                ("exit", code) => {
                    guest.end = GuestEnd::Exit(code.parse().map_err(|_| format!("{code:?} is not an exit code"))?);
                }
                ("trap", "") => guest.end = GuestEnd::Trap,
                ("fuel", "") => guest.end = GuestEnd::Fuel,
                ("memory", "") => guest.end = GuestEnd::Memory,
                ("deaf", "") => guest.polite = false,
                ("unfetchable", "") => guest.fetchable = false,
                _ => return Err(format!("guest has no part {part:?}")),
            }
        }
        Ok(guest)
    }

    /// What the task of this template does.
    pub fn of(spec: &TaskSpec) -> Guest {
        let data = spec.executed.as_ref().and_then(|executed| std::str::from_utf8(&executed.data).ok());
        let first = || spec.args.first().map(|text| &**text);
        data.or_else(first).and_then(|text| Guest::parse(text).ok()).unwrap_or_default()
    }

    /// The text form.
    pub fn text(&self) -> Arc<str> {
        let run = self.run.map_or_else(|| "forever".to_owned(), |run| format!("run:{}", show_duration(run)));
        let end = match self.end {
            GuestEnd::Exit(0) => String::new(),
            GuestEnd::Exit(code) => format!(",exit:{code}"),
            GuestEnd::Trap => ",trap".to_owned(),
            GuestEnd::Fuel => ",fuel".to_owned(),
            GuestEnd::Memory => ",memory".to_owned(),
        };
        let deaf = if self.polite { "" } else { ",deaf" };
        let fetch = if self.fetchable { "" } else { ",unfetchable" };
        format!("{run}{end}{deaf}{fetch}").into()
    }

    /// The status with which it ends by itself after `run`.
    pub fn status(&self, run: Duration) -> TaskStatus {
        let status = match self.end {
            GuestEnd::Exit(0) => TaskStatus { exit_code: Some(0), ..TaskStatus::of(TaskState::Finished) },
            GuestEnd::Exit(code) => TaskStatus {
                exit_code: Some(code),
                ..TaskStatus::because(TaskState::Failed, Reason::ExitCode, format!("exited with {code}"))
            },
            GuestEnd::Trap => TaskStatus::because(TaskState::Failed, Reason::Trap, "unreachable executed"),
            GuestEnd::Fuel => TaskStatus::because(TaskState::Failed, Reason::Fuel, "the fuel budget is used up"),
            GuestEnd::Memory => TaskStatus::because(TaskState::Failed, Reason::MemoryLimit, "a growth was refused"),
        };
        let fuel = u64::try_from(run.as_micros()).unwrap_or(u64::MAX);
        TaskStatus { usage: Usage { cpu: run, fuel, run, ..Usage::default() }, ..status }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_reads_back_what_it_prints() {
        for text in ["run:5s", "forever,deaf", "run:250ms,exit:3", "run:1s,trap", "run:1s,unfetchable"] {
            assert_eq!(&*Guest::parse(text).unwrap().text(), text);
        }
        assert!(Guest::parse("runs:5s").is_err());
    }
}
