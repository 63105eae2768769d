//! What agents and the master say to each other.

use std::time::Duration;

use holm_model::{
    AgentCondition, BootId, Capabilities, Epoch, FrameworkId, Incarnation, MAX_GROUP_LAUNCHES, Portions, Registration,
    Resources, RunnerId, Secret, ToAgent, ToMaster,
};

use super::error::At;
use super::events::SOFTWARE;
use super::field::{
    bounded, decoded, explanation, hello, list, message_bytes, micros, optional, parsed, read_hello, required, secret,
    secret_to_wire, text_or_empty,
};
use super::offer::agent_info;
use super::status::decode_log;
use super::{ConvertError, Decode, portions, resources};
use crate::limits::{MAX_BOOT_ID_BYTES, MAX_ITEMS};
use crate::v1 as wire;
use wire::to_agent::Message as WireToAgent;
use wire::to_master::Message as WireToMaster;

/// A message of an agent, as its master reads it.
#[derive(Clone, Debug)]
pub enum FromAgent {
    /// The first words on a stream.
    Register {
        /// What the agent says.
        registration: Registration,
        /// What it presents to come back; to be hashed before any core sees it.
        secret: Option<Secret>,
    },
    /// Anything else; never [`ToMaster::Register`].
    Message(ToMaster),
}

/// The first words on a stream.
pub fn register(registration: &Registration, secret: Option<&Secret>) -> wire::ToMaster {
    let info = &registration.info;
    let register = wire::Register {
        hello: Some(hello(&info.version, &info.capabilities)),
        agent_id: text_or_empty(registration.id.as_ref()),
        secret: secret_to_wire(secret),
        cluster_id: text_or_empty(registration.cluster.as_ref()),
        highest_epoch: registration.highest_epoch.0,
        incarnation: registration.incarnation.0,
        boot_id: registration.boot.0.to_string(),
        info: Some(info.into()),
    };
    wire::ToMaster { message: Some(WireToMaster::Register(register)) }
}

/// A message for the wire. [`crate::pages::to_master`] splits what is large.
pub(crate) fn to_master_to_wire(message: &ToMaster) -> wire::ToMaster {
    let message = match message {
        ToMaster::Register(registration) => return register(registration, None),
        ToMaster::Report { batches, last } => WireToMaster::Report(wire::Report {
            batches: batches.iter().map(wire::BatchReport::from).collect(),
            last: *last,
        }),
        ToMaster::Updates { framework, incarnation, updates } => WireToMaster::Updates(wire::AgentUpdates {
            framework_id: framework.to_string(),
            incarnation: incarnation.0,
            updates: updates.iter().map(wire::Update::from).collect(),
        }),
        ToMaster::Message { framework, task, data } => WireToMaster::MessageFromTask(wire::MessageFromTask {
            framework_id: framework.to_string(),
            task_id: task.to_string(),
            data: data.to_vec().into(),
        }),
        ToMaster::RunnerLost { framework, runner, message } => WireToMaster::RunnerLost(wire::AgentRunnerLost {
            framework_id: framework.to_string(),
            runner: runner.0,
            message: message.to_string(),
        }),
        ToMaster::Condition(condition) => WireToMaster::Condition(condition.into()),
        ToMaster::Revocable(estimate) => {
            WireToMaster::Revocable(wire::Revocable { resources: resources::to_wire(estimate) })
        }
        ToMaster::Pong => WireToMaster::Pong(wire::Pong {}),
    };
    wire::ToMaster { message: Some(message) }
}

impl Decode<wire::ToMaster> for FromAgent {
    fn decode(wire: wire::ToMaster, at: &At<'_>) -> Result<FromAgent, ConvertError> {
        Ok(FromAgent::Message(match wire.message {
            Some(WireToMaster::Register(wire)) => return decode_register(wire, &at.field("register")),
            Some(WireToMaster::Report(wire)) => ToMaster::Report {
                batches: list(wire.batches, MAX_ITEMS, &at.field("report").field("batches"))?,
                last: wire.last,
            },
            Some(WireToMaster::Updates(wire)) => {
                let at = at.field("updates");
                ToMaster::Updates {
                    framework: framework(&wire.framework_id, &at)?,
                    incarnation: Incarnation(wire.incarnation),
                    updates: decode_log(wire.updates, &at.field("updates"))?,
                }
            }
            Some(WireToMaster::MessageFromTask(wire)) => {
                let at = at.field("message_from_task");
                ToMaster::Message {
                    framework: framework(&wire.framework_id, &at)?,
                    task: parsed(&wire.task_id, &at.field("task_id"))?,
                    data: message_bytes(&wire.data, &at.field("data"))?,
                }
            }
            Some(WireToMaster::RunnerLost(wire)) => ToMaster::RunnerLost {
                framework: framework(&wire.framework_id, &at.field("runner_lost"))?,
                runner: RunnerId(wire.runner),
                message: explanation(&wire.message),
            },
            Some(WireToMaster::Condition(wire)) => ToMaster::Condition(wire.into()),
            Some(WireToMaster::Revocable(wire)) => {
                ToMaster::Revocable(Resources::decode(wire.resources, &at.field("revocable").field("resources"))?)
            }
            Some(WireToMaster::Pong(wire::Pong {})) => ToMaster::Pong,
            None => return Err(at.field("message").unknown()),
        }))
    }
}

