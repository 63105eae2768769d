//! What is wanted, as operators are told.

use holm_master::{Fit, KeptFor, WaitingDemand, Wanted};
use holm_model::{FrameworkId, Time};
use holm_proto::v1;

/// The reply to a request for demands. `name` tells the names of frameworks.
pub(crate) fn reply(wanted: Wanted, name: impl Fn(FrameworkId) -> String) -> v1::ListDemandsReply {
    let now = wanted.now;
    let summary = |waiting: WaitingDemand| {
        let framework_name = name(waiting.framework);
        summary(waiting, framework_name, now)
    };
    v1::ListDemandsReply {
        demands: wanted.demands.into_iter().map(summary).collect(),
        left_out: wanted.left_out.try_into().unwrap_or(u64::MAX),
    }
}

fn summary(waiting: WaitingDemand, framework_name: String, now: Time) -> v1::DemandSummary {
    let WaitingDemand { framework, role, demand, offered, since, kept, fit } = waiting;
    v1::DemandSummary {
        framework_id: framework.to_string(),
        framework_name,
        role: role.to_string(),
        shape_text: demand.shape.to_string(),
        constraint_texts: demand.constraints.iter().map(ToString::to_string).collect(),
        demand: Some((&demand).into()),
        offered,
        waiting_micros: micros(since, now),
        fit: Some(fit_to_wire(fit)),
        kept: kept.map(|kept| kept_to_wire(&kept, now)),
    }
}

fn fit_to_wire(fit: Fit) -> v1::DemandFit {
    v1::DemandFit {
        now: fit.now,
        busy: fit.busy,
        small: fit.small,
        excluded: fit.excluded,
        bundles_now: fit.bundles_now,
        bundles_ever: fit.bundles_ever,
        short: fit.short.map(|name| name.to_string()).unwrap_or_default(),
    }
}

fn kept_to_wire(kept: &KeptFor, now: Time) -> v1::KeptAgents {
    let agent = |(agent, held): &(holm_model::AgentId, holm_model::Portions)| v1::KeptAgent {
        agent_id: agent.to_string(),
        held: Some((&held.total()).into()),
    };
    v1::KeptAgents {
        agents: kept.agents.iter().map(agent).collect(),
        expected_micros: kept.expected.map(|expected| micros(now, expected)),
        given_up_micros: micros(now, kept.until),
    }
}

fn micros(from: Time, to: Time) -> u64 {
    u64::try_from(to.since(from).as_micros()).unwrap_or(u64::MAX)
}
