//! `holm run`: an ordinary framework on the SDK that runs one program, once or as an array.
//!
//! | file | what happens there |
//! |---|---|
//! | `module.rs` | a first look at the file |
//! | `job.rs` | from arguments to a task specification; files are pushed |
//! | `scheduler.rs`, `plan.rs`, `pace.rs` | offers in, launches out |
//! | `want.rs` | what the master is told to be wanted |
//! | `follow.rs`, `printer.rs` | live output |
//! | `report.rs` | ends, exit codes |
//! | `group.rs` | `holm group`: several programs together |

mod follow;
pub(crate) mod group;
mod job;
pub(crate) mod module;
mod pace;
mod plan;
mod printer;
mod report;
mod scheduler;
mod want;

use std::process::ExitCode;
use std::time::Duration;

use holm_model::FrameworkId;
use holm_sdk::{Driver, DriverError, Handle, Outcome, TaskUpdate};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::{Instant, timeout};

use crate::args::{Format, Global, RunArgs};
use crate::connection;
use crate::output;
use crate::signals::StopSignals;
use follow::{Follower, Progress, Source, Style};
use printer::{Printer, Target, Written};
use report::{INTERRUPTED, Report};
use scheduler::{Job, KILL, NOTICES, Notice, Outlet, RunScheduler};

/// How long to look for a master before the first registration.
const CONNECT: Duration = Duration::from_secs(10);
/// How long to wait for more output after all tasks have ended.
const DRAIN: Duration = Duration::from_secs(3);

/// Runs a program as tasks and ends as they end.
pub(crate) async fn run(global: &Global, args: RunArgs) -> anyhow::Result<ExitCode> {
    module::check(&args.module)?;
    let mut draft = job::Draft::new(&args)?;
    let mut signals = StopSignals::listen()?;
    let client = connection::connect(global).await?;
    let capacity = job::check_room(&client, &draft, args.wait).await?;
    let name = draft.name.to_string();
    let spec = tokio::select! {
        pushed = draft.push(&client, &args) => pushed?,
        () = signals.next() => return Ok(ExitCode::from(INTERRUPTED)),
    };
    // A promise can be made for one task; how many follow each other on a slot is decided offer by offer.
    let longest = if args.count == 1 { args.timeout } else { None };
    let bundle = (&spec.resources, u32::from(draft.free_port));
    let want = want::Want::new(args.role.clone(), bundle, longest, &args.place, is_plain(&spec))?;
    let job = Job {
        want,
        name: draft.name,
        count: args.count,
        spec: spec.into(),
        role: args.role.clone(),
        free_port: draft.free_port,
        capacity,
        detach: args.detach,
        failover_timeout: if args.detach { job::DETACHED } else { job::ATTACHED },
    };
    let mut session = Session::start(global, &args, job, &name)?;
    let course = session.run(&mut signals).await;
    session.finish(course).await
}

/// Whether tasks need nothing but amounts that nobody may take back: what a demand can say.
fn is_plain(spec: &holm_model::TaskSpec) -> bool {
    spec.volumes.is_empty() && !spec.revocable
}

/// How the main part of a run ended.
enum Course {
    /// All tasks have ended, or never will run.
    Over,
    /// They go on without this program.
    Detached,
    /// The driver ended by itself.
    Stopped(anyhow::Result<Outcome>),
    /// A second ctrl-C.
    Abandoned,
}

/// A run on its way.
struct Session {
    name: String,
    count: u32,
    json: bool,
    detach: bool,
    source: (Vec<String>, Option<String>),
    handle: Handle,
    driver: JoinHandle<Result<Outcome, DriverError>>,
    notices: mpsc::Receiver<Notice>,
    ends: mpsc::Receiver<TaskUpdate>,
    printer: Printer,
    written: Written,
    bar: ProgressBar,
    progress: watch::Receiver<Progress>,
    tell_progress: watch::Sender<Progress>,
    follower: Option<AbortHandle>,
    report: Report,
    interrupted: bool,
    away: bool,
    started: Instant,
}

