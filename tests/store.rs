//! What a daemon refuses to start on.

use std::fs;

use crate::harness::{Cluster, Dir};

#[test]
fn a_port_in_use_is_named() {
    let cluster = Cluster::bare();
    let dir = Dir::new();
    let answer = dir.run(&["master", "--listen", &cluster.address, "--store", "own"]).expect(1);
    assert!(answer.stderr.contains(&cluster.address), "{answer:?}");
    let answer = dir.run(&["up", "--listen", &cluster.address, "--dir", "up"]).expect(1);
    assert!(answer.stderr.contains(&cluster.address), "{answer:?}");
    assert_eq!(dir.processes(), []);
}

#[test]
fn a_directory_in_use_is_refused_with_its_owner() {
    let cluster = Cluster::new("cpus:1;mem:1GiB");
    for args in [
        vec!["master", "--listen", "127.0.0.1:0", "--store", "master"],
        vec!["agent", "--master", "127.0.0.1:9", "--dir", "agent-0"],
    ] {
        let answer = cluster.dir.run(&args).expect(1);
        assert!(answer.stderr.contains("in use by process"), "{args:?}: {answer:?}");
    }
    let answer = cluster.dir.run(&["agent", "--dir", "master"]).expect(1);
    assert!(answer.stderr.contains("master"), "{answer:?}");
}

#[test]
fn a_copied_directory_is_refused_until_adopted_and_a_newer_one_for_good() {
    let mut cluster = Cluster::bare();
    cluster.master.kill();
    let (original, copy) = (cluster.dir.path().join("master"), cluster.dir.path().join("copy"));
    copy_dir(&original, &copy);
    let args = ["master", "--listen", "127.0.0.1:0", "--store", "copy"];
    let answer = cluster.dir.run(&args).expect(1);
    assert!(answer.stderr.contains("copy") && answer.stderr.contains("--adopt"), "{answer:?}");
    let stamp = original.join("stamp");
    let text = fs::read_to_string(&stamp).unwrap();
    fs::write(&stamp, text.replace("format 1", "format 99")).unwrap();
    let answer = cluster.dir.run(&["master", "--listen", "127.0.0.1:0", "--store", "master"]).expect(1);
    assert!(answer.stderr.contains("99"), "{answer:?}");
}

#[test]
fn a_token_is_wanted_where_one_is_configured() {
    let dir = Dir::new();
    let token = dir.file("token", "s3cret\n");
    let wrong = dir.file("wrong", "other\n");
    let address = dir.path().join("address").display().to_string();
    let _master = dir.start(
        "master",
        &["master", "--listen", "127.0.0.1:0", "--store", "store", "--token-file", &token, "--address-file", &address],
    );
    let address = crate::harness::wait_for("the master listens", || fs::read_to_string(&address).ok());
    let master = ["--master", address.trim()];
    let run = |rest: &[&str]| dir.run(&master.iter().chain(rest).copied().collect::<Vec<_>>());
    run(&["ps", "--token-file", &token]).expect(0);
    for refused in [run(&["ps"]), run(&["ps", "--token-file", &wrong])] {
        assert_eq!(refused.code, 1);
        assert!(refused.stderr.contains("token"), "{refused:?}");
    }
}

fn copy_dir(from: &std::path::Path, to: &std::path::Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
