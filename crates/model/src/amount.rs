//! Resource names, and scalar amounts in fixed point.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// What is divided. Predefined names come first in every listing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ResourceName {
    /// CPU cores.
    Cpus,
    /// Memory.
    Mem,
    /// Disk.
    Disk,
    /// Accelerators.
    Gpus,
    /// Network ports, as ranges.
    Ports,
    /// Anything else an operator declares on an agent: 1 to 64 of `[a-z0-9._-]`.
    Custom(Arc<str>),
}

impl ResourceName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        match self {
            ResourceName::Cpus => "cpus",
            ResourceName::Mem => "mem",
            ResourceName::Disk => "disk",
            ResourceName::Gpus => "gpus",
            ResourceName::Ports => "ports",
            ResourceName::Custom(name) => name,
        }
    }

    /// Whether amounts of it are bytes; all other scalars are thousandths of a unit.
    pub fn is_bytes(&self) -> bool {
        matches!(self, ResourceName::Mem | ResourceName::Disk)
    }

    /// The scalar `text` of this resource: bytes with an optional KiB, MiB, GiB, TiB (or KB, MB, GB, TB) suffix for
    /// `mem` and `disk`, a decimal with at most three places for the others.
    pub fn parse_amount(&self, text: &str) -> Result<Amount, ParseAmountError> {
        let raw = if self.is_bytes() { parse_bytes(text) } else { parse_milli(text) };
        let error = || ParseAmountError { name: self.clone(), text: text.chars().take(64).collect() };
        let amount = raw.filter(|raw| *raw <= Amount::MAX.0).map(Amount).ok_or_else(error)?;
        let whole = !matches!(self, ResourceName::Gpus) || amount.0 % 1000 == 0;
        whole.then_some(amount).ok_or_else(error)
    }

    /// `amount` of this resource as a person writes it.
    pub fn show(&self, amount: Amount) -> String {
        if self.is_bytes() { show_bytes(amount.0) } else { show_milli(amount.0) }
    }
}

impl fmt::Display for ResourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ResourceName {
    type Err = ParseAmountError;

    fn from_str(text: &str) -> Result<ResourceName, ParseAmountError> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-');
        let custom = ResourceName::Custom(text.into());
        Ok(match text {
            "cpus" => ResourceName::Cpus,
            "mem" => ResourceName::Mem,
            "disk" => ResourceName::Disk,
            "gpus" => ResourceName::Gpus,
            "ports" => ResourceName::Ports,
            _ if !text.is_empty() && text.len() <= 64 && text.chars().all(allowed) => custom,
            _ => return Err(ParseAmountError { name: custom, text: String::new() }),
        })
    }
}

/// A scalar amount in the resource's smallest unit: bytes of `mem` and `disk`, thousandths of everything else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Amount(pub u64);

impl Amount {
    /// The largest amount anyone can declare or ask for (1 PiB of bytes); sums saturate at 2^64 - 1.
    pub const MAX: Amount = Amount(1 << 50);
}

/// An amount or resource name that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.explain())]
pub struct ParseAmountError {
    name: ResourceName,
    text: String,
}

impl ParseAmountError {
    fn explain(&self) -> String {
        let ParseAmountError { name, text } = self;
        match name {
            ResourceName::Custom(custom) if text.is_empty() => {
                format!("resource name {custom:?} is not 1 to 64 of [a-z0-9._-]")
            }
            ResourceName::Gpus => format!("gpus: {text:?} is not a whole number up to {}", name.show(Amount::MAX)),
            _ if name.is_bytes() => {
                format!("{name}: {text:?} is not a size such as 512MiB or 8GiB up to {}", name.show(Amount::MAX))
            }
            _ => {
                format!("{name}: {text:?} is not a decimal with at most three places up to {}", name.show(Amount::MAX))
            }
        }
    }
}

fn parse_decimal(text: &str, places: u32) -> Option<u128> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    let fits = fraction.len() <= places as usize && whole.len() <= 24;
    if !fits || whole.is_empty() || !digits(whole) || !digits(fraction) || text.ends_with('.') {
        return None;
    }
    let missing = places - u32::try_from(fraction.len()).ok()?;
    let fraction: u128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    whole.parse::<u128>().ok()?.checked_mul(10u128.pow(places))?.checked_add(fraction * 10u128.pow(missing))
}

fn parse_milli(text: &str) -> Option<u64> {
    parse_decimal(text, 3)?.try_into().ok()
}

fn parse_bytes(text: &str) -> Option<u64> {
    const UNITS: [(&str, u64); 13] = [
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("TiB", 1 << 40),
        ("KB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("TB", 1_000_000_000_000),
        ("K", 1 << 10),
        ("M", 1 << 20),
        ("G", 1 << 30),
        ("T", 1 << 40),
        ("B", 1),
    ];
    let unit = UNITS.iter().find_map(|(suffix, factor)| Some((text.strip_suffix(suffix)?, *factor)));
    let (number, factor) = unit.unwrap_or((text, 1));
    let thousandths = parse_decimal(number.trim_end(), 3)?.checked_mul(factor.into())?;
    (thousandths % 1000 == 0 || factor >= 1 << 10).then_some(())?;
    (thousandths / 1000).try_into().ok()
}

fn show_milli(raw: u64) -> String {
    let text = format!("{}.{:03}", raw / 1000, raw % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn show_bytes(raw: u64) -> String {
    const UNITS: [(&str, u64); 4] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    let exact = |factor: u64| raw != 0 && (u128::from(raw) * 1000).is_multiple_of(factor.into()) && raw >= factor;
    match UNITS.iter().find(|(_, factor)| exact(*factor)) {
        Some((suffix, factor)) => {
            let thousandths = u128::from(raw) * 1000 / u128::from(*factor);
            format!("{}{suffix}", show_milli(u64::try_from(thousandths).unwrap_or(u64::MAX)))
        }
        None => format!("{raw}B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_read_back_what_they_show() {
        for (name, text, raw) in [
            (ResourceName::Cpus, "0.25", 250),
            (ResourceName::Cpus, "4", 4000),
            (ResourceName::Mem, "8GiB", 8 << 30),
            (ResourceName::Mem, "1.5MiB", 3 << 19),
            (ResourceName::Disk, "100B", 100),
            (ResourceName::Gpus, "2", 2000),
        ] {
            assert_eq!(name.parse_amount(text), Ok(Amount(raw)), "{name} {text}");
            assert_eq!(name.show(Amount(raw)), text);
        }
        assert_eq!(ResourceName::Mem.parse_amount("2MB"), Ok(Amount(2_000_000)));
        assert_eq!(ResourceName::Mem.parse_amount("4096"), Ok(Amount(4096)));
    }

    #[test]
    fn absurd_amounts_are_refused() {
        for text in
            ["-1", "NaN", "inf", "1e3", "", ".", "1.", ".5", "0.0001", "1_000", "+1", "99999999999999999999999999"]
        {
            assert!(ResourceName::Cpus.parse_amount(text).is_err(), "{text:?} passed");
        }
        for text in ["-1MiB", "0.5B", "1XiB", "16EiB", "9000000TiB", "NaN"] {
            assert!(ResourceName::Mem.parse_amount(text).is_err(), "{text:?} passed");
        }
        assert!(ResourceName::Gpus.parse_amount("0.5").is_err());
    }
}
