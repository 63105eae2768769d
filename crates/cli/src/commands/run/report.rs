//! What came of a run: per task for programs, in sum for people, and the exit code.

use std::collections::BTreeMap;
use std::time::Duration;

use holm_model::{Reason, TaskId, TaskState, TaskStatus, Usage};
use holm_sdk::TaskUpdate;
use serde::Serialize;

use crate::output::{self, Table};

/// What a shell calls a killed program: 128 + SIGKILL.
pub(super) const KILLED: u8 = 137;
/// What a shell calls an interrupted program: 128 + SIGINT.
pub(super) const INTERRUPTED: u8 = 130;
/// What failed without an exit code, and arrays with failures, end with.
const FAILED: u8 = 1;
/// Most failures that are listed.
const LISTED: usize = 50;

/// The end of a task, for programs.
#[derive(Serialize)]
struct EndLine<'a> {
    task_id: String,
    agent_id: Option<String>,
    state: &'static str,
    reason: Option<&'static str>,
    exit_code: Option<i32>,
    message: &'a str,
    cpu_seconds: f64,
    fuel: u64,
    peak_memory_bytes: u64,
    peak_disk_bytes: u64,
    queued_ms: f64,
    run_ms: f64,
    #[serde(skip_serializing_if = "is_zero")]
    network_refusals: u64,
    #[serde(skip_serializing_if = "is_zero")]
    requests: u64,
    #[serde(skip_serializing_if = "is_zero")]
    failed_requests: u64,
}

/// What only tasks with a network have is not shown of others.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// One line of JSON for each task of an update.
pub(super) fn json_lines(update: &TaskUpdate) -> Vec<u8> {
    let TaskStatus { state, reason, message, exit_code, usage: _, attempt: _ } = &update.status;
    let mut lines = Vec::new();
    for (task, usage) in update.task_ids().zip(update.usage_of_each()) {
        let line = EndLine {
            task_id: task.to_string(),
            agent_id: update.agent.map(|agent| agent.to_string()),
            state: state.as_str(),
            reason: reason.map(Reason::as_str),
            exit_code: *exit_code,
            message,
            cpu_seconds: output::seconds(usage.cpu),
            fuel: usage.fuel,
            peak_memory_bytes: usage.peak_memory,
            peak_disk_bytes: usage.peak_disk,
            queued_ms: output::millis(usage.queued),
            run_ms: output::millis(usage.run),
            network_refusals: usage.network_refusals,
            requests: usage.requests,
            failed_requests: usage.failed_requests,
        };
        // Plain fields always serialize.
        if let Ok(text) = serde_json::to_vec(&line) {
            lines.extend_from_slice(&text);
            lines.push(b'\n');
        }
    }
    lines
}

/// How many tasks ended how.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) ended: u32,
    pub(super) finished: u32,
    /// Ends whose output is complete only after a record that says so.
    pub(super) with_output: u64,
    fuel: u64,
    cpu: Duration,
    others: BTreeMap<(TaskState, Option<Reason>), u32>,
    failures: Vec<(String, String, TaskStatus)>,
    /// Ends other than success that are not listed one by one, though they might be.
    unlisted: u32,
    last: Option<TaskStatus>,
}

impl Report {
    /// Takes in the end of some tasks of the run called `name`. After it was interrupted, tasks that are killed are only counted.
    pub(super) fn add(&mut self, update: &TaskUpdate, name: &str, interrupted: bool) {
        let (count, status) = (update.count(), &update.status);
        self.ended += count;
        let total = update.total();
        self.fuel = self.fuel.saturating_add(total.fuel);
        self.cpu = self.cpu.saturating_add(total.cpu);
        let with_output = update.usage_of_each().filter(|usage| has_output_end(status, usage)).count();
        self.with_output += with_output as u64;
        if status.state == TaskState::Finished {
            self.finished += count;
        } else {
            *self.others.entry((status.state, status.reason)).or_default() += count;
            if !(interrupted && status.state == TaskState::Killed) {
                self.list(update, name);
            }
        }
        self.last = Some(status.clone());
    }

