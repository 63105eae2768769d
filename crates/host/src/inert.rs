//! WASI as a scheduler finds it: there, and without effect. What it prints goes to the log.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use rand_core::TryRng;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};
use wasmtime_wasi::{HostMonotonicClock, HostWallClock, WasiCtx, WasiCtxBuilder};

/// Interfaces that a component may import.
const ALLOWED: [&str; 5] = ["wasi:cli/", "wasi:clocks/", "wasi:filesystem/", "wasi:io/", "wasi:random/"];
/// What one write may carry.
const WRITE_BYTES: usize = 64 << 10;
/// A line that is longer is cut.
const LINE_BYTES: usize = 4 << 10;
/// How much of the last output is kept to explain a trap.
const TAIL_BYTES: usize = 4 << 10;
/// Random bytes that one call may ask for.
const RANDOM_BYTES: u64 = 64 << 10;

/// Whether a component may import this.
pub(crate) fn allows(import: &str) -> bool {
    ALLOWED.iter().any(|prefix| import.starts_with(prefix))
}

/// No arguments, no environment, no directories, no network; clocks that stand still; the same numbers every time.
pub(crate) fn wasi(output: &Output) -> WasiCtx {
    let mut wasi = WasiCtxBuilder::new();
    wasi.stdout(output.clone()).stderr(output.clone());
    wasi.allow_tcp(false).allow_udp(false).allow_ip_name_lookup(false);
    wasi.wall_clock(Still).monotonic_clock(Still);
    wasi.secure_random(Numbers(1)).insecure_random(Numbers(2)).insecure_random_seed(3).max_random_size(RANDOM_BYTES);
    wasi.build()
}

/// A clock that stands still.
struct Still;

impl HostWallClock for Still {
    fn resolution(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn now(&self) -> Duration {
        Duration::ZERO
    }
}

impl HostMonotonicClock for Still {
    fn resolution(&self) -> u64 {
        1_000_000_000
    }

    fn now(&self) -> u64 {
        0
    }
}

/// splitmix64: enough for hash maps, and nothing else needs numbers here.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

impl TryRng for Numbers {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let [a, b, c, d, ..] = self.next().to_le_bytes();
        Ok(u32::from_le_bytes([a, b, c, d]))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.next())
    }

    fn try_fill_bytes(&mut self, target: &mut [u8]) -> Result<(), Infallible> {
        for chunk in target.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes()[..chunk.len()]);
        }
        Ok(())
    }
}

/// What the component writes, line by line into the log.
#[derive(Clone, Default)]
pub(crate) struct Output {
    // WASI makes streams of its own out of this, and the guest's end is told from outside of them: shared by lock, which
    // only the guest's thread takes.
    lines: Arc<Mutex<Lines>>,
}

#[derive(Default)]
struct Lines {
    partial: Vec<u8>,
    tail: String,
}

impl Output {
    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, bytes: &[u8]) {
        let mut lines = self.lock();
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = LINE_BYTES.saturating_sub(lines.partial.len());
            lines.partial.extend_from_slice(&part[..part.len().min(room)]);
            if part.ends_with(b"\n") {
                lines.end_line();
            }
        }
    }

    /// The last lines.
    pub(crate) fn tail(&self) -> String {
        let mut lines = self.lock();
        if !lines.partial.is_empty() {
            lines.end_line();
        }
        lines.tail.trim_end().to_owned()
    }
}

impl Lines {
    fn end_line(&mut self) {
        let bytes = std::mem::take(&mut self.partial);
        let text = String::from_utf8_lossy(&bytes);
        let line = text.trim_end();
        tracing::info!(target: "scheduler", "{line}");
        self.tail.push_str(line);
        self.tail.push('\n');
        let excess = self.tail.len().saturating_sub(TAIL_BYTES);
        if excess > 0 {
            let cut = (excess..=self.tail.len()).find(|at| self.tail.is_char_boundary(*at));
            self.tail.drain(..cut.unwrap_or_default());
        }
    }
}

impl IsTerminal for Output {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Output {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {}
}

impl OutputStream for Output {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        Output::write(self, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES)
    }
}

impl AsyncWrite for Output {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Output::write(&self, bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_latest_lines_are_kept_and_long_ones_are_cut() {
        let output = Output::default();
        output.write(&vec![b'x'; 3 * LINE_BYTES]);
        output.write(b"\nlast ");
        output.write("wörds".as_bytes());
        let tail = output.tail();
        assert!(tail.ends_with("x\nlast wörds"));
        assert!(tail.len() <= TAIL_BYTES);
    }

    #[test]
    fn sockets_and_foreign_interfaces_are_not_for_schedulers() {
        assert!(allows("wasi:io/streams@0.2.6"));
        assert!(!allows("wasi:sockets/tcp@0.2.6"));
        assert!(!allows("example:store/kv"));
    }
}
