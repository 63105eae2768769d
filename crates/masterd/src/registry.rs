//! The registry's keys: `agents/<id>`, `frameworks/<id>`, `reservations/<agent id>` and `roles/<path>`, one record each.

use std::sync::Arc;

use holm_coordination::{Coordination, KeyOp, Leadership, StoreError};
use holm_master::{Registry, RegistryOp};
use holm_model::{AgentRecord, ClusterRecord, FrameworkRecord, ReservationRecord, RoleRecord};
use holm_proto::record::{RecordError, Stored};

const AGENTS: &str = "agents/";
const FRAMEWORKS: &str = "frameworks/";
const RESERVATIONS: &str = "reservations/";
const ROLES: &str = "roles/";

/// Why the registry could not be read.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A record is damaged or was written by a build that this one does not understand.
    #[error("the registry's record {key} cannot be read")]
    Record {
        /// Its key.
        key: String,
        /// What is wrong with it.
        #[source]
        source: RecordError,
    },
}

/// The change of one key that carries out `op`.
pub(crate) fn key_op(op: &RegistryOp) -> KeyOp {
    match op {
        RegistryOp::PutAgent(record) => KeyOp::put(format!("{AGENTS}{}", record.id), record.to_bytes()),
        RegistryOp::RemoveAgent(id) => KeyOp::remove(format!("{AGENTS}{id}")),
        RegistryOp::PutReservations(record) => KeyOp::put(format!("{RESERVATIONS}{}", record.agent), record.to_bytes()),
        RegistryOp::RemoveReservations(id) => KeyOp::remove(format!("{RESERVATIONS}{id}")),
        RegistryOp::PutFramework(record) => KeyOp::put(format!("{FRAMEWORKS}{}", record.id), record.to_bytes()),
        RegistryOp::RemoveFramework(id) => KeyOp::remove(format!("{FRAMEWORKS}{id}")),
        RegistryOp::PutRole(record) => KeyOp::put(format!("{ROLES}{}", record.role), record.to_bytes()),
        RegistryOp::RemoveRole(role) => KeyOp::remove(format!("{ROLES}{role}")),
    }
}

/// Everything that the registry holds.
pub(crate) async fn load(store: &Arc<dyn Coordination>, reign: Leadership) -> Result<Registry, RegistryError> {
    let mut registry = Registry::new(ClusterRecord { cluster: reign.cluster, epoch: reign.epoch });
    for (key, bytes) in store.snapshot(AGENTS).await? {
        let record = AgentRecord::from_bytes(&bytes).map_err(|source| RegistryError::Record { key, source })?;
        registry.agents.insert(record.id, record);
    }
    for (key, bytes) in store.snapshot(FRAMEWORKS).await? {
        let record = FrameworkRecord::from_bytes(&bytes).map_err(|source| RegistryError::Record { key, source })?;
        registry.frameworks.insert(record.id, record);
    }
    for (key, bytes) in store.snapshot(RESERVATIONS).await? {
        let record = ReservationRecord::from_bytes(&bytes).map_err(|source| RegistryError::Record { key, source })?;
        registry.reservations.insert(record.agent, record);
    }
    for (key, bytes) in store.snapshot(ROLES).await? {
        let record = RoleRecord::from_bytes(&bytes).map_err(|source| RegistryError::Record { key, source })?;
        registry.roles.insert(record.role.clone(), record);
    }
    Ok(registry)
}
