//! Executors and groups of launches through real processes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use holm_sdk::model::{
    Executed, FrameworkInfo, Launch, Offer, Reason, Refusal, Role, TaskKind, TaskRange, TaskSpec, TaskState, TaskStatus,
};
use holm_sdk::{Calls, Client, Driver, Event, Options, Scheduler, framework_info};

use crate::harness::{Cluster, LIMIT, p1};

/// What a step does with an offer.
type Does = Box<dyn FnMut(&Offer, &mut Calls) + Send>;

/// A step of a script: what to do, and how many ends (of tasks) to wait for before the next.
struct Step {
    does: Does,
    ends: usize,
}

fn step(ends: usize, does: impl FnMut(&Offer, &mut Calls) + Send + 'static) -> Step {
    Step { does: Box::new(does), ends }
}

/// What an offer has at least that a step is done with: what the last step's task held may come back on its own, and first.
const ENOUGH: &str = "cpus:1;mem:256MiB";

/// Does its steps, each with an offer of everything that is free, and remembers how every task ended.
struct Script {
    steps: Vec<Step>,
    wanted: usize,
    ends: BTreeMap<String, TaskStatus>,
}

impl Scheduler for Script {
    fn describe(&self) -> FrameworkInfo {
        framework_info("script", [Role::default_role()])
    }

    fn handle(&mut self, events: Vec<Event>, calls: &mut Calls) {
        for event in events {
            match event {
                Event::Offers(offers)
                    if self.ends.len() >= self.wanted
                        && !self.steps.is_empty()
                        && offers[0].resources.contains(&ENOUGH.parse().unwrap()) =>
                {
                    let mut step = self.steps.remove(0);
                    self.wanted += step.ends;
                    (step.does)(&offers[0], calls);
                }
                Event::Offers(offers) => {
                    let again = Refusal::new(Duration::from_millis(50));
                    calls.decline(offers.iter().map(|offer| offer.id), Some(again));
                }
                Event::Updates(updates) => {
                    for update in updates.iter().filter(|update| update.status.state.is_terminal()) {
                        for task in update.task_ids() {
                            let before = self.ends.insert(task.to_string(), update.status.clone());
                            assert!(before.is_none(), "{task} ended twice");
                        }
                    }
                }
                Event::Error { message } => panic!("{message}"),
                _ => {}
            }
        }
        if self.steps.is_empty() && self.ends.len() >= self.wanted {
            calls.finish(0, "");
        }
    }
}

fn play(cluster: &Cluster, steps: impl AsyncFnOnce(&Client) -> Vec<Step>) -> BTreeMap<String, TaskStatus> {
    let masters = vec![cluster.address.clone()];
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = Client::connect(&masters, None).await.unwrap();
        let mut script = Script { steps: steps(&client).await, wanted: 0, ends: BTreeMap::new() };
        let (driver, _handle) = Driver::new(Options { masters, ..Options::default() }).unwrap();
        let outcome = tokio::time::timeout(LIMIT, driver.run(&mut script)).await;
        outcome.unwrap_or_else(|_| panic!("only these have ended: {:?}", script.ends.keys())).unwrap();
        script.ends
    })
}

fn single(id: &str, spec: TaskSpec) -> Launch {
    Launch { id: id.parse().unwrap(), tasks: TaskRange::Single, slots: 1, spec: Arc::new(spec) }
}

fn inside(executor: &str, id: &str, count: u32, slots: u32, data: &str) -> Launch {
    let executed = Executed { executor: executor.parse().unwrap(), data: data.as_bytes().into() };
    let spec = TaskSpec {
        kind: TaskKind::Executed,
        executed: Some(executed),
        resources: "cpus:0.01".parse().unwrap(),
        ..TaskSpec::default()
    };
    let tasks = TaskRange::Array { first: 0, count };
    Launch { id: id.parse().unwrap(), tasks, slots, spec: Arc::new(spec) }
}

async fn pushed(client: &Client, wasm: Vec<u8>) -> TaskSpec {
    let module = client.push(wasm).await.unwrap().digest;
    TaskSpec { module, resources: "cpus:0.1;mem:32MiB".parse().unwrap(), ..TaskSpec::default() }
}

async fn executor(client: &Client, id: &str) -> Launch {
    let wasm = std::fs::read(holm_test_programs::WARM_EXECUTOR.path).unwrap();
    single(id, TaskSpec { kind: TaskKind::Executor, ..pushed(client, wasm).await })
}

