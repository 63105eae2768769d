//! What an agent and its runners say to each other.

use std::sync::Arc;
use std::time::Duration;

use holm_model::{
    FromRunner, MAX_BATCH_TASKS, Prepared, PreparedDirectory, PreparedNetwork, PreparedVolume, RunnerId, RunnerReport,
    TaskSpec, ToRunner, WorkId,
};

use super::error::At;
use super::events::SOFTWARE;
use super::field::{at_most, bounded, decoded, explanation, list, message_bytes, micros, parsed};
use super::status::{check_positions, decode_usages, usages_to_wire};
use super::{ConvertError, Decode, Problem};
use crate::RUNNER_PROTOCOL;
use crate::limits::{MAX_DIRECTORIES, MAX_ITEMS, MAX_PATH_BYTES, MAX_PENDING};
use crate::runner::v1 as wire;
use wire::from_runner::Message as WireFromRunner;
use wire::to_runner::Message as WireToRunner;

impl From<&ToRunner> for wire::ToRunner {
    fn from(message: &ToRunner) -> wire::ToRunner {
        let message = match message {
            ToRunner::Launch { work, framework, launch, prepared } => WireToRunner::Launch(wire::LaunchWork {
                work: work.0,
                framework_id: framework.to_string(),
                launch: Some(launch.into()),
                prepared: Some(prepared.into()),
            }),
            ToRunner::Kill { work, positions, grace } => WireToRunner::Kill(wire::KillWork {
                work: work.0,
                positions: positions.map(|(first, count)| wire::PositionRange { first, count }),
                grace_micros: micros(*grace),
            }),
            ToRunner::Trim { work, from, message } => {
                WireToRunner::Trim(wire::TrimWork { work: work.0, from: *from, message: message.to_string() })
            }
            ToRunner::Message { work, position, data } => {
                WireToRunner::MessageToTask(message_to_wire(*work, *position, data))
            }
            ToRunner::Acknowledge { sequence } => {
                WireToRunner::Acknowledge(wire::AcknowledgeReports { sequence: *sequence })
            }
            ToRunner::Stop => WireToRunner::Stop(wire::Stop {}),
        };
        wire::ToRunner { message: Some(message) }
    }
}

impl Decode<wire::ToRunner> for ToRunner {
    fn decode(wire: wire::ToRunner, at: &At<'_>) -> Result<ToRunner, ConvertError> {
        Ok(match wire.message {
            Some(WireToRunner::Launch(wire)) => {
                let at = at.field("launch");
                ToRunner::Launch {
                    work: WorkId(wire.work),
                    framework: parsed(&wire.framework_id, &at.field("framework_id"))?,
                    launch: decoded(wire.launch, &at.field("launch"))?,
                    prepared: decoded(wire.prepared, &at.field("prepared"))?,
                }
            }
            Some(WireToRunner::Kill(wire)) => ToRunner::Kill {
                work: WorkId(wire.work),
                positions: decode_positions(wire.positions, &at.field("kill").field("positions"))?,
                grace: Duration::from_micros(wire.grace_micros),
            },
            Some(WireToRunner::Trim(wire)) => {
                ToRunner::Trim { work: WorkId(wire.work), from: wire.from, message: explanation(&wire.message) }
            }
            Some(WireToRunner::MessageToTask(wire)) => ToRunner::Message {
                work: WorkId(wire.work),
                position: wire.position,
                data: message_bytes(&wire.data, &at.field("message_to_task").field("data"))?,
            },
            Some(WireToRunner::Acknowledge(wire)) => ToRunner::Acknowledge { sequence: wire.sequence },
            Some(WireToRunner::Stop(wire::Stop {})) => ToRunner::Stop,
            None => return Err(at.field("message").unknown()),
        })
    }
}

fn decode_positions(wire: Option<wire::PositionRange>, at: &At<'_>) -> Result<Option<(u32, u32)>, ConvertError> {
    let Some(wire::PositionRange { first, count }) = wire else { return Ok(None) };
    check_positions(first, count, u32::MAX, at)?;
    Ok(Some((first, count)))
}

fn message_to_wire(work: WorkId, position: u32, data: &Arc<[u8]>) -> wire::WorkMessage {
    wire::WorkMessage { work: work.0, position, data: data.to_vec().into() }
}

impl From<&Prepared> for wire::Prepared {
    fn from(prepared: &Prepared) -> wire::Prepared {
        wire::Prepared {
            program: prepared.program.to_string(),
            inputs: prepared.inputs.as_ref().map(|path| path.to_string()),
            scratch: prepared.scratch.as_ref().map(|path| path.to_string()),
            directories: prepared.directories.iter().map(wire::PreparedDirectory::from).collect(),
            volumes: prepared.volumes.iter().map(wire::PreparedVolume::from).collect(),
            network: Some((&prepared.network).into()),
        }
    }
}

impl Decode<wire::Prepared> for Prepared {
    fn decode(wire: wire::Prepared, at: &At<'_>) -> Result<Prepared, ConvertError> {
        let path = |path: Option<String>, field| path.map(|path| bounded(path, MAX_PATH_BYTES, &at.field(field)));
        Ok(Prepared {
            program: bounded(wire.program, MAX_PATH_BYTES, &at.field("program"))?,
            inputs: path(wire.inputs, "inputs").transpose()?,
            scratch: path(wire.scratch, "scratch").transpose()?,
            directories: list(wire.directories, MAX_DIRECTORIES, &at.field("directories"))?,
            volumes: list(wire.volumes, TaskSpec::MAX_VOLUMES, &at.field("volumes"))?,
            network: wire
                .network
                .map(|network| PreparedNetwork::decode(network, &at.field("network")))
                .transpose()?
                .unwrap_or_default(),
        })
    }
}

