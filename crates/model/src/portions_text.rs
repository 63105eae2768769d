//! The text form of portions: `cpus:4;cpus(eng):2;disk(eng>eng/db,rack=a):10GiB;disk(eng)#data:1GiB;cpus{revocable}:1`.
//!
//! A reservation is its role and then its labels; `static` marks one of the agent's configuration; one that refines another
//! follows it after `>`.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::resources_text::show_quantity;
use crate::{
    IdTextError, Labels, Origin, ParseResourcesError, Portions, PortionsError, Reservation, ReservationError,
    ResourceName, Resources, Role, RoleError, VolumeId,
};

/// Why a text of portions was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParsePortionsError {
    /// An entry has a malformed name or quantity.
    #[error(transparent)]
    Resources(#[from] ParseResourcesError),
    /// An entry is not of the form.
    #[error("resource {0:?} is not name:quantity, name(role,label=value):quantity or disk(role)#volume:quantity")]
    Entry(String),
    /// A role is malformed.
    #[error(transparent)]
    Role(#[from] RoleError),
    /// A reservation is malformed.
    #[error(transparent)]
    Reservation(#[from] ReservationError),
    /// A volume's id is malformed.
    #[error(transparent)]
    Volume(#[from] IdTextError),
    /// `static` comes after a reservation that it refines, or a word that is neither that nor a label.
    #[error("reservation {0:?}: after the role come labels such as rack=a, or static in the first layer")]
    Word(String),
    /// A volume is of something other than disk.
    #[error("resource {0:?}: volumes are of disk")]
    NotDisk(String),
    /// An origin has a resource twice.
    #[error("resource {name}{origin} is given twice")]
    Duplicate {
        /// The resource.
        name: ResourceName,
        /// Its origin in the text form.
        origin: String,
    },
    /// A port or set item is held twice.
    #[error(transparent)]
    Items(#[from] PortionsError),
    /// There are too many entries.
    #[error("resources have more than {MAX_ENTRIES} entries")]
    TooMany,
}

/// Most entries of one text.
const MAX_ENTRIES: usize = 1024;

const STATIC: &str = "static";
const REVOCABLE: &str = "{revocable}";

impl FromStr for Portions {
    type Err = ParsePortionsError;

    fn from_str(text: &str) -> Result<Portions, ParsePortionsError> {
        let mut by_origin: BTreeMap<Origin, Resources> = BTreeMap::new();
        for (position, entry) in text.split(';').map(str::trim).filter(|entry| !entry.is_empty()).enumerate() {
            if position == MAX_ENTRIES {
                return Err(ParsePortionsError::TooMany);
            }
            let (origin, resources) = parse_entry(entry)?;
            let held = by_origin.entry(origin.clone()).or_insert(Resources::EMPTY);
            for (name, quantity) in resources.iter() {
                if held.get(name).is_some() {
                    let origin = Suffix(&origin).to_string();
                    return Err(ParsePortionsError::Duplicate { name: name.clone(), origin });
                }
                held.set(name.clone(), quantity.clone());
            }
        }
        let mut portions = Portions::EMPTY;
        by_origin.into_iter().try_for_each(|(origin, resources)| portions.add(origin, &resources))?;
        Ok(portions)
    }
}

impl Portions {
    /// What an agent's configuration says: reservations written in it are fixed.
    ///
    /// # Errors
    /// As the text form, and when there is a volume, a refined reservation or a revocable portion.
    pub fn parse_configured(text: &str) -> Result<Portions, ParsePortionsError> {
        let mut configured = Portions::EMPTY;
        for (origin, resources) in text.parse::<Portions>()?.iter() {
            let origin = match origin {
                Origin::Unreserved => Origin::Unreserved,
                Origin::Reserved(by) if by.below().is_none() => {
                    let fixed = Reservation::fixed(by.role().clone(), by.labels().clone())?;
                    Origin::Reserved(Arc::new(fixed))
                }
                other => return Err(ParsePortionsError::Entry(Suffix(other).to_string())),
            };
            configured.add(origin, resources)?;
        }
        Ok(configured)
    }
}

fn parse_entry(entry: &str) -> Result<(Origin, Resources), ParsePortionsError> {
    let error = || ParsePortionsError::Entry(entry.chars().take(64).collect());
    let (named, quantity) = entry.split_once(':').ok_or_else(error)?;
    let named = named.trim();
    let name_ends = named.find(['(', '{']).unwrap_or(named.len());
    let (name, suffix) = named.split_at(name_ends);
    let origin = if suffix == REVOCABLE {
        Origin::Revocable
    } else if suffix.is_empty() {
        Origin::Unreserved
    } else {
        let inner = suffix.strip_prefix('(').ok_or_else(error)?;
        let (reservation, volume) = inner.split_once(')').ok_or_else(error)?;
        let reservation = Arc::new(reservation.parse::<Reservation>()?);
        match volume.strip_prefix('#') {
            Some(_) if name.trim() != ResourceName::Disk.as_str() => {
                return Err(ParsePortionsError::NotDisk(entry.chars().take(64).collect()));
            }
            Some(volume) => Origin::Volume(volume.parse::<VolumeId>()?, reservation),
            None if volume.is_empty() => Origin::Reserved(reservation),
            None => return Err(error()),
        }
    };
    Ok((origin, format!("{}:{}", name.trim(), quantity).parse()?))
}

impl FromStr for Reservation {
    type Err = ParsePortionsError;

    /// Reads `eng>eng/db,rack=a`.
    fn from_str(text: &str) -> Result<Reservation, ParsePortionsError> {
        let mut below: Option<Reservation> = None;
        for layer in text.split('>') {
            let mut words = layer.split(',').map(str::trim);
            let role: Role = words.next().unwrap_or_default().parse()?;
            let mut labels = Labels::new();
            let mut fixed = false;
            for word in words {
                let bad = || ParsePortionsError::Word(text.chars().take(64).collect());
                match word.split_once('=') {
                    Some((key, value)) if labels.insert(key.into(), value.into()).is_none() => {}
                    None if word == STATIC && below.is_none() => fixed = true,
                    _ => return Err(bad()),
                }
            }
            below = Some(match below {
                Some(below) => Reservation::refining(Arc::new(below), role, labels)?,
                None if fixed => Reservation::fixed(role, labels)?,
                None => Reservation::new(role, labels)?,
            });
        }
        below.ok_or_else(|| ParsePortionsError::Entry(text.chars().take(64).collect()))
    }
}

impl fmt::Display for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(below) = self.below() {
            write!(f, "{below}>")?;
        }
        write!(f, "{}", self.role())?;
        self.labels().iter().try_for_each(|(key, value)| write!(f, ",{key}={value}"))?;
        if self.is_fixed() { write!(f, ",{STATIC}") } else { Ok(()) }
    }
}

/// An origin as it follows a resource's name.
struct Suffix<'a>(&'a Origin);

impl fmt::Display for Suffix<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Origin::Unreserved => Ok(()),
            Origin::Reserved(reservation) => write!(f, "({reservation})"),
            Origin::Volume(id, reservation) => write!(f, "({reservation})#{id}"),
            Origin::Revocable => f.write_str(REVOCABLE),
        }
    }
}

