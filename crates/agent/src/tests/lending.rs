//! Lending: what owners leave, to whom it goes, and how it comes back.

use std::collections::BTreeMap;

use holm_model::{Reason, Resources};

use super::*;
use crate::{LendingOptions, Measured, RunnerUse};

const GIB: u64 = 1 << 30;
const OWNERS: RunnerId = RunnerId(0);
const BORROWERS: RunnerId = RunnerId(1);

/// An agent of 8 cores and 8 GiB that keeps a tenth, with an owner of half of it.
fn lending() -> Rig {
    let mut rig = Rig::new(AgentOptions { lending: Some(LendingOptions::default()), ..options() });
    rig.register();
    rig.run(launch_of("owner", 1, 1, "cpus:4;mem:4GiB"));
    rig.effects.clear();
    rig
}

fn revocable(id: &str, count: u32, slots: u32, resources: &str) -> Launch {
    let launch = launch_of(id, count, slots, resources);
    Launch { spec: TaskSpec { revocable: true, ..(*launch.spec).clone() }.into(), ..launch }
}

/// What runners use: so much CPU a second, in thousandths, and so much memory.
#[derive(Clone, Default)]
struct Usage(BTreeMap<RunnerId, (u64, u64)>);

/// Which work, which of its positions, and the grace.
type Preempted = (WorkId, Option<(u32, u32)>, Duration);

impl Usage {
    fn of(uses: &[(RunnerId, u64, u64)]) -> Usage {
        Usage(uses.iter().map(|(runner, milli, memory)| (*runner, (*milli, *memory))).collect())
    }
}

impl Rig {
    /// Lets the agent look at this usage once a second, with enough memory in the host.
    fn look(&mut self, seconds: u64, usage: &Usage) {
        for _ in 0..seconds {
            self.now = self.now + Duration::from_secs(1);
            let second = self.now.since(Time::ZERO).as_secs();
            let of = |(runner, (milli, memory)): (&RunnerId, &(u64, u64))| {
                let cpu = Duration::from_millis(milli * second);
                (*runner, RunnerUse { cpu, memory: *memory, hungry: false })
            };
            let runners = usage.0.iter().map(of).collect();
            self.master(ToAgent::Ping);
            self.event(AgentEvent::UsageMeasured(Measured { runners, available: 64 * GIB }));
        }
    }

    fn lent_told(&self) -> Vec<String> {
        let said = self.to_master().into_iter().filter_map(|message| match message {
            ToMaster::Revocable(estimate) => Some(estimate.to_string()),
            _ => None,
        });
        said.collect()
    }

    fn preemptions(&self) -> Vec<Preempted> {
        let kills = self.effects.iter().filter_map(|effect| match effect {
            AgentEffect::ToRunner { message: ToRunner::Kill { work, positions, grace }, .. } => {
                Some((*work, *positions, *grace))
            }
            _ => None,
        });
        kills.collect()
    }

    fn status(&self, id: &str, position: u32) -> TaskStatus {
        let (work, _) = self.agent.find(framework(1), &id.parse().unwrap()).unwrap();
        self.agent.durable.works[&work.work].status(position).clone()
    }

    fn starts(&mut self, work: WorkId, sequence: u64, first: u32, count: u32) {
        let running = report(sequence, work, first, count, TaskState::Running);
        self.runner_says(BORROWERS, FromRunner::Reports(vec![running]));
    }
}

fn idle() -> Usage {
    Usage::of(&[(OWNERS, 0, GIB), (BORROWERS, 500, 0)])
}

#[test]
fn what_owners_leave_unused_is_lent_after_a_while_less_a_margin() {
    let mut rig = lending();
    rig.look(30, &idle());
    assert_eq!(rig.lent_told(), [""; 0]);
    rig.look(60, &idle());
    // 4 cores and 3 GiB are idle; a tenth of 8 cores and 8 GiB is kept.
    assert_eq!(rig.lent_told(), ["cpus:3.2;mem:2240MiB"]);
    // A burst of the owner shrinks it at once, to come back a window later.
    rig.effects.clear();
    rig.look(1, &Usage::of(&[(OWNERS, 2_000, GIB)]));
    assert_eq!(rig.lent_told().len(), 1);
    rig.look(28, &idle());
    assert_eq!(rig.lent_told().len(), 1);
    rig.look(5, &idle());
    assert_eq!(rig.lent_told().last().unwrap(), "cpus:3.2;mem:2240MiB");
}

#[test]
fn a_new_master_hears_what_is_lent() {
    let mut rig = lending();
    rig.look(40, &idle());
    rig.effects.clear();
    rig.register();
    assert_eq!(rig.lent_told(), ["cpus:3.2;mem:2240MiB"]);
}

