//! `random_get` of preview 1, in pieces: nothing interrupts a host call, so that each piece must be short, and a guest that
//! asks for more than its slice is worth gives way in between.

use std::future::poll_fn;
use std::task::Poll;

use wasmtime::Caller;
use wasmtime_wasi::WasiView;
use wasmtime_wasi::p2::bindings::random::random::Host as _;

use crate::holm_task::memory;
use crate::limits::MAX_RANDOM_BYTES;
use crate::links::PREVIEW1;
use crate::queue::slice_is_used_up;
use crate::run::State;

const SUCCESS: i32 = 0;
/// The buffer is outside of the memory.
const FAULT: i32 = 21;

/// Puts it in the place of upstream's, which refuses more than one piece.
pub(crate) fn shadow(linker: &mut wasmtime::Linker<State>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    linker.func_wrap_async(PREVIEW1, "random_get", |caller, (buffer, length): (u32, u32)| {
        Box::new(random_get(caller, buffer, length))
    })?;
    linker.allow_shadowing(false);
    Ok(())
}

async fn random_get(mut caller: Caller<'_, State>, buffer: u32, length: u32) -> wasmtime::Result<i32> {
    let memory = memory(&mut caller)?;
    let end = u64::from(buffer) + u64::from(length);
    if end > memory.data_size(&caller) as u64 {
        return Ok(FAULT);
    }
    let mut at = u64::from(buffer);
    while at < end {
        let bytes = caller.data_mut().wasi.ctx().ctx.random().get_random_bytes(MAX_RANDOM_BYTES.min(end - at))?;
        // Within the memory, as was checked; it never shrinks.
        let place = usize::try_from(at)?;
        memory.data_mut(&mut caller)[place..place + bytes.len()].copy_from_slice(&bytes);
        at += bytes.len() as u64;
        if slice_is_used_up() {
            give_way().await;
        }
    }
    Ok(SUCCESS)
}

/// Waits for its next turn.
async fn give_way() {
    let mut had_turn = false;
    poll_fn(|context| {
        if std::mem::replace(&mut had_turn, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