/// For people: `unreserved`, `reserved for eng`, `volume data of eng`, `revocable`.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Unreserved => f.write_str("unreserved"),
            Origin::Reserved(reservation) => write!(f, "reserved for {reservation}"),
            Origin::Volume(id, reservation) => write!(f, "volume {id} of {reservation}"),
            Origin::Revocable => f.write_str("revocable"),
        }
    }
}

impl fmt::Display for Portions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (origin, resources) in self.iter() {
            for (name, quantity) in resources.iter() {
                write!(f, "{separator}{name}{}:{}", Suffix(origin), show_quantity(name, quantity))?;
                separator = ";";
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn portions_read_back_what_they_print() {
        for text in [
            "",
            "cpus:4;mem:8GiB",
            "cpus:4;ports:[31000-31009];cpus(eng):2;ports(eng):[32000-32001]",
            "cpus(eng,static):2;cpus(eng,rack=a,tier=1):1",
            "disk(eng,static>eng/db,rack=a):10GiB;disk(eng/db)#data:1GiB;cpus{revocable}:1.5",
        ] {
            let portions: Portions = text.parse().unwrap();
            let again: Portions = portions.to_string().parse().unwrap();
            assert_eq!(again, portions, "{text}");
            assert_eq!(portions.to_string().len(), text.len(), "{text} became {portions}");
        }
    }

    #[test]
    fn what_an_agent_is_configured_with_is_fixed() {
        let configured = Portions::parse_configured("cpus:4; cpus(eng) : 2; disk(eng/db,rack=a):10GiB").unwrap();
        assert_eq!(configured.to_string(), "cpus:4;cpus(eng,static):2;disk(eng/db,rack=a,static):10GiB");
        for refused in ["disk(eng)#v:1GiB", "cpus(eng>eng/a):1", "cpus{revocable}:1"] {
            assert!(Portions::parse_configured(refused).is_err(), "{refused}");
        }
    }

    #[test]
    fn malformed_portions_are_refused_by_name() {
        for (text, part) in [
            ("cpus(eng:1", "name(role"),
            ("cpus(eng)x:1", "name(role"),
            ("cpus():1", "part"),
            ("cpus(eng,rack):1", "label"),
            ("cpus(eng,a=1,a=2):1", "label"),
            ("cpus(eng>eng/a,static):1", "static"),
            ("cpus(eng>ops):1", "not below"),
            ("cpus(eng)#data:1", "disk"),
            ("disk(eng)#a/b:1GiB", "volume id"),
            ("cpus{idle}:1", "name(role"),
            ("cpus(eng):1;cpus(eng):2", "cpus(eng) is given twice"),
            ("ports:[1-5];ports(eng):[5-9]", "held twice"),
            ("cpus(eng):-1", "cpus"),
        ] {
            let error = text.parse::<Portions>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
