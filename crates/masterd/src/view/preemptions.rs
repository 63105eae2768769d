//! What was asked back or taken, for whom and by which rule: kept for audits.

use std::collections::BTreeMap;

use holm_master::{PreemptionRule, PreemptionView};
use holm_model::InverseOfferId;
use holm_proto::v1;

/// How many preemptions are remembered; the oldest go first.
pub(crate) const KEPT_PREEMPTIONS: usize = 1000;

/// One preemption, and when it came about.
#[derive(Debug)]
struct Entry {
    view: PreemptionView,
    /// In microseconds of Unix time.
    asked_at: u64,
    /// Likewise.
    phase_at: u64,
}

/// The latest preemptions, by inverse offer.
#[derive(Debug, Default)]
pub(crate) struct Preemptions(BTreeMap<InverseOfferId, Entry>);

impl Preemptions {
    /// One has come further; `now` is in microseconds of Unix time.
    pub(crate) fn change(&mut self, view: PreemptionView, now: u64) {
        let asked_at = self.0.get(&view.id).map_or(now, |entry| entry.asked_at);
        self.0.insert(view.id, Entry { view, asked_at, phase_at: now });
        if self.0.len() > KEPT_PREEMPTIONS {
            self.0.pop_first();
        }
    }

    /// The newest, at most `limit` of them; zero is all.
    pub(crate) fn list(&self, limit: u32) -> v1::ListPreemptionsReply {
        let most = if limit == 0 { KEPT_PREEMPTIONS } else { limit as usize };
        v1::ListPreemptionsReply { preemptions: self.0.values().rev().take(most).map(summary).collect() }
    }
}

fn summary(entry: &Entry) -> v1::PreemptionSummary {
    let Entry { view, asked_at, phase_at } = entry;
    let guarantee_of = match &view.rule {
        PreemptionRule::Guarantee(role) => role.to_string(),
        PreemptionRule::Priority | PreemptionRule::Share => String::new(),
    };
    v1::PreemptionSummary {
        id: view.id.to_string(),
        framework_id: view.framework.to_string(),
        role: view.role.to_string(),
        agent_id: view.agent.map(|agent| agent.to_string()).unwrap_or_default(),
        resources_text: view.resources.to_string(),
        tasks: view.tasks.iter().map(v1::TaskSpan::from).collect(),
        for_framework_id: view.for_framework.to_string(),
        for_role: view.for_role.to_string(),
        rule: view.rule.as_str().to_owned(),
        guarantee_of,
        phase: view.phase.as_str().to_owned(),
        asked_unix_micros: *asked_at,
        phase_unix_micros: *phase_at,
    }
}

#[cfg(test)]
mod tests {
    use holm_master::PreemptionPhase;
    use holm_model::{Epoch, FrameworkId};

    use super::*;

    fn view(number: u64, phase: PreemptionPhase) -> PreemptionView {
        PreemptionView {
            id: InverseOfferId::new(Epoch(1), number),
            framework: FrameworkId::new(Epoch(1), 1),
            role: "eng".parse().unwrap(),
            agent: None,
            resources: "cpus:1".parse().unwrap(),
            tasks: Vec::new(),
            for_framework: FrameworkId::new(Epoch(1), 2),
            for_role: "ops".parse().unwrap(),
            rule: PreemptionRule::Guarantee("ops".parse().unwrap()),
            phase,
        }
    }

    #[test]
    fn the_latest_phase_counts_and_the_first_time_stays() {
        let mut kept = Preemptions::default();
        kept.change(view(1, PreemptionPhase::Asked), 10);
        kept.change(view(2, PreemptionPhase::Asked), 11);
        kept.change(view(1, PreemptionPhase::Taken), 70);
        let listed = kept.list(0).preemptions;
        let shown: Vec<_> = listed.iter().map(|one| (&*one.id, &*one.phase, one.asked_unix_micros)).collect();
        assert_eq!(shown, [("inverse-1-2", "asked", 11), ("inverse-1-1", "taken", 10)]);
        assert_eq!((&*listed[1].guarantee_of, listed[1].phase_unix_micros), ("ops", 70));
        assert_eq!(kept.list(1).preemptions.len(), 1);
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let mut kept = Preemptions::default();
        for number in 0..KEPT_PREEMPTIONS as u64 + 5 {
            kept.change(view(number, PreemptionPhase::Asked), number);
        }
        assert_eq!(kept.list(0).preemptions.len(), KEPT_PREEMPTIONS);
        assert_eq!(kept.list(0).preemptions.last().unwrap().id, "inverse-1-5");
    }
}
