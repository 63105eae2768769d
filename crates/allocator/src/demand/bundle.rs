//! One bundle of a demand, and how often it fits.

use holm_model::{Demand, Quantity, ResourceName, Resources};

/// What one task of a demand needs: amounts, and a number of ports whichever they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// The amounts.
    pub shape: Resources,
    /// How many ports.
    pub ports: u32,
}

impl Bundle {
    /// The bundle of a demand.
    pub fn of(demand: &Demand) -> Bundle {
        Bundle { shape: demand.shape.clone(), ports: demand.ports }
    }

    /// How many bundles fit in `free`, at most `most`.
    pub fn fits(&self, free: &Resources, most: u32) -> u32 {
        let fitting = free.count_fitting(&self.shape, most);
        if self.ports == 0 || fitting == 0 {
            return fitting;
        }
        let ports = match free.get(&ResourceName::Ports) {
            Some(Quantity::Ranges(ranges)) => ranges.len() / u64::from(self.ports),
            _ => 0,
        };
        fitting.min(u32::try_from(ports).unwrap_or(u32::MAX))
    }

    /// `count` bundles out of `free`, with its lowest ports; none when they do not fit.
    pub fn part_of(&self, free: &Resources, count: u32) -> Option<Resources> {
        if self.fits(free, count) < count {
            return None;
        }
        let mut part = self.shape.times(count)?;
        let wanted = u64::from(self.ports) * u64::from(count);
        if let Some(Quantity::Ranges(ports)) = free.get(&ResourceName::Ports).filter(|_| wanted > 0) {
            part.set(ResourceName::Ports, Quantity::Ranges(ports.take(wanted)));
        }
        Some(part)
    }

    /// What of `free` brings `have` closer to `count` bundles.
    pub(crate) fn missing_of(&self, free: &Resources, have: &Resources, count: u32) -> Resources {
        let goal = self.shape.times(count).unwrap_or_default();
        let amounts = goal.iter_scalars().map(|(name, goal)| {
            let missing = goal.0.saturating_sub(have.scalar(name).0);
            (name.clone(), missing.min(free.scalar(name).0))
        });
        let mut part = Resources::scalars(amounts);
        let held = match have.get(&ResourceName::Ports) {
            Some(Quantity::Ranges(ports)) => ports.len(),
            _ => 0,
        };
        let missing = (u64::from(self.ports) * u64::from(count)).saturating_sub(held);
        if let Some(Quantity::Ranges(ports)) = free.get(&ResourceName::Ports) {
            part.set(ResourceName::Ports, Quantity::Ranges(ports.take(missing)));
        }
        part
    }

    /// The resource of which `free` has too little for one bundle, for people.
    pub fn short_of(&self, free: &Resources) -> Option<ResourceName> {
        let amount = free.shortage(&self.shape).map(|(name, _)| name);
        amount.or_else(|| (self.fits(free, 1) == 0).then_some(ResourceName::Ports))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(text: &str) -> Resources {
        text.parse().unwrap()
    }

    #[test]
    fn a_part_is_a_multiple_of_the_shape_with_the_lowest_ports() {
        let bundle = Bundle { shape: spec("cpus:1;mem:1GiB"), ports: 2 };
        let free = spec("cpus:8;mem:5GiB;ports:[31000-31002,31005-31009]");
        assert_eq!(bundle.fits(&free, 100), 4, "eight ports are enough for four");
        assert_eq!(bundle.part_of(&free, 2), Some(spec("cpus:2;mem:2GiB;ports:[31000-31002,31005-31005]")));
        assert_eq!(bundle.part_of(&free, 5), None);
        assert_eq!(bundle.short_of(&spec("cpus:1;mem:1GiB;ports:[1-1]")), Some(ResourceName::Ports));
        assert_eq!(bundle.short_of(&spec("mem:1GiB;ports:[1-9]")), Some(ResourceName::Cpus));
        assert_eq!(bundle.short_of(&free), None);
    }

    #[test]
    fn what_is_missing_is_taken_from_what_is_free_and_no_more() {
        let bundle = Bundle { shape: spec("cpus:4;mem:4GiB"), ports: 1 };
        let have = spec("cpus:3;ports:[7-7]");
        assert_eq!(bundle.missing_of(&spec("cpus:9;mem:1GiB;gpus:1;ports:[8-9]"), &have, 1), spec("cpus:1;mem:1GiB"));
    }
}
