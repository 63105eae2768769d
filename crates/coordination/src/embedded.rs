//! The store of a cluster with one master: a redb file that this process alone has open.

use std::path::{Path, PathBuf};

use holm_datadir::DataDir;
use holm_model::ClusterId;
use redb::{Database, ReadableDatabase, TableDefinition};
use tokio::sync::{mpsc, oneshot};

use crate::writer::{self, Command};
use crate::{Answer, CommitOutcome, Coordination, KeyOp, Leadership, Records, StoreError};

/// The records: one key each.
pub(crate) const RECORDS: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("records");

/// What the store knows about itself.
pub(crate) const META: TableDefinition<'static, &str, &str> = TableDefinition::new("meta");

pub(crate) const EPOCH: &str = "epoch";
const CLUSTER: &str = "cluster_id";
const MIN_READER: &str = "min_reader";
const MIN_WRITER: &str = "min_writer";
const WRITTEN_BY: &str = "written_by";

/// The layout of keys and records that this build reads and writes.
const FORMAT: u32 = 1;

/// How far an adopted copy's epoch jumps ahead, so that it outruns every reign of the original.
const ADOPTION_EPOCHS: u64 = 1 << 20;

/// Most commands waiting for the writer thread; a caller beyond that waits for its turn.
const COMMAND_QUEUE: usize = 1024;

const FILE: &str = "registry.redb";

/// How a store is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// The id of the cluster if the store is new: random bits of the caller's.
    pub fresh_cluster: ClusterId,
    /// The directory was taken over from elsewhere: the epoch jumps ahead by 2^20, so that nobody who obeyed a leader of
    /// the original refuses this one.
    pub adopted: bool,
    /// Whose hand writes here, for the message of an older build that cannot read what it finds.
    pub written_by: String,
}

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The operating system refused something.
    #[error("the store in {}: cannot {what}", dir.display())]
    Io {
        /// The directory.
        dir: PathBuf,
        /// What was tried.
        what: &'static str,
        /// The refusal.
        #[source]
        source: std::io::Error,
    },
    /// A newer build wrote it.
    #[error(
        "the store in {} was written by holm {written_by} in format {needed}; this build knows format {FORMAT}: use a newer holm",
        dir.display()
    )]
    Newer {
        /// The directory.
        dir: PathBuf,
        /// The version that wrote it.
        written_by: String,
        /// The format it needs.
        needed: u32,
    },
    /// The file is damaged or is something else.
    #[error("the store in {} is damaged: {what}", dir.display())]
    Damaged {
        /// The directory.
        dir: PathBuf,
        /// What was found.
        what: String,
    },
}

/// The store, open. Dropping it finishes what was queued and gives the directory up.
#[derive(Debug)]
pub struct Embedded {
    cluster: ClusterId,
    commands: Option<mpsc::Sender<Command>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Embedded {
    /// Opens the store in a directory, or makes one there. The directory is given up when the store is dropped. Reads
    /// and writes files; call it where blocking is allowed.
    ///
    /// # Errors
    /// When the store is damaged, was written by a newer build, or cannot be read or written.
    pub fn open(dir: DataDir, options: &Options) -> Result<Embedded, OpenError> {
        let at = dir.path().to_owned();
        let damaged = |what: String| OpenError::Damaged { dir: at.clone(), what };
        let io = |what, source| OpenError::Io { dir: at.clone(), what, source };
        let path = at.join(FILE);
        let database = Database::builder().create(&path).map_err(|error| damaged(error.to_string()))?;
        restrict(&path).map_err(|error| io("restrict its mode", error))?;
        let cluster = match read_meta(&database).map_err(damaged)? {
            Some(meta) => check(&at, &meta)?,
            None => found(options, &database).map_err(|error| damaged(error.to_string()))?,
        };
        if options.adopted {
            let epoch =
                writer::advance_epoch(&database, ADOPTION_EPOCHS).map_err(|error| damaged(error.to_string()))?;
            tracing::warn!(dir = %at.display(), %epoch, "took over a store from elsewhere");
        }
        let (commands, queue) = mpsc::channel(COMMAND_QUEUE);
        let work = move || {
            writer::run(&database, cluster, queue);
            drop(database);
            drop(dir);
        };
        let spawned = std::thread::Builder::new().name("registry".to_owned()).spawn(work);
        let thread = spawned.map_err(|error| io("start its writer thread", error))?;
        Ok(Embedded { cluster, commands: Some(commands), thread: Some(thread) })
    }

    /// The cluster whose registry this is.
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, StoreError> {
        let gone = || StoreError("the writer thread has ended".to_owned());
        let (reply, answer) = oneshot::channel();
        let commands = self.commands.as_ref().ok_or_else(gone)?;
        commands.send(command(reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())
    }
}

impl Drop for Embedded {
    /// Waits for the writer, so that the directory is free when this returns.
    fn drop(&mut self) {
        self.commands = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the registry's writer thread panicked");
        }
    }
}

impl Coordination for Embedded {
    fn campaign(&self) -> Answer<'_, Result<Leadership, StoreError>> {
        Box::pin(async { self.ask(|reply| Command::Campaign { reply }).await? })
    }

