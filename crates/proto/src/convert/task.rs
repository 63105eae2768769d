//! Task templates and launches. Only their structure is checked here: `Launch::validate` checks the rest, so that one bad
//! launch of a call can be refused alone.

use std::sync::Arc;
use std::time::Duration;

use holm_model::{
    Amount, Digest, DirectoryGrant, Executed, InputFile, Launch, Limits, Metering, NetworkGrants, Resources,
    ServiceSpec, TaskKind, TaskRange, TaskSpec, VolumeMount,
};

use super::error::At;
use super::field::{at_most, decoded, list, micros, pairs, pairs_to_wire, parsed};
use super::{ConvertError, Decode, resources};
use crate::limits::{MAX_TASK_ENTRIES, MAX_TO_MASTER_BYTES};
use crate::v1 as wire;

impl From<&TaskSpec> for wire::TaskSpec {
    fn from(spec: &TaskSpec) -> wire::TaskSpec {
        let kind = match spec.kind {
            TaskKind::Command => wire::TaskKind::Command,
            TaskKind::Service => wire::TaskKind::Service,
            TaskKind::Executor => wire::TaskKind::Executor,
            TaskKind::Executed => wire::TaskKind::Executed,
        };
        let file = |file: &InputFile| wire::InputFile { digest: file.digest.to_string(), path: file.path.to_string() };
        let directory = |grant: &DirectoryGrant| wire::DirectoryGrant {
            host: grant.host.to_string(),
            guest: grant.guest.to_string(),
            writable: grant.writable,
        };
        let Limits { fuel, deadline, output_bytes, cpus } = spec.limits;
        let (deadline_micros, cpus_milli) = (deadline.map(micros), cpus.map(|Amount(milli)| milli));
        let metering = match spec.metering {
            Metering::FuelAndEpochs => wire::Metering::FuelAndEpochs,
            Metering::Epochs => wire::Metering::Epochs,
        };
        wire::TaskSpec {
            kind: kind.into(),
            module: if spec.is_executed() { String::new() } else { spec.module.to_string() },
            args: spec.args.iter().map(|arg| arg.to_string()).collect(),
            env: pairs_to_wire(&spec.env),
            files: spec.files.iter().map(file).collect(),
            directories: spec.directories.iter().map(directory).collect(),
            volumes: spec.volumes.iter().map(wire::VolumeMount::from).collect(),
            resources: resources::to_wire(&spec.resources),
            limits: Some(wire::Limits { fuel, deadline_micros, output_bytes, cpus_milli }),
            seed: spec.seed,
            labels: pairs_to_wire(&spec.labels),
            metering: metering.into(),
            network: (!spec.network.is_empty()).then(|| (&spec.network).into()),
            service: spec.service.as_ref().map(wire::ServiceSpec::from),
            executed: spec.executed.as_ref().map(executed_to_wire),
            revocable: spec.revocable,
        }
    }
}

impl Decode<wire::TaskSpec> for TaskSpec {
    fn decode(wire: wire::TaskSpec, at: &At<'_>) -> Result<TaskSpec, ConvertError> {
        // A report of something unknown is taken for something known, but an order for it is not.
        let kind = match wire::TaskKind::try_from(wire.kind) {
            Ok(wire::TaskKind::Unspecified | wire::TaskKind::Command) => TaskKind::Command,
            Ok(wire::TaskKind::Service) => TaskKind::Service,
            Ok(wire::TaskKind::Executor) => TaskKind::Executor,
            Ok(wire::TaskKind::Executed) => TaskKind::Executed,
            Err(_) => {
                return Err(at.field("kind").invalid(format_args!("{} is no kind of task known here", wire.kind)));
            }
        };
        let metering = match wire::Metering::try_from(wire.metering) {
            Ok(wire::Metering::Unspecified | wire::Metering::FuelAndEpochs) => Metering::FuelAndEpochs,
            Ok(wire::Metering::Epochs) => Metering::Epochs,
            Err(_) => {
                let what = format_args!("{} is no metering known here", wire.metering);
                return Err(at.field("metering").invalid(what));
            }
        };
        at_most(wire.args.len(), MAX_TASK_ENTRIES, &at.field("args"))?;
        let limits = wire.limits.unwrap_or_default();
        let module = if kind == TaskKind::Executed && wire.module.is_empty() {
            Digest::default()
        } else {
            parsed(&wire.module, &at.field("module"))?
        };
        Ok(TaskSpec {
            kind,
            module,
            executed: wire.executed.map(|wire| Executed::decode(wire, &at.field("executed"))).transpose()?,
            args: wire.args.into_iter().map(Arc::from).collect(),
            env: pairs(wire.env, MAX_TASK_ENTRIES, MAX_TO_MASTER_BYTES, &at.field("env"))?,
            files: list(wire.files, MAX_TASK_ENTRIES, &at.field("files"))?,
            directories: list(wire.directories, MAX_TASK_ENTRIES, &at.field("directories"))?,
            volumes: list(wire.volumes, MAX_TASK_ENTRIES, &at.field("volumes"))?,
            resources: Resources::decode(wire.resources, &at.field("resources"))?,
            limits: Limits {
                fuel: limits.fuel,
                deadline: limits.deadline_micros.map(Duration::from_micros),
                output_bytes: limits.output_bytes,
                cpus: limits.cpus_milli.map(Amount),
            },
            metering,
            seed: wire.seed,
            labels: pairs(wire.labels, MAX_TASK_ENTRIES, MAX_TO_MASTER_BYTES, &at.field("labels"))?,
            network: NetworkGrants::decode(wire.network, &at.field("network"))?,
            service: wire.service.map(|service| ServiceSpec::decode(service, &at.field("service"))).transpose()?,
            revocable: wire.revocable,
        })
    }
}

