//! The reference: bare wasmtime in the same process with the same engine, a new store for every run.

use wasmtime::component::{Component, Linker as ComponentLinker};
use wasmtime::{InstancePre, Linker, Module, Store};
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p1::{self, WasiP1Ctx};
use wasmtime_wasi::p2::bindings::CommandPre;
use wasmtime_wasi::p2::bindings::sync::CommandPre as SyncCommandPre;
use wasmtime_wasi::p2::pipe::SinkOutputStream;
use wasmtime_wasi::{WasiCtxBuilder, WasiCtxView, WasiView, p2};

use crate::measure::Failure;

/// What a store holds.
pub(crate) struct State(WasiP1Ctx);

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.0.ctx()
    }
}

/// What metering a store is set up for; it must be what the engine compiles with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Metering {
    pub(crate) fuel: bool,
    pub(crate) epochs: bool,
}

impl Metering {
    pub(crate) const BOTH: Metering = Metering { fuel: true, epochs: true };
}

/// A module ready to be run by wasmtime alone.
pub(crate) enum Bare {
    Core { pre: InstancePre<State>, sync: InstancePre<State> },
    Component { pre: CommandPre<State>, sync: SyncCommandPre<State> },
}

impl Bare {
    pub(crate) fn new(engine: &wasmtime::Engine, wasm: &[u8]) -> Result<Bare, Failure> {
        if wasm.get(4..8) == Some(&[1, 0, 0, 0][..]) {
            let module = Module::new(engine, wasm)?;
            let (mut linker, mut sync) = (Linker::new(engine), Linker::new(engine));
            p1::add_to_linker_async(&mut linker, |state: &mut State| &mut state.0)?;
            p1::add_to_linker_sync(&mut sync, |state: &mut State| &mut state.0)?;
            return Ok(Bare::Core { pre: linker.instantiate_pre(&module)?, sync: sync.instantiate_pre(&module)? });
        }
        let component = Component::new(engine, wasm)?;
        let (mut linker, mut sync) = (ComponentLinker::<State>::new(engine), ComponentLinker::<State>::new(engine));
        p2::add_to_linker_async(&mut linker)?;
        p2::add_to_linker_sync(&mut sync)?;
        Ok(Bare::Component {
            pre: CommandPre::new(linker.instantiate_pre(&component)?)?,
            sync: SyncCommandPre::new(sync.instantiate_pre(&component)?)?,
        })
    }

    /// One task: store, instance, run, drop.
    pub(crate) async fn run(
        &self,
        engine: &wasmtime::Engine,
        args: &[&str],
        metering: Metering,
    ) -> Result<(), Failure> {
        let mut store = store(engine, args, metering)?;
        match self {
            Bare::Core { pre, .. } => {
                let instance = pre.instantiate_async(&mut store).await?;
                let start = instance.get_typed_func::<(), ()>(&mut store, "_start")?;
                start.call_async(&mut store, ()).await?;
            }
            Bare::Component { pre, .. } => {
                let command = pre.instantiate_async(&mut store).await?;
                command.wasi_cli_run().call_run(&mut store).await?.map_err(|()| "the guest failed")?;
            }
        }
        Ok(())
    }

    /// The same without stacks of their own.
    pub(crate) fn run_sync(&self, engine: &wasmtime::Engine, args: &[&str], metering: Metering) -> Result<(), Failure> {
        let mut store = store(engine, args, metering)?;
        match self {
            Bare::Core { sync, .. } => {
                let instance = sync.instantiate(&mut store)?;
                let start = instance.get_typed_func::<(), ()>(&mut store, "_start")?;
                start.call(&mut store, ())?;
            }
            Bare::Component { sync, .. } => {
                let command = sync.instantiate(&mut store)?;
                command.wasi_cli_run().call_run(&mut store)?.map_err(|()| "the guest failed")?;
            }
        }
        Ok(())
    }
}

/// Takes what is written and forgets it, at once.
#[derive(Clone)]
struct Sink;

impl IsTerminal for Sink {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Sink {
    fn async_stream(&self) -> Box<dyn tokio::io::AsyncWrite + Send + Sync> {
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn p2::OutputStream> {
        Box::new(SinkOutputStream)
    }
}

fn store(engine: &wasmtime::Engine, args: &[&str], metering: Metering) -> Result<Store<State>, Failure> {
    let mut wasi = WasiCtxBuilder::new();
    wasi.stdout(Sink).arg("task");
    for arg in args {
        wasi.arg(arg);
    }
    let mut store = Store::new(engine, State(wasi.build_p1()));
    if metering.fuel {
        store.set_fuel(u64::MAX)?;
    }
    if metering.epochs {
        store.set_epoch_deadline(u64::MAX / 2);
    }
    Ok(store)
}
