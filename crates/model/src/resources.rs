//! Resource vectors and their arithmetic. No floats: scalars are fixed point (see [`Amount`]).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::{Amount, Ranges, ResourceName};

/// How much of one resource.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Quantity {
    /// An amount, such as 2.5 `cpus`.
    Scalar(Amount),
    /// Numbers, such as `ports:[31000-32000]`.
    Ranges(Ranges),
    /// Names, such as `licences:{a,b}`.
    Set(BTreeSet<Arc<str>>),
}

/// A bundle of resources. An absent resource is a zero one: a bundle never holds an empty quantity.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Resources(BTreeMap<ResourceName, Quantity>);

/// Why two bundles could not be combined.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResourcesError {
    /// The subtrahend is not contained.
    #[error("{name}: {asked} asked, {available} available")]
    Insufficient {
        /// The first resource that is short.
        name: ResourceName,
        /// How much was asked.
        asked: String,
        /// How much there is.
        available: String,
    },
    /// One bundle has a scalar where the other has ranges or a set.
    #[error("{0} is a scalar on one side and not on the other")]
    Kind(ResourceName),
    /// Both bundles hold the same port or name.
    #[error("{0}: the same item is held twice")]
    Overlap(ResourceName),
}

impl Quantity {
    /// Whether there is nothing of it.
    pub fn is_empty(&self) -> bool {
        match self {
            Quantity::Scalar(amount) => amount.0 == 0,
            Quantity::Ranges(ranges) => ranges.is_empty(),
            Quantity::Set(items) => items.is_empty(),
        }
    }

    fn contains(&self, other: &Quantity) -> bool {
        match (self, other) {
            (Quantity::Scalar(have), Quantity::Scalar(asked)) => have >= asked,
            (Quantity::Ranges(have), Quantity::Ranges(asked)) => have.contains(asked),
            (Quantity::Set(have), Quantity::Set(asked)) => have.is_superset(asked),
            _ => other.is_empty(),
        }
    }

    pub(crate) fn plus(&self, name: &ResourceName, other: &Quantity) -> Result<Quantity, ResourcesError> {
        match (self, other) {
            (Quantity::Scalar(a), Quantity::Scalar(b)) => Ok(Quantity::Scalar(Amount(a.0.saturating_add(b.0)))),
            (Quantity::Ranges(a), Quantity::Ranges(b)) => {
                let union = a.union(b);
                let disjoint = union.len() == a.len().saturating_add(b.len());
                disjoint.then_some(Quantity::Ranges(union)).ok_or_else(|| ResourcesError::Overlap(name.clone()))
            }
            (Quantity::Set(a), Quantity::Set(b)) => {
                let disjoint = a.is_disjoint(b);
                let union = Quantity::Set(a.union(b).cloned().collect());
                disjoint.then_some(union).ok_or_else(|| ResourcesError::Overlap(name.clone()))
            }
            _ => Err(ResourcesError::Kind(name.clone())),
        }
    }

    /// What both have; nothing when one is a scalar and the other is not.
    fn common(&self, other: &Quantity) -> Quantity {
        match (self, other) {
            (Quantity::Scalar(a), Quantity::Scalar(b)) => Quantity::Scalar(*a.min(b)),
            (Quantity::Ranges(a), Quantity::Ranges(b)) => Quantity::Ranges(a.difference(&a.difference(b))),
            (Quantity::Set(a), Quantity::Set(b)) => Quantity::Set(a.intersection(b).cloned().collect()),
            _ => Quantity::Scalar(Amount(0)),
        }
    }

    /// Assumes that `other` is contained.
    fn minus(&self, other: &Quantity) -> Quantity {
        match (self, other) {
            (Quantity::Scalar(a), Quantity::Scalar(b)) => Quantity::Scalar(Amount(a.0.saturating_sub(b.0))),
            (Quantity::Ranges(a), Quantity::Ranges(b)) => Quantity::Ranges(a.difference(b)),
            (Quantity::Set(a), Quantity::Set(b)) => Quantity::Set(a.difference(b).cloned().collect()),
            _ => self.clone(),
        }
    }
}

