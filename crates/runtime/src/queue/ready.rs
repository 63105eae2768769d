//! Who is polled next: round robin, and before everybody else those that have been asked to end.

use std::collections::VecDeque;

/// The tasks that are ready. Its length is bounded by the number of live tasks: a task is in here at most once, and once
/// more when it is asked to end.
pub(super) struct ReadyQueue<T> {
    urgent: VecDeque<T>,
    turn: VecDeque<T>,
}

impl<T> Default for ReadyQueue<T> {
    fn default() -> ReadyQueue<T> {
        ReadyQueue { urgent: VecDeque::new(), turn: VecDeque::new() }
    }
}

impl<T> ReadyQueue<T> {
    /// Puts a task behind the others.
    pub(super) fn push(&mut self, task: T) {
        self.turn.push_back(task);
    }

    /// Puts a task before those that merely compute.
    pub(super) fn push_urgent(&mut self, task: T) {
        self.urgent.push_back(task);
    }

    /// Takes the task to be polled next.
    pub(super) fn pop(&mut self) -> Option<T> {
        self.urgent.pop_front().or_else(|| self.turn.pop_front())
    }

    /// How many are ready.
    pub(super) fn len(&self) -> usize {
        self.urgent.len() + self.turn.len()
    }
}