impl From<&PreparedVolume> for wire::PreparedVolume {
    fn from(volume: &PreparedVolume) -> wire::PreparedVolume {
        let PreparedVolume { path, guest, writable, bytes } = volume;
        wire::PreparedVolume { path: path.to_string(), guest: guest.to_string(), writable: *writable, bytes: *bytes }
    }
}

impl Decode<wire::PreparedVolume> for PreparedVolume {
    fn decode(wire: wire::PreparedVolume, at: &At<'_>) -> Result<PreparedVolume, ConvertError> {
        Ok(PreparedVolume {
            path: bounded(wire.path, MAX_PATH_BYTES, &at.field("path"))?,
            guest: bounded(wire.guest, MAX_PATH_BYTES, &at.field("guest"))?,
            writable: wire.writable,
            bytes: wire.bytes,
        })
    }
}

impl From<&PreparedDirectory> for wire::PreparedDirectory {
    fn from(directory: &PreparedDirectory) -> wire::PreparedDirectory {
        wire::PreparedDirectory {
            prefix: directory.prefix.to_string(),
            below: directory.below.to_string(),
            guest: directory.guest.to_string(),
            writable: directory.writable,
        }
    }
}

impl Decode<wire::PreparedDirectory> for PreparedDirectory {
    fn decode(wire: wire::PreparedDirectory, at: &At<'_>) -> Result<PreparedDirectory, ConvertError> {
        if wire.prefix.is_empty() {
            return Err(at.field("prefix").error(Problem::Missing));
        }
        Ok(PreparedDirectory {
            prefix: bounded(wire.prefix, MAX_PATH_BYTES, &at.field("prefix"))?,
            below: bounded(wire.below, MAX_PATH_BYTES, &at.field("below"))?,
            guest: bounded(wire.guest, MAX_PATH_BYTES, &at.field("guest"))?,
            writable: wire.writable,
        })
    }
}

/// A message for the wire. [`crate::pages::from_runner`] splits what is large.
pub(crate) fn from_runner_to_wire(message: &FromRunner) -> wire::FromRunner {
    let message = match message {
        FromRunner::Hello { runner, works } => WireFromRunner::Hello(wire::RunnerHello {
            protocol: RUNNER_PROTOCOL,
            version: SOFTWARE.to_owned(),
            runner: runner.0,
            works: works.iter().map(|work| work.0).collect(),
        }),
        FromRunner::Reports(reports) => {
            WireFromRunner::Reports(wire::Reports { reports: reports.iter().map(wire::Report::from).collect() })
        }
        FromRunner::Message { work, position, data } => {
            WireFromRunner::MessageFromTask(message_to_wire(*work, *position, data))
        }
    };
    wire::FromRunner { message: Some(message) }
}

impl From<&RunnerReport> for wire::Report {
    fn from(report: &RunnerReport) -> wire::Report {
        wire::Report {
            sequence: report.sequence,
            work: report.work.0,
            first: report.first,
            count: report.count,
            status: Some((&report.status).into()),
            usages: usages_to_wire(&report.usages),
        }
    }
}

impl Decode<wire::Report> for RunnerReport {
    fn decode(wire: wire::Report, at: &At<'_>) -> Result<RunnerReport, ConvertError> {
        check_positions(wire.first, wire.count, MAX_BATCH_TASKS, at)?;
        let mut status = decoded(wire.status, &at.field("status"))?;
        let usages = decode_usages(wire.usages, wire.count, &mut status, &at.field("usages"))?;
        Ok(RunnerReport {
            sequence: wire.sequence,
            work: WorkId(wire.work),
            first: wire.first,
            count: wire.count,
            status,
            usages,
        })
    }
}

impl Decode<wire::FromRunner> for FromRunner {
    fn decode(wire: wire::FromRunner, at: &At<'_>) -> Result<FromRunner, ConvertError> {
        Ok(match wire.message {
            Some(WireFromRunner::Hello(wire)) => decode_hello(wire, &at.field("hello"))?,
            Some(WireFromRunner::Reports(wire)) => {
                FromRunner::Reports(list(wire.reports, MAX_ITEMS, &at.field("reports").field("reports"))?)
            }
            Some(WireFromRunner::MessageFromTask(wire)) => FromRunner::Message {
                work: WorkId(wire.work),
                position: wire.position,
                data: message_bytes(&wire.data, &at.field("message_from_task").field("data"))?,
            },
            None => return Err(at.field("message").unknown()),
        })
    }
}

/// A newer runner is accepted too: what it says beyond this version is ignored.
fn decode_hello(wire: wire::RunnerHello, at: &At<'_>) -> Result<FromRunner, ConvertError> {
    if wire.protocol == 0 {
        let problem = Problem::Protocol { theirs: 0, ours: RUNNER_PROTOCOL };
        return Err(at.field("protocol").error(problem));
    }
    at_most(wire.works.len(), MAX_PENDING, &at.field("works"))?;
    Ok(FromRunner::Hello { runner: RunnerId(wire.runner), works: wire.works.into_iter().map(WorkId).collect() })
}
