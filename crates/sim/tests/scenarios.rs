//! Every script in `scenarios/` gives the transcript that is kept beside it. `BLESS=1` writes the transcripts anew.

use std::fs;
use std::path::{Path, PathBuf};

fn scripts() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let entries = fs::read_dir(folder).expect("the scenarios are there");
    let mut scripts: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry can be read").path()).collect();
    scripts.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    scripts.sort();
    scripts
}

#[test]
fn every_scenario_gives_its_transcript() {
    let bless = std::env::var_os("BLESS").is_some();
    let mut wrong = Vec::new();
    let scripts = scripts();
    assert!(!scripts.is_empty());
    for script in scripts {
        let text = fs::read_to_string(&script).expect("a script can be read");
        let expected = script.with_extension("out");
        match holm_sim::run_script(&text) {
            Err(error) => wrong.push(format!("{}: {error}", script.display())),
            Ok(got) if bless => fs::write(expected, got).expect("a transcript can be written"),
            Ok(got) => {
                let want = fs::read_to_string(&expected).unwrap_or_default();
                if let Some(difference) = difference(&want, &got) {
                    wrong.push(format!("{}: {difference}", script.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}\n(BLESS=1 writes the transcripts anew)", wrong.join("\n"));
}

fn difference(want: &str, got: &str) -> Option<String> {
    if want == got {
        return None;
    }
    let pairs = want.lines().map(Some).chain(std::iter::repeat(None)).zip(got.lines().map(Some).chain([None]));
    let first = (1..).zip(pairs).find(|(_, (want, got))| want != got);
    let (number, (want, got)) = first.unwrap_or((0, (None, None)));
    Some(format!("line {number}\n  expected: {}\n  got:      {}", want.unwrap_or("the end"), got.unwrap_or("the end")))
}
