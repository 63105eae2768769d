//! What a subscription makes of what the master and the scheduler say, in whichever order they say it.

use holm_model::{Digest, Resources, StatusRun, TaskRange, TaskSpec};

use super::*;

fn info() -> FrameworkInfo {
    FrameworkInfo {
        name: "tiles".into(),
        roles: vec!["dev".parse().unwrap(), "ops".parse().unwrap()],
        role_options: BTreeMap::new(),
        failover_timeout: std::time::Duration::ZERO,
        capabilities: BTreeSet::new(),
        labels: BTreeMap::new(),
    }
}

fn new() -> Subscription {
    Subscription::new(Options { info: info(), identity: None, suppressed: Vec::new() })
}

fn framework() -> FrameworkId {
    FrameworkId::new(Epoch(1), 1)
}

fn agent(number: u64) -> AgentId {
    AgentId::new(Epoch(1), number)
}

fn offer(number: u64, agent_number: u64) -> Offer {
    Offer {
        id: OfferId::new(Epoch(1), number),
        framework: framework(),
        role: "dev".parse().unwrap(),
        agent: agent(agent_number),
        hostname: "host".into(),
        resources: "cpus:4;mem:1GiB".parse().unwrap(),
        portions: holm_model::Portions::unreserved("cpus:4;mem:1GiB".parse().unwrap()),
        attributes: BTreeMap::new(),
        demand: None,
        gang: None,
    }
}

fn launch(id: &str, count: u32) -> Launch {
    let resources: Resources = "cpus:1;mem:16MiB".parse().unwrap();
    let spec = TaskSpec { resources, ..TaskSpec::default() };
    Launch { id: id.parse().unwrap(), tasks: TaskRange::Array { first: 0, count }, slots: 1, spec: spec.into() }
}

fn accept(offers: &[u64], launches: Vec<Launch>) -> Input {
    let offers = offers.iter().map(|number| OfferId::new(Epoch(1), *number)).collect();
    Input::Call(Call::Accept { offers, launches, refusal: Refusal::default() })
}

fn subscribed(epoch: u64, framework_epoch: u64, pending: &[u64]) -> Input {
    Input::FromMaster(SchedulerEvent::Subscribed {
        framework: framework(),
        secret: (framework_epoch == 1).then(|| Secret::from_bytes([7; 32])),
        epoch: Epoch(epoch),
        framework_epoch,
        pending_agents: pending.iter().map(|number| agent(*number)).collect(),
    })
}

fn connected() -> Subscription {
    let mut session = new();
    session.handle(Input::Connected);
    session.handle(subscribed(1, 1, &[]));
    drop(session.drain_effects());
    session
}

fn cut() -> Input {
    Input::Disconnected { message: "cut".into() }
}

fn page(agent_number: u64, batches: Vec<BatchReport>) -> Input {
    let agent = agent(agent_number);
    Input::FromMaster(SchedulerEvent::Tasks { agent, incarnation: Incarnation(1), batches, last: true })
}

fn updates(source: Source, entries: &[(u64, &str, TaskState)]) -> Input {
    let entry = |(sequence, batch, state): &(u64, &str, TaskState)| Update {
        sequence: *sequence,
        batch: batch.parse().unwrap(),
        first: 0,
        count: 1,
        status: TaskStatus::of(*state),
        usages: Usages::default(),
    };
    let updates = entries.iter().map(entry).collect();
    Input::FromMaster(SchedulerEvent::Updates { agent: agent(1), incarnation: Incarnation(1), source, updates })
}

/// Effects in a line each.
fn effects(session: &mut Subscription) -> Vec<String> {
    let call = |call: Call| match call {
        Call::Accept { offers, launches, .. } => {
            format!("accept {offers:?} {:?}", launches.iter().map(|launch| &launch.id).collect::<Vec<_>>())
        }
        Call::Acknowledge { agent, sequence, .. } => format!("acknowledge {agent} {sequence}"),
        Call::Decline { offers, .. } => format!("decline {offers:?}"),
        Call::Kill { task, .. } => format!("kill {task}"),
        other => format!("{other:?}").to_lowercase(),
    };
    let notice = |notice: Notice| match notice {
        Notice::Updates(updates) => {
            let shown = updates.iter().map(|update| {
                let reason = update.status.reason.map_or("-", Reason::as_str);
                format!("{}{:?} {} {reason}", update.batch, update.indices(), update.status.state)
            });
            shown.collect::<Vec<_>>().join(", ")
        }
        Notice::Registered { .. } => "registered".to_owned(),
        Notice::Disconnected { .. } => "disconnected".to_owned(),
        Notice::Offers(offers) => format!("{} offers", offers.len()),
        Notice::Rescinded(offers) => format!("rescinded {offers:?}"),
        Notice::Error { message } => format!("error: {message}"),
        other => format!("{other:?}"),
    };
    let show = |effect: Effect| match effect {
        Effect::Send(Outbound::Subscribe { subscribe, secret }) => {
            format!("subscribe {:?} proof {} suppressed {:?}", subscribe.id, secret.is_some(), subscribe.suppressed)
        }
        Effect::Send(Outbound::Call { framework_epoch, call: sent }) => format!("{framework_epoch}> {}", call(sent)),
        Effect::Deliver(delivered) => notice(delivered),
        Effect::Reconnect { message, .. } => format!("reconnect: {message}"),
        Effect::Ended(end) => format!("{end:?}"),
    };
    session.drain_effects().map(show).collect()
}

