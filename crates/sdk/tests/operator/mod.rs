//! An operator's service that knows nothing but its cluster.

use holm_proto::v1::operator_server::{Operator, OperatorServer};
use holm_proto::v1::*;
use tokio_stream::Empty;
use tonic::{Request, Response, Status};

/// Leads, or names who does.
pub(crate) fn service(leads: Result<(), String>) -> OperatorServer<impl Operator> {
    OperatorServer::new(Cluster { leads })
}

struct Cluster {
    leads: Result<(), String>,
}

macro_rules! absent {
    ($($name:ident($request:ty) -> $reply:ty;)*) => { $(
        fn $name<'a, 't>(
            &'a self,
            _: Request<$request>,
        ) -> std::pin::Pin<Box<dyn Future<Output = Result<Response<$reply>, Status>> + Send + 't>>
        where
            'a: 't,
            Self: 't,
        {
            Box::pin(async { Err(Status::internal("not here")) })
        }
    )* };
}

#[tonic::async_trait]
impl Operator for Cluster {
    type ReadLogsStream = Empty<Result<LogRecord, Status>>;
    type ListFilesStream = Empty<Result<FileEntry, Status>>;
    type ReadFileStream = Empty<Result<FileChunk, Status>>;
    type WatchStream = Empty<Result<WatchEvent, Status>>;

    async fn get_cluster(&self, _: Request<GetClusterRequest>) -> Result<Response<GetClusterReply>, Status> {
        let Err(leader) = &self.leads else {
            return Ok(Response::new(GetClusterReply { epoch: 7, ..GetClusterReply::default() }));
        };
        let mut status = Status::unavailable("this master does not lead");
        status.metadata_mut().insert("holm-leader", leader.parse().unwrap());
        Err(status)
    }

    absent! {
        list_agents(ListAgentsRequest) -> ListAgentsReply;
        list_frameworks(ListFrameworksRequest) -> ListFrameworksReply;
        list_tasks(ListTasksRequest) -> ListTasksReply;
        list_roles(ListRolesRequest) -> ListRolesReply;
        update_roles(UpdateRolesRequest) -> UpdateRolesReply;
        explain(ExplainRequest) -> ExplainReply;
        list_offers(ListOffersRequest) -> ListOffersReply;
        list_preemptions(ListPreemptionsRequest) -> ListPreemptionsReply;
        list_demands(ListDemandsRequest) -> ListDemandsReply;
        kill_task(KillTaskRequest) -> KillTaskReply;
        operate(OperateRequest) -> OperateReply;
        teardown_framework(TeardownFrameworkRequest) -> TeardownFrameworkReply;
        read_logs(ReadLogsRequest) -> Self::ReadLogsStream;
        list_files(ListFilesRequest) -> Self::ListFilesStream;
        read_file(ReadFileRequest) -> Self::ReadFileStream;
        watch(WatchRequest) -> Self::WatchStream;
    }
}
