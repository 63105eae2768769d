//! Rules about one Rust file: headers, names, and what must not be written in it.

use crate::Offence;
use crate::source::{Source, Token};

const MODULE_NAMES: [&str; 5] = ["utils", "helpers", "common", "manager", "misc"];

/// Types through which time and unordered iteration would enter a core.
const CORE_TYPES: [&str; 4] = ["Instant", "SystemTime", "HashMap", "HashSet"];
/// Modules of the standard library through which the outside world would.
const CORE_MODULES: [&str; 6] = ["fs", "net", "thread", "process", "env", "os"];
const CORE_MACROS: [&str; 5] = ["println", "eprintln", "print", "eprint", "dbg"];
const LOOKUP_ONLY: &str = "lookup only";

/// `//!` on every module.
pub(crate) fn header(source: &Source) -> Vec<Offence> {
    if source.has_header {
        Vec::new()
    } else {
        vec![Offence::new(&source.path, 1, "no `//!` header says what this module is")]
    }
}

/// `.unwrap()` outside tests, macros included.
pub(crate) fn unwrap(source: &Source) -> Vec<Offence> {
    let is_call = |at: &[Token]| texts(at) == [".", "unwrap", "(", ")"];
    found(
        source,
        source.tokens.windows(4).filter(|at| is_call(at)).map(|at| at[1].line),
        "`.unwrap()` outside tests: return an error, or `expect(\"why it holds\")`",
    )
}

/// `Arc<Mutex<_>>`: never in a core, elsewhere with a comment that says why no owner would do.
pub(crate) fn shared_lock(source: &Source) -> Vec<Offence> {
    let mut lines: Vec<usize> = Vec::new();
    for (index, pair) in source.tokens.windows(2).enumerate() {
        if texts(pair) == ["Arc", "<"] {
            let mut path = source.tokens[index + 2..]
                .iter()
                .skip_while(|token| token.text == ":" || (is_ident(token) && token.text != "Mutex"));
            if path.next().is_some_and(|token| token.text == "Mutex") {
                lines.push(pair[0].line);
            }
        }
    }
    if source.is_core() {
        return found(source, lines.into_iter(), "`Arc<Mutex<_>>` in a core: state has one owner");
    }
    let bare = lines.into_iter().filter(|line| source.comment_near(*line).is_none());
    found(source, bare, "`Arc<Mutex<_>>` without a comment, here or on the line above, that justifies it")
}

/// Names that say nothing.
pub(crate) fn module_names(source: &Source) -> Vec<Offence> {
    let banned = |name: &str| MODULE_NAMES.contains(&name);
    let parts = source.path.trim_end_matches(".rs").split('/');
    let file = parts.filter(|part| banned(part)).map(|part| (part, 1));
    let inside = source.modules.iter().map(|(name, line)| (name.as_str(), *line)).filter(|(name, _)| banned(name));
    file.chain(inside)
        .map(|(name, line)| {
            Offence::new(&source.path, line, format!("a module called `{name}`: name it for what it holds"))
        })
        .collect()
}

/// `#[allow(...)]` without `reason = "..."`.
pub(crate) fn allow_reason(source: &Source) -> Vec<Offence> {
    let mut offences = Vec::new();
    for (index, token) in source.tokens.iter().enumerate().filter(|(_, token)| token.text == "#") {
        let rest = &source.tokens[index + 1..];
        let rest = rest.strip_prefix_token("!").unwrap_or(rest);
        if rest.first().is_none_or(|token| token.text != "[") {
            continue;
        }
        let attribute = group(rest);
        let allows = attribute.windows(2).any(|pair| texts(pair) == ["allow", "("]);
        let reasoned = attribute.windows(2).any(|pair| texts(pair) == ["reason", "="]);
        let is_lint = attribute.get(1).is_some_and(|token| token.text == "allow" || token.text == "cfg_attr");
        if is_lint && allows && !reasoned {
            offences.push(Offence::new(&source.path, token.line, "`#[allow(...)]` without `reason = \"...\"`"));
        }
    }
    offences
}

/// Time, files, sockets, threads, printing and unordered iteration in the crates that must be deterministic.
pub(crate) fn core_calls(source: &Source) -> Vec<Offence> {
    if !source.is_pure() {
        return Vec::new();
    }
    let mut offences = Vec::new();
    let mut note = |line: usize, name: &str| {
        let excused =
            name.starts_with("Hash") && source.comment_near(line).is_some_and(|comment| comment.contains(LOOKUP_ONLY));
        if !source.in_test(line) && !excused {
            offences.push(Offence::new(&source.path, line, format!("`{name}` in a crate that must be deterministic")));
        }
    };
    for (index, token) in source.tokens.iter().enumerate() {
        let rest = &source.tokens[index + 1..];
        let name = token.text.as_str();
        let prints = CORE_MACROS.contains(&name) && rest.first().is_some_and(|next| next.text == "!");
        if prints || CORE_TYPES.contains(&name) {
            note(token.line, name);
        } else if name == "std" {
            std_modules(rest).for_each(|module| note(module.line, &format!("std::{}", module.text)));
        }
    }
    offences
}

