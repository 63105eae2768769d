//! The interfaces of `holm:task` (`wit/task/task.wit`) for components, and the same functions for core modules.

use std::ops::Range;
use std::time::Duration;

use holm_model::MAX_MESSAGE_BYTES;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{self, Component, HasSelf};
use wasmtime::{Caller, Extern, Memory, Module};

use self::bindings::holm::task::{lifecycle, messages};
use crate::limits::MAX_RECEIVE_WAIT;
use crate::mailbox::{Hears, Received};
use crate::run::State;

mod bindings {
    #![allow(missing_docs, unreachable_pub, unused_qualifications, reason = "generated")]

    wasmtime::component::bindgen!({
        path: "../../wit/task",
        world: "task",
        imports: { "holm:task/messages.receive": async },
    });
}

/// What the names of a component's imports from here begin with.
pub(crate) const PACKAGE: &str = "holm:task/";
/// Where a core module imports from.
pub(crate) const CORE_MODULE: &str = "holm_task";

const MESSAGE_RECEIVE: &str = "message_receive";
const STOP_REQUESTED: &str = "stop_requested";

// Results of the functions for core modules.
const SENT: i32 = 0;
const SEND_TOO_LARGE: i32 = 1;
const RECEIVED_NOTHING: i32 = -1;
const RECEIVE_TOO_LARGE: i32 = -2;

/// What a core module can take notice of.
pub(crate) fn imported_by_module(module: &Module) -> Hears {
    let imports = |name| module.imports().any(|import| import.module() == CORE_MODULE && import.name() == name);
    Hears { messages: imports(MESSAGE_RECEIVE), stop: imports(STOP_REQUESTED) }
}

/// What a component can take notice of.
pub(crate) fn imported_by_component(engine: &wasmtime::Engine, component: &Component) -> Hears {
    let ty = component.component_type();
    let imports = |interface: &str, function: &str| {
        ty.imports(engine).any(|(name, import)| {
            let named = name.strip_prefix(PACKAGE).and_then(|name| name.split('@').next()) == Some(interface);
            let ComponentItem::ComponentInstance(instance) = import.ty else { return false };
            named && instance.get_export(engine, function).is_some()
        })
    };
    Hears { messages: imports("messages", "receive"), stop: imports("lifecycle", "stop-requested") }
}

pub(crate) fn add_to_components(linker: &mut component::Linker<State>) -> wasmtime::Result<()> {
    bindings::Task::add_to_linker::<_, HasSelf<_>>(linker, |state| state)
}

pub(crate) fn add_to_core(linker: &mut wasmtime::Linker<State>) -> wasmtime::Result<()> {
    linker.func_wrap(CORE_MODULE, "message_send", core_send)?;
    linker.func_wrap_async(CORE_MODULE, MESSAGE_RECEIVE, |caller, (buffer, size, wait_ms): (u32, u32, u32)| {
        Box::new(core_receive(caller, buffer, size, wait_ms))
    })?;
    linker.func_wrap(CORE_MODULE, STOP_REQUESTED, |caller: Caller<'_, State>| {
        i32::from(caller.data().mailbox.stop_requested())
    })?;
    Ok(())
}

/// Waits for a message. The mailbox of a seeded task is always empty: it waits by its own clock alone.
fn receive(state: &State, wait_ms: u32, room: usize) -> impl Future<Output = Received> + Send + use<> {
    let mut wait = Duration::from_millis(wait_ms.into()).min(MAX_RECEIVE_WAIT);
    if state.seeded {
        state.clock.pass(wait);
        wait = Duration::ZERO;
    }
    let mailbox = state.mailbox.clone();
    async move { mailbox.receive(wait, room).await }
}

impl messages::Host for State {
    fn send(&mut self, message: Vec<u8>) -> Result<(), messages::SendError> {
        if message.len() > MAX_MESSAGE_BYTES {
            return Err(messages::SendError::TooLarge(u32::try_from(MAX_MESSAGE_BYTES).unwrap_or(u32::MAX)));
        }
        self.mailbox.send(message);
        Ok(())
    }

    async fn receive(&mut self, wait_ms: u32) -> Option<Vec<u8>> {
        match receive(self, wait_ms, MAX_MESSAGE_BYTES).await {
            Received::Message(message) => Some(message.to_vec()),
            Received::Nothing | Received::TooLarge => None,
        }
    }
}

impl lifecycle::Host for State {
    fn stop_requested(&mut self) -> bool {
        self.mailbox.stop_requested()
    }
}

fn core_send(mut caller: Caller<'_, State>, message: u32, length: u32) -> wasmtime::Result<i32> {
    let memory = memory(&mut caller)?;
    let range = range("message_send", message, length, memory.data_size(&caller))?;
    let bytes = &memory.data(&caller)[range];
    if bytes.len() > MAX_MESSAGE_BYTES {
        return Ok(SEND_TOO_LARGE);
    }
    let bytes = bytes.to_vec();
    caller.data().mailbox.send(bytes);
    Ok(SENT)
}

async fn core_receive(mut caller: Caller<'_, State>, buffer: u32, size: u32, wait_ms: u32) -> wasmtime::Result<i32> {
    let memory = memory(&mut caller)?;
    // Before the wait: a wrong buffer is wrong whether a message comes or not.
    let range = range(MESSAGE_RECEIVE, buffer, size, memory.data_size(&caller))?;
    match receive(caller.data(), wait_ms, range.len()).await {
        Received::Message(message) => {
            // It fits, and a memory never shrinks.
            memory.data_mut(&mut caller)[range][..message.len()].copy_from_slice(&message);
            // At most `MAX_MESSAGE_BYTES`, or it would not have been delivered.
            Ok(i32::try_from(message.len()).unwrap_or(i32::MAX))
        }
        Received::Nothing => Ok(RECEIVED_NOTHING),
        Received::TooLarge => Ok(RECEIVE_TOO_LARGE),
    }
}

pub(crate) fn memory(caller: &mut Caller<'_, State>) -> wasmtime::Result<Memory> {
    match caller.get_export("memory") {
        Some(Extern::Memory(memory)) => Ok(memory),
        _ => Err(wasmtime::Error::msg("the module exports no memory as \"memory\"")),
    }
}

/// A range of addresses, if it lies within a memory of `bytes`.
fn range(function: &str, at: u32, length: u32, bytes: usize) -> wasmtime::Result<Range<usize>> {
    let end = (at as usize).checked_add(length as usize).filter(|&end| end <= bytes);
    end.map(|end| at as usize..end).ok_or_else(|| {
        let what = format!("{length} bytes at address {at} are outside of the memory of {bytes}");
        wasmtime::Error::msg(format!("{CORE_MODULE} {function}: {what}"))
    })
}
