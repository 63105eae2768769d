//! The runner's end of the socket.

use std::io;
use std::path::Path;
use std::time::Duration;

use holm_model::ToRunner;
use holm_proto::runner::v1 as wire;
use tokio::net::UnixListener;
use tokio::net::unix::OwnedReadHalf;
use tokio::sync::mpsc;

use super::Happening;
use super::mouth::Mouth;
use crate::link::{read_messages, short_path, socket_path};

/// Pause after a connection that could not be accepted, for want of descriptors for instance.
const PAUSE: Duration = Duration::from_millis(100);

/// A connected agent.
pub(super) struct Agent {
    /// Which connection; later ones have higher numbers.
    pub(super) connection: u64,
    /// The way to it.
    pub(super) mouth: Mouth,
}

/// Accepts agents: the latest one counts.
pub(super) struct Listener {
    listener: UnixListener,
    happenings: mpsc::Sender<Happening>,
}

/// Listens on the socket of `dir`. The path is given relative to an open directory, since the address of a unix socket holds
/// only about 100 bytes.
pub(super) fn bind(dir: &Path) -> io::Result<std::os::unix::net::UnixListener> {
    let _ = std::fs::remove_file(socket_path(dir));
    let listener = std::os::unix::net::UnixListener::bind(short_path(dir)?.path())?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

impl Listener {
    /// Accepts on a socket that listens.
    pub(super) fn new(
        listener: std::os::unix::net::UnixListener,
        happenings: mpsc::Sender<Happening>,
    ) -> io::Result<Listener> {
        Ok(Listener { listener: UnixListener::from_std(listener)?, happenings })
    }

    pub(super) async fn run(self) {
        for connection in 1.. {
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::error!(%error, "the runner's socket cannot accept now");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            let (read, write) = stream.into_split();
            let agent = Agent { connection, mouth: Mouth::new(write) };
            if self.happenings.send(Happening::Agent(agent)).await.is_err() {
                return;
            }
            tokio::spawn(read_from(read, connection, self.happenings.clone()));
        }
    }
}

async fn read_from(read: OwnedReadHalf, connection: u64, happenings: mpsc::Sender<Happening>) {
    let take = |message: wire::ToRunner| {
        let happenings = happenings.clone();
        async move {
            match ToRunner::try_from(message) {
                Ok(message) => happenings.send(Happening::Message(connection, message)).await.is_ok(),
                Err(error) if error.is_unknown() => true,
                Err(error) => {
                    tracing::warn!(%error, "the agent's message cannot be understood");
                    false
                }
            }
        }
    };
    if let Err(error) = read_messages(read, take).await {
        tracing::debug!(%error, "the agent's connection ended");
    }
    // Nobody listens any more when the process is about to exit.
    let _ = happenings.send(Happening::Lost(connection)).await;
}
