//! One table as a policy was told it: which row stands for what, and the cells it knows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use holm_model::{PolicyColumn, PolicyPatch, PolicyValues};

use super::columns::{Column, Table, TableColumns};

/// One cell.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cell {
    Integer(i64),
    Number(f64),
    Text(Arc<str>),
}

impl Cell {
    /// An amount; what does not fit is the largest that does.
    pub(crate) fn amount(amount: u128) -> Cell {
        Cell::Integer(i64::try_from(amount).unwrap_or(i64::MAX))
    }

    fn push_to(self, values: &mut PolicyValues) {
        match (self, values) {
            (Cell::Integer(cell), PolicyValues::Integers(cells)) => cells.push(cell),
            (Cell::Number(cell), PolicyValues::Numbers(cells)) => cells.push(cell),
            (Cell::Text(cell), PolicyValues::Texts(cells)) => cells.push(cell),
            (_, _) => debug_assert!(false, "a cell of another kind than its column's"),
        }
    }
}

/// One row.
#[derive(Clone, Debug)]
struct Row<K> {
    /// What it stands for; none while the number is free.
    key: Option<K>,
    /// The request that first told it; none while it is new.
    told_by: Option<u64>,
    /// What it was told as, by column.
    cells: Vec<Option<Cell>>,
}

/// The rows of a table.
#[derive(Clone, Debug)]
pub(crate) struct Rows<K> {
    numbers: BTreeMap<K, u32>,
    rows: Vec<Row<K>>,
    /// Numbers that stand for nothing.
    free: BTreeSet<u32>,
    /// Rows that have gone and whose end has not been told.
    removed: BTreeSet<u32>,
    /// Rows that may differ from what was told.
    touched: BTreeSet<u32>,
    /// By number, whether the policy knows such a row, as of the latest request.
    known: Vec<bool>,
}

impl<K> Default for Rows<K> {
    fn default() -> Rows<K> {
        Rows {
            numbers: BTreeMap::new(),
            rows: Vec::new(),
            free: BTreeSet::new(),
            removed: BTreeSet::new(),
            touched: BTreeSet::new(),
            known: Vec::new(),
        }
    }
}

impl<K: Ord + Clone> Rows<K> {
    /// A row for something new.
    pub(crate) fn add(&mut self, key: K) {
        if self.numbers.contains_key(&key) {
            return self.touch(&key);
        }
        let row = Row { key: Some(key.clone()), told_by: None, cells: Vec::new() };
        let number = match self.free.pop_first() {
            Some(number) => {
                self.rows[number as usize] = row;
                number
            }
            None => {
                self.rows.push(row);
                u32::try_from(self.rows.len() - 1).unwrap_or(u32::MAX)
            }
        };
        self.numbers.insert(key, number);
        self.touched.insert(number);
    }

    /// Something has gone.
    pub(crate) fn remove(&mut self, key: &K) {
        let Some(number) = self.numbers.remove(key) else { return };
        let row = &mut self.rows[number as usize];
        if row.told_by.is_some() {
            self.removed.insert(number);
        }
        row.key = None;
        self.touched.remove(&number);
        self.free.insert(number);
    }

    /// The rows are these, no others.
    pub(crate) fn set(&mut self, keys: Vec<K>) {
        let keys: BTreeSet<K> = keys.into_iter().collect();
        let gone: Vec<K> = self.numbers.keys().filter(|key| !keys.contains(key)).cloned().collect();
        gone.iter().for_each(|key| self.remove(key));
        let new: Vec<K> = keys.into_iter().filter(|key| !self.numbers.contains_key(key)).collect();
        new.into_iter().for_each(|key| self.add(key));
    }

    /// The numbers of all rows.
    pub(crate) fn numbers(&self) -> BTreeMap<K, u32> {
        self.numbers.clone()
    }

    /// Something may have changed.
    pub(crate) fn touch(&mut self, key: &K) {
        if let Some(number) = self.numbers.get(key) {
            self.touched.insert(*number);
        }
    }

