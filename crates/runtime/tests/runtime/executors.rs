//! Executors: what they are told, what they tell, and how they end.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use holm_model::{Reason, TaskState, TaskStatus};
use holm_runtime::{
    Command, ExecutedTask, ExecutedUpdate, KillAnswer, ModuleKind, Observer, OutputSink, Program, Queue, Stream, Task,
    TaskEnd, TaskHandle, compile,
};

use crate::harness::{ENGINE, command, program, program_of, queue};

const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug)]
enum Heard {
    Running(u64),
    Ended(u64, TaskStatus),
    Said(Option<u64>, Vec<u8>),
    Over(Box<TaskEnd>),
}

struct Ear(SyncSender<Heard>);

impl Observer for Ear {
    fn message(&mut self, data: Vec<u8>) {
        let _ = self.0.send(Heard::Said(None, data));
    }

    fn executed(&mut self, updates: Vec<ExecutedUpdate>) {
        for update in updates {
            let _ = self.0.send(match update {
                ExecutedUpdate::Running(task) => Heard::Running(task),
                ExecutedUpdate::Ended(task, status) => Heard::Ended(task, status),
            });
        }
    }

    fn executed_message(&mut self, task: u64, data: Vec<u8>) {
        let _ = self.0.send(Heard::Said(Some(task), data));
    }

    fn ended(self: Box<Self>, end: TaskEnd) {
        let _ = self.0.send(Heard::Over(Box::new(end)));
    }
}

struct Nowhere;

impl OutputSink for Nowhere {
    fn write(&mut self, _stream: Stream, _bytes: &[u8]) {}
}

struct Warm {
    handle: TaskHandle,
    heard: Receiver<Heard>,
    _queue: Queue,
}

fn sample() -> Program {
    program_of(&ENGINE, holm_test_programs::WARM_EXECUTOR_WASM)
}

fn warm_with(command: Command) -> Warm {
    let queue = queue(1);
    let (sender, heard) = sync_channel(100_000);
    let task = Task { program: sample(), command, output: Box::new(Nowhere), observer: Box::new(Ear(sender)) };
    let handle = queue.submit(task).unwrap();
    Warm { handle, heard, _queue: queue }
}

fn warm() -> Warm {
    let env = vec![("HOLM_TASK_ID".to_owned(), "warm".to_owned())];
    warm_with(Command { env, ..command() })
}

impl Warm {
    fn launch(&self, id: u64, data: &str) {
        let task = ExecutedTask { id, name: format!("t/{id}"), index: None, data: data.as_bytes().into() };
        assert!(self.handle.launch_task(task));
    }

    fn hear(&self) -> Heard {
        self.heard.recv_timeout(PATIENCE).expect("the executor has something to say")
    }

    fn hear_end(&self, task: u64) -> TaskStatus {
        match self.hear() {
            Heard::Ended(ended, status) if ended == task => status,
            other => panic!("{other:?}"),
        }
    }

    fn over(&self) -> TaskStatus {
        loop {
            if let Heard::Over(end) = self.hear() {
                return end.into_status(Duration::ZERO, 0);
            }
        }
    }
}

#[test]
fn an_executor_stays_and_remembers_between_its_tasks() {
    let warm = warm();
    for task in 1..=3 {
        warm.launch(task, if task == 2 { "fail" } else { "ok" });
        let status = warm.hear_end(task);
        let expected = if task == 2 { (TaskState::Failed, Some(3)) } else { (TaskState::Finished, Some(0)) };
        assert_eq!((status.state, status.exit_code), expected);
        assert_eq!(*status.message, format!("task {task} of warm"));
        assert_eq!(status.usage.fuel, 100);
    }
    assert!(!warm.handle.is_over());
    assert!(warm.handle.stop_within(Duration::from_secs(1)));
    assert_eq!(warm.over().state, TaskState::Finished);
}

