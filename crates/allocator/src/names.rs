//! Names of scalar resources as small numbers, so that amounts are plain arrays.

use std::collections::BTreeMap;

use holm_model::{ResourceName, Resources};

/// Most scalar resources that are counted in shares and can have a quota: `cpus`, `mem`, `disk`, `gpus` and the first
/// twelve others that an agent or a quota names. Any further one is offered and booked like ports are, and counts nowhere.
pub const MAX_SCALARS: usize = 16;

/// Amounts by number.
pub(crate) type Amounts = [u64; MAX_SCALARS];

/// Nothing of anything.
pub(crate) const NOTHING: Amounts = [0; MAX_SCALARS];

/// How many names are predefined scalars.
const PREDEFINED: usize = 4;

/// The number of `gpus`.
pub(crate) const GPUS: usize = 3;

/// The numbers of names; a name keeps its number.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    names: Vec<ResourceName>,
    others: BTreeMap<ResourceName, usize>,
}

impl Names {
    pub(crate) fn new() -> Names {
        let names = vec![ResourceName::Cpus, ResourceName::Mem, ResourceName::Disk, ResourceName::Gpus];
        Names { names, others: BTreeMap::new() }
    }

    /// How many names have a number.
    pub(crate) fn len(&self) -> usize {
        self.names.len()
    }

    /// The number of a name.
    pub(crate) fn find(&self, name: &ResourceName) -> Option<usize> {
        match name {
            ResourceName::Cpus => Some(0),
            ResourceName::Mem => Some(1),
            ResourceName::Disk => Some(2),
            ResourceName::Gpus => Some(GPUS),
            other => self.others.get(other).copied(),
        }
    }

    /// The number of a name, given now if there is room.
    pub(crate) fn intern(&mut self, name: &ResourceName) -> Option<usize> {
        self.find(name).or_else(|| {
            let number = self.names.len();
            (number < MAX_SCALARS).then(|| {
                self.names.push(name.clone());
                self.others.insert(name.clone(), number);
                number
            })
        })
    }

    /// The name of a number that was given.
    pub(crate) fn name(&self, number: usize) -> &ResourceName {
        &self.names[number]
    }

    /// The numbers, their names in the order of listings.
    pub(crate) fn ordered(&self) -> impl Iterator<Item = (usize, &ResourceName)> {
        let others = self.others.iter().map(|(name, number)| (*number, name));
        self.names[..PREDEFINED].iter().enumerate().chain(others)
    }

    /// Adds the counted scalars of a bundle, saturating.
    pub(crate) fn add_to(&self, amounts: &mut Amounts, resources: &Resources) {
        for (name, amount) in resources.iter_scalars() {
            if let Some(number) = self.find(name) {
                amounts[number] = amounts[number].saturating_add(amount.0);
            }
        }
    }

    /// The counted scalars of a bundle.
    pub(crate) fn amounts(&self, resources: &Resources) -> Amounts {
        let mut amounts = NOTHING;
        self.add_to(&mut amounts, resources);
        amounts
    }

    /// Amounts as a bundle.
    pub(crate) fn resources(&self, amounts: &[u64]) -> Resources {
        let present = |(number, name): (usize, &ResourceName)| {
            let amount = amounts.get(number).copied().filter(|amount| *amount > 0)?;
            Some((name.clone(), amount))
        };
        Resources::scalars(self.ordered().filter_map(present))
    }
}
