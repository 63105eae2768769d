//! The side of a service that faces its clients: connections, headers, answers. No guest runs here, and everything that a
//! client can hold up is bounded in number, size and time.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use holm_model::ServiceSpec;
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, HeaderValue, RETRY_AFTER};
use http::{Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};
use wasmtime_wasi_http::Error;

use super::ServiceOptions;
use crate::limits::{HTTP_BUFFER_BYTES, MAX_CLIENTS, REQUEST_HEAD_BYTES, REQUEST_HEAD_TIME};

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;
/// The pause after the system had no descriptor for a connection.
const PAUSE: Duration = Duration::from_millis(50);

/// The body of a request, as a guest reads it.
pub(super) type RequestBody = UnsyncBoxBody<Bytes, Error>;
/// The body of an answer, as a guest writes it.
type AnswerBody = UnsyncBoxBody<Bytes, Error>;
/// What a guest answers.
pub(super) type Answer = Result<Response<AnswerBody>, wasmtime_wasi_http::p2::bindings::http::types::ErrorCode>;

/// Requests for the guests, in the order of their arrival.
pub(super) type Requests = mpsc::Receiver<Job>;

/// A request on its way to a guest.
pub(super) struct Job {
    pub(super) request: Request<RequestBody>,
    pub(super) answer: oneshot::Sender<Answer>,
    /// What to say if there is no answer.
    pub(super) verdict: oneshot::Sender<StatusCode>,
    /// Comes when nobody waits for the answer any more; an error says so, too.
    pub(super) gone: oneshot::Receiver<()>,
    pub(super) deadline: Instant,
    /// Held until the guest is done.
    pub(super) place: OwnedSemaphorePermit,
}

/// The open door of a service. Closed, with all connections, when it is dropped.
pub(super) struct Front {
    stop: watch::Sender<bool>,
    acceptor: AbortHandle,
    shared: Arc<Shared>,
}

struct Shared {
    limits: ServiceSpec,
    /// One for each request that guests may work on.
    places: Arc<Semaphore>,
    /// Requests answered without a guest.
    answered: AtomicU64,
}

impl Front {
    /// Listens. Requests come out of the receiver, which ends when there are no connections left after [`Front::stop`].
    pub(super) async fn open(options: &ServiceOptions) -> io::Result<(Front, Requests)> {
        let listener = listen(options)?;
        let concurrency = options.limits.concurrency.max(1) as usize;
        let shared = Arc::new(Shared {
            limits: options.limits.clone(),
            places: Arc::new(Semaphore::new(concurrency)),
            answered: AtomicU64::new(0),
        });
        let (jobs, requests) = mpsc::channel(concurrency);
        let (stop, stopped) = watch::channel(false);
        let acceptor = Acceptor { listener, shared: shared.clone(), jobs, stopped };
        let acceptor = tokio::spawn(acceptor.run()).abort_handle();
        Ok((Front { stop, acceptor, shared }, requests))
    }

    /// Takes no more connections, and no more requests on those that there are.
    pub(super) fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// How many requests were answered without a guest: refused, or one too many.
    pub(super) fn answered_here(&self) -> u64 {
        self.shared.answered.load(Ordering::Relaxed)
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.acceptor.abort();
    }
}

fn listen(options: &ServiceOptions) -> io::Result<TcpListener> {
    let socket = if options.address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // The port was held by another task a moment ago, whose last connections may still be closing.
    socket.set_reuseaddr(true)?;
    socket.bind(options.address)?;
    socket.listen(BACKLOG)
}

struct Acceptor {
    listener: TcpListener,
    shared: Arc<Shared>,
    jobs: mpsc::Sender<Job>,
    stopped: watch::Receiver<bool>,
}

impl Acceptor {
    /// Accepts until it is told to stop, then waits for the connections to end. They end with it when it is aborted.
    async fn run(mut self) {
        let mut clients = JoinSet::new();
        loop {
            tokio::select! {
                () = told_to_stop(&mut self.stopped) => break,
                Some(_ended) = clients.join_next() => {}
                // Beyond the limit they wait in the system's backlog.
                accepted = self.listener.accept(), if clients.len() < MAX_CLIENTS => match accepted {
                    Ok((stream, _from)) => {
                        let connection = (self.shared.clone(), self.jobs.clone(), self.stopped.clone());
                        clients.spawn(serve_client(stream, connection.0, connection.1, connection.2));
                    }
                    Err(error) => {
                        tracing::debug!(%error, "a connection to a service was not accepted");
                        tokio::time::sleep(PAUSE).await;
                    }
                },
            }
        }
        drop(self.listener);
        while clients.join_next().await.is_some() {}
    }
}

