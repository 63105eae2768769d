//! Why somebody is not offered what it waits for: pure judgement over facts that are gathered when somebody asks, so that
//! nothing is paid for it while nobody does.
//!
//! Every agent has one *first* cause that excludes it, found in the order in which a decision meets them: the agent itself,
//! the constraints, the size of the agent, reservations for others, what is in use, what is out in offers, the framework's own
//! filter, the limit of a role, what is kept for guarantees. Agents are told in classes: those with the same attributes.

use std::collections::BTreeMap;
use std::fmt;

use holm_model::{AgentId, Amount, Attributes, Constraint, FrameworkId, Quantity, ResourceName, Resources, Role};

use crate::Allocator;

/// Most classes of one explanation; agents of further ones are counted in [`Explained::more_classes`].
pub const MAX_CLASSES: usize = 64;

/// A resource of which there is too little.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Short {
    /// Which.
    pub resource: ResourceName,
    /// How much is asked.
    pub asked: Quantity,
    /// How much there is for whom it concerns.
    pub available: Quantity,
}

impl Short {
    /// What `available` lacks of `asked`, if anything.
    pub fn of(asked: &Resources, available: &Resources) -> Option<Short> {
        let (resource, asked) = available.shortage(asked)?;
        let available = available.get(&resource).cloned().unwrap_or(Quantity::Scalar(Amount(0)));
        Some(Short { resource, asked, available })
    }

    /// By how much, for scalars; zero for ports and sets.
    pub fn by(&self) -> Amount {
        match (&self.asked, &self.available) {
            (Quantity::Scalar(asked), Quantity::Scalar(available)) => Amount(asked.0.saturating_sub(available.0)),
            _ => Amount(0),
        }
    }
}

fn show(resource: &ResourceName, quantity: &Quantity) -> String {
    match quantity {
        Quantity::Scalar(Amount(0)) => "0".to_owned(),
        quantity => {
            let own: Resources = [(resource.clone(), quantity.clone())].into_iter().collect();
            let text = own.to_string();
            text.split_once(':').map(|(_, amount)| amount.to_owned()).unwrap_or(text)
        }
    }
}

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Short { resource, asked, available } = self;
        write!(f, "{resource}: {} asked, {} there", show(resource, asked), show(resource, available))?;
        match self.by() {
            Amount(0) => Ok(()),
            by => write!(f, ", {} short", resource.show(by)),
        }
    }
}

/// A role that stands between somebody and an offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Which role: one's own or one above it for a limit, another one for a guarantee.
    pub role: Role,
    /// Of what.
    pub resource: ResourceName,
    /// Its limit, or its guarantee.
    pub bound: Amount,
    /// How much it holds, those below it included.
    pub used: Amount,
}

/// Why somebody is not offered something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The framework is not connected.
    Disconnected,
    /// The framework has suppressed offers in the role.
    Suppressed,
    /// The framework takes offers by demand only and has stated none, or none that is not met.
    NoDemand,
    /// The framework holds as many offers as it may.
    OffersFull {
        /// How many it holds.
        held: usize,
        /// How many it may.
        limit: usize,
    },
    /// A role has reached its limit.
    Quota(Bound),
    /// The agent takes no part.
    Away(&'static str),
    /// The agent does not satisfy a condition.
    Constraint(Constraint),
    /// The agent would be too small if it were empty.
    TooSmall(Short),
    /// It would fit if a part were not reserved for other roles.
    Reserved(Short),
    /// What is not in use is too little.
    Short(Short),
    /// It would fit if what is out in offers came back.
    OutInOffers {
        /// What is short of it now.
        short: Short,
        /// Who holds an offer of it, and in which role; the one with most of the resource.
        holder: (FrameworkId, Role),
        /// Whether that is the one who asks.
        own: bool,
    },
    /// The framework has declined what is free there, and its filter holds.
    Filter,
    /// What is free is kept for another role's unmet guarantee.
    Headroom(Bound),
    /// Nothing: the next run may offer it.
    Nothing,
}