#[test]
fn a_framework_registers_once_and_comes_back_with_its_proof() {
    let mut session = new();
    session.handle(Input::Connected);
    assert_eq!(effects(&mut session), ["subscribe None proof false suppressed []"]);
    session.handle(subscribed(1, 1, &[]));
    assert_eq!(effects(&mut session), ["registered"]);
    session.handle(Input::Call(Call::Suppress { roles: vec!["ops".parse().unwrap()] }));
    session.handle(cut());
    session.handle(Input::Connected);
    let seen = effects(&mut session);
    assert_eq!(
        seen[1..],
        ["disconnected", "reconnect: cut", "subscribe Some(framework-1-1) proof true suppressed [\"ops\"]"]
    );
    session.handle(Input::Call(Call::Revive { roles: Vec::new() }));
    session.handle(cut());
    session.handle(Input::Connected);
    assert_eq!(effects(&mut session)[1], "subscribe Some(framework-1-1) proof true suppressed []");
    assert_eq!(session.identity().unwrap().framework, framework());
}

#[test]
fn a_deposed_master_is_not_obeyed() {
    let mut session = new();
    session.handle(Input::Connected);
    session.handle(subscribed(3, 1, &[]));
    session.handle(cut());
    session.handle(Input::Connected);
    drop(session.drain_effects());
    session.handle(subscribed(2, 2, &[]));
    assert_eq!(effects(&mut session), ["reconnect: master has epoch 2, but epoch 3 has been seen"]);
    session.handle(Input::FromMaster(SchedulerEvent::Offers(vec![offer(1, 1)])));
    assert!(effects(&mut session).is_empty());
}

#[test]
fn a_master_that_will_not_have_the_subscription_is_left_for_the_next_one() {
    let mut session = new();
    session.handle(Input::Connected);
    drop(session.drain_effects());
    session.handle(Input::FromMaster(SchedulerEvent::Error { message: "epoch 3 has been seen".into(), fatal: false }));
    assert_eq!(effects(&mut session), ["reconnect: epoch 3 has been seen"]);
}

#[test]
fn offers_end_with_their_stream_and_can_be_used_once() {
    let mut session = connected();
    session.handle(Input::FromMaster(SchedulerEvent::Offers(vec![offer(1, 1), offer(2, 1), offer(3, 1)])));
    session.handle(accept(&[1, 2], vec![launch("a", 2)]));
    session.handle(accept(&[1], vec![launch("b", 2)]));
    session.handle(Input::FromMaster(SchedulerEvent::Rescinded(vec![OfferId::new(Epoch(1), 1)])));
    let seen = effects(&mut session);
    assert_eq!(seen, ["3 offers", "1> accept [offer-1-1, offer-1-2] [\"a\"]", "b0..2 DROPPED INVALID_OFFERS"]);
    session.handle(cut());
    assert_eq!(effects(&mut session), ["rescinded [offer-1-3]", "disconnected", "reconnect: cut"]);
    session.handle(accept(&[3], vec![launch("c", 1)]));
    assert_eq!(effects(&mut session), ["c0..1 DROPPED INVALID_OFFERS"]);
}

#[test]
fn offers_of_two_agents_do_not_combine_and_go_back() {
    let mut session = connected();
    session.handle(Input::FromMaster(SchedulerEvent::Offers(vec![offer(1, 1), offer(2, 2)])));
    session.handle(accept(&[1, 2], vec![launch("a", 1)]));
    let seen = effects(&mut session);
    assert_eq!(seen[1..], ["1> decline [offer-1-1, offer-1-2]", "a0..1 DROPPED INVALID_OFFERS"]);
}

