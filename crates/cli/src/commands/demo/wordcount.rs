//! The word count: maps over the documents, reduces their counts until there is one, as a gRPC framework on the SDK.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, bail};
use futures::{StreamExt, TryStreamExt, stream};
use holm_model::{Digest, FrameworkId, InputFile, Limits, Resources, Role, TaskSpec, TaskState};
use holm_sdk::{Client, Driver, Handle};
use tokio::sync::mpsc;

use super::Setting;
use super::documents::Document;
use super::outputs::{self, Output};
use super::pool::{Done, FINISH, JOBS, Job, MORE, Pool, part_of};
use super::progress::Progress;
use super::words::{self, Counts};

/// The role in which words are counted.
pub(super) const ROLE: &str = "words";
/// About how much text one map task counts, in bytes.
const MAP_BYTES: usize = 64 << 10;
/// Most files of one map task.
const MAP_FILES: usize = 64;
/// How many counts one reduce task sums.
const REDUCE_FILES: usize = 8;
/// Pushes at a time.
const PUSHES: usize = 8;
/// How many of these tasks an agent has room for.
const TASKS_PER_AGENT: u64 = 6;
/// Memory of a task beside its text.
const BASE_MEMORY: u64 = 32 << 20;
/// How much memory a text takes while it is counted, in multiples of its size.
const MEMORY_FACTOR: u64 = 4;

/// What was counted.
pub(super) struct Counted {
    pub(super) counts: Counts,
    pub(super) tasks: u64,
    pub(super) fuel: u64,
}

/// Counts the words of the documents on the cluster.
pub(super) async fn run(setting: &Setting, documents: Arc<[Document]>, progress: &Progress) -> anyhow::Result<Counted> {
    let (give, jobs) = mpsc::channel(JOBS);
    let (tell, done) = mpsc::channel(JOBS);
    let role: Role = ROLE.parse()?;
    let (driver, mut handle) = Driver::new(setting.sdk_options())?;
    let mut pool = Pool::new("word-count", role, jobs, tell);
    let driving = tokio::spawn(async move { driver.run(&mut pool).await });
    let framework = handle.registered().await.context("the word count could not be registered")?.framework;
    let (output_sender, outputs) = mpsc::channel(16);
    let collecting = tokio::spawn(outputs::collect(setting.client.clone(), framework, output_sender));
    let mut work = Work {
        client: setting.client.clone(),
        framework,
        handle,
        give,
        done,
        outputs,
        early: BTreeMap::new(),
        tasks: 0,
        fuel: 0,
    };
    let counted = tokio::select! {
        counted = work.count(setting, &documents, progress) => counted,
        // It ends by itself only when something is wrong.
        outcome = driving => match outcome? {
            Ok(_) => Err(anyhow::anyhow!("the word count was torn down")),
            Err(error) => Err(error.into()),
        },
    };
    collecting.abort();
    counted
}

/// The conversation with the framework.
struct Work {
    client: Client,
    framework: FrameworkId,
    handle: Handle,
    give: mpsc::Sender<Job>,
    done: mpsc::Receiver<Done>,
    outputs: mpsc::Receiver<Output>,
    /// Outputs of tasks whose end was not heard of yet.
    early: BTreeMap<String, Vec<u8>>,
    tasks: u64,
    fuel: u64,
}

impl Work {
    async fn count(
        &mut self,
        setting: &Setting,
        documents: &[Document],
        progress: &Progress,
    ) -> anyhow::Result<Counted> {
        let map = self.client.push(holm_test_programs::WORDCOUNT_MAP_P1_WASM).await?.digest;
        let reduce = self.client.push(holm_test_programs::WORDCOUNT_REDUCE_P1_WASM).await?.digest;
        let pushed = push_all(&self.client, documents.iter().map(|document| document.bytes.clone())).await?;
        let largest = documents.iter().map(|document| document.bytes.len()).max().unwrap_or(0) as u64;
        let shape =
            part_of(&setting.agent, TASKS_PER_AGENT, BASE_MEMORY + largest.max(MAP_BYTES as u64) * MEMORY_FACTOR);
        let groups = group(documents.iter().map(|document| document.bytes.len()).zip(pushed));
        progress.words.set_length(groups.len() as u64);
        let maps = groups.into_iter().enumerate();
        let jobs = maps.map(|(number, files)| job(format!("map-{number}"), map, files, &shape)).collect();
        let mut counts = self.run_all(jobs, &progress.words).await?;
        let mut round = 0;
        while counts.len() > 1 {
            round += 1;
            let size = counts.iter().map(Vec::len).max().unwrap_or(0) * REDUCE_FILES;
            let shape = part_of(&setting.agent, TASKS_PER_AGENT, BASE_MEMORY + size as u64 * MEMORY_FACTOR);
            let pushed = push_all(&self.client, counts.into_iter()).await?;
            let parts = pushed.chunks(REDUCE_FILES).map(<[Digest]>::to_vec).enumerate();
            let jobs: Vec<_> =
                parts.map(|(number, files)| job(format!("reduce-{round}-{number}"), reduce, files, &shape)).collect();
            progress.words.inc_length(jobs.len() as u64);
            counts = self.run_all(jobs, &progress.words).await?;
        }
        self.handle.input(FINISH).await?;
        let counts = counts.pop().and_then(|lines| words::parse(&lines)).context("the counted words cannot be read")?;
        Ok(Counted { counts, tasks: self.tasks, fuel: self.fuel })
    }