impl Cause {
    /// The cause as one word for programs.
    pub const fn name(&self) -> &'static str {
        match self {
            Cause::Disconnected => "disconnected",
            Cause::Suppressed => "suppressed",
            Cause::NoDemand => "no_demand",
            Cause::OffersFull { .. } => "offers_full",
            Cause::Quota(_) => "quota",
            Cause::Away(_) => "agent_away",
            Cause::Constraint(_) => "constraint",
            Cause::TooSmall(_) => "too_small",
            Cause::Reserved(_) => "reserved",
            Cause::Short(_) => "in_use",
            Cause::OutInOffers { own: true, .. } => "own_offer",
            Cause::OutInOffers { own: false, .. } => "other_offer",
            Cause::Filter => "filter",
            Cause::Headroom(_) => "headroom",
            Cause::Nothing => "nothing",
        }
    }

    /// What is short, where that is the cause.
    pub fn short(&self) -> Option<&Short> {
        match self {
            Cause::TooSmall(short)
            | Cause::Reserved(short)
            | Cause::Short(short)
            | Cause::OutInOffers { short, .. } => Some(short),
            _ => None,
        }
    }

    /// The role that stands in between, where that is the cause.
    pub fn bound(&self) -> Option<&Bound> {
        match self {
            Cause::Quota(bound) | Cause::Headroom(bound) => Some(bound),
            _ => None,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Disconnected => f.write_str("the framework is not connected"),
            Cause::Suppressed => f.write_str("the framework has suppressed offers in this role"),
            Cause::NoDemand => f.write_str("the framework takes offers by demand only, and no demand is open"),
            Cause::OffersFull { held, limit } => {
                write!(f, "the framework holds {held} offers, and the limit is {limit}")
            }
            Cause::Quota(Bound { role, resource, bound, used }) => {
                let (bound, used) =
                    (show(resource, &Quantity::Scalar(*bound)), show(resource, &Quantity::Scalar(*used)));
                write!(f, "role {role} is at its limit: {resource}: {used} of {bound} in use or on offer")
            }
            Cause::Away(why) => write!(f, "the agent is {why}"),
            Cause::Constraint(constraint) => write!(f, "constraint {constraint} does not hold"),
            Cause::TooSmall(short) => write!(f, "too small even when empty: {short}"),
            Cause::Reserved(short) => write!(f, "reserved for other roles: {short}"),
            Cause::Short(short) => write!(f, "in use: {short}"),
            Cause::OutInOffers { short, own: true, .. } => {
                write!(f, "the framework holds an offer of it and has not answered: {short}")
            }
            Cause::OutInOffers { short, holder: (framework, role), .. } => {
                write!(f, "on offer to {framework} in role {role}, whose turn it was: {short}")
            }
            Cause::Filter => {
                f.write_str("the framework declined what is free there, and its filter holds; a revive ends it")
            }
            Cause::Headroom(Bound { role, resource, bound, used }) => {
                let (bound, used) =
                    (show(resource, &Quantity::Scalar(*bound)), show(resource, &Quantity::Scalar(*used)));
                write!(f, "kept for the guarantee of role {role}: {resource}: {used} of {bound} held")
            }
            Cause::Nothing => f.write_str("nothing excludes it: the next run may offer it"),
        }
    }
}

/// What is known of one agent with regard to somebody who asks. Bundles are what the role in question may use.
#[derive(Clone, Debug)]
pub struct AgentFacts {
    /// Which agent.
    pub agent: AgentId,
    /// Its attributes.
    pub attributes: Attributes,
    /// Why it takes no part, if so.
    pub away: Option<&'static str>,
    /// The first condition of those that hold for who asks that the agent does not satisfy.
    pub unmet: Option<Constraint>,
    /// Everything it has.
    pub total: Resources,
    /// What of it is not reserved for others.
    pub open: Resources,
    /// What is free.
    pub free: Resources,
    /// What is free and not reserved for others.
    pub usable: Resources,
    /// What is out in offers, and to whom; only what the role may use.
    pub offers: Vec<(FrameworkId, Role, Resources)>,
    /// Whether a filter of the framework refuses what is free.
    pub filtered: bool,
}

/// Who asks, and for what at least.
#[derive(Clone, Debug)]
pub struct Wish {
    /// Which framework.
    pub framework: FrameworkId,
    /// The least that is of use at one time on one agent.
    pub least: Resources,
    /// A cause that holds everywhere.
    pub everywhere: Option<Cause>,
    /// Guarantees of others that are not met, and how much is free in all beside them is too little: what is free is kept.
    pub kept: Vec<Bound>,
}

/// Agents of a class that one kind of cause excludes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exclusion {
    /// The cause, with the numbers of the agent that comes closest.
    pub cause: Cause,
    /// How many agents it excludes.
    pub agents: usize,
    /// The agent that comes closest.
    pub example: AgentId,
}

/// Agents with the same attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassReasons {
    /// Their attributes.
    pub attributes: Attributes,
    /// How many they are.
    pub agents: usize,
    /// What excludes them, most agents first.
    pub reasons: Vec<Exclusion>,
}

/// What keeps somebody from an offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explained {
    /// A cause that holds everywhere, whatever agents have.
    pub everywhere: Option<Cause>,
    /// Per class of agents, largest first.
    pub classes: Vec<ClassReasons>,
    /// Agents in classes that are not listed.
    pub more_classes: usize,
}

