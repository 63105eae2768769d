//! Everything a master offers besides scheduling: the operator's questions, blobs, logs.

mod blobs;

use std::time::Duration;

use holm_proto::limits;
use holm_proto::v1::blobs_client::BlobsClient;
use holm_proto::v1::operator_client::OperatorClient;
use holm_proto::v1::{GetClusterReply, GetClusterRequest, LogRecord, ReadLogsRequest};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use crate::address::{AddressError, Bearer, Masters, explain};
pub use blobs::{PushError, Pushed};

/// A connection that shows the operator's token.
pub type Authorized = InterceptedService<Channel, Bearer>;

/// How long one attempt to reach a master may take.
const ATTEMPT: Duration = Duration::from_secs(5);
/// Most redirections to a leader that are followed.
const MAX_REDIRECTIONS: usize = 4;

/// Why no master can be asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ClientError {
    /// An address or the token cannot be used.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// No master answers.
    #[error("no master at {masters}: {last}")]
    NoMaster {
        /// Where it looked.
        masters: String,
        /// What came of the last attempt.
        last: String,
    },
    /// A master answers, and refuses.
    #[error("the master at {address} refuses: {message}")]
    Refused {
        /// Which.
        address: String,
        /// Why.
        message: String,
    },
}

/// A connection to the leading master.
#[derive(Clone, Debug)]
pub struct Client {
    address: String,
    channel: Authorized,
    cluster: GetClusterReply,
}

impl Client {
    /// Finds the master that leads among `masters` (`HOST:PORT`) and connects to it. Each is tried once.
    ///
    /// # Errors
    /// When none of them leads or can be reached.
    pub async fn connect(masters: &[String], token: Option<&str>) -> Result<Client, ClientError> {
        let bearer = Bearer::new(token)?;
        let mut known = Masters::new(masters.to_vec())?;
        let (mut last, mut turns, mut redirections) = (String::new(), 0, 0);
        while turns < masters.len() || known.knows_leader() && redirections < MAX_REDIRECTIONS {
            if known.knows_leader() {
                redirections += 1
            } else {
                turns += 1
            }
            let (address, endpoint) = known.next_endpoint();
            let channel = match tokio::time::timeout(ATTEMPT, endpoint?.connect()).await {
                Ok(Ok(channel)) => InterceptedService::new(channel, bearer.clone()),
                Ok(Err(error)) => {
                    last = format!("no connection to {address}: {}", explain(&error));
                    continue;
                }
                Err(_) => {
                    last = format!("no connection to {address} within {} s", ATTEMPT.as_secs());
                    continue;
                }
            };
            match greet(channel.clone()).await {
                Ok(cluster) => return Ok(Client { address, channel, cluster }),
                Err(status) if matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded) => {
                    last = format!("{address}: {}", status.message());
                    known.learn_from(&status);
                }
                Err(status) => {
                    let message = match status.code() {
                        Code::Unimplemented => "it is not a Holm master".to_owned(),
                        _ => status.message().to_owned(),
                    };
                    return Err(ClientError::Refused { address, message });
                }
            }
        }
        Err(ClientError::NoMaster { masters: known.addresses().join(", "), last })
    }

    /// The address of the master that answered.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// What the master said of its cluster when it was connected to.
    pub fn cluster(&self) -> &GetClusterReply {
        &self.cluster
    }

    /// The operator's service.
    pub fn operator(&self) -> OperatorClient<Authorized> {
        OperatorClient::new(self.channel.clone()).max_decoding_message_size(limits::MAX_FROM_MASTER_BYTES)
    }

    /// The blob store; [`Client::push`] and [`Client::pull`] are more convenient.
    pub fn blobs(&self) -> BlobsClient<Authorized> {
        BlobsClient::new(self.channel.clone()).max_decoding_message_size(limits::MAX_FROM_MASTER_BYTES)
    }

    /// Output of tasks; with `follow` until they have ended.
    ///
    /// # Errors
    /// The master's refusal.
    pub async fn logs(&self, request: ReadLogsRequest) -> Result<Streaming<LogRecord>, Status> {
        Ok(self.operator().read_logs(request).await?.into_inner())
    }
}

async fn greet(channel: Authorized) -> Result<GetClusterReply, Status> {
    let mut operator = OperatorClient::new(channel);
    let reply = tokio::time::timeout(ATTEMPT, operator.get_cluster(GetClusterRequest {})).await;
    let silent = |_| Status::deadline_exceeded(format!("no answer within {} s", ATTEMPT.as_secs()));
    Ok(reply.map_err(silent)??.into_inner())
}
