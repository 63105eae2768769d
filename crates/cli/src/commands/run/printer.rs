//! Writes to stdout and stderr on a thread of its own: a reader that is slow holds up the output and nothing else.

use std::io::{self, IsTerminal, Write};
use std::thread;

use indicatif::ProgressBar;
use tokio::sync::{mpsc, oneshot, watch};

/// Pieces that wait to be written; beyond, whoever has more waits.
const QUEUE: usize = 64;

/// Where a piece goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Stdout,
    Stderr,
    /// Stderr, on a line of its own.
    Notice,
}

/// The way to the writing thread.
#[derive(Clone, Debug)]
pub(super) struct Printer {
    queue: mpsc::Sender<(Target, Vec<u8>)>,
    closed: watch::Receiver<bool>,
}

/// Completes when everything has been written.
pub(super) struct Written(oneshot::Receiver<()>);

impl Printer {
    /// Starts the thread. A progress bar steps aside while something is written.
    pub(super) fn start(bar: ProgressBar) -> io::Result<(Printer, Written)> {
        let (queue, mut pieces) = mpsc::channel::<(Target, Vec<u8>)>(QUEUE);
        let (tell_closed, closed) = watch::channel(false);
        let (tell_written, written) = oneshot::channel();
        thread::Builder::new().name("printer".to_owned()).spawn(move || {
            let mut open = true;
            let mut ready = Vec::new();
            let mut screen = Screen::default();
            // The bar steps aside once for everything that is there.
            while pieces.blocking_recv_many(&mut ready, QUEUE) > 0 {
                let refused =
                    bar.suspend(|| ready.iter().filter(|(to, bytes)| screen.write(*to, bytes).is_err()).count());
                ready.clear();
                if open && refused > 0 {
                    open = false;
                    tell_closed.send_replace(true);
                }
            }
            // Nobody may be waiting any more.
            let _ = tell_written.send(());
        })?;
        Ok((Printer { queue, closed }, Written(written)))
    }

    /// Has a piece written.
    pub(super) async fn print(&self, target: Target, bytes: Vec<u8>) {
        // The thread takes pieces until the last sender is gone, and this is one.
        let _ = self.queue.send((target, bytes)).await;
    }

    /// Completes when stdout or stderr has been closed by its reader, and never when it stays open.
    pub(super) async fn closed(&mut self) {
        if self.closed.wait_for(|closed| *closed).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Written {
    /// Waits until everything has been written, once every [`Printer`] is gone.
    pub(super) async fn wait(self) {
        // The thread is gone when it cannot say so.
        let _ = self.0.await;
    }
}

/// Whether what people see ends within a line.
#[derive(Debug, Default)]
struct Screen {
    open_line: bool,
}

impl Screen {
    fn write(&mut self, target: Target, bytes: &[u8]) -> io::Result<()> {
        match target {
            Target::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(bytes)?;
                stdout.flush()?;
                if stdout.is_terminal() {
                    self.note(bytes);
                }
                Ok(())
            }
            Target::Stderr => {
                self.note(bytes);
                io::stderr().lock().write_all(bytes)
            }
            Target::Notice => io::stderr().lock().write_all(&self.notice(bytes)),
        }
    }

    fn note(&mut self, bytes: &[u8]) {
        self.open_line = bytes.last().map_or(self.open_line, |last| *last != b'\n');
    }

    fn notice(&mut self, bytes: &[u8]) -> Vec<u8> {
        let start: &[u8] = if self.open_line { b"\n" } else { b"" };
        self.note(bytes);
        [start, bytes].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_has_a_line_of_its_own() {
        let mut screen = Screen::default();
        assert_eq!(screen.notice(b"a\n"), b"a\n");
        screen.note(b"no end");
        assert_eq!(screen.notice(b"b\n"), b"\nb\n");
        assert_eq!(screen.notice(b"c\n"), b"c\n");
    }
}
