//! The scheduler of `holm run` against offers and updates made up here.

use std::collections::BTreeMap as Map;

use holm_model::{Call, Epoch, TaskStatus, Usages};
use holm_sdk::Intent;

use super::*;
use crate::args::PlaceArgs;

/// A want that is not stated: these runs are offered whatever is free.
fn want() -> Want {
    let by_name = "cpus:1;mem:1GiB;ports:[1-1]".parse().unwrap();
    Want::new(Role::default_role(), (&by_name, 0), None, &PlaceArgs::default(), true).unwrap()
}

struct Bench {
    scheduler: RunScheduler,
    notices: mpsc::Receiver<Notice>,
    ends: mpsc::Receiver<TaskUpdate>,
    offers: u64,
}

fn bench(count: u32, capacity: u32, detach: bool) -> Bench {
    let (notices_in, notices) = mpsc::channel(NOTICES);
    let (ends_in, ends) = mpsc::channel(count as usize);
    let spec = TaskSpec { resources: "cpus:1;mem:1GiB".parse().unwrap(), ..TaskSpec::default() };
    let job = Job {
        name: "job".parse().unwrap(),
        count,
        spec: spec.into(),
        role: Role::default_role(),
        want: want(),
        free_port: false,
        capacity,
        detach,
        failover_timeout: Duration::ZERO,
    };
    let scheduler = RunScheduler::new(job, Outlet { notices: notices_in, ends: ends_in });
    Bench { scheduler, notices, ends, offers: 0 }
}

impl Bench {
    fn handle(&mut self, event: Event) -> Vec<Intent> {
        let mut calls = Calls::new();
        self.scheduler.handle(vec![event], &mut calls);
        calls.take()
    }

    fn offer(&mut self, resources: &str) -> Vec<Intent> {
        self.offers += 1;
        let offer = Offer {
            id: OfferId::new(Epoch(1), self.offers),
            framework: FrameworkId::new(Epoch(1), 1),
            role: Role::default_role(),
            agent: AgentId::new(Epoch(1), 1),
            hostname: "host".into(),
            resources: resources.parse().unwrap(),
            portions: holm_model::Portions::unreserved(resources.parse().unwrap()),
            attributes: Map::new(),
            demand: None,
            gang: None,
        };
        self.handle(Event::Offers(vec![offer]))
    }

    fn end(&mut self, batch: &str, tasks: TaskRange, status: TaskStatus) -> Vec<Intent> {
        let update =
            TaskUpdate { agent: None, batch: batch.parse().unwrap(), tasks, status, usages: Usages::default() };
        self.handle(Event::Updates(vec![update]))
    }

    fn notices(&mut self) -> Vec<Notice> {
        std::iter::from_fn(|| self.notices.try_recv().ok()).collect()
    }
}

fn launches(intents: &[Intent]) -> Vec<(String, TaskRange, u32)> {
    let launched = intents.iter().filter_map(|intent| match intent {
        Intent::Call(Call::Accept { launches, .. }) => Some(launches),
        _ => None,
    });
    launched.flatten().map(|launch| (launch.id.to_string(), launch.tasks, launch.slots)).collect()
}

fn asks_for(intents: &[Intent], call: &Call) -> bool {
    intents.contains(&Intent::Call(call.clone()))
}

#[test]
fn a_single_task_has_the_name_alone_and_ends_the_run() {
    let mut bench = bench(1, 4, false);
    let intents = bench.offer("cpus:4;mem:8GiB");
    assert_eq!(launches(&intents), [("job".to_owned(), TaskRange::Single, 1)]);
    assert!(asks_for(&intents, &Call::Suppress { roles: vec![] }));
    bench.end("job", TaskRange::Single, TaskStatus::of(TaskState::Finished));
    assert_eq!(bench.notices(), [Notice::Over { never_launched: 0 }]);
    assert_eq!(bench.ends.try_recv().unwrap().status.state, TaskState::Finished);
}

fn array(first: u32, count: u32) -> TaskRange {
    TaskRange::Array { first, count }
}