/// The banned modules in what follows `std`: `::fs`, or `::{fs, net::TcpStream}`.
fn std_modules(rest: &[Token]) -> impl Iterator<Item = &Token> {
    let named: Vec<&Token> = match rest {
        [a, b, open, ..] if a.text == ":" && b.text == ":" && open.text == "{" => {
            let tree = group(&rest[2..]);
            let mut depth = 0;
            let mut heads = Vec::new();
            for pair in tree.windows(2) {
                match pair[0].text.as_str() {
                    "{" => depth += 1,
                    "}" => depth -= 1,
                    _ => {}
                }
                if depth == 1 && matches!(pair[0].text.as_str(), "{" | ",") {
                    heads.push(&pair[1]);
                }
            }
            heads
        }
        [a, b, name, ..] if a.text == ":" && b.text == ":" => vec![name],
        _ => Vec::new(),
    };
    named.into_iter().filter(|token| CORE_MODULES.contains(&token.text.as_str()))
}

fn found(source: &Source, lines: impl Iterator<Item = usize>, what: &str) -> Vec<Offence> {
    lines.filter(|line| !source.in_test(*line)).map(|line| Offence::new(&source.path, line, what)).collect()
}

fn texts(tokens: &[Token]) -> Vec<&str> {
    tokens.iter().map(|token| token.text.as_str()).collect()
}

fn is_ident(token: &Token) -> bool {
    token.text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// The group that `tokens` opens with, edges included.
fn group(tokens: &[Token]) -> &[Token] {
    let mut depth = 0usize;
    for (index, token) in tokens.iter().enumerate() {
        match token.text.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" if depth <= 1 => return &tokens[..=index],
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
    }
    tokens
}

trait StripToken {
    fn strip_prefix_token(&self, text: &str) -> Option<&Self>;
}

impl StripToken for [Token] {
    fn strip_prefix_token(&self, text: &str) -> Option<&Self> {
        self.split_first().filter(|(first, _)| first.text == text).map(|(_, rest)| rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines on which `rule` finds offences in `text`, as if it were the file at `path`.
    fn lines(rule: impl Fn(&Source) -> Vec<Offence>, path: &str, text: &str) -> Vec<usize> {
        rule(&Source::parse(path, text).unwrap()).iter().map(|offence| offence.line).collect()
    }

    const CORE: &str = "crates/master/src/offers.rs";
    const SHELL: &str = "crates/masterd/src/driver.rs";

    #[test]
    fn a_missing_header_is_found() {
        assert_eq!(lines(header, SHELL, "/// Not a header.\nfn f() {}"), [1]);
        assert_eq!(lines(header, SHELL, "//! A header.\nfn f() {}"), [] as [usize; 0]);
    }

    #[test]
    fn unwraps_are_found_in_macros_but_not_in_tests_or_strings() {
        let text = "fn f() {\n x.unwrap();\n format!(\"{}\", x.unwrap());\n x.unwrap_or(1); \".unwrap()\";\n}\n#[cfg(test)]\nmod tests { fn f() { x.unwrap(); } }";
        assert_eq!(lines(unwrap, SHELL, text), [2, 3]);
        assert_eq!(lines(unwrap, "crates/masterd/tests/all.rs", text), [] as [usize; 0]);
    }

    #[test]
    fn shared_locks_need_a_comment_and_cores_have_none() {
        let text = "struct S {\n a: Arc<Mutex<u8>>,\n // One writer per connection.\n b: Arc<std::sync::Mutex<u8>>,\n c: Arc<tokio::sync::Mutex<u8>>, // held across awaits\n d: Arc<Vec<u8>>,\n}";
        assert_eq!(lines(shared_lock, SHELL, text), [2]);
        assert_eq!(lines(shared_lock, CORE, text), [2, 4, 5]);
        let tuple = "/// Both ends write.\n#[derive(Clone)]\nstruct S(Arc<Mutex<u8>>);\n#[derive(Clone)]\nstruct T(Arc<Mutex<u8>>);";
        assert_eq!(lines(shared_lock, SHELL, tuple), [5]);
    }

    #[test]
    fn empty_module_names_are_found_in_paths_and_declarations() {
        assert_eq!(lines(module_names, SHELL, "mod fine;\nmod utils;\nmod x { mod helpers {} }"), [2, 3]);
        assert_eq!(lines(module_names, "crates/master/src/common/mod.rs", ""), [1]);
        assert_eq!(lines(module_names, "crates/master/src/misc.rs", ""), [1]);
        assert_eq!(lines(module_names, "crates/master/src/commonly.rs", ""), [] as [usize; 0]);
    }

    #[test]
    fn an_allow_without_reason_is_found() {
        let text = "#![allow(dead_code)]\n#[allow(dead_code, reason = \"it is\")]\nfn f() {}\n#[cfg_attr(test, allow(dead_code))]\nfn g() {}\n#[derive(Debug)]\nstruct S;\nmacro_rules! m { () => { #[allow(unused)] fn x() {} } }";
        assert_eq!(lines(allow_reason, SHELL, text), [1, 4, 8]);
    }

    #[test]
    fn cores_reach_nothing_outside() {
        let text = "use std::time::Instant;\nuse std::{fmt, fs, io::{self, net}};\nuse std::collections::HashMap; // lookup only: ids to slots\nuse std::collections::HashSet;\nfn f() { println!(\"x\"); std::thread::spawn(g); }\n#[cfg(test)]\nmod tests { use std::fs; }";
        assert_eq!(lines(core_calls, CORE, text), [1, 2, 4, 5, 5]);
        assert_eq!(lines(core_calls, "crates/sim/src/lib.rs", "use std::time::SystemTime;"), [1]);
        assert_eq!(lines(core_calls, SHELL, text), [] as [usize; 0]);
    }
}
