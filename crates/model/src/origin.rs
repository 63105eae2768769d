//! What ties resources to whom: reservations, the volumes cut from them, and the origin of a quantity.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::{MAX_NAME_BYTES, Role};

/// Pairs that keep reservations for the same role apart. At most [`Reservation::MAX_LABELS`], each side at most
/// [`Reservation::MAX_LABEL_BYTES`] of `[A-Za-z0-9._/-]`, keys not empty.
pub type Labels = BTreeMap<Arc<str>, Arc<str>>;

/// Resources set aside for a role: usable by it and by every role below it. A reservation that refines another one
/// remembers it, and unreserving gives the resources back to that one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reservation {
    role: Role,
    labels: Labels,
    fixed: bool,
    below: Option<Arc<Reservation>>,
}

/// Why a reservation was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReservationError {
    /// The role has a character that the text form of reservations needs.
    #[error(
        "role {role:?} has {bad:?}; a role that resources are reserved for has none of ( ) [ ] {{ }} < > , ; : = #"
    )]
    Role {
        /// The role.
        role: Role,
        /// Its first character that is not allowed.
        bad: char,
    },
    /// A refinement is not for a role below the one that it refines.
    #[error("role {role:?} is not below {below:?}, whose reservation it refines")]
    NotBelow {
        /// The role.
        role: Role,
        /// The role of the reservation that it would refine.
        below: Role,
    },
    /// There are too many labels.
    #[error("reservation has {0} labels; the limit is {max}", max = Reservation::MAX_LABELS)]
    TooManyLabels(usize),
    /// A label is not of the allowed form.
    #[error("label {0:?} is not key=value, each side at most {max} of [A-Za-z0-9._/-]", max = Reservation::MAX_LABEL_BYTES)]
    Label(String),
}

impl Reservation {
    /// Most labels of one reservation.
    pub const MAX_LABELS: usize = 16;

    /// Longest side of a label, in bytes.
    pub const MAX_LABEL_BYTES: usize = 64;

    /// A dynamic reservation of what is unreserved.
    ///
    /// # Errors
    /// When the role or a label cannot be written in the text form.
    pub fn new(role: Role, labels: Labels) -> Result<Reservation, ReservationError> {
        Reservation::checked(Reservation { role, labels, fixed: false, below: None })
    }

    /// A static reservation, from an agent's configuration: only the agent's restart with another configuration ends it.
    ///
    /// # Errors
    /// As [`Reservation::new`].
    pub fn fixed(role: Role, labels: Labels) -> Result<Reservation, ReservationError> {
        Reservation::checked(Reservation { role, labels, fixed: true, below: None })
    }

    /// A dynamic reservation of what `below` reserves, for a role further down the tree.
    ///
    /// # Errors
    /// As [`Reservation::new`], and when `role` is not below the role of `below`.
    pub fn refining(below: Arc<Reservation>, role: Role, labels: Labels) -> Result<Reservation, ReservationError> {
        if role == below.role || !below.role.covers(&role) {
            return Err(ReservationError::NotBelow { role, below: below.role.clone() });
        }
        Reservation::checked(Reservation { role, labels, fixed: false, below: Some(below) })
    }

    fn checked(self) -> Result<Reservation, ReservationError> {
        let reserved = |c: &char| "()[]{}<>,;:=#".contains(*c);
        if let Some(bad) = self.role.as_str().chars().find(reserved) {
            return Err(ReservationError::Role { role: self.role, bad });
        }
        if self.labels.len() > Reservation::MAX_LABELS {
            return Err(ReservationError::TooManyLabels(self.labels.len()));
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '/' | '-');
        let fits = |side: &str| side.len() <= Reservation::MAX_LABEL_BYTES && side.chars().all(allowed);
        match self.labels.iter().find(|(key, value)| key.is_empty() || !fits(key) || !fits(value)) {
            Some((key, value)) => Err(ReservationError::Label(format!("{key}={value}").chars().take(160).collect())),
            None => Ok(self),
        }
    }

    /// For whom.
    pub fn role(&self) -> &Role {
        &self.role
    }

    /// What keeps it apart from other reservations for the same role.
    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    /// Whether it comes from the agent's configuration and cannot be unreserved.
    pub fn is_fixed(&self) -> bool {
        self.fixed
    }

    /// The reservation that it refines.
    pub fn below(&self) -> Option<&Arc<Reservation>> {
        self.below.as_ref()
    }

    /// This reservation and those that it refines, outermost role last.
    pub fn layers(&self) -> impl Iterator<Item = &Reservation> {
        std::iter::successors(Some(self), |layer| layer.below.as_deref())
    }

    /// Whether `role` may use what is reserved: it is the reservation's role or below it.
    pub fn is_usable_by(&self, role: &Role) -> bool {
        self.role.covers(role)
    }

    /// What the resources become again when this reservation ends; a fixed one does not end.
    pub fn unreserved(&self) -> Option<Origin> {
        let back = || self.below.clone().map_or(Origin::Unreserved, Origin::Reserved);
        (!self.fixed).then(back)
    }

    /// What the resources were in the agent's configuration.
    pub fn configured(&self) -> Origin {
        let fixed = std::iter::successors(self.below.as_ref(), |layer| layer.below.as_ref()).find(|layer| layer.fixed);
        match fixed {
            _ if self.fixed => Origin::Reserved(Arc::new(self.clone())),
            Some(layer) => Origin::Reserved(Arc::clone(layer)),
            None => Origin::Unreserved,
        }
    }
}