    /// Everything may have changed.
    pub(crate) fn touch_all(&mut self) {
        self.touched.extend(self.numbers.values());
    }

    /// The number of the row of something.
    pub(crate) fn number(&self, key: &K) -> Option<u32> {
        self.numbers.get(key).copied()
    }

    /// What the row of this number stands for, if it is what the policy was told by `request` or before.
    pub(crate) fn told(&self, number: u32, request: u64) -> Option<&K> {
        let row = self.rows.get(number as usize)?;
        row.key.as_ref().filter(|_| row.told_by.is_some_and(|by| by <= request))
    }

    /// Whether the policy knows a row of this number.
    pub(crate) fn is_known(&self, number: u32) -> bool {
        self.known.get(number as usize).copied().unwrap_or(false)
    }

    /// Forgets what was told: the next request tells everything.
    pub(crate) fn forget(&mut self) {
        self.removed.clear();
        self.known.clear();
        for row in &mut self.rows {
            row.told_by = None;
            row.cells.clear();
        }
        self.touch_all();
    }

    /// What the policy does not know yet, which it then does.
    pub(crate) fn tell(
        &mut self,
        request: u64,
        table: Table,
        columns: &TableColumns,
        cell: impl Fn(&K, &Column) -> Cell,
    ) -> Vec<PolicyPatch> {
        let mut patches = Patches::new(table, columns);
        for number in std::mem::take(&mut self.removed) {
            self.known[number as usize] = false;
            patches.removed.push(number);
        }
        self.known.resize(self.rows.len(), false);
        for number in std::mem::take(&mut self.touched) {
            let row = &mut self.rows[number as usize];
            let Some(key) = &row.key else { continue };
            row.cells.resize(columns.reads.len(), None);
            for (index, (column, _)) in columns.reads.iter().enumerate() {
                let now = cell(key, column);
                if row.cells[index].as_ref() != Some(&now) {
                    row.cells[index] = Some(now.clone());
                    patches.push(index, number, now);
                }
            }
            if row.told_by.is_none() {
                row.told_by = Some(request);
                self.known[number as usize] = true;
                patches.new.push(number);
            }
        }
        patches.finish()
    }
}

/// The cells to be told, gathered by column and then put together where columns have the same rows.
struct Patches<'a> {
    table: Table,
    columns: &'a TableColumns,
    removed: Vec<u32>,
    new: Vec<u32>,
    cells: Vec<(Vec<u32>, PolicyValues)>,
}

impl<'a> Patches<'a> {
    fn new(table: Table, columns: &'a TableColumns) -> Patches<'a> {
        let cells = columns.reads.iter().map(|(column, _)| (Vec::new(), column.no_values())).collect();
        Patches { table, columns, removed: Vec::new(), new: Vec::new(), cells }
    }

    fn push(&mut self, column: usize, row: u32, cell: Cell) {
        let (rows, values) = &mut self.cells[column];
        rows.push(row);
        cell.push_to(values);
    }

    fn finish(self) -> Vec<PolicyPatch> {
        let Patches { table, columns, removed, new, cells } = self;
        let table: Arc<str> = table.as_str().into();
        let patch = |rows, columns| PolicyPatch { table: table.clone(), removed: Vec::new(), rows, columns };
        let mut patches: Vec<PolicyPatch> = Vec::new();
        for ((_, name), (rows, values)) in columns.reads.iter().zip(cells) {
            let column = PolicyColumn { name: name.clone(), values };
            if rows.is_empty() {
                continue;
            }
            match patches.iter_mut().find(|patch| patch.rows == rows) {
                Some(patch) => patch.columns.push(column),
                None => patches.push(patch(rows, vec![column])),
            }
        }
        if columns.reads.is_empty() && !new.is_empty() {
            patches.push(patch(new, Vec::new()));
        }
        if !removed.is_empty() {
            match patches.first_mut() {
                Some(first) => first.removed = removed,
                None => patches.push(PolicyPatch { removed, ..patch(Vec::new(), Vec::new()) }),
            }
        }
        patches
    }
}