impl From<&AgentCondition> for wire::AgentCondition {
    fn from(condition: &AgentCondition) -> wire::AgentCondition {
        wire::AgentCondition {
            reserve_bytes: condition.reserve_bytes,
            overhead_bytes: condition.overhead_bytes,
            held_back: condition.held_back.as_deref().map(|why| explanation(why).to_string()).unwrap_or_default(),
        }
    }
}

impl From<wire::AgentCondition> for AgentCondition {
    fn from(wire: wire::AgentCondition) -> AgentCondition {
        AgentCondition {
            reserve_bytes: wire.reserve_bytes,
            overhead_bytes: wire.overhead_bytes,
            held_back: (!wire.held_back.is_empty()).then(|| explanation(&wire.held_back)),
        }
    }
}

fn framework(text: &str, at: &At<'_>) -> Result<FrameworkId, ConvertError> {
    parsed(text, &at.field("framework_id"))
}

fn decode_register(wire: wire::Register, at: &At<'_>) -> Result<FromAgent, ConvertError> {
    let software = read_hello(wire.hello, &at.field("hello"))?;
    let info = required(wire.info, &at.field("info"))?;
    let registration = Registration {
        id: optional(&wire.agent_id, &at.field("agent_id"))?,
        cluster: optional(&wire.cluster_id, &at.field("cluster_id"))?,
        highest_epoch: Epoch(wire.highest_epoch),
        incarnation: Incarnation(wire.incarnation),
        boot: BootId(bounded(wire.boot_id, MAX_BOOT_ID_BYTES, &at.field("boot_id"))?),
        info: agent_info(info, software, &at.field("info"))?,
    };
    Ok(FromAgent::Register { registration, secret: secret(&wire.secret, &at.field("secret"))? })
}

impl From<&ToAgent> for wire::ToAgent {
    fn from(message: &ToAgent) -> wire::ToAgent {
        let message = match message {
            ToAgent::Registered { agent, secret, cluster, epoch, silence } => {
                WireToAgent::Registered(wire::Registered {
                    hello: Some(hello(SOFTWARE, &Capabilities::new())),
                    agent_id: agent.to_string(),
                    secret: secret_to_wire(secret.as_ref()),
                    cluster_id: cluster.to_string(),
                    epoch: epoch.0,
                    silence_micros: micros(*silence),
                })
            }
            ToAgent::Refused { message } => WireToAgent::Refused(wire::Refused { message: message.to_string() }),
            ToAgent::Launch { sequence, framework, role, origins, launch } => WireToAgent::Launch(wire::LaunchTasks {
                sequence: *sequence,
                framework_id: framework.to_string(),
                role: role.to_string(),
                origins: portions::to_wire(origins),
                launch: Some(launch.into()),
            }),
            ToAgent::LaunchGroup { sequence, framework, role, origins, launches } => {
                WireToAgent::LaunchGroup(wire::LaunchGroup {
                    sequence: *sequence,
                    framework_id: framework.to_string(),
                    role: role.to_string(),
                    origins: portions::lists(origins),
                    launches: launches.iter().map(wire::Launch::from).collect(),
                })
            }
            ToAgent::Kill { framework, task, grace } => WireToAgent::Kill(wire::KillTasks {
                framework_id: framework.to_string(),
                task_id: task.to_string(),
                grace_micros: grace.map(micros),
            }),
            ToAgent::Trim { framework, batch, from, message } => WireToAgent::Trim(wire::TrimBatch {
                framework_id: framework.to_string(),
                batch_id: batch.to_string(),
                from: *from,
                message: message.to_string(),
            }),
            ToAgent::Preempt { framework, batch, first, count, grace, message } => {
                WireToAgent::Preempt(wire::PreemptTasks {
                    framework_id: framework.to_string(),
                    batch_id: batch.to_string(),
                    first: *first,
                    count: *count,
                    grace_micros: grace.map(micros),
                    message: message.to_string(),
                })
            }
            ToAgent::Acknowledge { framework, incarnation, sequence } => {
                WireToAgent::Acknowledge(wire::AcknowledgeUpdates {
                    framework_id: framework.to_string(),
                    incarnation: incarnation.0,
                    sequence: *sequence,
                })
            }
            ToAgent::Message { framework, task, data } => WireToAgent::MessageToTask(wire::MessageToTask {
                framework_id: framework.to_string(),
                task_id: task.to_string(),
                data: data.to_vec().into(),
            }),
            ToAgent::Remove { framework } => {
                WireToAgent::Remove(wire::RemoveFramework { framework_id: framework.to_string() })
            }
            ToAgent::Volumes(volumes) => WireToAgent::Volumes(volumes.as_slice().into()),
            ToAgent::Ping => WireToAgent::Ping(wire::Ping {}),
        };
        wire::ToAgent { message: Some(message) }
    }
}

