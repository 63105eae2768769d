//! What a run did: readable lines for scripts, a tail of everything for failures, a hash to compare two runs.

use std::collections::VecDeque;

use holm_model::Time;

/// How many of the latest lines a failure shows, unless more are asked for.
pub const TAIL: usize = 50;

/// The lines of a run.
#[derive(Debug)]
pub(crate) struct Transcript {
    notes: Vec<String>,
    keep_notes: bool,
    tail: VecDeque<String>,
    tail_lines: usize,
    hash: u64,
    lines: u64,
}

impl Transcript {
    pub(crate) fn new(keep_notes: bool) -> Transcript {
        let tail = VecDeque::new();
        Transcript { notes: Vec::new(), keep_notes, tail, tail_lines: TAIL, hash: 0xcbf2_9ce4_8422_2325, lines: 0 }
    }

    /// Something a reader of the scenario wants to see.
    pub(crate) fn note(&mut self, now: Time, who: &str, text: &str) {
        let millis = now.as_micros() / 1000;
        let line = format!("{:>7}.{:03}  {who:<8} {text}", millis / 1000, millis % 1000);
        if self.keep_notes {
            self.notes.push(line.trim_end().to_owned());
        }
        self.trace_line(line);
    }

    /// Something only a failure's reader wants to see.
    pub(crate) fn trace(&mut self, now: Time, who: &str, text: &str) {
        self.trace_line(format!("{now}  {who:<8} {text}"));
    }

    fn trace_line(&mut self, line: String) {
        let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        self.hash = line.bytes().fold(self.hash, step);
        self.lines += 1;
        if self.tail.len() >= self.tail_lines {
            self.tail.pop_front();
        }
        self.tail.push_back(line);
    }

    /// How many lines a failure shows.
    pub(crate) fn set_tail(&mut self, lines: usize) {
        self.tail_lines = lines;
    }

    /// The readable lines since the last call.
    pub(crate) fn take_notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }

    pub(crate) fn tail(&self) -> Vec<String> {
        self.tail.iter().cloned().collect()
    }

    /// Of every line so far.
    pub(crate) const fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) const fn lines(&self) -> u64 {
        self.lines
    }
}
