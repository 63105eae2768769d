//! What executors import: `holm:executor/driver`.

use std::time::Duration;

use holm_model::{MAX_MESSAGE_BYTES, Reason, TaskState, TaskStatus, Usage};
use wasmtime::component::{self, Component, HasSelf};

pub(super) use self::bindings::exports::holm::executor::handler as exports;
use self::bindings::holm::executor::driver;
pub(super) use self::bindings::holm::executor::types;
use super::ExecutedUpdate;
use super::inbox::{Accepted, Inbox};
use crate::limits::{MAX_EXECUTED_TASKS, MAX_UPDATES};
use crate::outcome::clip;
use crate::run::State;

pub(crate) mod bindings {
    #![allow(missing_docs, unreachable_pub, unused_qualifications, reason = "generated")]

    wasmtime::component::bindgen!({
        path: "../../wit/executor",
        world: "executor",
        exports: { default: async },
    });
}

/// What the names of an executor's imports from here begin with.
pub(crate) const PACKAGE: &str = "holm:executor/";
const HANDLER: &str = "holm:executor/handler@";

/// Whether a component is an executor.
pub(crate) fn is_executor(engine: &wasmtime::Engine, component: &Component) -> bool {
    component.component_type().exports(engine).any(|(name, _)| name.starts_with(HANDLER))
}

pub(crate) fn add_to_components(linker: &mut component::Linker<State>) -> wasmtime::Result<()> {
    driver::add_to_linker::<_, HasSelf<_>>(linker, |state| state)
}

impl types::Host for State {}

impl driver::Host for State {
    fn describe(&mut self) -> types::Info {
        let max_tasks = u32::try_from(MAX_EXECUTED_TASKS).unwrap_or(u32::MAX);
        types::Info { name: self.name.clone(), memory: self.memory_limit(), max_tasks }
    }

    fn tell(&mut self, updates: Vec<types::Update>) -> Result<Vec<u64>, types::Error> {
        if updates.len() > MAX_UPDATES {
            return Err(types::Error::TooMany(u32::try_from(MAX_UPDATES).unwrap_or(u32::MAX)));
        }
        let inbox = self.inbox()?;
        let (mut accepted, mut unknown) = (Vec::with_capacity(updates.len()), Vec::new());
        for update in updates {
            let task = update.task;
            match inbox.accept(task, update.state != types::TaskState::Running) {
                Some(Accepted::Runs) => accepted.push(ExecutedUpdate::Running(task)),
                Some(Accepted::Repeated) => {}
                Some(Accepted::Ended(run)) => accepted.push(ExecutedUpdate::Ended(task, end(update, run))),
                None => unknown.push(task),
            }
        }
        self.mailbox.executed(accepted);
        Ok(unknown)
    }

    fn send(&mut self, task: Option<u64>, message: Vec<u8>) -> Result<(), types::Error> {
        if message.len() > MAX_MESSAGE_BYTES {
            return Err(types::Error::TooLarge(u32::try_from(MAX_MESSAGE_BYTES).unwrap_or(u32::MAX)));
        }
        match task {
            Some(task) if !self.inbox()?.has(task) => return Err(types::Error::UnknownTask(task)),
            Some(task) => self.mailbox.executed_message(task, message),
            None => self.mailbox.send(message),
        }
        Ok(())
    }

    fn stop_requested(&mut self, task: Option<u64>) -> bool {
        self.inbox().is_ok_and(|inbox| inbox.stop_requested(task))
    }
}

impl State {
    fn inbox(&self) -> Result<&Inbox, types::Error> {
        // Executors alone are linked with the driver, and each has an inbox.
        self.mailbox.executor().ok_or_else(|| types::Error::Other("this task is no executor".to_owned()))
    }
}

/// The end of a task as its executor tells it.
fn end(update: types::Update, run: Duration) -> TaskStatus {
    let message = clip(&update.message);
    let status = match update.state {
        types::TaskState::Finished | types::TaskState::Running => {
            TaskStatus { message: message.into(), ..TaskStatus::of(TaskState::Finished) }
        }
        types::TaskState::Failed => TaskStatus::because(TaskState::Failed, Reason::ExitCode, message),
        types::TaskState::Killed => TaskStatus::because(TaskState::Killed, Reason::Killed, message),
    };
    let used = update.usage.map(|usage| Usage {
        cpu: Duration::from_micros(usage.cpu),
        fuel: usage.fuel,
        peak_memory: usage.peak_memory,
        ..Usage::default()
    });
    TaskStatus { exit_code: update.exit_code, usage: Usage { run, ..used.unwrap_or_default() }, ..status }
}