impl Decode<wire::ToAgent> for ToAgent {
    fn decode(wire: wire::ToAgent, at: &At<'_>) -> Result<ToAgent, ConvertError> {
        Ok(match wire.message {
            Some(WireToAgent::Registered(wire)) => decode_registered(wire, &at.field("registered"))?,
            Some(WireToAgent::Refused(wire)) => ToAgent::Refused { message: explanation(&wire.message) },
            Some(WireToAgent::Launch(wire)) => decode_launch(wire, &at.field("launch"))?,
            Some(WireToAgent::LaunchGroup(wire)) => decode_group(wire, &at.field("launch_group"))?,
            Some(WireToAgent::Kill(wire)) => {
                let at = at.field("kill");
                ToAgent::Kill {
                    framework: framework(&wire.framework_id, &at)?,
                    task: parsed(&wire.task_id, &at.field("task_id"))?,
                    grace: wire.grace_micros.map(Duration::from_micros),
                }
            }
            Some(WireToAgent::Trim(wire)) => {
                let at = at.field("trim");
                ToAgent::Trim {
                    framework: framework(&wire.framework_id, &at)?,
                    batch: parsed(&wire.batch_id, &at.field("batch_id"))?,
                    from: wire.from,
                    message: explanation(&wire.message),
                }
            }
            Some(WireToAgent::Preempt(wire)) => {
                let at = at.field("preempt");
                ToAgent::Preempt {
                    framework: framework(&wire.framework_id, &at)?,
                    batch: parsed(&wire.batch_id, &at.field("batch_id"))?,
                    first: wire.first,
                    count: wire.count,
                    grace: wire.grace_micros.map(Duration::from_micros),
                    message: explanation(&wire.message),
                }
            }
            Some(WireToAgent::Acknowledge(wire)) => ToAgent::Acknowledge {
                framework: framework(&wire.framework_id, &at.field("acknowledge"))?,
                incarnation: Incarnation(wire.incarnation),
                sequence: wire.sequence,
            },
            Some(WireToAgent::MessageToTask(wire)) => {
                let at = at.field("message_to_task");
                ToAgent::Message {
                    framework: framework(&wire.framework_id, &at)?,
                    task: parsed(&wire.task_id, &at.field("task_id"))?,
                    data: message_bytes(&wire.data, &at.field("data"))?,
                }
            }
            Some(WireToAgent::Remove(wire)) => {
                ToAgent::Remove { framework: framework(&wire.framework_id, &at.field("remove"))? }
            }
            Some(WireToAgent::Volumes(wire)) => ToAgent::Volumes(portions::volumes(wire, &at.field("volumes"))?),
            Some(WireToAgent::Ping(wire::Ping {})) => ToAgent::Ping,
            None => return Err(at.field("message").unknown()),
        })
    }
}

fn decode_registered(wire: wire::Registered, at: &At<'_>) -> Result<ToAgent, ConvertError> {
    read_hello(wire.hello, &at.field("hello"))?;
    Ok(ToAgent::Registered {
        agent: parsed(&wire.agent_id, &at.field("agent_id"))?,
        secret: secret(&wire.secret, &at.field("secret"))?,
        cluster: parsed(&wire.cluster_id, &at.field("cluster_id"))?,
        epoch: Epoch(wire.epoch),
        silence: Duration::from_micros(wire.silence_micros),
    })
}

fn decode_launch(wire: wire::LaunchTasks, at: &At<'_>) -> Result<ToAgent, ConvertError> {
    Ok(ToAgent::Launch {
        sequence: wire.sequence,
        framework: framework(&wire.framework_id, at)?,
        role: parsed(&wire.role, &at.field("role"))?,
        origins: Portions::decode(wire.origins, &at.field("origins"))?,
        launch: decoded(wire.launch, &at.field("launch"))?,
    })
}

fn decode_group(wire: wire::LaunchGroup, at: &At<'_>) -> Result<ToAgent, ConvertError> {
    Ok(ToAgent::LaunchGroup {
        sequence: wire.sequence,
        framework: framework(&wire.framework_id, at)?,
        role: parsed(&wire.role, &at.field("role"))?,
        origins: list(wire.origins, MAX_GROUP_LAUNCHES, &at.field("origins"))?,
        launches: list(wire.launches, MAX_GROUP_LAUNCHES, &at.field("launches"))?,
    })
}
