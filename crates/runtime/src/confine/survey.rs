//! Which layers this host has, found out before anything is confined.

use std::fs;

use rustix::thread::CapabilitySet;

use super::{Layer, RunAs, syscalls};

/// Whether a layer can be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The layer.
    pub layer: Layer,
    /// What it would consist of, or why it cannot be had.
    pub result: Result<String, String>,
}

/// Looks for every layer but [`Layer::Cgroup`], which is for whoever makes the groups to say. `users` are the first and the
/// last of the users that processes would become and their group, if any.
pub fn survey(users: Option<(RunAs, u32)>) -> Vec<Finding> {
    let own = [Layer::User, Layer::NoNewPrivs, Layer::Capabilities, Layer::Rlimits, Layer::Landlock, Layer::Seccomp];
    let find = |layer| Finding { layer, result: find(layer, users) };
    own.into_iter().map(find).collect()
}

fn find(layer: Layer, users: Option<(RunAs, u32)>) -> Result<String, String> {
    match layer {
        Layer::User => find_user(users),
        Layer::NoNewPrivs => Ok("set".to_owned()),
        Layer::Capabilities => Ok("none kept".to_owned()),
        Layer::Rlimits => Ok("core files, locked memory, threads of the user".to_owned()),
        Layer::Landlock => find_landlock(),
        Layer::Seccomp => find_seccomp(),
        Layer::Cgroup => Err("not looked for".to_owned()),
    }
}

/// What an agent needs to give its runners users of their own and still rule them: become them, hand them directories, end
/// them, read and remove what they leave.
const NEEDED: [(CapabilitySet, &str); 6] = [
    (CapabilitySet::SETUID, "CAP_SETUID"),
    (CapabilitySet::SETGID, "CAP_SETGID"),
    (CapabilitySet::CHOWN, "CAP_CHOWN"),
    (CapabilitySet::KILL, "CAP_KILL"),
    (CapabilitySet::DAC_OVERRIDE, "CAP_DAC_OVERRIDE"),
    (CapabilitySet::FOWNER, "CAP_FOWNER"),
];

fn find_user(users: Option<(RunAs, u32)>) -> Result<String, String> {
    let Some((first, last)) = users else {
        return Err("runners keep the agent's user (--runner-users same)".to_owned());
    };
    let held = rustix::thread::capabilities(None).map_err(|error| format!("capabilities cannot be read: {error}"))?;
    let missing: Vec<_> =
        NEEDED.iter().filter(|(one, _)| !held.effective.contains(*one)).map(|(_, name)| *name).collect();
    if !missing.is_empty() {
        return Err(format!("the agent lacks {}: it does not run as root", missing.join(", ")));
    }
    for (file, first, last, what) in [("uid_map", first.uid, last, "users"), ("gid_map", first.gid, first.gid, "group")]
    {
        let map = fs::read_to_string(format!("/proc/self/{file}")).unwrap_or_default();
        if !covers(&map, first, last) {
            return Err(format!("{what} {first} to {last} do not exist in this user namespace; see --runner-users"));
        }
    }
    match first.uid == last {
        true => Ok(format!("{last}")),
        false => Ok(format!("one of {} to {last} for each runner, group {}", first.uid, first.gid)),
    }
}

/// Whether one line of a user namespace's map has all numbers from `first` to `last`.
fn covers(map: &str, first: u32, last: u32) -> bool {
    map.lines().any(|line| {
        let mut numbers = line.split_whitespace().map(|word| word.parse::<u64>().unwrap_or(0));
        let (Some(start), Some(_outside), Some(count)) = (numbers.next(), numbers.next(), numbers.next()) else {
            return false;
        };
        start <= u64::from(first) && u64::from(last) < start.saturating_add(count)
    })
}

fn find_landlock() -> Result<String, String> {
    // SAFETY: with this flag the call takes no attributes and only answers with a number.
    let version = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0_usize, 1_u32) };
    if version < 1 {
        let error = std::io::Error::last_os_error();
        return Err(format!("this kernel has none or it is not enabled (lsm=...,landlock): {error}"));
    }
    let lacks = match version {
        1..=2 => ", without truncation, TCP, signals",
        3 => ", without TCP, signals",
        4..=5 => ", without signals",
        _ => "",
    };
    Ok(format!("ABI {version}{lacks}"))
}

fn find_seccomp() -> Result<String, String> {
    if syscalls::architecture().is_none() {
        return Err(format!("no filter is known for {}", std::env::consts::ARCH));
    }
    let kill: u32 = libc::SECCOMP_RET_KILL_PROCESS;
    // SAFETY: the call reads the number it is pointed to and changes nothing.
    let found = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0_u32, &raw const kill) };
    if found == 0 {
        Ok("allow-list; the first steps out end the process".to_owned())
    } else {
        Err(format!("this kernel has no filters that end a process: {}", std::io::Error::last_os_error()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_has_only_the_users_of_its_map() {
        assert!(covers("0 0 4294967295", 0, 4_000_000_000));
        assert!(covers("0 100000 65536\n70000 300000 10", 70_000, 70_009));
        assert!(!covers("0 100000 65536\n70000 300000 10", 70_000, 70_010));
        assert!(!covers("0 100000 65536", 65_535, 65_536));
        assert!(!covers("", 1, 1));
    }

    #[test]
    fn what_is_missing_says_why() {
        for Finding { layer, result } in survey(None) {
            let text = result.unwrap_or_else(|why| why);
            assert!(!text.is_empty(), "{layer} says nothing");
        }
    }
}
