//! Where sandboxes lie: below a directory for each tenant, so that a runner can be given its tenant's and no other.
//!
//! `works/TENANT/work-N`: the tenant is a framework, a single launch of it, or `shared`, as the agent isolates.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use holm_agent::RunnerScope;
use holm_model::{FrameworkId, WorkId};

/// The tenant of an agent that does not keep frameworks apart.
pub(crate) const SHARED: &str = "shared";

/// The directory of the sandboxes of a runner's tasks.
pub(crate) fn directory(works: &Path, scope: &RunnerScope) -> PathBuf {
    works.join(match (scope.framework, scope.work) {
        (None, _) => SHARED.to_owned(),
        (Some(framework), None) => framework.to_string(),
        (Some(framework), Some(work)) => format!("{framework}.{work}"),
    })
}

/// Every directory where the sandbox of a launch may be: the agent may have isolated otherwise when it ran.
pub(crate) fn candidates(works: &Path, framework: FrameworkId, work: WorkId) -> [PathBuf; 3] {
    let own = RunnerScope { framework: Some(framework), ..RunnerScope::default() };
    [own, RunnerScope { work: Some(work), ..own }, RunnerScope::default()].map(|scope| directory(works, &scope))
}

/// Makes a directory that everybody may pass and list; who gets that far is decided by the directories above it.
pub(crate) fn make_passable(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => fs::set_permissions(path, fs::Permissions::from_mode(0o755)),
    }
}

/// The directories of all tenants.
pub(crate) fn all(works: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(works)?.collect::<io::Result<Vec<_>>>()?;
    let directories = entries.into_iter().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    Ok(directories.map(|entry| entry.path()).collect())
}

/// Removes the empty directories of tenants of whom no runner is left. One that still has sandboxes stays.
pub(crate) fn sweep(works: &Path, in_use: &HashSet<PathBuf>) -> io::Result<()> {
    for tenant in all(works)?.into_iter().filter(|tenant| !in_use.contains(tenant)) {
        match fs::remove_dir(&tenant) {
            Err(error) if error.kind() != io::ErrorKind::DirectoryNotEmpty => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_tenants_go_unless_a_runner_holds_them() {
        let works = tempfile::tempdir().unwrap();
        let framework: FrameworkId = "framework-1-2".parse().unwrap();
        let candidates = candidates(works.path(), framework, WorkId(3));
        candidates.iter().for_each(|tenant| make_passable(tenant).unwrap());
        fs::create_dir(candidates[1].join("work-3")).unwrap();
        assert!(candidates[1].ends_with("framework-1-2.work-3"));
        sweep(works.path(), &HashSet::from([candidates[2].clone()])).unwrap();
        let left: Vec<_> = candidates.iter().map(|tenant| tenant.exists()).collect();
        assert_eq!(left, [false, true, true]);
    }
}
