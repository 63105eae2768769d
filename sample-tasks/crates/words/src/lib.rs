//! What a word is, and the lines word counts travel in between map and reduce.
//!
//! A **word** is a maximal run of characters for which [`char::is_alphanumeric`] holds (Unicode `Alphabetic` or `Nd`, `Nl`, `No`).
//! Everything else separates, including `_`, `-`, apostrophes and combining marks that are not alphabetic. Input is decoded as UTF-8;
//! every invalid sequence becomes U+FFFD, which separates. A word is lowercased character by character with [`char::to_lowercase`]
//! (no context rules: a final `Σ` becomes `σ`), after it was found, so lowercasing never moves a boundary. No normalisation:
//! a precomposed and a decomposed `é` differ.
//!
//! A **line** is `word TAB count LF`, count in decimal, lines sorted by the bytes of the word, each word once.

use std::collections::BTreeMap;

/// Occurrences by word, in the order of the words' bytes.
pub type Counts = BTreeMap<String, u64>;

/// Adds the words of `text` to `counts`.
pub fn count(text: &[u8], counts: &mut Counts) {
    let text = String::from_utf8_lossy(text);
    for word in text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
        let word = word.chars().flat_map(char::to_lowercase).collect();
        *counts.entry(word).or_default() += 1;
    }
}

/// Adds counts written by [`render`] to `counts`. Fails with the number of the first line that is not `word TAB count`.
pub fn merge(lines: &str, counts: &mut Counts) -> Result<(), String> {
    for (index, line) in lines.lines().enumerate() {
        let parsed = line.split_once('\t').and_then(|(word, n)| Some((word, n.parse::<u64>().ok()?)));
        let Some((word, n)) = parsed.filter(|(word, _)| !word.is_empty()) else {
            return Err(format!("line {} is not `word TAB count`", index + 1));
        };
        *counts.entry(word.to_owned()).or_default() += n;
    }
    Ok(())
}

/// Writes `counts` as lines.
pub fn render(counts: &Counts) -> String {
    counts.iter().map(|(word, n)| format!("{word}\t{n}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(text: &[u8]) -> String {
        let mut counts = Counts::new();
        count(text, &mut counts);
        render(&counts)
    }

    #[test]
    fn words_are_alphanumeric_runs_in_lower_case() {
        assert_eq!(counted("Don't STOP, stop-2 ÄÖ_äö".as_bytes()), "2\t1\ndon\t1\nstop\t2\nt\t1\näö\t2\n");
    }

    #[test]
    fn invalid_utf8_separates() {
        assert_eq!(counted(b"ab\xff\xfecd"), "ab\t1\ncd\t1\n");
    }

    #[test]
    fn lowercasing_happens_without_context() {
        assert_eq!(counted("ΟΔΟΣ İ".as_bytes()), "i\u{307}\t1\nοδοσ\t1\n");
    }

    #[test]
    fn merging_rendered_counts_sums_them() {
        let mut counts = Counts::new();
        merge("a\t2\nb\t1\n", &mut counts).unwrap();
        merge("a\t40\n", &mut counts).unwrap();
        assert_eq!(render(&counts), "a\t42\nb\t1\n");
    }

    #[test]
    fn a_broken_line_is_named() {
        assert_eq!(merge("a\t1\nb", &mut Counts::new()), Err("line 2 is not `word TAB count`".to_owned()));
        assert!(merge("\t1\n", &mut Counts::new()).is_err());
    }
}
