//! When the disk is too full: how little may be free.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use crate::machine::free_and_total_disk;

/// How little of the file system may be free before sandboxes and logs of what has ended go early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskPressure {
    /// Less than this many bytes.
    Bytes(u64),
    /// Less than this many hundredths of the file system.
    Percent(u8),
}

impl Default for DiskPressure {
    fn default() -> DiskPressure {
        DiskPressure::Percent(5)
    }
}

/// Why a text is no [`DiskPressure`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither a part of the disk such as 5% (at most 99%) nor a size such as 10GiB")]
pub struct DiskPressureError(String);

impl FromStr for DiskPressure {
    type Err = DiskPressureError;

    fn from_str(text: &str) -> Result<DiskPressure, DiskPressureError> {
        let parsed = match text.strip_suffix('%') {
            Some(percent) => percent.parse().ok().filter(|percent| *percent < 100).map(DiskPressure::Percent),
            None => holm_model::ResourceName::Disk.parse_amount(text).ok().map(|amount| DiskPressure::Bytes(amount.0)),
        };
        parsed.ok_or_else(|| DiskPressureError(text.to_owned()))
    }
}

impl fmt::Display for DiskPressure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DiskPressure::Bytes(bytes) => write!(f, "{bytes} bytes"),
            DiskPressure::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

impl DiskPressure {
    /// Whether the file system of `dir` is too full.
    pub(crate) fn is_on(self, dir: &Path) -> bool {
        free_and_total_disk(dir).is_some_and(|(free, total)| free < self.floor(total))
    }

    fn floor(self, total: u64) -> u64 {
        match self {
            DiskPressure::Bytes(bytes) => bytes,
            DiskPressure::Percent(percent) => total / 100 * u64::from(percent),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_floor_is_a_size_or_a_part_of_the_disk() {
        assert_eq!("10GiB".parse(), Ok(DiskPressure::Bytes(10 << 30)));
        assert_eq!("7%".parse(), Ok(DiskPressure::Percent(7)));
        assert_eq!(DiskPressure::Percent(7).floor(1000), 70);
        for bad in ["", "%", "100%", "-1%", "much"] {
            let error = bad.parse::<DiskPressure>().unwrap_err();
            assert!(error.to_string().contains("5%"), "{error}");
        }
    }

    #[test]
    fn a_disk_that_exists_is_under_pressure_only_beyond_its_floor() {
        let dir = std::env::temp_dir();
        assert!(!DiskPressure::Bytes(0).is_on(&dir));
        assert!(DiskPressure::Bytes(u64::MAX).is_on(&dir));
    }
}