impl From<&VolumeMount> for wire::VolumeMount {
    fn from(mount: &VolumeMount) -> wire::VolumeMount {
        let VolumeMount { id, path, read_only } = mount;
        wire::VolumeMount { volume_id: id.to_string(), path: path.to_string(), read_only: *read_only }
    }
}

impl Decode<wire::VolumeMount> for VolumeMount {
    fn decode(wire: wire::VolumeMount, at: &At<'_>) -> Result<VolumeMount, ConvertError> {
        let id = parsed(&wire.volume_id, &at.field("volume_id"))?;
        Ok(VolumeMount { id, path: wire.path.into(), read_only: wire.read_only })
    }
}

fn executed_to_wire(executed: &Executed) -> wire::Executed {
    wire::Executed { executor: executed.executor.to_string(), data: executed.data.to_vec().into() }
}

/// The size of the data is checked with the rest of the task.
impl Decode<wire::Executed> for Executed {
    fn decode(wire: wire::Executed, at: &At<'_>) -> Result<Executed, ConvertError> {
        Ok(Executed { executor: parsed(&wire.executor, &at.field("executor"))?, data: wire.data[..].into() })
    }
}

impl Decode<wire::InputFile> for InputFile {
    fn decode(wire: wire::InputFile, at: &At<'_>) -> Result<InputFile, ConvertError> {
        Ok(InputFile { digest: parsed(&wire.digest, &at.field("digest"))?, path: wire.path.into() })
    }
}

impl Decode<wire::DirectoryGrant> for DirectoryGrant {
    fn decode(wire: wire::DirectoryGrant, _at: &At<'_>) -> Result<DirectoryGrant, ConvertError> {
        Ok(DirectoryGrant { host: wire.host.into(), guest: wire.guest.into(), writable: wire.writable })
    }
}

pub(super) fn range_to_wire(tasks: TaskRange) -> Option<wire::TaskArray> {
    match tasks {
        TaskRange::Single => None,
        TaskRange::Array { first, count } => Some(wire::TaskArray { first, count }),
    }
}

impl Decode<Option<wire::TaskArray>> for TaskRange {
    fn decode(wire: Option<wire::TaskArray>, at: &At<'_>) -> Result<TaskRange, ConvertError> {
        let Some(wire::TaskArray { first, count }) = wire else { return Ok(TaskRange::Single) };
        // Without these two not even a refusal could name the tasks.
        let Some(last) = count.checked_sub(1) else { return Err(at.field("count").invalid("0 tasks; it needs 1")) };
        if first.checked_add(last).is_none() {
            return Err(at.invalid(format_args!("{count} indices from {first} exceed 32 bits")));
        }
        Ok(TaskRange::Array { first, count })
    }
}

impl From<&Launch> for wire::Launch {
    fn from(launch: &Launch) -> wire::Launch {
        wire::Launch {
            id: launch.id.to_string(),
            array: range_to_wire(launch.tasks),
            slots: launch.slots,
            template: Some(launch.spec.as_ref().into()),
        }
    }
}

impl Decode<wire::Launch> for Launch {
    fn decode(wire: wire::Launch, at: &At<'_>) -> Result<Launch, ConvertError> {
        let spec: TaskSpec = decoded(wire.template, &at.field("template"))?;
        Ok(Launch {
            id: parsed(&wire.id, &at.field("id"))?,
            tasks: TaskRange::decode(wire.array, &at.field("array"))?,
            slots: wire.slots,
            spec: spec.into(),
        })
    }
}
