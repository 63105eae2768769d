//! One value of every kind, with every field filled.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use holm_model::*;

pub(crate) fn agent() -> AgentId {
    AgentId::new(Epoch(3), 17)
}

pub(crate) fn framework() -> FrameworkId {
    FrameworkId::new(Epoch(2), 5)
}

pub(crate) fn offer_id(counter: u64) -> OfferId {
    OfferId::new(Epoch(3), counter)
}

pub(crate) fn secret() -> Secret {
    Secret::from_bytes([0xa5; 32])
}

fn pairs(of: &[(&str, &str)]) -> BTreeMap<Arc<str>, Arc<str>> {
    of.iter().map(|(key, value)| (Arc::from(*key), Arc::from(*value))).collect()
}

pub(crate) fn resources() -> Resources {
    "cpus:2.5;mem:8GiB;disk:1GiB;gpus:2;ports:[31000-31009,31020-31020];licences:{a,b};slots:[1-3];credits:0.001"
        .parse()
        .unwrap()
}

pub(crate) fn portions() -> Portions {
    "cpus:1;ports:[5-9];cpus(eng>eng/a,rack=a):2;disk(eng,static)#data:1GiB".parse().unwrap()
}

pub(crate) fn spec() -> TaskSpec {
    TaskSpec {
        kind: TaskKind::Command,
        module: Digest([0xab; 32]),
        executed: None,
        args: vec!["--verbose".into(), "".into(), "ä".into()],
        env: pairs(&[("HOME", "/"), ("EMPTY", "")]),
        files: vec![InputFile { digest: Digest([1; 32]), path: "in/data.txt".into() }],
        directories: vec![DirectoryGrant { host: "/srv/data".into(), guest: "data".into(), writable: true }],
        volumes: vec![VolumeMount { id: "data".parse().unwrap(), path: "db".into(), read_only: true }],
        resources: resources(),
        limits: Limits {
            fuel: Some(u64::MAX),
            deadline: Some(Duration::from_micros(1_500_000)),
            output_bytes: Some(0),
            cpus: Some(Amount(2_500)),
        },
        metering: Metering::Epochs,
        seed: Some(0),
        labels: pairs(&[("team", "a")]),
        network: grants(),
        service: None,
        revocable: true,
    }
}

fn grants() -> NetworkGrants {
    let outbound = ["api.example.org:443", "*.example.org:1-9", "udp:10.0.0.0/8:*", "[2001:db8::1]:53", "*:443"];
    NetworkGrants {
        outbound: outbound.iter().map(|pattern| pattern.parse().unwrap()).collect(),
        listen: Some(ListenOn::Loopback),
    }
}

fn service() -> TaskSpec {
    let service = ServiceSpec {
        port: Some(31_001),
        concurrency: 3,
        request_time: Duration::from_micros(1_500_001),
        request_fuel: Some(7),
        request_bytes: 0,
        max_failures: 0,
    };
    let network = NetworkGrants { outbound: Vec::new(), listen: Some(ListenOn::Agent) };
    TaskSpec { kind: TaskKind::Service, service: Some(service), network, ..spec() }
}

/// A task that runs inside an executor.
pub(crate) fn executed() -> TaskSpec {
    let executed = Executed { executor: "warm".parse().unwrap(), data: [0, 255][..].into() };
    TaskSpec { kind: TaskKind::Executed, executed: Some(executed), ..TaskSpec::default() }
}

pub(crate) fn launches() -> Vec<Launch> {
    let array = TaskRange::Array { first: 10, count: 4096 };
    vec![
        Launch { id: "build".parse().unwrap(), tasks: TaskRange::Single, slots: 1, spec: spec().into() },
        Launch { id: "web".parse().unwrap(), tasks: TaskRange::Single, slots: 1, spec: service().into() },
        Launch { id: "tiles.1".parse().unwrap(), tasks: array, slots: 8, spec: TaskSpec::default().into() },
        Launch { id: "inside".parse().unwrap(), tasks: array, slots: 8, spec: executed().into() },
    ]
}

