//! `holm group`.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Args, Parser};
use holm_model::{MAX_GROUP_LAUNCHES, Role};

use super::{OutputArgs, RunArgs};

const EXAMPLES: &str = "\
Each line of FILE is what would follow `holm run`; words may be quoted, a line that begins with # is a comment:

  # server and clients
  server.wasm --name server --mem 128MiB
  client.wasm --name client --count 3 --env 'GREETING=good morning'

  holm group FILE

The tasks run on one agent, all at the same time. None starts unless all can be launched, fetched and compiled; when one fails or is \
killed, the others are killed. Each end is a line (a JSON object with --output json); what the tasks write is shown by `holm logs`.

Exit code: 0 when every task finished, 1 when one did not, 130 when you interrupted them.";

/// Arguments of `holm group`.
#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct GroupArgs {
    /// What to run, a line for each program
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// The role in which to ask for resources
    #[arg(long, value_name = "ROLE", default_value = "default")]
    pub(crate) role: Role,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// One line of the file.
#[derive(Debug, Parser)]
#[command(name = "holm run", disable_help_flag = true, disable_version_flag = true)]
struct Line {
    #[command(flatten)]
    run: RunArgs,
}

/// Reads the programs of a group.
///
/// # Errors
/// The line that makes no sense, and why.
pub(crate) fn read_group(file: &Path) -> anyhow::Result<Vec<RunArgs>> {
    let shown = file.display();
    let text = std::fs::read_to_string(file).with_context(|| format!("group {shown} cannot be read"))?;
    let mut members = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        members.push(read_line(line).map_err(|why| anyhow::anyhow!("group {shown} line {number}: {why}"))?);
    }
    match members.len() {
        0 => bail!("group {shown} names no program"),
        count if count > MAX_GROUP_LAUNCHES => {
            bail!("group {shown} has {count} programs; the limit is {MAX_GROUP_LAUNCHES}")
        }
        _ => Ok(members),
    }
}

fn read_line(line: &str) -> Result<RunArgs, String> {
    let words = std::iter::once("holm run".to_owned()).chain(words(line)?);
    let parsed = Line::try_parse_from(words).map_err(|error| {
        // The first line says what is wrong; usage and hints are about another command.
        let text = error.to_string();
        text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
    })?;
    let run = parsed.run;
    let foreign = [("--detach", run.detach), ("--wait", run.wait), ("--role", run.role != Role::default_role())];
    match foreign.into_iter().find(|(_, given)| *given) {
        Some((option, _)) => Err(format!("{option} does not go with a single program of a group")),
        None if run.network.wants_free_port() => Err("a port has to be named in a group".to_owned()),
        None => Ok(run),
    }
}

/// Splits a line at blanks outside of quotes.
fn words(line: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let (mut word, mut quote): (Option<String>, Option<char>) = (None, None);
    for character in line.chars() {
        match (quote, character) {
            (Some(open), _) if character == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None, _) if character.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(character),
        }
    }
    if let Some(open) = quote {
        return Err(format!("the quote {open} is not closed"));
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<RunArgs>, String> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("group");
        std::fs::write(&file, text).unwrap();
        read_group(&file).map_err(|error| error.to_string())
    }

    #[test]
    fn each_line_is_what_follows_holm_run() {
        let members =
            read("# two\n\na.wasm --name a --mem 1GiB\nb.wasm --count 3 --env 'A=b c' -- \"x y\" --z\n").unwrap();
        assert_eq!(members.len(), 2);
        assert_eq!(members[0].name.as_ref().unwrap().as_str(), "a");
        assert_eq!(members[1].env, [("A".to_owned(), "b c".to_owned())]);
        assert_eq!((members[1].count, &*members[1].args), (3, &["x y".to_owned(), "--z".to_owned()][..]));
    }

    #[test]
    fn a_line_that_makes_no_sense_is_named() {
        for (text, why) in [
            ("a.wasm\n--name x\n", "line 2"),
            ("a.wasm --cpus lots\n", "line 1"),
            ("a.wasm 'open\n", "quote ' is not closed"),
            ("a.wasm --detach\n", "--detach"),
            ("# nothing\n", "names no program"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