/// Waits until the service is to stop; its end is as good.
async fn told_to_stop(stopped: &mut watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stopped| *stopped).await.is_ok();
}

async fn serve_client(
    stream: TcpStream,
    shared: Arc<Shared>,
    jobs: mpsc::Sender<Job>,
    mut stopped: watch::Receiver<bool>,
) {
    // Small answers are not to wait for more of them.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let (shared, jobs) = (shared.clone(), jobs.clone());
        async move { Ok::<_, Infallible>(handle(&shared, &jobs, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_HEAD_TIME)
        .max_buf_size(HTTP_BUFFER_BYTES)
        .max_header_size(REQUEST_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = told_to_stop(&mut stopped) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::trace!(%error, "a connection to a service ended");
    }
}

/// Answers one request, by a guest or instead of one.
async fn handle(shared: &Shared, jobs: &mpsc::Sender<Job>, request: Request<Incoming>) -> Response<TimedBody> {
    let deadline = Instant::now() + shared.limits.request_time;
    let refused = |status| {
        shared.answered.fetch_add(1, Ordering::Relaxed);
        plain(status, deadline)
    };
    if request.uri().authority().is_none() && !request.headers().contains_key(HOST) {
        return refused(StatusCode::BAD_REQUEST);
    }
    let most = shared.limits.request_bytes;
    let length = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > most) {
        return refused(StatusCode::PAYLOAD_TOO_LARGE);
    }
    let Ok(place) = shared.places.clone().try_acquire_owned() else {
        return refused(StatusCode::SERVICE_UNAVAILABLE);
    };
    let request = request.map(|body| {
        let limited = Limited::new(body, usize::try_from(most).unwrap_or(usize::MAX));
        limited.map_err(move |_over_or_cut| Error::HttpRequestBodySize(Some(most))).boxed_unsync()
    });
    let (answer, answered) = oneshot::channel();
    let (verdict, told) = oneshot::channel();
    let (stays, gone) = oneshot::channel();
    // There is room: whoever has a place has one in the channel.
    if jobs.try_send(Job { request, answer, verdict, gone, deadline, place }).is_err() {
        return refused(StatusCode::SERVICE_UNAVAILABLE);
    }
    match timeout_at(deadline, answered).await {
        Ok(Ok(Ok(response))) => response.map(|body| TimedBody::new(body, deadline, Some(stays))),
        Ok(Ok(Err(_code))) => plain(StatusCode::INTERNAL_SERVER_ERROR, deadline),
        // The guest ended without an answer. If nobody says why, the service has ended.
        Ok(Err(_none)) => plain(told.await.unwrap_or(StatusCode::SERVICE_UNAVAILABLE), deadline),
        Err(_elapsed) => plain(StatusCode::GATEWAY_TIMEOUT, deadline),
    }
}

/// An answer of the host itself.
fn plain(status: StatusCode, deadline: Instant) -> Response<TimedBody> {
    let text = format!("{} {}\n", status.as_u16(), status.canonical_reason().unwrap_or_default());
    let body = Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::new(TimedBody::new(body, deadline, None));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    match status {
        StatusCode::SERVICE_UNAVAILABLE => {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        // What is left of the body is not waited for.
        StatusCode::PAYLOAD_TOO_LARGE | StatusCode::GATEWAY_TIMEOUT => {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        _ => {}
    }
    response
}

/// A body that must have been sent by the deadline of its request.
struct TimedBody {
    inner: AnswerBody,
    deadline: Pin<Box<Sleep>>,
    /// Told that the client has everything. Dropped untold, it tells the guest that nobody listens.
    client: Option<oneshot::Sender<()>>,
}

impl TimedBody {
    fn new(inner: AnswerBody, deadline: Instant, client: Option<oneshot::Sender<()>>) -> TimedBody {
        // A moment more than the guest has, so that its end decides what is said.
        TimedBody { inner, deadline: Box::pin(sleep_until(deadline + PAUSE)), client }
    }

    fn complete(&mut self) {
        if let Some(client) = self.client.take() {
            // The guest may be done already.
            let _ = client.send(());
        }
    }
}

impl Body for TimedBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = Pin::new(&mut self.inner).poll_frame(context);
        match &frame {
            Poll::Ready(None) => self.complete(),
            Poll::Ready(Some(_)) if self.inner.is_end_stream() => self.complete(),
            Poll::Pending if self.deadline.as_mut().poll(context).is_ready() => {
                return Poll::Ready(Some(Err(Error::HttpResponseTimeout)));
            }
            Poll::Ready(Some(_)) | Poll::Pending => {}
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for TimedBody {
    fn drop(&mut self) {
        // A body that has nothing more is not always asked for its end.
        if self.inner.is_end_stream() {
            self.complete();
        }
    }
}