/// The first thing that excludes one agent.
pub fn first_cause(wish: &Wish, facts: &AgentFacts) -> Cause {
    if let Some(why) = facts.away {
        return Cause::Away(why);
    }
    if let Some(constraint) = &facts.unmet {
        return Cause::Constraint(constraint.clone());
    }
    if let Some(short) = Short::of(&wish.least, &facts.total) {
        return Cause::TooSmall(short);
    }
    if let Some(short) = Short::of(&wish.least, &facts.open) {
        return Cause::Reserved(short);
    }
    if let Some(short) = Short::of(&wish.least, &facts.usable).or_else(|| nothing(facts)) {
        return not_free(wish, facts, short);
    }
    if facts.filtered {
        return Cause::Filter;
    }
    match wish.kept.iter().find(|bound| wish.least.get(&bound.resource).is_some() || wish.least.is_empty()) {
        Some(bound) => Cause::Headroom(bound.clone()),
        None => Cause::Nothing,
    }
}

/// Who asks for nothing in particular is short of everything where nothing is free.
fn nothing(facts: &AgentFacts) -> Option<Short> {
    let (resource, asked) = facts.open.iter().next()?;
    let available = Quantity::Scalar(Amount(0));
    facts.usable.is_empty().then(|| Short { resource: resource.clone(), asked: asked.clone(), available })
}

/// Too little is usable now: because others have reserved it, because it is out in offers, or because it is in use.
fn not_free(wish: &Wish, facts: &AgentFacts, short: Short) -> Cause {
    if !facts.free.is_empty() && Short::of(&wish.least, &facts.free).is_none() {
        return Cause::Reserved(short);
    }
    let back = facts.offers.iter().fold(facts.usable.clone(), |sum, (.., held)| sum.plus(held).unwrap_or(sum));
    let amount = |held: &Resources| held.scalar(&short.resource);
    let holder = facts.offers.iter().max_by_key(|(framework, _, held)| (*framework == wish.framework, amount(held)));
    match holder {
        Some((framework, role, _)) if Short::of(&wish.least, &back).is_none() => {
            let own = *framework == wish.framework;
            Cause::OutInOffers { short, holder: (*framework, role.clone()), own }
        }
        _ => Cause::Short(short),
    }
}

/// Judges all agents, and tells them in classes.
pub fn explain(wish: &Wish, agents: &[AgentFacts]) -> Explained {
    let mut classes = BTreeMap::<&Attributes, Vec<(AgentId, Cause)>>::new();
    for facts in agents {
        classes.entry(&facts.attributes).or_default().push((facts.agent, first_cause(wish, facts)));
    }
    let class = |(attributes, causes): (&Attributes, Vec<(AgentId, Cause)>)| ClassReasons {
        attributes: attributes.clone(),
        agents: causes.len(),
        reasons: reasons(causes),
    };
    let mut classes: Vec<ClassReasons> = classes.into_iter().map(class).collect();
    classes.sort_by_key(|class| std::cmp::Reverse(class.agents));
    let more_classes = classes.iter().skip(MAX_CLASSES).map(|class| class.agents).sum();
    classes.truncate(MAX_CLASSES);
    Explained { everywhere: wish.everywhere.clone(), classes, more_classes }
}

/// Joins causes of one kind; of those that are short of the same resource the one that comes closest stays.
fn reasons(causes: Vec<(AgentId, Cause)>) -> Vec<Exclusion> {
    let mut kinds = BTreeMap::<(&'static str, Option<ResourceName>, Option<String>), Exclusion>::new();
    for (agent, cause) in causes {
        let resource = cause.short().map(|short| short.resource.clone());
        let detail = match &cause {
            Cause::Constraint(constraint) => Some(constraint.to_string()),
            Cause::Away(why) => Some((*why).to_owned()),
            cause => cause.bound().map(|bound| bound.role.to_string()),
        };
        let gap = |cause: &Cause| cause.short().map_or(Amount(0), Short::by);
        match kinds.get_mut(&(cause.name(), resource.clone(), detail.clone())) {
            Some(reason) => {
                reason.agents += 1;
                if gap(&cause) < gap(&reason.cause) {
                    (reason.cause, reason.example) = (cause, agent);
                }
            }
            None => {
                let key = (cause.name(), resource, detail);
                kinds.insert(key, Exclusion { cause, agents: 1, example: agent });
            }
        }
    }
    let mut reasons: Vec<Exclusion> = kinds.into_values().collect();
    reasons.sort_by_key(|reason| std::cmp::Reverse(reason.agents));
    reasons
}

impl Allocator {
    /// Whether a filter of a framework refuses what is free on an agent.
    pub fn refuses(&self, framework: FrameworkId, role: &Role, agent: AgentId) -> bool {
        let (Some(leaf), Some(slot)) = (self.roles.leaf(framework, role), self.stock.find(agent)) else {
            return false;
        };
        self.filters.refuses(slot, leaf, &self.stock.free(slot))
    }
}

#[cfg(test)]
mod tests;