impl Session {
    fn start(global: &Global, args: &RunArgs, job: Job, name: &str) -> anyhow::Result<Session> {
        let token = connection::token(global)?;
        let options = holm_sdk::Options {
            masters: global.master.clone(),
            token: token.clone(),
            connect_within: Some(CONNECT),
            ..holm_sdk::Options::default()
        };
        let (driver, handle) = Driver::new(options)?;
        let (tell_notice, notices) = mpsc::channel(NOTICES);
        let (tell_end, ends) = mpsc::channel(args.count as usize);
        let mut scheduler = RunScheduler::new(job, Outlet { notices: tell_notice, ends: tell_end });
        // On a task of its own, so that nothing that is shown holds up the framework.
        let driver = tokio::spawn(async move { driver.run(&mut scheduler).await });
        let bar = progress_bar(args);
        let (printer, written) = Printer::start(bar.clone())?;
        let (tell_progress, progress) = watch::channel(Progress::default());
        Ok(Session {
            name: name.to_owned(),
            count: args.count,
            json: args.output.output == Format::Json,
            detach: args.detach,
            source: (global.master.clone(), token),
            handle,
            driver,
            notices,
            ends,
            printer,
            written,
            bar,
            progress,
            tell_progress,
            follower: None,
            report: Report::default(),
            interrupted: false,
            away: false,
            started: Instant::now(),
        })
    }

    async fn run(&mut self, signals: &mut StopSignals) -> Course {
        let mut printer = self.printer.clone();
        let mut reader_gone = false;
        loop {
            tokio::select! {
                biased;
                () = signals.next() => {
                    if self.interrupted {
                        return Course::Abandoned;
                    }
                    self.say("stopping the tasks; once more to leave at once").await;
                    self.kill().await;
                }
                () = printer.closed(), if !reader_gone => {
                    reader_gone = true;
                    self.kill().await;
                }
                Some(end) = self.ends.recv() => self.take_end(&end).await,
                Some(notice) = self.notices.recv() => match notice {
                    Notice::Over { .. } => {
                        while let Ok(end) = self.ends.try_recv() {
                            self.take_end(&end).await;
                        }
                        return if self.detach { Course::Detached } else { Course::Over };
                    }
                    Notice::Launched => return Course::Detached,
                    notice => self.take_notice(notice).await,
                },
                outcome = &mut self.driver => {
                    let outcome = outcome.map_err(anyhow::Error::from).and_then(|outcome| outcome.map_err(anyhow::Error::from));
                    return Course::Stopped(outcome);
                }
            }
        }
    }

    async fn kill(&mut self) {
        self.interrupted = true;
        // Gone it is when the framework has ended, and the tasks with it.
        let _ = self.handle.input(KILL).await;
    }

    async fn take_end(&mut self, end: &TaskUpdate) {
        self.report.add(end, &self.name, self.interrupted);
        self.bar.set_position(self.report.ended.into());
        let failed = self.report.ended - self.report.finished;
        if failed > 0 {
            self.bar.set_message(format!("{failed} failed"));
        }
        if self.json {
            self.printer.print(Target::Stdout, report::json_lines(end)).await;
        }
    }

    async fn take_notice(&mut self, notice: Notice) {
        match notice {
            Notice::Registered(framework) => {
                if std::mem::take(&mut self.away) {
                    self.say("a master is there again").await;
                }
                self.follow(framework);
            }
            Notice::Disconnected(message) => {
                self.away = true;
                self.say(&format!("no master for now: {}", output::clean(&message))).await;
            }
            Notice::News(message) => self.say(&output::clean(&message)).await,
            Notice::Launched | Notice::Over { .. } => {}
        }
    }

