//! Constraints on agents, evaluated once per class of agents and remembered.
//!
//! Agents with equal attributes form a class; there are some hundreds of classes where there are tens of thousands of agents. A
//! conjunction is evaluated once for each class and kept as a bit. Host names are the exception: they are unique, so a
//! conjunction that looks at them is split, its part on attributes kept as bits and its part on the host name asked agent by
//! agent, or answered by a look-up in the map of host names where it says which it must be.

use std::collections::BTreeMap;
use std::sync::Arc;

use holm_model::{Attributes, Constraint, Constraints, Subject, Test};
use regex::bytes::{Regex, RegexBuilder};

/// The most that one pattern may take once it is compiled, in bytes. Matching takes time in proportion to this and to the text.
pub const MAX_PATTERN_BYTES: usize = 64 << 10;

/// Most different patterns of one framework's demands and options.
pub const MAX_PATTERNS: usize = 64;

/// Deepest nesting of a pattern.
const MAX_NESTING: u32 = 32;

/// Why patterns were refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It is not a regular expression.
    #[error("pattern {pattern:?} cannot be read: {why}")]
    Syntax {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        why: String,
    },
    /// It compiles to more than [`MAX_PATTERN_BYTES`].
    #[error(
        "pattern {pattern:?} of {bytes} bytes compiles to more than {MAX_PATTERN_BYTES} bytes, the limit of its cost: \
         repeat less"
    )]
    TooCostly {
        /// The pattern.
        pattern: String,
        /// Its own length.
        bytes: usize,
    },
    /// There are too many different ones.
    #[error("{0} different patterns; the limit is {MAX_PATTERNS}")]
    TooMany(usize),
}

/// Checks that all patterns can be read and are cheap enough, together too.
///
/// # Errors
/// The first pattern that is not, and why.
pub fn check_patterns<'a>(constraints: impl IntoIterator<Item = &'a Constraints>) -> Result<(), PatternError> {
    let all = constraints.into_iter().flat_map(Constraints::iter);
    let patterns: std::collections::BTreeSet<&Arc<str>> = all.filter_map(|one| one.test.pattern()).collect();
    if patterns.len() > MAX_PATTERNS {
        return Err(PatternError::TooMany(patterns.len()));
    }
    patterns.into_iter().try_for_each(|pattern| compile(pattern).map(drop))
}

/// A pattern that must match the whole text. Without Unicode a class such as `\\w` is a few ranges instead of hundreds.
fn compile(pattern: &str) -> Result<Regex, PatternError> {
    let mut builder = RegexBuilder::new(&format!("^(?:{pattern})$"));
    builder.unicode(false).size_limit(MAX_PATTERN_BYTES).dfa_size_limit(MAX_PATTERN_BYTES).nest_limit(MAX_NESTING);
    builder.build().map_err(|error| {
        let quoted = pattern.chars().take(64).collect();
        match error {
            regex::Error::CompiledTooBig(_) => PatternError::TooCostly { pattern: quoted, bytes: pattern.len() },
            // The library draws the place with lines of its own; the last one says what is wrong.
            other => {
                let text = other.to_string();
                let why = text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
                PatternError::Syntax { pattern: quoted, why }
            }
        }
    })
}

/// The first condition that an agent does not satisfy. For who asks why: decisions use the table.
pub fn first_unmet<'a>(
    constraints: impl IntoIterator<Item = &'a Constraints>,
    attributes: &Attributes,
    hostname: &str,
) -> Option<&'a Constraint> {
    let unmet = |constraint: &&Constraint| {
        let value = match &constraint.subject {
            Subject::Hostname => Some(hostname),
            Subject::Attribute(name) => attributes.get(name).map(|value| &**value),
        };
        // A pattern that cannot be read was refused when it came.
        Ready::new(constraint).is_ok_and(|ready| !ready.holds(value))
    };
    constraints.into_iter().flat_map(Constraints::iter).find(unmet)
}

/// One condition, ready to be evaluated.
#[derive(Clone, Debug)]
struct Ready {
    subject: Subject,
    test: Test,
    pattern: Option<Regex>,
}

