//! The rules of the house, as tests over the checkout: which crate may know which, how long a thing may grow, what never appears.
//!
//! Every check is a function from text (or a dependency graph) to offences, tried against small bad inputs beside it; the tests here
//! run them over the whole checkout and print every offender.

mod arrows;
mod budgets;
mod rules;
mod source;
mod text;
mod tree;

use std::fmt;

use source::Source;
use tree::Tree;

/// One broken rule, where, and by how much.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Offence {
    path: String,
    line: usize,
    what: String,
}

impl Offence {
    pub(crate) fn new(path: &str, line: usize, what: impl Into<String>) -> Self {
        Offence { path: path.to_owned(), line, what: what.into() }
    }
}

impl fmt::Display for Offence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.what)
    }
}

/// Fails with one line per offence.
fn assert_none(mut offences: Vec<Offence>) {
    offences.sort();
    let lines: Vec<_> = offences.iter().map(ToString::to_string).collect();
    assert!(lines.is_empty(), "{} offences:\n{}", lines.len(), lines.join("\n"));
}

/// Runs `check` over every Rust file that is not generated.
fn over_sources(check: impl Fn(&Source) -> Vec<Offence>) {
    let tree = Tree::read();
    let mut offences = tree.unparsed.clone();
    offences.extend(tree.sources.iter().flat_map(check));
    assert_none(offences);
}

#[test]
fn crates_depend_only_downward() {
    assert_none(arrows::check_arrows(&arrows::workspace()));
}

#[test]
fn heavy_dependencies_stay_where_they_belong() {
    assert_none(arrows::check_owners(&arrows::workspace()));
}

#[test]
fn cores_reach_no_runtime_socket_file_or_randomness() {
    assert_none(arrows::check_purity(&arrows::workspace()));
}

#[test]
fn every_module_has_a_header() {
    over_sources(rules::header);
}

#[test]
fn functions_and_files_stay_within_budget() {
    let tree = Tree::read();
    assert_none(budgets::check(&tree.sources));
}

#[test]
fn nothing_unwraps_outside_tests() {
    over_sources(rules::unwrap);
}

#[test]
fn shared_locks_are_justified() {
    over_sources(rules::shared_lock);
}

#[test]
fn modules_are_named_for_what_they_hold() {
    over_sources(rules::module_names);
}

#[test]
fn every_allow_has_a_reason() {
    over_sources(rules::allow_reason);
}

#[test]
fn cores_call_nothing_of_the_outside_world() {
    over_sources(rules::core_calls);
}

#[test]
fn no_file_holds_banned_words() {
    let tree = Tree::read();
    assert_none(tree.texts.iter().flat_map(|(path, text)| text::banned_words(path, text)).collect());
}

#[test]
fn the_readme_stays_short() {
    let tree = Tree::read();
    assert_none(tree.texts.get("README.md").map_or_else(Vec::new, |text| text::readme(text)));
}
