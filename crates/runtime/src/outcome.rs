//! How a task ended and what it used.

use std::time::Duration;

use holm_model::{Reason, TaskState, TaskStatus, Usage};
use wasmtime::{PoolConcurrencyLimitError, Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use crate::disk::DiskRefusal;
use crate::limits::MAX_MESSAGE_BYTES;
use crate::memory::Refusal;

/// How a task ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// By itself, with this exit code.
    Exited {
        /// The exit code; 0 is success. Components of most toolchains can only say 1 for any failure: `wasi:cli/exit` of
        /// early 0.2 knows no codes.
        code: i32,
        /// A growth that was refused before it exited with another code than 0: often the cause.
        refused: Option<String>,
    },
    /// By itself, saying that it cannot go on; executors do that.
    GaveUp(String),
    /// By a trap; the text has the trap and the Wasm backtrace.
    Trapped(String),
    /// Its fuel was used up.
    OutOfFuel {
        /// The fuel it had.
        budget: u64,
    },
    /// It trapped after a growth was refused.
    OverMemory {
        /// What it would have held, in bytes.
        asked: u64,
        /// What it may hold.
        limit: u64,
        /// The trap that followed.
        then: String,
    },
    /// It failed after its directory was refused more.
    OverDisk {
        /// Whether it asked for too many names, and not for too many bytes.
        of_entries: bool,
        /// What its directory would have taken.
        asked: u64,
        /// What it may take.
        limit: u64,
        /// The exit code, or the trap that followed.
        then: Result<i32, String>,
    },
    /// Its wall deadline passed.
    PastDeadline(Duration),
    /// Somebody ended it.
    Killed {
        /// Why, for the status.
        reason: Reason,
        /// For people.
        message: String,
    },
    /// A directory it was granted could not be opened.
    SandboxFailed(String),
    /// The runner failed, not the guest.
    RunnerFailed(String),
}

/// The end of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskEnd {
    /// How.
    pub outcome: Outcome,
    /// CPU time of its polls, host calls included.
    pub cpu: Duration,
    /// Fuel used.
    pub fuel: u64,
    /// The most memory it held, in bytes.
    pub peak_memory: u64,
    /// Wall time from its first instruction to its end; zero if it never ran.
    pub run: Duration,
    /// Bytes it wrote to stdout and stderr, those dropped included.
    pub output_bytes: u64,
    /// Of those, how many were dropped over the cap.
    pub output_dropped: u64,
    /// What was refused to it on the network.
    pub network_refusals: u64,
    /// Requests answered, if it is a service.
    pub requests: u64,
    /// Of those, the failed ones.
    pub failed_requests: u64,
    /// The most its own directory took at one time, in bytes.
    pub peak_disk: u64,
}

impl TaskEnd {
    /// An end without a run.
    pub(crate) fn unused(outcome: Outcome) -> TaskEnd {
        TaskEnd {
            outcome,
            cpu: Duration::ZERO,
            fuel: 0,
            peak_memory: 0,
            run: Duration::ZERO,
            output_bytes: 0,
            output_dropped: 0,
            network_refusals: 0,
            requests: 0,
            failed_requests: 0,
            peak_disk: 0,
        }
    }

    /// The status of an attempt that waited for `queued` before it ran.
    pub fn into_status(self, queued: Duration, attempt: u32) -> TaskStatus {
        let usage = Usage {
            cpu: self.cpu,
            fuel: self.fuel,
            peak_memory: self.peak_memory,
            queued,
            run: self.run,
            output_bytes: self.output_bytes,
            network_refusals: self.network_refusals,
            requests: self.requests,
            failed_requests: self.failed_requests,
            peak_disk: self.peak_disk,
        };
        let failed = |reason, message: String| TaskStatus::because(TaskState::Failed, reason, clip(&message));
        let status = match self.outcome {
            Outcome::Exited { code: 0, .. } => TaskStatus { exit_code: Some(0), ..TaskStatus::of(TaskState::Finished) },
            Outcome::Exited { code, refused } => {
                let cause = refused.map(|refused| format!("; {refused}")).unwrap_or_default();
                let status = failed(Reason::ExitCode, format!("exited with code {code}{cause}"));
                TaskStatus { exit_code: Some(code), ..status }
            }
            Outcome::GaveUp(message) => failed(Reason::ExitCode, message),
            Outcome::Trapped(text) => failed(Reason::Trap, text),
            Outcome::OutOfFuel { budget } => {
                failed(Reason::Fuel, format!("used up its fuel of {budget} units (limit fuel)"))
            }
            Outcome::OverMemory { asked, limit, then } => {
                failed(Reason::MemoryLimit, format!("{}\n{then}", over_memory(asked, limit)))
            }
            Outcome::OverDisk { of_entries, asked, limit, then } => {
                let what = over_disk(of_entries, asked, limit);
                match then {
                    Ok(code) => TaskStatus {
                        exit_code: Some(code),
                        ..failed(Reason::DiskLimit, format!("exited with code {code} after it {what}"))
                    },
                    Err(trap) => failed(Reason::DiskLimit, format!("{what}\n{trap}")),
                }
            }
            Outcome::PastDeadline(deadline) => {
                failed(Reason::Deadline, format!("ran longer than its deadline of {deadline:?} (limit deadline)"))
            }
            Outcome::Killed { reason, message } => TaskStatus::because(TaskState::Killed, reason, clip(&message)),
            Outcome::SandboxFailed(message) => failed(Reason::Sandbox, message),
            Outcome::RunnerFailed(message) => failed(Reason::RunnerError, message),
        };
        TaskStatus { usage, attempt, ..status }
    }
}

