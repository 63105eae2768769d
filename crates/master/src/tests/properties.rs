//! Whatever happens, in whatever order: the invariants hold after every event, and every resource is free in the end.

use std::time::Duration;

use holm_model::*;
use proptest::prelude::*;

use super::harness::*;
use crate::{Event, PersistOutcome};

#[derive(Clone, Debug)]
enum Step {
    Agent,
    AgentGone(usize),
    AgentBack { agent: usize, life: u64, keep: bool },
    Report { agent: usize, state: usize },
    Framework { zero: bool },
    FrameworkGone(usize),
    FrameworkBack { framework: usize, role: usize },
    Accept { framework: usize, slots: u32, refuse: u64 },
    Steal { framework: usize },
    Decline { framework: usize, refuse: u64 },
    Suppress(usize),
    Revive(usize),
    Update { agent: usize, framework: usize, name: usize, first: u32, count: u32, state: usize },
    Acknowledge { framework: usize, agent: usize, sequence: u64 },
    Kill { framework: usize, name: usize },
    Teardown(usize),
    Pass(u64),
    Commits(bool),
}

const STATES: [TaskState; 6] = [
    TaskState::Staging,
    TaskState::Running,
    TaskState::Killing,
    TaskState::Finished,
    TaskState::Failed,
    TaskState::Dropped,
];
const ROLES: [&str; 2] = ["a", "b"];
const NAMES: usize = 6;

fn step() -> impl Strategy<Value = Step> {
    let at = 0usize..4;
    let (agent, framework, name) = (at.clone(), at.clone(), 0..NAMES);
    prop_oneof![
        1 => Just(Step::Agent),
        1 => agent.clone().prop_map(Step::AgentGone),
        2 => (agent.clone(), 0u64..2, any::<bool>()).prop_map(|(agent, life, keep)| Step::AgentBack { agent, life, keep }),
        3 => (agent.clone(), 0usize..6).prop_map(|(agent, state)| Step::Report { agent, state }),
        1 => any::<bool>().prop_map(|zero| Step::Framework { zero }),
        1 => framework.clone().prop_map(Step::FrameworkGone),
        2 => (framework.clone(), 0usize..2).prop_map(|(framework, role)| Step::FrameworkBack { framework, role }),
        6 => (framework.clone(), 1u32..4, 0u64..3)
            .prop_map(|(framework, slots, refuse)| Step::Accept { framework, slots, refuse }),
        1 => framework.clone().prop_map(|framework| Step::Steal { framework }),
        1 => (framework.clone(), 0u64..3).prop_map(|(framework, refuse)| Step::Decline { framework, refuse }),
        1 => framework.clone().prop_map(Step::Suppress),
        1 => framework.clone().prop_map(Step::Revive),
        8 => (agent.clone(), framework.clone(), name.clone(), 0u32..5, 1u32..6, 0usize..6).prop_map(
            |(agent, framework, name, first, count, state)| Step::Update { agent, framework, name, first, count, state }
        ),
        3 => (framework.clone(), agent, 0u64..30)
            .prop_map(|(framework, agent, sequence)| Step::Acknowledge { framework, agent, sequence }),
        1 => (framework.clone(), name).prop_map(|(framework, name)| Step::Kill { framework, name }),
        1 => framework.prop_map(Step::Teardown),
        3 => prop_oneof![Just(1u64), Just(2_000), Just(20_000), Just(90_000)].prop_map(Step::Pass),
        1 => any::<bool>().prop_map(Step::Commits),
    ]
}

/// Peers as the test remembers them, connected or not.
struct World {
    cluster: Cluster,
    agents: Vec<(TestAgent, Incarnation)>,
    frameworks: Vec<TestFramework>,
    sequence: u64,
    launched: usize,
}

impl World {
    fn run(&mut self, step: Step) {
        match step {
            Step::Agent => {
                self.commit();
                if self.agents.len() < 4 {
                    self.agents.push((self.cluster.agent("cpus:4;mem:8GiB;ports:[1-9]"), LIFE));
                }
            }
            Step::AgentGone(at) => {
                if let Some((agent, _)) = self.agents.get(at) {
                    self.cluster.send(Event::AgentClosed { session: agent.session });
                }
            }
            Step::AgentBack { agent, life, keep } => self.agent_back(agent, life, keep),
            Step::Report { agent, state } => self.report(agent, STATES[state]),
            Step::Framework { zero } => {
                self.commit();
                let timeout = if zero { Duration::ZERO } else { Duration::from_secs(60) };
                if self.frameworks.len() < 4 {
                    let info = FrameworkInfo { failover_timeout: timeout, ..info(&["a"]) };
                    self.frameworks.push(self.cluster.framework_with(info));
                }
            }
            Step::FrameworkGone(at) => {
                if let Some(framework) = self.frameworks.get(at) {
                    self.cluster.send(Event::FrameworkClosed { session: framework.session });
                }
            }
            Step::FrameworkBack { framework, role } => {
                if let Some(framework) = self.frameworks.get_mut(framework) {
                    *framework = self.cluster.resubscribe(*framework, info(&[ROLES[role]]));
                }
            }
            Step::Pass(millis) => self.cluster.pass(Duration::from_millis(millis)),
            Step::Commits(on) => {
                self.cluster.commits = on;
                self.cluster.answer(if on { PersistOutcome::Committed } else { PersistOutcome::Unknown });
            }
            Step::Update { agent, framework, name, first, count, state } => {
                self.sequence += 1;
                let (Some((agent, life)), Some(framework)) = (self.agents.get(agent), self.frameworks.get(framework))
                else {
                    return;
                };
                let updates = vec![update(self.sequence, &format!("t{name}"), first, count, STATES[state])];
                let (framework, incarnation) = (framework.id, *life);
                let message = ToMaster::Updates { framework, incarnation, updates };
                self.cluster.say(agent.session, message);
            }
            other => self.call(other),
        }
    }

