//! `holm up` and `holm demo`: whole clusters from one command, and nothing left of them.

use std::fs;

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{Dir, Process, p1, wait_for};

fn start_up(dir: &Dir) -> (Process, String) {
    let args = ["up", "--agents", "2", "--listen", "127.0.0.1:0", "--resources", "cpus:1;mem:512MiB", "--dir", "state"];
    let log = dir.path().join("up.log");
    let seen = fs::read_to_string(&log).unwrap_or_default().len();
    let mut up = dir.start("up", &args);
    let address = wait_for("the cluster is up", || {
        let said = up.said();
        assert!(up.is_running(), "up ended: {said}");
        let line = said[seen..].lines().find_map(|line| line.strip_prefix("A master at "))?.to_owned();
        line.split_once(' ').map(|(address, _)| address.to_owned())
    });
    (up, address)
}

/// The daemons below the directory, `up` itself left out.
fn daemons(dir: &Dir) -> Vec<(i32, String)> {
    let state = dir.path().join("state").display().to_string();
    // A compile worker comes and goes.
    let lasts = |line: &str| line.contains(&state) && !line.contains(" up ") && !line.contains(" compile-worker ");
    dir.processes().into_iter().filter(|(_, line)| lasts(line)).collect()
}

#[test]
fn up_runs_a_cluster_and_ctrl_c_ends_all_of_it_and_the_next_up_finds_it_again() {
    let dir = Dir::new();
    let (mut up, address) = start_up(&dir);
    let answer = dir.run(&["--master", &address, "run", p1("hello"), "--name", "x"]).expect(0);
    assert_eq!(answer.stdout, "hello from x\n");
    dir.run(&["--master", &address, "run", p1("spin"), "--detach", "--name", "left"]).expect(0);
    let before = dir.run(&["--master", &address, "agents", "-o", "json"]).expect(0).stdout;
    assert_eq!(daemons(&dir).iter().filter(|(_, line)| !line.contains(" runner ")).count(), 3);
    up.signal(Signal::INT);
    assert!(up.wait().success(), "{}", up.said());
    assert_eq!(daemons(&dir), []);
    let (mut up, address) = start_up(&dir);
    let after = dir.run(&["--master", &address, "agents", "-o", "json"]).expect(0).stdout;
    let ids = |text: &str| {
        let agents: Vec<serde_json::Value> = serde_json::from_str(text).unwrap();
        agents.iter().map(|agent| agent["agent_id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(ids(&before), ids(&after));
    up.signal(Signal::TERM);
    assert!(up.wait().success());
}

#[test]
fn nothing_is_left_of_an_up_that_was_killed() {
    let dir = Dir::new();
    let (mut up, address) = start_up(&dir);
    dir.run(&["--master", &address, "run", p1("spin"), "--detach", "--name", "left"]).expect(0);
    up.kill();
    wait_for("all daemons and runners have ended", || daemons(&dir).is_empty().then_some(()));
}

#[test]
fn a_daemon_that_dies_is_reported_and_started_again() {
    let dir = Dir::new();
    let (up, address) = start_up(&dir);
    let agent = daemons(&dir).into_iter().find(|(_, line)| line.contains("agent-1 ")).unwrap().0;
    kill_process(Pid::from_raw(agent).unwrap(), Signal::KILL).unwrap();
    wait_for("the end is reported", || up.said().contains("agent-1 ended with signal: 9").then_some(()));
    wait_for("it is there again", || {
        let again = daemons(&dir).into_iter().find(|(_, line)| line.contains("agent-1 "))?.0;
        (again != agent).then_some(())
    });
    dir.run(&["--master", &address, "run", p1("hello"), "--count", "4"]).expect(0);
}

#[test]
fn the_token_keeps_strangers_out_and_lets_the_same_user_in() {
    let dir = Dir::new();
    let (_up, address) = start_up(&dir);
    dir.run(&["--master", &address, "ps"]).expect(0);
    let mut stranger = dir.command(&["--master", &address, "ps"]);
    stranger.env("HOME", dir.path().join("elsewhere"));
    let refused = dir.finish(stranger).expect(1);
    assert!(refused.stderr.contains("token"), "{refused:?}");
}

#[test]
fn the_demo_counts_words_renders_a_picture_and_leaves_nothing() {
    let dir = Dir::new();
    dir.file("texts/a.txt", "one two two\n".repeat(1000));
    dir.file("texts/b/c.txt", "two three\n".repeat(50));
    let mut command =
        dir.command(&["demo", "--input", "texts", "--out", "picture.png", "--size", "200x120", "--agents", "2"]);
    command.env("TMPDIR", dir.path());
    let answer = dir.finish(command).expect(0);
    assert!(answer.stdout.contains("3100 in 2 files, 3 different"), "{}", answer.stdout);
    assert!(answer.stdout.contains("two 2050, one 1000, three 50"), "{}", answer.stdout);
    assert!(answer.stdout.contains("words ") && answer.stdout.contains("render "), "{}", answer.stdout);
    let picture = fs::read(dir.path().join("picture.png")).unwrap();
    assert!(picture.starts_with(b"\x89PNG"));
    let mut reader = png::Decoder::new(std::io::Cursor::new(picture)).read_info().unwrap();
    assert_eq!((reader.info().width, reader.info().height), (200, 120));
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    reader.next_frame(&mut pixels).unwrap();
    let colours: std::collections::BTreeSet<_> = pixels.chunks(3).collect();
    assert!(colours.len() > 100, "a picture of {} colours", colours.len());
    assert_eq!(dir.processes(), []);
    let left: Vec<_> = fs::read_dir(dir.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().starts_with("holm-demo-")), "{left:?}");
}