pub(crate) fn usage() -> Usage {
    Usage {
        cpu: Duration::from_micros(1),
        fuel: 2,
        peak_memory: 3,
        queued: Duration::from_micros(4),
        run: Duration::from_secs(5),
        output_bytes: 6,
        network_refusals: 7,
        requests: 8,
        failed_requests: 9,
        peak_disk: 10,
    }
}

/// Of three tasks that differ in some ways and not in others.
pub(crate) fn usages() -> Usages {
    let used = |fuel| Usage { fuel, output_bytes: 0, run: Duration::from_micros(fuel * 1_000_000), ..usage() };
    Usages::new([1, 2, u64::from(u32::MAX)].map(used))
}

pub(crate) const STATES: [TaskState; 10] = [
    TaskState::Staging,
    TaskState::Running,
    TaskState::Killing,
    TaskState::Unreachable,
    TaskState::Finished,
    TaskState::Failed,
    TaskState::Killed,
    TaskState::Dropped,
    TaskState::Error,
    TaskState::Gone,
];

/// Every state and every reason, with and without the rest.
pub(crate) fn statuses() -> Vec<TaskStatus> {
    let full = TaskStatus {
        exit_code: Some(-1),
        usage: usage(),
        attempt: 2,
        ..TaskStatus::because(TaskState::Failed, Reason::Trap, "wasm trap: unreachable")
    };
    let reasons = Reason::ALL.iter().map(|reason| TaskStatus::because(TaskState::Failed, *reason, "why"));
    STATES.into_iter().map(TaskStatus::of).chain(reasons).chain([full]).collect()
}

pub(crate) fn updates() -> Vec<Update> {
    let update = |(sequence, status)| {
        let batch = "tiles.1".parse().unwrap();
        Update { sequence, batch, first: 7, count: 3, status, usages: Usages::default() }
    };
    let mut updates: Vec<_> = (0..).zip(statuses()).map(update).collect();
    let each = Update { usages: usages(), status: TaskStatus::of(TaskState::Finished), ..updates[0].clone() };
    updates.push(each);
    updates
}

pub(crate) fn report() -> BatchReport {
    let run = |count, state| StatusRun { count, status: TaskStatus::of(state) };
    BatchReport {
        framework: framework(),
        role: "eng/backend".parse().unwrap(),
        id: "tiles.1".parse().unwrap(),
        tasks: TaskRange::Array { first: 3, count: 100 },
        slots: 4,
        shape: resources(),
        module: Digest([9; 32]),
        revocable: true,
        origins: portions(),
        runs: vec![run(10, TaskState::Finished), run(4, TaskState::Running), run(86, TaskState::Staging)],
    }
}

pub(crate) fn offer() -> Offer {
    Offer {
        id: offer_id(1),
        framework: framework(),
        role: "eng".parse().unwrap(),
        agent: agent(),
        hostname: "holm-1".into(),
        resources: portions().total(),
        portions: portions(),
        attributes: pairs(&[("rack", "a"), ("arch", "x86_64")]),
        demand: Some("big".parse().unwrap()),
        gang: Some(GangId::new(Epoch(3), 4)),
    }
}

pub(crate) fn agent_info() -> AgentInfo {
    AgentInfo {
        hostname: "holm-1".into(),
        resources: resources(),
        reserved: "cpus(eng,static):1;disk(ops,rack=a,static):1MiB".parse().unwrap(),
        attributes: pairs(&[("rack", "a")]),
        capabilities: ["trim".into()].into(),
        version: "0.1.0".into(),
        confinement: vec![
            ConfinementLayer { name: "landlock".into(), active: true, detail: "ABI 7".into() },
            ConfinementLayer { name: "cgroup".into(), active: false, detail: "not writable".into() },
        ],
        isolation: Isolation::Task,
    }
}

