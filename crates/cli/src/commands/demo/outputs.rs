//! What the tasks of a framework wrote, whole, as they end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use holm_model::{FrameworkId, TaskId};
use holm_proto::v1::{LogStream, ReadLogsRequest};
use holm_sdk::Client;
use tokio::sync::mpsc;
use tonic::Status;

/// The pause before output is read again after its stream broke.
const RETRY: Duration = Duration::from_millis(200);
/// Most output of one task, in bytes.
const MAX_OUTPUT: usize = 64 << 20;

/// The stdout of a task that has ended.
#[derive(Clone, Debug)]
pub(super) struct Output {
    pub(super) task: TaskId,
    pub(super) bytes: Vec<u8>,
}

/// Sends every task's output once, when it is complete, until nobody takes any more or some of it is lost.
pub(super) async fn collect(client: Client, framework: FrameworkId, outputs: mpsc::Sender<Output>) {
    let mut given = BTreeSet::new();
    while !outputs.is_closed() {
        match read(&client, framework, &outputs, &mut given).await {
            Ok(()) => {}
            Err(End::Broken(status)) => {
                tracing::info!(%framework, message = status.message(), "output cannot be read now")
            }
            Err(End::Lost(task)) => {
                // The channel closes with this, and whoever waits for the output gives up.
                return tracing::error!(%framework, task, limit = MAX_OUTPUT, "a task wrote more than is kept");
            }
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Why output is not read on.
enum End {
    /// The stream broke; another one begins at the beginning.
    Broken(Status),
    /// Some output of this task was not kept.
    Lost(String),
}

impl From<Status> for End {
    fn from(status: Status) -> End {
        End::Broken(status)
    }
}

async fn read(
    client: &Client,
    framework: FrameworkId,
    outputs: &mpsc::Sender<Output>,
    given: &mut BTreeSet<String>,
) -> Result<(), End> {
    let request = ReadLogsRequest { framework_id: framework.to_string(), follow: true, ..ReadLogsRequest::default() };
    let mut records = client.logs(request).await?;
    let mut open: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    while let Some(record) = records.message().await? {
        let stream = record.stream();
        let bytes = open.entry(record.task_id.clone()).or_default();
        if record.dropped_bytes > 0 || bytes.len() + record.data.len() > MAX_OUTPUT {
            return Err(End::Lost(record.task_id));
        }
        if stream == LogStream::Stdout {
            bytes.extend_from_slice(&record.data);
        }
        let ended = stream == LogStream::End && given.insert(record.task_id.clone());
        if let (true, Ok(task)) = (ended, record.task_id.parse()) {
            let bytes = open.remove(&record.task_id).unwrap_or_default();
            // Whether somebody still takes it is asked before the next stream.
            let _ = outputs.send(Output { task, bytes }).await;
        }
    }
    Ok(())
}
