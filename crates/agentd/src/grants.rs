//! Which host directories tasks may open: those below a prefix that the agent's operator allowed, and nothing that a
//! link leads to outside it.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use holm_model::{DirectoryGrant, PreparedDirectory};
use holm_runtime::OpenPaths;
use rustix::fs::{Mode, OFlags, ResolveFlags, open, openat2};

/// The prefixes an operator allowed; none unless told.
#[derive(Clone, Debug, Default)]
pub(crate) struct AllowedDirectories(Vec<AllowedDirectory>);

/// One prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AllowedDirectory {
    prefix: PathBuf,
    writable: bool,
}

/// Why a prefix cannot be allowed.
#[derive(Debug, thiserror::Error)]
#[error("cannot allow directory {path}")]
pub struct AllowError {
    path: PathBuf,
    source: std::io::Error,
}

/// Why a directory was not granted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum GrantError {
    /// It lies below no allowed prefix.
    #[error("directory {0} is below no prefix that this agent's operator allowed ({1})")]
    NotAllowed(Arc<str>, String),
    /// It lies below a prefix that is allowed for reading only.
    #[error("directory {0} is allowed for reading only")]
    ReadOnly(Arc<str>),
}

impl AllowedDirectories {
    /// Allows these prefixes: `PATH` for reading, `PATH:rw` for writing too. They must exist.
    ///
    /// # Errors
    /// When one does not exist.
    pub(crate) fn new(prefixes: &[String]) -> Result<AllowedDirectories, AllowError> {
        let allow = |text: &String| {
            let (path, writable) = text.strip_suffix(":rw").map_or((text.as_str(), false), |path| (path, true));
            let canonical = std::fs::canonicalize(path);
            let prefix = canonical.map_err(|source| AllowError { path: path.into(), source })?;
            Ok(AllowedDirectory { prefix, writable })
        };
        prefixes.iter().map(allow).collect::<Result<_, _>>().map(AllowedDirectories)
    }

    /// Splits a granted directory into the allowed prefix and the rest, to be opened by [`open_below`].
    ///
    /// # Errors
    /// When no prefix covers it, or writing is asked and not allowed.
    pub(crate) fn grant(&self, grant: &DirectoryGrant) -> Result<PreparedDirectory, GrantError> {
        let host = Path::new(&*grant.host);
        let covering: Vec<_> = self.0.iter().filter(|allowed| host.starts_with(&allowed.prefix)).collect();
        let fit = covering.iter().find(|allowed| allowed.writable || !grant.writable);
        let Some(allowed) = fit else {
            return Err(match covering.is_empty() {
                true => GrantError::NotAllowed(grant.host.clone(), self.list()),
                false => GrantError::ReadOnly(grant.host.clone()),
            });
        };
        let below = host.strip_prefix(&allowed.prefix).unwrap_or_else(|_| Path::new(""));
        Ok(PreparedDirectory {
            prefix: allowed.prefix.to_string_lossy().into(),
            below: below.to_string_lossy().into(),
            guest: grant.guest.clone(),
            writable: grant.writable,
        })
    }

    /// The prefixes, and whether tasks may be granted writing below them.
    pub(crate) fn prefixes(&self) -> Vec<(PathBuf, bool)> {
        self.0.iter().map(|allowed| (allowed.prefix.clone(), allowed.writable)).collect()
    }

    fn list(&self) -> String {
        let names: Vec<_> = self.0.iter().map(|allowed| allowed.prefix.display().to_string()).collect();
        if names.is_empty() { "it allowed none".to_owned() } else { names.join(", ") }
    }
}

/// Opens a granted directory, by way of what the process holds open, such that no link on the way leads out of its prefix, whatever changes meanwhile.
///
/// # Errors
/// When it does not exist, is not a directory, or leaves the prefix.
pub(crate) fn open_below(directory: &PreparedDirectory, paths: &OpenPaths) -> std::io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    let prefix = open(paths.resolve(Path::new(&*directory.prefix)), flags | OFlags::PATH, Mode::empty())?;
    let below = if directory.below.is_empty() { "." } else { &*directory.below };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    Ok(openat2(&prefix, below, flags | OFlags::RDONLY, Mode::empty(), resolve)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(host: &Path, writable: bool) -> DirectoryGrant {
        DirectoryGrant { host: host.to_string_lossy().into(), guest: "data".into(), writable }
    }

    #[test]
    fn nothing_is_allowed_unless_told() {
        let error = AllowedDirectories::default().grant(&grant(Path::new("/tmp"), false)).unwrap_err();
        assert!(error.to_string().contains("allowed none"), "{error}");
    }

    #[test]
    fn only_what_is_below_a_prefix_opens_and_writing_only_where_allowed() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("in/deep")).unwrap();
        std::fs::create_dir_all(root.join("inside")).unwrap();
        let allowed = AllowedDirectories::new(&[root.join("in").display().to_string()]).unwrap();
        let prepared = allowed.grant(&grant(&root.join("in/deep"), false)).unwrap();
        open_below(&prepared, &OpenPaths::default()).unwrap();
        assert!(matches!(allowed.grant(&grant(&root.join("inside"), false)), Err(GrantError::NotAllowed(..))));
        assert!(matches!(allowed.grant(&grant(&root.join("in"), true)), Err(GrantError::ReadOnly(..))));
        let writable = AllowedDirectories::new(&[format!("{}:rw", root.join("in").display())]).unwrap();
        assert!(writable.grant(&grant(&root.join("in"), true)).unwrap().writable);
    }

    #[test]
    fn a_link_does_not_lead_out() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("in")).unwrap();
        std::fs::create_dir_all(root.join("out")).unwrap();
        std::os::unix::fs::symlink(root.join("out"), root.join("in/absolute")).unwrap();
        std::os::unix::fs::symlink("../out", root.join("in/relative")).unwrap();
        let allowed = AllowedDirectories::new(&[root.join("in").display().to_string()]).unwrap();
        for link in ["in/absolute", "in/relative"] {
            let prepared = allowed.grant(&grant(&root.join(link), false)).unwrap();
            assert!(open_below(&prepared, &OpenPaths::default()).is_err(), "{link} led out");
        }
    }
}