/// Why a name was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind} id {text:?} is not 1 to {MAX_NAME_BYTES} of [A-Za-z0-9._-]")]
pub struct IdTextError {
    kind: &'static str,
    text: String,
}

macro_rules! chosen_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdTextError;

            fn from_str(text: &str) -> Result<$name, IdTextError> {
                let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
                let fits = !text.is_empty() && text.len() <= MAX_NAME_BYTES && text.chars().all(allowed);
                let error = || IdTextError { kind: $kind, text: text.chars().take(MAX_NAME_BYTES).collect() };
                fits.then(|| $name(text.into())).ok_or_else(error)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }
    };
}

chosen_id! {
    /// What a volume is called: 1 to [`MAX_NAME_BYTES`] of `[A-Za-z0-9._-]`, unique on its agent among the volumes of one
    /// role.
    VolumeId, "volume"
}
chosen_id! {
    /// What a framework calls one operation of an ACCEPT: 1 to [`MAX_NAME_BYTES`] of `[A-Za-z0-9._-]`. It comes back in the
    /// operation's status; nobody else looks at it.
    OperationId, "operation"
}

/// A volume as its agent knows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Volume {
    /// The number that the master gave it: never given again on that agent, so that a new volume does not find the data of
    /// one that was called the same.
    pub serial: u64,
    /// What it is called.
    pub id: VolumeId,
    /// The role that its disk is reserved for.
    pub role: Role,
    /// Its size in bytes.
    pub bytes: u64,
}

/// What ties a quantity of resources to whom.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// Nothing: anyone may have it.
    Unreserved,
    /// Set aside for a role.
    Reserved(Arc<Reservation>),
    /// A volume of disk, cut from reserved disk. It is indivisible.
    Volume(VolumeId, Arc<Reservation>),
    /// Held by others who do not use it at present; taken back when they do.
    Revocable,
}

impl Origin {
    /// What sets it aside, if anything does.
    pub fn reservation(&self) -> Option<&Arc<Reservation>> {
        match self {
            Origin::Reserved(reservation) | Origin::Volume(_, reservation) => Some(reservation),
            Origin::Unreserved | Origin::Revocable => None,
        }
    }

    /// Whether `role` may use it, as far as reservations say.
    pub fn is_usable_by(&self, role: &Role) -> bool {
        self.reservation().is_none_or(|reservation| reservation.is_usable_by(role))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(text: &str) -> Role {
        text.parse().unwrap()
    }

    fn label(key: &str, value: &str) -> Labels {
        Labels::from([(key.into(), value.into())])
    }

    #[test]
    fn a_reservation_is_for_its_role_and_those_below() {
        let eng = Reservation::new(role("eng"), Labels::new()).unwrap();
        for (who, may) in [("eng", true), ("eng/backend", true), ("engine", false), ("ops", false)] {
            assert_eq!(eng.is_usable_by(&role(who)), may, "{who}");
        }
        let refined = Reservation::refining(Arc::new(eng), role("eng/backend"), Labels::new()).unwrap();
        assert!(!refined.is_usable_by(&role("eng")) && refined.is_usable_by(&role("eng/backend/db")));
    }

    #[test]
    fn unreserving_pops_one_layer_and_stops_at_the_configuration() {
        let fixed = Arc::new(Reservation::fixed(role("eng"), label("rack", "a")).unwrap());
        let refined = Reservation::refining(Arc::clone(&fixed), role("eng/a/b"), Labels::new()).unwrap();
        assert_eq!(refined.unreserved(), Some(Origin::Reserved(Arc::clone(&fixed))));
        assert_eq!(refined.configured(), Origin::Reserved(Arc::clone(&fixed)));
        assert_eq!(fixed.unreserved(), None);
        let dynamic = Reservation::new(role("eng"), Labels::new()).unwrap();
        assert_eq!(dynamic.unreserved(), Some(Origin::Unreserved));
        assert_eq!(dynamic.configured(), Origin::Unreserved);
    }

    #[test]
    fn a_refinement_goes_down_the_tree() {
        let eng = Arc::new(Reservation::new(role("eng"), Labels::new()).unwrap());
        for sideways in ["eng", "ops", "ops/eng", "engine"] {
            let refused = Reservation::refining(Arc::clone(&eng), role(sideways), Labels::new());
            assert!(matches!(refused, Err(ReservationError::NotBelow { .. })), "{sideways}");
        }
    }

    #[test]
    fn what_the_text_form_cannot_say_is_refused() {
        for bad in ["a(b", "a,b", "a:b", "a>b", "a#b"] {
            assert!(Reservation::new(role(bad), Labels::new()).is_err(), "{bad}");
        }
        let long = "x".repeat(Reservation::MAX_LABEL_BYTES + 1);
        for (key, value) in [("", "x"), ("a b", ""), ("k", "a,b"), (&*long, ""), ("k", &*long)] {
            assert!(Reservation::new(role("eng"), label(key, value)).is_err(), "{key}={value}");
        }
        let many = (0..=Reservation::MAX_LABELS).map(|n| (n.to_string().into(), "".into())).collect();
        assert_eq!(Reservation::new(role("eng"), many), Err(ReservationError::TooManyLabels(17)));
        for bad in ["", "a/b", "a b", &*"x".repeat(129)] {
            assert!(bad.parse::<VolumeId>().is_err(), "{bad}");
        }
    }
}
