//! Scheduler components in their host: one source as a native framework and as a component, and components that misbehave.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::collections::BTreeMap;
use std::time::Duration;

use holm_host::{GuestError, HostError, Hosted, Options};
use holm_sdk::model::{
    AgentId, Call, Epoch, FrameworkId, Launch, Offer, OfferId, Reason, TaskState, TaskStatus, Usage, Usages,
};
use holm_sdk::{Calls, Configured, Event, Intent, Scheduler, TaskUpdate};

#[allow(unreachable_pub, reason = "the same source is a component of its own")]
#[path = "../../../sample-tasks/crates/tiles-scheduler/src/tiles.rs"]
mod tiles;

const CONFIG: &str = "
# 10 x 7 tiles
module=sha256:00000000000000000000000000000000000000000000000000000000000000aa
width=640
height=448
tile=64
role=pictures
resources=cpus:1;mem:16MiB
";

fn options(config: &str) -> Options {
    Options { config: config.into(), budget: Duration::from_secs(20), ..Options::default() }
}

async fn rogue(way: &str, budget: Duration) -> Result<Hosted, HostError> {
    let options = Options { budget, memory: 64 << 20, ..options(way) };
    Hosted::start(holm_test_programs::ROGUE_SCHEDULER_WASM.to_vec(), options).await
}

/// Has a rogue scheduler handle one event. What it asked for, and why it stopped.
async fn provoke(way: &str, budget: Duration) -> (Vec<Intent>, Option<GuestError>) {
    let mut hosted = rogue(way, budget).await.unwrap();
    let mut calls = Calls::new();
    hosted.handle(vec![Event::Timer(1)], &mut calls);
    (calls.take(), hosted.take_failure())
}

/// A cluster of one agent, as far as a scheduler can tell: it offers, and every task ends. Everything asked is written down.
struct Cluster {
    offers: u64,
    asked: Vec<Intent>,
    /// How many more tasks fail.
    failing: u32,
    /// How many more launches are dropped.
    dropping: u32,
}

impl Cluster {
    fn run(&mut self, scheduler: &mut dyn Scheduler) -> Result<String, String> {
        let framework = FrameworkId::new(Epoch(1), 1);
        let mut events = vec![Event::Registered { framework, epoch: Epoch(1) }, self.offer()];
        for _ in 0..1000 {
            let mut calls = Calls::new();
            scheduler.handle(std::mem::take(&mut events), &mut calls);
            for intent in calls.take() {
                self.asked.push(intent.clone());
                match intent {
                    Intent::Call(Call::Accept { launches, .. }) => {
                        events.push(Event::Updates(launches.iter().flat_map(|launch| self.end(launch)).collect()));
                        events.push(self.offer());
                    }
                    Intent::Finish { code: 0, report } => return Ok(String::from_utf8(report).unwrap()),
                    Intent::Abort { message } => return Err(message),
                    Intent::Call(Call::Decline { .. } | Call::Suppress { .. } | Call::Revive { .. }) => {}
                    other => panic!("{other:?}"),
                }
            }
            if events.is_empty() {
                events.push(self.offer());
            }
        }
        panic!("the scheduler did not finish");
    }

    fn offer(&mut self) -> Event {
        self.offers += 1;
        Event::Offers(vec![Offer {
            id: OfferId::new(Epoch(1), self.offers),
            framework: FrameworkId::new(Epoch(1), 1),
            role: "pictures".parse().unwrap(),
            agent: AgentId::new(Epoch(1), 1),
            hostname: "host".into(),
            resources: "cpus:2.5;mem:8GiB;ports:[31000-31009]".parse().unwrap(),
            portions: holm_model::Portions::unreserved("cpus:2.5;mem:8GiB;ports:[31000-31009]".parse().unwrap()),
            attributes: BTreeMap::from([("arch".into(), "x86_64".into())]),
            demand: None,
            gang: None,
        }])
    }

    fn end(&mut self, launch: &Launch) -> Vec<TaskUpdate> {
        launch.validate().unwrap();
        let dropped = self.dropping > 0;
        self.dropping = self.dropping.saturating_sub(1);
        let mut updates = Vec::new();
        for position in 0..launch.tasks.count() {
            let id = launch.task_id(position);
            let tasks = holm_sdk::model::TaskRange::Array { first: id.index.unwrap(), count: 1 };
            let mut status = if dropped {
                TaskStatus::because(TaskState::Dropped, Reason::AgentDisconnected, "gone")
            } else if self.failing > 0 {
                self.failing -= 1;
                TaskStatus::because(TaskState::Failed, Reason::Trap, "unreachable")
            } else {
                TaskStatus::of(TaskState::Finished)
            };
            status.usage = Usage { fuel: 10, cpu: Duration::from_micros(7), ..Usage::default() };
            let agent = Some(AgentId::new(Epoch(1), 1));
            updates.push(TaskUpdate { agent, batch: launch.id.clone(), tasks, status, usages: Usages::default() });
        }
        updates
    }
}

fn cluster() -> Cluster {
    Cluster { offers: 0, asked: Vec::new(), failing: 2, dropping: 1 }
}