    fn list(&mut self, update: &TaskUpdate, name: &str) {
        let agent = update.agent.map_or_else(|| "-".to_owned(), |agent| agent.to_string());
        let room = LISTED.saturating_sub(self.failures.len());
        let shown = |task: TaskId| match task.index {
            Some(index) => format!("{name}/{index}"),
            None => name.to_owned(),
        };
        let before = self.failures.len();
        let rows = update.task_ids().take(room).map(|task| (shown(task), agent.clone(), update.status.clone()));
        self.failures.extend(rows);
        let listed = u32::try_from(self.failures.len() - before).unwrap_or(u32::MAX);
        self.unlisted += update.count().saturating_sub(listed);
    }

    /// What a single task ends its command with.
    pub(super) fn single_code(&self, interrupted: bool) -> u8 {
        let Some(status) = &self.last else { return if interrupted { INTERRUPTED } else { FAILED } };
        match (status.state, status.exit_code) {
            (TaskState::Finished, code) => code.map_or(0, low_byte),
            (TaskState::Killed, _) if interrupted => INTERRUPTED,
            (TaskState::Killed, _) => KILLED,
            // 256 is a failure, too.
            (_, Some(code)) => low_byte(code).max(1),
            (_, None) => FAILED,
        }
    }

    /// What an array ends its command with.
    pub(super) fn array_code(&self, count: u32, interrupted: bool) -> u8 {
        match (self.finished == count, interrupted) {
            (true, _) => 0,
            (false, true) => INTERRUPTED,
            (false, false) => FAILED,
        }
    }

    /// Why a single task did not finish, if it did not, beyond an exit code of its own.
    pub(super) fn single_failure(&self, name: &str) -> Option<String> {
        let status = self.last.as_ref()?;
        if status.state == TaskState::Finished || status.reason == Some(Reason::ExitCode) {
            return None;
        }
        let reason = status.reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
        let message = output::clean(status.message.trim_end()).into_owned();
        let message = if message.is_empty() { message } else { format!(": {message}") };
        Some(format!("task {name} {}{reason}{message}", status.state))
    }

    /// The sum of an array, and a table of what failed.
    pub(super) fn summary(&self, count: u32, took: Duration) -> String {
        let mut text = format!("{count} tasks: {} finished", self.finished);
        for ((state, reason), number) in &self.others {
            let reason = reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
            text.push_str(&format!(", {number} {state}{reason}"));
        }
        if self.ended < count {
            text.push_str(&format!(", {} never launched", count - self.ended));
        }
        let (fuel, cpu) = (output::magnitude(self.fuel), output::span(self.cpu));
        text.push_str(&format!("; {} of wall time, {cpu} of CPU time, {fuel} of fuel\n", output::span(took)));
        if self.failures.is_empty() {
            return text;
        }
        let mut table = Table::new(&["TASK", "AGENT", "STATE", "REASON", "EXIT", "MESSAGE"]);
        for (task, agent, status) in &self.failures {
            table.row([
                task.clone(),
                agent.clone(),
                status.state.to_string(),
                status.reason.map_or_else(|| "-".to_owned(), |reason| reason.to_string()),
                status.exit_code.map_or_else(|| "-".to_owned(), |code| code.to_string()),
                output::one_line(&status.message, 80),
            ]);
        }
        text.push_str(&table.render());
        if self.unlisted > 0 {
            text.push_str(&format!("... and {} more\n", self.unlisted));
        }
        text
    }
}

/// Whether the runner says when all output of a task that ended like this, having used that, has been given.
fn has_output_end(status: &TaskStatus, usage: &Usage) -> bool {
    use Reason::{Deadline, DiskLimit, ExitCode, Fuel, MemoryLimit, Trap};
    match (status.state, status.reason) {
        (TaskState::Finished, _) => true,
        (TaskState::Failed, Some(ExitCode | Trap | Fuel | MemoryLimit | DiskLimit | Deadline)) => true,
        (TaskState::Killed, _) => !usage.run.is_zero(),
        _ => false,
    }
}

