//! What a death or a standstill of each process does to tasks: as little as possible.

use std::collections::BTreeSet;

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{Cluster, Process, p1, wait_for};

/// Tasks that take a while: some lines, with pauses.
fn start_load(cluster: &Cluster, count: &str) -> Process {
    let run = cluster
        .start("load", &["run", p1("lines"), "--name", "load", "--count", count, "--output", "json", "--", "8", "100"]);
    wait_for("some tasks have ended and some run", || run.said().contains("\"FINISHED\"").then_some(()));
    run
}

/// The ends that a run has told, each as task and state.
fn ends(run: &Process) -> Vec<(String, String)> {
    let said = run.said();
    let objects = said.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    objects.map(|end| (text(&end["task_id"]), text(&end["state"]))).collect()
}

/// Every task has ended once, as finished.
fn assert_all_finished(run: &mut Process, count: usize) {
    let status = run.wait();
    assert!(status.success(), "{status}: {}", run.said());
    let ends = ends(run);
    let indices: BTreeSet<_> = ends.iter().map(|(task, _)| task.rsplit('/').next().unwrap().to_owned()).collect();
    assert_eq!((ends.len(), indices.len()), (count, count));
    assert!(ends.iter().all(|(_, state)| state == "FINISHED"), "{ends:?}");
}

#[test]
fn an_agent_that_is_killed_and_started_again_loses_and_doubles_nothing() {
    let mut cluster = Cluster::new("cpus:1;mem:2GiB");
    let mut run = start_load(&cluster, "40");
    let runners = cluster.runners(0);
    cluster.agents[0].kill();
    assert_eq!(cluster.runners(0), runners, "tasks go on without their agent");
    cluster.restart_agent(0);
    assert_all_finished(&mut run, 40);
}

#[test]
fn a_master_that_is_killed_and_started_again_is_found_by_everybody() {
    let mut cluster = Cluster::new("cpus:1;mem:2GiB");
    let mut run = start_load(&cluster, "40");
    cluster.master.kill();
    cluster.restart_master();
    assert_all_finished(&mut run, 40);
    cluster.wait_for_agents(1);
    cluster.holm(&["run", p1("hello")]).expect(0);
}

#[test]
fn master_and_agent_may_die_together() {
    let mut cluster = Cluster::new("cpus:1;mem:2GiB");
    let mut run = start_load(&cluster, "40");
    cluster.master.kill();
    cluster.agents[0].kill();
    cluster.restart_agent(0);
    cluster.restart_master();
    assert_all_finished(&mut run, 40);
}

#[test]
fn a_runner_that_dies_takes_its_own_tasks_and_nobody_elses() {
    let cluster = Cluster::new("cpus:1;mem:2GiB");
    let mut unlucky =
        cluster.start("unlucky", &["run", p1("spin"), "--name", "unlucky", "--cpus", "0.1", "--output", "json"]);
    cluster.wait_for_task("unlucky", "RUNNING");
    let victim = cluster.runners(0);
    let mut other = cluster.start("other", &["run", p1("lines"), "--name", "other", "--", "30", "100"]);
    cluster.wait_for_task("other", "RUNNING");
    assert_eq!(victim.len(), 1, "one runner per framework");
    kill_process(Pid::from_raw(victim[0]).unwrap(), Signal::KILL).unwrap();
    assert_eq!(unlucky.wait().code(), Some(1));
    let end: serde_json::Value =
        unlucky.said().lines().find_map(|line| serde_json::from_str(line).ok()).expect("the end is told");
    assert_eq!((&end["state"], &end["reason"]), (&"FAILED".into(), &"RUNNER_LOST".into()), "{end}");
    assert!(other.wait().success(), "{}", other.said());
    assert!(other.said().contains("line 30 of 30"));
    cluster.holm(&["run", p1("hello")]).expect(0);
}

#[test]
fn an_agent_that_stands_still_comes_back_with_its_tasks() {
    let cluster = Cluster::new("cpus:1;mem:2GiB");
    let mut run = start_load(&cluster, "30");
    cluster.agents[0].signal(Signal::STOP);
    wait_for("the master has noticed", || (cluster.agents_json()[0]["state"] == "DISCONNECTED").then_some(()));
    cluster.agents[0].signal(Signal::CONT);
    cluster.wait_for_agents(1);
    assert_all_finished(&mut run, 30);
}

#[test]
fn an_agent_that_stops_in_order_hands_its_tasks_to_the_next_one() {
    let mut cluster = Cluster::bare();
    let own = cluster.dir.path().join("kept").display().to_string();
    let address = cluster.address.clone();
    let args = ["agent", "--master", &address, "--dir", &own, "--resources", "cpus:1;mem:2GiB"];
    cluster.agents.push(cluster.dir.start("kept", &args));
    cluster.wait_for_agents(1);
    let mut run = start_load(&cluster, "30");
    cluster.agents[0].signal(Signal::TERM);
    assert!(cluster.agents[0].wait().success(), "{}", cluster.agents[0].said());
    let again = cluster.dir.start("kept", &args);
    cluster.agents.push(again);
    assert_all_finished(&mut run, 30);
}

#[test]
fn an_agent_that_stops_in_order_and_ends_its_tasks_says_that_they_were_killed() {
    let mut cluster = Cluster::new("cpus:1;mem:1GiB");
    let mut run = cluster.start("run", &["run", p1("sleep"), "--name", "napper", "--", "600000"]);
    cluster.wait_for_task("napper", "RUNNING");
    cluster.agents[0].signal(Signal::TERM);
    cluster.agents[0].wait();
    assert!(cluster.runners(0).is_empty(), "a runner was left behind");
    cluster.restart_agent(0);
    assert_eq!(run.wait().code(), Some(137), "{}", run.said());
}
