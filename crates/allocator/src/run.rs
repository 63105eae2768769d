//! A run: visiting the candidates, choosing for each who gets what is free there, and knowing what to visit next time.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use holm_model::{AgentId, FrameworkId, Origin, Placement, Portions, Role, Time};

use crate::roles::{Node, ROOT, Roles};
use crate::stock::{Bundle, Slot};
use crate::willing::{Notes, Pass, Visit};
use crate::{Allocator, Served};

/// Up to how many nodes are asked one by one; more are met by asking everybody in order.
const MAX_LISTED: usize = 16;

/// Resources of one agent for one framework in one role; already charged to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// To whom.
    pub framework: FrameworkId,
    /// In which of its roles.
    pub role: Role,
    /// Where.
    pub agent: AgentId,
    /// What: all that was free there for it, as far as limits and guarantees of others let it.
    pub portions: Portions,
    /// The demand that it serves; none for whatever was free.
    pub served: Option<Served>,
    /// Grants of one run with the same number are of use together only.
    pub gang: Option<u64>,
}

/// Who may want what is free on an agent; everybody else is known to refuse it.
enum Who<'a> {
    Everyone,
    /// These nodes, in the order in which they are served.
    Few(Vec<Node>),
    /// These nodes and those below them.
    Many(&'a Scope),
}

/// Many nodes, and those above them.
struct Scope {
    nodes: BTreeMap<Node, u32>,
    above: BTreeSet<Node>,
}

impl Scope {
    fn new(nodes: BTreeMap<Node, u32>, roles: &Roles) -> Scope {
        let above = nodes.keys().flat_map(|node| roles.up(*node)).chain([ROOT]).collect();
        Scope { nodes, above }
    }

    fn includes(&self, roles: &Roles, node: Node) -> bool {
        let within = || roles.up(node).chain([ROOT]).any(|above| self.nodes.contains_key(&above));
        self.above.contains(&node) || within()
    }
}

impl Allocator {
    /// Makes at most `max` grants. Each is charged at once, so the next decision already counts it.
    pub fn allocate(&mut self, now: Time, max: usize) -> Vec<Grant> {
        for (slot, leaf) in self.filters.expire(now) {
            self.demands.opened();
            if self.is_open(slot) && self.roles.node(leaf).is_wanting() {
                self.filters.wake(slot, leaf);
                self.mark(slot);
            }
        }
        self.now = now;
        let mut grants = self.grant_kept(now);
        self.roles.settle();
        grants.extend(self.lend(now));
        self.scout_gangs();
        if self.open.is_empty() || !self.roles.node(ROOT).is_wanting() {
            // Whoever starts to want something asks about all agents then.
            self.candidates.clear();
            self.keen.clear();
            return grants;
        }
        self.roles.settle();
        let mut candidates = std::mem::take(&mut self.candidates);
        candidates.sort(|slot| self.candidate(slot));
        self.candidates = candidates;
        self.visit_candidates(max, &mut grants);
        if grants.len() < max && !self.keen.is_empty() {
            self.visit_open(max, &mut grants);
        }
        grants
    }

    /// Whether [`Allocator::allocate`] has agents to visit: something changed, or the last run ended at its maximum.
    pub fn has_candidates(&self) -> bool {
        !self.candidates.is_empty() || !self.keen.is_empty() && !self.open.is_empty() || self.has_kept_all()
    }

    /// When the next filter ends, after which a run may find something to grant.
    pub fn next_wake(&self) -> Option<Time> {
        self.filters.next_expiry()
    }

    /// Makes every agent with something free a candidate again. Never needed if the allocator is right; a master calls it
    /// now and then as a safety net.
    pub fn sweep(&mut self) {
        for slot in self.open.clone() {
            self.opened(slot);
        }
    }

    /// Visits the agents on which something changed.
    fn visit_candidates(&mut self, max: usize, grants: &mut Vec<Grant>) {
        if !self.roles.is_urgent() {
            while grants.len() < max
                && let Some(slot) = self.next_candidate()
            {
                self.visit(slot, &[Pass::Share, Pass::Revocable], max, grants);
                self.leave(slot, grants.len() == max);
            }
            return;
        }
        // Guarantees come first wherever they can be met, before anything goes by fair share.
        let slots: Vec<Slot> = std::iter::from_fn(|| self.next_candidate()).collect();
        for passes in [&[Pass::Guarantees][..], &[Pass::Share, Pass::Revocable]] {
            for slot in &slots {
                if grants.len() == max || passes == [Pass::Guarantees] && !self.roles.is_urgent() {
                    break;
                }
                self.visit(*slot, passes, max, grants);
            }
        }
        for slot in slots {
            self.leave(slot, grants.len() == max);
        }
    }

