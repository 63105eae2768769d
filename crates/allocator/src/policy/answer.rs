//! What a policy answered: checked against what it was told, then turned into ranks.

use holm_model::{PolicyPatch, PolicyValues};

use super::columns::{Columns, RANK, Table};
use super::rows::Rows;

/// A place in an order: the smaller goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rank(u64);

impl Rank {
    /// The rank of whatever no answer has ranked: after everything that has one.
    pub const NONE: Rank = Rank(u64::MAX);

    /// The rank for a number; none for NaN and infinities.
    pub fn of(number: f64) -> Option<Rank> {
        // Adding zero makes the negative zero positive. Of what is left the bits are ordered as the numbers are, once the
        // negative ones are turned round and the others put above them.
        let bits = (number + 0.0).to_bits();
        let sign = 1 << 63;
        let ordered = if bits & sign == 0 { bits | sign } else { !bits };
        number.is_finite().then_some(Rank(ordered))
    }

    /// The number; none for [`Rank::NONE`].
    pub fn number(self) -> Option<f64> {
        let sign = 1 << 63;
        let bits = if self.0 & sign == 0 { !self.0 } else { self.0 & !sign };
        (self != Rank::NONE).then(|| f64::from_bits(bits))
    }
}

impl Default for Rank {
    fn default() -> Rank {
        Rank::NONE
    }
}

/// What makes no sense about an answer.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(crate) enum Nonsense {
    #[error("it has {0} patches; the limit is {limit}", limit = Table::ALL.len())]
    Patches(usize),
    #[error("it is about the table {0:?}, whose ranks the policy does not write")]
    Table(String),
    #[error("it has the column {column:?} of {table}; the policy writes {RANK}")]
    Column { table: &'static str, column: String },
    #[error("ranks of {table} are {kind}, not numbers")]
    Kind { table: &'static str, kind: &'static str },
    #[error("it has {cells} ranks for {rows} rows of {table}")]
    Length { table: &'static str, rows: usize, cells: usize },
    #[error("its rows of {table} do not ascend: {second} follows {first}")]
    Order { table: &'static str, first: u32, second: u32 },
    #[error("it ranks row {row} of {table}, which the policy was not told")]
    Row { table: &'static str, row: u32 },
    #[error("the rank of row {row} of {table} is {rank}; ranks are finite")]
    Rank { table: &'static str, row: u32, rank: f64 },
}

/// An answer about one table: rows, and their ranks from now on.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Ranked {
    pub(crate) table: Table,
    pub(crate) rows: Vec<(u32, Rank)>,
}

impl Ranked {
    /// Reads an answer; `is_known` says whether the policy was told of a row.
    pub(crate) fn read(
        answer: &[PolicyPatch],
        columns: &Columns,
        is_known: impl Fn(Table, u32) -> bool,
    ) -> Result<Vec<Ranked>, Nonsense> {
        if answer.len() > Table::ALL.len() {
            return Err(Nonsense::Patches(answer.len()));
        }
        let mut all = Vec::with_capacity(answer.len());
        for patch in answer {
            let written = Table::named(&patch.table).filter(|table| columns.of_table(*table).writes);
            let table = written.ok_or_else(|| Nonsense::Table(clipped(&patch.table)))?;
            let rows = read_patch(patch, table.as_str(), &|row| is_known(table, row))?;
            all.push(Ranked { table, rows });
        }
        Ok(all)
    }

    /// What the rows stand for, with their ranks. Rows that have gone since the policy was told of them are left out.
    pub(crate) fn of<'a, K: Ord + Clone>(
        &'a self,
        rows: &'a Rows<K>,
        request: u64,
    ) -> impl Iterator<Item = (&'a K, Rank)> + 'a {
        self.rows.iter().filter_map(move |(row, rank)| Some((rows.told(*row, request)?, *rank)))
    }
}

fn read_patch(
    patch: &PolicyPatch,
    table: &'static str,
    is_known: &dyn Fn(u32) -> bool,
) -> Result<Vec<(u32, Rank)>, Nonsense> {
    for rows in [&patch.removed, &patch.rows] {
        if let Some(pair) = rows.windows(2).find(|pair| pair[0] >= pair[1]) {
            return Err(Nonsense::Order { table, first: pair[0], second: pair[1] });
        }
        if let Some(row) = rows.iter().find(|row| !is_known(**row)) {
            return Err(Nonsense::Row { table, row: *row });
        }
    }
    let mut ranked: Vec<(u32, Rank)> = patch.removed.iter().map(|row| (*row, Rank::NONE)).collect();
    for column in &patch.columns {
        if &*column.name != RANK {
            return Err(Nonsense::Column { table, column: clipped(&column.name) });
        }
        let PolicyValues::Numbers(ranks) = &column.values else {
            return Err(Nonsense::Kind { table, kind: column.values.kind() });
        };
        if ranks.len() != patch.rows.len() {
            return Err(Nonsense::Length { table, rows: patch.rows.len(), cells: ranks.len() });
        }
        for (row, number) in patch.rows.iter().zip(ranks) {
            let rank = Rank::of(*number).ok_or(Nonsense::Rank { table, row: *row, rank: *number })?;
            ranked.push((*row, rank));
        }
    }
    Ok(ranked)
}

/// A foreign name that is fit to be shown.
fn clipped(name: &str) -> String {
    name.chars().take(64).collect()
}