impl Ready {
    fn new(constraint: &Constraint) -> Result<Ready, PatternError> {
        let pattern = constraint.test.pattern().map(|pattern| compile(pattern)).transpose()?;
        Ok(Ready { subject: constraint.subject.clone(), test: constraint.test.clone(), pattern })
    }

    fn holds(&self, value: Option<&str>) -> bool {
        let matches = |value: &str| self.pattern.as_ref().is_some_and(|pattern| pattern.is_match(value.as_bytes()));
        match &self.test {
            Test::Exists => value.is_some(),
            Test::NotExists => value.is_none(),
            Test::Equals(wanted) => value == Some(wanted),
            Test::NotEquals(unwanted) => value != Some(unwanted),
            Test::Matches(_) => value.is_some_and(matches),
            Test::NotMatches(_) => !value.is_some_and(matches),
        }
    }
}

/// A conjunction that somebody uses.
#[derive(Clone, Debug)]
struct Entry {
    constraints: Constraints,
    on_attributes: Vec<Ready>,
    on_hostname: Vec<Ready>,
    /// By class: whether the part on attributes holds.
    classes: Vec<Option<bool>>,
    users: u32,
}

/// The number of an interned conjunction; [`ConstraintId::NONE`] is the empty one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ConstraintId(u32);

impl ConstraintId {
    /// Of the conjunction that every agent satisfies.
    pub(crate) const NONE: ConstraintId = ConstraintId(0);
}

/// All conjunctions in use, and what they come to for each class.
#[derive(Clone, Debug, Default)]
pub(crate) struct ConstraintTable {
    by_value: BTreeMap<Constraints, u32>,
    /// Slot `n` is of the id `n + 1`.
    entries: Vec<Option<Entry>>,
    vacant: Vec<u32>,
}

impl ConstraintTable {
    /// The id of a conjunction, for one more user of it.
    ///
    /// # Errors
    /// A pattern that [`check_patterns`] would refuse.
    pub(crate) fn acquire(&mut self, constraints: &Constraints) -> Result<ConstraintId, PatternError> {
        if constraints.is_empty() {
            return Ok(ConstraintId::NONE);
        }
        if let Some(slot) = self.by_value.get(constraints) {
            if let Some(entry) = &mut self.entries[*slot as usize] {
                entry.users += 1;
            }
            return Ok(ConstraintId(slot + 1));
        }
        let ready = constraints.iter().map(Ready::new).collect::<Result<Vec<_>, _>>()?;
        let (on_hostname, on_attributes) = ready.into_iter().partition(|one| one.subject == Subject::Hostname);
        let entry =
            Entry { constraints: constraints.clone(), on_attributes, on_hostname, classes: Vec::new(), users: 1 };
        let slot = match self.vacant.pop() {
            Some(slot) => slot,
            None => {
                self.entries.push(None);
                u32::try_from(self.entries.len() - 1).unwrap_or(u32::MAX)
            }
        };
        self.entries[slot as usize] = Some(entry);
        self.by_value.insert(constraints.clone(), slot);
        Ok(ConstraintId(slot + 1))
    }

    /// One user less; the last one takes the conjunction with it.
    pub(crate) fn release(&mut self, id: ConstraintId) {
        let Some(slot) = id.0.checked_sub(1) else { return };
        let Some(place) = self.entries.get_mut(slot as usize) else { return };
        let Some(entry) = place else { return };
        entry.users -= 1;
        if entry.users == 0 {
            self.by_value.remove(&entry.constraints);
            *place = None;
            self.vacant.push(slot);
        }
    }

    /// Whether an agent of a class, with this host name, satisfies a conjunction. `attributes` are those of the class and are
    /// looked at the first time only.
    pub(crate) fn holds(&mut self, id: ConstraintId, class: u32, attributes: &Attributes, hostname: &str) -> bool {
        let Some(entry) = self.entry_mut(id) else { return id == ConstraintId::NONE };
        if entry.classes.len() <= class as usize {
            entry.classes.resize(class as usize + 1, None);
        }
        let in_class = *entry.classes[class as usize].get_or_insert_with(|| {
            let value = |one: &Ready| match &one.subject {
                Subject::Attribute(name) => attributes.get(name).map(|value| &**value),
                Subject::Hostname => None,
            };
            entry.on_attributes.iter().all(|one| one.holds(value(one)))
        });
        in_class && entry.on_hostname.iter().all(|one| one.holds(Some(hostname)))
    }