impl Resources {
    /// Nothing.
    pub const EMPTY: Resources = Resources(BTreeMap::new());

    /// The bundle of these scalars.
    pub fn scalars(scalars: impl IntoIterator<Item = (ResourceName, u64)>) -> Resources {
        let quantities = scalars.into_iter().map(|(name, raw)| (name, Quantity::Scalar(Amount(raw))));
        quantities.collect()
    }

    /// Whether there is nothing in the bundle.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The resources, predefined names first.
    pub fn iter(&self) -> impl Iterator<Item = (&ResourceName, &Quantity)> {
        self.0.iter()
    }

    /// The scalar resources, predefined names first.
    pub fn iter_scalars(&self) -> impl Iterator<Item = (&ResourceName, Amount)> {
        self.0.iter().filter_map(|(name, quantity)| match quantity {
            Quantity::Scalar(amount) => Some((name, *amount)),
            Quantity::Ranges(_) | Quantity::Set(_) => None,
        })
    }

    /// The quantity of `name`, if there is any.
    pub fn get(&self, name: &ResourceName) -> Option<&Quantity> {
        self.0.get(name)
    }

    /// The scalar amount of `name`; zero when absent or not a scalar.
    pub fn scalar(&self, name: &ResourceName) -> Amount {
        match self.0.get(name) {
            Some(Quantity::Scalar(amount)) => *amount,
            _ => Amount(0),
        }
    }

    /// Replaces the quantity of `name`; an empty quantity removes it.
    pub fn set(&mut self, name: ResourceName, quantity: Quantity) {
        if quantity.is_empty() {
            self.0.remove(&name);
        } else {
            self.0.insert(name, quantity);
        }
    }

    /// Whether everything in `other` is also here, item by item for ranges and sets.
    pub fn contains(&self, other: &Resources) -> bool {
        other.0.iter().all(|(name, asked)| self.0.get(name).is_some_and(|have| have.contains(asked)))
    }

    /// The sum.
    ///
    /// # Errors
    /// When both hold the same port or set item, or disagree on a resource's kind. Scalars saturate.
    pub fn plus(&self, other: &Resources) -> Result<Resources, ResourcesError> {
        let mut sum = self.clone();
        for (name, added) in &other.0 {
            let quantity = match sum.0.get(name) {
                Some(have) => have.plus(name, added)?,
                None => added.clone(),
            };
            sum.set(name.clone(), quantity);
        }
        Ok(sum)
    }

    /// The difference.
    ///
    /// # Errors
    /// [`ResourcesError::Insufficient`] names the first resource of which `other` has more.
    pub fn minus(&self, other: &Resources) -> Result<Resources, ResourcesError> {
        if let Some((name, asked)) = self.shortage(other) {
            let have = self.0.get(&name).cloned().unwrap_or(Quantity::Scalar(Amount(0)));
            let show = |quantity: &Quantity| crate::resources_text::show_quantity(&name, quantity);
            let (asked, available) = (show(&asked), show(&have));
            return Err(ResourcesError::Insufficient { name, asked, available });
        }
        let mut rest = self.clone();
        for (name, taken) in &other.0 {
            let left = self.0.get(name).map(|have| have.minus(taken));
            rest.set(name.clone(), left.unwrap_or(Quantity::Scalar(Amount(0))));
        }
        Ok(rest)
    }

    /// What both bundles have: the smaller scalar, the items in both.
    pub fn common(&self, other: &Resources) -> Resources {
        let both = |(name, asked): (&ResourceName, &Quantity)| Some((name.clone(), self.0.get(name)?.common(asked)));
        other.0.iter().filter_map(both).collect()
    }

    /// The first resource of which `asked` has more than this bundle, with how much it asks.
    pub fn shortage(&self, asked: &Resources) -> Option<(ResourceName, Quantity)> {
        let short =
            |name: &ResourceName, quantity: &Quantity| !self.0.get(name).is_some_and(|have| have.contains(quantity));
        asked
            .0
            .iter()
            .find(|(name, quantity)| short(name, quantity))
            .map(|(name, quantity)| (name.clone(), quantity.clone()))
    }

