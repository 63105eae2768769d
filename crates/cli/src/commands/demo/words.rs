//! The word count without a cluster, to check the other one against. What a word is says `sample-tasks/crates/words`.

use std::collections::BTreeMap;

/// Occurrences by word.
pub(super) type Counts = BTreeMap<String, u64>;

/// Adds the words of a text: maximal runs of alphanumeric characters, in lower case.
pub(super) fn count(text: &[u8], counts: &mut Counts) {
    let text = String::from_utf8_lossy(text);
    for word in text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
        let word = word.chars().flat_map(char::to_lowercase).collect();
        *counts.entry(word).or_default() += 1;
    }
}

/// Reads what the tasks write: lines of a word, a tab, and a number.
pub(super) fn parse(lines: &[u8]) -> Option<Counts> {
    let text = std::str::from_utf8(lines).ok()?;
    let line =
        |line: &str| line.split_once('\t').and_then(|(word, count)| Some((word.to_owned(), count.parse().ok()?)));
    text.lines().map(line).collect()
}

/// All words together.
pub(super) fn total(counts: &Counts) -> u64 {
    counts.values().sum()
}

/// The most frequent words.
pub(super) fn top(counts: &Counts, most: usize) -> Vec<(&str, u64)> {
    let mut words: Vec<_> = counts.iter().map(|(word, count)| (word.as_str(), *count)).collect();
    words.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    words.truncate(most);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_counted_in_lower_case_whatever_separates_them() {
        let mut counts = Counts::new();
        count("Don't stop, STOP-2 \u{c4}_\u{e4}".as_bytes(), &mut counts);
        assert_eq!(parse("2\t1\ndon\t1\nstop\t2\nt\t1\n\u{e4}\t2\n".as_bytes()), Some(counts.clone()));
        assert_eq!(total(&counts), 7);
        assert_eq!(top(&counts, 2), [("stop", 2), ("\u{e4}", 2)]);
        assert_eq!(parse(b"no number"), None);
    }
}
