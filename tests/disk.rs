//! What tasks may write, how long it stays, and how an agent that has too little memory of its own is left alone.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::harness::{Cluster, p1, p2, wait_for};

/// The sandboxes of an agent.
fn sandboxes(cluster: &Cluster, agent: usize) -> Vec<PathBuf> {
    let works = cluster.dir.path().join(format!("agent-{agent}")).join("works");
    let below = |path: PathBuf| std::fs::read_dir(path).into_iter().flatten().map(|entry| entry.unwrap().path());
    // Each tenant has its own.
    below(works).flat_map(below).collect()
}

#[test]
fn a_task_that_fills_its_disk_fails_with_the_limit_named_and_its_neighbours_write_on() {
    let cluster = Cluster::new("cpus:2;mem:1GiB;disk:1GiB");
    for module in [p1("file-flood"), p2("file-flood")] {
        let args = ["run", module, "--output", "json", "--disk", "256KiB", "--", "huge"];
        let answer = cluster.holm(&args);
        let end = answer.object();
        assert_ne!(answer.code, 0);
        assert_eq!((&end["state"], &end["reason"]), (&Value::from("FAILED"), &Value::from("DISK_LIMIT")), "{end}");
        assert!(end["message"].as_str().unwrap().contains("limit disk is 262144"), "{end}");
        assert_eq!(end["peak_disk_bytes"], 262_144, "{end}");
        let other = ["run", p1("write-file"), "--disk", "256KiB", "--", "result.txt", "forty-two"];
        cluster.holm(&other).expect(0);
    }
    // Input files are copied there, so they have to fit.
    let big = cluster.dir.file("big", vec![b'x'; 100_000]);
    let file = format!("{big}::big");
    let answer = cluster.holm(&["run", p1("hello"), "--output", "json", "--disk", "64KiB", "--file", &file]);
    let end = answer.object();
    assert_eq!(end["reason"], "DISK_LIMIT", "{end}");
    assert!(end["message"].as_str().unwrap().contains("102400"), "{end}");
    cluster.holm(&["run", p1("hello"), "--disk", "128KiB", "--file", &file]).expect(0);
}

#[test]
fn a_disk_under_pressure_loses_ended_sandboxes_and_keeps_those_that_run_and_recent_logs() {
    let mut cluster = Cluster::bare();
    // Every disk is that full.
    cluster.add_agent_with("cpus:2;mem:1GiB;disk:1GiB", &["--disk-pressure", "99%"]);
    cluster.wait_for_agents(1);
    let lives = ["run", p1("slow-loris"), "--name", "lives", "--disk", "64KiB", "--detach"];
    cluster.holm(&lives).expect(0);
    cluster.wait_for_task("lives", "RUNNING");
    let [kept] = sandboxes(&cluster, 0).try_into().unwrap();
    let written = ["run", p1("write-file"), "--name", "ended", "--disk", "64KiB", "--", "result.txt", "forty-two"];
    cluster.holm(&written).expect(0);
    wait_for("the ended task's directory is gone", || (sandboxes(&cluster, 0) == [kept.clone()]).then_some(()));
    assert!(has_file(&kept), "the directory of a task that runs is gone");
    assert!(cluster.holm(&["logs", "ended"]).expect(0).stdout.contains("wrote 9 bytes"));
    cluster.wait_for_task("lives", "RUNNING");
}

fn has_file(sandbox: &Path) -> bool {
    sandbox.join("scratch/0/file").is_file()
}

#[test]
fn directories_go_when_their_time_is_over_and_logs_stay() {
    let mut cluster = Cluster::bare();
    cluster.add_agent_with("cpus:1;mem:1GiB;disk:1GiB", &["--sandbox-keep", "0s"]);
    cluster.wait_for_agents(1);
    let args = ["run", p1("write-file"), "--name", "brief", "--disk", "64KiB", "--", "result.txt", "forty-two"];
    cluster.holm(&args).expect(0);
    // The agent looks now and then; started again, it looks at once.
    cluster.agents[0].signal(rustix::process::Signal::TERM);
    cluster.agents[0].wait();
    cluster.restart_agent(0);
    cluster.wait_for_agents(1);
    wait_for("the directory is gone", || sandboxes(&cluster, 0).is_empty().then_some(()));
    assert!(cluster.holm(&["logs", "brief"]).expect(0).stdout.contains("wrote 9 bytes"));
}

#[test]
fn an_agent_over_its_reserve_says_so_and_gets_nothing_until_another_one_does() {
    let mut cluster = Cluster::bare();
    cluster.add_agent_with("cpus:1;mem:1GiB", &["--reserve", "1MiB"]);
    cluster.wait_for_agents(1);
    let held = |cluster: &Cluster| cluster.agents_json().into_iter().find(|agent| agent["held_back"].is_string());
    let agent = wait_for("the agent is held back", || held(&cluster));
    let why = agent["held_back"].as_str().unwrap();
    assert!(why.contains("limit reserve is 1048576"), "{why}");
    assert!(agent["overhead_bytes"].as_u64().unwrap() > 1 << 20 && agent["reserve_bytes"] == 1 << 20, "{agent}");
    let shown = cluster.holm(&["agents"]).expect(0).stdout;
    assert!(shown.contains("HELD BACK") && shown.contains("RESERVE"), "{shown}");
    let mut waits = cluster.start("waits", &["run", p1("hello"), "--name", "waits"]);
    wait_for("the framework is there", || {
        let frameworks = cluster.list(&["frameworks"]);
        frameworks.iter().any(|framework| framework["state"] == "CONNECTED").then_some(())
    });
    assert_eq!(cluster.list(&["offers"]).len(), 0);
    assert!(waits.is_running());
    cluster.add_agent("cpus:1;mem:1GiB");
    assert!(waits.wait().success(), "{}", waits.said());
    let task = cluster.wait_for_task("waits", "FINISHED");
    assert_ne!(task["agent_id"], agent["agent_id"], "{task}");
}
