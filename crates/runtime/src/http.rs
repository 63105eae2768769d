//! Outgoing HTTP requests of a task, under the same grants as its sockets.
//!
//! Plain HTTP/1.1: there is no TLS here, and a request for `https` is answered with an error that says so. The name is
//! looked up by the host, and only addresses are connected to that the task's policy admits.

use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use holm_model::HostName;
use http::uri::{PathAndQuery, Scheme, Uri};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::WasiView;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView};

use crate::limits::{HTTP_BUFFER_BYTES, HTTP_CHUNK_BYTES, MAX_FIELD_BYTES};
use crate::network::{Connection, TaskNetwork};
use crate::run::State;

/// How long connecting takes at most, if the guest does not say less.
const CONNECT: Duration = Duration::from_secs(30);
/// How long an answer may take to begin, if the guest does not say less.
const ANSWER: Duration = Duration::from_secs(600);
/// How long an answer may take from its beginning to its end.
const LONGEST: Duration = Duration::from_secs(3600);

/// What the host keeps for the HTTP of one guest.
pub(crate) struct Http {
    ctx: WasiHttpCtx,
    hooks: Outgoing,
}

impl Http {
    pub(crate) fn new(network: Arc<TaskNetwork>) -> Http {
        let mut ctx = WasiHttpCtx::new();
        ctx.set_field_size_limit(MAX_FIELD_BYTES);
        Http { ctx, hooks: Outgoing { network } }
    }

    pub(crate) fn view<'a>(&'a mut self, table: &'a mut ResourceTable) -> WasiHttpCtxView<'a> {
        WasiHttpCtxView { hooks: &mut self.hooks, table, ctx: &mut self.ctx }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        self.http.view(WasiView::ctx(&mut self.wasi).table)
    }
}

struct Outgoing {
    network: Arc<TaskNetwork>,
}

type Outcome<T> = Result<T, Error>;
type Io = Box<dyn Future<Output = Outcome<()>> + Send>;
type Answered = (http::Response<WasiBody>, Io);

impl WasiHttpHooks for Outgoing {
    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _processed: Box<dyn Future<Output = Outcome<()>> + Send>,
    ) -> Box<dyn Future<Output = Outcome<Answered>> + Send> {
        let network = self.network.clone();
        Box::new(send(network, request, options.unwrap_or_default()))
    }

    fn p2_outgoing_body_buffer_chunks(&mut self) -> usize {
        1
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        HTTP_CHUNK_BYTES
    }
}

async fn send(
    network: Arc<TaskNetwork>,
    mut request: http::Request<WasiBody>,
    options: RequestOptions,
) -> Outcome<Answered> {
    let uri = request.uri();
    if uri.scheme() != Some(&Scheme::HTTP) {
        let why = "only http is spoken here: an agent has no TLS for its tasks".to_owned();
        return Err(Error::InternalError(Some(why)));
    }
    let host = uri.host().ok_or(Error::HttpRequestUriInvalid)?.to_owned();
    let port = uri.port_u16().unwrap_or(80);
    let place = network.connection().ok_or(Error::ConnectionLimitReached)?;
    let patience = options.connect_timeout.unwrap_or(CONNECT).min(CONNECT);
    let connected = timeout(patience, connect(&network, &host, port)).await;
    let stream = connected.map_err(|_elapsed| Error::ConnectionTimeout)??;
    let path = uri.path_and_query().map_or("/", PathAndQuery::as_str).to_owned();
    *request.uri_mut() = Uri::builder().path_and_query(path).build().map_err(|_| Error::HttpRequestUriInvalid)?;

    let mut client = hyper::client::conn::http1::Builder::new();
    client.max_buf_size(HTTP_BUFFER_BYTES);
    let (mut sender, connection) = client.handshake(TokioIo::new(stream)).await?;
    let mut io = Box::pin(drive(connection, place));
    let patience = options.first_byte_timeout.unwrap_or(ANSWER).min(ANSWER);
    let mut answer = pin!(timeout(patience, sender.send_request(request)));
    // The connection does not move by itself until the answer has begun; it may end with the answer.
    let (answer, ended) = tokio::select! {
        biased;
        answer = &mut answer => (answer, None),
        ended = &mut io => (answer.await, Some(ended)),
    };
    let response = answer.map_err(|_elapsed| Error::ConnectionReadTimeout)??;
    let response = response.map(|body| body.map_err(Error::from).boxed_unsync());
    // What is not read any more must not hold its connection for ever.
    let io = async move {
        match ended {
            Some(ended) => ended,
            None => timeout(LONGEST, io).await.unwrap_or(Err(Error::ConnectionReadTimeout)),
        }
    };
    Ok((response, Box::new(io)))
}

/// Moves a connection's bytes until it ends, and gives its place back then.
async fn drive(connection: impl Future<Output = hyper::Result<()>>, place: Connection) -> Outcome<()> {
    let ended = connection.await;
    drop(place);
    ended.map_err(Error::from)
}

/// Connects to the first address of the host that the task may reach and that answers.
async fn connect(network: &TaskNetwork, host: &str, port: u16) -> Outcome<TcpStream> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let addresses: Vec<SocketAddr> = match bare.parse::<IpAddr>() {
        Ok(address) => vec![SocketAddr::new(address, port)],
        Err(_) => resolve(network, host, port).await?,
    };
    let mut last = Error::DestinationIpProhibited;
    for address in addresses {
        if !network.may_connect(address) {
            continue;
        }
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = Error::Connect(error),
        }
    }
    Err(last)
}

async fn resolve(network: &TaskNetwork, host: &str, port: u16) -> Outcome<Vec<SocketAddr>> {
    let name: HostName = host.parse().map_err(|_| Error::HttpRequestUriInvalid)?;
    if !network.may_resolve(&name) {
        return Err(Error::HttpRequestDenied);
    }
    let found = tokio::net::lookup_host((name.as_str(), port)).await;
    let found = found.map_err(|error| Error::DnsError { rcode: Some(error.to_string()), info_code: None })?;
    Ok(found.filter(|address| network.pin(&name, address.ip())).collect())
}
