//! `holm cp`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use holm_proto::v1;
use tonic::Streaming;

use super::runs;
use crate::args::{CopyArgs, Global};
use crate::connection::{connect, refusal};

/// Copies a file of a task's sandbox to this machine: complete or not at all.
pub(crate) async fn run(global: &Global, args: CopyArgs) -> anyhow::Result<()> {
    anyhow::ensure!(!args.from.path.is_empty(), "no file is named: expected TASK:PATH, such as report:result.csv");
    let client = connect(global).await?;
    let from = || format!("{} cannot be copied", args.from);
    let (framework_id, task_id) = runs::one_task(&client, &args.from.task, args.framework).await?;
    let request = v1::ReadFileRequest { framework_id, task_id, path: args.from.path.clone() };
    let stream = client.operator().read_file(request).await.map_err(refusal).with_context(from)?.into_inner();
    if args.to == Path::new("-") {
        copy(stream, &mut io::stdout().lock()).await.with_context(from)?;
        return Ok(());
    }
    let target = target(&args.to, &args.from.path);
    let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let write = || format!("{} cannot be written", target.display());
    let mut file = tempfile::Builder::new().prefix(".holm-cp").tempfile_in(parent).with_context(write)?;
    copy(stream, &mut file).await.with_context(from)?;
    make_readable(file.path()).with_context(write)?;
    file.persist(&target).with_context(write)?;
    Ok(())
}

/// As `cp` does: into a directory under the file's own name.
fn target(to: &Path, from: &str) -> PathBuf {
    match Path::new(from).file_name() {
        Some(name) if to.is_dir() => to.join(name),
        _ => to.to_owned(),
    }
}

async fn copy(mut stream: Streaming<v1::FileChunk>, to: &mut impl Write) -> anyhow::Result<()> {
    while let Some(chunk) = stream.message().await.map_err(refusal)? {
        to.write_all(&chunk.data).context("the file cannot be written")?;
    }
    to.flush().context("the file cannot be written")
}

/// Temporary files are for their owner alone; what is copied is an ordinary file.
fn make_readable(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let mask = rustix::process::umask(rustix::fs::Mode::empty());
    rustix::process::umask(mask);
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666 & !mask.bits()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_gets_the_file_under_its_own_name() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(target(dir.path(), "out/result.csv"), dir.path().join("result.csv"));
        assert_eq!(target(Path::new("x.csv"), "out/result.csv"), Path::new("x.csv"));
    }
}
