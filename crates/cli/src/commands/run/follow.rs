//! Follows the output of a framework's tasks while they run, across masters and connections.

use std::collections::BTreeMap;
use std::time::Duration;

use holm_model::{FrameworkId, TaskId};
use holm_proto::v1::{LogRecord, LogStream, ReadLogsRequest};
use holm_sdk::Client;
use tokio::sync::watch;

use super::printer::{Printer, Target};
use crate::commands::logs::lines::Lines;
use crate::output;

/// The pause before a stream that broke is opened again.
const RETRY: Duration = Duration::from_millis(500);

/// How far the output has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// Tasks whose output is complete.
    pub(super) complete: u64,
    /// Records seen.
    pub(super) records: u64,
}

/// How output is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// As it is: there is one task.
    Raw,
    /// By lines, each with its task's name before it.
    Prefixed,
    /// On stderr only, because stdout is for programs.
    Aside,
}

/// Where to ask.
pub(super) struct Source {
    pub(super) masters: Vec<String>,
    pub(super) token: Option<String>,
    pub(super) framework: FrameworkId,
}

/// What has been shown of a task that has not ended.
#[derive(Debug, Default)]
struct Shown {
    /// Bytes taken of stdout and of stderr, those that were not kept included.
    taken: [u64; 2],
    /// Of which so many are to come again, after the stream was opened again.
    again: [u64; 2],
}

/// Shows output until it is dropped.
pub(super) struct Follower {
    name: String,
    style: Style,
    printer: Printer,
    progress: watch::Sender<Progress>,
    lines: Lines,
    tasks: BTreeMap<String, Option<Shown>>,
}

impl Follower {
    /// Shows the output of the tasks of the run called `name`.
    pub(super) fn new(name: &str, style: Style, printer: Printer, progress: watch::Sender<Progress>) -> Follower {
        Follower { name: name.to_owned(), style, printer, progress, lines: Lines::default(), tasks: BTreeMap::new() }
    }

    /// Follows for ever, or until the framework has ended and everything has been shown.
    pub(super) async fn run(mut self, source: Source) {
        let mut told = false;
        loop {
            match self.read(&source).await {
                Ok(()) => return,
                Err(message) if !told => {
                    told = true;
                    tracing::info!(%message, "the output of tasks cannot be read now");
                }
                Err(message) => tracing::debug!(%message, "the output of tasks cannot be read now"),
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn read(&mut self, source: &Source) -> Result<(), String> {
        let client =
            Client::connect(&source.masters, source.token.as_deref()).await.map_err(|error| error.to_string())?;
        let framework_id = source.framework.to_string();
        let request = ReadLogsRequest { framework_id, task_id: String::new(), follow: true, only_new: false };
        let mut records = client.logs(request).await.map_err(|status| status.message().to_owned())?;
        // The stream begins at the beginning: what was shown comes again.
        self.tasks.values_mut().flatten().for_each(|shown| shown.again = shown.taken);
        while let Some(record) = records.message().await.map_err(|status| status.message().to_owned())? {
            self.take(record).await;
        }
        Ok(())
    }

    async fn take(&mut self, record: LogRecord) {
        let stream = record.stream();
        let entry = self.tasks.entry(record.task_id.clone()).or_insert_with(|| Some(Shown::default()));
        let Some(shown) = entry else {
            // It comes again; that something comes is worth knowing.
            return self.progress.send_modify(|progress| progress.records += 1);
        };
        let mut ended = false;
        let fresh = match stream {
            LogStream::Stdout => shown.take(0, &record),
            LogStream::Stderr => shown.take(1, &record),
            LogStream::End => {
                ended = true;
                *entry = None;
                Fresh { dropped: record.dropped_bytes, from: record.data.len() }
            }
            LogStream::Unspecified => return,
        };
        if fresh.dropped > 0 {
            let message =
                format!("holm: {}: {} of output were not kept\n", record.task_id, output::bytes(fresh.dropped));
            self.printer.print(Target::Stderr, message.into_bytes()).await;
        }
        self.show(&record, stream, &record.data[fresh.from..]).await;
        self.progress.send_modify(|progress| {
            progress.records += 1;
            progress.complete += u64::from(ended);
        });
    }

    async fn show(&mut self, record: &LogRecord, stream: LogStream, data: &[u8]) {
        if self.style == Style::Raw {
            if !data.is_empty() {
                self.printer.print(target(stream), data.to_vec()).await;
            }
            return;
        }
        let label = self.label(&record.task_id);
        let ready = match stream {
            LogStream::End => self.lines.end(&label),
            stream => self.lines.add(&label, stream, data),
        };
        for (stream, bytes) in ready {
            let target = if self.style == Style::Aside { Target::Stderr } else { target(stream) };
            self.printer.print(target, bytes).await;
        }
    }

    /// `NAME/INDEX`, by whichever launch the task was started.
    fn label(&self, task: &str) -> String {
        match task.parse::<TaskId>() {
            Ok(TaskId { index: Some(index), .. }) => format!("{}/{index}", self.name),
            _ => self.name.clone(),
        }
    }
}

fn target(stream: LogStream) -> Target {
    if stream == LogStream::Stderr { Target::Stderr } else { Target::Stdout }
}

/// The part of a record that was not seen before.
#[derive(Debug, PartialEq, Eq)]
struct Fresh {
    /// Bytes before it that were not kept.
    dropped: u64,
    /// Where in the record it begins.
    from: usize,
}

impl Shown {
    fn take(&mut self, stream: usize, record: &LogRecord) -> Fresh {
        let again = &mut self.again[stream];
        let dropped_again = record.dropped_bytes.min(*again);
        *again -= dropped_again;
        let from = usize::try_from(*again).unwrap_or(usize::MAX).min(record.data.len());
        *again -= from as u64;
        let dropped = record.dropped_bytes - dropped_again;
        self.taken[stream] += dropped + (record.data.len() - from) as u64;
        Fresh { dropped, from }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(data: &'static [u8], dropped_bytes: u64) -> LogRecord {
        LogRecord { data: data.into(), dropped_bytes, ..LogRecord::default() }
    }

    #[test]
    fn what_comes_again_is_not_shown_again() {
        let mut shown = Shown::default();
        assert_eq!(shown.take(0, &record(b"hello ", 0)), Fresh { dropped: 0, from: 0 });
        assert_eq!(shown.take(0, &record(b"world", 3)), Fresh { dropped: 3, from: 0 });
        shown.again = shown.taken;
        // Cut elsewhere than the first time.
        assert_eq!(shown.take(0, &record(b"hel", 0)).from, 3);
        assert_eq!(shown.take(0, &record(b"lo ", 0)).from, 3);
        assert_eq!(shown.take(0, &record(b"world, and more", 3)), Fresh { dropped: 0, from: 5 });
        assert_eq!(shown.take(1, &record(b"other stream", 0)).from, 0);
    }
}
