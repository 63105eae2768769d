//! Revocable resources: what an agent's tasks hold and do not use, lent on condition that it can be taken back.

use holm_model::{AgentId, ResourceName, Resources};

use crate::Master;

impl Master {
    /// What an agent has to lend, from now on. Anything but `cpus` and `mem` of it is ignored: nothing else can be taken back
    /// without harm.
    pub(crate) fn revocable_estimate(&mut self, id: AgentId, estimate: Resources) {
        let Some(agent) = self.agents.get_mut(&id) else { return };
        agent.revocable = lendable(&estimate);
        self.touched(id);
    }
}

fn lendable(estimate: &Resources) -> Resources {
    let names = [ResourceName::Cpus, ResourceName::Mem];
    Resources::scalars(names.map(|name| (name.clone(), estimate.scalar(&name).0)))
}