    /// Runs jobs and gives back what they wrote, in order.
    async fn run_all(&mut self, jobs: Vec<Job>, bar: &indicatif::ProgressBar) -> anyhow::Result<Vec<Vec<u8>>> {
        let names: Vec<_> = jobs.iter().map(|job| job.name.clone()).collect();
        for job in jobs {
            self.give.send(job).await.map_err(|_| anyhow::anyhow!("the word count has ended"))?;
            self.handle.input(MORE).await?;
        }
        let mut ended: BTreeMap<String, String> = BTreeMap::new();
        while ended.len() < names.len() || ended.values().any(|task| !self.early.contains_key(task)) {
            tokio::select! {
                Some(done) = self.done.recv() => {
                    if done.status.state != TaskState::Finished {
                        bail!("{} of {} {}: {}", done.task, self.framework, done.status.state, done.status.message);
                    }
                    self.tasks += 1;
                    self.fuel += done.status.usage.fuel;
                    bar.inc(1);
                    ended.insert(done.name, done.task.to_string());
                }
                Some(output) = self.outputs.recv() => {
                    self.early.insert(output.task.to_string(), output.bytes);
                }
                else => bail!("the output of the word count cannot be read"),
            }
        }
        let output = |name: &String| ended.get(name).and_then(|task| self.early.remove(task)).unwrap_or_default();
        Ok(names.iter().map(output).collect())
    }
}

/// A task that reads `files`.
fn job(name: String, module: Digest, files: Vec<Digest>, shape: &Resources) -> Job {
    let names: Vec<Arc<str>> = (0..files.len()).map(|number| format!("in/{number}.txt").into()).collect();
    let files = files.into_iter().zip(&names).map(|(digest, path)| InputFile { digest, path: path.clone() }).collect();
    let limits = Limits { output_bytes: Some(64 << 20), ..Limits::default() };
    let spec = TaskSpec { module, args: names, files, resources: shape.clone(), limits, ..TaskSpec::default() };
    Job { name, spec: Arc::new(spec) }
}

/// Neighbouring files for each map task.
fn group(files: impl Iterator<Item = (usize, Digest)>) -> Vec<Vec<Digest>> {
    let mut groups: Vec<Vec<Digest>> = Vec::new();
    let mut bytes = MAP_BYTES;
    for (size, digest) in files {
        let full = bytes >= MAP_BYTES || groups.last().is_none_or(|group| group.len() >= MAP_FILES);
        if full {
            groups.push(Vec::new());
            bytes = 0;
        }
        bytes += size;
        if let Some(group) = groups.last_mut() {
            group.push(digest);
        }
    }
    groups
}

async fn push_all(client: &Client, blobs: impl Iterator<Item = Vec<u8>>) -> anyhow::Result<Vec<Digest>> {
    let push = |bytes: Vec<u8>| async move { client.push(bytes).await.map(|pushed| pushed.digest) };
    Ok(stream::iter(blobs).map(push).buffered(PUSHES).try_collect().await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_mapped_once_in_groups_of_some_size() {
        let sizes = [10, 10, 100 << 10, 10, 70 << 10, 5];
        let files = sizes.iter().enumerate().map(|(number, size)| (*size, Digest([u8::try_from(number).unwrap(); 32])));
        let groups = group(files);
        assert_eq!(groups.iter().map(Vec::len).collect::<Vec<_>>(), [3, 2, 1]);
        assert!(group(std::iter::empty()).is_empty());
    }
}
