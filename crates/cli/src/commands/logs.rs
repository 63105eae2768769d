//! `holm logs`.

use std::io::{self, Write};

use holm_model::TaskId;
use holm_proto::v1;

use crate::args::{Format, Global, LogsArgs};
use crate::connection::{connect, refusal};
use crate::output;
use lines::Lines;

pub(crate) mod lines;

/// Prints what a task wrote to where it wrote it: stdout to stdout, stderr to stderr.
pub(crate) async fn run(global: &Global, args: LogsArgs) -> anyhow::Result<()> {
    let client = connect(global).await?;
    let request = v1::ReadLogsRequest {
        framework_id: args.framework.map(|id| id.to_string()).unwrap_or_default(),
        task_id: args.task.to_string(),
        follow: args.follow,
        only_new: false,
    };
    let mut records = client.logs(request).await.map_err(refusal)?;
    let mut lines = Lines::default();
    while let Some(record) = records.message().await.map_err(refusal)? {
        let shown = match args.output.output {
            Format::Json => show_json(&record),
            Format::Text => show(&mut lines, &args.task, record),
        };
        match shown {
            // The reader has what it wanted.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            result => result?,
        }
    }
    for (stream, bytes) in lines.finish() {
        write(stream, &bytes)?;
    }
    Ok(())
}

/// The output of one task as it is, that of an array by lines with the task's name before them.
fn show(lines: &mut Lines, asked: &TaskId, record: v1::LogRecord) -> io::Result<()> {
    let stream = record.stream();
    if record.dropped_bytes > 0 {
        eprintln!("holm: {}: {} of output were not kept here", record.task_id, output::bytes(record.dropped_bytes));
    }
    if record.task_id == asked.to_string() {
        return write(stream, &record.data);
    }
    let ready = match stream {
        v1::LogStream::End => lines.end(&record.task_id),
        stream => lines.add(&record.task_id, stream, &record.data),
    };
    ready.into_iter().try_for_each(|(stream, bytes)| write(stream, &bytes))
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
