//! What the master shows to browsers, scrapers and scripts, on the same port as gRPC.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures::StreamExt;
use holm_proto::v1;
use http::{HeaderMap, StatusCode, header};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use crate::clock;
use crate::service::Shared;
use crate::view::{json, watch};

/// Tasks in `/state.json` unless the query says otherwise.
const STATE_TASKS: u32 = 1000;

const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The routes.
pub(crate) fn routes(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/", get(overview))
        .route("/healthz", get(healthy))
        .route("/metrics", get(metrics))
        .route("/state.json", get(state))
        .route("/watch", get(watch_changes))
        .with_state(shared)
}

/// A path that is neither a page nor a service.
pub(crate) async fn nothing(request: axum::extract::Request) -> Response {
    let kind = request.headers().get(header::CONTENT_TYPE).map(http::HeaderValue::as_bytes);
    if kind.is_some_and(|kind| kind.starts_with(b"application/grpc")) {
        return Status::unimplemented("this master has no such service").into_http();
    }
    (StatusCode::NOT_FOUND, "there is nothing here\n").into_response()
}

/// A refusal as HTTP says it.
struct Refused(Status);

impl From<Status> for Refused {
    fn from(status: Status) -> Refused {
        Refused(status)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let code = match self.0.code() {
            Code::InvalidArgument => StatusCode::BAD_REQUEST,
            Code::Unauthenticated => StatusCode::UNAUTHORIZED,
            Code::PermissionDenied => StatusCode::FORBIDDEN,
            Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
            Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (code, format!("{}\n", self.0.message())).into_response()
    }
}

/// Whether this process leads and its driver runs.
async fn healthy(State(shared): State<Arc<Shared>>) -> Result<&'static str, Refused> {
    if shared.driver.is_closed() {
        return Err(Status::unavailable("the master has stopped").into());
    }
    Ok("ok\n")
}

/// Counts only; a scraper needs no token.
async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    let text = shared.metrics.render(&shared.view, shared.blobs.totals());
    ([(header::CONTENT_TYPE, METRICS_TYPE)], text).into_response()
}

#[derive(serde::Deserialize)]
struct StateQuery {
    tasks: Option<u32>,
}

/// The cluster, its agents, frameworks, roles and offers, and the newest tasks.
async fn state(
    State(shared): State<Arc<Shared>>,
    Query(query): Query<StateQuery>,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    shared.gate.admit(&headers)?;
    let agents = all_pages(|page_token| {
        let reply = shared.view.read().list_agents(&v1::ListAgentsRequest { limit: 0, page_token })?;
        Ok((reply.agents.iter().map(json::agent).collect(), reply.next_page_token))
    })?;
    let frameworks = all_pages(|page_token| {
        let request = v1::ListFrameworksRequest { limit: 0, page_token, include_completed: true };
        let reply = shared.view.read().list_frameworks(&request)?;
        Ok((reply.frameworks.iter().map(json::framework).collect(), reply.next_page_token))
    })?;
    let offers = all_pages(|page_token| {
        let request = v1::ListOffersRequest { page_token, ..v1::ListOffersRequest::default() };
        let reply = shared.view.read().list_offers(&request, clock::unix_micros())?;
        Ok((reply.offers.iter().map(json::offer).collect(), reply.next_page_token))
    })?;
    let request =
        v1::ListTasksRequest { limit: query.tasks.unwrap_or(STATE_TASKS).max(1), ..v1::ListTasksRequest::default() };
    let tasks = shared.view.read().list_tasks(&request)?;
    let roles = shared.view.read().list_roles().roles;
    Ok(axum::Json(json!({
        "cluster": json::cluster(&shared.describe()),
        "agents": agents,
        "frameworks": frameworks,
        "roles": roles.iter().map(json::role).collect::<Vec<_>>(),
        "offers": offers,
        "tasks": tasks.tasks.iter().map(json::task).collect::<Vec<_>>(),
        "more_tasks": !tasks.next_page_token.is_empty(),
    }))
    .into_response())
}

/// Every page of a listing; the lock is free between pages.
fn all_pages(mut page: impl FnMut(String) -> Result<(Vec<Value>, String), Status>) -> Result<Vec<Value>, Status> {
    let (mut all, mut token) = page(String::new())?;
    while !token.is_empty() {
        let (more, next) = page(token)?;
        all.extend(more);
        token = next;
    }
    Ok(all)
}

#[derive(serde::Deserialize)]
struct WatchQuery {
    #[serde(default)]
    resume_token: String,
}

/// Everything and then every change, one JSON object a line.
async fn watch_changes(
    State(shared): State<Arc<Shared>>,
    Query(query): Query<WatchQuery>,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    shared.gate.admit(&headers)?;
    let place = shared.watch_place()?;
    let (events, stream) = mpsc::channel(watch::WATCH_QUEUE);
    let (view, cluster) = (shared.view.clone(), shared.cluster);
    tokio::spawn(async move {
        watch::run(view, cluster, query.resume_token, events).await;
        drop(place);
    });
    let lines = ReceiverStream::new(stream).map(|event| {
        let value = match event {
            Ok(event) => json::event(&event),
            Err(status) => json!({ "error": status.message() }),
        };
        Ok::<Bytes, std::convert::Infallible>(Bytes::from(format!("{value}\n")))
    });
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response())
}

/// One page for people who came with a browser; it shows no names, so it needs no token.
async fn overview(State(shared): State<Arc<Shared>>) -> Response {
    let cluster = shared.describe();
    let tasks = cluster.tasks.unwrap_or_default();
    let text = |view: Option<v1::ResourceView>| view.map(|view| view.text).unwrap_or_default();
    let page = format!(
        "<!doctype html><meta charset=utf-8><title>Holm</title>\
         <style>body{{font:16px/1.5 system-ui;max-width:40em;margin:3em auto}}td{{padding-right:2em}}</style>\
         <h1>Holm</h1><table>\
         <tr><td>cluster<td>{}<tr><td>epoch<td>{}<tr><td>version<td>{}\
         <tr><td>active agents<td>{}<tr><td>connected frameworks<td>{}\
         <tr><td>tasks<td>{} waiting, {} running, {} finished, {} failed\
         <tr><td>total<td>{}<tr><td>allocated<td>{}<tr><td>offered<td>{}</table>\
         <p><a href=/state.json>state.json</a> <a href=/watch>watch</a> <a href=/metrics>metrics</a></p>",
        cluster.cluster_id,
        cluster.epoch,
        escape(&cluster.version),
        cluster.active_agents,
        cluster.connected_frameworks,
        tasks.staging,
        tasks.running,
        tasks.finished,
        tasks.failed,
        escape(&text(cluster.total)),
        escape(&text(cluster.allocated)),
        escape(&text(cluster.offered)),
    );
    ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], page).into_response()
}

/// Custom resource names are an operator's text.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
