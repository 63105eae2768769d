//! The tables as they are, and as the policy of this allocator knows them.

use holm_model::{PolicyDescription, PolicyPatch};

use super::answer::{Nonsense, Rank, Ranked};
use super::columns::{Column, Columns, DescriptionError, Table};
use super::rows::{Cell, Rows};

/// A row of some table in the allocator's own terms.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    /// The only one.
    Cluster,
    /// A node of the tree, by its number and another that is never used again.
    Node(u32, u64),
}

/// Counts changes, so that nothing is looked at that cannot have changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Version {
    /// Rows came or went.
    pub(crate) rows: u64,
    /// Cells changed.
    pub(crate) cells: u64,
}

/// Where the tables come from.
pub(crate) trait Source {
    /// What the rows of a table stand for.
    fn keys(&self, table: Table) -> Vec<Key>;

    /// A cell. `number` tells the number of a role's row.
    fn cell(&self, key: &Key, column: &Column, number: &dyn Fn(&Key) -> Option<u32>) -> Cell;
}

/// What a policy reads, what it was told, and what it may write.
#[derive(Clone, Debug)]
pub(crate) struct Inputs {
    columns: Columns,
    tables: [Rows<Key>; 3],
    /// As of when it was last told.
    told: Option<Version>,
}

impl Inputs {
    /// For a policy that was told nothing yet.
    pub(crate) fn of(description: &PolicyDescription) -> Result<Inputs, DescriptionError> {
        let columns = Columns::of(description)?;
        Ok(Inputs { columns, tables: Default::default(), told: None })
    }

    /// Whether the policy ranks the rows of a table.
    pub(crate) fn writes(&self, table: Table) -> bool {
        self.columns.of_table(table).writes
    }

    /// Whether there may be something to tell.
    pub(crate) fn is_stale(&self, now: Version) -> bool {
        let any = Table::ALL.into_iter().any(|table| self.columns.of_table(table).is_told());
        let changing = |table: Table| self.columns.of_table(table).reads.iter().any(|(column, _)| !column.is_fixed());
        any && match self.told {
            None => true,
            Some(told) => told.rows != now.rows || (told.cells != now.cells && Table::ALL.into_iter().any(changing)),
        }
    }

    /// What has changed since it was last told, which it then knows.
    pub(crate) fn tell(&mut self, request: u64, now: Version, source: &impl Source) -> Vec<PolicyPatch> {
        let told = self.told.replace(now);
        let (rows, cells) = match told {
            None => (true, true),
            Some(told) => (told.rows != now.rows, told.cells != now.cells),
        };
        let mut patches = Vec::new();
        for table in Table::ALL {
            let columns = self.columns.of_table(table);
            if !columns.is_told() {
                continue;
            }
            if rows {
                self.tables[table as usize].set(source.keys(table));
            }
            if cells && columns.reads.iter().any(|(column, _)| !column.is_fixed()) {
                self.tables[table as usize].touch_all();
            }
            let mut of_table = std::mem::take(&mut self.tables[table as usize]);
            let roles = &self.tables[Table::Roles as usize];
            let own = (table == Table::Roles).then(|| of_table.numbers());
            let number = |key: &Key| own.as_ref().map_or_else(|| roles.number(key), |own| own.get(key).copied());
            patches.extend(of_table.tell(request, table, columns, |key, column| source.cell(key, column, &number)));
            self.tables[table as usize] = of_table;
        }
        patches
    }

    /// What an answer ranks.
    pub(crate) fn read(&self, request: u64, answer: &[PolicyPatch]) -> Result<Vec<(Key, Rank)>, Nonsense> {
        let known = |table: Table, row: u32| self.tables[table as usize].is_known(row);
        let ranked = Ranked::read(answer, &self.columns, known)?;
        let of = |ranked: &Ranked| -> Vec<(Key, Rank)> {
            let rows = &self.tables[ranked.table as usize];
            ranked.of(rows, request).map(|(key, rank)| (key.clone(), rank)).collect()
        };
        Ok(ranked.iter().flat_map(of).collect())
    }

    /// A new instance of the policy knows nothing.
    pub(crate) fn forget(&mut self) {
        self.told = None;
        self.tables.iter_mut().for_each(Rows::forget);
    }
}
