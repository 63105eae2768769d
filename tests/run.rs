//! `holm run`: what goes in, what comes out, and what a task is ended for.

use std::collections::BTreeSet;

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{Cluster, p1, p2, wait_for};

const FIELDS: [&str; 12] = [
    "agent_id",
    "cpu_seconds",
    "exit_code",
    "fuel",
    "message",
    "peak_disk_bytes",
    "peak_memory_bytes",
    "queued_ms",
    "reason",
    "run_ms",
    "state",
    "task_id",
];

#[test]
fn modules_and_components_end_with_their_own_exit_code_and_output() {
    let cluster = Cluster::new("cpus:2;mem:1GiB");
    for module in [p1("hello"), p2("hello")] {
        let answer = cluster.holm(&["run", module, "--name", "greeter"]).expect(0);
        // A slow machine may tell meanwhile what it waits for.
        let told: Vec<_> = answer.stderr.lines().filter(|line| !line.contains("waiting")).collect();
        assert_eq!((answer.stdout.as_str(), &told[..]), ("hello from greeter\n", &[][..]));
    }
    let answer = cluster.holm(&["run", p1("exit-code"), "--", "7"]).expect(7);
    assert_eq!(answer.stdout, "");
    let answer = cluster.holm(&["run", p1("trap"), "--", "unreachable"]).expect(1);
    assert!(answer.stderr.contains("FAILED (TRAP)") && answer.stderr.contains("unreachable"), "{answer:?}");
    assert!(cluster.list(&["frameworks"]).is_empty(), "a run leaves nothing behind");
}

#[test]
fn a_program_gets_its_arguments_environment_files_and_directories() {
    let cluster = Cluster::new("cpus:2;mem:1GiB;disk:1GiB");
    let answer = cluster.holm(&["run", p1("echo-env"), "--name", "e", "--env", "A=1=2", "--", "x", "y z"]).expect(0);
    assert_eq!(answer.stdout, "arg 0 task\narg 1 x\narg 2 y z\nenv A=1=2\nenv HOLM_TASK_ID=e\n");

    let file = cluster.dir.file("words.txt", "some words\n");
    let answer = cluster.holm(&["run", p2("cat"), "--file", &format!("{file}::/in/w.txt"), "--", "in/w.txt"]).expect(0);
    assert_eq!(answer.stdout, "some words\n");

    cluster.dir.file("shared/data/inner.txt", "inside");
    // Runners are not of this user.
    let writable = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(cluster.dir.path().join("shared/data"), writable).unwrap();
    let shared = format!("{}::data", cluster.dir.path().join("shared/data").display());
    let answer = cluster.holm(&["run", p1("read-file"), "--dir", &shared, "--", "data/inner.txt"]).expect(0);
    assert_eq!(answer.stdout, "inside");
    cluster.holm(&["run", p1("write-file"), "--dir", &shared, "--", "data/new.txt", "x"]).expect(3);
    cluster.holm(&["run", p1("write-file"), "--dir", &format!("{shared}:rw"), "--", "data/new.txt", "x"]).expect(0);
    assert_eq!(std::fs::read(cluster.dir.path().join("shared/data/new.txt")).unwrap(), b"x");

    let answer = cluster.holm(&["run", p1("list-dir"), "--dir", "/etc::data", "--", "data"]).expect(1);
    assert!(answer.stderr.contains("NOT_ALLOWED") && answer.stderr.contains("/etc"), "{answer:?}");
    std::os::unix::fs::symlink("/etc", cluster.dir.path().join("shared/data/out")).unwrap();
    cluster.holm(&["run", p1("read-file"), "--dir", &shared, "--", "data/out/hostname"]).expect(3);
}

