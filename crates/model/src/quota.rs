//! Quotas and weights: what operators promise and allow to roles.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;

use crate::{Amount, ParseAmountError, ResourceName, Resources, Role};

/// Most resources that one quota may name.
pub const MAX_QUOTA_RESOURCES: usize = 64;

/// Most roles that one update may change.
pub const MAX_QUOTA_CHANGES: usize = 10_000;

/// The weight of a role that was given none, in thousandths.
pub const DEFAULT_WEIGHT: NonZeroU32 = NonZeroU32::new(1000).expect("1000 is not zero");

/// The largest weight, in thousandths: a thousand times the usual one. The smallest is 1, a thousandth of it.
pub const MAX_WEIGHT: NonZeroU32 = NonZeroU32::new(1_000_000).expect("a million is not zero");

/// What a role is promised and allowed. It covers the role and every role below it, and everything they hold: what runs,
/// what is out in offers, what is reserved for them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// What the role gets before anybody competes by fair share; scalars only.
    pub guarantee: Resources,
    /// What the role may never exceed. A resource that is absent is not limited; one that is present and zero may not be
    /// used at all.
    pub limit: BTreeMap<ResourceName, Amount>,
}

impl Quota {
    /// Neither a guarantee nor a limit.
    pub const NONE: Quota = Quota { guarantee: Resources::EMPTY, limit: BTreeMap::new() };

    /// Whether there is neither a guarantee nor a limit.
    pub fn is_none(&self) -> bool {
        self.guarantee.is_empty() && self.limit.is_empty()
    }

    /// How much of a resource may be used; `None`: as much as there is.
    pub fn limit_of(&self, name: &ResourceName) -> Option<Amount> {
        self.limit.get(name).copied()
    }

    /// Checks the limits of both fields by themselves. Whether a quota suits the other roles and the cluster is another
    /// question, answered by the allocator's `check_quotas`.
    ///
    /// # Errors
    /// The first rule that does not hold.
    pub fn validate(&self) -> Result<(), QuotaFormError> {
        let named = self.guarantee.iter().count().max(self.limit.len());
        if named > MAX_QUOTA_RESOURCES {
            return Err(QuotaFormError::TooMany(named));
        }
        let scalars: Vec<&ResourceName> = self.guarantee.iter_scalars().map(|(name, _)| name).collect();
        if let Some((name, _)) = self.guarantee.iter().find(|(name, _)| !scalars.contains(name)) {
            return Err(QuotaFormError::NotScalar(name.clone()));
        }
        if self.limit.contains_key(&ResourceName::Ports) {
            return Err(QuotaFormError::NotScalar(ResourceName::Ports));
        }
        let large = |(name, amount): (&ResourceName, Amount)| (amount > Amount::MAX).then(|| (name.clone(), amount));
        let limits = self.limit.iter().map(|(name, amount)| (name, *amount));
        match self.guarantee.iter_scalars().chain(limits).find_map(large) {
            Some((name, amount)) => Err(QuotaFormError::TooMuch { name, amount }),
            None => Ok(()),
        }
    }

    /// The limit as text, such as `cpus:4;gpus:0`; empty when nothing is limited.
    pub fn limit_text(&self) -> String {
        show_amounts(self.limit.iter().map(|(name, amount)| (name, *amount)))
    }
}

/// Amounts as text, such as `cpus:4;gpus:0`: zeros are shown, because a limit of zero is not the same as none.
pub fn show_amounts<'a>(amounts: impl IntoIterator<Item = (&'a ResourceName, Amount)>) -> String {
    let entry = |(name, amount): (&ResourceName, Amount)| match amount.0 {
        0 => format!("{name}:0"),
        _ => format!("{name}:{}", name.show(amount)),
    };
    amounts.into_iter().map(entry).collect::<Vec<_>>().join(";")
}

