//! The thread that owns the database: it takes what is queued, applies all of it in one transaction, syncs once, and
//! answers everybody.

use holm_model::{ClusterId, Epoch};
use redb::{Database, ReadableDatabase, ReadableTable, Table, WriteTransaction};
use tokio::sync::{mpsc, oneshot};

use crate::embedded::{EPOCH, META, RECORDS};
use crate::{CommitOutcome, KeyOp, Leadership, MAX_KEY_BYTES, MAX_VALUE_BYTES, Records, StoreError};

/// Most commits that share one transaction.
const GROUP: usize = 256;

/// What the thread is asked to do.
#[derive(Debug)]
pub(crate) enum Command {
    Campaign { reply: oneshot::Sender<Result<Leadership, StoreError>> },
    Commit { leadership: Leadership, ops: Vec<KeyOp>, reply: oneshot::Sender<CommitOutcome> },
    Snapshot { prefix: String, reply: oneshot::Sender<Result<Records, StoreError>> },
}

struct Pending {
    reply: oneshot::Sender<CommitOutcome>,
    outcome: CommitOutcome,
}

/// Works until every sender is gone and the queue is empty.
pub(crate) fn run(database: &Database, cluster: ClusterId, mut queue: mpsc::Receiver<Command>) {
    let mut next = queue.blocking_recv();
    while let Some(command) = next.take() {
        match command {
            Command::Campaign { reply } => {
                let epoch = advance_epoch(database, 1).map_err(|error| StoreError(error.to_string()));
                // A caller that has stopped waiting needs no answer, here and below.
                drop(reply.send(epoch.map(|epoch| Leadership { cluster, epoch })));
            }
            Command::Snapshot { prefix, reply } => {
                let records = read(database, &prefix).map_err(|error| StoreError(error.to_string()));
                drop(reply.send(records));
            }
            Command::Commit { leadership, ops, reply } => {
                next = commit_group(database, (leadership, ops, reply), &mut queue);
            }
        }
        next = next.or_else(|| queue.blocking_recv());
    }
}

fn read_epoch(meta: &impl ReadableTable<&'static str, &'static str>) -> Result<Epoch, redb::Error> {
    let text = meta.get(EPOCH)?.map(|value| value.value().to_owned()).unwrap_or_default();
    text.parse().map(Epoch).map_err(|_| redb::Error::Corrupted(format!("epoch is {text:?}")))
}

/// Adds to the epoch, durably; returns the new one.
pub(crate) fn advance_epoch(database: &Database, by: u64) -> Result<Epoch, redb::Error> {
    let write = database.begin_write()?;
    let epoch = {
        let mut meta = write.open_table(META)?;
        let epoch = Epoch(read_epoch(&meta)?.0.saturating_add(by));
        meta.insert(EPOCH, epoch.to_string().as_str())?;
        epoch
    };
    write.commit()?;
    Ok(epoch)
}

fn read(database: &Database, prefix: &str) -> Result<Records, redb::Error> {
    let table = database.begin_read()?.open_table(RECORDS)?;
    let mut records = Vec::new();
    for entry in table.range(prefix..)? {
        let (key, value) = entry?;
        if !key.value().starts_with(prefix) {
            break;
        }
        records.push((key.value().to_owned(), value.value().to_owned()));
    }
    Ok(records)
}

/// One transaction for `first` and the commits queued behind it; hands back the command that ended the group.
fn commit_group(
    database: &Database,
    first: (Leadership, Vec<KeyOp>, oneshot::Sender<CommitOutcome>),
    queue: &mut mpsc::Receiver<Command>,
) -> Option<Command> {
    let mut group = vec![first];
    let mut behind = None;
    while group.len() < GROUP {
        match queue.try_recv() {
            Ok(Command::Commit { leadership, ops, reply }) => group.push((leadership, ops, reply)),
            Ok(other) => {
                behind = Some(other);
                break;
            }
            Err(_) => break,
        }
    }
    let mut pending = Vec::with_capacity(group.len());
    match apply_all(database, group, &mut pending) {
        Ok(()) => {}
        Err(error) => {
            tracing::error!(%error, "a registry write failed");
            for commit in &mut pending {
                commit.outcome = CommitOutcome::Unknown(error.to_string());
            }
        }
    }
    for Pending { reply, outcome } in pending {
        drop(reply.send(outcome));
    }
    behind
}

/// Every sender of `group` ends up in `pending`, whatever happens.
fn apply_all(
    database: &Database,
    group: Vec<(Leadership, Vec<KeyOp>, oneshot::Sender<CommitOutcome>)>,
    pending: &mut Vec<Pending>,
) -> Result<(), redb::Error> {
    let (ops, replies): (Vec<_>, Vec<_>) =
        group.into_iter().map(|(leadership, ops, reply)| ((leadership, ops), reply)).unzip();
    pending.extend(replies.into_iter().map(|reply| Pending { reply, outcome: CommitOutcome::Committed }));
    let write = database.begin_write()?;
    for ((leadership, ops), pending) in ops.iter().zip(pending.iter_mut()) {
        pending.outcome = apply(&write, *leadership, ops)?;
    }
    Ok(write.commit()?)
}

fn apply(write: &WriteTransaction, leadership: Leadership, ops: &[KeyOp]) -> Result<CommitOutcome, redb::Error> {
    if read_epoch(&write.open_table(META)?)? != leadership.epoch {
        return Ok(CommitOutcome::Fenced);
    }
    if let Some(why) = ops.iter().find_map(oversize) {
        return Ok(CommitOutcome::Unknown(why));
    }
    let mut table: Table<'_, &str, &[u8]> = write.open_table(RECORDS)?;
    for KeyOp { key, value } in ops {
        match value {
            Some(value) => drop(table.insert(key.as_str(), value.as_slice())?),
            None => drop(table.remove(key.as_str())?),
        }
    }
    Ok(CommitOutcome::Committed)
}

fn oversize(op: &KeyOp) -> Option<String> {
    let value = op.value.as_ref().map_or(0, Vec::len);
    if op.key.len() > MAX_KEY_BYTES {
        return Some(format!("a key has {} bytes; the limit is {MAX_KEY_BYTES}", op.key.len()));
    }
    (value > MAX_VALUE_BYTES).then(|| format!("{} has {value} bytes; the limit is {MAX_VALUE_BYTES}", op.key))
}