fn constraints(of: &[&str]) -> Constraints {
    Constraints::new(of.iter().map(|text| text.parse().unwrap())).unwrap()
}

fn role_options() -> BTreeMap<Role, RoleOptions> {
    let options = RoleOptions {
        constraints: constraints(&["rack=a", "rack!=b", "rack=~a.*", "@hostname!~x|y", "ssd", "!old"]),
        minimum: "cpus:1;credits:0.5".parse().unwrap(),
        placement: Placement::Pack,
        by_demand: true,
        optimistic: true,
    };
    let random = RoleOptions { placement: Placement::Random, ..RoleOptions::default() };
    [("eng".parse().unwrap(), options), ("ops".parse().unwrap(), random)].into()
}

fn demands() -> Vec<Demand> {
    let plain = Demand::new("small".parse().unwrap(), "cpus:0.5".parse().unwrap(), 1_000_000);
    let full = Demand {
        id: "big".parse().unwrap(),
        shape: "cpus:4;mem:8GiB;gpus:1".parse().unwrap(),
        ports: 2,
        constraints: constraints(&["@hostname=~h-[0-9]+"]),
        count: 8,
        minimum: 4,
        gang: true,
        priority: -3,
        revocable_ok: true,
        max_duration: Some(Duration::from_micros(1_500_001)),
    };
    vec![plain, full]
}

pub(crate) fn framework_info() -> FrameworkInfo {
    FrameworkInfo {
        name: "word count".into(),
        roles: vec!["eng".parse().unwrap(), "ops".parse().unwrap()],
        role_options: role_options(),
        failover_timeout: Duration::from_secs(60),
        capabilities: ["gang".into(), "hints".into()].into(),
        labels: pairs(&[("owner", "me")]),
    }
}

pub(crate) fn subscribe() -> Subscribe {
    Subscribe {
        info: framework_info(),
        id: Some(framework()),
        highest_epoch: Epoch(9),
        suppressed: vec!["ops".parse().unwrap()],
    }
}

pub(crate) fn registration() -> Registration {
    Registration {
        id: Some(agent()),
        cluster: Some(ClusterId(0xabc)),
        highest_epoch: Epoch(9),
        incarnation: Incarnation(u64::MAX),
        boot: BootId("2f1c".into()),
        info: agent_info(),
    }
}

pub(crate) fn calls() -> Vec<Call> {
    let roles = || vec!["eng".parse().unwrap()];
    vec![
        Call::Accept {
            offers: vec![offer_id(1), offer_id(2)],
            launches: launches(),
            refusal: Refusal::new(Duration::from_secs(7)),
        },
        Call::Accept { offers: vec![], launches: vec![], refusal: Refusal::default() },
        Call::Operate {
            offers: vec![offer_id(1)],
            operations: vec![Requested {
                id: "make".parse().unwrap(),
                operation: Operation::DestroyVolume { id: "data".parse().unwrap(), role: "eng".parse().unwrap() },
            }],
            launches: vec![],
            refusal: Refusal::default(),
        },
        Call::LaunchGroup { offers: vec![offer_id(1)], launches: launches(), refusal: Refusal::NONE },
        Call::Decline { offers: vec![offer_id(3)], refusal: Refusal::NONE },
        Call::Suppress { roles: roles() },
        Call::Suppress { roles: vec![] },
        Call::Revive { roles: roles() },
        Call::Demand { role: "eng".parse().unwrap(), demands: demands() },
        Call::Demand { role: "eng".parse().unwrap(), demands: vec![] },
        Call::SetRoleOptions { options: role_options() },
        Call::Kill { task: "tiles.1/12".parse().unwrap(), grace: None },
        Call::Kill { task: "build".parse().unwrap(), grace: Some(Duration::ZERO) },
        Call::Acknowledge { agent: agent(), incarnation: Incarnation(4), sequence: 99 },
        Call::Message { agent: agent(), task: "build".parse().unwrap(), data: [0, 1, 255][..].into() },
        Call::AcceptInverse {
            offer: InverseOfferId::new(Epoch(3), 7),
            tasks: vec![
                TaskSpan { batch: "tiles.1".parse().unwrap(), tasks: TaskRange::Array { first: 12, count: 4 } },
                TaskSpan { batch: "build".parse().unwrap(), tasks: TaskRange::Single },
            ],
            grace: Some(Duration::from_secs(30)),
        },
        Call::AcceptInverse { offer: InverseOfferId::new(Epoch(3), 8), tasks: vec![], grace: None },
        Call::DeclineInverse { offers: vec![InverseOfferId::new(Epoch(3), 9)] },
        Call::Teardown,
    ]
}

