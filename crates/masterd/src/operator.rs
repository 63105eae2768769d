//! The `Operator` service: listings from the read model, kills and teardowns through the driver, logs and files through
//! the relay.

use std::collections::BTreeSet;
use std::sync::Arc;

use holm_master::{Answer, OperatorCall, OperatorError};
use holm_model::{Action, AgentId, FrameworkId, Operation, Principal, TaskId};
use holm_proto::v1::{self, frame::Body, open, operator_server};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::clock;
use crate::demands;
use crate::driver::Input;
use crate::logs::{self, Wanted};
use crate::service::Shared;
use crate::view::query::parse;
use crate::view::{LaunchEntry, State, watch};
use crate::{explain, roles};

/// Pieces of a file held for one reader.
const PIECES: usize = 4;

/// The service.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) shared: Arc<Shared>,
}

/// A task, or the tasks of a launch, where they are.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Found {
    framework: FrameworkId,
    agent: AgentId,
    /// Whether one of them can still do something.
    live: bool,
}

/// Finds the tasks that `task` names: live ones if there are any, else those that ended last.
fn find(state: &State, framework: Option<FrameworkId>, task: &TaskId) -> Result<Found, Status> {
    let has = |launch: &&LaunchEntry| task.index.is_none() || launch.range.position_of(task.index).is_some();
    let serials = state.by_name.get(&task.batch).into_iter().flatten().rev();
    let launches = serials.filter_map(|serial| state.launches.get(serial)).filter(has);
    let found: Vec<Found> = launches
        .filter(|launch| framework.is_none_or(|framework| launch.framework == framework))
        .map(|launch| Found { framework: launch.framework, agent: launch.agent, live: launch.has_live(task) })
        .collect();
    let live: Vec<&Found> = found.iter().filter(|found| found.live).collect();
    let candidates = if live.is_empty() { found.iter().collect() } else { live };
    let frameworks: BTreeSet<FrameworkId> = candidates.iter().map(|found| found.framework).collect();
    match (candidates.first(), frameworks.len()) {
        (None, _) => Err(Status::not_found(match framework {
            Some(framework) => format!("{framework} has no task {task}"),
            None => format!("no framework has a task {task}"),
        })),
        (Some(found), 1) => Ok((*found).clone()),
        _ => {
            let names: Vec<String> = frameworks.iter().map(FrameworkId::to_string).collect();
            let names = names.join(", ");
            Err(Status::failed_precondition(format!("several frameworks have a task {task}: {names}; name one")))
        }
    }
}

fn task_of(text: &str) -> Result<TaskId, Status> {
    parse("task_id", text)?.ok_or_else(|| Status::invalid_argument("task_id is missing"))
}

fn refusal(error: OperatorError) -> Status {
    match &error {
        OperatorError::UnknownFramework(_)
        | OperatorError::UnknownTask { .. }
        | OperatorError::UnknownAgent(_)
        | OperatorError::UnknownRole(_)
        | OperatorError::UnknownDemand { .. } => Status::not_found(error.to_string()),
        OperatorError::AgentAway(_) | OperatorError::Operation(_) => Status::failed_precondition(error.to_string()),
        OperatorError::TooManyOperations { .. } => Status::resource_exhausted(error.to_string()),
        OperatorError::Phase { .. } => Status::failed_precondition(error.to_string()),
        OperatorError::TooManyKills { .. }
        | OperatorError::TooManyRoles { .. }
        | OperatorError::TooManyUpdates { .. } => Status::resource_exhausted(error.to_string()),
        OperatorError::Weight { .. } | OperatorError::RoleTwice(_) => Status::invalid_argument(error.to_string()),
        OperatorError::Quota(_) => Status::failed_precondition(error.to_string()),
        OperatorError::Denied(denied) => Status::permission_denied(denied.to_string()),
    }
}

impl Service {
    pub(crate) async fn call(&self, principal: Principal, call: OperatorCall) -> Result<Answer, Status> {
        let (reply, answer) = oneshot::channel();
        let ended = || Status::unavailable("the master is shutting down");
        self.shared.driver.send(Input::Operator { principal, call, reply }).await.map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?.map_err(refusal)
    }

