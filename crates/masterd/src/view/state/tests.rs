//! What the fold of changes shows.

use holm_master::{AgentPhase, FrameworkPhase};
use holm_model::{AgentInfo, Capabilities, Epoch, FrameworkInfo, Incarnation, Reason, StatusRun, Usages};
use holm_proto::v1;

use super::*;

struct Fold {
    state: State,
    metrics: Metrics,
    now: u64,
}

const AGENT: AgentId = AgentId::new(Epoch(1), 1);
const FRAMEWORK: FrameworkId = FrameworkId::new(Epoch(1), 1);

fn resources(text: &str) -> Resources {
    text.parse().unwrap()
}

fn framework_view(id: FrameworkId, phase: FrameworkPhase) -> FrameworkView {
    let info = FrameworkInfo {
        name: "wc".into(),
        roles: vec!["eng".parse().unwrap()],
        role_options: BTreeMap::new(),
        failover_timeout: std::time::Duration::ZERO,
        capabilities: Capabilities::new(),
        labels: BTreeMap::new(),
    };
    FrameworkView { id, phase, info: Arc::new(info), framework_epoch: 1, launches: 0, live_tasks: 0, offers: 0 }
}

fn agent_view(free: &str) -> AgentView {
    let info = AgentInfo { resources: resources("cpus:4;mem:8GiB;ports:[1-9]"), ..AgentInfo::default() };
    AgentView {
        id: AGENT,
        phase: AgentPhase::Active,
        info: Arc::new(info),
        incarnation: Some(Incarnation(1)),
        free: Some(resources(free)),
        stock: holm_model::Portions::EMPTY,
        volumes: Vec::new(),
        launches: 0,
        condition: holm_model::AgentCondition::default(),
        revocable: Resources::EMPTY,
    }
}

impl Fold {
    fn new() -> Fold {
        let mut fold = Fold { state: State::default(), metrics: Metrics::new(), now: 1000 };
        fold.apply(Delta::AgentChanged(agent_view("cpus:4;mem:8GiB;ports:[1-9]")));
        fold.apply(Delta::FrameworkChanged(framework_view(FRAMEWORK, FrameworkPhase::Connected)));
        fold
    }

    fn apply(&mut self, delta: Delta) {
        self.now += 1;
        self.state.apply(delta, self.now, &self.metrics);
    }

    fn launch(&mut self, id: &str, count: u32, slots: u32) {
        self.apply(Delta::LaunchAdded(LaunchView { agent: AGENT, report: report(id, count, slots) }));
    }

    fn launch_revocable(&mut self, id: &str) {
        let launch = LaunchView { agent: AGENT, report: BatchReport { revocable: true, ..report(id, 2, 2) } };
        self.apply(Delta::LaunchAdded(launch));
    }

    fn enter(&mut self, id: &str, first: u32, count: u32, status: TaskStatus) {
        let (framework, batch, agent, status) = (FRAMEWORK, id.parse().unwrap(), AGENT, Arc::new(status));
        self.apply(Delta::TasksChanged { framework, batch, agent, first, count, status, usages: Usages::default() });
    }

    fn end(&mut self, id: &str) {
        self.apply(Delta::LaunchRemoved { framework: FRAMEWORK, batch: id.parse().unwrap(), agent: AGENT });
    }

    fn tasks(&self, request: v1::ListTasksRequest) -> v1::ListTasksReply {
        self.state.list_tasks(&request).unwrap()
    }
}

fn report(id: &str, count: u32, slots: u32) -> BatchReport {
    BatchReport {
        framework: FRAMEWORK,
        role: "eng".parse().unwrap(),
        id: id.parse().unwrap(),
        tasks: TaskRange::Array { first: 10, count },
        slots,
        shape: resources("cpus:1;mem:1GiB"),
        module: Digest::default(),
        origins: holm_model::Portions::EMPTY,
        revocable: false,
        runs: vec![StatusRun { count, status: TaskStatus::of(TaskState::Staging) }],
    }
}

#[test]
fn what_is_lent_is_counted_apart() {
    let mut fold = Fold::new();
    fold.launch("owner", 3, 2);
    fold.launch_revocable("borrower");
    assert_eq!(fold.state.lent(AGENT), resources("cpus:2;mem:2GiB"));
    fold.enter("borrower", 1, 1, TaskStatus::because(TaskState::Killed, Reason::Preempted, ""));
    assert_eq!(fold.state.lent(AGENT), resources("cpus:1;mem:1GiB"));
    fold.end("borrower");
    assert_eq!(fold.state.lent(AGENT), Resources::EMPTY);
}

fn ids(reply: &v1::ListTasksReply) -> Vec<&str> {
    reply.tasks.iter().map(|task| task.task_id.as_str()).collect()
}

#[test]
fn tasks_are_counted_where_they_are_and_keep_their_times() {
    let mut fold = Fold::new();
    fold.launch("job", 3, 2);
    fold.enter("job", 0, 2, TaskStatus::of(TaskState::Running));
    fold.enter("job", 0, 1, TaskStatus::of(TaskState::Finished));
    fold.enter("job", 1, 1, TaskStatus::because(TaskState::Failed, Reason::Trap, "unreachable"));
    let wanted = Counts { staging: 1, finished: 1, failed: 1, ..Counts::default() };
    assert_eq!(fold.state.counts, wanted);
    assert_eq!(fold.state.agents[&AGENT].counts, wanted);
    assert_eq!(fold.state.frameworks[&FRAMEWORK].counts, wanted);
    let reply = fold.tasks(v1::ListTasksRequest { task_id: "job/10".to_owned(), ..Default::default() });
    let task = &reply.tasks[0];
    assert!(task.launched_unix_micros < task.started_unix_micros);
    assert!(task.started_unix_micros < task.ended_unix_micros);
    assert_eq!(fold.state.launches[&1].held(), resources("cpus:1;mem:1GiB"), "one task is left for two slots");
}

