//! The agent's own reserve.

use holm_model::{AgentCondition, ToMaster};

use super::*;

const MIB: u64 = 1 << 20;

fn watched() -> Rig {
    let mut rig = Rig::new(AgentOptions { reserve_bytes: Some(100 * MIB), ..options() });
    rig.register();
    rig.effects.clear();
    rig
}

fn told(rig: &Rig) -> Vec<AgentCondition> {
    let said = rig.to_master().into_iter().filter_map(|message| match message {
        ToMaster::Condition(condition) => Some(condition),
        _ => None,
    });
    said.collect()
}

#[test]
fn an_agent_over_its_reserve_is_held_back_until_it_is_well_below_it() {
    let mut rig = watched();
    for (overhead, held) in [(100, false), (101, true), (95, true), (91, true), (90, false), (100, false)] {
        rig.event(AgentEvent::OverheadMeasured { bytes: overhead * MIB });
        let condition = rig.agent.condition().unwrap();
        assert_eq!(condition.held_back.is_some(), held, "{overhead} MiB");
    }
    let held: Vec<bool> = told(&rig).iter().map(|condition| condition.held_back.is_some()).collect();
    assert!(held.windows(2).any(|pair| pair == [false, true]) && held.windows(2).any(|pair| pair == [true, false]));
    let why = told(&rig).into_iter().find_map(|condition| condition.held_back).unwrap();
    assert!(why.contains("105906176") && why.contains("104857600"), "{why}");
}

#[test]
fn small_changes_are_not_worth_a_message() {
    let mut rig = watched();
    for overhead in [50, 51, 52, 53, 54, 55, 56] {
        rig.event(AgentEvent::OverheadMeasured { bytes: overhead * MIB });
    }
    let told: Vec<u64> = told(&rig).iter().map(|condition| condition.overhead_bytes / MIB).collect();
    assert_eq!(told, [50, 56]);
}

#[test]
fn a_new_master_hears_of_it_before_the_report() {
    let mut rig = watched();
    rig.event(AgentEvent::OverheadMeasured { bytes: 200 * MIB });
    rig.effects.clear();
    rig.register();
    let order: Vec<_> = rig
        .to_master()
        .iter()
        .filter_map(|message| match message {
            ToMaster::Condition(condition) => Some(condition.held_back.is_some()),
            ToMaster::Report { .. } => Some(false),
            _ => None,
        })
        .collect();
    assert_eq!(order, [true, false]);
}

#[test]
fn without_a_reserve_nothing_is_watched() {
    let mut rig = Rig::registered();
    rig.event(AgentEvent::OverheadMeasured { bytes: u64::MAX });
    assert_eq!((rig.agent.condition(), told(&rig).len()), (None, 0));
}
