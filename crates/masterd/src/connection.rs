//! Connections: how many there are, how long they may be silent, and what each of them has proved.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use holm_model::AgentId;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinSet;
use tower::Service as _;

use crate::metrics::Metrics;
use crate::options::Limits;

/// Bytes a peer may send on one stream before they are read.
const STREAM_WINDOW: u32 = 1 << 20;

/// Bytes a peer may send on one connection before they are read.
const CONNECTION_WINDOW: u32 = 4 << 20;

/// Largest set of headers, in bytes.
const MAX_HEADERS: u32 = 16 << 10;

/// Bytes that wait in a stream's socket buffer on our side.
const SEND_BUFFER: usize = 64 << 10;

/// How long accepting rests after the operating system refused, for want of file descriptors for example.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// What is known of the connection a request came over; an extension of every request.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    /// The agent that proved itself on this connection.
    pub(crate) agent: OnceLock<AgentId>,
    asked: AtomicBool,
    abandoned: Notify,
}

impl Peer {
    /// Ends the connection at once: its peer does not even read its last words.
    pub(crate) fn abandon(&self) {
        self.abandoned.notify_one();
    }
}

/// Accepts until `stop` says so, then lets the open connections finish for at most `limits.goodbye`.
pub(crate) async fn serve(
    listener: TcpListener,
    router: axum::Router,
    limits: Limits,
    metrics: Arc<Metrics>,
    mut stop: watch::Receiver<bool>,
) {
    let places = Arc::new(Semaphore::new(limits.connections));
    let mut open = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = open.join_next() => continue,
            () = stopped(&mut stop) => break,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(ACCEPT_REST).await;
                continue;
            }
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            metrics.connections_refused.inc();
            tracing::debug!(%address, limit = limits.connections, "connection refused: too many are open");
            continue;
        };
        let (router, metrics, stop) = (router.clone(), metrics.clone(), stop.clone());
        open.spawn(async move {
            metrics.connections.inc();
            serve_one(stream, address, router, limits, &metrics, stop).await;
            metrics.connections.dec();
            drop(place);
        });
    }
    drop(listener);
    let finish = async { while open.join_next().await.is_some() {} };
    if tokio::time::timeout(limits.goodbye, finish).await.is_err() {
        open.shutdown().await;
    }
}

/// Resolves once the daemon is to stop.
pub(crate) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that whoever runs the daemon has gone: the same.
    drop(stop.wait_for(|stop| *stop).await);
}

async fn serve_one(
    stream: TcpStream,
    address: SocketAddr,
    router: axum::Router,
    limits: Limits,
    metrics: &Metrics,
    mut stop: watch::Receiver<bool>,
) {
    // Small messages that somebody waits for are the rule here.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%address, %error, "TCP_NODELAY was refused");
    }
    let peer =
        Arc::new(Peer { address, agent: OnceLock::new(), asked: AtomicBool::new(false), abandoned: Notify::new() });
    let tagged = peer.clone();
    let service = tower::service_fn(move |mut request: http::Request<_>| {
        tagged.asked.store(true, Ordering::Relaxed);
        request.extensions_mut().insert(tagged.clone());
        router.clone().call(request)
    });
    let builder = protocol(limits);
    let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    let mut connection = std::pin::pin!(connection);
    let mut patience = std::pin::pin!(tokio::time::sleep(limits.first_message));
    let mut waiting = true;
    loop {
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = &mut patience, if waiting => {
                waiting = false;
                if !peer.asked.load(Ordering::Relaxed) {
                    metrics.connections_refused.inc();
                    tracing::debug!(%address, "connection closed: it asked for nothing");
                    return;
                }
                continue;
            }
            () = peer.abandoned.notified() => {
                tracing::debug!(%address, "connection ended: its peer does not read");
                return;
            }
            () = stopped(&mut stop) => {
                connection.as_mut().graceful_shutdown();
                connection.as_mut().await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%address, %error, "connection ended");
        }
        return;
    }
}

fn protocol(limits: Limits) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(limits.first_message);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(limits.keep_alive)
        .keep_alive_timeout(limits.keep_alive)
        .max_concurrent_streams(limits.streams_per_connection)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(MAX_HEADERS)
        .max_send_buf_size(SEND_BUFFER);
    builder
}
