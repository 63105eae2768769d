//! From the world's types to the SDK's. A component may send anything: what makes no sense is refused by an error event that
//! names it, and harms nothing else.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use holm_model::{
    Amount, Call, Digest, DirectoryGrant, Executed, FrameworkInfo, InputFile, Launch, Limits, ListenOn, Metering,
    NetworkGrants, OfferId, Quantity, Ranges, Refusal, ResourceName, Resources, Role, RoleOptions, ServiceSpec,
    TaskKind, TaskRange, TaskSpan, TaskSpec,
};
use holm_sdk::Intent;

use crate::bindings::wit;

mod demand;

/// How the framework registers; `roles` take the place of its own.
pub(crate) fn info(info: wit::FrameworkInfo, roles: Vec<Role>) -> Result<FrameworkInfo, String> {
    let (roles, role_options) = if roles.is_empty() {
        (list("roles", &info.roles)?, demand::role_options(info.role_options)?)
    } else {
        let first = info.role_options.into_iter().next().map(demand::options).transpose()?;
        let for_all = |options| roles.iter().cloned().map(|role| (role, RoleOptions::clone(&options))).collect();
        let options = first.map(for_all).unwrap_or_default();
        (roles, options)
    };
    let info = FrameworkInfo {
        roles,
        role_options,
        name: info.name.into(),
        failover_timeout: Duration::from_micros(info.failover_timeout),
        capabilities: info.revocable.then(|| FrameworkInfo::REVOCABLE.into()).into_iter().collect(),
        labels: map("labels", info.labels)?,
    };
    info.validate().map_err(|error| error.to_string())?;
    Ok(info)
}

/// What a call comes to: itself, and refusals of what in it makes no sense.
pub(crate) fn call(call: wit::Call) -> Vec<Intent> {
    let intent = match call {
        wit::Call::Accept(call) => return accept(call),
        wit::Call::LaunchGroup(call) => group(call),
        wit::Call::Decline(call) => list("decline.offers", &call.offers)
            .map(|offers| Intent::Call(Call::Decline { offers, refusal: refusal(call.refuse) })),
        wit::Call::Suppress(roles) => list("suppress", &roles).map(|roles| Intent::Call(Call::Suppress { roles })),
        wit::Call::Revive(roles) => list("revive", &roles).map(|roles| Intent::Call(Call::Revive { roles })),
        wit::Call::Demand(call) => demand::demands(call),
        wit::Call::SetRoleOptions(options) => {
            demand::role_options(options).map(|options| Intent::Call(Call::SetRoleOptions { options }))
        }
        wit::Call::Kill(call) => parse("kill.task", &call.task)
            .map(|task| Intent::Call(Call::Kill { task, grace: call.grace.map(Duration::from_micros) })),
        wit::Call::Message(call) => message(call),
        wit::Call::AcceptInverse(call) => accept_inverse(call),
        wit::Call::DeclineInverse(offers) => {
            list("decline-inverse", &offers).map(|offers| Intent::Call(Call::DeclineInverse { offers }))
        }
        wit::Call::SetTimer(call) => {
            Ok(Intent::SetTimer { token: call.token, after: Duration::from_micros(call.after) })
        }
        wit::Call::Finish(call) => Ok(Intent::Finish { code: call.code, report: call.report }),
        wit::Call::Abort(message) => Ok(Intent::Abort { message }),
    };
    vec![intent.unwrap_or_else(refuse)]
}

fn refuse(message: String) -> Intent {
    Intent::Refuse { message }
}

fn message(call: wit::TaskMessage) -> Result<Intent, String> {
    let (agent, task) = (parse("message.agent", &call.agent)?, parse("message.task", &call.task)?);
    Ok(Intent::Call(Call::Message { agent, task, data: call.data.into() }))
}

/// A span that makes no sense refuses the whole answer: what would be given instead is not for the host to guess.
fn accept_inverse(call: wit::AcceptInverse) -> Result<Intent, String> {
    let span = |span: wit::TaskSpan| {
        Ok(TaskSpan { batch: parse("accept-inverse.tasks.launch", &span.launch)?, tasks: range(span.tasks) })
    };
    Ok(Intent::Call(Call::AcceptInverse {
        offer: parse("accept-inverse.offer", &call.offer)?,
        tasks: call.tasks.into_iter().map(span).collect::<Result<_, String>>()?,
        grace: call.grace.map(Duration::from_micros),
    }))
}

const fn range(tasks: wit::TaskRange) -> TaskRange {
    match tasks {
        wit::TaskRange::Single => TaskRange::Single,
        wit::TaskRange::Array(range) => TaskRange::Array { first: range.first, count: range.count },
    }
}

/// Launches that make no sense are refused one by one; the offers are used by the others, or go back.
fn accept(call: wit::Accept) -> Vec<Intent> {
    let offers: Vec<OfferId> = match list("accept.offers", &call.offers) {
        Ok(offers) => offers,
        Err(message) => return vec![refuse(message)],
    };
    let mut intents = Vec::new();
    let mut launches = Vec::with_capacity(call.launches.len());
    for (at, of_guest) in call.launches.into_iter().enumerate() {
        let id = of_guest.id.clone();
        match launch(of_guest) {
            Ok(launch) => launches.push(launch),
            Err(message) => intents.push(refuse(format!("accept.launches[{at}] ({id:.128}): {message}"))),
        }
    }
    intents.push(Intent::Call(Call::Accept { offers, launches, refusal: refusal(call.refuse) }));
    intents
}

