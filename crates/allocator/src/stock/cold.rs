//! What an agent has beside plain scalars: ports and sets, uncounted scalars, and everything reserved or revocable.

use holm_model::{AgentId, Amount, Origin, Portions, PortionsError, Quantity, Resources, ResourcesError};

use crate::ChargeError;
use crate::roles::Node;

/// The cold part of one agent's books.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cold {
    total: Portions,
    free: Portions,
    held: Vec<(Node, Portions)>,
    /// Some of what is held is not in the total.
    over: bool,
}

/// Why cold resources could not be held.
#[derive(Debug)]
pub(crate) enum Clash {
    Portions(PortionsError),
    Overflow(holm_model::ResourceName),
}

impl Clash {
    pub(crate) fn charging(self, agent: AgentId) -> ChargeError {
        match self {
            Clash::Portions(source) => ChargeError::Conflict { agent, source: problem(source) },
            Clash::Overflow(name) => ChargeError::Overflow { agent, name },
        }
    }
}

fn problem(error: PortionsError) -> ResourcesError {
    match error {
        PortionsError::Origin { problem, .. } | PortionsError::Short { problem, .. } => problem,
        // Sums and differences look for no volume.
        PortionsError::Volume { .. } => ResourcesError::Kind(holm_model::ResourceName::Disk),
    }
}

impl Cold {
    pub(crate) fn of(total: Portions) -> Cold {
        Cold { free: total.clone(), total, held: Vec::new(), over: false }
    }

    pub(crate) fn total(&self) -> &Portions {
        &self.total
    }

    pub(crate) fn free(&self) -> &Portions {
        &self.free
    }

    pub(crate) fn held(&self, leaf: Node) -> Option<&Portions> {
        self.held.iter().find(|(other, _)| *other == leaf).map(|(_, portions)| portions)
    }

    pub(crate) fn holders(&self) -> impl Iterator<Item = Node> {
        self.held.iter().map(|(leaf, _)| *leaf)
    }

    /// Whether anything of it is reserved.
    pub(crate) fn has_reserved(&self) -> bool {
        // Reservations sort after the unreserved: the last or the one before it tells, but there are few anyway.
        self.total.iter().any(|(origin, _)| origin.reservation().is_some())
    }

    /// Replaces the total.
    pub(crate) fn replace(&mut self, total: Portions) {
        self.total = total;
        self.recompute();
    }

    pub(crate) fn charge(&mut self, leaf: Node, portions: &Portions) -> Result<(), Clash> {
        let fits = !self.over && (self.free == *portions || self.free.contains(portions));
        if !fits {
            self.check(portions)?;
        }
        let all = fits && self.free == *portions;
        match self.held.iter_mut().find(|(other, _)| *other == leaf) {
            Some((_, held)) => *held = held.plus(portions).map_err(Clash::Portions)?,
            // Often it is everything: then it moves over as it is.
            None if all => self.held.push((leaf, std::mem::take(&mut self.free))),
            None => self.held.push((leaf, portions.clone())),
        }
        if !fits {
            self.recompute();
        } else if all {
            self.free = Portions::EMPTY;
        } else {
            self.free = self.free.minus(portions).map_err(Clash::Portions)?;
        }
        Ok(())
    }

    /// Whether the agent can hold so much more, which it does not have free.
    fn check(&self, portions: &Portions) -> Result<(), Clash> {
        let sum = self.in_use();
        sum.plus(portions).map_err(Clash::Portions)?;
        for (origin, resources) in portions.iter() {
            let have = |name| sum.get(origin).map_or(0, |have| have.scalar(name).0);
            let overflows = |name, more: Amount| have(name).checked_add(more.0).is_none();
            if let Some((name, _)) = resources.iter_scalars().find(|(name, more)| overflows(name, *more)) {
                return Err(Clash::Overflow(name.clone()));
            }
        }
        Ok(())
    }

    pub(crate) fn release(&mut self, leaf: Node, portions: &Portions) -> Result<(), ResourcesError> {
        let place = self.held.iter().position(|(other, _)| *other == leaf);
        let Some(place) = place else { return Portions::EMPTY.minus(portions).map(drop).map_err(problem) };
        if self.held[place].1 == *portions {
            self.held.swap_remove(place);
        } else {
            let left = self.held[place].1.minus(portions).map_err(problem)?;
            self.held[place].1 = left;
        }
        if self.over {
            self.recompute();
        } else if self.free.is_empty() {
            self.free = portions.clone();
        } else {
            self.free = self.free.plus(portions).map_err(problem)?;
        }
        Ok(())
    }

    fn in_use(&self) -> Portions {
        let sum = |sum: Portions, (_, more): &(Node, Portions)| sum.plus(more).unwrap_or(sum);
        self.held.iter().fold(Portions::EMPTY, sum)
    }

    fn recompute(&mut self) {
        let in_use = self.in_use();
        self.over = !self.total.contains(&in_use);
        let items = in_use.total();
        let mut free = Portions::EMPTY;
        for (origin, resources) in self.total.iter() {
            let used = in_use.get(origin).cloned().unwrap_or_default();
            // Parts of a valid total stay valid beside each other.
            let _ = free.add(origin.clone(), &remaining(resources, &used, &items, origin));
        }
        self.free = free;
    }

    pub(crate) fn adds_up(&self) -> bool {
        let mut fresh = self.clone();
        fresh.recompute();
        let whole = self.over || self.free.plus(&self.in_use()).as_ref() == Ok(&self.total);
        whole
            && fresh.over == self.over
            && fresh.free == self.free
            && self.held.iter().all(|(_, held)| !held.is_empty())
    }
}

/// What is left of a part of the total: of amounts what is used of the same origin is gone, of items what is used of any.
/// A volume that is not all there is in use.
fn remaining(total: &Resources, used: &Resources, items: &Resources, origin: &Origin) -> Resources {
    let left = |name, whole: &Quantity| match (whole, items.get(name)) {
        (Quantity::Scalar(whole), _) => Quantity::Scalar(Amount(whole.0.saturating_sub(used.scalar(name).0))),
        (Quantity::Ranges(whole), Some(Quantity::Ranges(gone))) => Quantity::Ranges(whole.difference(gone)),
        (Quantity::Set(whole), Some(Quantity::Set(gone))) => Quantity::Set(whole.difference(gone).cloned().collect()),
        (whole, None) => whole.clone(),
        // Of a resource that changed its kind nothing is known to be free.
        (_, Some(_)) => Quantity::Scalar(Amount(0)),
    };
    let rest: Resources = total.iter().map(|(name, whole)| (name.clone(), left(name, whole))).collect();
    let whole = !matches!(origin, Origin::Volume(..)) || rest == *total;
    if whole { rest } else { Resources::EMPTY }
}