pub(crate) fn over_memory(asked: u64, limit: u64) -> String {
    format!("asked for {asked} bytes of memory in all; the limit mem is {limit}")
}

fn over_disk(of_entries: bool, asked: u64, limit: u64) -> String {
    if of_entries {
        format!("asked for {asked} names in its own directory; the limit disk allows {limit}")
    } else {
        format!("asked for {asked} bytes in its own directory; the limit disk is {limit}")
    }
}

/// What was refused while a guest ran, the latest of each kind.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Refusals {
    pub(crate) memory: Option<Refusal>,
    pub(crate) disk: Option<DiskRefusal>,
}

/// What the error that ended a guest's call means.
pub(crate) fn of_error(error: &wasmtime::Error, budget: u64, refusals: Refusals) -> Outcome {
    if let Some(exit) = error.downcast_ref::<I32Exit>() {
        return exited(exit.0, refusals);
    }
    if let Some(Trap::OutOfFuel) = error.downcast_ref::<Trap>() {
        return Outcome::OutOfFuel { budget };
    }
    if error.downcast_ref::<PoolConcurrencyLimitError>().is_some() {
        return Outcome::RunnerFailed(format!("the runner has no free slot: {}", error.root_cause()));
    }
    match (refusals.memory, refusals.disk) {
        (Some(Refusal { asked, limit, .. }), _) => Outcome::OverMemory { asked, limit, then: describe(error) },
        (None, Some(DiskRefusal { of_entries, asked, limit })) => {
            Outcome::OverDisk { of_entries, asked, limit, then: Err(describe(error)) }
        }
        (None, None) => Outcome::Trapped(describe(error)),
    }
}

/// An exit with a code. Programs end themselves when their disk is full; few do when memory is.
pub(crate) fn exited(code: i32, refusals: Refusals) -> Outcome {
    if code != 0
        && let Some(DiskRefusal { of_entries, asked, limit }) = refusals.disk
    {
        return Outcome::OverDisk { of_entries, asked, limit, then: Ok(code) };
    }
    let refused = refusals
        .memory
        .filter(|_| code != 0)
        .map(|refusal| format!("it {}", over_memory(refusal.asked, refusal.limit)));
    Outcome::Exited { code, refused }
}

/// The trap and its backtrace.
pub(crate) fn describe(error: &wasmtime::Error) -> String {
    let mut text = match error.downcast_ref::<Trap>() {
        Some(trap) => trap.to_string(),
        None => format!("host call failed: {}", error.root_cause()),
    };
    if let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() {
        text.push('\n');
        text.push_str(&backtrace.to_string());
    }
    clip(&text)
}

/// Cuts a text to the message limit and takes out control characters: function names come from the guest.
pub(crate) fn clip(text: &str) -> String {
    const CUT: &str = " ...";
    let mut clipped = String::with_capacity(text.len().min(MAX_MESSAGE_BYTES));
    for character in text.trim_end().chars() {
        let character = if character.is_control() && character != '\n' { '\u{fffd}' } else { character };
        if clipped.len() + character.len_utf8() + CUT.len() > MAX_MESSAGE_BYTES {
            clipped.push_str(CUT);
            break;
        }
        clipped.push(character);
    }
    clipped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_clipped_and_cannot_drive_a_terminal() {
        let clipped = clip(&format!("\x1b[2Jname\n{}", "ü".repeat(MAX_MESSAGE_BYTES)));
        assert!(clipped.starts_with("\u{fffd}[2Jname\n"));
        assert!(clipped.len() <= MAX_MESSAGE_BYTES && clipped.ends_with(" ..."));
    }

    #[test]
    fn every_outcome_has_its_state_and_reason() {
        let status = |outcome| {
            let status = TaskEnd::unused(outcome).into_status(Duration::ZERO, 0);
            (status.state, status.reason, status.exit_code)
        };
        let exit = |code| Outcome::Exited { code, refused: None };
        assert_eq!(status(exit(0)), (TaskState::Finished, None, Some(0)));
        assert_eq!(status(exit(3)), (TaskState::Failed, Some(Reason::ExitCode), Some(3)));
        assert_eq!(status(Outcome::OutOfFuel { budget: 5 }), (TaskState::Failed, Some(Reason::Fuel), None));
        let killed = Outcome::Killed { reason: Reason::Preempted, message: String::new() };
        assert_eq!(status(killed), (TaskState::Killed, Some(Reason::Preempted), None));
    }
}
