//! `holm logs`, `holm ls`, `holm cp`: what tasks wrote, while they run and afterwards.

use serde_json::Value;

use crate::harness::{Cluster, p1, wait_for};

#[test]
fn logs_are_followed_while_a_task_runs_and_kept_when_it_has_ended() {
    let cluster = Cluster::new("cpus:1;mem:1GiB");
    cluster.holm(&["run", p1("lines"), "--name", "talker", "--detach", "--", "20", "50"]).expect(0);
    let followed = cluster.holm(&["logs", "-f", "talker"]).expect(0);
    let expected: String = (1..=20).map(|line| format!("line {line} of 20\n")).collect();
    assert_eq!(followed.stdout, expected);
    cluster.wait_for_task("talker", "FINISHED");
    assert_eq!(cluster.holm(&["logs", "talker"]).expect(0).stdout, expected);
    let records = cluster.holm(&["logs", "talker", "--output", "json"]).expect(0).objects();
    let data: String = records.iter().map(|record| record["data"].as_str().unwrap()).collect();
    assert_eq!(data, expected);
    assert_eq!(records.last().unwrap()["stream"], "end");
}

#[test]
fn stderr_is_kept_apart_and_arrays_are_prefixed() {
    let cluster = Cluster::new("cpus:1;mem:1GiB");
    let answer = cluster.holm(&["run", p1("stderr-flood"), "--", "6400"]).expect(0);
    assert_eq!((answer.stdout.len(), answer.stderr.len()), (0, 6400));
    cluster.holm(&["run", p1("hello"), "--name", "three", "--count", "3", "--detach"]).expect(0);
    cluster.wait_for_task("three/2", "FINISHED");
    let logs = cluster.holm(&["logs", "three"]).expect(0);
    let mut lines: Vec<_> = logs.stdout.lines().collect();
    lines.sort_unstable();
    let expected: Vec<_> = (0..3).map(|index| format!("three/{index} | hello from three/{index}")).collect();
    assert_eq!(lines, expected);
    assert_eq!(cluster.holm(&["logs", "three/1"]).expect(0).stdout, "hello from three/1\n");
}

#[test]
fn output_beyond_the_limit_is_dropped_and_that_is_said() {
    let cluster = Cluster::new("cpus:1;mem:1GiB");
    let answer = cluster.holm(&["run", p1("stdout-flood"), "--", &(20 << 20).to_string()]).expect(0);
    assert_eq!(answer.stdout.len(), 16 << 20);
    assert!(answer.stderr.contains("4.0 MiB of output were not kept"), "{}", answer.stderr);
    let more = ["run", p1("stdout-flood"), "--output-limit", "32MiB", "--", &(20 << 20).to_string()];
    let answer = cluster.holm(&more).expect(0);
    assert_eq!((answer.stdout.len(), answer.stderr.as_str()), (20 << 20, ""));
}

#[test]
fn files_of_a_sandbox_are_listed_and_copied() {
    let cluster = Cluster::new("cpus:1;mem:1GiB;disk:1GiB");
    let args =
        ["run", p1("write-file"), "--name", "writer", "--disk", "16MiB", "--detach", "--", "result.txt", "forty-two"];
    cluster.holm(&args).expect(0);
    cluster.wait_for_task("writer", "FINISHED");
    let listed: Value = serde_json::from_str(&cluster.holm(&["ls", "writer:", "-o", "json"]).expect(0).stdout).unwrap();
    assert_eq!(listed, serde_json::json!([{"name": "result.txt", "size": 9, "directory": false}]));
    let copy = cluster.dir.path().join("copy.txt");
    cluster.holm(&["cp", "writer:result.txt", &copy.display().to_string()]).expect(0);
    assert_eq!(std::fs::read(&copy).unwrap(), b"forty-two");
    assert_eq!(cluster.holm(&["cp", "writer:result.txt", "-"]).expect(0).stdout, "forty-two");
    for (from, named) in
        [("writer:missing", "missing"), ("writer:../../lock", ".."), ("nobody:x", "nobody"), ("writer:", "TASK:PATH")]
    {
        let refused = cluster.holm(&["cp", from, "-"]).expect(1);
        assert!(refused.stderr.contains(named), "{from}: {refused:?}");
    }
}

#[test]
fn a_name_that_two_frameworks_use_has_to_be_told_apart() {
    let cluster = Cluster::new("cpus:1;mem:1GiB");
    for _ in 0..2 {
        cluster.holm(&["run", p1("sleep"), "--name", "twin", "--detach", "--", "60000"]).expect(0);
    }
    let tasks = wait_for("both run", || {
        let tasks = cluster.list(&["ps", "twin"]);
        (tasks.len() == 2 && tasks.iter().all(|task| task["state"] == "RUNNING")).then_some(tasks)
    });
    let refused = cluster.holm(&["kill", "twin"]).expect(1);
    let first = tasks[0]["framework_id"].as_str().unwrap();
    assert!(refused.stderr.contains(first) && refused.stderr.contains("--framework"), "{refused:?}");
    cluster.holm(&["kill", "twin", "--framework", first]).expect(0);
    wait_for("one is left", || (cluster.list(&["ps"]).len() == 1).then_some(()));
}
