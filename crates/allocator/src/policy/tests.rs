//! Rows that come, change and go, and answers that make no sense.

use super::answer::{Nonsense, Ranked};
use super::columns::{Columns, TableColumns};
use super::rows::Rows;
use super::*;
use holm_model::{PolicyColumn, PolicyValues};

fn columns(reads: &[&str], writes: &[&str]) -> Columns {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    Columns::of(&PolicyDescription { name: "test".to_owned(), reads: owned(reads), writes: owned(writes) }).unwrap()
}

/// Rows, and the columns told of them.
type RowsAndColumns = (Vec<u32>, Vec<String>);

/// Roles by path, with a weight each.
struct World {
    rows: Rows<&'static str>,
    weights: std::collections::BTreeMap<&'static str, i64>,
    columns: Columns,
    request: u64,
}

impl World {
    fn new(reads: &[&str]) -> World {
        World {
            rows: Rows::default(),
            weights: std::collections::BTreeMap::new(),
            columns: columns(reads, &["roles.rank"]),
            request: 0,
        }
    }

    fn set(&mut self, role: &'static str, weight: i64) {
        self.weights.insert(role, weight);
        self.rows.add(role);
    }

    fn remove(&mut self, role: &'static str) {
        self.weights.remove(role);
        self.rows.remove(&role);
    }

    fn table(&self) -> TableColumns {
        self.columns.of_table(Table::Roles).clone()
    }

    /// What is told now: rows removed, and per patch the rows with their columns.
    fn tell(&mut self) -> (Vec<u32>, Vec<RowsAndColumns>) {
        self.request += 1;
        let (table, weights) = (self.table(), &self.weights);
        let patches = self.rows.tell(self.request, Table::Roles, &table, |role, column| cell(weights, role, column));
        let removed = patches.iter().flat_map(|patch| patch.removed.clone()).collect();
        let told = patches.into_iter().filter(|patch| !patch.rows.is_empty()).map(|patch| {
            for column in &patch.columns {
                assert_eq!(column.values.len(), patch.rows.len());
            }
            (patch.rows, patch.columns.iter().map(|column| column.name.to_string()).collect())
        });
        (removed, told.collect())
    }

    fn read(&self, answer: PolicyPatch) -> Result<Vec<(&'static str, Rank)>, Nonsense> {
        let known = |table: Table, row: u32| table == Table::Roles && self.rows.is_known(row);
        let ranked = Ranked::read(&[answer], &self.columns, known)?;
        Ok(ranked[0].of(&self.rows, self.request).map(|(role, rank)| (*role, rank)).collect())
    }
}

fn cell(weights: &std::collections::BTreeMap<&str, i64>, role: &str, column: &Column) -> Cell {
    match column {
        Column::Path => Cell::Text(role.into()),
        _ => Cell::Integer(weights[role]),
    }
}

fn ranks(rows: &[u32], ranks: &[f64]) -> PolicyPatch {
    let values = PolicyValues::Numbers(ranks.to_vec());
    let columns = vec![PolicyColumn { name: "rank".into(), values }];
    PolicyPatch { table: "roles".into(), removed: Vec::new(), rows: rows.to_vec(), columns }
}

#[test]
fn only_what_changed_is_told_and_columns_with_the_same_rows_go_together() {
    let mut world = World::new(&["roles.path", "roles.weight"]);
    world.set("a", 1);
    world.set("b", 2);
    let both = vec!["path".to_owned(), "weight".to_owned()];
    assert_eq!(world.tell(), (vec![], vec![(vec![0, 1], both.clone())]));
    assert_eq!(world.tell(), (vec![], vec![]));
    world.set("b", 3);
    world.set("c", 4);
    let (path, weight) = (vec!["path".to_owned()], vec!["weight".to_owned()]);
    assert_eq!(world.tell(), (vec![], vec![(vec![2], path), (vec![1, 2], weight)]));
    world.set("a", 1);
    assert_eq!(world.tell(), (vec![], vec![]), "a touch that changes nothing is not told");
}

#[test]
fn a_number_is_used_again_and_its_old_row_is_told_as_gone() {
    let mut world = World::new(&["roles.path"]);
    world.set("a", 1);
    world.set("b", 1);
    world.tell();
    world.remove("a");
    world.set("c", 1);
    let path = vec!["path".to_owned()];
    assert_eq!(world.tell(), (vec![0], vec![(vec![0], path.clone())]));
    world.remove("b");
    assert_eq!(world.tell(), (vec![1], vec![]));
    world.set("d", 1);
    world.remove("d");
    assert_eq!(world.tell(), (vec![], vec![]), "what came and went between two calls is not told");
    world.rows.forget();
    assert_eq!(world.tell(), (vec![], vec![(vec![0], path)]));
}