fn finished(run: Duration) -> TaskStatus {
    let mut status = TaskStatus::of(TaskState::Finished);
    status.usage.run = run;
    status
}

#[test]
fn an_array_goes_on_over_several_offers_with_its_own_indices() {
    let mut bench = bench(10, 4, false);
    let first = launches(&bench.offer("cpus:2;mem:8GiB"));
    assert_eq!(first, [("job".to_owned(), array(0, 2), 2)]);
    let second = launches(&bench.offer("cpus:4;mem:8GiB"));
    assert_eq!(second, [("job.1".to_owned(), array(2, 4), 4)]);
}

#[test]
fn short_tasks_are_launched_in_ever_larger_batches() {
    let mut bench = bench(10_000, 2, false);
    let (mut first, mut name) = (0, "job".to_owned());
    for (number, count) in [2, 8, 32, 128].into_iter().enumerate() {
        let launched = launches(&bench.offer("cpus:2;mem:8GiB"));
        assert_eq!(launched, [(name.clone(), array(first, count), 2)]);
        bench.end(&name, array(first, count), finished(Duration::from_millis(1)));
        first += count;
        name = format!("job.{}", number + 1);
    }
}

#[test]
fn long_tasks_never_queue_on_a_slot_that_others_may_want() {
    let mut bench = bench(100, 2, false);
    for first in [0, 2, 4] {
        let launched = launches(&bench.offer("cpus:2;mem:8GiB"));
        let [(name, tasks, 2)] = launched.as_slice() else { panic!("{launched:?}") };
        assert_eq!(*tasks, array(first, 2));
        bench.end(name, *tasks, finished(Duration::from_secs(3)));
    }
}

#[test]
fn an_offer_that_is_too_small_is_declined_and_after_a_while_that_is_said() {
    let mut bench = bench(1, 1, false);
    let intents = bench.offer("cpus:0.5;mem:8GiB");
    assert!(launches(&intents).is_empty());
    bench.handle(Event::Timer(TIMER_PATIENCE));
    let notices = bench.notices();
    let expected = "waiting for cpus:1;mem:1GiB; what was offered so far: cpus:0.5;mem:8GiB";
    assert_eq!(notices, [Notice::News(expected.to_owned())]);
}

#[test]
fn a_task_that_does_not_start_is_named_with_its_agent_but_not_all_the_time() {
    let mut bench = bench(1, 4, false);
    bench.offer("cpus:4;mem:8GiB");
    let mut said = Vec::new();
    for _ in 0..2 + HUSH {
        bench.handle(Event::Timer(TIMER_PATIENCE));
        said.push(bench.notices().len());
    }
    assert_eq!(said, [0, 1, 0, 0, 0, 0, 1], "not at once, then every {HUSH} ticks");
    bench.handle(Event::Timer(TIMER_PATIENCE));
    bench.end("job", TaskRange::Single, TaskStatus::of(TaskState::Running));
    for _ in 0..3 * HUSH {
        bench.handle(Event::Timer(TIMER_PATIENCE));
    }
    assert_eq!(bench.notices(), [], "a task that runs may take its time");
}

#[test]
fn a_launch_that_was_dropped_is_launched_again_but_not_for_ever() {
    let mut bench = bench(1, 1, false);
    let mut launched = 0;
    while bench.ends.try_recv().is_err() {
        let names = launches(&bench.offer("cpus:4;mem:8GiB"));
        let [(name, ..)] = names.as_slice() else { panic!("not launched again after {launched}") };
        launched += 1;
        let dropped = TaskStatus::because(TaskState::Dropped, Reason::AgentDisconnected, "gone");
        bench.end(name, TaskRange::Single, dropped);
        let intents = bench.handle(Event::Timer(TIMER_PAUSE));
        assert!(launched > MAX_DROPS || asks_for(&intents, &Call::Revive { roles: vec![] }));
    }
    assert_eq!(launched, MAX_DROPS + 1);
    assert_eq!(bench.notices(), [Notice::Over { never_launched: 0 }]);
}

