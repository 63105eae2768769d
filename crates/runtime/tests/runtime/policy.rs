//! Policies: the sample that ranks by strict priority, and one that misbehaves in every way.

use std::sync::Arc;
use std::time::Duration;

use holm_model::{PolicyColumn, PolicyFailure, PolicyPatch, PolicyValues};
use holm_runtime::{PolicyError, PolicyGuest, PolicyOptions, PolicyProgram};
use holm_test_programs as samples;

fn load(bytes: &[u8], config: &str) -> Result<PolicyProgram, PolicyError> {
    // Time is no matter here: machines that run tests are busy.
    let options = PolicyOptions { config: config.into(), time: Duration::from_secs(60), ..PolicyOptions::default() };
    PolicyProgram::load(bytes, options)
}

fn strict(config: &str) -> Result<PolicyGuest, PolicyError> {
    load(samples::STRICT_PRIORITY_WASM, config).unwrap().start()
}

fn told(paths: &[&str]) -> Vec<PolicyPatch> {
    let texts = paths.iter().map(|path| Arc::from(*path)).collect();
    let columns = vec![PolicyColumn { name: "path".into(), values: PolicyValues::Texts(texts) }];
    let rows = (0..u32::try_from(paths.len()).unwrap()).collect();
    vec![PolicyPatch { table: "roles".into(), removed: Vec::new(), rows, columns }]
}

fn ranks(answer: &[PolicyPatch]) -> Vec<f64> {
    let [PolicyPatch { table, columns, .. }] = answer else { panic!("{answer:?}") };
    let [PolicyColumn { name, values: PolicyValues::Numbers(ranks) }] = &columns[..] else { panic!("{answer:?}") };
    assert_eq!((&**table, &**name), ("roles", "rank"));
    ranks.clone()
}

#[test]
fn strict_priority() {
    let mut policy = strict("prod = 10 # first\n\nbatch=-5\nprod/test = 1\n").unwrap();
    let description = policy.description().clone();
    assert_eq!(
        (&*description.name, &*description.reads[0], &*description.writes[0]),
        ("strict priority", "roles.path", "roles.rank")
    );
    let (answer, cost) = policy.rank(&told(&["batch", "other", "prod", "prod/test", "prod/web"]));
    assert_eq!(ranks(&answer.unwrap()), [5.0, 0.0, -10.0, -1.0, -10.0]);
    assert!(cost.fuel > 100 && cost.time > Duration::ZERO, "{cost:?}");
    // The same again costs the same: nothing depends on what came before or on the clock.
    let (_, first) = strict("prod = 10").unwrap().rank(&told(&["a", "b"]));
    let (_, second) = strict("prod = 10").unwrap().rank(&told(&["a", "b"]));
    assert_eq!(first.fuel, second.fuel);
    for (config, expected) in [
        ("prod 10", "line 1: \"prod 10\" is not ROLE = PRIORITY"),
        ("\nprod = high", "line 2: prod: \"high\" is not a whole number"),
        ("a=1\na=2", "line 2: a has a priority already"),
    ] {
        let Err(PolicyError::Config(message)) = strict(config) else { panic!("{config} was accepted") };
        assert_eq!(message, expected);
    }
}

/// What a rogue does in its second call.
fn provoke(way: &str) -> Result<Vec<PolicyPatch>, PolicyFailure> {
    let mut policy = load(samples::ROGUE_POLICY_WASM, &format!("good {way}")).unwrap().start().unwrap();
    policy.rank(&told(&["a", "b"])).0.unwrap();
    policy.rank(&told(&["a", "b"])).0
}

#[test]
fn rogue_policy() {
    assert_eq!(provoke("spin").unwrap_err(), PolicyFailure::Fuel(200_000_000));
    assert!(matches!(provoke("trap"), Err(PolicyFailure::Trapped(why)) if why.contains("unreachable")));
    assert!(matches!(provoke("grow"), Err(PolicyFailure::Memory { asked, limit: 67_108_864 }) if asked > 67_108_864));
    assert!(matches!(provoke("long-answer"), Err(PolicyFailure::TooLong(8_388_608))));
    assert_eq!(provoke("give-up").unwrap_err(), PolicyFailure::GaveUp("as told, at 2 rows".to_owned()));
    // Whether an answer makes sense is for the allocator to say, which knows what was told.
    assert_eq!(provoke("row-nobody-told").unwrap()[0].rows, [1_000_000]);
    assert_eq!(provoke("many-patches").unwrap().len(), 1000);
    let refused = load(samples::ROGUE_POLICY_WASM, "spin-in-describe").unwrap().start();
    assert!(matches!(refused, Err(PolicyError::Describe(PolicyFailure::Fuel(_)))), "{refused:?}");
}

#[test]
fn a_policy_that_takes_too_long_is_stopped_by_the_clock() {
    let options = PolicyOptions {
        config: "spin".into(),
        fuel: u64::MAX,
        time: Duration::from_millis(100),
        ..PolicyOptions::default()
    };
    let limit = options.time;
    let mut policy = PolicyProgram::load(samples::ROGUE_POLICY_WASM, options).unwrap().start().unwrap();
    assert_eq!(policy.rank(&told(&["a"])).0.unwrap_err(), PolicyFailure::Time(limit));
}

#[test]
fn what_is_no_policy_is_refused_by_what_it_is() {
    let wat = |text: &str| wat::parse_str(text).unwrap();
    let other = wat(r#"(component (core module $m (func (export "f"))) (core instance $i (instantiate $m))
            (func $f (canon lift (core func $i "f"))) (export "run" (func $f)))"#);
    let wrong_type = wat(r#"(component (core module $m (func (export "f"))) (core instance $i (instantiate $m))
            (func $f (canon lift (core func $i "f")))
            (instance $r (export "describe" (func $f)) (export "rank" (func $f)))
            (export "holm:policy/ranking@0.1.0" (instance $r)))"#);
    for (bytes, expected) in [
        (
            samples::HELLO.p1_bytes().unwrap(),
            "is a core module; it has to be a component of the world holm:policy/policy@0.1.0",
        ),
        (samples::HELLO.p2_bytes().unwrap(), "the policy imports wasi:"),
        (
            samples::TILES_SCHEDULER_WASM.to_vec(),
            "a component of the world holm:policy/policy@0.1.0 imports nothing, not even WASI",
        ),
        (
            other,
            "does not export holm:policy/ranking@0.1.0, which the world holm:policy/policy@0.1.0 asks for; it exports run",
        ),
        (wrong_type, "the policy's holm:policy/ranking@0.1.0 is not that of the world holm:policy/policy@0.1.0"),
        (b"#!/bin/sh".to_vec(), "cannot be loaded"),
        (b"\0asm\x0d\0\x01\0garbage".to_vec(), "cannot be compiled"),
    ] {
        let started = load(&bytes, "").and_then(|program| program.start());
        let Err(error) = started else { panic!("accepted; expected {expected}") };
        assert!(error.to_string().contains(expected), "{error}");
    }
}
