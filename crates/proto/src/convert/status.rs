//! Task states, reasons, statuses, updates and reports.

use std::time::Duration;

use holm_model::{
    BatchReport, MAX_BATCH_TASKS, Portions, Reason, Resources, Source, StatusRun, TaskRange, TaskState, TaskStatus,
    Update, Usage, Usages,
};

use super::error::At;
use super::field::{capped, decoded, explanation, list, micros, parsed};
use super::task::range_to_wire;
use super::{ConvertError, Decode, Problem, portions, resources};
use crate::unknown::note_enum_value;
use crate::v1 as wire;

/// The first number of a state that is an end.
const FIRST_END: i32 = 16;

macro_rules! same_names {
    ($name:ident: $($variant:ident)*) => {
        impl From<$name> for wire::$name {
            fn from(value: $name) -> wire::$name {
                match value { $($name::$variant => wire::$name::$variant,)* }
            }
        }

        /// The model's value of a known number; none for `UNSPECIFIED`.
        impl From<wire::$name> for Option<$name> {
            fn from(value: wire::$name) -> Option<$name> {
                match value {
                    wire::$name::Unspecified => None,
                    $(wire::$name::$variant => Some($name::$variant),)*
                }
            }
        }
    };
}

same_names! { TaskState: Staging Running Killing Unreachable Finished Failed Killed Dropped Error Gone }

same_names! {
    Reason: ExitCode Trap Fuel MemoryLimit DiskLimit Deadline Fetch Compile InvalidModule NotAllowed Sandbox Killed
    Preempted Trimmed FrameworkRemoved RunnerLost RunnerError AgentDisconnected AgentLost AgentRestarted AgentRefused
    InvalidOffers InvalidTask DuplicateTask Unauthorized ExecutorLost GroupFailed
}

impl From<Option<Reason>> for wire::Reason {
    fn from(reason: Option<Reason>) -> wire::Reason {
        reason.map_or(wire::Reason::Unspecified, wire::Reason::from)
    }
}

/// The state of a number from the wire. An unknown live state counts as RUNNING, an unknown end as FAILED.
///
/// # Errors
/// The number is that of no state at all: `UNSPECIFIED` or negative.
pub fn state(number: i32) -> Result<TaskState, ConvertError> {
    decode_state(number, &At::ROOT.field("state"))
}

/// The reason of a number from the wire. An unknown reason counts as none.
pub fn reason(number: i32) -> Option<Reason> {
    wire::Reason::try_from(number).map_or_else(
        |_| {
            note_enum_value();
            None
        },
        Option::from,
    )
}

fn decode_state(number: i32, at: &At<'_>) -> Result<TaskState, ConvertError> {
    match wire::TaskState::try_from(number) {
        Ok(known) => Option::from(known).ok_or_else(|| at.error(Problem::Missing)),
        Err(_) if number < 0 => Err(at.invalid(format_args!("{number} is no state"))),
        Err(_) => {
            note_enum_value();
            Ok(if number < FIRST_END { TaskState::Running } else { TaskState::Failed })
        }
    }
}

pub(super) fn source_to_wire(source: Source) -> i32 {
    let source = match source {
        Source::Agent => wire::UpdateSource::Agent,
        Source::Master => wire::UpdateSource::Master,
    };
    source.into()
}

pub(super) fn decode_source(number: i32, at: &At<'_>) -> Result<Source, ConvertError> {
    match wire::UpdateSource::try_from(number) {
        Ok(wire::UpdateSource::Agent) => Ok(Source::Agent),
        Ok(wire::UpdateSource::Master) => Ok(Source::Master),
        Ok(wire::UpdateSource::Unspecified) => Err(at.error(Problem::Missing)),
        Err(_) => {
            note_enum_value();
            Ok(Source::Master)
        }
    }
}

impl From<&Usage> for wire::Usage {
    fn from(usage: &Usage) -> wire::Usage {
        wire::Usage {
            cpu_micros: micros(usage.cpu),
            fuel: usage.fuel,
            peak_memory_bytes: usage.peak_memory,
            queued_micros: micros(usage.queued),
            run_micros: micros(usage.run),
            output_bytes: usage.output_bytes,
            network_refusals: usage.network_refusals,
            requests: usage.requests,
            failed_requests: usage.failed_requests,
            peak_disk_bytes: usage.peak_disk,
        }
    }
}