fn low_byte(code: i32) -> u8 {
    code.to_le_bytes()[0]
}

#[cfg(test)]
mod tests {
    use holm_model::{TaskRange, Usages};

    use super::*;

    fn ended(tasks: TaskRange, status: TaskStatus) -> TaskUpdate {
        TaskUpdate { agent: None, batch: "job".parse().unwrap(), tasks, status, usages: Usages::default() }
    }

    fn code(status: TaskStatus) -> u8 {
        let mut report = Report::default();
        report.add(&ended(TaskRange::Single, status), "job", false);
        report.single_code(false)
    }

    #[test]
    fn a_single_task_gives_its_own_exit_code() {
        let failed =
            |code| TaskStatus { exit_code: Some(code), ..TaskStatus::because(TaskState::Failed, Reason::ExitCode, "") };
        assert_eq!(code(TaskStatus { exit_code: Some(0), ..TaskStatus::of(TaskState::Finished) }), 0);
        assert_eq!(code(failed(3)), 3);
        assert_eq!(code(failed(256)), 1);
        assert_eq!(code(TaskStatus::because(TaskState::Failed, Reason::Trap, "unreachable")), 1);
        assert_eq!(code(TaskStatus::because(TaskState::Killed, Reason::Killed, "")), 137);
    }

    #[test]
    fn json_has_one_object_per_task_with_exactly_the_promised_fields() {
        let status = TaskStatus::because(TaskState::Failed, Reason::Fuel, "used up");
        let lines = json_lines(&ended(TaskRange::Array { first: 4, count: 2 }, status));
        let objects: Vec<serde_json::Map<String, serde_json::Value>> = lines
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect();
        assert_eq!(objects.len(), 2);
        assert_eq!((&objects[0]["task_id"], &objects[1]["task_id"]), (&"job/4".into(), &"job/5".into()));
        let fields: Vec<_> = objects[0].keys().map(String::as_str).collect();
        let mut promised = [
            "task_id",
            "agent_id",
            "state",
            "reason",
            "exit_code",
            "message",
            "cpu_seconds",
            "fuel",
            "peak_memory_bytes",
            "peak_disk_bytes",
            "queued_ms",
            "run_ms",
        ];
        promised.sort_unstable();
        assert_eq!(fields, promised);
    }

    #[test]
    fn an_array_lists_its_failures() {
        let mut report = Report::default();
        report.add(
            &ended(TaskRange::Array { first: 0, count: 100 }, TaskStatus::of(TaskState::Finished)),
            "job",
            false,
        );
        let trap = TaskStatus::because(TaskState::Failed, Reason::Trap, "unreachable executed\nbacktrace");
        let mut update = ended(TaskRange::Array { first: 100, count: 60 }, trap);
        update.batch = "job.3".parse().unwrap();
        report.add(&update, "job", false);
        let summary = report.summary(170, Duration::from_secs(2));
        assert!(summary.starts_with("170 tasks: 100 finished, 60 FAILED (TRAP), 10 never launched; 2.0s"), "{summary}");
        assert!(
            summary.contains("job/100") && summary.contains("unreachable executed...") && summary.contains("10 more")
        );
        assert_eq!(report.array_code(170, false), 1);
    }

    #[test]
    fn after_ctrl_c_killed_tasks_are_counted_and_not_listed() {
        let mut report = Report::default();
        let killed = TaskStatus::because(TaskState::Killed, Reason::Killed, "killed before it started");
        report.add(&ended(TaskRange::Array { first: 0, count: 300 }, killed), "job", true);
        let summary = report.summary(300, Duration::from_secs(2));
        assert!(summary.contains("300 KILLED (KILLED)") && summary.lines().count() == 1, "{summary}");
    }
}