#[test]
fn a_launch_that_cannot_be_is_answered_without_harm_to_the_others() {
    let mut session = connected();
    session.handle(Input::FromMaster(SchedulerEvent::Offers(vec![offer(1, 1), offer(2, 1), offer(3, 1)])));
    session.handle(accept(&[1], vec![launch("a", 1), launch("a", 1), launch("big", 5000)]));
    let invalid = Launch { spec: TaskSpec::default().into(), ..launch("b", 2) };
    session.handle(accept(&[2], vec![launch("a", 1), invalid]));
    let seen = effects(&mut session);
    assert_eq!(
        seen[1..],
        [
            "error: launch big is refused: launch has 5000 tasks; it needs 1 to 4096",
            "error: launch a is refused: the framework has a live launch of that name",
            "1> accept [offer-1-1] [\"a\"]",
            "error: launch a is refused: the framework has a live launch of that name",
            "b0..2 ERROR INVALID_TASK",
            "1> decline [offer-1-2]",
        ]
    );
}

#[test]
fn statuses_are_delivered_before_they_are_acknowledged_and_once() {
    let mut session = connected();
    session.handle(Input::FromMaster(SchedulerEvent::Offers(vec![offer(1, 1)])));
    session.handle(accept(&[1], vec![launch("a", 2)]));
    drop(session.drain_effects());
    session.handle(updates(Source::Agent, &[(1, "a", TaskState::Running)]));
    session.handle(updates(Source::Agent, &[(2, "a", TaskState::Finished)]));
    assert_eq!(effects(&mut session), ["a0..1 RUNNING -", "a0..1 FINISHED -", "1> acknowledge agent-1-1 2"]);
    session.handle(updates(Source::Agent, &[(2, "a", TaskState::Finished)]));
    assert_eq!(effects(&mut session), ["1> acknowledge agent-1-1 2"]);
    session.handle(updates(Source::Master, &[(0, "a", TaskState::Gone)]));
    assert!(effects(&mut session).is_empty());
}

#[test]
fn what_was_accepted_and_never_arrived_is_dropped_when_its_agent_resolves() {
    let mut session = connected();
    session.handle(page(1, Vec::new()));
    session.handle(page(2, Vec::new()));
    session.handle(Input::FromMaster(SchedulerEvent::Offers(vec![offer(1, 1), offer(2, 2), offer(3, 3)])));
    session.handle(accept(&[1], vec![launch("a", 2)]));
    session.handle(accept(&[2], vec![launch("b", 2)]));
    session.handle(accept(&[3], vec![launch("c", 2)]));
    session.handle(cut());
    session.handle(Input::Connected);
    drop(session.drain_effects());
    session.handle(subscribed(2, 2, &[2]));
    session.handle(page(1, Vec::new()));
    assert_eq!(effects(&mut session), ["registered", "a0..2 DROPPED AGENT_DISCONNECTED"]);
    session.handle(Input::FromMaster(SchedulerEvent::Heartbeat));
    assert_eq!(effects(&mut session), ["c0..2 GONE AGENT_RESTARTED"]);
    session.handle(page(2, Vec::new()));
    assert_eq!(effects(&mut session), ["b0..2 DROPPED AGENT_DISCONNECTED"]);
}

#[test]
fn a_lost_agent_that_never_reported_leaves_its_tasks_unreachable() {
    let mut session = connected();
    session.handle(Input::FromMaster(SchedulerEvent::Offers(vec![offer(1, 1)])));
    session.handle(accept(&[1], vec![launch("a", 1)]));
    session.handle(updates(Source::Agent, &[(1, "a", TaskState::Running)]));
    session.handle(cut());
    session.handle(Input::Connected);
    session.handle(subscribed(2, 2, &[1]));
    drop(session.drain_effects());
    session.handle(Input::FromMaster(SchedulerEvent::AgentLost { agent: agent(1), message: "silent".into() }));
    assert_eq!(effects(&mut session)[1], "a0..1 UNREACHABLE AGENT_LOST");
    session.handle(updates(Source::Agent, &[(2, "a", TaskState::Running)]));
    assert_eq!(effects(&mut session)[0], "a0..1 RUNNING -");
}

