//! What excludes a class of agents, one cause at a time.

use holm_model::{Epoch, Subject, Test};

use super::*;

fn spec(text: &str) -> Resources {
    text.parse().unwrap()
}

fn role(text: &str) -> Role {
    text.parse().unwrap()
}

fn framework(number: u64) -> FrameworkId {
    FrameworkId::new(Epoch(1), number)
}

fn wish(least: &str) -> Wish {
    Wish { framework: framework(1), least: spec(least), everywhere: None, kept: Vec::new() }
}

/// An agent of which all is free.
fn agent(number: u64, total: &str) -> AgentFacts {
    AgentFacts {
        agent: AgentId::new(Epoch(1), number),
        attributes: Attributes::new(),
        away: None,
        unmet: None,
        total: spec(total),
        open: spec(total),
        free: spec(total),
        usable: spec(total),
        offers: Vec::new(),
        filtered: false,
    }
}

#[test]
fn the_first_cause_is_named_with_its_numbers() {
    let whole = || agent(1, "cpus:8;mem:16GiB");
    let constraint = Constraint { subject: Subject::Attribute("rack".into()), test: Test::Equals("a".into()) };
    let offered = |to| vec![(framework(to), role("ops"), spec("cpus:7"))];
    let partly = || AgentFacts { free: spec("cpus:1"), usable: spec("cpus:1"), ..whole() };
    for (facts, name, text) in [
        (whole(), "nothing", "nothing excludes it: the next run may offer it"),
        (
            AgentFacts { away: Some("disconnected"), filtered: true, ..whole() },
            "agent_away",
            "the agent is disconnected",
        ),
        (AgentFacts { unmet: Some(constraint), ..whole() }, "constraint", "constraint rack=a does not hold"),
        (agent(1, "cpus:2"), "too_small", "too small even when empty: cpus: 4 asked, 2 there, 2 short"),
        (
            AgentFacts { open: spec("cpus:3"), ..whole() },
            "reserved",
            "reserved for other roles: cpus: 4 asked, 3 there, 1 short",
        ),
        (
            AgentFacts { usable: spec("cpus:3"), ..whole() },
            "reserved",
            "reserved for other roles: cpus: 4 asked, 3 there, 1 short",
        ),
        (partly(), "in_use", "in use: cpus: 4 asked, 1 there, 3 short"),
        (
            AgentFacts { offers: offered(2), ..partly() },
            "other_offer",
            "on offer to framework-1-2 in role ops, whose turn it was: cpus: 4 asked, 1 there, 3 short",
        ),
        (
            AgentFacts { offers: offered(1), ..partly() },
            "own_offer",
            "the framework holds an offer of it and has not answered: cpus: 4 asked, 1 there, 3 short",
        ),
        (
            AgentFacts { filtered: true, ..whole() },
            "filter",
            "the framework declined what is free there, and its filter holds; a revive ends it",
        ),
    ] {
        let cause = first_cause(&wish("cpus:4"), &facts);
        assert_eq!((cause.name(), cause.to_string().as_str()), (name, text));
    }
    let bound = Bound { role: role("eng"), resource: ResourceName::Cpus, bound: Amount(8000), used: Amount(2500) };
    let kept = Wish { kept: vec![bound], ..wish("cpus:4") };
    let cause = first_cause(&kept, &whole());
    assert_eq!(cause.to_string(), "kept for the guarantee of role eng: cpus: 2.5 of 8 held");
}

#[test]
fn who_asks_for_anything_is_short_where_nothing_is_left() {
    let none = AgentFacts { free: Resources::EMPTY, usable: Resources::EMPTY, ..agent(1, "cpus:8") };
    assert_eq!(first_cause(&wish(""), &none).name(), "in_use");
    assert_eq!(first_cause(&wish(""), &agent(1, "cpus:8")).name(), "nothing");
}

#[test]
fn agents_are_told_in_classes_and_the_closest_of_each_kind_is_the_example() {
    let rack = |name: &str, facts: AgentFacts| {
        let attributes: Attributes = [("rack".into(), name.into())].into();
        AgentFacts { attributes, ..facts }
    };
    let used = |number, free: &str| AgentFacts { free: spec(free), usable: spec(free), ..agent(number, "cpus:8") };
    let agents = [
        rack("a", used(1, "cpus:1")),
        rack("a", used(2, "cpus:3")),
        rack("a", agent(3, "cpus:2")),
        rack("b", agent(4, "cpus:8")),
    ];
    let explained = explain(&wish("cpus:4"), &agents);
    let a = &explained.classes[0];
    assert_eq!((a.agents, a.attributes["rack"].as_ref(), a.reasons.len()), (3, "a", 2));
    assert_eq!((a.reasons[0].agents, a.reasons[0].example), (2, AgentId::new(Epoch(1), 2)));
    assert_eq!(a.reasons[0].cause.to_string(), "in use: cpus: 4 asked, 3 there, 1 short");
    assert_eq!(explained.classes[1].reasons[0].cause, Cause::Nothing);
}

#[test]
fn only_so_many_classes_are_told_and_the_rest_is_counted() {
    let odd = |number: u64| {
        let attributes: Attributes = [("name".into(), number.to_string().into())].into();
        AgentFacts { attributes, ..agent(number, "cpus:8") }
    };
    let agents: Vec<AgentFacts> = (1..=100).map(odd).collect();
    let explained = explain(&wish("cpus:4"), &agents);
    assert_eq!((explained.classes.len(), explained.more_classes), (MAX_CLASSES, 100 - MAX_CLASSES));
}
