//! The policy of this allocator: what it is told, and the ranks that it gave.

use holm_model::{PolicyDescription, PolicyFailure, PolicyPatch};

use crate::Allocator;
use crate::policy::{Cell, Column, DescriptionError, Inputs, Key, Rank, Source, Table, Version};
use crate::roles::{Kind, Node};

impl Allocator {
    /// Has a policy with this description order siblings from now on. Until it has ranked, the order is the built-in one.
    ///
    /// # Errors
    /// When the policy wants what there is not; nothing has changed then.
    pub fn set_policy(&mut self, description: &PolicyDescription) -> Result<(), DescriptionError> {
        let inputs = Inputs::of(description)?;
        self.forget_ranks();
        self.policy = Some(inputs);
        Ok(())
    }

    /// Whether there may be something to tell the policy.
    pub fn policy_is_stale(&self) -> bool {
        self.policy.as_ref().is_some_and(|inputs| inputs.is_stale(self.policy_version()))
    }

    /// What has changed since the policy was last told, which it then knows. `request` is larger than in all calls before.
    pub fn tell_policy(&mut self, request: u64) -> Vec<PolicyPatch> {
        let Some(mut inputs) = self.policy.take() else { return Vec::new() };
        let patches = inputs.tell(request, self.policy_version(), self);
        self.policy = Some(inputs);
        patches
    }

    /// Takes the policy's answer to `request`, the latest one, and orders by it.
    ///
    /// # Errors
    /// [`PolicyFailure::Nonsense`]; nothing has changed then.
    pub fn take_ranks(&mut self, request: u64, answer: &[PolicyPatch]) -> Result<(), PolicyFailure> {
        let Some(inputs) = &self.policy else { return Ok(()) };
        let ranks = inputs.read(request, answer).map_err(|nonsense| PolicyFailure::Nonsense(nonsense.to_string()))?;
        for (key, rank) in ranks {
            if let Some(node) = self.node_of(&key) {
                self.roles.set_rank(node, rank);
            }
        }
        Ok(())
    }

    /// Orders as without a policy, and has the policy told everything again.
    pub fn forget_ranks(&mut self) {
        self.roles.forget_ranks();
        self.policy.iter_mut().for_each(Inputs::forget);
    }

    /// The rows of a table that the policy ranks, by rank and name.
    pub(crate) fn ranks(&self, table: Table) -> Vec<(Rank, String)> {
        if self.policy.as_ref().is_none_or(|inputs| !inputs.writes(table)) {
            return Vec::new();
        }
        let ranked = |key: Key| {
            let node = self.node_of(&key)?;
            let role = self.roles.role_of(node).map(ToString::to_string)?;
            let name = match self.roles.node(node).kind {
                Kind::Framework(framework) => format!("{framework} in {role}"),
                _ => role,
            };
            Some((self.roles.rank(node), name))
        };
        let mut ranks: Vec<_> = self.keys(table).into_iter().filter_map(ranked).collect();
        ranks.sort();
        ranks
    }

    fn policy_version(&self) -> Version {
        self.roles.version
    }

    /// The node that a key stands for, if it is still there.
    fn node_of(&self, key: &Key) -> Option<Node> {
        match key {
            Key::Node(number, born) => {
                (self.roles.len() > *number as usize && self.roles.born(*number) == *born).then_some(*number)
            }
            Key::Cluster => None,
        }
    }

    fn node_cell(&self, node: Node, column: &Column, number: &dyn Fn(&Key) -> Option<u32>) -> Cell {
        let roles = &self.roles;
        let key = |node: Node| Key::Node(node, roles.born(node));
        let row = |node: Option<Node>| {
            let row = node.and_then(|node| number(&key(node)));
            Cell::Integer(row.map_or(-1, i64::from))
        };
        let amount = |name, of: &dyn Fn(usize) -> Option<u128>, none: i64| {
            self.stock.names.find(name).and_then(of).map_or(Cell::Integer(none), Cell::amount)
        };
        let bound = |pairs: &[(usize, u64)], wanted: usize| {
            pairs.iter().find(|(r, _)| *r == wanted).map(|(_, amount)| u128::from(*amount))
        };
        let is_role = |node: &Node| matches!(roles.node(*node).kind, Kind::Role(_));
        match column {
            Column::Path => Cell::Text(roles.role_of(node).map_or_else(|| "".into(), |role| role.as_str().into())),
            Column::Framework => match roles.node(node).kind {
                Kind::Framework(framework) => Cell::Text(framework.to_string().into()),
                _ => Cell::Text("".into()),
            },
            Column::Role => row(roles.up(node).find(is_role)),
            Column::Parent => row(roles.up(node).skip(1).find(is_role)),
            Column::Weight => Cell::Integer(i64::from(roles.node(node).weight().get())),
            Column::Share => Cell::Number(self.largest_part(node)),
            Column::Used(name) => amount(name, &|r| roles.used(node).get(r).copied(), 0),
            Column::Guarantee(name) => amount(name, &|r| bound(&roles.bounds(node)?.guarantee, r), 0),
            Column::Limit(name) => amount(name, &|r| bound(&roles.bounds(node)?.limit, r), -1),
            Column::Wants => Cell::Integer(i64::from(roles.node(node).is_wanting())),
            Column::Agents | Column::Total(_) => Cell::Integer(0),
        }
    }

    /// The largest part that a node has of any resource that counts.
    #[expect(clippy::cast_precision_loss, reason = "a share for a policy to look at")]
    fn largest_part(&self, node: Node) -> f64 {
        let amounts: Vec<u64> =
            self.roles.used(node).iter().map(|used| u64::try_from(*used).unwrap_or(u64::MAX)).collect();
        self.roles.share_of(&amounts) as f64 / (1u64 << 48) as f64
    }
}

impl Source for Allocator {
    fn keys(&self, table: Table) -> Vec<Key> {
        let of = |wanted: fn(&Kind) -> bool| {
            let nodes = self.roles.all().filter(move |(_, record)| wanted(&record.kind));
            nodes.map(|(node, _)| Key::Node(node, self.roles.born(node))).collect()
        };
        match table {
            Table::Cluster => vec![Key::Cluster],
            Table::Roles => of(|kind| matches!(kind, Kind::Role(_))),
            Table::Leaves => of(|kind| matches!(kind, Kind::Framework(_))),
        }
    }

    fn cell(&self, key: &Key, column: &Column, number: &dyn Fn(&Key) -> Option<u32>) -> Cell {
        match (key, column) {
            (Key::Node(node, _), column) => self.node_cell(*node, column, number),
            (Key::Cluster, Column::Total(name)) => {
                let total = self.stock.names.find(name).map(|r| self.roles.capacity(r));
                Cell::amount(total.unwrap_or(0))
            }
            (Key::Cluster, _) => Cell::Integer(i64::try_from(self.stock.slots().count()).unwrap_or(i64::MAX)),
        }
    }
}
