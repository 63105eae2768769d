//! What holds after every event, each as a sentence. The simulator checks all of it after each step.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use holm_model::{AgentId, FrameworkId, OfferId, Portions, Role};

use crate::Master;
use crate::agents::AgentState;
use crate::frameworks::FrameworkState;
use crate::master::Peer;
use crate::writes::Then;

/// A sentence that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The sentence.
    pub invariant: &'static str,
    /// Where it does not hold.
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.detail)
    }
}

type Check = fn(&Master) -> Vec<String>;

/// Every sentence with its check.
const CHECKS: &[(&str, Check)] = &[
    ("no illegal step was ever tried", no_illegal_step_was_tried),
    ("the allocator conserves resources", the_allocator_conserves_resources),
    ("what is offered or launched is charged, and nothing else", what_is_out_is_charged),
    ("every live launch holds its slots on an agent that takes part", launches_hold_their_slots),
    ("every offer is of a connected framework and an active agent", offers_have_two_ends),
    ("no offer is of an agent that is held back", no_offer_of_the_held_back),
    ("offers agree with their indices", offers_agree_with_their_indices),
    ("every offer of a gang is one that the gang knows", gangs_agree_with_their_offers),
    ("launches agree with their index and counts", launches_agree_with_their_counts),
    ("no launch and no log is of a framework that is over", nothing_is_left_of_the_completed),
    ("every connection belongs to exactly one peer", connections_agree_with_peers),
    ("whoever waits for a write has one under way", waiting_means_writing),
];

/// Checks everything; empty when all is well.
pub fn check(master: &Master) -> Vec<Violation> {
    let violations = |(invariant, check): &(&'static str, Check)| {
        let invariant = *invariant;
        check(master).into_iter().map(move |detail| Violation { invariant, detail })
    };
    CHECKS.iter().flat_map(violations).collect()
}

fn no_illegal_step_was_tried(master: &Master) -> Vec<String> {
    master.faults.clone()
}

fn the_allocator_conserves_resources(master: &Master) -> Vec<String> {
    let markets = [&master.allocator, &master.lending];
    markets.into_iter().flat_map(|market| market.check()).map(|violation| format!("{violation:?}")).collect()
}

fn what_is_out_is_charged(master: &Master) -> Vec<String> {
    let mut out: BTreeMap<(FrameworkId, Role, AgentId, bool), Portions> = BTreeMap::new();
    let mut wrong = Vec::new();
    let offers = master.offers.out.values();
    let offers = offers.map(|o| ((o.framework, o.role.clone(), o.agent, o.revocable), o.portions.clone()));
    let launches = master.launches.iter().filter(|(_, record)| record.charged > 0);
    let launches = launches.map(|(place, record)| {
        let holder = (place.framework, record.role.clone(), place.agent, record.revocable);
        (holder, record.held_by(record.charged))
    });
    let converting = master.operations.charged();
    let converting = converting.map(|(framework, role, agent, held)| ((framework, role, agent, false), held));
    for (holder, resources) in offers.chain(launches).chain(converting) {
        let (framework, agent) = (holder.0, holder.2);
        let sum = out.entry(holder).or_default();
        match sum.plus(&resources) {
            Ok(total) => *sum = total,
            Err(overlap) => wrong.push(format!("{framework} on {agent}: {overlap}")),
        }
    }
    for ((framework, role, agent, revocable), sum) in &out {
        let market = if *revocable { &master.lending } else { &master.allocator };
        let held = market.held(*framework, role, *agent).unwrap_or_default();
        let kept = market.kept(*framework, role, *agent);
        if sum.plus(&kept).as_ref() != Ok(&held) {
            wrong.push(format!("{framework} in {role} on {agent}: out {sum}, charged {held}"));
        }
    }
    wrong
}

fn launches_hold_their_slots(master: &Master) -> Vec<String> {
    let wrong = master.launches.iter().filter(|(place, record)| {
        let part = master.agents.get(&place.agent).is_some_and(|agent| agent.allocated);
        record.charged != if part { record.slots_needed() } else { 0 }
    });
    wrong.map(|(place, record)| format!("{place:?} has {} slots charged", record.charged)).collect()
}

fn offers_have_two_ends(master: &Master) -> Vec<String> {
    let wrong = master.offers.out.iter().filter(|(_, offer)| {
        let agent = master.agents.get(&offer.agent).is_some_and(|agent| agent.active().is_some());
        let framework = master.frameworks.get(&offer.framework).is_some_and(|f| f.connected().is_some());
        !agent || !framework
    });
    wrong.map(|(id, _)| id.to_string()).collect()
}

