//! Arithmetic by origin, and which origins a launch gets.

use super::*;

fn portions(text: &str) -> Portions {
    text.parse().unwrap()
}

fn role(text: &str) -> Role {
    text.parse().unwrap()
}

fn resources(text: &str) -> Resources {
    text.parse().unwrap()
}

#[test]
fn what_is_taken_comes_back() {
    let whole = portions("cpus:4;ports:[1-9];cpus(eng):2;disk(eng)#data:1GiB");
    let part = portions("cpus:1;ports:[3-4];cpus(eng):2;disk(eng)#data:1GiB");
    let rest = whole.minus(&part).unwrap();
    assert_eq!(rest, portions("cpus:3;ports:[1-2,5-9]"));
    assert_eq!(rest.plus(&part), Ok(whole.clone()));
    assert!(whole.contains(&part) && !rest.contains(&part));
    assert_eq!(whole.total(), resources("cpus:6;ports:[1-9];disk:1GiB"));
    assert_eq!(whole.minus(&whole), Ok(Portions::EMPTY));
}

#[test]
fn one_origin_does_not_stand_in_for_another() {
    let whole = portions("cpus:4;cpus(eng):2");
    let refused = whole.minus(&portions("cpus(eng):3")).unwrap_err();
    assert_eq!(refused.to_string(), "reserved for eng: cpus: 3 asked, 2 available");
    let absent = whole.minus(&portions("cpus(ops):1")).unwrap_err();
    assert_eq!(absent.to_string(), "reserved for ops: cpus: 1 asked, 0 available");
    assert!(!whole.contains(&portions("cpus(eng,rack=a):1")));
}

#[test]
fn an_item_is_held_once_whatever_its_origin() {
    let mut whole = portions("ports:[1-9];x:5");
    let before = whole.clone();
    let reserved = portions("cpus(eng):1").iter().next().unwrap().0.clone();
    assert!(whole.add(reserved.clone(), &resources("cpus:1;ports:[9-10]")).is_err());
    assert!(whole.add(reserved.clone(), &resources("x:{a}")).is_err());
    assert_eq!(whole, before);
    whole.add(reserved, &resources("x:2;ports:[10-11]")).unwrap();
    assert_eq!(whole.total(), resources("ports:[1-11];x:7"));
}

#[test]
fn a_launch_takes_the_most_specific_reservation_first() {
    let offered = portions("cpus:4;cpus(eng):2;cpus(eng>eng/a):1;cpus{revocable}:8;disk(eng)#data:1GiB");
    let choose = |asked: &str| offered.choose(&role("eng/a"), &resources(asked), &[]).map(|chosen| chosen.to_string());
    assert_eq!(choose("cpus:1"), Ok("cpus(eng>eng/a):1".to_owned()));
    assert_eq!(choose("cpus:2.5"), Ok("cpus(eng):1.5;cpus(eng>eng/a):1".to_owned()));
    assert_eq!(choose("cpus:5"), Ok("cpus:2;cpus(eng):2;cpus(eng>eng/a):1".to_owned()));
    assert_eq!(choose("cpus:8").unwrap_err().to_string(), "cpus: 8 asked, 7 available to role eng/a");
    assert!(choose("disk:1MiB").is_err(), "a volume is not disk for everybody");
    let above = offered.choose(&role("eng"), &resources("cpus:7"), &[]);
    assert_eq!(above.unwrap_err().to_string(), "cpus: 7 asked, 6 available to role eng");
}

#[test]
fn a_launch_gets_the_volumes_it_names_whole() {
    let offered = portions("cpus:4;disk(eng)#data:1GiB;disk(eng>eng/a)#data:2GiB;disk(eng)#logs:1GiB");
    let id = |text: &str| text.parse::<VolumeId>().unwrap();
    let chosen = offered.choose(&role("eng/a"), &resources("cpus:1"), &[id("data"), id("logs"), id("logs")]).unwrap();
    assert_eq!(chosen, portions("cpus:1;disk(eng>eng/a)#data:2GiB;disk(eng)#logs:1GiB"));
    let refused = offered.choose(&role("ops"), &Resources::EMPTY, &[id("data")]).unwrap_err();
    assert_eq!(refused.to_string(), "volume data is not available to role ops");
}

#[test]
fn ports_of_several_origins_make_one_range() {
    let offered = portions("ports:[1-4];ports(eng):[5-9]");
    let chosen = offered.choose(&role("eng"), &resources("ports:[3-6]"), &[]).unwrap();
    assert_eq!(chosen, portions("ports:[3-4];ports(eng):[5-6]"));
}

#[test]
fn what_everybody_may_use_is_given_back_first() {
    let held = portions("cpus:2;cpus(eng):2;cpus(eng>eng/a):1;disk(eng)#data:1GiB");
    let returned = |asked: &str| held.choose_returned(&resources(asked)).map(|part| part.to_string());
    assert_eq!(returned("cpus:1"), Ok("cpus:1".to_owned()));
    assert_eq!(returned("cpus:4.5"), Ok("cpus:2;cpus(eng):2;cpus(eng>eng/a):0.5".to_owned()));
    assert!(returned("disk:1GiB").is_err());
}

#[test]
fn revocable_launches_take_revocable_resources_only() {
    let offered = portions("cpus:4;cpus{revocable}:2");
    assert_eq!(offered.choose_revocable(&resources("cpus:2")), Ok(portions("cpus{revocable}:2")));
    assert!(offered.choose_revocable(&resources("cpus:3")).is_err());
}
