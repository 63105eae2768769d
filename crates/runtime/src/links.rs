//! The interfaces that tasks may import: WASI preview 1 for core modules, WASI 0.2 for components, for both
//! what `holm:task` says, for executors what `holm:executor` says, nothing else.
//!
//! Sockets and HTTP are linked whether anything is granted or not, because many runtimes import them without using them:
//! what may be done with them is decided when it is done (see [`crate::network`]).

use wasmtime::{Engine, component};
use wasmtime_wasi::p2::bindings::clocks::monotonic_clock;
use wasmtime_wasi::{I32Exit, p1, p2};

use crate::run::State;
use crate::seeded::{SeededClocks, clock_view, poll_oneoff};
use crate::{disk, executor, holm_task, network, random};

pub(crate) const PREVIEW1: &str = "wasi_snapshot_preview1";

/// What can be imported. A seeded task has its own clock, and with it other functions that wait.
pub(crate) struct Links {
    pub(crate) core: wasmtime::Linker<State>,
    pub(crate) core_seeded: wasmtime::Linker<State>,
    pub(crate) component: component::Linker<State>,
    pub(crate) component_seeded: component::Linker<State>,
    pub(crate) executor: component::Linker<State>,
}

impl Links {
    pub(crate) fn new(engine: &Engine) -> wasmtime::Result<Links> {
        let core = core(engine)?;
        let mut core_seeded = core.clone();
        core_seeded.allow_shadowing(true);
        core_seeded.func_wrap(PREVIEW1, "poll_oneoff", poll_oneoff)?;

        let mut component = component::Linker::new(engine);
        p2::add_to_linker_async(&mut component)?;
        wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut component)?;
        network::shadow(&mut component)?;
        component.allow_shadowing(true);
        disk::p2::add_to_linker(&mut component)?;
        component.allow_shadowing(false);
        holm_task::add_to_components(&mut component)?;
        let mut executor = component.clone();
        executor::add_to_components(&mut executor)?;
        let mut component_seeded = component.clone();
        component_seeded.allow_shadowing(true);
        monotonic_clock::add_to_linker::<State, SeededClocks>(&mut component_seeded, clock_view)?;
        Ok(Links { core, core_seeded, component, component_seeded, executor })
    }
}

fn core(engine: &Engine) -> wasmtime::Result<wasmtime::Linker<State>> {
    let mut core = wasmtime::Linker::new(engine);
    p1::add_to_linker_async(&mut core, |state: &mut State| &mut state.wasi)?;
    // Upstream's refuses codes from 126 on; programs do exit with 255, and their user wants to see that.
    core.allow_shadowing(true);
    core.func_wrap(PREVIEW1, "proc_exit", |code: i32| -> wasmtime::Result<()> { Err(I32Exit(code).into()) })?;
    disk::p1::add_to_linker(&mut core)?;
    core.allow_shadowing(false);
    random::shadow(&mut core)?;
    holm_task::add_to_core(&mut core)?;
    Ok(core)
}
