//! Compilation in a process of its own, and guests that are interpreted.

use std::fmt::Write as _;

use crate::harness::{Cluster, p1, p2, wait_for};

/// A module that takes the compiler long: one function whose locals meet in very many branches. The salt makes it another one.
fn slow(salt: u32) -> Vec<u8> {
    const LOCALS: u32 = 10_000;
    let mut text = String::from("(module (func (export \"_start\") (local");
    text.push_str(&" i32".repeat(LOCALS as usize));
    let _ = write!(text, ") (drop (i32.const {salt})) (loop");
    for at in 0..60_000 {
        let local = at % LOCALS;
        let _ = write!(
            text,
            "(block (br_if 0 (local.get {local}))(local.set {local} (i32.add (local.get {local}) (i32.const 1))))"
        );
    }
    text.push_str("(br_if 0 (local.get 0)))))");
    wat::parse_str(text).unwrap()
}

#[test]
fn modules_that_take_the_compiler_too_long_end_with_the_limit_while_others_launch() {
    let mut cluster = Cluster::bare();
    cluster.add_agent_with("cpus:8;mem:4GiB", &["--compile-cpu", "5s"]);
    cluster.wait_for_agents(1);
    let runs: Vec<_> = (0..3)
        .map(|salt| {
            let module = cluster.dir.file(&format!("slow-{salt}.wasm"), slow(salt));
            cluster.start(&format!("slow-{salt}"), &["run", &module, "--cpus", "0.1", "--mem", "16MiB"])
        })
        .collect();
    // Both workers are never taken by slow modules of one framework; here each is a framework of its own, so that some
    // wait, and say for what.
    wait_for("a task says what it waits for", || {
        let tasks = cluster.list(&["ps", "--all"]);
        tasks.iter().find(|task| {
            let message = task["message"].as_str().unwrap_or_default();
            task["state"] == "STAGING" && message.contains("compile")
        })?;
        Some(())
    });
    cluster.holm(&["run", p1("hello"), "--cpus", "0.1", "--mem", "16MiB"]).expect(0);
    for mut run in runs {
        assert_eq!(run.wait().code(), Some(1), "{}", run.said());
        let said = run.said();
        assert!(said.contains("COMPILE") && said.contains("the limit is 5 s (limit compile-cpu)"), "{said}");
    }
    // It is remembered: this time nothing is compiled.
    let module = cluster.dir.file("slow-0.wasm", slow(0));
    let again = cluster.holm(&["run", &module, "--cpus", "0.1", "--mem", "16MiB"]).expect(1);
    assert!(again.stderr.contains("limit compile-cpu"), "{again:?}");
}

#[test]
fn agents_say_how_guests_run_and_the_interpreter_counts_the_same_fuel() {
    let mut cluster = Cluster::with_agents(&["cpus:1;mem:1GiB"]);
    let attribute = |cluster: &Cluster, name: &str| {
        let agents = cluster.agents_json();
        agents.iter().map(|agent| agent["attributes"][name].as_str().unwrap_or("").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(attribute(&cluster, "engine"), ["native"]);
    assert!(attribute(&cluster, "wasmtime")[0].starts_with("48.0."));
    for name in ["arch", "os", "cpu_features"] {
        assert!(!attribute(&cluster, name)[0].is_empty(), "{name}");
    }
    let outcome = |cluster: &Cluster, module: &str| {
        let answer = cluster.holm(&["run", module, "--seed", "7", "--output", "json", "--", "20000"]).expect(0);
        let fuel = answer.stdout.lines().rev().find_map(|line| {
            let object: serde_json::Value = serde_json::from_str(line).ok()?;
            object["fuel"].as_u64()
        });
        (fuel.unwrap_or_else(|| panic!("no fuel in {answer:?}")), answer.stderr)
    };
    let modules = [p1("count"), p2("count")];
    let native = modules.map(|module| outcome(&cluster, module).0);
    cluster.agents[0].kill();
    let mut cluster = Cluster::bare();
    cluster.add_agent_with("cpus:1;mem:1GiB", &["--engine", "pulley", "--profile", "edge"]);
    cluster.wait_for_agents(1);
    assert_eq!(attribute(&cluster, "engine"), ["pulley"]);
    assert_eq!(modules.map(|module| outcome(&cluster, module).0), native);
}