#[test]
fn a_limit_that_ends_a_task_is_named() {
    let cluster = Cluster::new("cpus:2;mem:1GiB");
    for (args, reason, named) in [
        (vec!["run", p1("spin"), "--fuel", "1000000"], "FUEL", "1000000"),
        (vec!["run", p1("spin"), "--timeout", "200ms"], "DEADLINE", "200ms"),
        (vec!["run", p1("grow-memory"), "--mem", "16MiB", "--", "64"], "MEMORY_LIMIT", "16777216"),
        (vec!["run", p2("grow-memory"), "--mem", "16MiB", "--", "64"], "MEMORY_LIMIT", "16777216"),
        (vec!["run", p1("exit-code"), "--", "3"], "EXIT_CODE", ""),
    ] {
        let args: Vec<_> = args[..2].iter().chain(&["--output", "json"]).chain(&args[2..]).copied().collect();
        let answer = cluster.holm(&args);
        let end = answer.object();
        assert_ne!(answer.code, 0);
        assert_eq!((&end["state"], &end["reason"]), (&Value::from("FAILED"), &Value::from(reason)), "{end}");
        assert!(end["message"].as_str().unwrap().contains(named), "{end}");
        let fields: Vec<_> = end.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(fields, FIELDS);
    }
}

#[test]
fn a_seed_makes_a_run_repeat_exactly() {
    let cluster = Cluster::new("cpus:2;mem:1GiB");
    let run = |seed: &str| {
        let answer = cluster.holm(&["run", p1("random-and-time"), "--seed", seed, "--output", "json"]).expect(0);
        let output: String =
            answer.stderr.lines().filter_map(|line| line.split_once(" | ")).map(|(_, line)| line).collect();
        assert!(!output.is_empty(), "{answer:?}");
        (answer.object()["fuel"].as_u64().unwrap(), output)
    };
    let first = run("7");
    assert_eq!(first, run("7"));
    assert_ne!(first.1, run("8").1);
}

#[test]
fn an_array_runs_everywhere_and_loses_no_line() {
    let cluster = Cluster::with_agents(&["cpus:1;mem:1GiB", "cpus:1;mem:1GiB"]);
    let answer = cluster.holm(&["run", p1("hello"), "--name", "many", "--count", "300"]).expect(0);
    let names: BTreeSet<_> = answer.stdout.lines().map(|line| line.split_once(" | ").unwrap().0.to_owned()).collect();
    assert_eq!(names, (0..300).map(|index| format!("many/{index}")).collect());
    assert_eq!(answer.stdout.lines().count(), 300);
    assert!(answer.stderr.contains("300 tasks: 300 finished"), "{}", answer.stderr);
    let ended = cluster.list(&["ps", "--all"]);
    let agents: BTreeSet<_> = ended.iter().map(|task| task["agent_id"].as_str().unwrap()).collect();
    assert_eq!((ended.len(), agents.len()), (300, 2));
}

#[test]
fn ten_thousand_tasks_end_once_each() {
    let cluster = Cluster::with_agents(&["cpus:1;mem:1GiB", "cpus:1;mem:1GiB"]);
    let answer = cluster.holm(&["run", p1("hello"), "--name", "m", "--count", "10000", "--output", "json"]).expect(0);
    let mut indices: Vec<u32> = answer
        .objects()
        .iter()
        .map(|end| end["task_id"].as_str().unwrap().rsplit('/').next().unwrap().parse().unwrap())
        .collect();
    indices.sort_unstable();
    assert!(indices.iter().copied().eq(0..10_000), "{} ends", indices.len());
    let lines = answer.stderr.lines().filter(|line| line.contains(" | hello from m")).count();
    assert_eq!(lines, 10_000, "output is complete");
}

#[test]
fn a_reader_that_goes_away_ends_the_run() {
    let cluster = Cluster::new("cpus:1;mem:1GiB");
    let (reader, writer) = std::io::pipe().unwrap();
    let mut command = cluster.command(&["run", p1("lines"), "--name", "talk", "--", "100000", "5"]);
    let mut child = command.stdout(writer).stderr(std::process::Stdio::null()).spawn().unwrap();
    drop(command);
    let mut first = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(reader), &mut first).unwrap();
    assert_eq!(first, "line 1 of 100000\n");
    let status = wait_for("the run ends", || child.try_wait().unwrap());
    assert!(!status.success());
    cluster.wait_for_task("talk", "KILLED");
}