    fn follow(&mut self, framework: FrameworkId) {
        if self.detach || self.follower.is_some() {
            return;
        }
        let style = match (self.json, self.count) {
            (true, _) => Style::Aside,
            (false, 1) => Style::Raw,
            (false, _) => Style::Prefixed,
        };
        let follower = Follower::new(&self.name, style, self.printer.clone(), self.tell_progress.clone());
        let (masters, token) = self.source.clone();
        let following = tokio::spawn(follower.run(Source { masters, token, framework }));
        self.follower = Some(following.abort_handle());
    }

    /// Says something to people.
    async fn say(&self, message: &str) {
        self.printer.print(Target::Notice, format!("holm: {message}\n").into_bytes()).await;
    }

    async fn finish(mut self, course: Course) -> anyhow::Result<ExitCode> {
        let result = match course {
            Course::Over => {
                self.drain().await;
                self.end_framework().await;
                Ok(self.report_all().await)
            }
            Course::Detached => self.leave().await,
            Course::Stopped(Err(error)) if is_teardown(&error) => {
                self.say("this run was ended from elsewhere: by holm kill, or by a teardown of its framework").await;
                self.drain().await;
                self.report_all().await;
                Ok(ExitCode::from(report::KILLED))
            }
            Course::Stopped(Err(error)) => Err(error),
            Course::Stopped(Ok(_)) => Err(anyhow::anyhow!("the framework was torn down by somebody else")),
            Course::Abandoned => Ok(ExitCode::from(INTERRUPTED)),
        };
        if let Some(follower) = self.follower.take() {
            follower.abort();
        }
        self.bar.finish_and_clear();
        let Session { printer, written, .. } = self;
        drop(printer);
        // A reader that does not read is not waited for.
        let _ = timeout(DRAIN, written.wait()).await;
        result
    }

    /// Waits until the output of all tasks that had some has been shown, as long as more comes.
    async fn drain(&mut self) {
        let expected = self.report.with_output;
        loop {
            let progress = *self.progress.borrow_and_update();
            if progress.complete >= expected {
                return;
            }
            match timeout(DRAIN, self.progress.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => {
                    let missing = expected - progress.complete;
                    tracing::warn!(missing, "output of tasks may be incomplete");
                    return;
                }
            }
        }
    }

    async fn end_framework(&mut self) {
        // Gone already is as good.
        let _ = self.handle.tear_down().await;
        if let Ok(Ok(Err(error))) = timeout(CONNECT, &mut self.driver).await {
            tracing::warn!(%error, "the framework did not end in order");
        }
    }

    async fn leave(&mut self) -> anyhow::Result<ExitCode> {
        let _ = self.handle.leave().await;
        if let Ok(outcome) = timeout(CONNECT, &mut self.driver).await {
            outcome??;
        }
        let framework = self.handle.identity().map(|identity| identity.framework.to_string());
        let line = if self.json {
            serde_json::json!({ "task_id": self.name, "framework_id": framework, "count": self.count }).to_string()
        } else {
            self.name.clone()
        };
        self.printer.print(Target::Stdout, format!("{line}\n").into_bytes()).await;
        Ok(ExitCode::SUCCESS)
    }

    async fn report_all(&mut self) -> ExitCode {
        if self.count == 1 {
            if let Some(message) = self.report.single_failure(&self.name).filter(|_| !self.json) {
                self.say(&message).await;
            }
            return ExitCode::from(self.report.single_code(self.interrupted));
        }
        if !self.json {
            self.bar.finish_and_clear();
            self.say(self.report.summary(self.count, self.started.elapsed()).trim_end()).await;
        }
        ExitCode::from(self.report.array_code(self.count, self.interrupted))
    }
}

/// Whether the framework ended because an operator said so: `holm kill` of an array, or `holm framework teardown`.
fn is_teardown(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(DriverError::Refused(message)) if message.contains("torn down"))
}

/// Shown for arrays, on a terminal.
fn progress_bar(args: &RunArgs) -> ProgressBar {
    if args.count == 1 || args.output.output == Format::Json {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(args.count.into());
    let template = "{bar:40} {pos}/{len} tasks  {elapsed}  {msg}";
    bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}
