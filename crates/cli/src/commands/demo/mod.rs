//! `holm demo`: a cluster of its own, two frameworks in two roles at the same time, and proof that both did their work.
//!
//! | file | what happens there |
//! |---|---|
//! | `documents.rs`, `words.rs` | the texts, and the plain count that the cluster's is checked against |
//! | `wordcount.rs`, `pool.rs` | the word count: a gRPC framework on the SDK |
//! | `picture.rs` | the picture: a scheduler component |
//! | `outputs.rs` | what the tasks wrote |
//! | `progress.rs` | bars and shares |

mod documents;
mod outputs;
mod picture;
mod pool;
mod progress;
mod wordcount;
mod words;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use holm_model::Resources;
use holm_sdk::Client;
use tokio::time::{Instant, timeout};

use crate::args::DemoArgs;
use crate::cluster::{Cluster, Plan, shares_of_this_machine};
use crate::output;
use crate::signals::StopSignals;
use documents::Document;
use picture::Rendered;
use progress::{History, Progress};
use wordcount::Counted;
use words::Counts;

/// Longest time the two frameworks may take.
const LIMIT: Duration = Duration::from_secs(600);
/// How long to look for a master before the first registration.
const CONNECT: Duration = Duration::from_secs(10);
/// How many words the summary shows.
const TOP: usize = 10;
/// What a demo that was interrupted ends with.
const INTERRUPTED: u8 = 130;

/// What both frameworks need to know of the cluster.
struct Setting {
    client: Client,
    master: String,
    token: String,
    /// What the smallest agent offers.
    agent: Resources,
}

impl Setting {
    fn sdk_options(&self) -> holm_sdk::Options {
        holm_sdk::Options {
            masters: vec![self.master.clone()],
            token: Some(self.token.clone()),
            connect_within: Some(CONNECT),
            ..holm_sdk::Options::default()
        }
    }
}

/// Shows what a cluster does.
pub(crate) async fn run(args: DemoArgs) -> anyhow::Result<ExitCode> {
    let mut signals = StopSignals::listen()?;
    let documents = documents::find(args.input.as_deref())?;
    documents.note.iter().for_each(|note| eprintln!("holm: {note}"));
    let dir = tempfile::Builder::new().prefix("holm-demo-").tempdir().context("no temporary directory can be made")?;
    let agents = shares_of_this_machine(dir.path(), args.agents);
    eprintln!("Starting a master and {} agents, each a process of its own ...", args.agents);
    let plan = Plan {
        dir: dir.path().to_owned(),
        listen: ([127, 0, 0, 1], 0).into(),
        agents: agents.clone(),
        allow: Vec::new(),
        allow_net: Vec::new(),
        keep: args.keep,
    };
    let mut cluster = tokio::select! {
        cluster = Cluster::start(plan) => cluster?,
        () = signals.next() => return Ok(ExitCode::from(INTERRUPTED)),
    };
    let shown = tokio::select! {
        shown = timeout(LIMIT, show(&args, &cluster, agents.iter().map(holm_model::Portions::total).collect(), documents.found)) => {
            shown.unwrap_or_else(|_| Err(anyhow::anyhow!("the demo did not end within {} s, its limit", LIMIT.as_secs())))
        }
        () = signals.next() => {
            cluster.stop().await;
            return Ok(ExitCode::from(INTERRUPTED));
        }
    };
    if args.keep && shown.is_ok() {
        return keep(cluster, dir);
    }
    cluster.stop().await;
    shown.map(|()| ExitCode::SUCCESS)
}