impl From<wire::Usage> for Usage {
    fn from(wire: wire::Usage) -> Usage {
        Usage {
            cpu: Duration::from_micros(wire.cpu_micros),
            fuel: wire.fuel,
            peak_memory: wire.peak_memory_bytes,
            queued: Duration::from_micros(wire.queued_micros),
            run: Duration::from_micros(wire.run_micros),
            output_bytes: wire.output_bytes,
            network_refusals: wire.network_refusals,
            requests: wire.requests,
            failed_requests: wire.failed_requests,
            peak_disk: wire.peak_disk_bytes,
        }
    }
}

impl From<&TaskStatus> for wire::TaskStatus {
    fn from(status: &TaskStatus) -> wire::TaskStatus {
        wire::TaskStatus {
            state: wire::TaskState::from(status.state).into(),
            reason: wire::Reason::from(status.reason).into(),
            message: explanation(&status.message).to_string(),
            exit_code: status.exit_code,
            // Most statuses on their way are of tasks that have used nothing yet.
            usage: (status.usage != Usage::default()).then(|| (&status.usage).into()),
            attempt: status.attempt,
        }
    }
}

impl Decode<wire::TaskStatus> for TaskStatus {
    fn decode(wire: wire::TaskStatus, at: &At<'_>) -> Result<TaskStatus, ConvertError> {
        Ok(TaskStatus {
            state: decode_state(wire.state, &at.field("state"))?,
            reason: reason(wire.reason),
            message: explanation(&wire.message),
            exit_code: wire.exit_code,
            usage: wire.usage.map(Usage::from).unwrap_or_default(),
            attempt: wire.attempt,
        })
    }
}

/// The usages of a run as columns; none when its status says it for all.
pub(super) fn usages_to_wire(usages: &Usages) -> Option<wire::Usages> {
    let entries = usages.entries();
    let column = |of: fn(&Usage) -> u64| {
        let first = entries.first().map_or(0, of);
        match entries.iter().all(|usage| of(usage) == first) {
            true if first == 0 => Vec::new(),
            true => vec![first],
            false => entries.iter().map(of).collect(),
        }
    };
    (!entries.is_empty()).then(|| wire::Usages {
        cpu_micros: column(|usage| micros(usage.cpu)),
        fuel: column(|usage| usage.fuel),
        peak_memory_bytes: column(|usage| usage.peak_memory),
        queued_micros: column(|usage| micros(usage.queued)),
        run_micros: column(|usage| micros(usage.run)),
        output_bytes: column(|usage| usage.output_bytes),
        network_refusals: column(|usage| usage.network_refusals),
        requests: column(|usage| usage.requests),
        failed_requests: column(|usage| usage.failed_requests),
        peak_disk_bytes: column(|usage| usage.peak_disk),
    })
}

/// Reads the columns of a run of `count` tasks. What is the same for all of them goes into the status; nothing is made larger
/// than it came.
pub(super) fn decode_usages(
    wire: Option<wire::Usages>,
    count: u32,
    status: &mut TaskStatus,
    at: &At<'_>,
) -> Result<Usages, ConvertError> {
    let Some(wire) = wire else { return Ok(Usages::default()) };
    let columns = [
        ("cpu_micros", &wire.cpu_micros),
        ("fuel", &wire.fuel),
        ("peak_memory_bytes", &wire.peak_memory_bytes),
        ("queued_micros", &wire.queued_micros),
        ("run_micros", &wire.run_micros),
        ("output_bytes", &wire.output_bytes),
        ("network_refusals", &wire.network_refusals),
        ("requests", &wire.requests),
        ("failed_requests", &wire.failed_requests),
        ("peak_disk_bytes", &wire.peak_disk_bytes),
    ];
    for (name, column) in columns {
        if column.len() > 1 && column.len() as u64 != u64::from(count) {
            let why = format_args!("{} numbers for {count} tasks; it needs none, 1 or {count}", column.len());
            return Err(at.field(name).invalid(why));
        }
    }
    let longest = columns.iter().map(|(_, column)| column.len()).max().unwrap_or(0).max(1);
    let value = |column: &[u64], index: usize| match column {
        [] => 0,
        [all] => *all,
        each => each[index],
    };
    let usage = |index| Usage {
        cpu: Duration::from_micros(value(&wire.cpu_micros, index)),
        fuel: value(&wire.fuel, index),
        peak_memory: value(&wire.peak_memory_bytes, index),
        queued: Duration::from_micros(value(&wire.queued_micros, index)),
        run: Duration::from_micros(value(&wire.run_micros, index)),
        output_bytes: value(&wire.output_bytes, index),
        network_refusals: value(&wire.network_refusals, index),
        requests: value(&wire.requests, index),
        failed_requests: value(&wire.failed_requests, index),
        peak_disk: value(&wire.peak_disk_bytes, index),
    };
    let each: Vec<Usage> = (0..longest).map(usage).collect();
    Ok(Usages::fold(status, &each))
}