    /// Asks the agent that has the task, and passes on the pieces that `read` wants.
    async fn relay<T: Send + 'static>(
        &self,
        found: Found,
        request: open::Request,
        read: fn(Body) -> Option<T>,
    ) -> Result<Response<ReceiverStream<Result<T, Status>>>, Status> {
        let mut answer = self.shared.relay.ask(found.agent, request).await?;
        let (pieces, stream) = mpsc::channel(PIECES);
        tokio::spawn(async move {
            loop {
                let piece = tokio::select! {
                    piece = answer.next() => piece,
                    () = pieces.closed() => return,
                };
                let Some(piece) = piece else { return };
                let Some(piece) = piece.map(read).transpose() else { continue };
                if pieces.send(piece).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

#[tonic::async_trait]
impl operator_server::Operator for Service {
    async fn get_cluster(
        &self,
        request: Request<v1::GetClusterRequest>,
    ) -> Result<Response<v1::GetClusterReply>, Status> {
        self.shared.admit(&request, Action::ReadState)?;
        Ok(Response::new(self.shared.describe()))
    }

    async fn list_agents(
        &self,
        request: Request<v1::ListAgentsRequest>,
    ) -> Result<Response<v1::ListAgentsReply>, Status> {
        self.shared.admit(&request, Action::ReadState)?;
        Ok(Response::new(self.shared.view.read().list_agents(request.get_ref())?))
    }

    async fn list_frameworks(
        &self,
        request: Request<v1::ListFrameworksRequest>,
    ) -> Result<Response<v1::ListFrameworksReply>, Status> {
        self.shared.admit(&request, Action::ReadState)?;
        Ok(Response::new(self.shared.view.read().list_frameworks(request.get_ref())?))
    }

    async fn list_tasks(&self, request: Request<v1::ListTasksRequest>) -> Result<Response<v1::ListTasksReply>, Status> {
        self.shared.admit(&request, Action::ReadState)?;
        Ok(Response::new(self.shared.view.read().list_tasks(request.get_ref())?))
    }

    async fn list_roles(&self, request: Request<v1::ListRolesRequest>) -> Result<Response<v1::ListRolesReply>, Status> {
        self.shared.admit(&request, Action::ReadState)?;
        Ok(Response::new(self.shared.view.read().list_roles()))
    }

    async fn list_offers(
        &self,
        request: Request<v1::ListOffersRequest>,
    ) -> Result<Response<v1::ListOffersReply>, Status> {
        self.shared.admit(&request, Action::ReadState)?;
        Ok(Response::new(self.shared.view.read().list_offers(request.get_ref(), clock::unix_micros())?))
    }

    async fn list_preemptions(
        &self,
        request: Request<v1::ListPreemptionsRequest>,
    ) -> Result<Response<v1::ListPreemptionsReply>, Status> {
        self.shared.admit(&request, Action::ReadState)?;
        Ok(Response::new(self.shared.view.read().preemptions.list(request.get_ref().limit)))
    }

    async fn list_demands(
        &self,
        request: Request<v1::ListDemandsRequest>,
    ) -> Result<Response<v1::ListDemandsReply>, Status> {
        self.shared.admit(&request, Action::ReadState)?;
        let v1::ListDemandsRequest { framework_id, role } = request.into_inner();
        let (framework, role) = (parse("framework_id", &framework_id)?, parse("role", &role)?);
        let (reply, answer) = oneshot::channel();
        let ended = || Status::unavailable("the master is shutting down");
        self.shared.driver.send(Input::Wanted { framework, role, reply }).await.map_err(|_| ended())?;
        let wanted = answer.await.map_err(|_| ended())?;
        let view = self.shared.view.read();
        Ok(Response::new(demands::reply(wanted, |framework| {
            view.frameworks.get(&framework).map(|entry| entry.view.info.name.to_string()).unwrap_or_default()
        })))
    }

    async fn kill_task(&self, request: Request<v1::KillTaskRequest>) -> Result<Response<v1::KillTaskReply>, Status> {
        let principal = self.shared.admit(&request, Action::KillTask)?;
        let v1::KillTaskRequest { framework_id, task_id, grace_micros } = request.into_inner();
        let task = task_of(&task_id)?;
        let found = find(&self.shared.view.read(), parse("framework_id", &framework_id)?, &task)?;
        if !found.live {
            return Err(Status::failed_precondition(format!("task {task} of {} has ended", found.framework)));
        }
        let grace = grace_micros.map(std::time::Duration::from_micros);
        self.call(principal, OperatorCall::Kill { framework: found.framework, task, grace }).await?;
        let Found { framework, agent, .. } = found;
        Ok(Response::new(v1::KillTaskReply { framework_id: framework.to_string(), agent_id: agent.to_string() }))
    }

    async fn operate(&self, request: Request<v1::OperateRequest>) -> Result<Response<v1::OperateReply>, Status> {
        let principal = self.shared.admit(&request, Action::Reserve)?;
        let v1::OperateRequest { agent_id, operation } = request.into_inner();
        let agent: AgentId =
            parse("agent_id", &agent_id)?.ok_or_else(|| Status::invalid_argument("agent_id is missing"))?;
        let operation = operation.ok_or_else(|| Status::invalid_argument("operation is missing"))?;
        let operation = Operation::try_from(operation)?;
        self.call(principal, OperatorCall::Operate { agent, operation }).await?;
        Ok(Response::new(v1::OperateReply {}))
    }

    async fn teardown_framework(
        &self,
        request: Request<v1::TeardownFrameworkRequest>,
    ) -> Result<Response<v1::TeardownFrameworkReply>, Status> {
        let principal = self.shared.admit(&request, Action::Teardown)?;
        let framework: FrameworkId = parse("framework_id", &request.get_ref().framework_id)?
            .ok_or_else(|| Status::invalid_argument("framework_id is missing"))?;
        let killed_tasks = {
            let state = self.shared.view.read();
            state.frameworks.get(&framework).map_or(0, |entry| entry.counts.live())
        };
        self.call(principal, OperatorCall::Teardown { framework }).await?;
        Ok(Response::new(v1::TeardownFrameworkReply { killed_tasks }))
    }

    async fn update_roles(
        &self,
        request: Request<v1::UpdateRolesRequest>,
    ) -> Result<Response<v1::UpdateRolesReply>, Status> {
        let principal = self.shared.admit(&request, Action::UpdateRoles)?;
        let update = roles::read_update(request.into_inner())?;
        let answer = self.call(principal, OperatorCall::UpdateRoles(update)).await?;
        Ok(Response::new(roles::update_reply(answer)?))
    }

    async fn explain(&self, request: Request<v1::ExplainRequest>) -> Result<Response<v1::ExplainReply>, Status> {
        let principal = self.shared.admit(&request, Action::ReadState)?;
        let question = explain::read_question(request.into_inner())?;
        let answer = self.call(principal, OperatorCall::Explain(question)).await?;
        Ok(Response::new(explain::reply(answer, &self.shared.view.read())?))
    }

    type ReadLogsStream = ReceiverStream<Result<v1::LogRecord, Status>>;

    async fn read_logs(&self, request: Request<v1::ReadLogsRequest>) -> Result<Response<Self::ReadLogsStream>, Status> {
        self.shared.admit(&request, Action::ReadSandbox)?;
        let v1::ReadLogsRequest { framework_id, task_id, follow, only_new } = request.into_inner();
        let framework: Option<FrameworkId> = parse("framework_id", &framework_id)?;
        let task: Option<TaskId> = parse("task_id", &task_id)?;
        let framework = {
            let state = self.shared.view.read();
            match (framework, &task) {
                (framework, Some(task)) => find(&state, framework, task)?.framework,
                (Some(framework), None) => {
                    let known =
                        state.frameworks.contains_key(&framework) || state.by_framework.contains_key(&framework);
                    known.then_some(framework).ok_or_else(|| Status::not_found(format!("{framework} is not known")))?
                }
                (None, None) => return Err(Status::invalid_argument("framework_id or task_id is required")),
            }
        };
        let (records, stream) = mpsc::channel(logs::RECORDS);
        let wanted = Wanted { framework, task, follow, only_new };
        tokio::spawn(logs::run(self.shared.view.clone(), self.shared.relay.clone(), wanted, records));
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    type ListFilesStream = ReceiverStream<Result<v1::FileEntry, Status>>;

    async fn list_files(
        &self,
        request: Request<v1::ListFilesRequest>,
    ) -> Result<Response<Self::ListFilesStream>, Status> {
        self.shared.admit(&request, Action::ReadSandbox)?;
        let v1::ListFilesRequest { framework_id, task_id, path } = request.into_inner();
        let found = find(&self.shared.view.read(), parse("framework_id", &framework_id)?, &task_of(&task_id)?)?;
        let ask = v1::ListFiles { framework_id: found.framework.to_string(), task_id, path };
        let read = |body| if let Body::File(entry) = body { Some(entry) } else { None };
        self.relay(found, open::Request::ListFiles(ask), read).await
    }

    type ReadFileStream = ReceiverStream<Result<v1::FileChunk, Status>>;

    async fn read_file(&self, request: Request<v1::ReadFileRequest>) -> Result<Response<Self::ReadFileStream>, Status> {
        self.shared.admit(&request, Action::ReadSandbox)?;
        let v1::ReadFileRequest { framework_id, task_id, path } = request.into_inner();
        let found = find(&self.shared.view.read(), parse("framework_id", &framework_id)?, &task_of(&task_id)?)?;
        let ask = v1::ReadFile { framework_id: found.framework.to_string(), task_id, path };
        let read = |body| if let Body::Chunk(data) = body { Some(v1::FileChunk { data }) } else { None };
        self.relay(found, open::Request::ReadFile(ask), read).await
    }

    type WatchStream = ReceiverStream<Result<v1::WatchEvent, Status>>;

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        self.shared.admit(&request, Action::ReadState)?;
        let place = self.shared.watch_place()?;
        let (events, stream) = mpsc::channel(watch::WATCH_QUEUE);
        let (view, cluster) = (self.shared.view.clone(), self.shared.cluster);
        tokio::spawn(async move {
            watch::run(view, cluster, request.into_inner().resume_token, events).await;
            drop(place);
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}
