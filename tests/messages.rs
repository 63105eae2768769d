//! Messages between a framework and its tasks, both ways through master, agent and runner.

use std::sync::Arc;
use std::time::Duration;

use holm_sdk::model::{AgentId, FrameworkInfo, Launch, Refusal, Role, TaskId, TaskRange, TaskSpec, TaskState};
use holm_sdk::{Calls, Client, Driver, Event, Options, Scheduler, framework_info};

use crate::harness::{Cluster, LIMIT, p1, p2};

const GREETING: &[u8] = b"are you there?";

/// Launches two echoing tasks, greets each until it answers, and ends when both have.
struct Greeter {
    launches: Vec<Launch>,
    waiting: Vec<(AgentId, TaskId)>,
    answered: Vec<TaskId>,
}

impl Scheduler for Greeter {
    fn describe(&self) -> FrameworkInfo {
        framework_info("greeter", [Role::default_role()])
    }

    fn handle(&mut self, events: Vec<Event>, calls: &mut Calls) {
        for event in events {
            match event {
                Event::Offers(offers) if !self.launches.is_empty() => {
                    calls.accept([offers[0].id], std::mem::take(&mut self.launches), Refusal::default());
                }
                Event::Updates(updates) => {
                    for update in updates {
                        assert!(!update.status.state.is_terminal(), "{update:?}");
                        if let (TaskState::Running, Some(agent)) = (update.status.state, update.agent) {
                            self.waiting.extend(update.task_ids().map(|task| (agent, task)));
                        }
                    }
                    calls.set_timer(1, Duration::ZERO);
                }
                // Messages may be lost, so they are sent again until there is an answer.
                Event::Timer(_) => {
                    self.waiting.iter().for_each(|(agent, task)| calls.message(*agent, task.clone(), GREETING));
                    calls.set_timer(1, Duration::from_millis(200));
                }
                Event::Message { task, data, .. } => {
                    assert_eq!(&*data, GREETING);
                    self.waiting.retain(|(_, waiting)| *waiting != task);
                    if !self.answered.contains(&task) {
                        self.answered.push(task);
                    }
                }
                _ => {}
            }
        }
        if self.answered.len() == 2 {
            calls.finish(0, "");
        }
    }
}

#[test]
fn tasks_of_both_kinds_answer_their_framework() {
    let cluster = Cluster::new("cpus:1;mem:1GiB");
    let masters = vec![cluster.address.clone()];
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let outcome = runtime.block_on(async {
        let client = Client::connect(&masters, None).await.unwrap();
        let mut launches = Vec::new();
        for (name, file) in [("core", p1("echo-messages")), ("component", p2("echo-messages"))] {
            let module = client.push(std::fs::read(file).unwrap()).await.unwrap().digest;
            let spec = TaskSpec { module, resources: "cpus:0.1;mem:32MiB".parse().unwrap(), ..TaskSpec::default() };
            let id = name.parse().unwrap();
            launches.push(Launch { id, tasks: TaskRange::Single, slots: 1, spec: Arc::new(spec) });
        }
        let mut greeter = Greeter { launches, waiting: Vec::new(), answered: Vec::new() };
        let (driver, _handle) = Driver::new(Options { masters, ..Options::default() }).unwrap();
        tokio::time::timeout(LIMIT, driver.run(&mut greeter)).await.expect("both tasks answer").unwrap()
    });
    assert_eq!(outcome.code, 0);
}
