//! What of an agent's free part may go to whom: constraints, scarcity, reservations, limits, guarantees, filters.

use std::borrow::Cow;

use holm_model::{Origin, Portions, Quantity};

use crate::Allocator;
use crate::constraints::{ConstraintId, ConstraintTable};
use crate::names::{Amounts, MAX_SCALARS, NOTHING};
use crate::roles::{Node, Roles, Room};
use crate::stock::{Bundle, Slot};

/// In which order leaves are asked, and for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pass {
    /// For those only who are owed some of it.
    Guarantees,
    /// For everybody.
    Share,
    /// The revocable part, for those who opted in.
    Revocable,
}

/// What kept an offer from being larger.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    /// Whose limit, and of which resources.
    pub(crate) cuts: Vec<(Node, u32)>,
    /// Which resources are kept for guarantees.
    pub(crate) withheld: u32,
}

/// One agent, as leaves are asked about it.
pub(crate) struct Visit<'a> {
    pub(crate) allocator: &'a Allocator,
    pub(crate) roles: &'a Roles,
    pub(crate) slot: Slot,
    pub(crate) pass: Pass,
    /// What is free there.
    pub(crate) free: &'a Bundle,
    /// Whether it is anything but unreserved.
    pub(crate) mixed: bool,
    /// How much is free in the cluster that no guarantee needs; `None`: nothing is owed to anybody.
    pub(crate) slack: Option<[u128; MAX_SCALARS]>,
}

