//! What the tasks of a framework wrote, whole, as they end.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::bail;
use holm_model::{FrameworkId, TaskId};
use holm_proto::v1::{LogStream, ReadLogsRequest};
use holm_sdk::Client;
use tokio::sync::mpsc;

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

/// Sends every task's output once, when it is complete, until nobody takes any more.
pub(super) async fn collect(client: Client, framework: FrameworkId, outputs: mpsc::Sender<Output>) -> anyhow::Result<()> {
    let mut given = std::collections::BTreeSet::new();
    loop {
        let request = ReadLogsRequest { framework_id: framework.to_string(), follow: true, ..ReadLogsRequest::default() };
        // A stream begins at the beginning.
        let mut open: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        let stream = client.logs(request).await;
        if let Err(status) = &stream {
            tracing::info!(%framework, message = status.message(), "output cannot be read yet");
        }
        if let Ok(mut records) = stream {
            while let Ok(Some(record)) = records.message().await {
                match record.stream() {
                    LogStream::Stdout => {
                        let bytes = open.entry(record.task_id.clone()).or_default();
                        if record.dropped_bytes > 0 || bytes.len() + record.data.len() > MAX_OUTPUT {
                            bail!("the output of {} is larger than what is kept", record.task_id);
                        }
                        bytes.extend_from_slice(&record.data);
                    }
                    LogStream::End => {
                        let bytes = open.remove(&record.task_id).unwrap_or_default();
                        let task: TaskId = record.task_id.parse()?;
                        if given.insert(task.clone()) && outputs.send(Output { task, bytes }).await.is_err() {
                            return Ok(());
                        }
                    }
                    LogStream::Stderr => tracing::debug!(task = record.task_id, "wrote to stderr"),
                    LogStream::Unspecified => {}
                }
            }
        }
        if outputs.is_closed() {
            return Ok(());
        }
        tokio::time::sleep(RETRY).await;
    }
}
