//! Output of several tasks on one terminal: whole lines, each with its task's name before it.

use std::collections::BTreeMap;

use holm_proto::v1::LogStream;

/// Longest line that is waited for; a longer one is shown in pieces.
const MAX_LINE: usize = 64 << 10;

/// Lines that are not complete yet, by task and stream.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    open: BTreeMap<(String, i32), Vec<u8>>,
}

/// Bytes that are ready to be shown.
pub(crate) type Ready = Vec<(LogStream, Vec<u8>)>;

impl Lines {
    /// Takes output of the task called `name`, and gives back the lines that are complete.
    pub(crate) fn add(&mut self, name: &str, stream: LogStream, data: &[u8]) -> Ready {
        let rest = self.open.entry((name.to_owned(), stream.into())).or_default();
        let mut ready = Vec::new();
        for piece in data.split_inclusive(|byte| *byte == b'\n') {
            rest.extend_from_slice(piece);
            if piece.ends_with(b"\n") || rest.len() >= MAX_LINE {
                push_line(&mut ready, name, rest);
                rest.clear();
            }
        }
        if rest.is_empty() {
            self.open.remove(&(name.to_owned(), stream.into()));
        }
        if ready.is_empty() { Vec::new() } else { vec![(stream, ready)] }
    }

    /// The task has ended: what is left of its lines.
    pub(crate) fn end(&mut self, name: &str) -> Ready {
        let streams = [LogStream::Stdout, LogStream::Stderr];
        let rest = streams.into_iter().filter_map(|stream| {
            let rest = self.open.remove(&(name.to_owned(), stream.into()))?;
            Some((stream, line(name, &rest)))
        });
        rest.collect()
    }

    /// What is left of all lines.
    pub(crate) fn finish(&mut self) -> Ready {
        let open = std::mem::take(&mut self.open);
        let rest = open.into_iter().map(|((name, stream), rest)| {
            let stream = LogStream::try_from(stream).unwrap_or(LogStream::Stdout);
            (stream, line(&name, &rest))
        });
        rest.collect()
    }
}

fn line(name: &str, rest: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    push_line(&mut text, name, rest);
    text
}

fn push_line(to: &mut Vec<u8>, name: &str, line: &[u8]) {
    to.extend_from_slice(name.as_bytes());
    to.extend_from_slice(b" | ");
    to.extend_from_slice(line);
    if !line.ends_with(b"\n") {
        to.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_shown_whole() {
        let mut lines = Lines::default();
        assert_eq!(lines.add("a/0", LogStream::Stdout, b"one\ntw"), vec![(LogStream::Stdout, b"a/0 | one\n".to_vec())]);
        assert_eq!(lines.add("a/1", LogStream::Stdout, b"other"), vec![]);
        assert_eq!(lines.add("a/0", LogStream::Stdout, b"o\n"), vec![(LogStream::Stdout, b"a/0 | two\n".to_vec())]);
        assert_eq!(lines.end("a/1"), vec![(LogStream::Stdout, b"a/1 | other\n".to_vec())]);
        assert_eq!(lines.finish(), vec![]);
    }

    #[test]
    fn an_endless_line_is_shown_in_pieces() {
        let mut lines = Lines::default();
        let ready = lines.add("a", LogStream::Stderr, &vec![b'x'; 3 * MAX_LINE]);
        assert!(ready.is_empty() || ready[0].1.len() > MAX_LINE);
        let kept: usize = lines.open.values().map(Vec::len).sum();
        assert!(kept <= MAX_LINE, "{kept} bytes are kept");
    }
}