#[test]
fn rows_that_are_only_written_come_without_columns() {
    let mut world = World::new(&[]);
    world.set("a", 1);
    world.set("b", 1);
    assert_eq!(world.tell(), (vec![], vec![(vec![0, 1], vec![])]));
    world.set("b", 2);
    assert_eq!(world.tell(), (vec![], vec![]));
}

#[test]
fn an_answer_ranks_what_was_told_and_still_is() {
    let mut world = World::new(&["roles.path"]);
    world.set("a", 1);
    world.set("b", 1);
    world.tell();
    let rank = |number| Rank::of(number).unwrap();
    assert_eq!(world.read(ranks(&[0, 1], &[2.0, -1.0])).unwrap(), [("a", rank(2.0)), ("b", rank(-1.0))]);
    // Gone, and its number taken by another, before the answer came: the answer is not about that one.
    world.remove("a");
    world.set("c", 1);
    assert_eq!(world.read(ranks(&[0, 1], &[2.0, -1.0])).unwrap(), [("b", rank(-1.0))]);
    let mut forgets = ranks(&[], &[]);
    forgets.removed = vec![1];
    assert_eq!(world.read(forgets).unwrap(), [("b", Rank::NONE)]);
}

#[test]
fn nonsense_is_named() {
    let mut world = World::new(&["roles.path"]);
    world.set("a", 1);
    world.set("b", 1);
    world.tell();
    world.set("c", 1);
    let message = |answer| world.read(answer).unwrap_err().to_string();
    assert_eq!(message(ranks(&[1, 0], &[0.0, 0.0])), "its rows of roles do not ascend: 0 follows 1");
    assert_eq!(message(ranks(&[0, 0], &[0.0, 0.0])), "its rows of roles do not ascend: 0 follows 0");
    assert_eq!(message(ranks(&[0, 2], &[0.0, 0.0])), "it ranks row 2 of roles, which the policy was not told");
    assert_eq!(message(ranks(&[0, 1], &[0.0])), "it has 1 ranks for 2 rows of roles");
    assert_eq!(message(ranks(&[0], &[f64::NAN])), "the rank of row 0 of roles is NaN; ranks are finite");
    assert_eq!(message(ranks(&[0], &[f64::INFINITY])), "the rank of row 0 of roles is inf; ranks are finite");
    let other = |table: &str, column: &str, values| PolicyPatch {
        table: table.into(),
        columns: vec![PolicyColumn { name: column.into(), values }],
        ..ranks(&[0], &[])
    };
    let none = PolicyValues::Numbers(vec![0.0]);
    assert_eq!(
        message(other("leaves", "rank", none.clone())),
        "it is about the table \"leaves\", whose ranks the policy does not write"
    );
    assert_eq!(
        message(other("roles", "weight", none)),
        "it has the column \"weight\" of roles; the policy writes rank"
    );
    let integers = PolicyValues::Integers(vec![0]);
    assert_eq!(message(other("roles", "rank", integers)), "ranks of roles are integers, not numbers");
    let many = Ranked::read(&vec![ranks(&[0], &[0.0]); 4], &world.columns, |_, _| true);
    assert_eq!(many.unwrap_err().to_string(), "it has 4 patches; the limit is 3");
}

#[test]
fn ranks_are_ordered_as_their_numbers() {
    let numbers = [f64::MIN, -1.5, -f64::MIN_POSITIVE, 0.0, 5e-324, 1.0, 1e300, f64::MAX];
    let ranks: Vec<Rank> = numbers.iter().map(|number| Rank::of(*number).unwrap()).collect();
    assert!(ranks.is_sorted() && ranks.windows(2).all(|pair| pair[0] < pair[1]));
    assert_eq!(Rank::of(-0.0), Rank::of(0.0));
    assert!(ranks.iter().all(|rank| *rank < Rank::NONE));
    assert_eq!(ranks.iter().map(|rank| rank.number().unwrap()).collect::<Vec<_>>(), numbers);
    assert_eq!((Rank::of(f64::NAN), Rank::of(f64::INFINITY), Rank::of(f64::NEG_INFINITY)), (None, None, None));
}
