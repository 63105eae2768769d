//! Dominant shares and their order.

use std::collections::BTreeSet;
use std::num::NonZeroU32;

use holm_model::{ResourceName, Resources};

use crate::scalars::Scalars;

/// The weight of whoever was given none, in thousandths.
pub(crate) const DEFAULT_WEIGHT: NonZeroU32 = NonZeroU32::new(1000).expect("1000 is not zero");

/// Binary places of a [`Share`].
const PLACES: u32 = 48;

/// The widest total, in bits, for which `used * 1000 << PLACES` fits 128 bits.
const TOTAL_BITS: u32 = 128 - 10 - PLACES;

/// A dominant share divided by a weight, in units of 2^-48, rounded down.
///
/// A fixed-point number rather than a fraction so that it sorts by itself. Equal fractions give equal shares, whatever
/// resource they come from, so that exact ties stay ties; fractions closer than 2^-48 may tie too, and are then decided
/// like other ties.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Share(u128);

impl Share {
    /// `used / total / weight`; zero when there is none of the resource.
    fn of(used: u128, total: u128, weight: NonZeroU32) -> Share {
        if total == 0 {
            return Share(0);
        }
        // A cluster of more than 2^70 bytes loses low bits of both, which keeps the order to within the resolution.
        let excess = (u128::BITS - total.max(used).leading_zeros()).saturating_sub(TOTAL_BITS);
        let (used, total) = (used >> excess, (total >> excess).max(1));
        let scaled = (used * u128::from(DEFAULT_WEIGHT.get())) << PLACES;
        Share(scaled / (total * u128::from(weight.get())))
    }
}

/// Everything the registered agents have, against which shares are measured.
#[derive(Clone, Debug, Default)]
pub(crate) struct Capacity {
    totals: Scalars,
    excluded: BTreeSet<ResourceName>,
    version: u64,
}

impl Capacity {
    pub(crate) fn new(excluded: BTreeSet<ResourceName>) -> Capacity {
        Capacity { totals: Scalars::default(), excluded, version: 0 }
    }

    /// Changes with every change of the totals: ranks computed under another version are stale.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    pub(crate) fn totals(&self) -> &Scalars {
        &self.totals
    }

    /// An agent's total goes from `before` to `after`.
    pub(crate) fn replace(&mut self, before: &Resources, after: &Resources) {
        self.totals.subtract(before);
        self.totals.add(after);
        self.version += 1;
    }

    fn counted<'a>(&'a self, used: &'a Scalars) -> impl Iterator<Item = (&'a ResourceName, u128, u128)> {
        let counts = |(name, used): (&'a ResourceName, u128)| {
            let total = self.totals.get(name);
            (total > 0 && !self.excluded.contains(name)).then_some((name, used, total))
        };
        used.iter().filter_map(counts)
    }

    /// The dominant share of `used`, divided by `weight`.
    pub(crate) fn share(&self, used: &Scalars, weight: NonZeroU32) -> Share {
        self.counted(used).map(|(_, used, total)| Share::of(used, total, weight)).max().unwrap_or_default()
    }

    /// The resource with the dominant share of `used`, how much is used and how much there is. Among equals, the first.
    pub(crate) fn dominant<'a>(&'a self, used: &'a Scalars) -> Option<(&'a ResourceName, u128, u128)> {
        let share = |used, total| Share::of(used, total, DEFAULT_WEIGHT);
        self.counted(used).reduce(|best, next| if share(next.1, next.2) > share(best.1, best.2) { next } else { best })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weight(thousandths: u32) -> NonZeroU32 {
        NonZeroU32::new(thousandths).unwrap()
    }

    #[test]
    fn equal_fractions_tie_whatever_their_terms() {
        for (a, b) in [((4, 18), (2, 9)), ((12 << 30, 18 << 30), (6000, 9000)), ((1, 3), (1 << 60, 3 << 60))] {
            assert_eq!(Share::of(a.0, a.1, DEFAULT_WEIGHT), Share::of(b.0, b.1, DEFAULT_WEIGHT));
        }
        assert_eq!(Share::of(6, 9, weight(2000)), Share::of(3, 9, weight(1000)));
        assert_eq!(Share::of(1, 9, weight(500)), Share::of(2, 9, weight(1000)));
    }

    #[test]
    fn close_fractions_are_told_apart_at_any_magnitude() {
        let whole = 1u128 << 50;
        assert!(Share::of(whole / 3, whole, DEFAULT_WEIGHT) < Share::of(whole / 3 + 4, whole, DEFAULT_WEIGHT));
        let huge = u128::from(u64::MAX) << 20;
        assert!(Share::of(huge / 3, huge, weight(1)) < Share::of(huge / 2, huge, weight(1)));
        assert!(Share::of(huge, 1, weight(u32::MAX)) > Share::of(1, huge, weight(u32::MAX)));
        assert_eq!(Share::of(5, 0, weight(1)), Share::default());
    }
}