async fn tiles_component(config: &str) -> Result<Hosted, HostError> {
    Hosted::start(holm_test_programs::TILES_SCHEDULER_WASM.to_vec(), options(config)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_source_decides_the_same_natively_and_as_a_component() {
    let mut native = tiles::Tiles::configure(CONFIG.as_bytes()).unwrap();
    let mut component = tiles_component(CONFIG).await.unwrap();
    assert_eq!(native.describe(), component.describe());
    assert_eq!(component.describe().roles, ["pictures".parse().unwrap()]);

    let (mut of_native, mut of_component) = (cluster(), cluster());
    let native_report = of_native.run(&mut native).unwrap();
    let report = of_component.run(&mut component).unwrap();
    assert_eq!(report, native_report);
    assert_eq!(of_component.asked, of_native.asked);
    // 16 tiles of the first launch are dropped and 2 fail: all of them are tried again.
    assert!(report.starts_with("tiles=70\nretried=18\n"), "{report}");
    let first = of_component.asked.iter().find_map(|intent| match intent {
        Intent::Call(Call::Accept { launches, .. }) => Some(launches[0].clone()),
        _ => None,
    });
    let first = first.unwrap();
    assert_eq!((first.slots, first.tasks.count()), (2, 16));
    assert_eq!(first.spec.args.iter().map(|arg| &**arg).collect::<Vec<_>>(), ["640", "448", "tiles", "64", "1000"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tile_that_keeps_failing_ends_the_framework_with_its_reason() {
    let mut component = tiles_component(CONFIG).await.unwrap();
    let error = Cluster { failing: u32::MAX, ..cluster() }.run(&mut component).unwrap_err();
    assert!(error.contains("failed 4 times") && error.contains("TRAP: unreachable"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_makes_no_sense_is_refused_in_the_schedulers_words() {
    for (config, expected) in [
        ("width=1", "module: a digest is required"),
        ("module=x", "module: \"x\" is not a digest"),
        (&format!("{CONFIG}\nhight=3"), "hight is not a setting"),
        (&format!("{CONFIG}\nattempts=-1"), "attempts: invalid digit"),
    ] {
        let Err(HostError::Config(message)) = tiles_component(config).await else { panic!("{config} was accepted") };
        assert!(message.contains(expected), "{message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_overrides_role_and_failover_timeout() {
    let options = Options {
        roles: vec!["eng".parse().unwrap()],
        failover_timeout: Some(Duration::from_secs(60)),
        ..options(CONFIG)
    };
    let hosted = Hosted::start(holm_test_programs::TILES_SCHEDULER_WASM.to_vec(), options).await.unwrap();
    let info = hosted.describe();
    assert_eq!((info.roles, info.failover_timeout), (vec!["eng".parse().unwrap()], Duration::from_secs(60)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trap_is_told_with_its_backtrace_and_last_words() {
    let (intents, failure) = provoke("trap", Duration::from_secs(20)).await;
    let Some(GuestError::Trapped { during: "on-events", trap, output }) = failure else { panic!("{failure:?}") };
    assert!(trap.contains("unreachable") && trap.contains("wasm backtrace"), "{trap}");
    assert!(output.contains("as told, at 1 events"), "{output}");
    assert!(matches!(&intents[..], [Intent::Abort { message }] if message.contains("trapped in on-events")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scheduler_that_never_returns_is_stopped() {
    let budget = Duration::from_millis(200);
    for way in ["spin", "sleep"] {
        let (_, failure) = provoke(way, budget).await;
        assert!(matches!(failure, Some(GuestError::TooLong(_, "on-events", _))), "{way}: {failure:?}");
    }
    let Err(HostError::Guest(GuestError::TooLong(_, "describe", _))) = rogue("spin-in-describe", budget).await else {
        panic!("it was waited for");
    };
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scheduler_that_asks_for_too_much_memory_is_stopped() {
    let (_, failure) = provoke("grow", Duration::from_secs(20)).await;
    assert!(matches!(failure, Some(GuestError::TooMuchMemory(67_108_864, _))), "{failure:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scheduler_finds_nothing_around_it() {
    let (intents, failure) = provoke("look-around", Duration::from_secs(20)).await;
    assert!(failure.is_none());
    let report = b"0 arguments, 0 variables, root false, time Ok(0)".to_vec();
    assert_eq!(intents, [Intent::Finish { code: 0, report }]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_that_cannot_be_is_refused_before_anything_is_connected() {
    let Err(HostError::Info(message)) = rogue("nameless", Duration::from_secs(20)).await else { panic!("accepted") };
    assert!(message.contains("framework name \"\""), "{message}");
    let Err(HostError::Config(message)) = rogue("", Duration::from_secs(20)).await else { panic!("accepted") };
    assert_eq!(message, "no way to misbehave is given");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_scheduler_is_refused_by_what_it_is() {
    let command = holm_test_programs::HELLO.p2_bytes().unwrap();
    let core = holm_test_programs::HELLO.p1_bytes().unwrap();
    let foreign = wat::parse_str(r#"(component (import "example:store/kv" (instance)))"#).unwrap();
    let wrong_type = wat::parse_str(
        r#"(component
            (core module $m (func (export "f")))
            (core instance $i (instantiate $m))
            (func $f (canon lift (core func $i "f")))
            (export "describe" (func $f))
            (export "on-events" (func $f)))"#,
    );
    for (bytes, expected) in [
        (command, "is not of the world holm:framework/scheduler@0.1.0"),
        (core, "is a core module"),
        (foreign, "imports example:store/kv, which the world holm:framework/scheduler@0.1.0 does not offer"),
        (wrong_type.unwrap(), "is not of the world holm:framework/scheduler@0.1.0"),
        (b"#!/bin/sh".to_vec(), "cannot be loaded"),
    ] {
        let Err(error) = Hosted::start(bytes, options("x")).await else { panic!("accepted; expected {expected}") };
        assert!(error.to_string().contains(expected), "{error}");
    }
}
