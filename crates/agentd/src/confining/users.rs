//! The users that runners become: one for each runner, from a range that nobody else on the machine uses.

use std::fs;
use std::str::FromStr;

use holm_runtime::RunAs;

/// The users taken unless told otherwise: the beginning of the numbers that no convention assigns (systemd's list of user
/// numbers calls 1879048192 to 2147483647 unused; containers end below).
const DEFAULT: (u32, u32) = (1_879_048_192, 1_879_113_727);

/// Which users runners become.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RunnerUsers {
    /// Each one of the default range, if the agent is root.
    #[default]
    Default,
    /// The agent's own.
    Same,
    /// Each one of these; with a single one they share it.
    Range {
        /// The first.
        first: u32,
        /// The last.
        last: u32,
        /// The group of a user given by name.
        group: Option<u32>,
    },
}

/// A text that names no users.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RunnerUsersError {
    /// It is none of the forms.
    #[error("users {0:?} are none of: same, NAME, UID, FIRST-LAST")]
    Form(String),
    /// There is no such user in `/etc/passwd`.
    #[error("user {0:?} is not in /etc/passwd; give its number")]
    Unknown(String),
    /// Root is no user to run foreign code as.
    #[error("users {0:?} include 0, which is root")]
    Root(String),
}

impl FromStr for RunnerUsers {
    type Err = RunnerUsersError;

    fn from_str(text: &str) -> Result<RunnerUsers, RunnerUsersError> {
        let shown = || text.chars().take(80).collect::<String>();
        if text == "same" {
            return Ok(RunnerUsers::Same);
        }
        let (first, last, group) = match text.split_once('-').map(|(first, last)| (first.parse(), last.parse())) {
            Some((Ok(first), Ok(last))) if first <= last => (first, last, None),
            _ => match text.parse() {
                Ok(uid) => (uid, uid, None),
                Err(_not_a_number) if text.is_empty() || text.starts_with(|first: char| first.is_ascii_digit()) => {
                    return Err(RunnerUsersError::Form(shown()));
                }
                Err(_not_a_number) => {
                    let (uid, gid) = look_up("/etc/passwd", text).ok_or_else(|| RunnerUsersError::Unknown(shown()))?;
                    (uid, uid, Some(gid))
                }
            },
        };
        if first == 0 { Err(RunnerUsersError::Root(shown())) } else { Ok(RunnerUsers::Range { first, last, group }) }
    }
}

/// The numbers in the third and fourth column of a line that begins with a name.
fn look_up(file: &str, name: &str) -> Option<(u32, u32)> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.split(':').next() == Some(name))?;
    let mut columns = line.split(':').skip(2);
    Some((columns.next()?.parse().ok()?, columns.next()?.parse().unwrap_or(0)))
}

/// The number of a group by name or number.
///
/// # Errors
/// When there is none of that name, or it is root's.
pub fn runner_group(text: &str) -> Result<u32, RunnerUsersError> {
    let number = text.parse().ok().or_else(|| look_up("/etc/group", text).map(|(gid, _)| gid));
    match number {
        Some(0) => Err(RunnerUsersError::Root(text.to_owned())),
        Some(gid) => Ok(gid),
        None => Err(RunnerUsersError::Unknown(text.chars().take(80).collect())),
    }
}

/// Users and their group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    first: u32,
    last: u32,
    gid: u32,
}

impl RunnerUsers {
    pub(super) fn range(self, group: Option<u32>) -> Option<Range> {
        let (first, last, own) = match self {
            RunnerUsers::Same => return None,
            RunnerUsers::Default => (DEFAULT.0, DEFAULT.1, None),
            RunnerUsers::Range { first, last, group } => (first, last, group),
        };
        Some(Range { first, last, gid: group.or(own).unwrap_or(first) })
    }
}

impl Range {
    /// The first user, which compile workers become.
    pub(super) fn first(self) -> RunAs {
        RunAs { uid: self.first, gid: self.gid }
    }

    pub(super) fn last(self) -> u32 {
        self.last
    }

    /// The user of the runner of this number: another one than its neighbours', and none of the compile workers'.
    pub(super) fn of_runner(self, number: u64) -> RunAs {
        let others = u64::from(self.last - self.first);
        let offset = if others == 0 { 0 } else { 1 + number % others };
        RunAs { uid: self.first + u32::try_from(offset).unwrap_or(0), gid: self.gid }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_a_name_a_number_or_a_range_and_never_root() {
        assert_eq!("same".parse(), Ok(RunnerUsers::Same));
        assert_eq!("70000".parse(), Ok(RunnerUsers::Range { first: 70_000, last: 70_000, group: None }));
        assert_eq!("70000-70009".parse(), Ok(RunnerUsers::Range { first: 70_000, last: 70_009, group: None }));
        for text in ["", "9-3", "7x", "0", "0-9", "root", "no such user"] {
            assert!(text.parse::<RunnerUsers>().is_err(), "{text}");
        }
        assert!(matches!("nobody".parse(), Ok(RunnerUsers::Range { first: 1.., .. })));
    }

    #[test]
    fn runners_get_different_users_of_the_range_and_compilers_one_of_their_own() {
        let range = RunnerUsers::Range { first: 100, last: 103, group: None }.range(Some(9)).unwrap();
        let uids: Vec<_> = (0..4).map(|number| range.of_runner(number).uid).collect();
        assert_eq!(uids, [101, 102, 103, 101]);
        assert_eq!(range.first(), RunAs { uid: 100, gid: 9 });
        let one = RunnerUsers::Range { first: 100, last: 100, group: Some(7) }.range(None).unwrap();
        assert_eq!(one.of_runner(5), RunAs { uid: 100, gid: 7 });
    }
}