/// Reads amounts such as `cpus:4;mem:8GiB;gpus:0`: scalars, each at most once, zeros kept.
///
/// # Errors
/// The first entry that is not one.
pub fn parse_amounts(text: &str) -> Result<BTreeMap<ResourceName, Amount>, QuotaFormError> {
    let mut amounts = BTreeMap::new();
    for entry in text.split(';').map(str::trim).filter(|entry| !entry.is_empty()) {
        let clip = || entry.chars().take(64).collect::<String>();
        let (name, amount) = entry.split_once(':').ok_or_else(|| QuotaFormError::Entry(clip()))?;
        let name: ResourceName = name.trim().parse()?;
        let amount = amount.trim();
        if name == ResourceName::Ports || amount.starts_with(['[', '{']) {
            return Err(QuotaFormError::NotScalar(name));
        }
        let amount = name.parse_amount(amount)?;
        if amounts.insert(name.clone(), amount).is_some() {
            return Err(QuotaFormError::Duplicate(name));
        }
        if amounts.len() > MAX_QUOTA_RESOURCES {
            return Err(QuotaFormError::TooMany(amounts.len()));
        }
    }
    Ok(amounts)
}

impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |text: String| if text.is_empty() { "none".to_owned() } else { text };
        write!(f, "guarantee {}, limit {}", part(self.guarantee.to_string()), part(self.limit_text()))
    }
}

/// Why a quota or a text of amounts was refused by itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuotaFormError {
    /// A name or amount cannot be read.
    #[error(transparent)]
    Amount(#[from] ParseAmountError),
    /// An entry is not `name:amount`.
    #[error("quota: {0:?} is not name:amount")]
    Entry(String),
    /// A name comes twice.
    #[error("quota: {0} is given twice")]
    Duplicate(ResourceName),
    /// A resource that is not a plain amount.
    #[error("quota: {0} is not a scalar; guarantees and limits are of amounts such as cpus:4")]
    NotScalar(ResourceName),
    /// Too many resources are named.
    #[error("quota names {0} resources; the limit is {MAX_QUOTA_RESOURCES}")]
    TooMany(usize),
    /// An amount is over [`Amount::MAX`].
    #[error("quota: {} of {name} is over the limit of {}", name.show(*.amount), name.show(Amount::MAX))]
    TooMuch {
        /// Which resource.
        name: ResourceName,
        /// How much of it.
        amount: Amount,
    },
}

/// One role's new quota; [`Quota::NONE`] takes away the one it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuotaChange {
    /// Which role.
    pub role: Role,
    /// What it has from now on.
    pub quota: Quota,
}

/// What the registry remembers of a role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleRecord {
    /// Which role.
    pub role: Role,
    /// Its weight in thousandths.
    pub weight: NonZeroU32,
    /// Its quota.
    pub quota: Quota,
}

impl RoleRecord {
    /// What is known of a role of which nothing was said.
    pub fn new(role: Role) -> RoleRecord {
        RoleRecord { role, weight: DEFAULT_WEIGHT, quota: Quota::NONE }
    }

    /// Whether there is nothing to remember.
    pub fn is_default(&self) -> bool {
        self.weight == DEFAULT_WEIGHT && self.quota.is_none()
    }
}

/// What an operator changes of one role; what is absent stays as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleUpdate {
    /// Which role.
    pub role: Role,
    /// Its new weight in thousandths, up to [`MAX_WEIGHT`].
    pub weight: Option<NonZeroU32>,
    /// Its new guarantee; an empty one takes it away.
    pub guarantee: Option<Resources>,
    /// Its new limit; an empty one takes it away.
    pub limit: Option<BTreeMap<ResourceName, Amount>>,
}

impl RoleUpdate {
    /// An update that changes nothing yet.
    pub fn of(role: Role) -> RoleUpdate {
        RoleUpdate { role, weight: None, guarantee: None, limit: None }
    }

    /// The record with this change made.
    pub fn applied_to(&self, record: &RoleRecord) -> RoleRecord {
        let RoleRecord { role, weight, quota } = record.clone();
        let quota = Quota {
            guarantee: self.guarantee.clone().unwrap_or(quota.guarantee),
            limit: self.limit.clone().unwrap_or(quota.limit),
        };
        RoleRecord { role, weight: self.weight.unwrap_or(weight), quota }
    }
}