#[test]
fn an_executor_runs_thousands_of_tasks_and_its_end_is_theirs() {
    let cluster = Cluster::new("cpus:2;mem:1GiB");
    let ends = play(&cluster, async |client: &Client| {
        let warm = executor(client, "warm").await;
        vec![
            step(4_000, move |offer, calls| {
                let launches = vec![warm.clone(), inside("warm", "many", 4_000, 64, "ok")];
                calls.accept([offer.id], launches, Refusal::NONE);
            }),
            step(1, |offer, calls| {
                calls.accept([offer.id], vec![inside("warm", "bad", 1, 1, "fail")], Refusal::NONE);
            }),
            // A task that waits, queued ones behind it, and one that traps: the executor takes all of them along.
            step(12, |offer, calls| {
                let launches = vec![inside("warm", "slow", 10, 2, "wait"), inside("warm", "trap", 1, 1, "trap")];
                calls.accept([offer.id], launches, Refusal::NONE);
            }),
            // Nothing is left that could run this.
            step(1, |offer, calls| {
                calls.accept([offer.id], vec![inside("warm", "late", 1, 1, "ok")], Refusal::NONE);
            }),
        ]
    });
    let finished = ends.values().filter(|status| status.state == TaskState::Finished).count();
    assert_eq!(finished, 4_000);
    assert_eq!((ends["bad/0"].state, ends["bad/0"].exit_code), (TaskState::Failed, Some(3)));
    assert_eq!((ends["warm"].state, ends["warm"].reason), (TaskState::Failed, Some(Reason::Trap)));
    for task in ["slow/0", "slow/9", "trap/0"] {
        assert_eq!((ends[task].state, ends[task].reason), (TaskState::Failed, Some(Reason::ExecutorLost)), "{task}");
    }
    assert_eq!((ends["late/0"].state, ends["late/0"].reason), (TaskState::Dropped, Some(Reason::ExecutorLost)));
}

#[test]
fn a_group_ends_with_its_first_failure_and_is_not_begun_when_a_member_cannot_be_prepared() {
    let cluster = Cluster::new("cpus:2;mem:1GiB");
    let ends = play(&cluster, async |client: &Client| {
        let sleeper = pushed(client, std::fs::read(p1("sleep")).unwrap()).await;
        let sleeper = TaskSpec { args: vec!["600000".into()], ..sleeper };
        let failing = pushed(client, std::fs::read(p1("exit-code")).unwrap()).await;
        let failing = TaskSpec { args: vec!["7".into()], ..failing };
        let broken = pushed(client, b"no wasm at all".to_vec()).await;
        let (sleeps, breaks) = (single("sleeps", sleeper.clone()), single("breaks", broken));
        let (stays, fails) = (single("stays", sleeper), single("fails", failing));
        vec![
            step(2, move |offer, calls| {
                calls.launch_group([offer.id], vec![sleeps.clone(), breaks.clone()], Refusal::NONE);
            }),
            step(2, move |offer, calls| {
                calls.launch_group([offer.id], vec![stays.clone(), fails.clone()], Refusal::NONE);
            }),
        ]
    });
    assert_eq!((ends["breaks"].state, ends["breaks"].reason), (TaskState::Failed, Some(Reason::InvalidModule)));
    assert_eq!((ends["sleeps"].state, ends["sleeps"].reason), (TaskState::Dropped, Some(Reason::GroupFailed)));
    assert_eq!((ends["fails"].state, ends["fails"].exit_code), (TaskState::Failed, Some(7)));
    assert_eq!((ends["stays"].state, ends["stays"].reason), (TaskState::Killed, Some(Reason::GroupFailed)));
    assert!(ends["stays"].message.contains("task fails of its group ended FAILED (EXIT_CODE)"), "{:?}", ends["stays"]);
}

#[test]
fn holm_group_runs_programs_together_and_says_how_each_ended() {
    let cluster = Cluster::new("cpus:2;mem:1GiB");
    let dir = crate::harness::Dir::new();
    let good = format!("{} --name one\n{} --name two --count 3\n", p1("hello"), p1("hello"));
    let answer = cluster.holm(&["group", &dir.file("good", good)]).expect(0);
    let mut lines: Vec<&str> = answer.stdout.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["one FINISHED", "two/0 FINISHED", "two/1 FINISHED", "two/2 FINISHED"]);
    let bad = format!("{} --name stays -- 600000\n{} --name fails -- 7\n", p1("sleep"), p1("exit-code"));
    let answer = cluster.holm(&["group", &dir.file("bad", bad)]).expect(1);
    assert!(answer.stdout.contains("stays KILLED GROUP_FAILED: task fails of its group ended FAILED"), "{answer:?}");
}