fn no_offer_of_the_held_back(master: &Master) -> Vec<String> {
    let held_back = |agent| master.agents.get(agent).is_some_and(|agent| agent.condition.held_back.is_some());
    let wrong = master.offers.out.iter().filter(|(_, offer)| held_back(&offer.agent));
    wrong.map(|(id, offer)| format!("{id} of {}", offer.agent)).collect()
}

fn offers_agree_with_their_indices(master: &Master) -> Vec<String> {
    let all: BTreeSet<OfferId> = master.offers.out.keys().copied().collect();
    let by_agent: BTreeSet<OfferId> = master.offers.by_agent.values().flatten().copied().collect();
    let by_framework: BTreeSet<OfferId> = master.frameworks.values().flat_map(|f| f.offers.iter().copied()).collect();
    let differing = all.symmetric_difference(&by_agent).chain(all.symmetric_difference(&by_framework));
    differing.map(ToString::to_string).collect()
}

fn gangs_agree_with_their_offers(master: &Master) -> Vec<String> {
    let known: BTreeSet<_> = master.gangs.offers().collect();
    let out = master.offers.out.iter().filter_map(|(id, offer)| Some((offer.gang?, *id)));
    let out: BTreeSet<_> = out.collect();
    known.symmetric_difference(&out).map(|(gang, offer)| format!("{offer} of {gang}")).collect()
}

fn launches_agree_with_their_counts(master: &Master) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut live: BTreeMap<FrameworkId, u64> = BTreeMap::new();
    for (place, record) in master.launches.iter() {
        *live.entry(place.framework).or_default() += u64::from(record.live);
        let ranges = record.ranges_where(|status| !status.state.is_terminal());
        let counted: u32 = ranges.iter().map(|range| range.end - range.start).sum();
        if counted != record.live {
            wrong.push(format!("{place:?} counts {} live tasks of {counted}", record.live));
        }
    }
    for framework in master.frameworks.values() {
        let counted = live.get(&framework.id).copied().unwrap_or(0);
        if counted != framework.live_tasks {
            wrong.push(format!("{} counts {} live tasks of {counted}", framework.id, framework.live_tasks));
        }
    }
    let recorded: BTreeSet<_> = master.launches.iter().map(|(place, _)| place).collect();
    let indexed: BTreeSet<_> = master.launches.indexed().collect();
    wrong.extend(recorded.symmetric_difference(&indexed).map(|place| format!("{place:?} is in one index only")));
    wrong
}

fn nothing_is_left_of_the_completed(master: &Master) -> Vec<String> {
    let over = |id: &FrameworkId| !master.framework_is_live(*id);
    let launches = master.launches.iter().map(|(place, _)| place.framework).filter(over);
    let logs = master.logs.iter().map(|(framework, ..)| framework).filter(over);
    launches.chain(logs).map(|id| id.to_string()).collect()
}

fn connections_agree_with_peers(master: &Master) -> Vec<String> {
    let agents = master.agents.values().filter_map(|agent| Some((agent.session()?, Peer::Agent(agent.id))));
    let frameworks = master.frameworks.values().filter_map(|f| Some((f.session()?, Peer::Framework(f.id))));
    let peers: BTreeMap<_, _> = agents.chain(frameworks).collect();
    if peers == master.sessions { Vec::new() } else { vec![format!("{peers:?} against {:?}", master.sessions)] }
}

fn waiting_means_writing(master: &Master) -> Vec<String> {
    let agents = master.agents.values().filter_map(|agent| match agent.state {
        AgentState::Registering { .. } => Some(Then::AdmitAgent(agent.id)),
        AgentState::Departing(_) => Some(Then::GiveUpAgent(agent.id)),
        _ => None,
    });
    let frameworks = master.frameworks.values().filter_map(|framework| match framework.state {
        FrameworkState::Registering { .. } => Some(Then::AdmitFramework(framework.id)),
        FrameworkState::Completing(_) => Some(Then::CompleteFramework(framework.id)),
        _ => None,
    });
    let operations = master.operations.writing().map(Then::Operations);
    agents
        .chain(frameworks)
        .chain(operations)
        .filter(|then| !master.writes.waits(*then))
        .map(|then| format!("{then:?}"))
        .collect()
}