/// A weight in thousandths, from a text such as `2` or `0.5`.
///
/// # Errors
/// The text is not a decimal with at most three places from 0.001 to 1000.
pub fn parse_weight(text: &str) -> Result<NonZeroU32, WeightError> {
    let refused = || WeightError(text.chars().take(32).collect());
    let thousandths = ResourceName::Cpus.parse_amount(text.trim()).map_err(|_| refused())?;
    let weight = u32::try_from(thousandths.0).ok().and_then(NonZeroU32::new);
    weight.filter(|weight| *weight <= MAX_WEIGHT).ok_or_else(refused)
}

/// A weight as a person writes it, such as `2` or `0.5`.
pub fn show_weight(thousandths: NonZeroU32) -> String {
    ResourceName::Cpus.show(Amount(thousandths.get().into()))
}

/// A text that is not a weight.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("weight {0:?} is not a decimal with at most three places from 0.001 to 1000")]
pub struct WeightError(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_of_zero_is_kept_and_shown() {
        let limit = parse_amounts("mem:8GiB; cpus:4;gpus:0").unwrap();
        let quota = Quota { guarantee: "cpus:1".parse().unwrap(), limit };
        assert_eq!(quota.limit_text(), "cpus:4;mem:8GiB;gpus:0");
        assert_eq!(quota.limit_of(&ResourceName::Gpus), Some(Amount(0)));
        assert_eq!(quota.limit_of(&ResourceName::Disk), None);
        assert_eq!(quota.validate(), Ok(()));
        assert_eq!(quota.to_string(), "guarantee cpus:1, limit cpus:4;mem:8GiB;gpus:0");
    }

    #[test]
    fn an_update_changes_what_it_names_only() {
        let role: Role = "eng".parse().unwrap();
        let quota = Quota { guarantee: "cpus:1".parse().unwrap(), limit: parse_amounts("cpus:4").unwrap() };
        let record = RoleRecord { quota, ..RoleRecord::new(role.clone()) };
        let update = RoleUpdate { guarantee: Some("mem:1GiB".parse().unwrap()), ..RoleUpdate::of(role.clone()) };
        let after = update.applied_to(&record);
        assert_eq!(after.quota.to_string(), "guarantee mem:1GiB, limit cpus:4");
        let gone =
            RoleUpdate { guarantee: Some(Resources::EMPTY), limit: Some(BTreeMap::new()), ..RoleUpdate::of(role) };
        assert!(gone.applied_to(&after).is_default());
    }

    #[test]
    fn weights_read_back_what_they_show() {
        for text in ["0.001", "0.5", "1", "2.25", "1000"] {
            assert_eq!(show_weight(parse_weight(text).unwrap()), text);
        }
        for text in ["0", "-1", "0.0001", "1000.001", "", "NaN", "x"] {
            assert!(parse_weight(text).is_err(), "{text:?} passed");
        }
    }

    #[test]
    fn what_is_not_an_amount_is_refused_by_name() {
        for (text, part) in [
            ("cpus", "name:amount"),
            ("cpus:4;cpus:5", "twice"),
            ("ports:[1-9]", "ports is not a scalar"),
            ("licences:{a}", "licences is not a scalar"),
            ("cpus:-1", "cpus"),
            ("CPUS:1", "CPUS"),
        ] {
            let error = parse_amounts(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
        let ports = Quota { guarantee: "ports:[1-9]".parse().unwrap(), ..Quota::NONE };
        assert_eq!(ports.validate(), Err(QuotaFormError::NotScalar(ResourceName::Ports)));
        let much = Resources::scalars([(ResourceName::Cpus, Amount::MAX.0 + 1)]);
        assert!(matches!(Quota { guarantee: much, ..Quota::NONE }.validate(), Err(QuotaFormError::TooMuch { .. })));
    }
}