impl<'a> Visit<'a> {
    pub(crate) fn new(
        allocator: &'a Allocator,
        roles: &'a Roles,
        slot: Slot,
        pass: Pass,
        free: &'a Bundle,
    ) -> Visit<'a> {
        let mixed = free.rest.iter().any(|(origin, _)| *origin != Origin::Unreserved);
        let slack = roles.owes_anything().then(|| {
            let left = |r| {
                if r < allocator.stock.names.len() { allocator.stock.spare(r).saturating_sub(roles.owed(r)) } else { 0 }
            };
            std::array::from_fn(left)
        });
        Visit { allocator, roles, slot, pass, free, mixed, slack }
    }

    /// What a leaf would be offered; `None` when there is nothing for it.
    pub(crate) fn offer(
        &self,
        leaf: Node,
        constraints: &mut ConstraintTable,
        notes: &mut Notes,
    ) -> Option<Cow<'a, Bundle>> {
        let stock = &self.allocator.stock;
        let options = &self.allocator.leaves[leaf as usize];
        let class = stock.class(self.slot);
        if options.constraint != ConstraintId::NONE
            && !constraints.holds(options.constraint, class, stock.classes.attributes(class), stock.hostname(self.slot))
        {
            return None;
        }
        if self.allocator.able > 0 && !options.abilities.gpus && stock.classes.is_scarce(class) {
            return None;
        }
        let offer = self.grantable(leaf, notes)?;
        if self.pass != Pass::Revocable && self.allocator.demands.is_by_demand(leaf) {
            return self.demanded(leaf, &offer);
        }
        if self.allocator.is_outranked(leaf, 0, self.slot, || stock.portions(&offer).total()) {
            return None;
        }
        let all = if offer.rest.is_empty() { offer.plain } else { stock.all(&offer) };
        let enough = match &*options.minimum {
            [] => self.allocator.is_enough(&all, offer.is_empty()),
            least => least.iter().all(|(r, amount)| all[*r] >= *amount) && !offer.is_empty(),
        };
        (enough && !self.allocator.filters.refuses(self.slot, leaf, &offer)).then_some(offer)
    }

    /// The part of what a leaf could have that it has asked for. Of a gang: its part here; the rest is granted with it.
    fn demanded(&self, leaf: Node, offer: &Bundle) -> Option<Cow<'a, Bundle>> {
        let stock = &self.allocator.stock;
        let available = stock.portions(offer);
        let choice = self.allocator.choose_demand(leaf, self.slot, &available.total(), self.allocator.granted)?;
        let part = self.allocator.part_of(leaf, self.slot, &choice, &available)?;
        Some(Cow::Owned(stock.split(&part)))
    }

    /// All that a leaf may be granted of what is free, whether or not it would take it.
    pub(crate) fn grantable(&self, leaf: Node, notes: &mut Notes) -> Option<Cow<'a, Bundle>> {
        let mut offer = self.usable(leaf)?;
        let trims = self.pass != Pass::Revocable && (self.roles.limits > 0 || self.slack.is_some());
        (!trims || self.trim(leaf, &mut offer, notes)).then_some(offer)
    }

    /// The free part that the leaf's role may use.
    fn usable(&self, leaf: Node) -> Option<Cow<'a, Bundle>> {
        if self.pass == Pass::Revocable {
            let revocable = self.free.rest.get(&Origin::Revocable);
            let resources = revocable.filter(|_| self.allocator.leaves[leaf as usize].abilities.revocable)?;
            let rest = Portions::of(Origin::Revocable, resources.clone());
            return Some(Cow::Owned(Bundle { plain: NOTHING, rest }));
        }
        if !self.mixed {
            return Some(Cow::Borrowed(self.free));
        }
        let role = self.roles.role_of(leaf)?;
        let firm = |origin: &Origin| *origin != Origin::Revocable && origin.is_usable_by(role);
        Some(Cow::Owned(Bundle { plain: self.free.plain, rest: self.free.rest.filtered(firm) }))
    }

    /// Cuts an offer down to what limits and guarantees leave; false when a guarantee is to be met and it does not help.
    fn trim(&self, leaf: Node, offer: &mut Cow<'_, Bundle>, notes: &mut Notes) -> bool {
        let mut plain = offer.plain;
        if self.roles.limits > 0 {
            let mut rooms = self.roles.rooms(leaf);
            if !rooms.is_empty() {
                if self.mixed {
                    self.trim_reserved(leaf, &mut offer.to_mut().rest, &mut rooms, notes);
                }
                fit(&mut plain, &rooms, notes);
            }
        }
        let mut helps = false;
        if let Some(slack) = &self.slack {
            let owed = self.roles.owed_to(leaf);
            for (r, amount) in plain.iter_mut().enumerate() {
                helps |= *amount > 0 && owed[r] > 0;
                let most = u64::try_from(owed[r].saturating_add(slack[r])).unwrap_or(u64::MAX);
                if *amount > most {
                    *amount = most;
                    notes.withheld |= 1 << r;
                }
            }
        }
        if plain != offer.plain {
            offer.to_mut().plain = plain;
        }
        helps || self.pass != Pass::Guarantees
    }

    /// What is reserved for a role counts against its limit already, but not against those of roles below it.
    fn trim_reserved(&self, leaf: Node, rest: &mut Portions, rooms: &mut [Room], notes: &mut Notes) {
        let stock = &self.allocator.stock;
        let mut trimmed = Portions::EMPTY;
        for (origin, resources) in rest.iter() {
            let of_role = origin.reservation().and_then(|reservation| self.roles.role(reservation.role()));
            let height = of_role.and_then(|node| self.roles.up(leaf).position(|above| above == node));
            let Some(height) = height else {
                let _ = trimmed.add(origin.clone(), resources);
                continue;
            };
            let all = stock.names.amounts(resources);
            let mut fitting = all;
            let below: Vec<Room> = rooms.iter().copied().filter(|room| room.height < height).collect();
            fit(&mut fitting, &below, notes);
            if matches!(origin, Origin::Volume(..)) && fitting != all {
                continue;
            }
            for room in rooms.iter_mut().filter(|room| room.height < height) {
                room.left = room.left.saturating_sub(u128::from(fitting[room.resource]));
            }
            let mut part = resources.clone();
            let counted =
                resources.iter_scalars().filter_map(|(name, _)| Some((name.clone(), stock.names.find(name)?)));
            for (name, r) in counted {
                part.set(name, Quantity::Scalar(holm_model::Amount(fitting[r])));
            }
            let _ = trimmed.add(origin.clone(), &part);
        }
        *rest = trimmed;
    }
}

fn fit(amounts: &mut Amounts, rooms: &[Room], notes: &mut Notes) {
    for room in rooms {
        let most = u64::try_from(room.left).unwrap_or(u64::MAX);
        if amounts[room.resource] > most {
            amounts[room.resource] = most;
            notes.cuts.push((room.node, 1 << room.resource));
        }
    }
}