impl From<&Update> for wire::Update {
    fn from(update: &Update) -> wire::Update {
        wire::Update {
            sequence: update.sequence,
            batch_id: update.batch.to_string(),
            first: update.first,
            count: update.count,
            status: Some((&update.status).into()),
            usages: usages_to_wire(&update.usages),
        }
    }
}

impl Decode<wire::Update> for Update {
    fn decode(wire: wire::Update, at: &At<'_>) -> Result<Update, ConvertError> {
        check_positions(wire.first, wire.count, u32::MAX, at)?;
        let mut status = decoded(wire.status, &at.field("status"))?;
        let usages = decode_usages(wire.usages, wire.count, &mut status, &at.field("usages"))?;
        Ok(Update {
            sequence: wire.sequence,
            batch: parsed(&wire.batch_id, &at.field("batch_id"))?,
            first: wire.first,
            count: wire.count,
            status,
            usages,
        })
    }
}

/// Positions `first` to `first + count - 1` of a launch of at most `most` tasks.
pub(super) fn check_positions(first: u32, count: u32, most: u32, at: &At<'_>) -> Result<(), ConvertError> {
    if count == 0 {
        return Err(at.field("count").invalid("0 tasks; it needs 1"));
    }
    capped(u64::from(first) + u64::from(count), most.into(), &at.field("count")).map(|_| ())
}

/// Updates of a log: what an agent reports has positions that a launch can have.
pub(super) fn decode_log(updates: Vec<wire::Update>, at: &At<'_>) -> Result<Vec<Update>, ConvertError> {
    for (index, update) in updates.iter().enumerate() {
        check_positions(update.first, update.count, MAX_BATCH_TASKS, &at.index(index))?;
    }
    list(updates, crate::limits::MAX_ITEMS, at)
}

impl From<&StatusRun> for wire::StatusRun {
    fn from(run: &StatusRun) -> wire::StatusRun {
        wire::StatusRun { count: run.count, status: Some((&run.status).into()) }
    }
}

impl Decode<wire::StatusRun> for StatusRun {
    fn decode(wire: wire::StatusRun, at: &At<'_>) -> Result<StatusRun, ConvertError> {
        check_positions(0, wire.count, MAX_BATCH_TASKS, at)?;
        Ok(StatusRun { count: wire.count, status: decoded(wire.status, &at.field("status"))? })
    }
}

impl From<&BatchReport> for wire::BatchReport {
    fn from(report: &BatchReport) -> wire::BatchReport {
        wire::BatchReport {
            framework_id: report.framework.to_string(),
            role: report.role.to_string(),
            batch_id: report.id.to_string(),
            array: range_to_wire(report.tasks),
            slots: report.slots,
            shape: resources::to_wire(&report.shape),
            module: report.module.to_string(),
            revocable: report.revocable,
            origins: portions::to_wire(&report.origins),
            runs: report.runs.iter().map(wire::StatusRun::from).collect(),
        }
    }
}

impl Decode<wire::BatchReport> for BatchReport {
    fn decode(wire: wire::BatchReport, at: &At<'_>) -> Result<BatchReport, ConvertError> {
        let tasks = TaskRange::decode(wire.array, &at.field("array"))?;
        let count = tasks.count();
        capped(count.into(), MAX_BATCH_TASKS.into(), &at.field("array").field("count"))?;
        if wire.slots == 0 || wire.slots > count {
            return Err(at.field("slots").invalid(format_args!("{} slots; it needs 1 to {count}", wire.slots)));
        }
        let runs: Vec<StatusRun> = list(wire.runs, MAX_BATCH_TASKS as usize, &at.field("runs"))?;
        let covered: u64 = runs.iter().map(|run| u64::from(run.count)).sum();
        if covered != u64::from(count) {
            return Err(at.field("runs").invalid(format_args!("statuses of {covered} tasks for {count}")));
        }
        Ok(BatchReport {
            framework: parsed(&wire.framework_id, &at.field("framework_id"))?,
            role: parsed(&wire.role, &at.field("role"))?,
            id: parsed(&wire.batch_id, &at.field("batch_id"))?,
            tasks,
            slots: wire.slots,
            shape: Resources::decode(wire.shape, &at.field("shape"))?,
            module: parsed(&wire.module, &at.field("module"))?,
            revocable: wire.revocable,
            origins: Portions::decode(wire.origins, &at.field("origins"))?,
            runs,
        })
    }
}