#[test]
fn a_lost_agent_keeps_its_tasks_until_it_is_back() {
    let mut session = connected();
    session.handle(Input::FromMaster(SchedulerEvent::Offers(vec![offer(1, 1)])));
    session.handle(accept(&[1], vec![launch("a", 1)]));
    session.handle(updates(Source::Agent, &[(1, "a", TaskState::Running)]));
    session.handle(cut());
    session.handle(Input::Connected);
    session.handle(subscribed(2, 2, &[]));
    session.handle(Input::FromMaster(SchedulerEvent::AgentLost { agent: agent(1), message: "silent".into() }));
    drop(session.drain_effects());
    session.handle(Input::FromMaster(SchedulerEvent::Heartbeat));
    assert!(effects(&mut session).is_empty());
    session.handle(page(1, vec![report(&launch("a", 1), 1, &[TaskState::Running])]));
    assert_eq!(effects(&mut session), ["a0..1 RUNNING -"]);
}

#[test]
fn a_kill_asked_for_without_a_master_is_sent_when_its_agent_resolves() {
    let mut session = connected();
    session.handle(Input::FromMaster(SchedulerEvent::Offers(vec![offer(1, 1)])));
    session.handle(accept(&[1], vec![launch("a", 1)]));
    session.handle(updates(Source::Agent, &[(1, "a", TaskState::Running)]));
    session.handle(cut());
    session.handle(Input::Call(Call::Kill { task: "a/0".parse().unwrap(), grace: None }));
    session.handle(Input::Connected);
    session.handle(subscribed(1, 2, &[]));
    drop(session.drain_effects());
    session.handle(page(1, vec![report(&launch("a", 1), 1, &[TaskState::Running])]));
    assert_eq!(effects(&mut session), ["2> kill a/0"]);
}

#[test]
fn a_call_too_large_to_be_sent_ends_its_tasks_and_returns_its_offers() {
    let mut session = connected();
    session.handle(Input::FromMaster(SchedulerEvent::Offers(vec![offer(1, 1)])));
    session.handle(accept(&[1], vec![launch("a", 2)]));
    drop(session.drain_effects());
    let call = Call::Accept {
        offers: vec![OfferId::new(Epoch(1), 1)],
        launches: vec![launch("a", 2)],
        refusal: Refusal::default(),
    };
    session.handle(Input::Unsent { call, message: "too large".into() });
    assert_eq!(effects(&mut session), ["a0..2 ERROR INVALID_TASK", "1> decline [offer-1-1]"]);
}

#[test]
fn a_teardown_is_repeated_until_the_master_says_that_it_is_over() {
    let mut session = connected();
    session.handle(Input::Call(Call::Teardown));
    session.handle(cut());
    session.handle(Input::Connected);
    session.handle(subscribed(1, 2, &[]));
    let seen = effects(&mut session);
    assert_eq!((seen[0].as_str(), seen.last().unwrap().as_str()), ("1> teardown", "2> teardown"));
    session.handle(Input::FromMaster(SchedulerEvent::Error { message: "over".into(), fatal: true }));
    assert_eq!(effects(&mut session), ["TornDown"]);
    session.handle(Input::Connected);
    assert!(effects(&mut session).is_empty());
}

#[test]
fn a_refused_subscription_does_not_try_again() {
    let mut session = new();
    session.handle(Input::Connected);
    drop(session.drain_effects());
    session.handle(Input::FromMaster(SchedulerEvent::Error { message: "wrong secret".into(), fatal: true }));
    assert_eq!(effects(&mut session), ["Refused(\"wrong secret\")"]);
}

fn report(launch: &Launch, slots: u32, states: &[TaskState]) -> BatchReport {
    BatchReport {
        framework: framework(),
        role: Role::default_role(),
        id: launch.id.clone(),
        tasks: launch.tasks,
        slots,
        shape: launch.spec.resources.clone(),
        module: Digest::default(),
        revocable: false,
        origins: holm_model::Portions::EMPTY,
        runs: states.iter().map(|state| StatusRun { count: 1, status: TaskStatus::of(*state) }).collect(),
    }
}

mod histories {
    //! Random histories of one framework, a master and its agents, with every message liable to be lost in a cut.

    use std::collections::VecDeque;

