//! Weights and quotas from the command line to the registry, and why somebody waits, through real processes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use holm_sdk::model::{Constraints, FrameworkInfo, Launch, Refusal, Role, RoleOptions, TaskRange, TaskSpec};
use holm_sdk::{Calls, Client, Driver, Event, Scheduler, framework_info};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use crate::harness::{Cluster, p1, wait_for};

fn role_row(cluster: &Cluster, name: &str) -> Option<Value> {
    cluster.list(&["roles"]).into_iter().find(|row| row["role"] == name)
}

#[test]
fn quotas_and_weights_are_set_shown_and_known_after_a_restart_of_the_master() {
    let mut cluster = Cluster::new("cpus:8;mem:8GiB");
    let set = ["quota", "set", "eng", "--guarantee", "cpus:4;mem:2GiB", "--limit", "cpus:6;gpus:0"];
    let dry = cluster.holm(&[&set[..], &["--dry-run"]].concat()).expect(0);
    assert!(dry.stdout.contains("eng: guarantee none -> cpus:4;mem:2GiB, limit none -> cpus:6;gpus:0"), "{dry:?}");
    assert!(dry.stdout.ends_with("dry run: nothing was changed\n"), "{dry:?}");
    assert!(cluster.list(&["quota", "show"]).is_empty(), "a dry run sets nothing");
    cluster.holm(&set).expect(0);
    cluster.holm(&["weight", "set", "eng/backend", "2.5"]).expect(0);
    let check = |cluster: &Cluster| {
        let eng = wait_for("the quota is shown", || role_row(cluster, "eng"));
        assert_eq!(eng["guarantee"], json!({"cpus": 4, "mem": 2_u64 << 30}));
        assert_eq!(eng["limit"], json!({"cpus": 6, "gpus": 0}));
        let backend = wait_for("the weight is shown", || role_row(cluster, "eng/backend"));
        assert_eq!(backend["weight"], json!(2.5));
    };
    check(&cluster);
    cluster.master.kill();
    cluster.restart_master();
    cluster.wait_for_agents(1);
    check(&cluster);
    let shown = cluster.holm(&["roles", "eng/backend"]).expect(0).stdout;
    assert!(shown.contains("\n  backend"), "{shown}");
    cluster.holm(&["quota", "rm", "eng"]).expect(0);
    cluster.master.kill();
    cluster.restart_master();
    wait_for("the weight is known again", || role_row(&cluster, "eng/backend"));
    assert!(cluster.list(&["quota", "show"]).is_empty(), "what was removed stays removed");
}

