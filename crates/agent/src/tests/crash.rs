//! The agent dies after every single effect and every single record of a scenario, and nothing is lost or doubled.

use proptest::prelude::*;

use super::world::{Act, World};
use super::*;

fn scenario() -> Vec<Act> {
    vec![
        Act::Launch(1, launch("a", 6, 2)),
        Act::Launch(2, launch("b", 3, 1)),
        Act::Finish(2),
        Act::Kill(1, "a/5"),
        Act::Launch(1, launch("c", 40, 20)), // refused: there are 8 CPUs
        Act::Launch(1, launch("d", 1, 1)),
        Act::Trim(2, "b", 2),
        Act::Finish(1),
        Act::Kill(1, "d"),
        Act::CutRunner,
        Act::Launch(3, launch("e", 2, 2)),
        Act::Remove(3),
        Act::Cut,
        Act::KillRunner,
        Act::Launch(1, launch("f", 3, 3)),
        Act::Finish(1),
    ]
}

fn play(crash_at: Option<u64>, acts: Vec<Act>) -> u64 {
    let mut world = World::new(crash_at);
    for act in acts {
        world.act(act);
    }
    world.conclude();
    world.steps
}

#[test]
fn a_crash_at_any_point_loses_and_doubles_nothing() {
    let steps = play(None, scenario());
    assert!(steps > 100, "{steps}");
    for crash_at in 1..=steps {
        play(Some(crash_at), scenario());
    }
}

fn act() -> impl Strategy<Value = Act> {
    let name = prop_oneof![Just("a"), Just("b"), Just("c"), Just("d")];
    let task = prop_oneof![Just("a"), Just("a/0"), Just("a/3"), Just("b/1"), Just("c"), Just("d/2")];
    prop_oneof![
        4 => (1u64..4, name.clone(), 1u32..7, 1u32..4).prop_map(|(framework, name, count, slots)| {
            Act::Launch(framework, launch(name, count, slots.min(count)))
        }),
        4 => (1usize..4).prop_map(Act::Finish),
        2 => (1u64..4, task).prop_map(|(framework, task)| Act::Kill(framework, task)),
        1 => (1u64..4, name, 0u32..4).prop_map(|(framework, name, from)| Act::Trim(framework, name, from)),
        1 => (3u64..4).prop_map(Act::Remove),
        1 => Just(Act::KillRunner),
        1 => Just(Act::Cut),
        1 => Just(Act::CutRunner),
        2 => Just(Act::Crash),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_task_ends_once_whatever_dies(acts in prop::collection::vec(act(), 1..40), crash_at in 1u64..200) {
        play(Some(crash_at), acts);
    }
}
