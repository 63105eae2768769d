//! `holm blob`.

use std::path::Path;

use anyhow::Context;
use holm_proto::v1;
use holm_sdk::{Client, Pushed};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::args::{BlobCommand, Format, Global};
use crate::connection::{connect, refusal};
use crate::output::{self, Table, print_list};

/// Files from this size on show a progress bar while they are pushed.
const SHOW_PROGRESS_FROM: u64 = 8 << 20;

#[derive(Serialize)]
struct BlobRow {
    digest: String,
    size: u64,
}

/// Pushes, lists or removes blobs.
pub(crate) async fn run(global: &Global, command: BlobCommand) -> anyhow::Result<()> {
    let client = connect(global).await?;
    match command {
        BlobCommand::Push { files, output } => {
            for file in &files {
                let pushed = push_file(&client, file).await?;
                match output.output {
                    Format::Json => output::print_json(&serde_json::json!({
                        "digest": pushed.digest.to_string(),
                        "size": pushed.size,
                        "existed": pushed.existed,
                        "file": file.display().to_string(),
                    }))?,
                    Format::Text => output::print(&format!("{}  {}\n", pushed.digest, file.display()))?,
                }
            }
            Ok(())
        }
        BlobCommand::Ls { output } => list(&client, output.output).await,
        BlobCommand::Rm { digests, output } => {
            for digest in digests {
                let request = v1::RemoveBlobRequest { digest: digest.to_string() };
                let reply = client.blobs().remove(request).await.map_err(refusal)?.into_inner();
                match output.output {
                    Format::Json => output::print_json(&BlobRow { digest: digest.to_string(), size: reply.size })?,
                    Format::Text => output::print(&format!("{digest} is removed ({})\n", output::bytes(reply.size)))?,
                }
            }
            Ok(())
        }
    }
}

async fn list(client: &Client, format: Format) -> anyhow::Result<()> {
    let (mut blobs, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = v1::ListBlobsRequest { limit: 0, page_token };
        let page = client.blobs().list(request).await.map_err(refusal)?.into_inner();
        blobs.extend(page.blobs.into_iter().map(|blob| BlobRow { digest: blob.digest, size: blob.size }));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    print_list(format, &blobs, "no blobs", |blobs| {
        let mut table = Table::new(&["DIGEST", "SIZE"]);
        for blob in blobs {
            table.row([blob.digest.clone(), output::bytes(blob.size)]);
        }
        table
    })?;
    Ok(())
}

/// Pushes a file unless the master has it; large ones show how far they are.
pub(crate) async fn push_file(client: &Client, path: &Path) -> anyhow::Result<Pushed> {
    let size = std::fs::metadata(path).with_context(|| format!("{} cannot be read", path.display()))?.len();
    let bar = if size < SHOW_PROGRESS_FROM { ProgressBar::hidden() } else { ProgressBar::new(size) };
    let template = "{msg}  {bar:40} {bytes}/{total_bytes}  {bytes_per_sec}";
    bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_message(path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default());
    let shown = bar.clone();
    let pushed = client.push_file(path, move |sent, _| shown.set_position(sent)).await;
    bar.finish_and_clear();
    pushed.with_context(|| format!("{} cannot be pushed", path.display()))
}
