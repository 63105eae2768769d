//! The flat vectors of Mesos' sorter tests. A client is a role with one framework.

use holm_model::{Amount, Epoch, Quantity, ResourceName};

use super::*;

struct Sorter {
    tree: Tree,
    capacity: Capacity,
    total: Resources,
}

fn bundle(cpus: u64, mem: u64) -> Resources {
    let scalar = |raw| Quantity::Scalar(Amount(raw));
    [(ResourceName::Cpus, scalar(cpus)), (ResourceName::Mem, scalar(mem))].into_iter().collect()
}

impl Sorter {
    fn new(cpus: u64, mem: u64) -> Sorter {
        let mut sorter =
            Sorter { tree: Tree::new(), capacity: Capacity::new(BTreeSet::new()), total: Resources::EMPTY };
        sorter.resize(cpus, mem);
        sorter
    }

    fn resize(&mut self, cpus: u64, mem: u64) {
        let before = std::mem::replace(&mut self.total, bundle(cpus, mem));
        self.capacity.replace(&before, &self.total);
    }

    fn leaf(&mut self, client: &str) -> NodeId {
        self.tree.ensure_leaf(FrameworkId::new(Epoch(1), 1), &client.parse().unwrap(), DEFAULT_WEIGHT)
    }

    fn add(&mut self, client: &str, cpus: u64, mem: u64) {
        let leaf = self.leaf(client);
        self.tree.set_wanting(leaf, true, &self.capacity);
        self.tree.charge(leaf, &bundle(cpus, mem), true, &self.capacity);
    }

    fn weigh(&mut self, client: &str, thousandths: u32) {
        let role = self.tree.role(&client.parse().unwrap()).unwrap();
        self.tree.set_weight(role, NonZeroU32::new(thousandths).unwrap(), &self.capacity);
    }

    fn take_off(&mut self, client: &str, cpus: u64, mem: u64) {
        let leaf = self.leaf(client);
        self.tree.release(leaf, &bundle(cpus, mem), &self.capacity);
    }

    fn deactivate(&mut self, client: &str) {
        let leaf = self.leaf(client);
        self.tree.set_wanting(leaf, false, &self.capacity);
    }

    fn remove(&mut self, client: &str, cpus: u64, mem: u64) {
        self.take_off(client, cpus, mem);
        self.deactivate(client);
        let leaf = self.leaf(client);
        self.tree.remove_leaf(leaf);
    }

    /// Asks everybody, all refuse: they were asked in order.
    fn order(&mut self) -> String {
        let asked = std::cell::RefCell::new(Vec::new());
        let refuse = |leaf| {
            asked.borrow_mut().push(leaf);
            false
        };
        assert_eq!(self.tree.first_willing(&self.capacity, &refuse), None);
        assert_eq!(self.tree.faults(&self.capacity), Vec::<String>::new());
        let leaves = asked.into_inner();
        let mut by_path = leaves.clone();
        by_path.sort_by_key(|leaf| self.tree.path(*leaf, &self.capacity));
        assert_eq!(by_path, leaves, "asking in order and comparing paths are the same order");
        leaves.iter().map(|leaf| self.tree.owner(*leaf).unwrap().1.to_string()).collect::<Vec<_>>().join(" ")
    }
}

#[test]
fn clients_are_served_by_dominant_share() {
    let mut sorter = Sorter::new(100, 100);
    for (client, cpus, mem) in [("a", 5, 5), ("b", 6, 6), ("c", 1, 1), ("d", 3, 1)] {
        sorter.add(client, cpus, mem);
    }
    assert_eq!(sorter.order(), "c d a b");
    sorter.remove("a", 5, 5);
    sorter.take_off("b", 4, 4);
    sorter.resize(50, 100);
    sorter.add("e", 1, 5);
    assert_eq!(sorter.order(), "c b e d");
    sorter.resize(50, 200);
    sorter.add("f", 5, 1);
    sorter.add("c", 0, 15);
    assert_eq!(sorter.order(), "e b d c f");
    sorter.deactivate("d");
    assert_eq!(sorter.order(), "e b c f");
}

#[test]
fn shares_are_divided_by_weights() {
    let mut sorter = Sorter::new(100, 100);
    for (client, cpus, mem, weight) in [("a", 5, 5, 1000), ("b", 6, 6, 2000), ("c", 4, 4, 1000), ("d", 10, 20, 10_000)]
    {
        sorter.add(client, cpus, mem);
        sorter.weigh(client, weight);
    }
    assert_eq!(sorter.order(), "d b c a");
    sorter.remove("b", 6, 6);
    sorter.add("d", 10, 25);
    assert_eq!(sorter.order(), "c d a");
    sorter.add("e", 1, 1);
    sorter.weigh("e", 100);
    assert_eq!(sorter.order(), "c d a e");
}

#[test]
fn equals_take_turns_by_how_often_they_were_chosen() {
    let mut sorter = Sorter::new(100, 100);
    for (client, times) in [("a", 1), ("b", 1), ("c", 3), ("d", 2), ("e", 1)] {
        for _ in 0..times {
            sorter.add(client, 3 / times, 3 / times);
        }
    }
    sorter.take_off("d", 2, 2);
    sorter.take_off("c", 3, 3);
    for client in ["a", "b", "e"] {
        sorter.take_off(client, 3, 3);
    }
    assert_eq!(sorter.order(), "a b e d c", "giving everything back resets no count");
}