    /// The same without looking up what is remembered, and without remembering.
    pub(crate) fn evaluate(&self, id: ConstraintId, attributes: &Attributes, hostname: &str) -> bool {
        id == ConstraintId::NONE || self.broken(id, attributes, hostname).is_none()
    }

    /// Whether a conjunction can tell apart agents of one class.
    #[cfg(test)]
    pub(crate) fn looks_at_hostname(&self, id: ConstraintId) -> bool {
        self.entry(id).is_some_and(|entry| !entry.on_hostname.is_empty())
    }

    /// The only host name that satisfies a conjunction, if it names one.
    #[cfg(test)]
    pub(crate) fn only_host(&self, id: ConstraintId) -> Option<&Arc<str>> {
        self.entry(id)?.on_hostname.iter().find_map(|one| match &one.test {
            Test::Equals(name) => Some(name),
            _ => None,
        })
    }

    /// The first condition of a conjunction that does not hold, for people.
    pub(crate) fn broken(&self, id: ConstraintId, attributes: &Attributes, hostname: &str) -> Option<Constraint> {
        let entry = self.entry(id)?;
        let holds = |one: &Ready| match &one.subject {
            Subject::Hostname => one.holds(Some(hostname)),
            Subject::Attribute(name) => one.holds(attributes.get(name).map(|value| &**value)),
        };
        let mut all = entry.on_attributes.iter().chain(&entry.on_hostname);
        all.find(|one| !holds(one)).map(|one| Constraint { subject: one.subject.clone(), test: one.test.clone() })
    }

    /// Forgets what was found for a class whose number is to be used for other attributes.
    pub(crate) fn forget_class(&mut self, class: u32) {
        for entry in self.entries.iter_mut().flatten() {
            if let Some(known) = entry.classes.get_mut(class as usize) {
                *known = None;
            }
        }
    }

    fn entry(&self, id: ConstraintId) -> Option<&Entry> {
        self.entries.get(id.0.checked_sub(1)? as usize)?.as_ref()
    }

