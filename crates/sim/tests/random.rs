//! Random clusters in trouble: whatever happens, everything comes right in the end.

use holm_sim::{Outcome, Plan, run_random};

/// How many seeds one run of the tests tries.
const SEEDS: u64 = 120;

fn run(seed: u64) -> Outcome {
    match run_random(seed, Plan::of_seed(seed)) {
        Ok(outcome) => outcome,
        Err(failure) => panic!(
            "{failure}replay: HOLM_SIM_SEED={seed} cargo test -p holm-sim --test random one_seed -- --ignored --nocapture"
        ),
    }
}

#[test]
fn every_task_comes_to_one_end_whatever_happens() {
    let mut ends = [0; 6];
    for seed in 0..SEEDS {
        let outcome = run(seed);
        ends.iter_mut().zip(outcome.ends).for_each(|(sum, count)| *sum += count);
    }
    let [finished, failed, killed, dropped, _, gone] = ends;
    assert!(finished > 0 && failed > 0 && killed > 0 && dropped > 0 && gone > 0, "the runs are too tame: {ends:?}");
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in [3, 77] {
        assert_eq!(run(seed), run(seed));
    }
    assert_ne!(run(3).hash, run(77).hash);
}

/// Replays the seed in `HOLM_SIM_SEED`, or that many seeds from it on as `HOLM_SIM_COUNT` says;
/// `HOLM_SIM_TAIL` lines of a failure are shown.
#[test]
#[ignore = "replays HOLM_SIM_SEED, HOLM_SIM_COUNT seeds from there on"]
fn one_seed() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let first = number("HOLM_SIM_SEED").unwrap_or(0);
    let mut failed = Vec::new();
    for seed in first..first + number("HOLM_SIM_COUNT").unwrap_or(1) {
        let plan = Plan::of_seed(seed);
        let tail = number("HOLM_SIM_TAIL").and_then(|lines| usize::try_from(lines).ok());
        match run_random(seed, Plan { tail: tail.unwrap_or(plan.tail), ..plan }) {
            Ok(outcome) => eprintln!("seed {seed}: {outcome:?}"),
            Err(failure) => {
                eprintln!("{failure}");
                failed.push(seed);
            }
        }
    }
    assert!(failed.is_empty(), "seeds that failed: {failed:?}");
}