#[test]
fn when_told_to_stop_it_kills_what_runs_and_launches_nothing_more() {
    let mut bench = bench(10, 10, false);
    bench.offer("cpus:2;mem:8GiB");
    let intents = bench.handle(Event::Input(KILL.to_vec()));
    assert!(asks_for(&intents, &Call::Kill { task: "job".parse().unwrap(), grace: None }));
    assert!(launches(&bench.offer("cpus:2;mem:8GiB")).is_empty());
    assert_eq!(bench.notices(), []);
    let tasks = TaskRange::Array { first: 0, count: 2 };
    bench.end("job", tasks, TaskStatus::because(TaskState::Killed, Reason::Killed, "asked to"));
    assert_eq!(bench.notices(), [Notice::Over { never_launched: 8 }]);
}

#[test]
fn a_detached_run_is_launched_when_it_is_confirmed() {
    let mut bench = bench(6, 4, true);
    assert_eq!(
        launches(&bench.offer("cpus:4;mem:8GiB")),
        [("job".to_owned(), TaskRange::Array { first: 0, count: 6 }, 4)]
    );
    assert_eq!(bench.notices(), []);
    bench.end("job", TaskRange::Array { first: 0, count: 4 }, TaskStatus::of(TaskState::Running));
    assert_eq!(bench.notices(), [Notice::Launched]);
}

#[test]
fn a_detached_run_leaves_once_every_agent_has_its_share() {
    let mut bench = bench(30, 20, true);
    assert_eq!(launches(&bench.offer("cpus:10;mem:64GiB")), [("job".to_owned(), array(0, 15), 10)]);
    assert_eq!(launches(&bench.offer("cpus:10;mem:64GiB")), [("job.1".to_owned(), array(15, 15), 10)]);
    bench.handle(Event::Timer(TIMER_CONFIRM));
    assert_eq!(bench.notices(), [Notice::Launched]);
}

#[test]
fn a_detached_run_does_not_wait_for_agents_that_others_use() {
    let mut bench = bench(30, 20, true);
    bench.offer("cpus:10;mem:64GiB");
    bench.handle(Event::Timer(TIMER_PATIENCE));
    assert_eq!(launches(&bench.offer("cpus:1;mem:64GiB")), [("job.1".to_owned(), array(15, 15), 1)]);
}

#[test]
fn a_run_says_how_many_it_wants_and_takes_it_back_when_they_are_launched() {
    let mut bench = bench(10, 10, false);
    let shape = "cpus:1;mem:1GiB".parse().unwrap();
    let place = PlaceArgs { constraint: vec!["rack=a".parse().unwrap()], priority: 7, ..PlaceArgs::default() };
    bench.scheduler.job.want = Want::new(Role::default_role(), (&shape, 1), None, &place, true).unwrap();
    let options = bench.scheduler.describe().role_options;
    let options = &options[&Role::default_role()];
    assert!(options.by_demand && options.constraints.to_string() == "rack=a");
    let stated = |intents: &[Intent]| -> Vec<Vec<(u32, u32, i32)>> {
        let lists = intents.iter().filter_map(|intent| match intent {
            Intent::Call(Call::Demand { demands, .. }) => Some(demands),
            _ => None,
        });
        lists.map(|demands| demands.iter().map(|of| (of.count, of.ports, of.priority)).collect()).collect()
    };
    let registered = || Event::Registered { framework: FrameworkId::new(Epoch(1), 1), epoch: Epoch(1) };
    assert_eq!(stated(&bench.handle(registered())), [[(10, 1, 7)]]);
    assert_eq!(stated(&bench.offer("cpus:4;mem:8GiB;ports:[1-4]")), [[(6, 1, 7)]]);
    assert_eq!(stated(&bench.handle(Event::Timer(TIMER_PATIENCE))), Vec::<Vec<_>>::new(), "nothing has changed");
    assert_eq!(stated(&bench.handle(registered())), [[(6, 1, 7)]], "a new subscription knows nothing of it");
    assert_eq!(stated(&bench.offer("cpus:6;mem:8GiB;ports:[1-6]")), [Vec::new()]);
}
