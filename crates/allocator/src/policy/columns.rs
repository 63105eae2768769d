//! The names of tables and columns: what a policy may read and write.

use std::fmt;
use std::sync::Arc;

use holm_model::{
    MAX_POLICY_NAME_BYTES, MAX_POLICY_READS, MAX_POLICY_WRITES, PolicyDescription, PolicyValues, ResourceName,
};

/// The names of everything that a policy may read, for people; `R` stands for a scalar resource.
const READABLE: &str = "cluster.agents, cluster.total.R, roles.path, roles.parent, roles.weight, roles.share, roles.used.R, \
    roles.guarantee.R, roles.limit.R, leaves.role, leaves.framework, leaves.wants, leaves.share, leaves.used.R";

/// The names of everything that a policy may write, for people.
const WRITABLE: &str = "roles.rank, leaves.rank";

/// The column of an answer.
pub(crate) const RANK: &str = "rank";

/// What a policy says of itself cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DescriptionError {
    /// It has no name, or too long a one.
    #[error("the policy's name has {0} bytes; it has 1 to {MAX_POLICY_NAME_BYTES}")]
    Name(usize),
    /// It reads too much.
    #[error("the policy reads {0} columns; the limit is {MAX_POLICY_READS}")]
    TooManyReads(usize),
    /// It writes too much.
    #[error("the policy writes {0} columns; the limit is {MAX_POLICY_WRITES}")]
    TooManyWrites(usize),
    /// There is no such column.
    #[error("the policy reads {0:?}, which this master does not have; it has {READABLE}")]
    Reads(String),
    /// It names a column twice.
    #[error("the policy reads {0:?} twice")]
    ReadsTwice(String),
    /// There is no such column, or it is not a policy's to write.
    #[error("the policy writes {0:?}, which is none of what this master takes: {WRITABLE}")]
    Writes(String),
}

/// A table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Table {
    Cluster,
    Roles,
    Leaves,
}

impl Table {
    pub(crate) const ALL: [Table; 3] = [Table::Cluster, Table::Roles, Table::Leaves];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Table::Cluster => "cluster",
            Table::Roles => "roles",
            Table::Leaves => "leaves",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Table> {
        Table::ALL.into_iter().find(|table| table.as_str() == name)
    }
}

/// What a column of some table says.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Column {
    Agents,
    Total(ResourceName),
    Path,
    Parent,
    Weight,
    Share,
    Used(ResourceName),
    Guarantee(ResourceName),
    Limit(ResourceName),
    Role,
    Framework,
    Wants,
}

impl Column {
    /// The column of this name, if the table has it.
    fn named(table: Table, name: &str) -> Option<Column> {
        let (head, resource) = name.split_once('.').map_or((name, None), |(head, resource)| (head, Some(resource)));
        let resource = match resource {
            Some(name) => Some(name.parse::<ResourceName>().ok().filter(|name| *name != ResourceName::Ports)?),
            None => None,
        };
        Some(match (table, head, resource) {
            (Table::Cluster, "agents", None) => Column::Agents,
            (Table::Cluster, "total", Some(resource)) => Column::Total(resource),
            (Table::Roles, "path", None) => Column::Path,
            (Table::Roles, "parent", None) => Column::Parent,
            (Table::Roles, "weight", None) => Column::Weight,
            (Table::Roles | Table::Leaves, "share", None) => Column::Share,
            (Table::Roles | Table::Leaves, "used", Some(resource)) => Column::Used(resource),
            (Table::Roles, "guarantee", Some(resource)) => Column::Guarantee(resource),
            (Table::Roles, "limit", Some(resource)) => Column::Limit(resource),
            (Table::Leaves, "role", None) => Column::Role,
            (Table::Leaves, "framework", None) => Column::Framework,
            (Table::Leaves, "wants", None) => Column::Wants,
            _ => return None,
        })
    }

    /// Whether a row's cell stays what it is.
    pub(crate) fn is_fixed(&self) -> bool {
        use Column::{Framework, Parent, Path, Role};
        matches!(self, Path | Parent | Role | Framework)
    }

    /// An empty list of the kind of its cells.
    pub(crate) fn no_values(&self) -> PolicyValues {
        match self {
            Column::Path | Column::Framework => PolicyValues::Texts(Vec::new()),
            Column::Share => PolicyValues::Numbers(Vec::new()),
            _ => PolicyValues::Integers(Vec::new()),
        }
    }
}

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (head, resource) = match self {
            Column::Agents => ("agents", None),
            Column::Total(resource) => ("total", Some(resource)),
            Column::Path => ("path", None),
            Column::Parent => ("parent", None),
            Column::Weight => ("weight", None),
            Column::Share => ("share", None),
            Column::Used(resource) => ("used", Some(resource)),
            Column::Guarantee(resource) => ("guarantee", Some(resource)),
            Column::Limit(resource) => ("limit", Some(resource)),
            Column::Role => ("role", None),
            Column::Framework => ("framework", None),
            Column::Wants => ("wants", None),
        };
        match resource {
            Some(resource) => write!(f, "{head}.{}", resource.as_str()),
            None => f.write_str(head),
        }
    }
}

