//! Records as bytes: `holm.v1.CheckpointRecord`.

use holm_agent::{Record, RunnerScope};
use holm_model::{BootId, ClusterId, Epoch, Incarnation, RunnerId, Secret, WorkId};
use holm_proto::v1::{self as wire, checkpoint_record::Record as Wire};
use holm_proto::{Message as _, portions};

/// What some bytes are.
pub(super) enum Decoded {
    Known(Record),
    Unknown,
    Broken,
}

pub(super) fn encode(record: &Record, buffer: &mut Vec<u8>) {
    let message = wire::CheckpointRecord { record: Some(to_wire(record)) };
    buffer.extend(message.encode_to_vec());
}

pub(super) fn decode(bytes: &[u8]) -> Decoded {
    let Ok(message) = wire::CheckpointRecord::decode(bytes) else { return Decoded::Broken };
    let Some(record) = message.record else { return Decoded::Unknown };
    from_wire(record).map_or(Decoded::Broken, Decoded::Known)
}

fn to_wire(record: &Record) -> Wire {
    match record {
        Record::Incarnation { number, boot } => {
            Wire::Incarnation(wire::IncarnationRecord { number: number.0, boot_id: boot.0.to_string() })
        }
        Record::Identity { agent, secret, cluster, epoch } => Wire::Identity(wire::IdentityRecord {
            agent_id: agent.to_string(),
            secret: secret.expose().to_vec().into(),
            cluster_id: cluster.to_string(),
            epoch: epoch.0,
        }),
        Record::NextIds { work, runner, sequence } => {
            Wire::NextIds(wire::NextIds { work: work.0, runner: runner.0, sequence: *sequence })
        }
        Record::RunnerStarted { runner, scope, sequence } => Wire::RunnerStarted(wire::RunnerStarted {
            runner: runner.0,
            framework_id: scope.framework.map(|framework| framework.to_string()).unwrap_or_default(),
            sequence: *sequence,
            work: scope.work.map(|work| work.0),
            network: scope.network,
            revocable: scope.revocable,
        }),
        Record::RunnerEnded { runner } => Wire::RunnerEnded(wire::RunnerEnded { runner: runner.0 }),
        Record::WorkAdded { work, framework, role, origins, launch, group } => Wire::WorkAdded(wire::WorkAdded {
            origins: portions::to_wire(origins),
            work: work.0,
            framework_id: framework.to_string(),
            role: role.to_string(),
            launch: Some(launch.into()),
            group: group.map(|group| group.0),
        }),
        Record::GroupAdded { first, framework, role, origins, launches } => Wire::GroupAdded(wire::GroupAdded {
            origins: origins.iter().map(|held| wire::PortionList { portions: portions::to_wire(held) }).collect(),
            first: first.0,
            framework_id: framework.to_string(),
            role: role.to_string(),
            launches: launches.iter().map(wire::Launch::from).collect(),
        }),
        Record::WorkSent { work, runner } => Wire::WorkSent(wire::WorkSent { work: work.0, runner: runner.0 }),
        Record::Updated { framework, update, runner, runner_sequence } => Wire::Updated(wire::StatusLogged {
            framework_id: framework.to_string(),
            update: Some(update.into()),
            runner: runner.map(|runner| runner.0),
            runner_sequence: *runner_sequence,
        }),
        Record::Acknowledged { framework, sequence } => {
            Wire::Acknowledged(wire::LogAcknowledged { framework_id: framework.to_string(), sequence: *sequence })
        }
        Record::Volumes(volumes) => Wire::Volumes(volumes.as_slice().into()),
        Record::WorkRemoved { work } => Wire::WorkRemoved(wire::WorkRemoved { work: work.0 }),
        Record::FrameworkRemoved { framework } => {
            Wire::FrameworkRemoved(wire::FrameworkRemoved { framework_id: framework.to_string() })
        }
    }
}

fn from_wire(record: Wire) -> Option<Record> {
    Some(match record {
        Wire::Incarnation(it) => {
            Record::Incarnation { number: Incarnation(it.number), boot: BootId(it.boot_id.as_str().into()) }
        }
        Wire::Identity(it) => Record::Identity {
            agent: it.agent_id.parse().ok()?,
            secret: Secret::from_bytes(it.secret.as_ref().try_into().ok()?),
            cluster: it.cluster_id.parse::<ClusterId>().ok()?,
            epoch: Epoch(it.epoch),
        },
        Wire::NextIds(it) => {
            Record::NextIds { work: WorkId(it.work), runner: RunnerId(it.runner), sequence: it.sequence }
        }
        Wire::RunnerStarted(it) => Record::RunnerStarted {
            runner: RunnerId(it.runner),
            scope: RunnerScope {
                framework: if it.framework_id.is_empty() { None } else { Some(it.framework_id.parse().ok()?) },
                work: it.work.map(WorkId),
                network: it.network,
                revocable: it.revocable,
            },
            sequence: it.sequence,
        },
        Wire::RunnerEnded(it) => Record::RunnerEnded { runner: RunnerId(it.runner) },
        Wire::WorkAdded(it) => Record::WorkAdded {
            work: WorkId(it.work),
            framework: it.framework_id.parse().ok()?,
            role: it.role.parse().ok()?,
            origins: portions::from_wire(it.origins).ok()?,
            launch: it.launch?.try_into().ok()?,
            group: it.group.map(WorkId),
        },
        Wire::GroupAdded(it) => Record::GroupAdded {
            first: WorkId(it.first),
            framework: it.framework_id.parse().ok()?,
            role: it.role.parse().ok()?,
            origins: it.origins.into_iter().map(|list| list.try_into().ok()).collect::<Option<_>>()?,
            launches: it.launches.into_iter().map(|launch| launch.try_into().ok()).collect::<Option<_>>()?,
        },
        Wire::WorkSent(it) => Record::WorkSent { work: WorkId(it.work), runner: RunnerId(it.runner) },
        Wire::Updated(it) => Record::Updated {
            framework: it.framework_id.parse().ok()?,
            update: it.update?.try_into().ok()?,
            runner: it.runner.map(RunnerId),
            runner_sequence: it.runner_sequence,
        },
        Wire::Acknowledged(it) => {
            Record::Acknowledged { framework: it.framework_id.parse().ok()?, sequence: it.sequence }
        }
        Wire::Volumes(it) => Record::Volumes(it.try_into().ok()?),
        Wire::WorkRemoved(it) => Record::WorkRemoved { work: WorkId(it.work) },
        Wire::FrameworkRemoved(it) => Record::FrameworkRemoved { framework: it.framework_id.parse().ok()? },
    })
}