#[test]
fn updates_that_do_not_suit_are_refused_with_the_numbers_and_change_nothing() {
    let cluster = Cluster::new("cpus:8;mem:8GiB");
    let refused = |args: &[&str], code: i32, part: &str| {
        let answer = cluster.holm(args).expect(code);
        assert!(answer.stderr.contains(part), "{args:?}: {answer:?}");
    };
    refused(&["quota", "set", "eng", "--guarantee", "cpus:9"], 1, "cpus:9 is guaranteed in all, the cluster has 8");
    refused(&["quota", "set", "eng", "--guarantee", "cpus:4", "--limit", "cpus:3"], 1, "over its limit of 3");
    refused(&["quota", "set", "eng", "--limit", "cpu:4"], 1, "no agent has the resource cpu");
    refused(&["quota", "set", "eng/../eng", "--limit", "cpus:4"], 2, "\"..\"");
    refused(&["quota", "set", "eng", "--limit", "ports:[1-2]"], 2, "ports is not a scalar");
    refused(&["weight", "set", "eng", "0"], 2, "weight");
    let file = cluster.dir.file(
        "quotas.toml",
        "[eng]\nguarantee = 'cpus:4'\nweight = 3\n['eng/a']\nguarantee = 'cpus:3'\n['eng/b']\nguarantee = 'cpus:2'\n",
    );
    refused(&["quota", "apply", &file], 1, "the roles below it are guaranteed cpus:5 (eng/a 3, eng/b 2)");
    assert!(cluster.list(&["roles"]).is_empty(), "all or nothing");
    cluster.holm(&["quota", "set", "eng", "--guarantee", "cpus:9", "--force"]).expect(0);
    let file =
        cluster.dir.file("quotas.json", r#"{"eng": {"guarantee": {"cpus": 6}}, "eng/a": {"guarantee": "cpus:3"}}"#);
    let applied = cluster.holm(&["quota", "apply", &file, "--output", "json"]).expect(0).object();
    assert_eq!(applied["changed"].as_array().unwrap().len(), 2);
    assert_eq!(applied["unmet"][0]["text"], "cpus: 0 used, 6 guaranteed, 6 short");
}

/// What an actor does with offers.
#[derive(Clone)]
enum Manner {
    Hold,
    Decline,
    /// One task of this kind per offer, as many as there are offers.
    Launch(Arc<TaskSpec>),
}

struct Actor {
    info: FrameworkInfo,
    launched: u32,
    manner: Manner,
    suppress: bool,
}

impl Scheduler for Actor {
    fn describe(&self) -> FrameworkInfo {
        self.info.clone()
    }

    fn handle(&mut self, events: Vec<Event>, calls: &mut Calls) {
        for event in events {
            match (event, &self.manner) {
                (Event::Registered { .. }, _) if self.suppress => calls.suppress(self.info.roles.clone()),
                (Event::Offers(offers), Manner::Decline) => {
                    let hour = Refusal::new(Duration::from_secs(3600));
                    calls.decline(offers.iter().map(|offer| offer.id), Some(hour));
                }
                (Event::Offers(offers), Manner::Launch(spec)) => {
                    for offer in offers {
                        self.launched += 1;
                        let id = format!("task-{}", self.launched).parse().unwrap();
                        let launch = Launch { id, tasks: TaskRange::Single, slots: 1, spec: spec.clone() };
                        if offer.resources.contains(&spec.resources) {
                            calls.accept([offer.id], vec![launch], Refusal::NONE);
                        } else {
                            calls.decline([offer.id], Some(Refusal::new(Duration::from_millis(200))));
                        }
                    }
                }
                _ => {}
            }
        }
    }
}

/// Frameworks in this process.
struct Stage {
    runtime: Runtime,
    masters: Vec<String>,
}

impl Stage {
    fn new(cluster: &Cluster) -> Stage {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        Stage { runtime, masters: vec![cluster.address.clone()] }
    }

    /// Starts a framework in a role of its own, and gives its id once it is registered.
    fn enter(
        &self,
        role: &str,
        manner: Manner,
        suppress: bool,
        options: Option<RoleOptions>,
    ) -> (String, JoinHandle<()>) {
        let role: Role = role.parse().unwrap();
        let role_options: BTreeMap<_, _> = options.map(|options| (role.clone(), options)).into_iter().collect();
        let info = FrameworkInfo {
            role_options,
            failover_timeout: Duration::from_secs(600),
            ..framework_info(role.as_str(), [role.clone()])
        };
        let mut actor = Actor { info, launched: 0, manner, suppress };
        let options = holm_sdk::Options { masters: self.masters.clone(), ..holm_sdk::Options::default() };
        let (driver, mut handle) = self.runtime.block_on(async { Driver::new(options) }).unwrap();
        let task = self.runtime.spawn(async move { drop(driver.run(&mut actor).await) });
        let identity = self.runtime.block_on(handle.registered()).unwrap();
        (identity.framework.to_string(), task)
    }
}

/// The first thing that keeps a framework from an offer: everywhere, or on the only agent.
fn cause(cluster: &Cluster, framework: &str, more: &[&str]) -> Option<(String, String)> {
    let args = [&["explain", "framework", framework, "--output", "json"], more].concat();
    let explanation = cluster.holm(&args).expect(0).object();
    let waiting = &explanation["waiting"][0];
    let everywhere = &waiting["everywhere"];
    let cause = if everywhere.is_null() { &waiting["classes"][0]["reasons"][0]["cause"] } else { everywhere };
    Some((cause["kind"].as_str()?.to_owned(), cause["text"].as_str()?.to_owned()))
}

#[track_caller]
fn wait_for_cause(cluster: &Cluster, framework: &str, more: &[&str], kind: &str, part: &str) {
    let mut last = None;
    wait_for(&format!("{framework} {more:?} waits for {kind}"), || {
        last = cause(cluster, framework, more);
        last.as_ref().is_some_and(|(found, text)| found == kind && text.contains(part)).then_some(())
    });
}

#[test]
fn explain_names_the_cause_in_a_dozen_situations() {
    let mut cluster = Cluster::bare();
    cluster.add_agent_with("cpus:2;mem:1GiB", &["--attributes", "rack:a"]);
    cluster.wait_for_agents(1);
    let stage = Stage::new(&cluster);
    let (decliner, _) = stage.enter("decliner", Manner::Decline, false, None);
    wait_for_cause(&cluster, &decliner, &[], "filter", "a revive ends it");
    wait_for_cause(&cluster, &decliner, &["--need", "cpus:64"], "too_small", "cpus: 64 asked, 2 there, 62 short");

    let (holder, task) = stage.enter("holder", Manner::Hold, false, None);
    wait_for_cause(&cluster, &holder, &["--need", "cpus:1"], "own_offer", "has not answered");
    wait_for_cause(&cluster, &decliner, &["--need", "cpus:1"], "other_offer", &format!("{holder} in role holder"));

    let options = |text: &str| {
        let constraints = Constraints::new([text.parse().unwrap()]).unwrap();
        RoleOptions { constraints, ..RoleOptions::default() }
    };
    let (choosy, _) = stage.enter("choosy", Manner::Hold, false, Some(options("rack=b")));
    wait_for_cause(&cluster, &choosy, &[], "constraint", "rack=b does not hold");
    let (silent, _) = stage.enter("silent", Manner::Hold, true, None);
    wait_for_cause(&cluster, &silent, &[], "suppressed", "suppressed offers");
    let by_demand = RoleOptions { by_demand: true, ..RoleOptions::default() };
    let (idle, _) = stage.enter("idle", Manner::Hold, false, Some(by_demand));
    wait_for_cause(&cluster, &idle, &[], "no_demand", "by demand only");

    cluster.holm(&["quota", "set", "decliner", "--limit", "cpus:0"]).expect(0);
    wait_for_cause(&cluster, &decliner, &[], "quota", "role decliner is at its limit: cpus: 0 of 0");
    cluster.holm(&["quota", "rm", "decliner"]).expect(0);

    // A framework that vanishes keeps its place until its failover timeout.
    task.abort();
    wait_for_cause(&cluster, &holder, &[], "disconnected", "not connected");
    let module = p1("sleep");
    let _run = cluster.start("run", &["run", "--name", "nap", "--cpus", "2", module, "--", "600000"]);
    cluster.wait_for_task("nap", "RUNNING");
    wait_for_cause(&cluster, &decliner, &["--need", "cpus:1"], "in_use", "cpus: 1 asked, 0 there, 1 short");
    cluster.agents[0].kill();
    wait_for_cause(&cluster, &decliner, &[], "agent_away", "disconnected");

    let text = cluster.holm(&["explain", "role", "decliner"]).expect(0).stdout;
    assert!(text.contains("  1 agent\n") && text.contains("the agent is disconnected"), "{text}");
    let unknown = cluster.holm(&["explain", "role", "nobody"]).expect(1);
    assert!(unknown.stderr.contains("role nobody has no frameworks"), "{unknown:?}");
    stage.runtime.shutdown_background();
}

#[test]
fn a_limit_holds_and_holds_again_after_a_restart_of_the_master() {
    let mut cluster = Cluster::new("cpus:6;mem:6GiB");
    cluster.holm(&["quota", "set", "eng", "--limit", "cpus:2"]).expect(0);
    let stage = Stage::new(&cluster);
    let module = stage.runtime.block_on(async {
        let client = Client::connect(&stage.masters, None).await.unwrap();
        client.push(std::fs::read(p1("sleep")).unwrap()).await.unwrap().digest
    });
    let resources = "cpus:1;mem:64MiB".parse().unwrap();
    let spec = TaskSpec { module, args: vec!["600000".into()], resources, ..TaskSpec::default() };
    let (greedy, _) = stage.enter("eng/batch", Manner::Launch(spec.into()), false, None);
    let holds = |cluster: &Cluster| {
        wait_for("two tasks run", || {
            let running = cluster.list(&["ps", "--state", "RUNNING"]).len();
            assert!(running <= 2, "{running} tasks run");
            (running == 2).then_some(())
        });
        wait_for_cause(cluster, &greedy, &["--need", "cpus:1"], "quota", "role eng is at its limit: cpus: 2 of 2");
        wait_for("the tree shows it", || role_row(cluster, "eng").filter(|eng| eng["used"]["cpus"] == 2));
    };
    holds(&cluster);
    cluster.master.kill();
    cluster.restart_master();
    cluster.wait_for_agents(1);
    holds(&cluster);
    cluster.holm(&["quota", "rm", "eng"]).expect(0);
    wait_for("the rest runs, too", || (cluster.list(&["ps", "--state", "RUNNING"]).len() == 6).then_some(()));
    stage.runtime.shutdown_background();
}