#[test]
fn thousands_of_tasks_each_end_once() {
    let warm = warm();
    (1..=5_000).for_each(|task| warm.launch(task, "ok"));
    let mut ended = std::collections::BTreeSet::new();
    while ended.len() < 5_000 {
        match warm.hear() {
            Heard::Ended(task, status) => {
                assert_eq!(status.state, TaskState::Finished);
                assert!(ended.insert(task), "{task} ended twice");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_task_is_killed_taken_back_or_given_up() {
    let warm = warm();
    warm.launch(1, "wait");
    assert!(matches!(warm.hear(), Heard::Running(1)));
    assert_eq!(warm.handle.kill_task(1, Duration::from_secs(5)), KillAnswer::Asked);
    let status = warm.hear_end(1);
    assert_eq!((status.state, &*status.message), (TaskState::Killed, "gladly"));
    assert_eq!(warm.handle.kill_task(1, Duration::ZERO), KillAnswer::Unknown);
    warm.launch(2, "stubborn");
    assert!(matches!(warm.hear(), Heard::Running(2)));
    warm.handle.kill_task(2, Duration::ZERO);
    warm.handle.abandon_task(2);
    warm.handle.deliver_to_task(2, b"done"[..].into());
    // Nothing more is heard of the second, and the executor goes on.
    warm.launch(3, "ok");
    assert_eq!(warm.hear_end(3).state, TaskState::Finished);
}

#[test]
fn messages_reach_the_executor_and_its_tasks_and_come_back_in_their_names() {
    let warm = warm();
    warm.launch(7, "echo");
    assert!(matches!(warm.hear(), Heard::Running(7)));
    assert!(warm.handle.deliver(b"to all"[..].into()) && warm.handle.deliver_to_task(7, b"to one"[..].into()));
    assert!(matches!(warm.hear(), Heard::Said(None, data) if data == b"to all"));
    assert!(matches!(warm.hear(), Heard::Said(Some(7), data) if data == b"to one"));
    assert!(!warm.handle.deliver_to_task(8, b"nobody"[..].into()));
    assert!(!warm.handle.deliver(vec![0; 65_537].into()));
}

#[test]
fn an_executor_that_traps_or_refuses_says_why() {
    let warm = warm();
    warm.launch(1, "trap");
    let status = warm.over();
    assert_eq!((status.state, status.reason), (TaskState::Failed, Some(Reason::Trap)));
    assert!(!warm.handle.launch_task(ExecutedTask { id: 2, name: "t".into(), index: None, data: [][..].into() }));
    let refusing = warm_with(Command { args: vec!["guest".into(), "refuse".into()], ..command() });
    let status = refusing.over();
    assert_eq!((status.state, &*status.message), (TaskState::Failed, "it was told to refuse"));
}

#[test]
fn an_executor_that_waits_dies_at_once_when_killed() {
    let warm = warm();
    warm.launch(1, "wait");
    assert!(matches!(warm.hear(), Heard::Running(1)));
    warm.handle.kill(Reason::Killed, "asked to");
    assert_eq!(warm.over().state, TaskState::Killed);
}

#[test]
fn what_exports_the_handler_is_an_executor_and_nothing_else_is() {
    assert_eq!(compile(&ENGINE, holm_test_programs::WARM_EXECUTOR_WASM).unwrap().kind, ModuleKind::Executor);
    let executor = sample();
    assert!(executor.suits(holm_model::TaskKind::Executor).is_ok());
    let error = executor.suits(holm_model::TaskKind::Command).unwrap_err().to_string();
    assert!(error.contains("holm:executor/handler") && error.contains("wasi:cli/run"), "{error}");
    let plain = program("(module (func (export \"_start\")))");
    let error = plain.suits(holm_model::TaskKind::Executor).unwrap_err().to_string();
    assert!(error.contains("_start") && error.contains("holm:executor/handler"), "{error}");
    let imports = r#"(component (import "holm:executor/driver@0.1.0" (instance (export "x" (func)))))"#;
    assert!(compile(&ENGINE, &wat::parse_str(imports).unwrap()).is_err());
}