fn inverse_offer(reason: InverseReason) -> InverseOffer {
    let maintenance = reason == InverseReason::Maintenance;
    InverseOffer {
        id: InverseOfferId::new(Epoch(3), 7),
        framework: framework(),
        role: "eng".parse().unwrap(),
        agent: maintenance.then(agent),
        resources: "cpus:2;mem:64MiB".parse().unwrap(),
        deadline: Duration::from_secs(90),
        reason,
        beneficiary: (!maintenance).then(|| "ops/db".parse().unwrap()),
        message: "the guarantee of ops/db is not met".into(),
    }
}

pub(crate) fn events() -> Vec<SchedulerEvent> {
    let updates =
        |source| SchedulerEvent::Updates { agent: agent(), incarnation: Incarnation(1), source, updates: updates() };
    vec![
        SchedulerEvent::Subscribed {
            framework: framework(),
            secret: Some(secret()),
            epoch: Epoch(3),
            framework_epoch: 12,
            pending_agents: vec![agent()],
        },
        SchedulerEvent::Tasks { agent: agent(), incarnation: Incarnation(1), batches: vec![report()], last: true },
        SchedulerEvent::Tasks { agent: agent(), incarnation: Incarnation(1), batches: vec![], last: false },
        SchedulerEvent::Offers(vec![offer()]),
        SchedulerEvent::Rescinded(vec![offer_id(1)]),
        SchedulerEvent::InverseOffers(InverseReason::ALL.map(inverse_offer).into()),
        SchedulerEvent::InverseRescinded(vec![InverseOfferId::new(Epoch(3), 9)]),
        updates(Source::Agent),
        updates(Source::Master),
        SchedulerEvent::AgentLost { agent: agent(), message: "silent".into() },
        SchedulerEvent::Operations {
            agent: agent(),
            statuses: vec![
                OperationStatus { id: "a".parse().unwrap(), refusal: None },
                OperationStatus { id: "b".parse().unwrap(), refusal: Some("no".into()) },
            ],
        },
        SchedulerEvent::RunnerLost { agent: agent(), runner: RunnerId(4), message: "signal 9".into() },
        SchedulerEvent::Message { agent: agent(), task: "build".parse().unwrap(), data: [7][..].into() },
        SchedulerEvent::Error { message: "no".into(), fatal: true },
        SchedulerEvent::Heartbeat,
    ]
}

pub(crate) fn to_master() -> Vec<ToMaster> {
    vec![
        ToMaster::Register(registration()),
        ToMaster::Report { batches: vec![report()], last: true },
        ToMaster::Report { batches: vec![], last: false },
        ToMaster::Updates { framework: framework(), incarnation: Incarnation(2), updates: updates() },
        ToMaster::Message { framework: framework(), task: "a/1".parse().unwrap(), data: [1][..].into() },
        ToMaster::RunnerLost { framework: framework(), runner: RunnerId(1), message: "gone".into() },
        ToMaster::Condition(AgentCondition {
            reserve_bytes: 1 << 30,
            overhead_bytes: 2 << 30,
            held_back: Some("over the reserve".into()),
        }),
        ToMaster::Condition(AgentCondition::default()),
        ToMaster::Revocable("cpus:1.5;mem:1GiB".parse().unwrap()),
        ToMaster::Pong,
    ]
}

