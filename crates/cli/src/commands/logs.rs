//! `holm logs`.

use std::io::{self, Write};
use std::time::Duration;

use holm_proto::v1;
use holm_sdk::Client;

use super::lists::all_frameworks;
use super::runs::{Named, Run, Runs};
use crate::args::{Format, Global, LogsArgs};
use crate::connection::{connect, refusal};
use crate::output;
use lines::Lines;
use seen::Seen;

pub(crate) mod lines;
pub(crate) mod seen;

/// How long a followed array is silent before it is looked whether all of it has ended.
const SILENCE: Duration = Duration::from_secs(1);

/// Prints what tasks wrote to where they wrote it: stdout to stdout, stderr to stderr.
pub(crate) async fn run(global: &Global, args: LogsArgs) -> anyhow::Result<()> {
    let client = connect(global).await?;
    let runs = Runs::list(&client).await?;
    let named = runs.resolve(&client, &args.task, args.framework).await?;
    let single = if let Named::Exactly { task, .. } = &named { Some(task.clone()) } else { None };
    let mut shower = Shower { runs, single, format: args.output.output, lines: Lines::default() };
    let result = match named {
        Named::Exactly { framework, task } => {
            read(&client, request(framework, task, args.follow), &mut Seen::default(), &mut shower).await
        }
        Named::Array(run) if args.follow => follow(&client, &run, &mut shower).await,
        Named::Array(run) => {
            let request = request(run.framework, String::new(), false);
            read(&client, request, &mut Seen::default(), &mut shower).await
        }
    };
    match result.and_then(|()| Ok(shower.finish()?)) {
        // The reader has what it wanted.
        Err(error) if is_broken_pipe(&error) => Ok(()),
        result => result,
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn request(framework_id: String, task_id: String, follow: bool) -> v1::ReadLogsRequest {
    v1::ReadLogsRequest { framework_id, task_id, follow, only_new: false }
}

async fn read(
    client: &Client,
    request: v1::ReadLogsRequest,
    seen: &mut Seen,
    shower: &mut Shower,
) -> anyhow::Result<()> {
    let mut records = client.logs(request).await.map_err(refusal)?;
    while let Some(record) = records.message().await.map_err(refusal)? {
        if let Some(record) = seen.admit(record) {
            shower.show(record)?;
        }
    }
    Ok(())
}

/// Follows an array until all of it has ended, which its framework may outlive.
async fn follow(client: &Client, run: &Run, shower: &mut Shower) -> anyhow::Result<()> {
    let mut seen = Seen::default();
    let mut records = client.logs(request(run.framework.clone(), String::new(), true)).await.map_err(refusal)?;
    loop {
        tokio::select! {
            record = records.message() => match record.map_err(refusal)? {
                Some(record) => {
                    if let Some(record) = seen.admit(record) {
                        shower.show(record)?;
                    }
                }
                None => return Ok(()),
            },
            () = tokio::time::sleep(SILENCE) => {
                let frameworks = all_frameworks(client, false).await?;
                let now = frameworks.into_iter().filter_map(Run::from_wire).find(|now| now.framework == run.framework);
                if now.is_none_or(|now| !now.goes_on()) {
                    break;
                }
            }
        }
    }
    drop(records);
    // All of it is written by now: what is left comes with one more look.
    seen.rewind();
    read(client, request(run.framework.clone(), String::new(), false), &mut seen, shower).await
}

/// Shows records: one task's as they are, those of several by lines with the task's name before them.
struct Shower {
    runs: Runs,
    /// The one task or launch that was asked for.
    single: Option<String>,
    format: Format,
    lines: Lines,
}

impl Shower {
    fn show(&mut self, record: v1::LogRecord) -> io::Result<()> {
        if self.format == Format::Json {
            return show_json(&record);
        }
        let stream = record.stream();
        let name = self.runs.shown(&record.framework_id, &record.task_id);
        if record.dropped_bytes > 0 {
            eprintln!("holm: {name}: {} of output were not kept", output::bytes(record.dropped_bytes));
        }
        if self.single.as_ref() == Some(&record.task_id) {
            return write(stream, &record.data);
        }
        let ready = match stream {
            v1::LogStream::End => self.lines.end(&name),
            stream => self.lines.add(&name, stream, &record.data),
        };
        ready.into_iter().try_for_each(|(stream, bytes)| write(stream, &bytes))
    }

    fn finish(&mut self) -> io::Result<()> {
        self.lines.finish().into_iter().try_for_each(|(stream, bytes)| write(stream, &bytes))
    }
}

fn write(stream: v1::LogStream, bytes: &[u8]) -> io::Result<()> {
    if bytes.is_empty() {
        return Ok(());
    }
    if stream == v1::LogStream::Stderr {
        return io::stderr().lock().write_all(bytes);
    }
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes)?;
    stdout.flush()
}

fn show_json(record: &v1::LogRecord) -> io::Result<()> {
    let stream = match record.stream() {
        v1::LogStream::Stdout => "stdout",
        v1::LogStream::Stderr => "stderr",
        v1::LogStream::End => "end",
        v1::LogStream::Unspecified => "unknown",
    };
    let mut text = serde_json::to_string(&serde_json::json!({
        "task_id": record.task_id,
        "framework_id": record.framework_id,
        "agent_id": record.agent_id,
        "stream": stream,
        "at": output::time_json(record.at_unix_micros),
        "dropped_bytes": record.dropped_bytes,
        "data": String::from_utf8_lossy(&record.data),
    }))
    .map_err(io::Error::other)?;
    text.push('\n');
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}
