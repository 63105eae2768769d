//! Sums of scalar resources over many agents. Wider than a model amount, so that sums never saturate and subtracting
//! always undoes adding.

use std::collections::BTreeMap;

use holm_model::{ResourceName, Resources};

/// Scalar sums by resource; a zero sum is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Scalars(BTreeMap<ResourceName, u128>);

impl Scalars {
    /// Adds the scalars of `resources`.
    pub(crate) fn add(&mut self, resources: &Resources) {
        for (name, amount) in resources.iter_scalars() {
            match self.0.get_mut(name) {
                Some(sum) => *sum += u128::from(amount.0),
                None => drop(self.0.insert(name.clone(), amount.0.into())),
            }
        }
    }

    /// Takes off the scalars of `resources`, which were added before.
    pub(crate) fn subtract(&mut self, resources: &Resources) {
        for (name, amount) in resources.iter_scalars() {
            let left = self.get(name).saturating_sub(amount.0.into());
            if left == 0 {
                self.0.remove(name);
            } else if let Some(sum) = self.0.get_mut(name) {
                *sum = left;
            }
        }
    }

    /// Adds other sums.
    pub(crate) fn merge(&mut self, other: &Scalars) {
        for (name, amount) in &other.0 {
            *self.0.entry(name.clone()).or_default() += amount;
        }
    }

    /// The sum of one resource.
    pub(crate) fn get(&self, name: &ResourceName) -> u128 {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// The sums that are not zero, predefined names first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&ResourceName, u128)> {
        self.0.iter().map(|(name, sum)| (name, *sum))
    }

    /// The sums as resources, each cut off at 64 bits; for display only.
    pub(crate) fn to_resources(&self) -> Resources {
        Resources::scalars(self.iter().map(|(name, sum)| (name.clone(), u64::try_from(sum).unwrap_or(u64::MAX))))
    }
}
