//! Volumes: the master says which there are, the agent remembers it, launches find theirs.

use std::sync::Arc;

use holm_model::{Origin, Reason, TaskState, Volume, VolumeMount, WorkId};

use crate::agent::Agent;
use crate::event::{AgentEffect, PrepareError};
use crate::record::Record;
use crate::work::Work;

impl Agent {
    /// The master has said which volumes there are. Those that tasks still use stay, whatever the master believes, until it
    /// says so again.
    pub(crate) fn told_volumes(&mut self, mut told: Vec<Volume>) {
        told.sort();
        let unchanged = self.durable.volumes.values().eq(told.iter());
        let in_use: Vec<Volume> = self
            .durable
            .works
            .values()
            .filter(|work| work.live > 0)
            .flat_map(|work| self.volumes_for(work).unwrap_or_default())
            .filter(|volume| told.iter().all(|other| other.serial != volume.serial))
            .collect();
        let mut volumes = told;
        volumes.extend(in_use);
        volumes.sort();
        volumes.dedup();
        if !unchanged {
            self.commit(Record::Volumes(volumes.clone()));
            self.out.sync();
        }
        self.out.push(AgentEffect::Volumes(volumes));
    }

    /// The volumes that a launch mounts, in the order in which it names them.
    pub(crate) fn volumes_for(&self, work: &Work) -> Result<Vec<Volume>, PrepareError> {
        let found = |mount: &VolumeMount| {
            let held = work.origins.iter().find_map(|(origin, _)| match origin {
                Origin::Volume(id, by) if *id == mount.id => Some(by.role()),
                _ => None,
            });
            let volume = held.and_then(|role| {
                self.durable.volumes.values().find(|volume| volume.id == mount.id && volume.role == *role)
            });
            volume.cloned().ok_or_else(|| missing(mount))
        };
        work.launch.spec.volumes.iter().map(found).collect()
    }

    /// The volumes that the only launch of a runner mounts, each with whether it is for writing.
    pub fn volumes_of(&self, work: WorkId) -> Vec<(Volume, bool)> {
        let Some(work) = self.durable.works.get(&work) else { return Vec::new() };
        let writable = work.launch.spec.volumes.iter().map(|mount| !mount.read_only);
        self.volumes_for(work).unwrap_or_default().into_iter().zip(writable).collect()
    }

    /// All volumes.
    pub fn volumes(&self) -> impl Iterator<Item = &Volume> {
        self.durable.volumes.values()
    }
}

fn missing(mount: &VolumeMount) -> PrepareError {
    let message: Arc<str> = format!("volume {} is not on this agent, or not held by the launch", mount.id).into();
    PrepareError { state: TaskState::Failed, reason: Reason::Sandbox, message }
}
