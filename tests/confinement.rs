//! Who breaks out of Wasm is in a runner, and a runner reaches nothing of the host; which tasks share one is the operator's
//! to say.
//!
//! The probe of these tests takes the very confinement of a runner that an agent has started (the plan on its command line)
//! and tries what an intruder would.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::harness::{Cluster, Dir, Process, p1, wait_for};

const SHAPE: &str = "cpus:4;mem:2GiB;disk:1GiB";
/// The signal of a process that made a forbidden system call.
const SIGSYS: i32 = 31;

/// A cluster with one agent that has these options.
fn cluster(options: &[&str]) -> Cluster {
    let mut cluster = Cluster::bare();
    cluster.add_agent_with(SHAPE, options);
    cluster.wait_for_agents(1);
    cluster
}

/// Whether the agent's runners have a layer; tests of layers that this host lacks say so and end.
fn has(cluster: &Cluster, layer: &str) -> bool {
    let agents = cluster.agents_json();
    let layers = agents[0]["confinement"].as_array().unwrap();
    let found = layers.iter().find(|found| found["name"] == layer).unwrap();
    let active = found["active"].as_bool().unwrap();
    if !active {
        eprintln!("skipped: this host has no layer {layer}: {}", found["detail"]);
    }
    active
}

/// Starts a task that sleeps, as a framework of its own.
fn sleeper(cluster: &Cluster, name: &str) -> Process {
    let run =
        cluster.start(name, &["run", p1("sleep"), "--name", name, "--cpus", "0.1", "--disk", "1MiB", "--", "600000"]);
    cluster.wait_for_task(name, "RUNNING");
    run
}

struct Runner {
    pid: i32,
    dir: PathBuf,
    plan: String,
}

/// The agent's runners, oldest first.
fn runners(cluster: &Cluster) -> Vec<Runner> {
    let mut pids = cluster.runners(0);
    pids.sort_unstable();
    let args = |pid: i32| -> Vec<String> {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap();
        line.split(|byte| *byte == 0).map(|arg| String::from_utf8_lossy(arg).into_owned()).collect()
    };
    let runner = |pid| {
        let args = args(pid);
        let after = |option: &str| args[args.iter().position(|arg| arg == option).unwrap() + 1].clone();
        Runner { pid, dir: after("--dir").into(), plan: after("--confine") }
    };
    pids.into_iter().map(runner).collect()
}

/// How an attempt under a plan went: what the probe said, or the signal that ended it.
#[derive(Debug, PartialEq, Eq)]
enum Went {
    Well,
    Badly,
    Signal(i32),
}