#[test]
fn borrowers_have_what_is_lent_and_runners_of_their_own() {
    let mut rig = lending();
    rig.launch(revocable("early", 1, 1, "cpus:1;mem:1GiB"));
    let refused = rig.status("early", 0);
    assert_eq!((refused.state, refused.reason), (TaskState::Dropped, Some(Reason::AgentRefused)));
    assert!(refused.message.contains("lent"), "{}", refused.message);
    rig.look(40, &idle());
    rig.run(revocable("one", 1, 1, "cpus:2;mem:1GiB"));
    assert_eq!(rig.agent.scope_of_runner(BORROWERS).map(|scope| scope.revocable), Some(true));
    assert_eq!(rig.agent.scope_of_runner(OWNERS).map(|scope| scope.revocable), Some(false));
    assert_eq!(rig.agent.borrowed().to_string(), "cpus:2;mem:1GiB");
    assert_eq!(rig.agent.held().to_string(), "cpus:4;mem:4GiB");
    // Its CPU time is beyond what anybody is entitled to.
    assert_eq!(rig.agent.entitled_cpus().collect::<Vec<_>>(), [(OWNERS, 4_000), (BORROWERS, 0)]);
    rig.launch(revocable("two", 1, 1, "cpus:2;mem:1GiB"));
    assert_eq!(rig.status("two", 0).state, TaskState::Dropped);
    // What nobody holds is there for owners as ever.
    rig.run_for(framework(2), launch_of("other", 1, 1, "cpus:4;mem:4GiB"));
    assert_eq!(rig.agent.held().to_string(), "cpus:8;mem:8GiB");
}

#[test]
fn the_youngest_goes_when_owners_need_their_memory_back() {
    let mut rig = lending();
    rig.look(40, &idle());
    let old = rig.run(revocable("old", 1, 1, "cpus:1;mem:1GiB"));
    let young = rig.run(revocable("young", 1, 1, "cpus:1;mem:1GiB"));
    rig.starts(old, 1, 0, 1);
    rig.starts(young, 2, 0, 1);
    rig.run_for(framework(2), launch_of("other", 1, 1, "cpus:4;mem:4GiB"));
    rig.effects.clear();
    // Owners and borrowers together stay within the margin ...
    let usage = |owners: u64| Usage::of(&[(OWNERS, 0, 4 * GIB), (BORROWERS, 500, 2 * GIB), (RunnerId(2), 0, owners)]);
    rig.look(1, &usage(GIB));
    assert_eq!(rig.preemptions(), []);
    // ... and then they do not.
    rig.look(1, &usage(2 * GIB - (400 << 20)));
    assert_eq!(rig.preemptions(), [(young, Some((0, 1)), Duration::from_secs(5))]);
    let kill = rig.effects.iter().position(|effect| matches!(effect, AgentEffect::ToRunner { .. }));
    let told = rig.effects.iter().position(|effect| {
        matches!(effect, AgentEffect::ToMaster { message: ToMaster::Revocable(estimate), .. } if estimate.is_empty())
    });
    assert!(told.is_some() && told < kill, "what is lent shrinks first");
    assert_eq!((rig.status("young", 0).state, rig.status("old", 0).state), (TaskState::Killing, TaskState::Running));
    rig.runner_says(BORROWERS, FromRunner::Reports(vec![report(3, young, 0, 1, TaskState::Killed)]));
    let end = rig.status("young", 0);
    assert_eq!((end.state, end.reason), (TaskState::Killed, Some(Reason::Preempted)));
    assert!(end.message.contains("memory is needed back"), "{}", end.message);
    assert_eq!(rig.agent.borrowed().to_string(), "cpus:1;mem:1GiB");
    assert_eq!(rig.agent.counters().preempted_tasks, 1);
}

#[test]
fn an_emergency_leaves_no_grace_and_takes_as_many_as_it_needs() {
    let mut rig = lending();
    rig.look(40, &idle());
    let batch = rig.run(revocable("batch", 10, 2, "cpus:1;mem:1GiB"));
    rig.starts(batch, 1, 0, 2);
    rig.run_for(framework(2), launch_of("other", 1, 1, "cpus:4;mem:4GiB"));
    rig.effects.clear();
    rig.look(1, &Usage::of(&[(OWNERS, 0, 4 * GIB), (BORROWERS, 500, 2 * GIB), (RunnerId(2), 0, 3 * GIB)]));
    // The tail that has not started, then both that run.
    assert_eq!(rig.preemptions(), [(batch, Some((0, 10)), Duration::ZERO)]);
    let kills = rig.preemptions().len();
    rig.look(1, &Usage::of(&[(OWNERS, 0, 4 * GIB), (BORROWERS, 500, 2 * GIB), (RunnerId(2), 0, 3 * GIB)]));
    assert_eq!(rig.preemptions().len(), kills, "nobody is killed twice");
}