#[test]
fn an_array_with_failures_ends_with_a_table_of_them() {
    let cluster = Cluster::new("cpus:1;mem:1GiB");
    // Four tiles make this picture: the fifth and sixth task have nothing to render.
    let args = ["run", p1("render-tile"), "--name", "t", "--count", "6", "--output"];
    let program = ["--", "64", "64", "tiles", "32", "10"];
    let text: Vec<_> = args.iter().chain(&["text"]).chain(&program).copied().collect();
    let answer = cluster.holm(&text);
    assert_eq!(answer.code, 1, "{}", answer.stderr);
    assert!(answer.stderr.contains("6 tasks: 4 finished, 2 FAILED (EXIT_CODE)"), "{}", answer.stderr);
    assert!(
        answer.stderr.lines().any(|line| line.starts_with("t/5") && line.contains("EXIT_CODE")),
        "{}",
        answer.stderr
    );
    let json: Vec<_> = args.iter().chain(&["json"]).chain(&program).copied().collect();
    let ends = cluster.holm(&json).expect(1).objects();
    let failed = ends.iter().filter(|end| end["state"] == "FAILED" && end["exit_code"] == 2).count();
    assert_eq!((ends.len(), failed), (6, 2));
}

#[test]
fn what_cannot_run_is_refused_with_the_reason() {
    let cluster = Cluster::new("cpus:2;mem:1GiB");
    let hello = std::fs::read(p1("hello")).unwrap();
    let text = cluster.dir.file("text.wasm", "#!/bin/sh\necho hi\n");
    let cut = cluster.dir.file("cut.wasm", &hello[..hello.len() / 2]);
    let native = cluster.dir.file("native.wasm", b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    // A whole frame around a type section that makes no sense.
    let invalid = cluster.dir.file("invalid.wasm", b"\0asm\x01\0\0\0\x01\x02\xff\xff");
    let import = wat::parse_str(r#"(module (import "env" "launch_rocket" (func)) (func (export "_start")))"#).unwrap();
    let import = cluster.dir.file("import.wasm", import);
    let no_entry = cluster.dir.file("no-entry.wasm", wat::parse_str("(module)").unwrap());
    let bad_name = ["run", p1("hello"), "--name", "a b"];
    for (args, expected) in [
        (["run", &text, "--role", "x"], "is not WebAssembly"),
        (["run", &cut, "--role", "x"], "truncated"),
        (["run", &native, "--role", "x"], "native code"),
        (["run", &invalid, "--role", "x"], "INVALID_MODULE"),
        (["run", &import, "--role", "x"], "launch_rocket"),
        (["run", &no_entry, "--role", "x"], "_start"),
        (["run", "/no/such/file.wasm", "--role", "x"], "/no/such/file.wasm"),
        (["run", p1("hello"), "--cpus", "100"], "asks for cpus:100, and the largest agent has cpus:2"),
        (["run", p1("hello"), "--mem", "5GiB"], "asks for mem:5GiB"),
        (["run", p1("hello"), "--resources", "gpus:1"], "asks for gpus:1"),
        (["run", p1("hello"), "--cpus", "0"], "more than zero"),
        (["run", p1("hello"), "--cpus", "NaN"], "decimal"),
        (["run", p1("hello"), "--mem", "-1"], "size"),
        (["run", p1("hello"), "--count", "0"], "1 to 1000000"),
        (["run", p1("hello"), "--fuel", "0"], "fuel"),
        (["run", p1("hello"), "--fuel", "-1"], "from 1 to"),
        (["run", p1("hello"), "--name", "-x"], "begins with -"),
        (["run", p1("hello"), "--dir", ".::x:zz"], ":zz"),
        (["run", p1("hello"), "--role", "-x"], "-x"),
        (["run", p1("hello"), "--timeout", "5"], "30s"),
        (bad_name, "[A-Za-z0-9._-]"),
    ] {
        let answer = cluster.holm(&args);
        assert!(answer.code == 1 || answer.code == 2, "{args:?}: {answer:?}");
        assert!(answer.stderr.contains(expected), "{args:?}: {answer:?}");
    }
    cluster.holm(&["run", p1("hello")]).expect(0);
}

#[test]
fn a_task_that_fits_nowhere_waits_for_an_agent_when_told_to() {
    let mut cluster = Cluster::new("cpus:1;mem:1GiB");
    let mut waiting = cluster.start("waiting", &["run", p1("hello"), "--name", "big", "--cpus", "4", "--wait"]);
    wait_for("it says what it waits for", || waiting.said().contains("largest agent has cpus:1").then_some(()));
    cluster.add_agent("cpus:4;mem:1GiB");
    assert!(waiting.wait().success(), "{}", waiting.said());
    assert!(waiting.said().contains("hello from big"));
}

#[test]
fn an_interrupted_run_kills_its_tasks() {
    let cluster = Cluster::new("cpus:1;mem:1GiB");
    let mut run = cluster.start("run", &["run", p1("spin"), "--name", "endless", "--count", "3"]);
    cluster.wait_for_task("endless/2", "RUNNING");
    run.signal(Signal::INT);
    assert_eq!(run.wait().code(), Some(130), "{}", run.said());
    cluster.wait_for_task("endless/2", "KILLED");
    assert!(cluster.list(&["ps"]).is_empty());
}

#[test]
fn a_detached_task_goes_on_and_can_be_killed() {
    let cluster = Cluster::new("cpus:1;mem:1GiB");
    let answer = cluster.holm(&["run", p1("spin"), "--name", "alone", "--detach"]).expect(0);
    assert_eq!(answer.stdout, "alone\n");
    cluster.wait_for_task("alone", "RUNNING");
    cluster.holm(&["kill", "alone", "--grace", "0s"]).expect(0);
    let ended = cluster.wait_for_task("alone", "KILLED");
    assert_eq!(ended["reason"], "KILLED");
    wait_for("the framework is over with its last task", || cluster.list(&["frameworks"]).is_empty().then_some(()));
    let again = cluster.holm(&["kill", "alone"]);
    assert_eq!(again.code, 1);
    assert!(again.stderr.contains("alone"), "{again:?}");
}

#[test]
fn a_killed_task_ends_its_run_as_killed() {
    let cluster = Cluster::new("cpus:1;mem:1GiB");
    let mut run = cluster.start("run", &["run", p1("spin"), "--name", "victim"]);
    cluster.wait_for_task("victim", "RUNNING");
    cluster.holm(&["kill", "victim"]).expect(0);
    assert_eq!(run.wait().code(), Some(137), "{}", run.said());
}

#[test]
fn without_a_master_a_command_says_how_to_get_one() {
    let dir = crate::harness::Dir::new();
    // The discard port: nothing listens there.
    let answer = dir.run(&["--master", "127.0.0.1:9", "run", p1("hello")]).expect(1);
    assert!(answer.stderr.contains("127.0.0.1:9") && answer.stderr.contains("holm up"), "{answer:?}");
    let answer = dir.run(&["--master", "nonsense", "ps"]).expect(1);
    assert!(answer.stderr.contains("HOST:PORT"), "{answer:?}");
}

#[test]
fn an_array_has_one_name_however_many_launches_it_takes() {
    let cluster = Cluster::with_agents(&["cpus:1;mem:1GiB;disk:1GiB", "cpus:1;mem:1GiB;disk:1GiB"]);
    let args = ["run", p1("lines"), "--name", "arr", "--count", "30", "--disk", "1MiB", "--detach", "--", "3", "100"];
    cluster.holm(&args).expect(0);
    let followed = cluster.holm(&["logs", "-f", "arr"]).expect(0).stdout;
    let expected: BTreeSet<_> =
        (0..30).flat_map(|index| (1..4).map(move |line| format!("arr/{index} | line {line} of 3"))).collect();
    assert_eq!(followed.lines().map(str::to_owned).collect::<BTreeSet<_>>(), expected);
    assert_eq!(followed.lines().count(), 90);
    assert_eq!(cluster.holm(&["logs", "arr"]).expect(0).stdout.lines().count(), 90);

    let tasks = cluster.list(&["ps", "arr"]);
    let (names, ids): (BTreeSet<_>, BTreeSet<_>) =
        tasks.iter().map(|task| (task["name"].as_str().unwrap(), task["task_id"].as_str().unwrap())).unzip();
    assert_eq!(names, (0..30).map(|index| format!("arr/{index}")).collect::<Vec<_>>().iter().map(|n| &**n).collect());
    let later = ids.iter().find(|id| id.starts_with("arr.")).expect("two agents are two launches");
    let name = format!("arr/{}", later.split_once('/').unwrap().1);
    assert_eq!(cluster.list(&["ps", &name])[0]["task_id"], **later);
    let output = "line 1 of 3\nline 2 of 3\nline 3 of 3\n";
    for id in [name.as_str(), later] {
        assert_eq!(cluster.holm(&["logs", id]).expect(0).stdout, output);
        cluster.holm(&["ls", &format!("{id}:")]).expect(0);
    }
    for (args, named) in [
        (["logs", "arr/30"], "30 tasks, 0 to 29"),
        (["ls", "arr:"], "name one, such as arr/0"),
        (["ps", "arrow"], "no framework has a task arrow"),
        (["kill", "arr"], "have ended"),
    ] {
        let answer = cluster.holm(&args).expect(1);
        assert!(answer.stderr.contains(named), "{args:?}: {answer:?}");
    }
}

#[test]
fn killing_an_array_ends_all_of_it() {
    let cluster = Cluster::with_agents(&["cpus:1;mem:1GiB", "cpus:1;mem:1GiB"]);
    let program = ["--", "60000"];
    let detached = ["run", p1("sleep"), "--name", "away", "--count", "30", "--detach"];
    cluster.holm(&detached.iter().chain(&program).copied().collect::<Vec<_>>()).expect(0);
    cluster.wait_for_task("away/0", "RUNNING");
    cluster.holm(&["kill", "away", "--grace", "0s"]).expect(0);
    wait_for("nothing is live", || cluster.list(&["ps"]).is_empty().then_some(()));
    assert!(cluster.list(&["ps", "away"]).iter().all(|task| task["state"] == "KILLED"));

    let attached = ["run", p1("sleep"), "--name", "here", "--count", "100"];
    let mut run = cluster.start("here", &attached.iter().chain(&program).copied().collect::<Vec<_>>());
    cluster.wait_for_task("here/0", "RUNNING");
    cluster.holm(&["kill", "here"]).expect(0);
    assert_eq!(run.wait().code(), Some(137), "{}", run.said());
    wait_for("nothing is live", || cluster.list(&["ps"]).is_empty().then_some(()));
}

#[test]
fn another_role_gets_its_turn_while_an_array_runs() {
    let cluster = Cluster::new("cpus:1;mem:1GiB");
    let _array = cluster.start("many", &["run", p1("sleep"), "--name", "many", "--count", "300", "--", "500"]);
    cluster.wait_for_task("many/0", "FINISHED");
    cluster.holm(&["run", p1("hello"), "--role", "other"]).expect(0);
    let ended = cluster.list(&["ps", "many", "--state", "FINISHED"]).len();
    // Ten at a time: some rounds may pass, but not most of them.
    assert!(ended < 200, "{ended} tasks of the array ended before another role had its turn");
}
