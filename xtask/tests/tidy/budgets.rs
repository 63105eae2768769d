//! How long a function and a file may be, by group of crates. Tests and generated code do not count.
//!
//! The numbers are there to notice growth early: when one pinches, look for the missing noun.

use crate::Offence;
use crate::source::{Function, Source};

/// A group's limits, in lines.
struct Budget {
    name: &'static str,
    function_max: usize,
    file_max: usize,
    /// At most `share` per mille of the functions may be longer than `lines`.
    functions: Share,
    files: Option<Share>,
}

struct Share {
    lines: usize,
    per_mille: usize,
}

const CORES: Budget = Budget {
    name: "cores",
    function_max: 70,
    file_max: 600,
    functions: Share { lines: 35, per_mille: 100 },
    files: Some(Share { lines: 400, per_mille: 100 }),
};

const REST: Budget = Budget {
    name: "the rest",
    function_max: 120,
    file_max: 800,
    functions: Share { lines: 80, per_mille: 10 },
    files: None,
};

/// Checks every file that is not a test against the budget of its group.
pub(crate) fn check(sources: &[Source]) -> Vec<Offence> {
    let (cores, rest): (Vec<_>, Vec<_>) =
        sources.iter().filter(|source| !source.is_test).partition(|source| source.is_core());
    let mut offences = check_group(&cores, &CORES);
    offences.extend(check_group(&rest, &REST));
    offences
}

fn check_group(sources: &[&Source], budget: &Budget) -> Vec<Offence> {
    let functions: Vec<(&Source, &Function)> =
        sources.iter().flat_map(|source| source.functions.iter().map(move |function| (*source, function))).collect();
    let mut offences = Vec::new();
    for (source, function) in functions.iter().filter(|(_, function)| function.lines > budget.function_max) {
        let what = format!(
            "`{}` has {} lines; no function of {} may exceed {}",
            function.name, function.lines, budget.name, budget.function_max
        );
        offences.push(Offence::new(&source.path, function.line, what));
    }
    for source in sources.iter().filter(|source| source.product_lines() > budget.file_max) {
        let what = format!(
            "{} lines without tests; no file of {} may exceed {}",
            source.product_lines(),
            budget.name,
            budget.file_max
        );
        offences.push(Offence::new(&source.path, 1, what));
    }
    let sized = functions.iter().map(|(source, function)| (source.path.as_str(), function.line, function.lines));
    offences.extend(over_share(sized.collect(), &budget.functions, budget.name, "functions"));
    if let Some(share) = &budget.files {
        let sized = sources.iter().map(|source| (source.path.as_str(), 1, source.product_lines()));
        offences.extend(over_share(sized.collect(), share, budget.name, "files"));
    }
    offences
}

/// The long ones, when they are too many. One is always allowed: a share of few is no share.
fn over_share(sized: Vec<(&str, usize, usize)>, share: &Share, group: &str, kind: &str) -> Vec<Offence> {
    let count = sized.len();
    let long: Vec<_> = sized.into_iter().filter(|(_, _, lines)| *lines > share.lines).collect();
    if long.len() <= 1 || long.len() * 1000 <= count * share.per_mille {
        return Vec::new();
    }
    let rule = format!(
        "{} of {count} {kind} of {group} exceed {} lines, allowed are {} per mille",
        long.len(),
        share.lines,
        share.per_mille
    );
    long.into_iter().map(|(path, line, lines)| Offence::new(path, line, format!("{lines} lines; {rule}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function(lines: usize) -> String {
        format!("fn f() {{\n{}}}\n", "    g();\n".repeat(lines - 2))
    }

    fn offences(path: &str, text: &str) -> Vec<String> {
        check(&[Source::parse(path, text).unwrap()]).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_function_is_measured_against_its_group() {
        assert_eq!(offences("crates/agent/src/lib.rs", &function(70)), [] as [&str; 0]);
        assert_eq!(
            offences("crates/agent/src/lib.rs", &function(71)),
            ["crates/agent/src/lib.rs:1: `f` has 71 lines; no function of cores may exceed 70"]
        );
        assert_eq!(offences("crates/agentd/src/lib.rs", &function(120)), [] as [&str; 0]);
        assert_eq!(
            offences("crates/agentd/src/lib.rs", &function(121)),
            ["crates/agentd/src/lib.rs:1: `f` has 121 lines; no function of the rest may exceed 120"]
        );
    }

    #[test]
    fn a_file_is_measured_without_its_tests() {
        let text = "const A: u8 = 1;\n".repeat(600);
        let tests = format!("{text}#[cfg(test)]\nmod tests {{\n{}}}\n", function(300));
        assert_eq!(offences("crates/agent/src/lib.rs", &tests), [] as [&str; 0]);
        let long = format!("{text}const B: u8 = 1;\n");
        assert_eq!(
            offences("crates/agent/src/lib.rs", &long),
            ["crates/agent/src/lib.rs:1: 601 lines without tests; no file of cores may exceed 600"]
        );
    }

    #[test]
    fn too_many_long_functions_are_all_named() {
        let eighteen = function(3).repeat(18);
        let text = format!("{eighteen}{}{}", function(36), function(36));
        assert_eq!(offences("crates/agent/src/lib.rs", &text), [] as [&str; 0]);
        let text = format!("{eighteen}{}{}{}", function(36), function(36), function(36));
        assert_eq!(offences("crates/agent/src/lib.rs", &text).len(), 3);
    }

    #[test]
    fn tests_have_no_budget() {
        assert_eq!(offences("crates/agent/tests/all.rs", &function(500)), [] as [&str; 0]);
    }
}