/// Runs both frameworks and tells what came of them.
async fn show(
    args: &DemoArgs,
    cluster: &Cluster,
    agents: Vec<Resources>,
    documents: Vec<Document>,
) -> anyhow::Result<()> {
    let client = Client::connect(&[cluster.address().to_owned()], Some(cluster.token())).await?;
    let agent = agents.into_iter().next_back().unwrap_or(Resources::EMPTY);
    let setting = Setting { client, master: cluster.address().to_owned(), token: cluster.token().to_owned(), agent };
    let documents: std::sync::Arc<[Document]> = documents.into();
    eprintln!(
        "Counting the words of {} files and rendering a picture, in two roles, at the same time ...",
        documents.len()
    );
    let started = Instant::now();
    let progress = Progress::new();
    let mut histories = progress::histories();
    let both = async {
        let words = wordcount::run(&setting, documents.clone(), &progress);
        tokio::try_join!(words, picture::run(&setting, args.size, &progress))
    };
    let (counted, rendered) = tokio::select! {
        both = both => both?,
        () = progress.watch(&setting.client, &mut histories) => bail!("the watch over the roles has ended"),
    };
    let took = started.elapsed();
    progress.finish();
    let expected = count_plainly(documents.clone()).await?;
    check(&counted.counts, &expected)?;
    rendered.picture.save(&args.out)?;
    let summary = Summary { args, files: documents.len(), counted, rendered, histories, took };
    output::print(&summary.render())?;
    Ok(())
}

/// The count that everybody believes.
async fn count_plainly(documents: std::sync::Arc<[Document]>) -> anyhow::Result<Counts> {
    let count = move || {
        let mut counts = Counts::new();
        documents.iter().for_each(|document| words::count(&document.bytes, &mut counts));
        counts
    };
    Ok(tokio::task::spawn_blocking(count).await?)
}

fn check(counted: &Counts, expected: &Counts) -> anyhow::Result<()> {
    if counted == expected {
        return Ok(());
    }
    let differing = expected.iter().find(|(word, count)| counted.get(*word) != Some(*count));
    let (word, count) = differing.map_or(("-", 0), |(word, count)| (word.as_str(), *count));
    let found = counted.get(word).copied().unwrap_or(0);
    bail!(
        "the cluster counted {} words and a plain count {}; {word:?} {found} times instead of {count}",
        words::total(counted),
        words::total(expected)
    )
}

/// What there is to tell at the end.
struct Summary<'a> {
    args: &'a DemoArgs,
    files: usize,
    counted: Counted,
    rendered: Rendered,
    histories: [History; 2],
    took: Duration,
}

impl Summary<'_> {
    fn render(&self) -> String {
        let Summary { args, files, counted, rendered, histories, took } = self;
        let (width, height) = args.size;
        let top = words::top(&counted.counts, TOP);
        let top = top.into_iter().map(|(word, count)| format!("{word} {count}")).collect::<Vec<_>>().join(", ");
        let fuel = output::magnitude(counted.fuel.saturating_add(rendered.fuel));
        let mut text = String::from("\n");
        let mut line = |name: &str, value: String| text.push_str(&format!("{name:<8} {value}\n"));
        line("tasks", format!("{} word count, {} picture", counted.tasks, rendered.tiles));
        line("agents", args.agents.to_string());
        for (name, history) in ["shares", ""].into_iter().zip(histories) {
            line(name, history.summary());
        }
        let (total, different) = (words::total(&counted.counts), counted.counts.len());
        line("words", format!("{total} in {files} files, {different} different; a plain count says the same"));
        line("", top);
        line("picture", format!("{} ({width} x {height})", args.out.display()));
        line("fuel", fuel);
        line("time", output::span(*took));
        text
    }
}

/// Leaves the cluster running and says how to reach and to end it.
fn keep(cluster: Cluster, dir: tempfile::TempDir) -> anyhow::Result<ExitCode> {
    let kept: PathBuf = dir.keep();
    let ids: Vec<_> = cluster.process_ids().iter().map(u32::to_string).collect();
    let text = format!(
        "\nThe cluster goes on at {address}:\n  export HOLM_MASTER={address}\n  holm agents\nState, token and logs: {dir}\n\
         Stop it: kill {ids}\n",
        address = cluster.address(),
        dir = kept.display(),
        ids = ids.join(" "),
    );
    output::print(&text)?;
    Ok(ExitCode::SUCCESS)
}
