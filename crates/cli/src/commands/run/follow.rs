//! Follows the output of a framework's tasks while they run, across masters and connections.

use std::time::Duration;

use holm_model::{FrameworkId, TaskId};
use holm_proto::v1::{LogRecord, LogStream, ReadLogsRequest};
use holm_sdk::Client;
use tokio::sync::watch;

use super::printer::{Printer, Target};
use crate::commands::logs::lines::Lines;
use crate::commands::logs::seen::Seen;
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

/// Shows output until it is dropped.
pub(super) struct Follower {
    name: String,
    style: Style,
    printer: Printer,
    progress: watch::Sender<Progress>,
    lines: Lines,
    seen: Seen,
}

impl Follower {
    /// Shows the output of the tasks of the run called `name`.
    pub(super) fn new(name: &str, style: Style, printer: Printer, progress: watch::Sender<Progress>) -> Follower {
        Follower { name: name.to_owned(), style, printer, progress, lines: Lines::default(), seen: Seen::default() }
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
        self.seen.rewind();
        while let Some(record) = records.message().await.map_err(|status| status.message().to_owned())? {
            self.take(record).await;
        }
        Ok(())
    }

    async fn take(&mut self, record: LogRecord) {
        let Some(record) = self.seen.admit(record) else {
            // It comes again; that something comes is worth knowing.
            return self.progress.send_modify(|progress| progress.records += 1);
        };
        if record.dropped_bytes > 0 {
            let (task, size) = (self.label(&record.task_id), output::bytes(record.dropped_bytes));
            self.printer
                .print(Target::Notice, format!("holm: {task}: {size} of output were not kept\n").into_bytes())
                .await;
        }
        let stream = record.stream();
        self.show(&record, stream, &record.data).await;
        self.progress.send_modify(|progress| {
            progress.records += 1;
            progress.complete += u64::from(stream == LogStream::End);
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
