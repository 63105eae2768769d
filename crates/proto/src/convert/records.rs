//! The records of a master's registry.

use bytes::Bytes;
use holm_model::{AgentRecord, Capabilities, ClusterRecord, Epoch, FrameworkRecord, SecretHash};

use super::error::At;
use super::field::{hello, parsed, read_software, required};
use super::offer::{agent_info, framework_info};
use super::{ConvertError, Decode};
use crate::v1 as wire;

impl From<&ClusterRecord> for wire::ClusterRecord {
    fn from(record: &ClusterRecord) -> wire::ClusterRecord {
        wire::ClusterRecord { cluster_id: record.cluster.to_string(), epoch: record.epoch.0 }
    }
}

impl Decode<wire::ClusterRecord> for ClusterRecord {
    fn decode(wire: wire::ClusterRecord, at: &At<'_>) -> Result<ClusterRecord, ConvertError> {
        Ok(ClusterRecord { cluster: parsed(&wire.cluster_id, &at.field("cluster_id"))?, epoch: Epoch(wire.epoch) })
    }
}

impl From<&AgentRecord> for wire::AgentRecord {
    fn from(record: &AgentRecord) -> wire::AgentRecord {
        wire::AgentRecord {
            id: record.id.to_string(),
            secret_hash: record.secret.0.to_vec().into(),
            info: Some((&record.info).into()),
            hello: Some(hello(&record.info.version, &record.info.capabilities)),
            unreachable: record.unreachable,
        }
    }
}

impl Decode<wire::AgentRecord> for AgentRecord {
    fn decode(wire: wire::AgentRecord, at: &At<'_>) -> Result<AgentRecord, ConvertError> {
        let software = read_software(wire.hello.unwrap_or_default(), &at.field("hello"))?;
        let info = required(wire.info, &at.field("info"))?;
        Ok(AgentRecord {
            id: parsed(&wire.id, &at.field("id"))?,
            secret: secret_hash(&wire.secret_hash, &at.field("secret_hash"))?,
            info: agent_info(info, software, &at.field("info"))?,
            unreachable: wire.unreachable,
        })
    }
}

impl From<&FrameworkRecord> for wire::FrameworkRecord {
    fn from(record: &FrameworkRecord) -> wire::FrameworkRecord {
        wire::FrameworkRecord {
            id: record.id.to_string(),
            secret_hash: record.secret.0.to_vec().into(),
            info: Some((&record.info).into()),
            hello: Some(hello("", &record.info.capabilities)),
            completed: record.completed,
        }
    }
}

impl Decode<wire::FrameworkRecord> for FrameworkRecord {
    fn decode(wire: wire::FrameworkRecord, at: &At<'_>) -> Result<FrameworkRecord, ConvertError> {
        let (_, capabilities): (_, Capabilities) = read_software(wire.hello.unwrap_or_default(), &at.field("hello"))?;
        let info = required(wire.info, &at.field("info"))?;
        Ok(FrameworkRecord {
            id: parsed(&wire.id, &at.field("id"))?,
            secret: secret_hash(&wire.secret_hash, &at.field("secret_hash"))?,
            info: framework_info(info, capabilities, &at.field("info"))?,
            completed: wire.completed,
        })
    }
}

fn secret_hash(bytes: &Bytes, at: &At<'_>) -> Result<SecretHash, ConvertError> {
    let hash = <[u8; 32]>::try_from(&bytes[..]);
    hash.map(SecretHash).map_err(|_| at.invalid(format_args!("{} bytes; a hash has 32", bytes.len())))
}
