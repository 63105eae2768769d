//! Resources by origin, and their arithmetic.

use crate::{Origin, Quantity, ResourceName, Resources, ResourcesError, Role, VolumeId};

/// Resources by what they are tied to. An absent origin has nothing; no port or set item is held twice, not even under two
/// origins. Almost always there is one portion, the unreserved one.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Portions(Vec<(Origin, Resources)>);

/// Why portions could not be combined or chosen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PortionsError {
    /// There is less of this origin, or its items are held already.
    #[error("{origin}: {problem}")]
    Origin {
        /// Which.
        origin: Origin,
        /// What is wrong with it.
        problem: ResourcesError,
    },
    /// There is less of all that the role may use.
    #[error("{problem} to role {role}")]
    Short {
        /// The role.
        role: Role,
        /// What is short.
        problem: ResourcesError,
    },
    /// No volume of that id is there for the role.
    #[error("volume {id} is not available to role {role}")]
    Volume {
        /// The volume.
        id: VolumeId,
        /// The role.
        role: Role,
    },
}

impl Portions {
    /// Nothing.
    pub const EMPTY: Portions = Portions(Vec::new());

    /// These resources, tied to nobody.
    pub fn unreserved(resources: Resources) -> Portions {
        Portions::of(Origin::Unreserved, resources)
    }

    /// These resources, of one origin.
    pub fn of(origin: Origin, resources: Resources) -> Portions {
        if resources.is_empty() { Portions::EMPTY } else { Portions(vec![(origin, resources)]) }
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many origins there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The portions in the order of their origins, unreserved first; none is empty.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&Origin, &Resources)> {
        self.0.iter().map(|(origin, resources)| (origin, resources))
    }

    /// What there is of `origin`.
    pub fn get(&self, origin: &Origin) -> Option<&Resources> {
        self.find(origin).ok().map(|place| &self.0[place].1)
    }

    /// Everything together, whatever its origin.
    pub fn total(&self) -> Resources {
        let Some(((_, first), rest)) = self.0.split_first() else { return Resources::EMPTY };
        let sum = |sum: Resources, (_, more): &(Origin, Resources)| sum.plus(more).unwrap_or(sum);
        rest.iter().fold(first.clone(), sum)
    }

    /// The portions of which `keep` holds.
    pub fn filtered(&self, mut keep: impl FnMut(&Origin) -> bool) -> Portions {
        Portions(self.0.iter().filter(|(origin, _)| keep(origin)).cloned().collect())
    }

    /// The portions that `role` may use.
    pub fn usable_by(&self, role: &Role) -> Portions {
        self.filtered(|origin| origin.is_usable_by(role))
    }

    /// Whether everything in `other` is also here, origin by origin.
    pub fn contains(&self, other: &Portions) -> bool {
        other.iter().all(|(origin, asked)| self.get(origin).is_some_and(|have| have.contains(asked)))
    }

    /// Puts `resources` of `origin` in.
    ///
    /// # Errors
    /// When a port or set item would be held twice, or a resource is a scalar on one side only; then nothing has changed.
    /// Scalars saturate.
    pub fn add(&mut self, origin: Origin, resources: &Resources) -> Result<(), PortionsError> {
        if resources.is_empty() {
            return Ok(());
        }
        let clash = self.0.iter().filter(|(other, _)| *other != origin).find_map(|(_, have)| clash(have, resources));
        if let Some(problem) = clash {
            return Err(PortionsError::Origin { origin, problem });
        }
        match self.find(&origin) {
            Ok(place) => match self.0[place].1.plus(resources) {
                Ok(sum) => self.0[place].1 = sum,
                Err(problem) => return Err(PortionsError::Origin { origin, problem }),
            },
            Err(place) => self.0.insert(place, (origin, resources.clone())),
        }
        Ok(())
    }

    /// Takes `resources` of `origin` out.
    ///
    /// # Errors
    /// When there is less; then nothing has changed.
    pub fn take(&mut self, origin: &Origin, resources: &Resources) -> Result<(), PortionsError> {
        let place = self.find(origin);
        let nothing = Resources::EMPTY;
        let have = place.map_or(&nothing, |place| &self.0[place].1);
        let error = |problem| PortionsError::Origin { origin: origin.clone(), problem };
        let rest = have.minus(resources).map_err(error)?;
        match place {
            Ok(place) if rest.is_empty() => drop(self.0.remove(place)),
            Ok(place) => self.0[place].1 = rest,
            Err(_) => {}
        }
        Ok(())
    }

    /// The sum.
    ///
    /// # Errors
    /// As [`Portions::add`].
    pub fn plus(&self, other: &Portions) -> Result<Portions, PortionsError> {
        let mut sum = self.clone();
        other.iter().try_for_each(|(origin, resources)| sum.add(origin.clone(), resources))?;
        Ok(sum)
    }

    /// The difference.
    ///
    /// # Errors
    /// Names the first origin and resource of which `other` has more.
    pub fn minus(&self, other: &Portions) -> Result<Portions, PortionsError> {
        let mut rest = self.clone();
        other.iter().try_for_each(|(origin, resources)| rest.take(origin, resources))?;
        Ok(rest)
    }