/// A group is launched whole or not at all, so that one launch that makes no sense refuses it.
fn group(call: wit::Group) -> Result<Intent, String> {
    let offers = list("launch-group.offers", &call.offers)?;
    let mut launches = Vec::with_capacity(call.launches.len());
    for (at, of_guest) in call.launches.into_iter().enumerate() {
        let id = of_guest.id.clone();
        let refused = |message| format!("launch-group.launches[{at}] ({id:.128}): {message}");
        launches.push(launch(of_guest).map_err(refused)?);
    }
    Ok(Intent::Call(Call::LaunchGroup { offers, launches, refusal: refusal(call.refuse) }))
}

fn launch(launch: wit::Launch) -> Result<Launch, String> {
    let tasks = range(launch.tasks);
    let spec = Arc::new(template(launch.template)?);
    Ok(Launch { id: parse("id", &launch.id)?, tasks, slots: launch.slots, spec })
}

fn template(template: wit::TaskTemplate) -> Result<TaskSpec, String> {
    let file = |file: wit::InputFile| {
        Ok(InputFile { digest: parse("template.files.digest", &file.digest)?, path: file.path.into() })
    };
    let directory = |grant: wit::DirectoryGrant| DirectoryGrant {
        host: grant.host.into(),
        guest: grant.guest.into(),
        writable: grant.writable,
    };
    let kind = match template.kind {
        wit::TaskKind::Command => TaskKind::Command,
        wit::TaskKind::Service => TaskKind::Service,
        wit::TaskKind::Executor => TaskKind::Executor,
        wit::TaskKind::Executed => TaskKind::Executed,
    };
    let executed = |executed: wit::Executed| {
        let executor = parse("template.executed.executor", &executed.executor)?;
        Ok::<_, String>(Executed { executor, data: executed.data.into() })
    };
    let module = match kind {
        TaskKind::Executed => Digest::default(),
        _ => parse("template.module", &template.module)?,
    };
    Ok(TaskSpec {
        volumes: Vec::new(),
        kind,
        module,
        executed: template.executed.map(executed).transpose()?,
        args: template.args.into_iter().map(Arc::from).collect(),
        env: map("template.env", template.env)?,
        files: template.files.into_iter().map(file).collect::<Result<_, String>>()?,
        directories: template.directories.into_iter().map(directory).collect(),
        resources: resources("template.resources", template.resources)?,
        limits: Limits {
            fuel: template.limits.fuel,
            deadline: template.limits.deadline.map(Duration::from_micros),
            output_bytes: template.limits.output_bytes,
            cpus: template.limits.cpus.map(Amount),
        },
        metering: match template.metering {
            wit::Metering::FuelAndEpochs => Metering::FuelAndEpochs,
            wit::Metering::Epochs => Metering::Epochs,
        },
        seed: template.seed,
        labels: map("template.labels", template.labels)?,
        network: network(template.network)?,
        service: template.service.map(service),
        revocable: template.revocable,
    })
}

fn network(grants: wit::NetworkGrants) -> Result<NetworkGrants, String> {
    Ok(NetworkGrants {
        outbound: list("template.network.outbound", &grants.outbound)?,
        listen: grants.listen.map(|on| match on {
            wit::ListenOn::Loopback => ListenOn::Loopback,
            wit::ListenOn::Agent => ListenOn::Agent,
        }),
    })
}

fn service(service: wit::ServiceSpec) -> ServiceSpec {
    ServiceSpec {
        port: service.port,
        concurrency: service.concurrency,
        request_time: Duration::from_micros(service.request_time),
        request_fuel: service.request_fuel,
        request_bytes: service.request_bytes,
        max_failures: service.max_failures,
    }
}

fn resources(field: &str, resources: Vec<wit::Resource>) -> Result<Resources, String> {
    let mut lifted = Resources::EMPTY;
    for resource in resources {
        let name: ResourceName = parse(field, &resource.name)?;
        let quantity = quantity(field, &name, resource.quantity)?;
        if lifted.get(&name).is_some() {
            return Err(format!("{field}: {name} is given twice"));
        }
        lifted.set(name, quantity);
    }
    Ok(lifted)
}

fn quantity(field: &str, name: &ResourceName, quantity: wit::Quantity) -> Result<Quantity, String> {
    Ok(match quantity {
        wit::Quantity::Scalar(raw) if raw > Amount::MAX.0 => {
            let most = name.show(Amount::MAX);
            return Err(format!("{field}: {name}: {raw} is over the limit of {most}"));
        }
        wit::Quantity::Scalar(raw) => Quantity::Scalar(Amount(raw)),
        wit::Quantity::Ranges(spans) => Quantity::Ranges(Ranges::new(spans.iter().map(|span| (span.first, span.last)))),
        wit::Quantity::Items(items) => Quantity::Set(items.into_iter().map(Arc::from).collect()),
    })
}

fn refusal(refuse: Option<u64>) -> Refusal {
    refuse.map_or_else(Refusal::default, |micros| Refusal::new(Duration::from_micros(micros)))
}

fn map(field: &str, pairs: Vec<(String, String)>) -> Result<BTreeMap<Arc<str>, Arc<str>>, String> {
    let mut lifted = BTreeMap::new();
    for (key, value) in pairs {
        let key: Arc<str> = key.into();
        if lifted.insert(key.clone(), value.into()).is_some() {
            return Err(format!("{field}: {key:.128} is given twice"));
        }
    }
    Ok(lifted)
}

fn list<T: FromStr<Err: std::fmt::Display>>(field: &str, texts: &[String]) -> Result<Vec<T>, String> {
    texts.iter().map(|text| parse(field, text)).collect()
}

fn parse<T: FromStr<Err: std::fmt::Display>>(field: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| format!("{field}: {error}"))
}