    fn next_candidate(&mut self) -> Option<Slot> {
        let placement = if self.movers == 0 { Placement::Spread } else { self.next_placement() };
        let dice = self.options.seed ^ (self.granted << 20) ^ self.candidates.len() as u64;
        self.candidates.pop(placement, mixed(dice))
    }

    /// How whoever is first in order wants its agents chosen.
    fn next_placement(&self) -> Placement {
        self.roles.first().map_or(Placement::Spread, |leaf| self.leaves[leaf as usize].placement)
    }

    /// An agent was visited on behalf of everybody that might want it; or the run ended before that.
    fn leave(&mut self, slot: Slot, unfinished: bool) {
        if unfinished && self.is_open(slot) {
            self.mark(slot);
        } else {
            self.everyone[slot as usize] = false;
            self.filters.take_woken(slot);
        }
    }

    fn visit(&mut self, slot: Slot, passes: &[Pass], max: usize, grants: &mut Vec<Grant>) {
        let everyone = self.everyone[slot as usize];
        let who = match self.filters.woken(slot) {
            _ if everyone => Who::Everyone,
            woken => Who::Few(self.roles.in_order(woken.to_vec())),
        };
        self.visit_for(slot, &who, passes, max, grants);
    }

    fn visit_for(&mut self, slot: Slot, who: &Who<'_>, passes: &[Pass], max: usize, grants: &mut Vec<Grant>) {
        for pass in passes {
            while grants.len() < max
                && let Some((leaf, bundle)) = self.choose(slot, who, *pass)
            {
                let granted = self.grant(slot, leaf, &bundle, *pass);
                self.roles.settle();
                if granted.is_empty() {
                    break;
                }
                grants.extend(granted);
            }
        }
    }

    /// Visits all agents with something free, for the sake of nodes that may want now what they did not before.
    fn visit_open(&mut self, max: usize, grants: &mut Vec<Grant>) {
        let keen = std::mem::take(&mut self.keen);
        let urgent = self.roles.is_urgent();
        let scope = Scope::new(keen, &self.roles);
        if self.is_satisfied(&scope) {
            return self.rest(&scope);
        }
        let ranked = |slot: &Slot| self.candidate(*slot).map(|of| (Reverse(of.free), of.last_grant, of.agent, *slot));
        let mut ranked: Vec<_> = self.open.iter().filter_map(ranked).collect();
        ranked.sort_unstable();
        let slots: VecDeque<Slot> = ranked.into_iter().map(|(.., slot)| slot).collect();
        let all = [&[Pass::Guarantees][..], &[Pass::Share, Pass::Revocable]];
        for passes in if urgent { &all[..] } else { &all[1..] } {
            let mut slots = slots.clone();
            while !slots.is_empty() && !self.is_satisfied(&scope) {
                let pack = self.movers > 0 && self.next_placement() == Placement::Pack;
                let next = if pack { slots.pop_back() } else { slots.pop_front() };
                let Some(slot) = next else { break };
                let listed = || scope.nodes.keys().copied().collect::<Vec<_>>();
                let many = scope.nodes.len() > MAX_LISTED || scope.nodes.contains_key(&ROOT);
                let who = if many { Who::Many(&scope) } else { Who::Few(self.roles.in_order(listed())) };
                self.visit_for(slot, &who, passes, max, grants);
                if grants.len() == max {
                    // Even the last one may have more than it could be granted now.
                    for (node, resources) in scope.nodes {
                        self.interest(node, resources);
                    }
                    return;
                }
            }
        }
        self.rest(&scope);
    }

    /// Whether nobody in scope can take anything more.
    fn is_satisfied(&self, scope: &Scope) -> bool {
        let has_room = |node: Node, resources: u32| match (node, resources) {
            (_, 0) => true,
            (ROOT, resources) => {
                (0..self.stock.names.len()).any(|r| resources >> r & 1 == 1 && self.stock.spare(r) > self.roles.owed(r))
            }
            (node, resources) => self.roles.has_room(node, resources),
        };
        !scope.nodes.iter().any(|(node, resources)| self.roles.node(*node).is_wanting() && has_room(*node, *resources))
    }

