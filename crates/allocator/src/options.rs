//! What an operator may set.

use std::collections::BTreeSet;
use std::time::Duration;

use holm_model::{ResourceName, Resources};

/// How the allocator behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// What is free on an agent is offered only when it contains at least one of these bundles of scalars; an empty list
    /// offers anything. The default is 0.01 `cpus` or 32 MiB of `mem`: less is of no use to a task, and offering it costs
    /// as much.
    pub minimum: Vec<Resources>,
    /// Scalar resources that do not count in shares. For scarce extras such as `gpus`, which would otherwise make their
    /// few users look greedy.
    pub excluded: BTreeSet<ResourceName>,
    /// Where the draws of random placement start.
    pub seed: u64,
    /// How long a demand waits that fits nowhere before agents are kept for it; doubled every time that comes to nothing.
    pub reserve_after: Duration,
    /// How long agents are kept, unless they are expected to be free later.
    pub reserve_timeout: Duration,
    /// How much of the cluster is kept at most, in thousandths; a single reservation may be larger.
    pub reserve_cap: u32,
}

impl Default for Options {
    fn default() -> Options {
        let only = |name, raw| Resources::scalars([(name, raw)]);
        Options {
            minimum: vec![only(ResourceName::Cpus, 10), only(ResourceName::Mem, 32 << 20)],
            excluded: BTreeSet::new(),
            seed: 0,
            reserve_after: Duration::from_secs(30),
            reserve_timeout: Duration::from_secs(300),
            reserve_cap: 100,
        }
    }
}