#[test]
fn who_was_not_sent_yet_ends_at_once() {
    let mut rig = lending();
    rig.look(40, &idle());
    let running = rig.run(revocable("running", 1, 1, "cpus:1;mem:1GiB"));
    rig.starts(running, 1, 0, 1);
    rig.launch(revocable("unsent", 3, 1, "cpus:1;mem:1GiB"));
    rig.effects.clear();
    // The owner computes for so long that borrowers are of no use here.
    let busy = Usage::of(&[(OWNERS, 4_000, GIB), (BORROWERS, 0, GIB)]);
    rig.look(119, &busy);
    assert_eq!(rig.status("unsent", 0).state, TaskState::Staging);
    rig.look(2, &busy);
    let end = rig.status("unsent", 2);
    assert_eq!((end.state, end.reason), (TaskState::Killed, Some(Reason::Preempted)));
    assert_eq!(rig.preemptions(), [(running, Some((0, 1)), Duration::from_secs(5))]);
}

#[test]
fn a_preemption_survives_the_agents_process() {
    let mut rig = lending();
    rig.look(40, &idle());
    let work = rig.run(revocable("one", 1, 1, "cpus:1;mem:1GiB"));
    rig.starts(work, 1, 0, 1);
    rig.look(1, &Usage::of(&[(OWNERS, 0, 8 * GIB), (BORROWERS, 500, GIB)]));
    assert_eq!(rig.status("one", 0).state, TaskState::Running, "an owner is taken for no more than it holds");
    rig.run_for(framework(2), launch_of("other", 1, 1, "cpus:4;mem:4GiB"));
    rig.event(AgentEvent::RunnerDisconnected { runner: BORROWERS });
    rig.look(1, &Usage::of(&[(OWNERS, 0, 4 * GIB), (BORROWERS, 500, GIB), (RunnerId(2), 0, 4 * GIB)]));
    assert_eq!(rig.status("one", 0).state, TaskState::Killing);
    rig.effects.clear();
    rig.restart();
    assert_eq!(rig.agent.borrowed().to_string(), "cpus:1;mem:1GiB", "it holds what it holds until it has ended");
    rig.hello(BORROWERS, &[work]);
    assert_eq!(rig.preemptions().len(), 1);
    rig.runner_says(BORROWERS, FromRunner::Reports(vec![report(2, work, 0, 1, TaskState::Killed)]));
    assert_eq!(rig.status("one", 0).reason, Some(Reason::Preempted));
}

#[test]
fn nothing_is_lent_for_a_while_after_somebody_had_to_go() {
    let mut rig = lending();
    rig.look(40, &idle());
    let work = rig.run(revocable("one", 1, 1, "cpus:1;mem:1GiB"));
    rig.starts(work, 1, 0, 1);
    rig.run_for(framework(2), launch_of("other", 1, 1, "cpus:4;mem:4GiB"));
    let full = Usage::of(&[(OWNERS, 0, 4 * GIB), (BORROWERS, 500, GIB), (RunnerId(2), 0, 4 * GIB)]);
    rig.look(1, &full);
    rig.runner_says(BORROWERS, FromRunner::Reports(vec![report(2, work, 0, 1, TaskState::Killed)]));
    rig.effects.clear();
    let quiet = Usage::of(&[(OWNERS, 0, GIB), (RunnerId(2), 0, GIB)]);
    rig.look(29, &quiet);
    assert_eq!(rig.agent.lent(), Resources::EMPTY);
    rig.look(5, &quiet);
    assert_ne!(rig.agent.lent(), Resources::EMPTY);
}

#[test]
fn borrowers_go_runner_by_runner_when_the_reserve_is_exceeded() {
    let lending = Some(LendingOptions::default());
    let mut rig = Rig::new(AgentOptions { lending, reserve_bytes: Some(GIB), ..options() });
    rig.register();
    rig.run(launch_of("owner", 1, 1, "cpus:4;mem:4GiB"));
    rig.look(40, &idle());
    let work = rig.run(revocable("one", 1, 1, "cpus:1;mem:1GiB"));
    rig.starts(work, 1, 0, 1);
    rig.event(AgentEvent::OverheadMeasured { bytes: 2 * GIB });
    rig.effects.clear();
    rig.look(1, &idle());
    assert_eq!(rig.preemptions(), [(work, Some((0, 1)), Duration::from_secs(5))]);
    rig.runner_says(BORROWERS, FromRunner::Reports(vec![report(2, work, 0, 1, TaskState::Killed)]));
    rig.look(10, &idle());
    let stopped = |effect: &AgentEffect| matches!(effect, AgentEffect::StopRunner { runner: BORROWERS, .. });
    assert!(rig.effects.iter().any(stopped), "what it takes beyond its tasks is free only without it");
    assert!(!rig.effects.iter().any(|effect| matches!(effect, AgentEffect::StopRunner { runner: OWNERS, .. })));
}

#[test]
fn an_agent_that_does_not_lend_takes_no_revocable_launch() {
    let mut rig = Rig::registered();
    rig.run(launch_of("owner", 1, 1, "cpus:4;mem:4GiB"));
    rig.look(100, &idle());
    assert_eq!(rig.lent_told(), [""; 0]);
    rig.launch(revocable("one", 1, 1, "cpus:1;mem:1MiB"));
    assert_eq!(rig.status("one", 0).state, TaskState::Dropped);
}