    fn commit(&self, leadership: Leadership, ops: Vec<KeyOp>) -> Answer<'_, CommitOutcome> {
        Box::pin(async move {
            let answer = self.ask(|reply| Command::Commit { leadership, ops, reply }).await;
            answer.unwrap_or_else(|StoreError(why)| CommitOutcome::Unknown(why))
        })
    }

    fn snapshot(&self, prefix: &str) -> Answer<'_, Result<Records, StoreError>> {
        let prefix = prefix.to_owned();
        Box::pin(async { self.ask(|reply| Command::Snapshot { prefix, reply }).await? })
    }

    /// Nobody else can open the store, so only a later campaign of this very process ends a reign, and its writes find
    /// out by being fenced.
    fn deposed(&self, _leadership: Leadership) -> Answer<'_, ()> {
        Box::pin(std::future::pending())
    }
}

/// The registry holds hashes of secrets; nobody else needs to read it.
fn restrict(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
}

#[derive(Debug)]
struct Meta {
    cluster: String,
    min_reader: String,
    min_writer: String,
    written_by: String,
}

fn read_meta(database: &Database) -> Result<Option<Meta>, String> {
    let read = database.begin_read().map_err(|error| error.to_string())?;
    let table = match read.open_table(META) {
        Ok(table) => table,
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let get = |key: &str| match table.get(key) {
        Ok(Some(value)) => Ok(value.value().to_owned()),
        Ok(None) => Err(format!("the key {key} is missing")),
        Err(error) => Err(error.to_string()),
    };
    Ok(Some(Meta {
        cluster: get(CLUSTER)?,
        min_reader: get(MIN_READER)?,
        min_writer: get(MIN_WRITER)?,
        written_by: get(WRITTEN_BY)?,
    }))
}

/// Checks that an existing store is one for this build.
fn check(dir: &Path, meta: &Meta) -> Result<ClusterId, OpenError> {
    let damaged = |what: String| OpenError::Damaged { dir: dir.to_owned(), what };
    let number = |key: &str, text: &str| text.parse::<u32>().map_err(|_| damaged(format!("{key} is {text:?}")));
    let needed = number(MIN_READER, &meta.min_reader)?.max(number(MIN_WRITER, &meta.min_writer)?);
    if needed > FORMAT {
        return Err(OpenError::Newer { dir: dir.to_owned(), written_by: meta.written_by.clone(), needed });
    }
    meta.cluster.parse().map_err(|error: holm_model::ParseIdError| damaged(error.to_string()))
}

/// Makes a new store in one transaction, so that a crash leaves either nothing or all of it.
fn found(options: &Options, database: &Database) -> Result<ClusterId, redb::Error> {
    let format = FORMAT.to_string();
    let write = database.begin_write()?;
    {
        write.open_table(RECORDS)?;
        let mut meta = write.open_table(META)?;
        meta.insert(CLUSTER, options.fresh_cluster.to_string().as_str())?;
        meta.insert(MIN_READER, format.as_str())?;
        meta.insert(MIN_WRITER, format.as_str())?;
        meta.insert(WRITTEN_BY, options.written_by.as_str())?;
        meta.insert(EPOCH, "0")?;
    }
    write.commit()?;
    Ok(options.fresh_cluster)
}

#[cfg(test)]
mod tests;
