//! Rules about any text in the checkout.

use crate::Offence;

/// Most lines the README may have: it sells the project to a newcomer on its first screens.
const README_LINES: usize = 200;

/// Paths of somebody's machine. Written in two halves, here and below, so that this file passes its own check.
const PATHS: [&str; 2] = [concat!("/ro", "ot/"), concat!("/ho", "me/")];
const WORDS: [&str; 2] = [concat!("TO", "DO"), concat!("FIX", "ME")];
const MACROS: [&str; 2] = [concat!("to", "do!"), concat!("unimple", "mented!")];

/// Paths of a machine, and marks of work that was put off.
pub(crate) fn banned_words(path: &str, text: &str) -> Vec<Offence> {
    let mut offences = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let stands_alone = |word: &&&str, before: bool, after: bool| {
            line.match_indices(**word).any(|(at, _)| {
                let joins = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '}');
                (!before || !line[..at].ends_with(joins)) && (!after || !line[at + word.len()..].starts_with(joins))
            })
        };
        let paths = PATHS.iter().filter(|word| stands_alone(word, true, false));
        let words = WORDS.iter().filter(|word| stands_alone(word, true, true));
        let macros = MACROS.iter().filter(|word| stands_alone(word, true, false));
        for word in paths.chain(words).chain(macros) {
            offences.push(Offence::new(path, index + 1, format!("`{word}` has no place in a committed file")));
        }
    }
    offences
}

/// The README's length.
pub(crate) fn readme(text: &str) -> Vec<Offence> {
    let lines = text.lines().count();
    if lines <= README_LINES {
        return Vec::new();
    }
    vec![Offence::new("README.md", lines, format!("{lines} lines; at most {README_LINES}"))]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_a_machine_and_postponed_work_are_found() {
        let [root, home] = PATHS;
        let [later, broken] = WORDS;
        let [todo, unimplemented] = MACROS;
        let bad =
            format!("see {root}notes\ncp {home}me/x\n// {later}: later\n# {broken}\n{todo}()\n{unimplemented}(\"x\")");
        let lines: Vec<_> = banned_words("a.md", &bad).iter().map(|offence| offence.line).collect();
        assert_eq!(lines, [1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn longer_words_and_paths_that_only_end_alike_pass() {
        let [root, _] = PATHS;
        let fine = format!("sandbox{root}x\nTODOS\ntodo = \"warn\"\n");
        assert_eq!(banned_words("a.md", &fine), []);
    }

    #[test]
    fn a_long_readme_is_found() {
        assert_eq!(readme(&"line\n".repeat(200)), []);
        assert_eq!(readme(&"line\n".repeat(201)).len(), 1);
    }
}
