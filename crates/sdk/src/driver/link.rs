//! The stream to whichever master leads: dialled, opened, watched, one at a time.

use std::time::Duration;

use futures::future::BoxFuture;
use holm_model::SchedulerEvent;
use holm_proto::limits;
use holm_proto::v1::scheduler_client::SchedulerClient;
use holm_proto::v1::{CallEnvelope, EventEnvelope};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use crate::address::{AddressError, Bearer, Masters, explain};

/// Calls that wait for the transport. More wait in the driver.
const OUTBOUND: usize = 64;
/// A master that has said nothing for so long is dead; it sends heartbeats every few seconds.
const SILENCE: Duration = Duration::from_secs(20);

/// What the link has to say.
pub(super) enum LinkEvent {
    /// A stream is open: calls may be sent.
    Connected,
    /// The master says something.
    Event(SchedulerEvent),
    /// There is no stream any more, or none could be opened.
    Closed {
        /// Why, for people.
        message: String,
        /// Whether trying again is pointless.
        fatal: bool,
        /// Whether the master ended the stream on purpose, after it had said why.
        aborted: bool,
    },
}

type Dialled = Result<Channel, String>;
type Opened = Result<Streaming<EventEnvelope>, Status>;

enum State {
    Closed,
    Waiting(Instant),
    Dialling(BoxFuture<'static, Dialled>),
    /// The request is under way; a master answers it only once it has read the subscription.
    Opening {
        outbound: mpsc::Sender<CallEnvelope>,
        answer: BoxFuture<'static, Opened>,
    },
    Open {
        outbound: mpsc::Sender<CallEnvelope>,
        inbound: Streaming<EventEnvelope>,
    },
    /// Nothing more will be sent; the master's last words are still read.
    Closing {
        inbound: Streaming<EventEnvelope>,
    },
}

/// One stream at a time to one of the masters.
pub(super) struct Link {
    masters: Masters,
    bearer: Bearer,
    address: String,
    state: State,
    heard: Instant,
}

impl Link {
    pub(super) fn new(masters: Vec<String>, token: Option<&str>) -> Result<Link, AddressError> {
        Ok(Link {
            masters: Masters::new(masters)?,
            bearer: Bearer::new(token)?,
            address: String::new(),
            state: State::Closed,
            heard: Instant::now(),
        })
    }

    /// The masters it knows.
    pub(super) fn addresses(&self) -> &[String] {
        self.masters.addresses()
    }

    /// Gives up the stream, if there is one, and dials the next master after `delay`.
    pub(super) fn dial(&mut self, delay: Duration) {
        self.state = State::Waiting(Instant::now() + delay);
    }

    /// Where to put calls, while there is a stream.
    pub(super) fn outbound(&self) -> Option<&mpsc::Sender<CallEnvelope>> {
        match &self.state {
            State::Opening { outbound, .. } | State::Open { outbound, .. } => Some(outbound),
            State::Closed | State::Waiting(_) | State::Dialling(_) | State::Closing { .. } => None,
        }
    }

    /// Says that nothing more will be sent. What was handed over before still goes out.
    pub(super) fn finish_sending(&mut self) {
        self.state = match std::mem::replace(&mut self.state, State::Closed) {
            State::Open { inbound, .. } | State::Closing { inbound } => State::Closing { inbound },
            State::Closed | State::Waiting(_) | State::Dialling(_) | State::Opening { .. } => State::Closed,
        };
    }

    /// Whether there is no stream and none is on its way.
    pub(super) fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// The next thing that happens. May be dropped and called again without losing anything.
    pub(super) async fn next(&mut self) -> LinkEvent {
        loop {
            match &mut self.state {
                State::Closed => std::future::pending().await,
                State::Waiting(until) => {
                    tokio::time::sleep_until(*until).await;
                    self.start_dialling();
                }
                State::Dialling(dialled) => match dialled.await {
                    Ok(channel) => {
                        self.open(channel);
                        return LinkEvent::Connected;
                    }
                    Err(message) => return self.closed(message),
                },
                State::Opening { answer, .. } => {
                    let answer = tokio::time::timeout_at(self.heard + SILENCE, answer).await;
                    match answer {
                        Ok(Ok(inbound)) => self.opened(inbound),
                        Ok(Err(status)) => return self.refused(&status),
                        Err(_) => return self.silent(),
                    }
                }
                State::Open { inbound, .. } | State::Closing { inbound } => {
                    let message = tokio::time::timeout_at(self.heard + SILENCE, inbound.message()).await;
                    self.heard = Instant::now();
                    match message {
                        Ok(Ok(Some(envelope))) => match SchedulerEvent::try_from(envelope) {
                            Ok(event) => return LinkEvent::Event(event),
                            Err(error) if error.is_unknown() => {}
                            Err(error) => return self.closed(format!("the master is not understood: {error}")),
                        },
                        Ok(Ok(None)) => return self.closed("the master ended the stream".to_owned()),
                        Ok(Err(status)) => return self.refused(&status),
                        Err(_) => return self.silent(),
                    }
                }
            }
        }
    }

    fn start_dialling(&mut self) {
        let (address, endpoint) = self.masters.next_endpoint();
        self.address.clone_from(&address);
        self.state = State::Dialling(Box::pin(async move {
            let endpoint = endpoint.map_err(|error| error.to_string())?;
            endpoint.connect().await.map_err(|error| format!("no connection to {address}: {}", explain(&error)))
        }));
    }

    fn open(&mut self, channel: Channel) {
        let (outbound, calls) = mpsc::channel(OUTBOUND);
        let mut client = SchedulerClient::with_interceptor(channel, self.bearer.clone())
            .max_decoding_message_size(limits::MAX_FROM_MASTER_BYTES);
        let answer = Box::pin(async move { Ok(client.connect(ReceiverStream::new(calls)).await?.into_inner()) });
        self.heard = Instant::now();
        self.state = State::Opening { outbound, answer };
    }

    fn opened(&mut self, inbound: Streaming<EventEnvelope>) {
        let state = std::mem::replace(&mut self.state, State::Closed);
        self.heard = Instant::now();
        if let State::Opening { outbound, .. } = state {
            self.state = State::Open { outbound, inbound };
        }
    }

    fn silent(&mut self) -> LinkEvent {
        let message = format!("{} has been silent for {} s", self.address, SILENCE.as_secs());
        self.closed(message)
    }

    fn refused(&mut self, status: &Status) -> LinkEvent {
        self.masters.learn_from(status);
        let fatal = matches!(
            status.code(),
            Code::Unauthenticated
                | Code::PermissionDenied
                | Code::InvalidArgument
                | Code::FailedPrecondition
                | Code::Unimplemented
        );
        let what = match status.code() {
            Code::Unimplemented => "is not a Holm master".to_owned(),
            code if status.message().is_empty() => code.description().to_owned(),
            _ => explain_status(status),
        };
        self.state = State::Closed;
        let message = format!("{}: {what}", self.address);
        LinkEvent::Closed { message, fatal, aborted: status.code() == Code::Aborted }
    }

    fn closed(&mut self, message: String) -> LinkEvent {
        self.state = State::Closed;
        LinkEvent::Closed { message, fatal: false, aborted: false }
    }
}

fn explain_status(status: &Status) -> String {
    match std::error::Error::source(status) {
        Some(source) => format!("{}: {}", status.message(), explain(source)),
        None => status.message().to_owned(),
    }
}
