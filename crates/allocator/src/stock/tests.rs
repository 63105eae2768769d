//! Books of single agents.

use holm_model::Epoch;

use super::*;

fn spec(text: &str) -> Portions {
    Portions::unreserved(text.parse().unwrap())
}

fn stock(total: &str) -> (Stock, Slot) {
    let mut stock = Stock::new();
    let slot = stock.insert(AgentId::new(Epoch(1), 1)).unwrap();
    stock.replace(slot, &AgentStock { portions: spec(total), ..AgentStock::default() });
    stock.set_active(slot, true);
    (stock, slot)
}

#[test]
fn more_in_use_than_there_is_leaves_nothing_and_comes_back_in_full() {
    let (mut stock, slot) = stock("cpus:2;mem:4GiB;ports:[1-9]");
    let running = stock.split(&spec("cpus:4;mem:1GiB;ports:[5-12]"));
    assert!(stock.charge(slot, 7, &running).unwrap());
    assert_eq!(stock.portions(&stock.free(slot)), spec("mem:3GiB;ports:[1-4]"));
    let twice = stock.split(&spec("ports:[9-9]"));
    assert!(matches!(stock.charge(slot, 7, &twice), Err(ChargeError::Conflict { .. })));
    assert!(stock.adds_up(slot) && stock.spare_adds_up());
    assert!(stock.release(slot, 7, &running).unwrap());
    assert_eq!(stock.portions(&stock.free(slot)), spec("cpus:2;mem:4GiB;ports:[1-9]"));
    assert_eq!(stock.holders(slot).count(), 0);
}

#[test]
fn sums_that_would_saturate_are_refused() {
    let (mut stock, slot) = stock("mem:1GiB");
    let mut half = Bundle::EMPTY;
    half.plain[1] = u64::MAX / 2;
    stock.charge(slot, 1, &half).unwrap();
    half.plain[1] += 2;
    assert!(matches!(stock.charge(slot, 1, &half), Err(ChargeError::Overflow { .. })));
    assert_eq!(stock.held(slot, 1).plain[1], u64::MAX / 2);
}
