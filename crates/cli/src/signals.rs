//! When to stop.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Hears ctrl-C and SIGTERM. From its making on, neither ends the process by itself.
pub(crate) struct StopSignals {
    interrupt: Signal,
    terminate: Signal,
}

impl StopSignals {
    /// # Errors
    /// When the system takes no more handlers.
    pub(crate) fn listen() -> io::Result<StopSignals> {
        let listen = |kind| signal(kind);
        Ok(StopSignals { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    /// Waits for the next one.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
