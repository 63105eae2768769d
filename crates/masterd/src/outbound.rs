//! What waits to be sent to one peer: bounded in messages and bytes, and never waited for.
//!
//! The driver pushes; the peer's response stream takes. A push that does not fit cuts the peer off: its queue is emptied
//! at once, whether or not it ever reads again.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::sync::Notify;
use tonic::Status;

/// How much may wait for one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutboundLimits {
    /// Messages.
    pub messages: usize,
    /// Bytes of all messages, as encoded.
    pub bytes: usize,
}

impl Default for OutboundLimits {
    fn default() -> OutboundLimits {
        OutboundLimits { messages: 16_384, bytes: 32 << 20 }
    }
}

/// Why a message was not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// There is no room.
    Full,
    /// The session had ended before.
    Ended,
}

struct State<T> {
    queue: VecDeque<(T, usize)>,
    bytes: usize,
    /// Set once, by whoever ends the session; the peer reads it after what is still queued.
    end: Option<Option<Status>>,
    /// Whether the stream was dropped: nothing of the session is left at the peer's side.
    dropped: bool,
    reader: Option<Waker>,
}

/// The sending half, shared by the driver and the stream that empties it.
pub(crate) struct Outbound<T> {
    limits: OutboundLimits,
    /// Held for a push or a pop.
    state: Mutex<State<T>>,
    closed: Notify,
}

impl<T> Outbound<T> {
    pub(crate) fn new(limits: OutboundLimits) -> Arc<Outbound<T>> {
        let state = State { queue: VecDeque::new(), bytes: 0, end: None, dropped: false, reader: None };
        Arc::new(Outbound { limits, state: Mutex::new(state), closed: Notify::new() })
    }

    /// No operation on the state can panic halfway.
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a message of `bytes` bytes.
    pub(crate) fn push(&self, message: T, bytes: usize) -> Result<(), Refused> {
        let waker = {
            let mut state = self.state();
            let full = state.queue.len() >= self.limits.messages || state.bytes + bytes > self.limits.bytes;
            if state.end.is_some() {
                return Err(Refused::Ended);
            }
            if full {
                return Err(Refused::Full);
            }
            state.queue.push_back((message, bytes));
            state.bytes += bytes;
            state.reader.take()
        };
        waker.into_iter().for_each(Waker::wake);
        Ok(())
    }

    /// Ends the stream after what is queued, with `status` or plainly.
    pub(crate) fn close(&self, status: Option<Status>) {
        self.end(status, false);
    }

    /// Ends the stream now; what is queued is dropped.
    pub(crate) fn cut(&self, status: Status) {
        self.end(Some(status), true);
    }

    fn end(&self, status: Option<Status>, discard: bool) {
        let waker = {
            let mut state = self.state();
            if discard {
                state.queue = VecDeque::new();
                state.bytes = 0;
            }
            state.end.get_or_insert(status);
            state.reader.take()
        };
        waker.into_iter().for_each(Waker::wake);
        self.closed.notify_waiters();
    }

    /// Resolves once the session has been ended from this side, or its stream was dropped.
    pub(crate) async fn closed(&self) {
        self.wait(|state| state.end.is_some()).await;
    }

    /// Resolves once the stream has been read to its end, or was dropped before.
    pub(crate) async fn dropped(&self) {
        self.wait(|state| state.dropped).await;
    }

    async fn wait(&self, holds: impl Fn(&State<T>) -> bool) {
        loop {
            let notified = self.closed.notified();
            if holds(&self.state()) {
                return;
            }
            notified.await;
        }
    }
}

/// The receiving half, which tonic reads at the pace of the peer.
pub(crate) struct OutboundStream<T>(Arc<Outbound<T>>);

impl<T> OutboundStream<T> {
    pub(crate) fn new(outbound: &Arc<Outbound<T>>) -> OutboundStream<T> {
        OutboundStream(outbound.clone())
    }
}

impl<T> futures::Stream for OutboundStream<T> {
    type Item = Result<T, Status>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<T, Status>>> {
        let mut state = self.0.state();
        if let Some((message, bytes)) = state.queue.pop_front() {
            state.bytes -= bytes;
            return Poll::Ready(Some(Ok(message)));
        }
        match &mut state.end {
            Some(status) => Poll::Ready(status.take().map(Err)),
            None => {
                state.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl<T> Drop for OutboundStream<T> {
    /// The peer has gone: nothing will be read any more.
    fn drop(&mut self) {
        self.0.state().dropped = true;
        self.0.end(None, true);
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;

    use super::*;

    const LIMITS: OutboundLimits = OutboundLimits { messages: 2, bytes: 10 };

    #[tokio::test]
    async fn messages_come_in_order_and_then_the_end() {
        let outbound = Outbound::new(LIMITS);
        let mut stream = OutboundStream::new(&outbound);
        outbound.push("a", 5).unwrap();
        outbound.push("b", 5).unwrap();
        outbound.close(Some(Status::unavailable("bye")));
        assert_eq!(outbound.push("c", 1), Err(Refused::Ended));
        assert_eq!(stream.next().await.unwrap().unwrap(), "a");
        assert_eq!(stream.next().await.unwrap().unwrap(), "b");
        assert_eq!(stream.next().await.unwrap().unwrap_err().message(), "bye");
        assert!(stream.next().await.is_none());
    }

    #[tokio::test]
    async fn both_bounds_hold_and_room_comes_back() {
        let outbound = Outbound::new(LIMITS);
        let mut stream = OutboundStream::new(&outbound);
        outbound.push(1, 4).unwrap();
        assert_eq!(outbound.push(2, 7), Err(Refused::Full));
        outbound.push(2, 6).unwrap();
        assert_eq!(outbound.push(3, 0), Err(Refused::Full));
        stream.next().await.unwrap().unwrap();
        outbound.push(3, 4).unwrap();
    }

    #[tokio::test]
    async fn a_cut_drops_what_nobody_reads() {
        let outbound = Outbound::new(LIMITS);
        let mut stream = OutboundStream::new(&outbound);
        outbound.push("a", 5).unwrap();
        outbound.cut(Status::resource_exhausted("too slow"));
        assert_eq!(stream.next().await.unwrap().unwrap_err().message(), "too slow");
        outbound.closed().await;
    }

    #[tokio::test]
    async fn a_reader_that_waits_is_woken_and_one_that_leaves_is_noticed() {
        let outbound = Outbound::new(LIMITS);
        let mut stream = OutboundStream::new(&outbound);
        let reader = tokio::spawn(async move { stream.next().await.unwrap().unwrap() });
        tokio::task::yield_now().await;
        outbound.push(7, 1).unwrap();
        assert_eq!(reader.await.unwrap(), 7);
        outbound.dropped().await;
        assert_eq!(outbound.push(8, 1), Err(Refused::Ended));
    }
}
