//! From the SDK's types to the world's.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use holm_model::{
    Call, Constraint, Demand, FrameworkInfo, Launch, ListenOn, Metering, NetworkGrants, Placement, Quantity, Resources,
    Role, RoleOptions, ServiceSpec, Subject, TaskKind, TaskRange, TaskSpan, TaskSpec, Test,
};

use super::wit;
use crate::Intent;

pub(super) fn info(info: &FrameworkInfo) -> wit::FrameworkInfo {
    wit::FrameworkInfo {
        name: info.name.to_string(),
        roles: info.roles.iter().map(ToString::to_string).collect(),
        failover_timeout: micros(info.failover_timeout),
        labels: pairs(&info.labels),
        role_options: role_options(&info.role_options),
        revocable: info.is_revocable(),
    }
}

/// The call, unless it is one that a scheduler has no business to make.
pub(super) fn call(intent: Intent) -> Option<wit::Call> {
    Some(match intent {
        Intent::Call(Call::Accept { offers, launches, refusal }) => wit::Call::Accept(wit::Accept {
            offers: texts(&offers),
            launches: launches.iter().map(launch).collect(),
            refuse: Some(micros(refusal.duration())),
        }),
        Intent::Call(Call::LaunchGroup { offers, launches, refusal }) => wit::Call::LaunchGroup(wit::Group {
            offers: texts(&offers),
            launches: launches.iter().map(launch).collect(),
            refuse: Some(micros(refusal.duration())),
        }),
        Intent::Call(Call::Decline { offers, refusal }) => {
            wit::Call::Decline(wit::Decline { offers: texts(&offers), refuse: Some(micros(refusal.duration())) })
        }
        Intent::Call(Call::Suppress { roles }) => wit::Call::Suppress(texts(&roles)),
        Intent::Call(Call::Revive { roles }) => wit::Call::Revive(texts(&roles)),
        Intent::Call(Call::Demand { role, demands }) => wit::Call::Demand(wit::RoleDemands {
            role: role.to_string(),
            demands: demands.iter().map(demand).collect(),
        }),
        Intent::Call(Call::SetRoleOptions { options }) => wit::Call::SetRoleOptions(role_options(&options)),
        Intent::Call(Call::Kill { task, grace }) => {
            wit::Call::Kill(wit::Kill { task: task.to_string(), grace: grace.map(micros) })
        }
        Intent::Call(Call::Message { agent, task, data }) => wit::Call::Message(wit::TaskMessage {
            agent: agent.to_string(),
            task: task.to_string(),
            data: data.to_vec(),
        }),
        Intent::Call(Call::AcceptInverse { offer, tasks, grace }) => wit::Call::AcceptInverse(wit::AcceptInverse {
            offer: offer.to_string(),
            tasks: tasks.iter().map(span).collect(),
            grace: grace.map(micros),
        }),
        Intent::Call(Call::DeclineInverse { offers }) => wit::Call::DeclineInverse(texts(&offers)),
        Intent::Call(Call::Teardown) => wit::Call::Finish(wit::Finish { code: 0, report: Vec::new() }),
        // The world has no word for operations yet.
        Intent::Call(Call::Operate { .. } | Call::Acknowledge { .. }) | Intent::Refuse { .. } => return None,
        Intent::SetTimer { token, after } => wit::Call::SetTimer(wit::Timer { token, after: micros(after) }),
        Intent::Finish { code, report } => wit::Call::Finish(wit::Finish { code, report }),
        Intent::Abort { message } => wit::Call::Abort(message),
    })
}

fn role_options(options: &BTreeMap<Role, RoleOptions>) -> Vec<wit::RoleOptions> {
    let lower = |(role, options): (&Role, &RoleOptions)| wit::RoleOptions {
        role: role.to_string(),
        constraints: options.constraints.iter().map(constraint).collect(),
        minimum: resources(&options.minimum),
        placement: match options.placement {
            Placement::Spread => wit::Placement::Spread,
            Placement::Pack => wit::Placement::Pack,
            Placement::Random => wit::Placement::Random,
        },
        by_demand: options.by_demand,
        optimistic: options.optimistic,
    };
    options.iter().map(lower).collect()
}

fn constraint(constraint: &Constraint) -> wit::Constraint {
    wit::Constraint {
        subject: match &constraint.subject {
            Subject::Hostname => wit::ConstraintSubject::Hostname,
            Subject::Attribute(name) => wit::ConstraintSubject::Attribute(name.to_string()),
        },
        test: match &constraint.test {
            Test::Exists => wit::ConstraintTest::Exists,
            Test::NotExists => wit::ConstraintTest::NotExists,
            Test::Equals(value) => wit::ConstraintTest::Equals(value.to_string()),
            Test::NotEquals(value) => wit::ConstraintTest::NotEquals(value.to_string()),
            Test::Matches(pattern) => wit::ConstraintTest::Matches(pattern.to_string()),
            Test::NotMatches(pattern) => wit::ConstraintTest::NotMatches(pattern.to_string()),
        },
    }
}

