//! On which agents a demand is served: pure choices over what is free.

use holm_model::Placement;

use super::ground::Slot;

/// An agent on which something of a demand fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spot {
    /// The agent, by its number in the allocator.
    pub(crate) agent: Slot,
    /// How many bundles fit there.
    pub(crate) fits: u32,
    /// Whether it has something scarce that the demand has no use for: taken only when nothing else will do.
    pub(crate) spares: bool,
    /// How much is free there, as a share of the cluster.
    pub(crate) free: u64,
}

/// A source of numbers that are the same in every run with the same seed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Draws(u64);

impl Draws {
    pub(crate) fn new(seed: u64) -> Draws {
        Draws(seed)
    }

    /// The next number (SplitMix64).
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

/// Brings spots in the order in which `placement` uses them.
fn order(spots: &mut Vec<Spot>, placement: Placement, draws: &mut Draws) {
    spots.retain(|spot| spot.fits > 0);
    match placement {
        Placement::Spread => spots.sort_unstable_by_key(|spot| (spot.spares, std::cmp::Reverse(spot.free), spot.agent)),
        Placement::Pack => spots.sort_unstable_by_key(|spot| (spot.spares, spot.free, spot.agent)),
        Placement::Random => {
            spots.sort_unstable_by_key(|spot| spot.agent);
            let mut drawn: Vec<(bool, u64, Spot)> =
                spots.iter().map(|spot| (spot.spares, draws.next(), *spot)).collect();
            drawn.sort_by_key(|(spares, draw, _)| (*spares, *draw));
            *spots = drawn.into_iter().map(|(.., spot)| spot).collect();
        }
    }
}

/// The one agent for a part of a demand of at least `least` bundles: the first in the order of `placement`.
#[cfg(test)]
pub(crate) fn best(mut spots: Vec<Spot>, least: u32, placement: Placement, draws: &mut Draws) -> Option<Spot> {
    spots.retain(|spot| spot.fits >= least);
    order(&mut spots, placement, draws);
    spots.first().copied()
}

/// Agents with bundles for a gang of `least` to `most` bundles, or nothing. Packing fills one agent after the other; spreading
/// and drawing give every agent one before any gets a second.
pub(crate) fn gang(
    mut spots: Vec<Spot>,
    (least, most): (u32, u32),
    placement: Placement,
    draws: &mut Draws,
) -> Option<Vec<(Slot, u32)>> {
    order(&mut spots, placement, draws);
    let fitting: u64 = spots.iter().map(|spot| u64::from(spot.fits)).sum();
    if fitting < u64::from(least) {
        return None;
    }
    let mut left = u32::try_from(fitting).unwrap_or(most).min(most);
    let mut taken = vec![0u32; spots.len()];
    while left > 0 {
        for (spot, taken) in spots.iter().zip(&mut taken) {
            let room = spot.fits - *taken;
            let share = if placement == Placement::Pack { room } else { room.min(1) };
            let share = share.min(left);
            *taken += share;
            left -= share;
        }
    }
    let used = spots.iter().zip(taken).filter(|(_, taken)| *taken > 0);
    Some(used.map(|(spot, taken)| (spot.agent, taken)).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn slot(number: u32) -> Slot {
        super::super::ground::slot(number)
    }

    fn spot(number: u32, fits: u32, free: u64) -> Spot {
        Spot { agent: slot(number), fits, free, spares: false }
    }

    fn spots() -> Vec<Spot> {
        vec![spot(1, 2, 20), spot(2, 5, 50), spot(3, 1, 10), spot(4, 0, 90)]
    }

    fn number(agent: Slot) -> u32 {
        (0..100).find(|number| slot(*number) == agent).unwrap()
    }

    fn choose(placement: Placement) -> Option<u32> {
        best(spots(), 1, placement, &mut Draws::new(7)).map(|spot| number(spot.agent))
    }

    #[test]
    fn each_policy_starts_at_its_own_end() {
        assert_eq!(choose(Placement::Spread), Some(2));
        assert_eq!(choose(Placement::Pack), Some(3));
        assert_eq!(choose(Placement::Random), choose(Placement::Random), "the seed decides");
        let drawn = |seed| best(spots(), 1, Placement::Random, &mut Draws::new(seed)).map(|spot| number(spot.agent));
        let all: std::collections::BTreeSet<_> = (0..64).filter_map(drawn).collect();
        assert_eq!(all, [1, 2, 3].into(), "whichever fits is drawn now and then");
        assert_eq!(best(spots(), 3, Placement::Pack, &mut Draws::new(0)).map(|spot| number(spot.agent)), Some(2));
        assert_eq!(best(spots(), 6, Placement::Pack, &mut Draws::new(0)), None);
    }

    #[test]
    fn what_others_need_is_taken_last() {
        let scarce = Spot { spares: true, ..spot(9, 5, 99) };
        let with = |others: Vec<Spot>| best([others, vec![scarce]].concat(), 1, Placement::Spread, &mut Draws::new(0));
        assert_eq!(with(spots()).map(|spot| number(spot.agent)), Some(2));
        assert_eq!(with(Vec::new()).map(|spot| number(spot.agent)), Some(9));
    }

    #[test]
    fn a_gang_is_packed_or_spread_and_never_granted_in_part() {
        let of = |least, most, placement| {
            let parts = gang(spots(), (least, most), placement, &mut Draws::new(0))?;
            Some(parts.into_iter().map(|(agent, taken)| (number(agent), taken)).collect::<Vec<_>>())
        };
        assert_eq!(of(4, 4, Placement::Spread), Some(vec![(2, 2), (1, 1), (3, 1)]));
        assert_eq!(of(4, 4, Placement::Pack), Some(vec![(3, 1), (1, 2), (2, 1)]));
        assert_eq!(of(8, 8, Placement::Pack), Some(vec![(3, 1), (1, 2), (2, 5)]));
        assert_eq!(of(9, 9, Placement::Pack), None);
        assert_eq!(of(2, 20, Placement::Pack), Some(vec![(3, 1), (1, 2), (2, 5)]), "as many as fit, from its least on");
    }

    proptest! {
        #[test]
        fn a_gang_has_from_its_least_to_its_most_and_nowhere_more_than_fits(
            fits in prop::collection::vec((0..6u32, 0..50u64), 0..12),
            least in 1..20u32, more in 0..20u32, policy in 0..3usize, seed in any::<u64>(),
        ) {
            let spots: Vec<Spot> = (0..).zip(&fits).map(|(agent, (fits, free))| spot(agent, *fits, *free)).collect();
            let all: u32 = fits.iter().map(|(fits, _)| fits).sum();
            let placement = Placement::ALL[policy];
            match gang(spots.clone(), (least, least + more), placement, &mut Draws::new(seed)) {
                None => prop_assert!(all < least),
                Some(parts) => {
                    let total: u32 = parts.iter().map(|(_, taken)| taken).sum();
                    prop_assert_eq!(total, all.min(least + more));
                    prop_assert!(total >= least);
                    for (agent, taken) in parts {
                        prop_assert!(taken <= spots[number(agent) as usize].fits);
                    }
                }
            }
        }
    }
}
