//! `holm ls`.

use anyhow::Context;
use holm_proto::v1;
use serde::Serialize;

use super::runs;
use crate::args::{Global, ListArgs};
use crate::connection::{connect, refusal};
use crate::output::{Table, print_list};

#[derive(Serialize)]
struct Entry {
    name: String,
    size: u64,
    directory: bool,
}

/// Lists a directory of a task's sandbox.
pub(crate) async fn run(global: &Global, args: ListArgs) -> anyhow::Result<()> {
    let client = connect(global).await?;
    let from = || format!("{} cannot be listed", args.from);
    let (framework_id, task_id) = runs::one_task(&client, &args.from.task, args.framework).await?;
    let request = v1::ListFilesRequest { framework_id, task_id, path: args.from.path.clone() };
    let mut stream = client.operator().list_files(request).await.map_err(refusal).with_context(from)?.into_inner();
    let mut entries = Vec::new();
    while let Some(v1::FileEntry { name, size, directory }) =
        stream.message().await.map_err(refusal).with_context(from)?
    {
        entries.push(Entry { name, size, directory });
    }
    print_list(args.output.output, &entries, "the directory is empty", |entries| {
        let mut table = Table::new(&["SIZE", "NAME"]);
        for entry in entries {
            let (size, end) = if entry.directory { ("-".to_owned(), "/") } else { (entry.size.to_string(), "") };
            table.row([size, format!("{}{end}", entry.name)]);
        }
        table
    })?;
    Ok(())
}