fn demand(demand: &Demand) -> wit::Demand {
    wit::Demand {
        id: demand.id.to_string(),
        shape: resources(&demand.shape),
        ports: demand.ports,
        constraints: demand.constraints.iter().map(constraint).collect(),
        count: demand.count,
        minimum: demand.minimum,
        gang: demand.gang,
        priority: demand.priority,
        revocable_ok: demand.revocable_ok,
        max_duration: demand.max_duration.map(micros),
    }
}

fn range(tasks: TaskRange) -> wit::TaskRange {
    match tasks {
        TaskRange::Single => wit::TaskRange::Single,
        TaskRange::Array { first, count } => wit::TaskRange::Array(wit::IndexRange { first, count }),
    }
}

fn span(span: &TaskSpan) -> wit::TaskSpan {
    wit::TaskSpan { launch: span.batch.to_string(), tasks: range(span.tasks) }
}

fn launch(launch: &Launch) -> wit::Launch {
    let tasks = range(launch.tasks);
    wit::Launch { id: launch.id.to_string(), tasks, slots: launch.slots, template: template(&launch.spec) }
}

fn template(spec: &TaskSpec) -> wit::TaskTemplate {
    let file =
        |file: &holm_model::InputFile| wit::InputFile { digest: file.digest.to_string(), path: file.path.to_string() };
    let directory = |grant: &holm_model::DirectoryGrant| wit::DirectoryGrant {
        host: grant.host.to_string(),
        guest: grant.guest.to_string(),
        writable: grant.writable,
    };
    wit::TaskTemplate {
        kind: match spec.kind {
            TaskKind::Command => wit::TaskKind::Command,
            TaskKind::Service => wit::TaskKind::Service,
            TaskKind::Executor => wit::TaskKind::Executor,
            TaskKind::Executed => wit::TaskKind::Executed,
        },
        module: spec.module.to_string(),
        executed: spec
            .executed
            .as_ref()
            .map(|executed| wit::Executed { executor: executed.executor.to_string(), data: executed.data.to_vec() }),
        args: texts(&spec.args),
        env: pairs(&spec.env),
        files: spec.files.iter().map(file).collect(),
        directories: spec.directories.iter().map(directory).collect(),
        resources: resources(&spec.resources),
        limits: wit::Limits {
            fuel: spec.limits.fuel,
            deadline: spec.limits.deadline.map(micros),
            output_bytes: spec.limits.output_bytes,
            cpus: spec.limits.cpus.map(|amount| amount.0),
        },
        metering: match spec.metering {
            Metering::FuelAndEpochs => wit::Metering::FuelAndEpochs,
            Metering::Epochs => wit::Metering::Epochs,
        },
        seed: spec.seed,
        labels: pairs(&spec.labels),
        network: network(&spec.network),
        service: spec.service.as_ref().map(service),
        revocable: spec.revocable,
    }
}

fn network(grants: &NetworkGrants) -> wit::NetworkGrants {
    wit::NetworkGrants {
        outbound: texts(&grants.outbound),
        listen: grants.listen.map(|on| match on {
            ListenOn::Loopback => wit::ListenOn::Loopback,
            ListenOn::Agent => wit::ListenOn::Agent,
        }),
    }
}

fn service(service: &ServiceSpec) -> wit::ServiceSpec {
    wit::ServiceSpec {
        port: service.port,
        concurrency: service.concurrency,
        request_time: micros(service.request_time),
        request_fuel: service.request_fuel,
        request_bytes: service.request_bytes,
        max_failures: service.max_failures,
    }
}

fn resources(resources: &Resources) -> Vec<wit::Resource> {
    let lower = |(name, quantity): (&holm_model::ResourceName, &Quantity)| {
        let quantity = match quantity {
            Quantity::Scalar(amount) => wit::Quantity::Scalar(amount.0),
            Quantity::Ranges(ranges) => {
                wit::Quantity::Ranges(ranges.iter().map(|(first, last)| wit::Span { first, last }).collect())
            }
            Quantity::Set(items) => wit::Quantity::Items(items.iter().map(|item| item.to_string()).collect()),
        };
        wit::Resource { name: name.to_string(), quantity }
    };
    resources.iter().map(lower).collect()
}

fn texts<T: ToString>(values: &[T]) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}

fn pairs(map: &BTreeMap<Arc<str>, Arc<str>>) -> Vec<(String, String)> {
    map.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
