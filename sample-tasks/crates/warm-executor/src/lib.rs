//! An executor that does what each task's data says: `ok`, `fail`, `wait` (until it is killed or told `done`), `stubborn` (a
//! `wait` that does not listen), `echo` (its messages), `trap`. It counts its tasks, which shows that its memory persists.

mod bindings {
    #![allow(missing_docs, clippy::all, reason = "generated")]

    wit_bindgen::generate!({ path: "../../../wit/executor", world: "executor" });
}

use std::cell::RefCell;
use std::collections::BTreeMap;

use bindings::exports::holm::executor::handler::{Event, Guest, Next};
use bindings::holm::executor::driver;
use bindings::holm::executor::types::{Message, Task, TaskId, TaskState, Update, Usage};

/// What lives between the calls.
#[derive(Default)]
struct Warm {
    /// Tasks seen so far.
    count: u64,
    /// Tasks that go on, with whether they listen to kills.
    waiting: BTreeMap<TaskId, bool>,
    /// What is to be told at the end of the call: many in one call cost less than many calls.
    updates: Vec<Update>,
}

thread_local! {
    static WARM: RefCell<Warm> = RefCell::default();
}

impl Warm {
    fn tell(&mut self, task: TaskId, state: TaskState, message: String, exit_code: Option<i32>) {
        let usage = Usage { cpu: 10, fuel: 100, peak_memory: 1000 };
        self.updates.push(Update { task, state, message, exit_code, usage: Some(usage) });
    }

    fn launch(&mut self, task: &Task) {
        self.count += 1;
        let said = format!("task {} of {}", self.count, driver::describe().name);
        match &*task.data {
            b"ok" => self.tell(task.id, TaskState::Finished, said, Some(0)),
            b"fail" => self.tell(task.id, TaskState::Failed, said, Some(3)),
            b"trap" => panic!("as task {} says", task.name),
            data => {
                self.waiting.insert(task.id, data != b"stubborn");
                self.tell(task.id, TaskState::Running, said, None);
            }
        }
    }

    fn message(&mut self, message: Message) {
        // Lost is lost: messages are best effort.
        match message.task {
            Some(task) if &*message.data == b"done" && self.waiting.remove(&task).is_some() => {
                self.tell(task, TaskState::Finished, "was told so".to_owned(), Some(0));
            }
            task => drop(driver::send(task, &message.data)),
        }
    }
}

struct Component;

impl Guest for Component {
    fn start() -> Result<(), String> {
        match std::env::args().nth(1).as_deref() {
            Some("refuse") => Err("it was told to refuse".to_owned()),
            _ => Ok(()),
        }
    }

    fn on_events(events: Vec<Event>) -> Result<Next, String> {
        WARM.with_borrow_mut(|warm| {
            let mut next = Next::OnEvent;
            for event in events {
                match event {
                    Event::Launch(task) => warm.launch(&task),
                    Event::Kill(kill) if warm.waiting.get(&kill.id) == Some(&true) => {
                        warm.waiting.remove(&kill.id);
                        warm.tell(kill.id, TaskState::Killed, "gladly".to_owned(), None);
                    }
                    Event::Message(message) => warm.message(message),
                    Event::Shutdown(_) => next = Next::Done,
                    Event::Kill(_) | Event::Other(_) => {}
                }
            }
            let updates = std::mem::take(&mut warm.updates);
            if !updates.is_empty() {
                driver::tell(&updates).map_err(|error| format!("{error:?}"))?;
            }
            Ok(next)
        })
    }
}

bindings::export!(Component with_types_in bindings);