    use holm_model::TaskId;
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Launch { agent: u64, count: u32 },
        Progress { pick: usize, end: bool },
        Cut,
        Reconnect,
        Flow { down: usize, up: usize },
        WipeAgent { agent: u64 },
        NewMaster,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (1..3_u64, 1..4_u32).prop_map(|(agent, count)| Step::Launch { agent, count }),
            8 => (any::<usize>(), any::<bool>()).prop_map(|(pick, end)| Step::Progress { pick, end }),
            2 => Just(Step::Cut),
            3 => Just(Step::Reconnect),
            6 => (0..6_usize, 0..6_usize).prop_map(|(down, up)| Step::Flow { down, up }),
            1 => (1..3_u64).prop_map(|agent| Step::WipeAgent { agent }),
            1 => Just(Step::NewMaster),
        ];
        proptest::collection::vec(step, 1..120)
    }

    #[derive(Default)]
    struct Host {
        incarnation: u64,
        launches: BTreeMap<BatchId, (Launch, Vec<TaskState>)>,
        log: Vec<Update>,
        sequence: u64,
    }

    /// The cluster as one: what agents have, and the two directions of the stream.
    struct World {
        session: Subscription,
        hosts: BTreeMap<u64, Host>,
        epoch: u64,
        framework_epoch: u64,
        /// The agent of every offer made.
        offered: BTreeMap<u64, u64>,
        launched: u64,
        open: bool,
        subscribed: bool,
        down: VecDeque<SchedulerEvent>,
        up: VecDeque<Outbound>,
        ends: BTreeMap<TaskId, u32>,
        asked: Vec<TaskId>,
    }

    impl World {
        fn new() -> World {
            let host = || Host { incarnation: 1, ..Host::default() };
            World {
                session: new(),
                hosts: BTreeMap::from([(1, host()), (2, host())]),
                epoch: 1,
                framework_epoch: 0,
                offered: BTreeMap::new(),
                launched: 0,
                open: false,
                subscribed: false,
                down: VecDeque::new(),
                up: VecDeque::new(),
                ends: BTreeMap::new(),
                asked: Vec::new(),
            }
        }

        fn perform(&mut self) {
            for effect in self.session.drain_effects() {
                match effect {
                    Effect::Send(message) => self.up.push_back(message),
                    Effect::Deliver(Notice::Updates(updates)) => {
                        for update in updates.iter().filter(|update| update.status.state.is_terminal()) {
                            update.task_ids().for_each(|task| *self.ends.entry(task).or_default() += 1);
                        }
                    }
                    Effect::Deliver(Notice::Error { message }) => panic!("{message}"),
                    Effect::Deliver(_) => {}
                    Effect::Reconnect { .. } => {
                        self.open = false;
                        self.subscribed = false;
                        self.up.clear();
                        self.down.clear();
                    }
                    Effect::Ended(end) => panic!("{end:?}"),
                }
            }
        }

        fn input(&mut self, input: Input) {
            self.session.handle(input);
            self.perform();
        }

        fn cut(&mut self) {
            if self.open {
                self.input(cut());
            }
        }

        fn reconnect(&mut self) {
            if !self.open {
                self.open = true;
                self.input(Input::Connected);
            }
        }

        /// The offer skips the queue, so that the acceptance is of something held; the launch itself may be lost.
        fn launch(&mut self, number: u64, count: u32) {
            if !matches!(self.session.phase(), Phase::Subscribed { .. }) {
                return;
            }
            let number_of_offer = self.offered.len() as u64 + 1;
            self.offered.insert(number_of_offer, number);
            self.launched += 1;
            self.input(Input::FromMaster(SchedulerEvent::Offers(vec![offer(number_of_offer, number)])));
            let launch = launch(&format!("t{}", self.launched), count);
            self.asked.extend((0..count).map(|position| launch.task_id(position)));
            self.input(accept(&[number_of_offer], vec![launch]));
        }

        fn progress(&mut self, pick: usize, end: bool) {
            let mut live = Vec::new();
            for (number, host) in &self.hosts {
                for (id, (_, states)) in &host.launches {
                    let positions = (0_u32..).zip(states).filter(|(_, state)| !state.is_terminal());
                    live.extend(positions.map(|(position, _)| (*number, id.clone(), position)));
                }
            }
            if live.is_empty() {
                return;
            }
            let (number, batch, first) = live[pick % live.len()].clone();
            let host = self.hosts.get_mut(&number).unwrap();
            let state = &mut host.launches.get_mut(&batch).unwrap().1[first as usize];
            *state = if end { TaskState::Finished } else { TaskState::Running };
            host.sequence += 1;
            let status = TaskStatus::of(*state);
            let update = Update { sequence: host.sequence, batch, first, count: 1, status, usages: Usages::default() };
            host.log.push(update.clone());
            let incarnation = Incarnation(host.incarnation);
            self.say(number, incarnation, Source::Agent, vec![update]);
        }

        fn say(&mut self, number: u64, incarnation: Incarnation, source: Source, updates: Vec<Update>) {
            if self.subscribed && !updates.is_empty() {
                self.down.push_back(SchedulerEvent::Updates { agent: agent(number), incarnation, source, updates });
            }
        }

        fn wipe(&mut self, number: u64) {
            let host = self.hosts.get_mut(&number).unwrap();
            let incarnation = Incarnation(host.incarnation + 1);
            let old = std::mem::replace(host, Host { incarnation: incarnation.0, ..Host::default() });
            let gone = old.launches.into_iter().map(|(batch, (launch, _))| {
                let status = TaskStatus::because(TaskState::Gone, Reason::AgentRestarted, "rebooted");
                Update { sequence: 0, batch, first: 0, count: launch.tasks.count(), status, usages: Usages::default() }
            });
            let gone = gone.collect();
            self.say(number, incarnation, Source::Master, gone);
        }

        fn master_hears(&mut self, message: Outbound) {
            match message {
                Outbound::Subscribe { .. } => self.subscribe(),
                Outbound::Call { call: Call::Accept { offers, launches, .. }, .. } => {
                    assert_eq!(offers.len(), 1);
                    let number = self.offered[&offers[0].counter()];
                    for launch in launches {
                        let states = vec![TaskState::Staging; launch.tasks.count() as usize];
                        let host = self.hosts.get_mut(&number).unwrap();
                        assert!(host.launches.insert(launch.id.clone(), (launch, states)).is_none(), "launched twice");
                    }
                }
                Outbound::Call { call: Call::Acknowledge { agent, incarnation, sequence }, .. } => {
                    let host = self.hosts.get_mut(&agent.counter()).unwrap();
                    if host.incarnation == incarnation.0 {
                        host.log.retain(|update| update.sequence > sequence);
                        let log = &host.log;
                        host.launches.retain(|id, (_, states)| {
                            !states.iter().all(|state| state.is_terminal())
                                || log.iter().any(|entry| entry.batch == *id)
                        });
                    }
                }
                Outbound::Call { .. } => {}
            }
        }

        fn subscribe(&mut self) {
            self.framework_epoch += 1;
            self.subscribed = true;
            let Input::FromMaster(confirmed) = subscribed(self.epoch, self.framework_epoch, &[2]) else { return };
            self.down.push_back(confirmed);
            for number in [1, 2] {
                let host = &self.hosts[&number];
                let reports = host.launches.values().map(|(launch, states)| report(launch, 1, states)).collect();
                let incarnation = Incarnation(host.incarnation);
                let log = host.log.clone();
                if number == 2 {
                    self.down.push_back(SchedulerEvent::Heartbeat);
                }
                self.down.push_back(SchedulerEvent::Tasks {
                    agent: agent(number),
                    incarnation,
                    batches: reports,
                    last: true,
                });
                self.say(number, incarnation, Source::Agent, log);
            }
        }

        fn flow(&mut self, down: usize, up: usize) {
            for _ in 0..up {
                let Some(message) = self.up.pop_front() else { break };
                self.master_hears(message);
            }
            for _ in 0..down {
                let Some(event) = self.down.pop_front() else { break };
                self.input(Input::FromMaster(event));
            }
        }

        fn step(&mut self, step: Step) {
            match step {
                Step::Launch { agent, count } => self.launch(agent, count),
                Step::Progress { pick, end } => self.progress(pick, end),
                Step::Cut => self.cut(),
                Step::Reconnect => self.reconnect(),
                Step::Flow { down, up } => self.flow(down, up),
                Step::WipeAgent { agent } => self.wipe(agent),
                Step::NewMaster => {
                    self.cut();
                    self.epoch += 1;
                }
            }
        }

        /// Lets everything end and everything arrive.
        fn finish(&mut self) {
            for _ in 0..1000 {
                self.reconnect();
                self.flow(usize::MAX, usize::MAX);
                self.progress(0, true);
            }
            self.flow(usize::MAX, usize::MAX);
            self.flow(usize::MAX, usize::MAX);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn every_task_ends_exactly_once_whatever_is_cut_or_replayed(steps in steps()) {
            let mut world = World::new();
            for step in steps {
                world.step(step);
            }
            world.finish();
            for task in &world.asked {
                prop_assert_eq!(world.ends.get(task), Some(&1), "{}", task);
            }
            prop_assert_eq!(world.ends.len(), world.asked.len());
            for host in world.hosts.values() {
                prop_assert!(host.log.is_empty() && host.launches.is_empty(), "something was not acknowledged");
            }
        }
    }
}
