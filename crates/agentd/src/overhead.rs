//! What runners use: how much memory they and the agent take beyond what tasks declared, and for an agent that lends, what each
//! runner takes of the machine.

use std::collections::HashMap;
use std::sync::Arc;

use holm_agent::{Measured, RunnerUse};
use holm_model::RunnerId;

use crate::machine::available_memory;
use crate::process::{ProcessHandle, memory_of};

/// What is beyond the tasks: all of the agent's own memory, and of each runner's what the `mem` of its tasks does not
/// explain. What one runner's tasks leave of theirs excuses no other runner, since they may take it at any time.
pub(crate) fn measure(runners: &[(RunnerId, Arc<ProcessHandle>)], declared: &HashMap<RunnerId, u64>) -> u64 {
    let beyond = |(runner, process): &(RunnerId, Arc<ProcessHandle>)| {
        // One that has ended takes nothing.
        let memory = process.memory().unwrap_or(0);
        memory.saturating_sub(declared.get(runner).copied().unwrap_or(0))
    };
    memory_of("self").unwrap_or(0) + runners.iter().map(beyond).sum::<u64>()
}

/// What each runner uses, and what memory is left; none where the machine does not say.
pub(crate) fn measure_each(runners: &[(RunnerId, Arc<ProcessHandle>)], hungry: &[RunnerId]) -> Option<Measured> {
    let each = |(runner, process): &(RunnerId, Arc<ProcessHandle>)| {
        let (cpu, memory) = (process.cpu()?, process.memory()?);
        Some((*runner, RunnerUse { cpu, memory, hungry: hungry.contains(runner) }))
    };
    Some(Measured { runners: runners.iter().filter_map(each).collect(), available: available_memory()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tasks_declared_is_taken_off_their_runner_only() {
        let own = memory_of("self").unwrap();
        let mut child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        let process = || Arc::new(ProcessHandle::of_child(child.id()).unwrap());
        let runners = [(RunnerId(1), process()), (RunnerId(2), process())];
        let of_child = runners[0].1.memory().unwrap();
        let nothing_declared = measure(&runners, &HashMap::new());
        assert!(nothing_declared >= own / 2 + 2 * of_child);
        // More than enough for one says nothing of the other.
        let declared = HashMap::from([(RunnerId(1), 1 << 40)]);
        let one_declared = measure(&runners, &declared);
        assert!((own / 2 + of_child..nothing_declared + of_child).contains(&one_declared));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(runners[0].1.memory(), None);
    }
}
