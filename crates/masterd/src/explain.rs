//! Explanations in the words of the operator service.

use holm_master::{About, Answer, Cause, ClassReasons, Exclusion, Explained, Explanation, Question, Standing, Waiting};
use holm_model::DemandId;
use holm_proto::{resources, v1};
use tonic::Status;

use crate::roles;
use crate::view::State;
use crate::view::query::{parse, view_of};

/// The question that a call asks.
pub(crate) fn read_question(request: v1::ExplainRequest) -> Result<Question, Status> {
    use v1::explain_request::Subject as Wire;
    let required = |field: &str| Status::invalid_argument(format!("{field} is missing"));
    let subject = match request.subject.ok_or_else(|| required("subject"))? {
        Wire::Role(role) => About::Role(parse("role", &role)?.ok_or_else(|| required("role"))?),
        Wire::FrameworkId(id) => About::Framework(parse("framework_id", &id)?.ok_or_else(|| required("framework_id"))?),
        Wire::Demand(v1::DemandName { framework_id, demand_id }) => {
            let demand: Option<DemandId> = parse("demand.demand_id", &demand_id)?;
            About::Demand {
                framework: parse("demand.framework_id", &framework_id)?
                    .ok_or_else(|| required("demand.framework_id"))?,
                demand: demand.ok_or_else(|| required("demand.demand_id"))?,
            }
        }
    };
    let need = resources::from_wire(request.need).map_err(Status::from)?;
    Ok(Question { subject, agent: parse("agent_id", &request.agent_id)?, need })
}

/// What a question came to.
pub(crate) fn reply(answer: Answer, state: &State) -> Result<v1::ExplainReply, Status> {
    let Answer::Explained(explanation) = answer else {
        return Err(Status::internal("the master answered something else than was asked"));
    };
    let Explanation { roles: standings, waiting, more, agents } = *explanation;
    let summary = |standing: &Standing| roles::summary(standing, &[], std::iter::empty());
    Ok(v1::ExplainReply {
        roles: standings.iter().map(summary).collect(),
        waiting: waiting.iter().map(|waiting| self::waiting(waiting, &standings, state)).collect(),
        more: more as u64,
        agents: agents as u64,
    })
}

fn waiting(waiting: &Waiting, standings: &[Standing], state: &State) -> v1::Waiting {
    let Waiting { framework, role, demand, least, offers, judged, explained } = waiting;
    let Explained { everywhere, classes, more_classes } = explained;
    let standing = standings.iter().find(|standing| standing.role == *role);
    let own = standing.and_then(|standing| standing.frameworks.iter().find(|own| own.framework == *framework));
    let ppm = |ppm: u64| u32::try_from(ppm).unwrap_or(u32::MAX);
    let name = state.frameworks.get(framework).map(|entry| entry.view.info.name.to_string());
    v1::Waiting {
        framework_id: framework.to_string(),
        framework_name: name.unwrap_or_default(),
        role: role.to_string(),
        demand_id: demand.as_ref().map(DemandId::to_string).unwrap_or_default(),
        least: view_of(least),
        offers: *offers as u64,
        judged: *judged as u64,
        everywhere: everywhere.as_ref().map(cause),
        classes: classes.iter().map(class).collect(),
        more_agents: *more_classes as u64,
        dominant_share_ppm: own.and_then(|own| own.dominant.as_ref()).map_or(0, |dominant| ppm(dominant.ppm())),
        deserved_share_ppm: own.map_or(0, |own| ppm(own.deserved_ppm)),
    }
}

fn class(class: &ClassReasons) -> v1::WaitClass {
    let reason = |Exclusion { cause: why, agents, example }: &Exclusion| v1::WaitReason {
        cause: Some(cause(why)),
        agents: *agents as u64,
        example_agent_id: example.to_string(),
    };
    v1::WaitClass {
        attributes: class.attributes.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
        agents: class.agents as u64,
        reasons: class.reasons.iter().map(reason).collect(),
    }
}

fn cause(cause: &Cause) -> v1::WaitCause {
    let (short, bound) = (cause.short(), cause.bound());
    let resource = short.map(|short| &short.resource).or_else(|| bound.map(|bound| &bound.resource));
    v1::WaitCause {
        kind: cause.name().to_owned(),
        text: cause.to_string(),
        resource: resource.map(ToString::to_string).unwrap_or_default(),
        short_by: short.map_or(0, |short| short.by().0),
        role: bound.map(|bound| bound.role.to_string()).unwrap_or_default(),
    }
}