    /// `count` times the scalars of this bundle, saturating; `None` when it has ranges or sets and `count` is not 1,
    /// because two tasks cannot share a port.
    pub fn times(&self, count: u32) -> Option<Resources> {
        if count == 1 {
            return Some(self.clone());
        }
        let scaled = |quantity: &Quantity| match quantity {
            Quantity::Scalar(amount) => Some(Quantity::Scalar(Amount(amount.0.saturating_mul(count.into())))),
            Quantity::Ranges(_) | Quantity::Set(_) => None,
        };
        self.0.iter().map(|(name, quantity)| Some((name.clone(), scaled(quantity)?))).collect()
    }

    /// How many bundles of the scalars of `shape` fit, at most `most`.
    pub fn count_fitting(&self, shape: &Resources, most: u32) -> u32 {
        let fitting = |(name, amount): (&ResourceName, Amount)| self.scalar(name).0.checked_div(amount.0);
        let scarcest = shape.iter_scalars().filter_map(fitting).min();
        let fits_once = u64::from(self.contains(shape));
        let has_items = shape.0.values().any(|quantity| !matches!(quantity, Quantity::Scalar(_)));
        let most_wide = u64::from(most);
        let bound = if has_items { fits_once } else { scarcest.unwrap_or(most_wide) };
        u32::try_from(bound.min(most_wide)).unwrap_or(most)
    }
}

impl FromIterator<(ResourceName, Quantity)> for Resources {
    fn from_iter<I: IntoIterator<Item = (ResourceName, Quantity)>>(quantities: I) -> Resources {
        Resources(quantities.into_iter().filter(|(_, quantity)| !quantity.is_empty()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(text: &str) -> Resources {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_taken_comes_back() {
        let whole = spec("cpus:4;mem:8GiB;ports:[31000-31009];licences:{a,b}");
        let part = spec("cpus:1.5;ports:[31003-31004];licences:{b}");
        let rest = whole.minus(&part).unwrap();
        assert_eq!(rest, spec("cpus:2.5;mem:8GiB;ports:[31000-31002,31005-31009];licences:{a}"));
        assert_eq!(rest.plus(&part), Ok(whole));
    }

    #[test]
    fn taking_everything_leaves_the_empty_bundle() {
        let whole = spec("cpus:4;ports:[1-2];x:{a}");
        assert_eq!(whole.minus(&whole), Ok(Resources::EMPTY));
    }

    #[test]
    fn a_shortage_is_named_with_both_amounts() {
        let error = spec("cpus:1;mem:1GiB").minus(&spec("cpus:1;mem:2GiB")).unwrap_err();
        assert_eq!(error.to_string(), "mem: 2GiB asked, 1GiB available");
        let error = spec("cpus:1").minus(&spec("gpus:1")).unwrap_err();
        assert_eq!(error.to_string(), "gpus: 1 asked, 0 available");
    }

    #[test]
    fn the_same_port_is_not_given_twice() {
        let ports = spec("ports:[5-6]");
        assert_eq!(ports.plus(&spec("ports:[6-7]")), Err(ResourcesError::Overlap(ResourceName::Ports)));
        assert_eq!(ports.times(2), None);
        assert_eq!(ports.times(1), Some(ports.clone()));
    }

    #[test]
    fn fitting_counts_the_scarcest_resource() {
        let agent = spec("cpus:9;mem:18GiB");
        assert_eq!(agent.count_fitting(&spec("cpus:1;mem:4GiB"), 100), 4);
        assert_eq!(agent.count_fitting(&spec("cpus:1;mem:1KiB"), 5), 5);
        assert_eq!(agent.count_fitting(&spec("gpus:1"), 5), 0);
        assert_eq!(spec("ports:[1-9];cpus:3").count_fitting(&spec("ports:[2-2];cpus:1"), 5), 1);
    }
}
