//! `holm framework`: scheduler components.

use rustix::process::Signal;

use crate::harness::{Cluster, p1, p2, wait_for};

const SCHEDULER: &str = holm_test_programs::TILES_SCHEDULER.path;

#[test]
fn a_scheduler_component_does_its_work_and_reports() {
    let cluster = Cluster::with_agents(&["cpus:1;mem:512MiB", "cpus:1;mem:512MiB"]);
    let config =
        cluster.dir.file("tiles.conf", "width=64\nheight=64\ntile=16\niterations=50\nresources=cpus:0.2;mem:16MiB");
    let module = format!("module={}", p1("render-tile"));
    let args = ["framework", "run", SCHEDULER, "--role", "render", "--config", &config, "--blob", &module];
    let answer = cluster.holm(&args).expect(0);
    assert!(answer.stdout.lines().any(|line| line == "tiles=16"), "{answer:?}");
    assert!(cluster.list(&["frameworks"]).is_empty());
    let done = cluster.list(&["frameworks", "--all"]);
    assert_eq!(done[0]["roles"], serde_json::json!(["render"]));
    assert_eq!(done[0]["tasks"]["finished"], 16);
}

#[test]
fn an_interrupted_framework_is_torn_down_with_its_tasks() {
    let cluster = Cluster::new("cpus:1;mem:512MiB");
    let config = cluster.dir.file("tiles.conf", "width=64\nheight=64\ntile=16\nresources=cpus:0.2;mem:16MiB");
    let module = format!("module={}", p1("spin"));
    let args = ["framework", "run", SCHEDULER, "--config", &config, "--blob", &module];
    let mut framework = cluster.start("framework", &args);
    wait_for("tiles are rendered", || (!cluster.list(&["ps", "--state", "running"]).is_empty()).then_some(()));
    framework.signal(Signal::INT);
    assert!(framework.wait().success(), "{}", framework.said());
    wait_for("no task is left", || cluster.list(&["ps"]).is_empty().then_some(()));
    assert!(cluster.list(&["frameworks"]).is_empty());
}

#[test]
fn what_is_no_scheduler_is_refused_with_the_reason() {
    let cluster = Cluster::new("cpus:1;mem:512MiB");
    let text = cluster.dir.file("text.wasm", "hello");
    let wrong = cluster.dir.file("wrong.conf", "no-such-key=1");
    for (args, expected) in [
        (vec![p2("hello")], "holm:framework/scheduler"),
        (vec![p1("hello")], "core module"),
        (vec![text.as_str()], "not WebAssembly"),
        (vec![SCHEDULER], "module"),
        (vec![SCHEDULER, "--config", &wrong], "module"),
        (vec![SCHEDULER, "--config", "/no/such/file"], "/no/such/file"),
    ] {
        let args: Vec<_> = ["framework", "run"].into_iter().chain(args).collect();
        let answer = cluster.holm(&args).expect(1);
        assert!(answer.stderr.contains(expected), "{args:?}: {answer:?}");
    }
}
