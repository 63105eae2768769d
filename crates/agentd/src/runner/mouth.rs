//! What a runner says to its agent: messages become bytes here, on whichever thread has something to say.
//!
//! A thread that is woken to write a message costs more than the message, so the thread on which a task ended writes to the
//! socket itself. What the socket does not take at once follows from a task of the runtime.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Buf, BytesMut};
use holm_model::FromRunner;
use holm_proto::{framing, pages};
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::Notify;

/// Bytes to the agent that wait to be written; beyond, the connection is closed and the agent connects again. Messages of
/// guests take at most half of it.
const OUTBOX_BYTES: usize = 32 << 20;
/// Initial size of the buffer in which messages are gathered.
const WRITE_BYTES: usize = 16 << 10;
/// A buffer that grew larger is not kept.
const KEPT_BYTES: usize = 256 << 10;

/// The way to a connected agent; dropping it closes the connection.
pub(super) struct Mouth {
    pipe: Arc<Pipe>,
    buffer: BytesMut,
}

struct Pipe {
    write: OwnedWriteHalf,
    // Shared with the task that writes the rest; held for a write that does not wait.
    rest: Mutex<Rest>,
    more: Notify,
}

/// What the socket has not taken yet.
struct Rest {
    bytes: BytesMut,
    is_closed: bool,
}

/// The agent does not read, or a message cannot be sent: the connection is of no use any more.
pub(super) struct Unheard;

impl Mouth {
    /// Speaks into a socket. Call it on a tokio runtime, which writes what has to wait.
    pub(super) fn new(write: OwnedWriteHalf) -> Mouth {
        let rest = Mutex::new(Rest { bytes: BytesMut::new(), is_closed: false });
        let pipe = Arc::new(Pipe { write, rest, more: Notify::new() });
        let writer = pipe.clone();
        tokio::spawn(async move { writer.write_rest().await });
        Mouth { pipe, buffer: BytesMut::with_capacity(WRITE_BYTES) }
    }

    /// Says these messages, in order.
    pub(super) fn say(&mut self, messages: Vec<FromRunner>) -> Result<(), Unheard> {
        let waiting = self.pipe.lock().bytes.len();
        for message in messages {
            // A guest that floods its framework must not cost the runner its connection.
            let said = waiting + self.buffer.len();
            if matches!(message, FromRunner::Message { .. }) && said > OUTBOX_BYTES / 2 {
                tracing::debug!(
                    said,
                    limit = OUTBOX_BYTES / 2,
                    "a message of a task was dropped: the agent does not keep up"
                );
                continue;
            }
            for page in pages::from_runner(&message) {
                if let Err(error) = framing::encode(&page, &mut self.buffer) {
                    tracing::error!(%error, "a message to the agent cannot be sent; its connection is closed");
                    return Err(Unheard);
                }
            }
        }
        let result = self.pipe.write(&mut self.buffer);
        if self.buffer.capacity() > KEPT_BYTES {
            self.buffer = BytesMut::with_capacity(WRITE_BYTES);
        }
        result
    }
}

impl Drop for Mouth {
    fn drop(&mut self) {
        self.pipe.lock().is_closed = true;
        self.pipe.more.notify_one();
    }
}

impl Pipe {
    /// Nothing that is done under the lock can panic halfway.
    fn lock(&self) -> MutexGuard<'_, Rest> {
        self.rest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what the socket takes and leaves the rest to the task.
    fn write(&self, bytes: &mut BytesMut) -> Result<(), Unheard> {
        let mut rest = self.lock();
        if rest.bytes.is_empty() {
            while !bytes.is_empty()
                && let Ok(written @ 1..) = self.write.try_write(bytes)
            {
                bytes.advance(written);
            }
        }
        if bytes.is_empty() {
            return Ok(());
        }
        rest.bytes.extend_from_slice(bytes);
        bytes.clear();
        let waiting = rest.bytes.len();
        drop(rest);
        if waiting > OUTBOX_BYTES {
            tracing::warn!(waiting, limit = OUTBOX_BYTES, "the agent does not read; its connection is closed");
            return Err(Unheard);
        }
        self.more.notify_one();
        Ok(())
    }

    /// Writes what had to wait, until the connection breaks or is closed. The end of a broken one is heard where it is read.
    async fn write_rest(&self) {
        loop {
            self.more.notified().await;
            while self.waits() {
                tokio::select! {
                    ready = self.write.writable() => if ready.is_err() { return },
                    // There is more, or it was closed.
                    () = self.more.notified() => {}
                }
                let mut rest = self.lock();
                match self.write.try_write(&rest.bytes) {
                    Ok(written) => rest.bytes.advance(written),
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                    Err(_broken) => return,
                }
                if rest.bytes.is_empty() {
                    rest.bytes = BytesMut::new();
                }
            }
            if self.lock().is_closed {
                return;
            }
        }
    }

    /// Whether there is something to write.
    fn waits(&self) -> bool {
        let rest = self.lock();
        !rest.is_closed && !rest.bytes.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use holm_model::WorkId;
    use holm_proto::runner::v1 as wire;
    use tokio::net::UnixStream;

    use super::*;
    use crate::link::read_messages;

    const MESSAGES: u32 = 200;

    fn message(position: u32) -> FromRunner {
        FromRunner::Message { work: WorkId(1), position, data: vec![7; 60_000].into() }
    }

    #[tokio::test]
    async fn what_the_socket_does_not_take_follows_in_order() {
        let (here, there) = UnixStream::pair().unwrap();
        let mut mouth = Mouth::new(here.into_split().1);
        // Far more than a socket buffers, before anybody reads.
        for position in 0..MESSAGES {
            assert!(mouth.say(vec![message(position)]).is_ok());
        }
        assert!(!mouth.pipe.lock().bytes.is_empty(), "the socket took everything");
        let mut expected = 0;
        let read = read_messages(there, |message: wire::FromRunner| {
            let heard = FromRunner::try_from(message).unwrap();
            assert!(matches!(heard, FromRunner::Message { position, .. } if position == expected));
            expected += 1;
            std::future::ready(expected < MESSAGES)
        });
        read.await.unwrap();
        assert_eq!(expected, MESSAGES);
    }

    #[tokio::test]
    async fn messages_of_guests_are_dropped_before_the_agent_is() {
        let (here, _there) = UnixStream::pair().unwrap();
        let mut mouth = Mouth::new(here.into_split().1);
        for position in 0..1_000 {
            assert!(mouth.say(vec![message(position)]).is_ok());
        }
        let waiting = mouth.pipe.lock().bytes.len();
        assert!(waiting <= OUTBOX_BYTES / 2 + 70_000, "{waiting} bytes wait");
    }

    #[tokio::test]
    async fn a_closed_mouth_ends_the_connection() {
        let (here, mut there) = UnixStream::pair().unwrap();
        let (_read, write) = here.into_split();
        drop(Mouth::new(write));
        let mut rest = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut there, &mut rest).await.unwrap();
        assert_eq!(Bytes::from(rest), Bytes::new());
    }
}