#[test]
fn listings_go_on_where_the_page_before_ended_and_start_with_the_newest() {
    let mut fold = Fold::new();
    fold.launch("old", 3, 1);
    fold.launch("new", 2, 1);
    let first = fold.tasks(v1::ListTasksRequest { limit: 3, ..Default::default() });
    assert_eq!(ids(&first), ["new/10", "new/11", "old/10"]);
    let rest = v1::ListTasksRequest { limit: 3, page_token: first.next_page_token.clone(), ..Default::default() };
    let rest = fold.tasks(rest);
    assert_eq!(ids(&rest), ["old/11", "old/12"]);
    assert_eq!(rest.next_page_token, "");
    let error = fold.state.list_tasks(&v1::ListTasksRequest { page_token: "x".to_owned(), ..Default::default() });
    assert!(error.unwrap_err().message().contains("page_token"));
}

#[test]
fn filters_all_have_to_match() {
    let mut fold = Fold::new();
    fold.launch("job", 3, 1);
    fold.enter("job", 1, 1, TaskStatus::of(TaskState::Running));
    let running = vec![i32::from(v1::TaskState::Running)];
    let found = fold.tasks(v1::ListTasksRequest { states: running.clone(), ..Default::default() });
    assert_eq!(ids(&found), ["job/11"]);
    let other = v1::ListTasksRequest { states: running, role: "ops".to_owned(), ..Default::default() };
    assert_eq!(ids(&fold.tasks(other)), [] as [&str; 0]);
    let error = fold.state.list_tasks(&v1::ListTasksRequest { agent_id: "nobody".to_owned(), ..Default::default() });
    assert!(error.unwrap_err().message().starts_with("agent_id"));
}

#[test]
fn a_launch_reported_again_is_replaced_and_not_counted_twice() {
    let mut fold = Fold::new();
    fold.launch("job", 2, 1);
    fold.enter("job", 0, 1, TaskStatus::of(TaskState::Running));
    let started = fold.state.launches[&1].tasks[0].started_at;
    fold.launch("job", 2, 1);
    assert_eq!(fold.state.counts.staging, 2);
    assert_eq!(fold.state.launches.len(), 1);
    assert_eq!(fold.state.launches[&1].tasks[0].started_at, started);
}

#[test]
fn a_launch_that_is_over_is_remembered_until_the_history_is_full() {
    let mut fold = Fold::new();
    let size = 4096;
    let launches = HISTORY_TASKS / size + 2;
    for number in 0..launches {
        let id = format!("job-{number}");
        fold.launch(&id, u32::try_from(size).unwrap(), 1);
        fold.enter(&id, 0, u32::try_from(size).unwrap(), TaskStatus::of(TaskState::Finished));
        fold.end(&id);
    }
    assert!(fold.state.counts.finished <= HISTORY_TASKS as u64);
    assert!(fold.state.counts.finished > (HISTORY_TASKS - size) as u64);
    let named = |id: String| fold.tasks(v1::ListTasksRequest { task_id: id, limit: 1, ..Default::default() });
    assert_eq!(ids(&named("job-0".to_owned())).len(), 0, "the oldest went first");
    assert_eq!(ids(&named(format!("job-{}", launches - 1))).len(), 1);
    assert_eq!(fold.state.by_name.len(), fold.state.launches.len());
}

#[test]
fn what_an_agent_holds_is_what_is_neither_free_nor_offered() {
    let mut fold = Fold::new();
    fold.apply(Delta::AgentChanged(agent_view("cpus:1;mem:1GiB")));
    let offer = Offer {
        id: OfferId::new(Epoch(1), 1),
        framework: FRAMEWORK,
        role: "eng".parse().unwrap(),
        agent: AGENT,
        hostname: "h".into(),
        resources: resources("cpus:1;ports:[1-9]"),
        portions: holm_model::Portions::unreserved(resources("cpus:1;ports:[1-9]")),
        attributes: BTreeMap::new(),
        demand: None,
        gang: None,
    };
    fold.apply(Delta::OfferAdded(offer));
    let agents = fold.state.list_agents(&v1::ListAgentsRequest::default()).unwrap().agents;
    assert_eq!(agents[0].allocated.as_ref().unwrap().text, "cpus:2;mem:7GiB");
    assert_eq!(agents[0].offered.as_ref().unwrap().text, "cpus:1;ports:[1-9]");
    fold.apply(Delta::OfferRemoved(OfferId::new(Epoch(1), 1)));
    assert_eq!(fold.state.list_offers(&v1::ListOffersRequest::default(), 0).unwrap().offers.len(), 0);
}

#[test]
fn only_the_last_frameworks_that_ended_are_remembered() {
    let mut fold = Fold::new();
    for number in 2..COMPLETED_FRAMEWORKS as u64 + 5 {
        let id = FrameworkId::new(Epoch(1), number);
        fold.apply(Delta::FrameworkChanged(framework_view(id, FrameworkPhase::Connected)));
        fold.apply(Delta::FrameworkChanged(framework_view(id, FrameworkPhase::Completed)));
        fold.apply(Delta::FrameworkChanged(framework_view(id, FrameworkPhase::Completed)));
    }
    let list = |include_completed| {
        let request = v1::ListFrameworksRequest { include_completed, ..Default::default() };
        fold.state.list_frameworks(&request).unwrap().frameworks
    };
    assert_eq!(list(false).len(), 1);
    assert_eq!(list(true).len(), COMPLETED_FRAMEWORKS + 1);
}