fn probe(dir: &Dir, plan: &str, attempt: &str) -> (Went, String) {
    let output = dir.command(&["runner-probe", "--confine", plan, attempt]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let went = match (output.status.signal(), output.status.code()) {
        (Some(signal), _) => Went::Signal(signal),
        (None, Some(0)) if said.starts_with("succeeded") => Went::Well,
        (None, Some(0)) if said.starts_with("failed") => Went::Badly,
        _ => panic!("{attempt}: {:?} {said}", output.status),
    };
    (went, said)
}

#[track_caller]
fn assert_went(dir: &Dir, plan: &str, expected: &Went, attempts: &[String]) {
    for attempt in attempts {
        let (went, said) = probe(dir, plan, attempt);
        assert_eq!(went, *expected, "{attempt}: {said}");
    }
}

fn texts<const N: usize>(attempts: [&str; N]) -> Vec<String> {
    attempts.map(str::to_owned).to_vec()
}

/// The value of a field of `/proc/PID/status` of a thread.
fn status(thread: &Path, field: &str) -> String {
    let text = fs::read_to_string(thread.join("status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).unwrap_or_default();
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn every_thread_of_a_runner_is_nobody_without_any_right() {
    let cluster = cluster(&[]);
    let _task = sleeper(&cluster, "one");
    let _other = sleeper(&cluster, "two");
    let runners = runners(&cluster);
    let mut users = BTreeSet::new();
    for runner in &runners {
        for thread in fs::read_dir(format!("/proc/{}/task", runner.pid)).unwrap() {
            let thread = thread.unwrap().path();
            assert_eq!(status(&thread, "NoNewPrivs"), "1");
            for set in ["CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb"] {
                assert_eq!(u64::from_str_radix(&status(&thread, set), 16), Ok(0), "{set}");
            }
            if has(&cluster, "seccomp") {
                assert_eq!(status(&thread, "Seccomp"), "2");
            }
            if has(&cluster, "user") {
                assert_eq!(status(&thread, "Groups"), "");
                users.insert((status(&thread, "Uid"), runner.pid));
            }
        }
        if has(&cluster, "cgroup") {
            let groups = fs::read_to_string(format!("/proc/{}/cgroup", runner.pid)).unwrap();
            assert!(groups.contains("/holm-") && groups.contains("/runner-"), "{groups}");
        }
        let limits = fs::read_to_string(format!("/proc/{}/limits", runner.pid)).unwrap();
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        assert!(core.split_whitespace().nth(4) == Some("0"), "{core}");
    }
    assert_eq!(runners.len(), 2);
    if has(&cluster, "user") {
        // One user for all threads of a runner, another for each runner, none of them root.
        assert_eq!(users.len(), 2, "{users:?}");
        assert!(!users.iter().any(|(user, _)| user.starts_with("0 ")), "{users:?}");
    }
}

#[test]
fn who_takes_over_a_runner_reaches_its_own_sandboxes_and_nothing_else() {
    let cluster = cluster(&[]);
    let _task = sleeper(&cluster, "one");
    let _other = sleeper(&cluster, "two");
    if !has(&cluster, "landlock") || !has(&cluster, "seccomp") {
        return;
    }
    let agent = cluster.dir.path().join("agent-0");
    let [own, other] = &runners(&cluster)[..] else { panic!("two frameworks have two runners") };
    let path = |path: &Path| path.display().to_string();
    let tenant = |runner: &Runner| path(&agent.join("works").join(runner.dir.parent().unwrap().file_name().unwrap()));
    let native = fs::read_dir(agent.join("native")).unwrap().next().unwrap().unwrap().path();
    let work = fs::read_dir(tenant(own)).unwrap().next().unwrap().unwrap().path();
    // What it needs, so that the rest means something.
    let allowed = [
        format!("list:{}", tenant(own)),
        format!("write:{}/scratch/new", path(&work)),
        format!("write:{}/log/new", path(&own.dir)),
        format!("read:{}", path(&native)),
        format!("write:{}/new", path(&cluster.dir.path().join("shared"))),
    ];
    assert_went(&cluster.dir, &own.plan, &Went::Well, &allowed);
    let checkpoint = fs::read_dir(agent.join("checkpoint")).unwrap().next().unwrap().unwrap().path();
    let refused = [
        "read:/etc/shadow".to_owned(),
        "read:/etc/passwd".to_owned(),
        "read:/proc/1/environ".to_owned(),
        "list:/".to_owned(),
        "list:/proc".to_owned(),
        "write:/tmp/holm-was-here".to_owned(),
        format!("read:{}", path(&checkpoint)),
        format!("list:{}", path(&agent)),
        format!("list:{}", path(&agent.join("blobs"))),
        format!("list:{}", path(native.parent().unwrap())),
        format!("write:{}", path(&native)),
        format!("remove:{}", path(&native)),
        format!("write:{}/x", path(&work)),
        format!("list:{}", tenant(other)),
        format!("write:{}/x", path(&other.dir)),
        format!("list:{}", path(&other.dir.join("log"))),
        format!("unix:{}", path(&other.dir.join("socket"))),
        format!("unix:{}", path(&own.dir.join("socket"))),
        format!("write:{}", path(&own.dir.join("process"))),
        format!("tcp:{}", cluster.address),
        "listen:127.0.0.1:0".to_owned(),
        format!("signal:{}", other.pid),
        "signal:1".to_owned(),
    ];
    assert_went(&cluster.dir, &own.plan, &Went::Badly, &refused);
    let deadly = [
        "exec:/bin/true".to_owned(),
        "spawn:/bin/true".to_owned(),
        format!("ptrace:{}", other.pid),
        "setuid".to_owned(),
        "mount".to_owned(),
        "memory".to_owned(),
    ];
    assert_went(&cluster.dir, &own.plan, &Went::Signal(SIGSYS), &deadly);
    assert!(!Path::new("/tmp/holm-was-here").exists());
}

#[test]
fn a_compile_worker_keeps_what_it_has_open_and_gets_nothing_more() {
    let cluster = cluster(&[]);
    let _task = sleeper(&cluster, "one");
    if !has(&cluster, "landlock") || !has(&cluster, "seccomp") {
        return;
    }
    // The same layers, for the other purpose: a worker itself is gone before it can be looked at.
    let mut plan: Value = serde_json::from_str(&runners(&cluster)[0].plan).unwrap();
    plan["purpose"] = "compile".into();
    for list in ["read", "read_known", "write"] {
        plan[list] = Value::Array(Vec::new());
    }
    let refused = texts(["read:/etc/passwd", "list:/", "write:/tmp/holm-was-here", "listen:127.0.0.1:0", "signal:1"]);
    assert_went(&cluster.dir, &plan.to_string(), &Went::Badly, &refused);
    assert_went(&cluster.dir, &plan.to_string(), &Went::Signal(SIGSYS), &texts(["exec:/bin/true", "mount"]));
}

#[test]
fn without_the_layers_the_probe_gets_out() {
    let all = "user,no-new-privs,capabilities,rlimits,landlock,seccomp,cgroup";
    let cluster = cluster(&["--without-confinement", all]);
    let _task = sleeper(&cluster, "one");
    let plan = runners(&cluster).remove(0).plan;
    let agent = cluster.dir.path().join("agent-0").display().to_string();
    let attempts = ["read:/etc/passwd", "list:/", "spawn:/bin/true", "listen:127.0.0.1:0", &format!("list:{agent}")];
    assert_went(&cluster.dir, &plan, &Went::Well, &texts(attempts));
    assert_went(&cluster.dir, &plan, &Went::Well, &[format!("tcp:{}", cluster.address)]);
}

#[test]
fn each_layer_holds_where_another_is_missing() {
    for (without, attempts, expected) in [
        ("landlock", texts(["read:/etc/shadow", "tcp:127.0.0.1:1", "signal:1"]), Went::Badly),
        ("user", texts(["read:/etc/shadow", "list:/", "signal:1"]), Went::Badly),
        ("seccomp", texts(["read:/etc/passwd", "exec:/bin/true", "setuid", "mount", "signal:1"]), Went::Badly),
    ] {
        let cluster = cluster(&["--without-confinement", without]);
        let _task = sleeper(&cluster, "one");
        let left = ["user", "landlock", "seccomp"].into_iter().filter(|layer| *layer != without);
        if left.into_iter().all(|layer| has(&cluster, layer)) {
            let plan = runners(&cluster).remove(0).plan;
            assert_went(&cluster.dir, &plan, &expected, &attempts);
        }
    }
}

#[test]
fn an_agent_refuses_to_start_without_a_layer_that_is_required() {
    let dir = Dir::new();
    let agent = dir.path().join("agent").display().to_string();
    let base = ["agent", "--master", "127.0.0.1:1", "--dir", &agent, "--runner-users", "same"];
    let answer = dir.run(&[&base[..], &["--require-confinement", "user,no-new-privs"]].concat()).expect(1);
    assert!(answer.stderr.contains("required: user ("), "{}", answer.stderr);
    assert!(!answer.stderr.contains("no-new-privs ("), "{}", answer.stderr);
    let checked = dir.run(&[&base[..], &["--check"]].concat()).expect(0);
    let line = checked.stdout.lines().find(|line| line.starts_with("user ")).unwrap();
    assert!(line.contains("MISSING"), "{}", checked.stdout);
    dir.run(&[&base[..], &["--require-confinement", "fortress"]].concat()).expect(1);
}

#[test]
fn what_is_active_shows_in_the_list_of_agents() {
    let cluster = cluster(&["--without-confinement", "rlimits", "--isolation", "task"]);
    let agents = cluster.agents_json();
    assert_eq!(agents[0]["isolation"], "task");
    let layers = agents[0]["confinement"].as_array().unwrap();
    let rlimits = layers.iter().find(|layer| layer["name"] == "rlimits").unwrap();
    assert_eq!((&rlimits["active"], &rlimits["detail"]), (&false.into(), &"left out by --without-confinement".into()));
    let text = cluster.holm(&["agents"]).expect(0).stdout;
    assert!(text.contains("rlimits"), "{text}");
}

#[test]
fn isolation_decides_which_tasks_share_a_process() {
    for (mode, expected) in [("task", 3), ("framework", 2), ("agent", 1)] {
        let cluster = cluster(&["--isolation", mode]);
        // Two tasks of one framework and one of another; each `run` is a framework.
        let _pair = cluster
            .start("pair", &["run", p1("sleep"), "--name", "pair", "--count", "2", "--cpus", "0.1", "--", "600000"]);
        cluster.wait_for_task("pair/1", "RUNNING");
        let _single = sleeper(&cluster, "single");
        let runners = runners(&cluster);
        // An array is one launch unless its tasks come to it in several.
        assert!((expected - 1..=expected).contains(&runners.len()), "{mode}: {}", runners.len());
        assert_eq!(runners.len() == 1, mode == "agent", "{mode}");
        assert!(runners[0].dir.to_string_lossy().contains(if mode == "agent" { "/shared/" } else { "/framework-" }));
        // Logs and sandboxes are found wherever they are.
        cluster.holm(&["logs", "single"]).expect(0);
        cluster.holm(&["ls", "single:"]).expect(0);
    }
}

#[test]
fn a_full_runner_is_joined_by_another_and_nothing_fails() {
    let cluster = cluster(&["--max-tasks", "2", "--isolation", "agent"]);
    let _runs: Vec<_> = (0..5).map(|number| sleeper(&cluster, &format!("task-{number}"))).collect();
    assert_eq!(runners(&cluster).len(), 3);
    // An array that no runner holds at once has one for itself, and runs there a part at a time.
    let array = ["run", p1("hello"), "--count", "9", "--cpus", "0.1", "--output", "json"];
    let ends = cluster.holm(&array).expect(0).objects();
    assert!(ends.iter().all(|end| end["state"] == "FINISHED"), "{ends:?}");
}

#[test]
fn what_finds_no_runner_waits_says_why_and_runs_when_there_is_one() {
    let cluster = cluster(&["--max-runners", "1"]);
    let mut first = sleeper(&cluster, "first");
    let mut second = cluster.start("second", &["run", p1("hello"), "--name", "second", "--cpus", "0.1"]);
    let waits = wait_for("the second task says why it waits", || {
        let tasks = cluster.list(&["ps", "--all", "second"]);
        let task = tasks.into_iter().find(|task| task["state"] == "STAGING")?;
        task["message"].as_str().filter(|message| message.contains("waits for a runner")).map(str::to_owned)
    });
    assert!(waits.contains("all 1 runners"), "{waits}");
    cluster.holm(&["kill", "first"]).expect(0);
    first.wait();
    assert!(second.wait().success(), "{}", second.said());
}
