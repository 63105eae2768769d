//! Sets of 64-bit numbers held as inclusive ranges, for ports.

use std::fmt;

/// A set of numbers as sorted inclusive ranges that neither touch nor overlap.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ranges(Vec<(u64, u64)>);

/// Most ranges that one quantity may have.
pub(crate) const MAX_RANGES: usize = 4096;

impl Ranges {
    /// The union of inclusive ranges in any order; ranges whose start exceeds their end are ignored.
    pub fn new(ranges: impl IntoIterator<Item = (u64, u64)>) -> Ranges {
        let mut sorted: Vec<_> = ranges.into_iter().filter(|(start, end)| start <= end).collect();
        sorted.sort_unstable();
        let mut merged: Vec<(u64, u64)> = Vec::with_capacity(sorted.len());
        for (start, end) in sorted {
            match merged.last_mut() {
                Some(last) if start <= last.1.saturating_add(1) => last.1 = last.1.max(end),
                _ => merged.push((start, end)),
            }
        }
        Ranges(merged)
    }

    /// The inclusive ranges, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.0.iter().copied()
    }

    /// Whether the set has no number.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many numbers the set has, saturating.
    pub fn len(&self) -> u64 {
        self.iter().fold(0, |sum: u64, (start, end)| sum.saturating_add((end - start).saturating_add(1)))
    }

    /// How many separate ranges hold them.
    pub fn fragments(&self) -> usize {
        self.0.len()
    }

    /// Whether every number of `other` is in this set.
    pub fn contains(&self, other: &Ranges) -> bool {
        other.iter().all(|(start, end)| self.iter().any(|(from, to)| from <= start && end <= to))
    }

    /// The numbers of either set.
    pub fn union(&self, other: &Ranges) -> Ranges {
        Ranges::new(self.iter().chain(other.iter()))
    }

    /// The numbers of this set that are not in `other`.
    pub fn difference(&self, other: &Ranges) -> Ranges {
        let mut rest = Vec::with_capacity(self.0.len());
        for (mut start, end) in self.iter() {
            let mut open = true;
            for (from, to) in other.iter() {
                if from > end || to < start {
                    continue;
                }
                if from > start {
                    rest.push((start, from - 1));
                }
                if to >= end {
                    open = false;
                    break;
                }
                start = to + 1;
            }
            if open {
                rest.push((start, end));
            }
        }
        Ranges(rest)
    }

    /// The `count` smallest numbers of the set, or fewer when it has fewer.
    pub fn take(&self, mut count: u64) -> Ranges {
        let mut taken = Vec::new();
        for (start, end) in self.iter() {
            if count == 0 {
                break;
            }
            let last = end.min(start.saturating_add(count - 1));
            taken.push((start, last));
            count -= last - start + 1;
        }
        Ranges(taken)
    }
}

impl fmt::Display for Ranges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = self.iter().map(|(start, end)| format!("{start}-{end}")).collect();
        write!(f, "[{}]", parts.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn union_and_difference_keep_ranges_apart() {
        let ports = Ranges::new([(31000, 31009), (31010, 31020), (5, 4)]);
        assert_eq!(ports, Ranges::new([(31000, 31020)]));
        let rest = ports.difference(&Ranges::new([(31000, 31000), (31005, 31006), (31020, 40000)]));
        assert_eq!(rest, Ranges::new([(31001, 31004), (31007, 31019)]));
        assert_eq!(rest.union(&Ranges::new([(31005, 31006)])), Ranges::new([(31001, 31019)]));
        assert!(ports.contains(&rest) && !rest.contains(&ports));
        assert_eq!(rest.len(), 17);
        assert_eq!(rest.take(5), Ranges::new([(31001, 31004), (31007, 31007)]));
    }

    #[test]
    fn the_ends_of_the_number_line_do_not_overflow() {
        let all = Ranges::new([(0, u64::MAX)]);
        assert_eq!(all.len(), u64::MAX);
        assert!(all.difference(&all).is_empty());
        assert_eq!(all.difference(&Ranges::new([(1, u64::MAX)])), Ranges::new([(0, 0)]));
    }
}
