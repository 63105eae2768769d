//! The epoch filter: a deposed master is not obeyed.

use holm_model::Epoch;

/// A master of an earlier reign than one already seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("master has epoch {got}, but epoch {highest} has been seen")]
pub struct StaleEpoch {
    /// The master's epoch.
    pub got: Epoch,
    /// The highest epoch seen.
    pub highest: Epoch,
}

/// Remembers the highest epoch seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EpochFilter {
    highest: Epoch,
}

impl EpochFilter {
    /// A filter that refuses epochs below `highest`.
    pub const fn new(highest: Epoch) -> EpochFilter {
        EpochFilter { highest }
    }

    /// The highest epoch seen.
    pub const fn highest(self) -> Epoch {
        self.highest
    }

    /// Lets a master of `epoch` pass and remembers it.
    ///
    /// # Errors
    /// When a higher epoch has been seen.
    pub fn admit(&mut self, epoch: Epoch) -> Result<(), StaleEpoch> {
        if epoch < self.highest {
            return Err(StaleEpoch { got: epoch, highest: self.highest });
        }
        self.highest = epoch;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lower_epoch_is_refused_and_changes_nothing() {
        let mut filter = EpochFilter::new(Epoch(2));
        assert_eq!(filter.admit(Epoch(1)), Err(StaleEpoch { got: Epoch(1), highest: Epoch(2) }));
        assert_eq!(filter.admit(Epoch(2)), Ok(()));
        assert_eq!(filter.admit(Epoch(5)), Ok(()));
        assert_eq!(filter.highest(), Epoch(5));
    }
}
