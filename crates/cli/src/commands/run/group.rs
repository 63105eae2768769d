//! `holm group`: several programs as one group of launches.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use holm_model::{FrameworkInfo, Launch, Offer, Refusal, Resources, Role, TaskRange, TaskState};
use holm_sdk::{Calls, Driver, Event, Scheduler, TaskUpdate, framework_info};
use tokio::sync::mpsc;

use super::report::{self, INTERRUPTED};
use super::want::Want;
use super::{CONNECT, job, module};
use crate::args::{Format, Global, GroupArgs, PlaceArgs, RunArgs, read_group};
use crate::connection;
use crate::output;
use crate::signals::StopSignals;

/// What the scheduler has to say that waits to be shown, beyond one end for each task.
const NEWS: usize = 64;
/// For how long an offer that is too small is not wanted.
const REFUSE: Duration = Duration::from_secs(1);

/// Runs a group and ends when it has ended.
pub(crate) async fn run(global: &Global, args: GroupArgs) -> anyhow::Result<ExitCode> {
    let members = read_group(&args.file)?;
    for member in &members {
        module::check(&member.module)?;
    }
    let mut drafts = members.iter().map(job::Draft::new).collect::<anyhow::Result<Vec<_>>>()?;
    let mut names = BTreeSet::new();
    if let Some(twice) = drafts.iter().find(|draft| !names.insert(draft.name.clone())) {
        bail!("the name {} is given twice", twice.name);
    }
    let mut signals = StopSignals::listen()?;
    let client = connection::connect(global).await?;
    let mut launches = Vec::new();
    for (draft, member) in drafts.iter_mut().zip(&members) {
        let spec = tokio::select! {
            pushed = draft.push(&client, member) => Arc::new(pushed?),
            () = signals.next() => return Ok(ExitCode::from(INTERRUPTED)),
        };
        launches.push(Launch { id: draft.name.clone(), tasks: range(member), slots: member.count, spec });
    }
    launch(global, &args, (launches, together(&members)), &mut signals).await
}

/// All that the members say of where they run: a group runs on one agent.
fn together(members: &[RunArgs]) -> PlaceArgs {
    PlaceArgs {
        constraint: members.iter().flat_map(|member| member.place.constraint.iter().cloned()).collect(),
        placement: members.iter().find_map(|member| member.place.placement),
        priority: members.iter().map(|member| member.place.priority).max().unwrap_or(0),
    }
}

fn range(member: &RunArgs) -> TaskRange {
    if member.count == 1 { TaskRange::Single } else { TaskRange::Array { first: 0, count: member.count } }
}

/// Something to be shown.
enum News {
    End(TaskUpdate),
    Word(String),
}

async fn launch(
    global: &Global,
    args: &GroupArgs,
    (launches, place): (Vec<Launch>, PlaceArgs),
    signals: &mut StopSignals,
) -> anyhow::Result<ExitCode> {
    let mut needed = Resources::EMPTY;
    for launch in &launches {
        needed = needed.plus(&launch.resources())?;
    }
    let left: u32 = launches.iter().map(|launch| launch.tasks.count()).sum();
    let plain = launches.iter().all(|launch| super::is_plain(&launch.spec));
    let want = Want::new(args.role.clone(), (&needed, 0), None, &place, plain)?;
    let (tell, mut news) = mpsc::channel(left as usize + NEWS);
    let mut scheduler =
        GroupScheduler { role: args.role.clone(), want, launches, needed, left, failed: false, told: false, tell };
    let options = holm_sdk::Options {
        masters: global.master.clone(),
        token: connection::token(global)?,
        connect_within: Some(CONNECT),
        ..holm_sdk::Options::default()
    };
    let (driver, handle) = Driver::new(options)?;
    let mut driver = tokio::spawn(async move { driver.run(&mut scheduler).await });
    let mut interrupted = false;
    loop {
        tokio::select! {
            biased;
            Some(news) = news.recv() => show(&news, args.output.output),
            () = signals.next(), if !interrupted => {
                interrupted = true;
                // Gone already is as good.
                let _ = handle.tear_down().await;
            }
            outcome = &mut driver => {
                while let Ok(news) = news.try_recv() {
                    show(&news, args.output.output);
                }
                return match outcome? {
                    _ if interrupted => Ok(ExitCode::from(INTERRUPTED)),
                    outcome => Ok(ExitCode::from(outcome?.code)),
                };
            }
        }
    }
}

fn show(news: &News, format: Format) {
    match (news, format) {
        (News::Word(word), _) => eprintln!("holm: {}", output::clean(word)),
        (News::End(end), Format::Json) => print!("{}", String::from_utf8_lossy(&report::json_lines(end))),
        (News::End(end), Format::Text) => {
            let reason = end.status.reason.map(|reason| format!(" {reason}")).unwrap_or_default();
            let message = end.status.message.lines().next().unwrap_or_default();
            let message = if message.is_empty() { String::new() } else { format!(": {}", output::clean(message)) };
            for task in end.task_ids() {
                println!("{task} {}{reason}{message}", end.status.state);
            }
        }
    }
}

/// Waits for an offer that holds the whole group, launches it, and is done when every task has ended.
struct GroupScheduler {
    role: Role,
    want: Want,
    launches: Vec<Launch>,
    needed: Resources,
    /// Tasks that have not ended.
    left: u32,
    failed: bool,
    /// Whether it was said that offers are too small.
    told: bool,
    tell: mpsc::Sender<News>,
}

impl Scheduler for GroupScheduler {
    fn describe(&self) -> FrameworkInfo {
        FrameworkInfo { role_options: self.want.options(), ..framework_info("holm group", [self.role.clone()]) }
    }

    fn handle(&mut self, events: Vec<Event>, calls: &mut Calls) {
        for event in events {
            match event {
                Event::Registered { .. } => {
                    self.want.forget();
                    self.want.state(u32::from(!self.launches.is_empty()), calls);
                }
                Event::Offers(offers) => offers.into_iter().for_each(|offer| self.offer(&offer, calls)),
                Event::Updates(updates) => updates.into_iter().for_each(|update| self.update(update)),
                Event::Disconnected { message } => self.say(format!("no master for now: {message}")),
                Event::Error { message } => calls.abort(message.to_string()),
                _ => {}
            }
        }
        if self.left == 0 {
            calls.finish(u8::from(self.failed), "");
        }
    }
}

impl GroupScheduler {
    fn offer(&mut self, offer: &Offer, calls: &mut Calls) {
        if self.launches.is_empty() {
            return calls.decline([offer.id], None);
        }
        if !offer.usable().contains(&self.needed) {
            if !std::mem::replace(&mut self.told, true) {
                let (needed, offered) = (&self.needed, &offer.resources);
                self.say(format!("the group needs {needed} on one agent; {} offers {offered}", offer.hostname));
            }
            return calls.decline([offer.id], Some(Refusal::new(REFUSE)));
        }
        calls.launch_group([offer.id], std::mem::take(&mut self.launches), Refusal::NONE);
        calls.suppress([]);
    }

    fn update(&mut self, update: TaskUpdate) {
        if update.status.state.is_terminal() {
            self.left = self.left.saturating_sub(update.count());
            self.failed |= update.status.state != TaskState::Finished;
            // There is room for an end of each task.
            let _ = self.tell.try_send(News::End(update));
        }
    }

    fn say(&self, word: String) {
        // A word too many is no loss.
        let _ = self.tell.try_send(News::Word(word));
    }
}