    fn entry_mut(&mut self, id: ConstraintId) -> Option<&mut Entry> {
        self.entries.get_mut(id.0.checked_sub(1)? as usize)?.as_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn constraints(texts: &[&str]) -> Constraints {
        Constraints::new(texts.iter().map(|text| text.parse().unwrap())).unwrap()
    }

    fn attributes(pairs: &[(&str, &str)]) -> Attributes {
        pairs.iter().map(|(name, value)| (Arc::from(*name), Arc::from(*value))).collect()
    }

    fn satisfies(texts: &[&str], pairs: &[(&str, &str)], hostname: &str) -> bool {
        let mut table = ConstraintTable::default();
        let id = table.acquire(&constraints(texts)).unwrap();
        let attributes = attributes(pairs);
        let first = table.holds(id, 3, &attributes, hostname);
        assert_eq!(table.holds(id, 3, &Attributes::new(), hostname), first, "the class was evaluated before");
        assert_eq!(table.broken(id, &attributes, hostname).is_none(), first);
        first
    }

    #[test]
    fn each_test_holds_where_it_says() {
        let agent = [("rack", "a12"), ("ssd", "")];
        for (text, holds) in [
            ("rack=a12", true),
            ("rack=a1", false),
            ("rack!=a1", true),
            ("rack!=a12", false),
            ("rack=~a[0-9]+", true),
            ("rack=~a[0-9]", false),
            ("rack!~a[0-9]", true),
            ("rack=~a\\d\\d|b", true),
            ("rack=~b|a1", false),
            ("ssd", true),
            ("!ssd", false),
            ("gpu", false),
            ("!gpu", true),
            ("gpu=x", false),
            ("gpu!=x", true),
            ("gpu=~.*", false),
            ("gpu!~.*", true),
            ("@hostname=web-1", true),
            ("@hostname=~web-\\d", true),
            ("@hostname!~web-.*", false),
            ("@hostname", true),
            ("!@hostname", false),
        ] {
            assert_eq!(satisfies(&[text], &agent, "web-1"), holds, "{text}");
        }
        assert!(satisfies(&["rack=a12", "ssd", "@hostname=web-1"], &agent, "web-1"));
        assert!(!satisfies(&["rack=a12", "gpu", "@hostname=web-1"], &agent, "web-1"));
        assert!(satisfies(&[], &[], ""));
    }

    #[test]
    fn text_beyond_ascii_is_matched_as_bytes() {
        assert!(satisfies(&["zone=~zürich-.."], &[("zone", "zürich-ab")], ""));
        assert!(satisfies(&["zone=~z.*h"], &[("zone", "zürich")], ""));
    }

    #[test]
    fn patterns_that_cost_too_much_or_cannot_be_read_are_refused_with_the_numbers() {
        let refused = |text: &str| check_patterns([&constraints(&[text])]).unwrap_err().to_string();
        assert!(refused("rack=~(?u:\\p{L}{200})").starts_with("pattern"), "with Unicode tables or without");
        let costly = refused("rack=~(a{100}){100}");
        assert!(costly.contains("13 bytes") && costly.contains("65536 bytes"), "{costly}");
        let broken = refused("rack=~a(");
        assert!(broken.contains("cannot be read") && broken.contains("unclosed group"), "{broken}");
        assert!(refused(&format!("rack=~{}", "(".repeat(40) + &")".repeat(40))).contains("cannot be read"));
        let many: Vec<Constraints> = (0..65).map(|n| constraints(&[&format!("rack=~a{n}")])).collect();
        assert_eq!(check_patterns(&many).unwrap_err().to_string(), "65 different patterns; the limit is 64");
        assert_eq!(check_patterns(std::iter::repeat_n(&many[0], 1000)), Ok(()));
    }

    #[test]
    fn matching_takes_time_in_proportion_to_the_text_whatever_the_pattern() {
        // Backtracking would take longer than the age of the universe.
        let text = "a".repeat(256);
        assert!(!satisfies(&["x=~(a*)*(a*)*(a|a)*b"], &[("x", &text)], ""));
    }

    #[test]
    fn equal_conjunctions_share_an_id_until_the_last_user_goes() {
        let mut table = ConstraintTable::default();
        let one = table.acquire(&constraints(&["a", "b"])).unwrap();
        let same = table.acquire(&constraints(&["b", "a"])).unwrap();
        assert_eq!(one, same);
        assert!(table.holds(one, 0, &attributes(&[("a", ""), ("b", "")]), ""));
        table.release(one);
        assert!(table.holds(one, 0, &Attributes::new(), ""), "it is still in use");
        table.release(same);
        let other = table.acquire(&constraints(&["c"])).unwrap();
        assert_eq!(other, one, "the slot is used again");
        assert!(
            !table.holds(other, 0, &attributes(&[("a", ""), ("b", "")]), ""),
            "and nothing is left of what was there"
        );
        assert_eq!(table.acquire(&Constraints::default()).unwrap(), ConstraintId::NONE);
    }

    #[test]
    fn a_conjunction_that_names_a_host_is_found_by_it() {
        let mut table = ConstraintTable::default();
        let host = table.acquire(&constraints(&["@hostname=web-1", "ssd"])).unwrap();
        let pattern = table.acquire(&constraints(&["@hostname=~web-.*"])).unwrap();
        let rack = table.acquire(&constraints(&["rack=a"])).unwrap();
        assert_eq!(table.only_host(host).map(|name| &**name), Some("web-1"));
        assert_eq!(table.only_host(pattern), None);
        assert!(table.looks_at_hostname(pattern) && !table.looks_at_hostname(rack));
        table.forget_class(0);
    }
}