    /// Nobody in scope takes more; those whom a limit or a guarantee stops are to be asked when there is room again.
    fn rest(&mut self, scope: &Scope) {
        for (node, resources) in &scope.nodes {
            match *node {
                ROOT => self.withheld |= resources,
                node => self.roles.note_cut(node, *resources),
            }
        }
    }

    /// The first who takes something that is free on an agent, and what.
    fn choose(&mut self, slot: Slot, who: &Who<'_>, pass: Pass) -> Option<(Node, Bundle)> {
        if !self.is_open(slot) {
            return None;
        }
        let free = self.stock.free(slot);
        if pass == Pass::Revocable && free.rest.get(&Origin::Revocable).is_none() {
            return None;
        }
        // An agent that everybody refuses is met often, and counting is cheaper than asking.
        if matches!(who, Who::Everyone) && self.is_refused_by_all(slot, &free) {
            return None;
        }
        let mut constraints = std::mem::take(&mut self.constraints);
        let mut notes = Notes::default();
        let visit = Visit::new(self, &self.roles, slot, pass, &free);
        let mut take = |leaf: Node| {
            // All of it is handed over below, without a copy.
            let part = match visit.offer(leaf, &mut constraints, &mut notes)? {
                Cow::Borrowed(_) => None,
                Cow::Owned(part) => Some(part),
            };
            Some((leaf, part))
        };
        let found = match who {
            Who::Everyone if pass == Pass::Guarantees => self.roles.find_urgent(ROOT, &|_| true, &mut take),
            Who::Everyone => self.roles.find(ROOT, &|_| true, &mut take),
            Who::Few(nodes) => nodes.iter().find_map(|node| self.roles.find(*node, &|_| true, &mut take)),
            Who::Many(scope) => self.roles.find(ROOT, &|node| scope.includes(&self.roles, node), &mut take),
        };
        self.constraints = constraints;
        for (node, resources) in notes.cuts {
            self.roles.note_cut(node, resources);
        }
        self.withheld |= notes.withheld;
        found.map(|(leaf, part)| (leaf, part.unwrap_or(free)))
    }

    /// Whether everybody who wants offers refuses all of `free`, which is what is free on an agent. Of reserved and revocable
    /// resources that is not known.
    pub(crate) fn is_refused_by_all(&mut self, slot: Slot, free: &Bundle) -> bool {
        let is_plain = || free.rest.iter().all(|(origin, _)| *origin == Origin::Unreserved);
        if !self.filters.has(slot) || !is_plain() {
            return false;
        }
        let (roles, filters) = (&self.roles, &mut self.filters);
        filters.refusing(slot, free, |leaf| roles.node(leaf).is_wanting()) == roles.node(ROOT).wanting()
    }

    fn grant(&mut self, slot: Slot, leaf: Node, bundle: &Bundle, pass: Pass) -> Vec<Grant> {
        if pass == Pass::Revocable || !self.demands.is_by_demand(leaf) {
            return self.grant_all(slot, leaf, bundle).into_iter().collect();
        }
        let available = self.available_for(leaf, slot).unwrap_or_default().total();
        let draws = self.granted;
        match self.choose_demand(leaf, slot, &available, draws) {
            Some(choice) => self.grant_choice(leaf, &choice, self.now),
            None => Vec::new(),
        }
    }

    fn grant_all(&mut self, slot: Slot, leaf: Node, bundle: &Bundle) -> Option<Grant> {
        let agent = self.stock.id(slot)?;
        let (framework, role) = self.roles.owner(leaf)?;
        let role = role.clone();
        let portions = self.stock.portions(bundle);
        // What is free is disjoint from what is in use, and no more than the agent's total: this cannot be refused.
        self.charge(slot, leaf, bundle, true).ok()?;
        self.granted += 1;
        self.stock.note_grant(slot, self.granted);
        Some(Grant { framework, role, agent, portions, served: None, gang: None })
    }
}

/// A number in which every bit of `seed` matters everywhere.
fn mixed(seed: u64) -> u64 {
    let mut mixed = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}