pub(crate) fn to_agent() -> Vec<ToAgent> {
    let launch = launches().remove(0);
    vec![
        ToAgent::Registered {
            agent: agent(),
            secret: None,
            cluster: ClusterId(1),
            epoch: Epoch(3),
            silence: Duration::from_secs(15),
        },
        ToAgent::Refused { message: "another cluster".into() },
        ToAgent::Launch {
            sequence: 1,
            framework: framework(),
            role: "eng".parse().unwrap(),
            origins: portions(),
            launch,
        },
        ToAgent::Volumes(vec![Volume {
            serial: 7,
            id: "data".parse().unwrap(),
            role: "eng".parse().unwrap(),
            bytes: 1 << 30,
        }]),
        ToAgent::LaunchGroup {
            sequence: 2,
            framework: framework(),
            role: "eng".parse().unwrap(),
            origins: vec![portions(), Portions::EMPTY],
            launches: launches(),
        },
        ToAgent::Kill { framework: framework(), task: "a/1".parse().unwrap(), grace: Some(Duration::from_secs(1)) },
        ToAgent::Trim { framework: framework(), batch: "a".parse().unwrap(), from: 3, message: "for eng".into() },
        ToAgent::Preempt {
            framework: framework(),
            batch: "a".parse().unwrap(),
            first: 3,
            count: 2,
            grace: Some(Duration::from_secs(9)),
            message: "for eng".into(),
        },
        ToAgent::Acknowledge { framework: framework(), incarnation: Incarnation(2), sequence: 8 },
        ToAgent::Message { framework: framework(), task: "a/1".parse().unwrap(), data: [1][..].into() },
        ToAgent::Remove { framework: framework() },
        ToAgent::Ping,
    ]
}

pub(crate) fn to_runner() -> Vec<ToRunner> {
    let directory =
        PreparedDirectory { prefix: "/srv".into(), below: "data".into(), guest: "data".into(), writable: true };
    let prepared = Prepared {
        program: "/cache/x".into(),
        inputs: Some("/in".into()),
        scratch: None,
        directories: vec![directory],
        volumes: vec![PreparedVolume { path: "/v/1".into(), guest: "db".into(), writable: true, bytes: 1 << 30 }],
        network: PreparedNetwork {
            allowed: grants().outbound,
            cluster: vec!["127.0.0.1:5050".parse().unwrap(), "[2001:db8::5]:5050".parse().unwrap()],
            ports: Ranges::new([(31_000, 31_010), (32_000, 32_000)]),
            listen: Some("192.0.2.1".parse().unwrap()),
        },
    };
    vec![
        ToRunner::Launch { work: WorkId(1), framework: framework(), launch: launches().remove(2), prepared },
        ToRunner::Kill { work: WorkId(1), positions: Some((3, 4)), grace: Duration::from_secs(5) },
        ToRunner::Kill { work: WorkId(1), positions: None, grace: Duration::ZERO },
        ToRunner::Trim { work: WorkId(1), from: 7, message: "for eng".into() },
        ToRunner::Message { work: WorkId(1), position: 2, data: [1][..].into() },
        ToRunner::Acknowledge { sequence: 5 },
        ToRunner::Stop,
    ]
}

pub(crate) fn from_runner() -> Vec<FromRunner> {
    let report = |(sequence, status)| RunnerReport {
        sequence,
        work: WorkId(2),
        first: 4095,
        count: 1,
        status,
        usages: Usages::default(),
    };
    let mut reports: Vec<_> = (1..).zip(statuses()).map(report).collect();
    let status = TaskStatus::of(TaskState::Finished);
    reports.push(RunnerReport { first: 7, count: 3, status, usages: usages(), ..reports[0].clone() });
    vec![
        FromRunner::Hello { runner: RunnerId(1), works: vec![WorkId(1), WorkId(2)] },
        FromRunner::Reports(reports),
        FromRunner::Message { work: WorkId(1), position: 2, data: [1][..].into() },
    ]
}
