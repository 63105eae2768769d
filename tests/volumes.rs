//! Reservations and volumes through real processes: what is kept for whom, and what outlives what.

use serde_json::Value;

use crate::harness::{Cluster, p1, p2, wait_for};

fn portions(cluster: &Cluster) -> String {
    cluster.agents_json()[0]["portions"].as_str().unwrap().to_owned()
}

fn agent_id(cluster: &Cluster) -> String {
    cluster.agents_json()[0]["agent_id"].as_str().unwrap().to_owned()
}

/// The directories of volumes of an agent.
fn directories(cluster: &Cluster) -> usize {
    std::fs::read_dir(cluster.dir.path().join("agent-0/volumes")).map_or(0, Iterator::count)
}

#[test]
fn a_volume_outlives_tasks_agent_and_master_and_goes_when_it_is_destroyed() {
    let mut cluster = Cluster::new("cpus:2;mem:1GiB;disk:1GiB");
    let agent = agent_id(&cluster);
    cluster.holm(&["reserve", &agent, "--role", "eng", "cpus:1;disk:64MiB"]).expect(0);
    cluster.holm(&["volume", "create", &agent, "data", "1MiB", "--role", "eng"]).expect(0);
    assert_eq!(portions(&cluster), "cpus:1;mem:1GiB;disk:960MiB;cpus(eng):1;disk(eng):63MiB;disk(eng)#data:1MiB");
    let write = ["run", p1("write-file"), "--role", "eng", "--volume", "data:/db", "--", "db/result.txt", "forty-two"];
    cluster.holm(&write).expect(0);
    cluster.agents[0].kill();
    cluster.master.kill();
    cluster.restart_master();
    cluster.restart_agent(0);
    cluster.wait_for_agents(1);
    assert_eq!(cluster.list(&["volume", "ls"])[0]["volume"], "data");
    // Another framework, in a role below, another runner.
    let read = ["run", p2("read-file"), "--role", "eng/reports", "--volume", "data:/db:ro", "--", "db/result.txt"];
    assert!(cluster.holm(&read).expect(0).stdout.contains("forty-two"));
    let elsewhere = cluster.start("other", &["run", p1("hello"), "--role", "ops", "--volume", "data:/db"]);
    wait_for("it is said what the task waits for", || elsewhere.said().contains("volume data").then_some(()));
    cluster.holm(&["volume", "destroy", &agent, "data", "--role", "eng"]).expect(0);
    wait_for("the directory is gone", || (directories(&cluster) == 0).then_some(()));
}

#[test]
fn a_volume_has_a_limit_of_its_own_and_is_not_destroyed_under_a_task() {
    let cluster = Cluster::new("cpus:2;mem:1GiB;disk(eng):64MiB");
    let agent = agent_id(&cluster);
    let create = ["volume", "create", &agent, "data", "64KiB", "--role", "eng", "--static"];
    cluster.holm(&create).expect(0);
    let big = ["run", p1("write-file"), "--role", "eng", "--volume", "data:/db", "--output", "json", "--", "db/big"];
    let text = "x".repeat(100_000);
    let answer = cluster.holm(&[&big[..], &[&text]].concat());
    assert_ne!(answer.code, 0, "{answer:?}");
    let sleep = ["run", p1("sleep"), "--name", "napper", "--role", "eng", "--volume", "data:/db", "--", "600000"];
    let _napper = cluster.start("napper", &sleep);
    cluster.wait_for_task("napper", "RUNNING");
    let refused = cluster.holm(&["volume", "destroy", &agent, "data", "--role", "eng"]).expect(1);
    assert!(refused.stderr.contains("in use"), "{refused:?}");
    let refused = cluster.holm(&["reserve", &agent, "--role", "eng", "cpus:9"]).expect(1);
    assert!(refused.stderr.contains("9 asked") && refused.stderr.contains("available"), "{refused:?}");
    cluster.holm(&["kill", "napper"]).expect(0);
    cluster.wait_for_task("napper", "KILLED");
    let destroyed = cluster.holm(&["volume", "destroy", &agent, "data", "--role", "eng", "--output", "json"]).expect(0);
    assert_eq!(serde_json::from_str::<Value>(&destroyed.stdout).unwrap()["operation"], "destroy volume");
}