    fn commit(&mut self) {
        self.cluster.commits = true;
        self.cluster.answer(PersistOutcome::Committed);
    }

    fn agent_back(&mut self, at: usize, life: u64, keep: bool) {
        let Some((agent, before)) = self.agents.get_mut(at) else { return };
        *before = Incarnation(7 + life);
        let shape = if keep { "cpus:4;mem:8GiB;ports:[1-9]" } else { "cpus:2;mem:2GiB" };
        *agent = self.cluster.reopen(*agent, shape, *before);
    }

    fn report(&mut self, at: usize, state: TaskState) {
        let Some((agent, _)) = self.agents.get(at).copied() else { return };
        let known: Vec<BatchReport> = self
            .cluster
            .master
            .launches
            .iter()
            .filter(|(place, _)| place.agent == agent.id)
            .map(|(place, record)| record.report(place.framework, &place.batch))
            .map(|report| {
                let count = report.tasks.count();
                BatchReport { runs: vec![StatusRun { count, status: TaskStatus::of(state) }], ..report }
            })
            .enumerate()
            .filter(|(at, _)| at % 3 != 2)
            .map(|(_, report)| report)
            .collect();
        self.cluster.say(agent.session, ToMaster::Report { batches: known, last: true });
    }

    fn call(&mut self, step: Step) {
        let (at, refuse) = match &step {
            Step::Accept { framework, refuse, .. } | Step::Decline { framework, refuse } => (*framework, *refuse),
            Step::Steal { framework } | Step::Acknowledge { framework, .. } | Step::Kill { framework, .. } => {
                (*framework, 0)
            }
            Step::Suppress(at) | Step::Revive(at) | Step::Teardown(at) => (*at, 0),
            _ => return,
        };
        let Some(framework) = self.frameworks.get(at).copied() else { return };
        if self.cluster.subscribed(framework.session).is_none() {
            return;
        }
        let refusal = Refusal::new(Duration::from_secs(refuse));
        let own = self.cluster.offers(framework);
        let ids: Vec<OfferId> = own.iter().map(|offer| offer.id).take(2).collect();
        let call = match step {
            Step::Accept { slots, .. } => {
                self.launched += 1;
                let name = format!("t{}", self.launched % NAMES);
                let shape =
                    if self.launched.is_multiple_of(4) { "cpus:1;mem:1GiB;ports:[3-4]" } else { "cpus:1;mem:1GiB" };
                let launches = vec![array(&name, 5, slots, shape), single("extra", "cpus:0.5;mem:1GiB")];
                Call::Accept { offers: ids, launches, refusal }
            }
            Step::Steal { .. } => {
                let all: Vec<OfferId> = self.cluster.master.offers.out.keys().copied().collect();
                Call::Accept { offers: all, launches: vec![single("stolen", "cpus:1;mem:1GiB")], refusal }
            }
            Step::Decline { .. } => Call::Decline { offers: ids, refusal },
            Step::Suppress(_) => Call::Suppress { roles: Vec::new() },
            Step::Revive(_) => Call::Revive { roles: Vec::new() },
            Step::Acknowledge { agent, sequence, .. } => {
                let Some((agent, incarnation)) = self.agents.get(agent).copied() else { return };
                Call::Acknowledge { agent: agent.id, incarnation, sequence }
            }
            Step::Kill { name, .. } => Call::Kill { task: task(&format!("t{name}")), grace: None },
            _ => Call::Teardown,
        };
        self.cluster.call(framework, call);
    }

    /// Ends every framework and brings every agent back: nothing may stay charged.
    fn wind_down(&mut self) {
        self.commit();
        for framework in self.frameworks.clone() {
            self.cluster.send(Event::FrameworkClosed { session: framework.session });
        }
        self.cluster.pass(Duration::from_secs(120));
        for at in 0..self.agents.len() {
            self.agent_back(at, 0, true);
            let session = self.agents[at].0.session;
            self.cluster.say(session, ToMaster::Report { batches: Vec::new(), last: true });
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn the_invariants_hold_and_nothing_stays_charged(steps in prop::collection::vec(step(), 1..120)) {
        let mut world =
            World { cluster: Cluster::new(), agents: Vec::new(), frameworks: Vec::new(), sequence: 0, launched: 0 };
        for step in [Step::Agent, Step::Agent, Step::Framework { zero: false }, Step::Framework { zero: false }] {
            world.run(step);
        }
        for step in steps {
            world.run(step);
        }
        world.wind_down();
        for (agent, _) in &world.agents {
            let free = world.cluster.master.allocator.free(agent.id).map(|free| free.total());
            prop_assert_eq!(free, Some(resources("cpus:4;mem:8GiB;ports:[1-9]")));
        }
    }
}
