//! A process that is killed in the middle of writing loses nothing that it was told is durable.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use holm_coordination::{CommitOutcome, Coordination, Embedded, KeyOp, Options};
use holm_datadir::DataDir;
use holm_model::ClusterId;

const DIR_VARIABLE: &str = "HOLM_TEST_STORE_DIR";
const ROUNDS: u64 = 8;

fn open(dir: &Path) -> Embedded {
    let options = Options { fresh_cluster: ClusterId(1), adopted: false, written_by: "test".to_owned() };
    let dir = DataDir::open(dir, "master", false).expect("the directory is free");
    Embedded::open(dir, &options).expect("the store is sound")
}

fn key(side: &str, epoch: u64, at: u64) -> String {
    format!("{side}/{epoch:08}/{at:08}")
}

/// Not a test of its own: the process that the test below starts and kills. It says on stdout what is durable.
#[test]
#[ignore = "the child process of another test"]
fn writes_until_it_is_killed() {
    let Some(dir) = std::env::var_os(DIR_VARIABLE) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let store = open(Path::new(&dir));
        let reign = store.campaign().await.unwrap();
        println!("\nepoch {}", reign.epoch);
        for at in 0.. {
            let ops = ["left", "right"].map(|side| KeyOp::put(key(side, reign.epoch.0, at), vec![7; 300]));
            assert_eq!(store.commit(reign, ops.to_vec()).await, CommitOutcome::Committed);
            println!("durable {at}");
        }
    });
}

#[tokio::test]
async fn every_acknowledged_commit_survives_sigkill_and_none_is_half_there() {
    let dir = tempfile::tempdir().unwrap();
    let mut durable: Vec<(u64, u64)> = Vec::new();
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "writes_until_it_is_killed", "--ignored", "--nocapture"])
            .env(DIR_VARIABLE, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut epoch = 0;
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            if let Some(number) = line.strip_prefix("epoch ") {
                epoch = number.parse().unwrap();
            }
            let Some(at) = line.strip_prefix("durable ") else { continue };
            durable.push((epoch, at.parse().unwrap()));
            if at.parse::<u64>().unwrap() == 5 + 3 * round {
                // Lines that were already in the pipe are still read: they are promises too.
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert_eq!(epoch, round + 1, "every reign has its own epoch");
    }

    let store = open(dir.path());
    let left = store.snapshot("left/").await.unwrap();
    let right = store.snapshot("right/").await.unwrap();
    let names = |records: &[(String, Vec<u8>)]| -> Vec<String> {
        records.iter().map(|(key, _)| key.split_once('/').unwrap().1.to_owned()).collect()
    };
    assert_eq!(names(&left), names(&right), "a commit of two keys was torn");
    for (epoch, at) in durable {
        let wanted = key("left", epoch, at);
        assert!(left.iter().any(|(key, _)| *key == wanted), "{wanted} was acknowledged and is lost");
    }
    assert_eq!(store.campaign().await.unwrap().epoch.0, ROUNDS + 1);
}
