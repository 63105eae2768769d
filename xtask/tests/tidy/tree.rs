//! The files of the checkout: those git tracks or would, or, without git, all outside of build output.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Offence;
use crate::source::Source;

/// What the checks look at. Paths are relative to the root, with `/`.
pub(crate) struct Tree {
    /// Every file that is UTF-8 text.
    pub(crate) texts: BTreeMap<String, String>,
    /// Every Rust file that is not generated.
    pub(crate) sources: Vec<Source>,
    /// Rust files that do not parse.
    pub(crate) unparsed: Vec<Offence>,
}

impl Tree {
    pub(crate) fn read() -> Tree {
        let root = root();
        let paths = tracked(&root).unwrap_or_else(|| walked(&root));
        let texts: BTreeMap<_, _> = paths
            .into_iter()
            .filter_map(|path| Some((fs::read_to_string(root.join(&path)).ok()?, path)))
            .map(|(text, path)| (path, text))
            .collect();
        assert!(texts.contains_key("Cargo.toml"), "no Cargo.toml below {}", root.display());
        let (sources, unparsed) = parse(&texts);
        assert!(!sources.is_empty(), "no Rust file below {}", root.display());
        Tree { texts, sources, unparsed }
    }
}

/// The root of the checkout.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("xtask lies below the root")
}

/// Parses the Rust files among `texts`, and marks the files that hold only tests.
pub(crate) fn parse(texts: &BTreeMap<String, String>) -> (Vec<Source>, Vec<Offence>) {
    let (mut sources, mut unparsed) = (Vec::new(), Vec::new());
    for (path, text) in texts.iter().filter(|(path, text)| path.ends_with(".rs") && !generated(text)) {
        match Source::parse(path, text) {
            Ok(source) => sources.push(source),
            Err(error) => unparsed.push(error),
        }
    }
    // A module declared `#[cfg(test)] mod x;` is a test, and so are the modules below it.
    let roots: BTreeSet<String> = sources.iter().flat_map(|source| source.test_modules.clone()).collect();
    for source in &mut sources {
        source.is_test |= roots
            .iter()
            .any(|root| source.path == format!("{root}.rs") || source.path.starts_with(&format!("{root}/")));
    }
    (sources, unparsed)
}

fn generated(text: &str) -> bool {
    text.lines().take(5).any(|line| line.starts_with("//") && line.contains(concat!("@", "generated")))
}

fn tracked(root: &Path) -> Option<Vec<String>> {
    let output = Command::new("git")
        .current_dir(root)
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .output()
        .ok()?;
    let listed = String::from_utf8(output.stdout).ok()?;
    let paths: Vec<_> = listed.split('\0').filter(|path| !path.is_empty()).map(str::to_owned).collect();
    (output.status.success() && !paths.is_empty()).then_some(paths)
}

fn walked(root: &Path) -> Vec<String> {
    let (mut paths, mut dirs) = (Vec::new(), vec![root.to_owned()]);
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).expect("a directory of the checkout").flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            if path.is_dir() && name != "target" && name != ".git" {
                dirs.push(path);
            } else if path.is_file() {
                paths.push(path.strip_prefix(root).expect("below the root").to_string_lossy().into_owned());
            }
        }
    }
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_behind_cfg_test_is_a_test_and_so_is_all_below_it() {
        let texts = [
            ("crates/a/src/lib.rs", "#[cfg(test)] mod harness; mod offers;"),
            ("crates/a/src/offers.rs", "#[cfg(test)] mod tests;"),
            ("crates/a/src/offers/tests.rs", ""),
            ("crates/a/src/offers/testsuite.rs", ""),
            ("crates/a/src/harness/mod.rs", ""),
            ("crates/a/src/harness/clock.rs", ""),
            ("crates/a/tests/whole.rs", ""),
            ("crates/a/src/generated.rs", concat!("// @", "generated\nnot rust")),
        ];
        let texts = texts.into_iter().map(|(path, text)| (path.to_owned(), text.to_owned())).collect();
        let (sources, unparsed) = parse(&texts);
        assert_eq!(unparsed, []);
        let product: Vec<_> =
            sources.iter().filter(|source| !source.is_test).map(|source| source.path.as_str()).collect();
        assert_eq!(product, ["crates/a/src/lib.rs", "crates/a/src/offers.rs", "crates/a/src/offers/testsuite.rs"]);
    }

    #[test]
    fn a_file_that_does_not_parse_is_an_offence() {
        let texts = [("crates/a/src/lib.rs".to_owned(), "fn f( {".to_owned())].into();
        let (_, unparsed) = parse(&texts);
        assert_eq!(unparsed.len(), 1);
    }
}