/// What a policy reads and writes of one table.
#[derive(Clone, Debug, Default)]
pub(crate) struct TableColumns {
    /// The columns it reads, with their names.
    pub(crate) reads: Vec<(Column, Arc<str>)>,
    /// Whether it ranks the rows.
    pub(crate) writes: bool,
}

impl TableColumns {
    /// Whether the policy is told of the table at all.
    pub(crate) fn is_told(&self) -> bool {
        self.writes || !self.reads.is_empty()
    }
}

/// What a policy reads and writes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Columns {
    tables: [TableColumns; 3],
}

impl Columns {
    /// What a description says, if it can be.
    pub(crate) fn of(description: &PolicyDescription) -> Result<Columns, DescriptionError> {
        let PolicyDescription { name, reads, writes } = description;
        if name.is_empty() || name.len() > MAX_POLICY_NAME_BYTES {
            return Err(DescriptionError::Name(name.len()));
        }
        if reads.len() > MAX_POLICY_READS {
            return Err(DescriptionError::TooManyReads(reads.len()));
        }
        if writes.len() > MAX_POLICY_WRITES {
            return Err(DescriptionError::TooManyWrites(writes.len()));
        }
        let mut columns = Columns::default();
        for name in reads {
            let column = split(name).and_then(|(table, column)| Some((table, Column::named(table, column)?)));
            let (table, column) = column.ok_or_else(|| DescriptionError::Reads(clipped(name)))?;
            let of_table = &mut columns.tables[table as usize].reads;
            if of_table.iter().any(|(known, _)| *known == column) {
                return Err(DescriptionError::ReadsTwice(clipped(name)));
            }
            let name = column.to_string().into();
            of_table.push((column, name));
        }
        for name in writes {
            match split(name) {
                Some((table @ (Table::Roles | Table::Leaves), RANK)) => {
                    columns.tables[table as usize].writes = true;
                }
                _ => return Err(DescriptionError::Writes(clipped(name))),
            }
        }
        Ok(columns)
    }

    pub(crate) fn of_table(&self, table: Table) -> &TableColumns {
        &self.tables[table as usize]
    }
}

fn split(name: &str) -> Option<(Table, &str)> {
    let (table, column) = name.split_once('.')?;
    Some((Table::named(table)?, column))
}

/// A foreign name that is fit to be shown.
fn clipped(name: &str) -> String {
    name.chars().take(MAX_POLICY_NAME_BYTES).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn description(reads: &[&str], writes: &[&str]) -> PolicyDescription {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        PolicyDescription { name: "test".to_owned(), reads: owned(reads), writes: owned(writes) }
    }

    #[test]
    fn every_column_that_is_offered_is_known_by_its_name() {
        let names: Vec<String> = READABLE.split(", ").map(|name| name.replace(".R", ".gpus")).collect();
        assert_eq!(names.len(), 14);
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let writes: Vec<&str> = WRITABLE.split(", ").collect();
        let columns = Columns::of(&description(&names, &writes)).unwrap();
        let mut found = Vec::new();
        for table in Table::ALL {
            let of_table = columns.of_table(table);
            assert_eq!(of_table.writes, table != Table::Cluster);
            found.extend(of_table.reads.iter().map(|(_, name)| format!("{}.{name}", table.as_str())));
        }
        assert_eq!(found, names);
    }

    #[test]
    fn what_this_master_does_not_have_is_refused_by_name() {
        for name in
            ["roles.colour", "roles.used", "roles.used.", "roles.used.ports", "leaves.path", "tasks.id", "path", ""]
        {
            let error = Columns::of(&description(&[name], &[])).unwrap_err();
            assert_eq!(error, DescriptionError::Reads(name.to_owned()));
            assert!(error.to_string().contains("it has cluster.agents, "), "{error}");
        }
        for name in ["cluster.rank", "roles.path", "roles.weight"] {
            let error = Columns::of(&description(&[], &[name])).unwrap_err();
            assert_eq!(error, DescriptionError::Writes(name.to_owned()));
        }
        let twice = Columns::of(&description(&["roles.path", "roles.path"], &[]));
        assert_eq!(twice.unwrap_err(), DescriptionError::ReadsTwice("roles.path".to_owned()));
        let many = ["roles.path"; 65];
        assert_eq!(Columns::of(&description(&many, &[])).unwrap_err(), DescriptionError::TooManyReads(65));
    }
}
