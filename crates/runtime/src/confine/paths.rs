//! Layer `landlock`, and the directories that a confined process keeps open.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, PathBeneath, Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr,
    RulesetError, RulesetStatus, Scope,
};
use rustix::fs::{Mode, OFlags, open};

use super::{ConfineError, Confinement, Purpose};

/// What the rules speak of; a kernel that knows less enforces less, one that knows more is asked for no more.
const RULES: ABI = ABI::V7;

/// Directories (and files) held open from before a process changed its user.
#[derive(Debug, Default)]
pub struct OpenPaths(Vec<(PathBuf, OwnedFd)>);

impl OpenPaths {
    pub(super) fn open<'a>(lists: impl IntoIterator<Item = &'a Vec<PathBuf>>) -> Result<OpenPaths, ConfineError> {
        let hold = |path: &PathBuf| {
            let held = open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
            let held = held.map_err(|error| ConfineError::Open { path: path.clone(), source: error.into() })?;
            Ok((path.clone(), held))
        };
        lists.into_iter().flatten().map(hold).collect::<Result<_, _>>().map(OpenPaths)
    }

    /// A path to the same place that does not pass through the directories above the one held open; the path itself where
    /// none is.
    pub fn resolve(&self, path: &Path) -> PathBuf {
        let covering = self.0.iter().filter_map(|(root, held)| Some((root, held, path.strip_prefix(root).ok()?)));
        let nearest = covering.max_by_key(|(root, ..)| root.as_os_str().len());
        match nearest {
            Some((_, held, rest)) => {
                let held = PathBuf::from(format!("/proc/self/fd/{}", held.as_raw_fd()));
                if rest.as_os_str().is_empty() { held } else { held.join(rest) }
            }
            None => path.to_owned(),
        }
    }

    fn get(&self, path: &Path) -> Option<&OwnedFd> {
        self.0.iter().find(|(known, _)| known == path).map(|(_, held)| held)
    }
}

/// Why there are no rules.
#[derive(Debug, thiserror::Error)]
pub(super) enum RulesError {
    #[error("{0}")]
    Rules(#[from] RulesetError),
    #[error("{path}: {source}")]
    File { path: PathBuf, source: io::Error },
    #[error("this kernel enforces none of it")]
    NotEnforced,
}

/// From here on the process reaches only what the plan names.
pub(super) fn restrict(plan: &Confinement, open: &OpenPaths) -> Result<(), RulesError> {
    let mut rules = Ruleset::default().handle_access(AccessFs::from_all(RULES))?;
    if plan.purpose != Purpose::RunNetworked {
        rules = rules.handle_access(AccessNet::from_all(RULES))?;
    }
    let mut rules = rules.scope(Scope::from_all(RULES))?.create()?;
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    // Everything but running programs and making devices and sockets.
    let write = AccessFs::from_all(RULES)
        & !(AccessFs::Execute | AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::MakeSock | AccessFs::IoctlDev);
    for (paths, access) in [(&plan.read_known, AccessFs::ReadFile.into()), (&plan.read, read), (&plan.write, write)] {
        for path in paths {
            rules = allow(rules, path, open, access)?;
        }
    }
    match rules.restrict_self()?.ruleset {
        RulesetStatus::NotEnforced => Err(RulesError::NotEnforced),
        RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced => Ok(()),
    }
}

fn allow(
    rules: RulesetCreated,
    path: &Path,
    open: &OpenPaths,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, RulesError> {
    let failed = |source: io::Error| RulesError::File { path: path.to_owned(), source };
    let held = open.get(path).ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
    let stat = rustix::fs::fstat(held).map_err(|error| failed(error.into()))?;
    let is_directory = rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Directory;
    // A rule about a file may not speak of directories.
    let access = if is_directory { access } else { access & AccessFs::from_file(RULES) };
    Ok(rules.add_rule(PathBeneath::new(held.as_fd(), access))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_leads_through_the_nearest_directory_held_open() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("inner");
        std::fs::create_dir(&inner).unwrap();
        std::fs::write(inner.join("file"), "here").unwrap();
        let paths = OpenPaths::open([&vec![dir.path().to_owned(), inner.clone()]]).unwrap();
        let resolved = paths.resolve(&inner.join("file"));
        assert_eq!(resolved.file_name().unwrap(), "file");
        assert_eq!(resolved.parent().unwrap().parent().unwrap(), Path::new("/proc/self/fd"));
        assert_eq!(std::fs::read_to_string(resolved).unwrap(), "here");
        assert_eq!(paths.resolve(Path::new("/elsewhere")), Path::new("/elsewhere"));
        let beside = dir.path().with_extension("x");
        assert_eq!(paths.resolve(&beside), beside);
    }

    #[test]
    fn what_is_missing_is_named() {
        let error = OpenPaths::open([&vec![PathBuf::from("/no/such/place")]]).unwrap_err();
        assert!(error.to_string().contains("/no/such/place"), "{error}");
    }
}