    /// The volume of this id that `role` may use; the one of the lowest role when there are several.
    pub fn volume(&self, id: &VolumeId, role: &Role) -> Option<(&Origin, &Resources)> {
        let is_it = |origin: &Origin| matches!(origin, Origin::Volume(other, _) if other == id);
        let candidates = self.iter().filter(|(origin, _)| is_it(origin) && origin.is_usable_by(role));
        candidates.max_by_key(|(origin, _)| origin.reservation().map_or(0, |by| by.role().depth()))
    }

    /// The volume of this id whose disk is reserved for exactly `role`.
    pub fn volume_of(&self, id: &VolumeId, role: &Role) -> Option<(&Origin, &Resources)> {
        let is_it = |origin: &Origin| match origin {
            Origin::Volume(other, reservation) => other == id && reservation.role() == role,
            _ => false,
        };
        self.iter().find(|(origin, _)| is_it(origin))
    }

    /// Whether there is a volume of this id whose disk is reserved for exactly `role`.
    pub fn has_volume(&self, id: &VolumeId, role: &Role) -> bool {
        self.volume_of(id, role).is_some()
    }

    /// What a launch in `role` is booked on: the `volumes` that it names, and `asked` from what is reserved for the lowest
    /// role first, then from higher ones, then from the unreserved. Volumes that it does not name and revocable resources
    /// are left alone.
    ///
    /// # Errors
    /// The first volume that is not there, or the first resource that is short.
    pub fn choose(&self, role: &Role, asked: &Resources, volumes: &[VolumeId]) -> Result<Portions, PortionsError> {
        let mut chosen = Portions::EMPTY;
        for id in volumes {
            let missing = || PortionsError::Volume { id: id.clone(), role: role.clone() };
            let (origin, resources) = self.volume(id, role).ok_or_else(missing)?;
            if chosen.get(origin).is_none() {
                chosen.add(origin.clone(), resources)?;
            }
        }
        let usable = |origin: &Origin| match origin {
            Origin::Unreserved | Origin::Reserved(_) => origin.is_usable_by(role),
            Origin::Volume(..) | Origin::Revocable => false,
        };
        let picked = self.pick(asked, Order::ReservedFirst, usable);
        chosen.plus(&picked.map_err(|problem| PortionsError::Short { role: role.clone(), problem })?)
    }

    /// `asked` from the revocable portion.
    ///
    /// # Errors
    /// The first resource that is short.
    pub fn choose_revocable(&self, asked: &Resources) -> Result<Portions, PortionsError> {
        let mut rest = self.clone();
        rest.take(&Origin::Revocable, asked)?;
        Ok(Portions::of(Origin::Revocable, asked.clone()))
    }

    /// The part to give back first when `asked` of these portions is given back: unreserved and revocable before reserved,
    /// reserved for higher roles before lower ones. Volumes stay.
    ///
    /// # Errors
    /// The first resource of which there is less.
    pub fn choose_returned(&self, asked: &Resources) -> Result<Portions, ResourcesError> {
        self.pick(asked, Order::ReservedLast, |origin| !matches!(origin, Origin::Volume(..)))
    }

    fn pick(
        &self,
        asked: &Resources,
        order: Order,
        usable: impl Fn(&Origin) -> bool,
    ) -> Result<Portions, ResourcesError> {
        if let [(origin, have)] = &*self.0
            && usable(origin)
        {
            have.minus(asked)?;
            return Ok(Portions::of(origin.clone(), asked.clone()));
        }
        let mut by_depth: Vec<_> = self.0.iter().filter(|(origin, _)| usable(origin)).collect();
        let depth = |origin: &Origin| origin.reservation().map_or(0, |by| by.role().depth());
        by_depth.sort_by_key(|(origin, _)| match order {
            Order::ReservedFirst => Role::MAX_DEPTH.saturating_sub(depth(origin)),
            Order::ReservedLast => depth(origin),
        });
        Portions(by_depth.iter().map(|portion| (*portion).clone()).collect()).total().minus(asked)?;
        let mut left = asked.clone();
        let mut picked = Vec::new();
        for (origin, have) in by_depth {
            let part = have.common(&left);
            left = left.minus(&part)?;
            picked.push((origin.clone(), part));
        }
        picked.retain(|(_, part)| !part.is_empty());
        picked.sort();
        Ok(Portions(picked))
    }

    fn find(&self, origin: &Origin) -> Result<usize, usize> {
        self.0.binary_search_by(|(other, _)| other.cmp(origin))
    }
}

#[derive(Clone, Copy)]
enum Order {
    ReservedFirst,
    ReservedLast,
}

/// Why two bundles of different origins cannot stand side by side.
fn clash(have: &Resources, added: &Resources) -> Option<ResourcesError> {
    let clash = |(name, quantity): (&ResourceName, &Quantity)| match (have.get(name)?, quantity) {
        (Quantity::Scalar(_), Quantity::Scalar(_)) => None,
        (other, _) => other.plus(name, quantity).err(),
    };
    added.iter().find_map(clash)
}

#[cfg(test)]
mod tests;
