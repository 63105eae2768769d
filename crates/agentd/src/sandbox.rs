//! Sandbox directories: which task's they are, what is in them, and when they go.
//!
//! `work-N` below its tenant's directory exists only when a launch has input files or asked for disk. It stays readable for a while after the
//! agent's core has forgotten the launch, so that its files can still be fetched.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use holm_model::WorkId;
use rustix::fs::{Dir, FileType, Mode, OFlags, ResolveFlags, open, openat2};

use crate::remove::remove_tree;
use crate::tenants;

/// Most directories of ended runners kept.
const MAX_ENDED_RUNNERS: usize = 500;
/// How long the empty directory of a framework stays.
const EMPTY_KEEP: Duration = Duration::from_secs(3600);
/// Most entries listed of one directory.
const MAX_ENTRIES: usize = 10_000;
/// How long the output of a runner that has ended stays even when the disk is too full: long enough to look at it. What it
/// can take is bounded by [`Keeping::log_bytes`].
const RECENT_LOG: Duration = Duration::from_secs(600);

/// One entry of a sandbox directory.
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) bytes: u64,
    pub(crate) directory: bool,
}

/// A task's own directory: its scratch directory, else its launch's input files.
pub(crate) fn directory_of(works: &Path, work: WorkId, position: u32) -> Option<PathBuf> {
    let sandbox = works.join(work.to_string());
    let scratch = sandbox.join("scratch").join(position.to_string());
    // Not a link: a runner that was taken over may have put one in its place.
    let is_directory = |path: &PathBuf| fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir());
    [scratch, sandbox.join("inputs")].into_iter().find(is_directory)
}

/// Opens `path` below `root`, refusing links that lead out.
fn open_in(root: &Path, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
    let root = open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let path = path.trim_start_matches('/');
    let path = if path.is_empty() { "." } else { path };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    // NONBLOCK: a pipe that a guest left there must not hold the reader.
    let flags = flags | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    Ok(openat2(root, path, flags, Mode::empty(), resolve)?)
}

/// Lists a directory of a sandbox in the order of names.
pub(crate) fn list(root: &Path, path: &str) -> io::Result<Vec<Entry>> {
    let dir = open_in(root, path, OFlags::DIRECTORY)?;
    let mut entries = Vec::new();
    for entry in Dir::read_from(&dir)?.take(MAX_ENTRIES) {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let stat = rustix::fs::statat(&dir, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)?;
        let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        let bytes = if directory { 0 } else { u64::try_from(stat.st_size).unwrap_or(0) };
        entries.push(Entry { name: name.to_string_lossy().into_owned(), bytes, directory });
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

/// Opens a regular file of a sandbox.
pub(crate) fn open_file(root: &Path, path: &str) -> io::Result<impl Read + use<>> {
    let file = fs::File::from(open_in(root, path, OFlags::empty())?);
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    Ok(file)
}

/// How long ended things stay, and when they go early.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keeping {
    /// How long a sandbox stays after its launch was forgotten.
    pub(crate) keep: Duration,
    /// How many bytes the logs of all runners together may take.
    pub(crate) log_bytes: u64,
}

/// Removes sandboxes below `works`, of all tenants, of launches that `is_known` no longer knows: those last changed longer ago than they are kept, and
/// while `is_full` says so also the others, the oldest first. Returns how many went.
pub(crate) fn sweep(
    works: &Path,
    keeping: Keeping,
    is_known: impl Fn(WorkId) -> bool,
    is_full: impl Fn() -> bool,
) -> io::Result<usize> {
    let mut ended = Vec::new();
    for tenant in tenants::all(works)? {
        for entry in fs::read_dir(tenant)? {
            let entry = entry?;
            let Some(work) = work_of(&entry.file_name()) else { continue };
            if !is_known(work) {
                ended.push((entry.metadata()?.modified()?, entry.path()));
            }
        }
    }
    ended.sort();
    let mut removed = 0;
    for (changed, path) in ended {
        if changed.elapsed().unwrap_or_default() <= keeping.keep && !is_full() {
            break;
        }
        remove_tree(&path)?;
        removed += 1;
    }
    Ok(removed)
}

/// Removes the oldest directories of runners that have ended, until their logs together take no more than they may and
/// `is_full` does not hold any more; that alone leaves the recent ones. Returns how many went.
pub(crate) fn sweep_runners(
    runners: &Path,
    keeping: Keeping,
    is_known: impl Fn(&Path) -> bool,
    is_full: impl Fn() -> bool,
) -> io::Result<usize> {
    let mut found = Vec::new();
    for framework in fs::read_dir(runners)? {
        let framework = framework?.path();
        // Gone once its last runner's directory is; a directory that is not empty stays.
        let age = fs::metadata(&framework)?.modified()?.elapsed().unwrap_or_default();
        if age > EMPTY_KEEP && fs::remove_dir(&framework).is_ok() {
            continue;
        }
        for runner in fs::read_dir(framework)? {
            let path = runner?.path();
            let mut bytes = 0;
            for file in fs::read_dir(path.join("log")).into_iter().flatten() {
                bytes += file?.metadata()?.len();
            }
            found.push((fs::metadata(&path)?.modified()?, path, bytes));
        }
    }
    found.sort();
    let mut total: u64 = found.iter().map(|(_, _, bytes)| bytes).sum();
    let (mut removed, mut left) = (0, found.len());
    for (changed, path, bytes) in found {
        if is_known(&path) {
            continue;
        }
        let is_recent = changed.elapsed().unwrap_or_default() < RECENT_LOG;
        if total <= keeping.log_bytes && left <= MAX_ENDED_RUNNERS && (is_recent || !is_full()) {
            break;
        }
        remove_tree(&path)?;
        total -= bytes;
        removed += 1;
        left -= 1;
    }
    Ok(removed)
}

/// A launch was forgotten: its sandbox's remaining time begins.
pub(crate) fn retire(works: &Path, work: WorkId) {
    if let Ok(dir) = fs::File::open(works.join(work.to_string())) {
        // An unset time only means that it goes earlier.
        let _ = dir.set_modified(std::time::SystemTime::now());
    }
}

fn work_of(name: &OsStr) -> Option<WorkId> {
    name.to_str()?.strip_prefix("work-")?.parse().ok().map(WorkId)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_sandbox_is_listed_and_read_but_not_left() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("out")).unwrap();
        fs::write(root.path().join("out/result"), "42").unwrap();
        std::os::unix::fs::symlink("/etc", root.path().join("etc")).unwrap();
        let names: Vec<_> =
            list(root.path(), "").unwrap().into_iter().map(|entry| (entry.name, entry.directory)).collect();
        assert_eq!(names, [("etc".to_owned(), false), ("out".to_owned(), true)]);
        let mut text = String::new();
        open_file(root.path(), "/out/result").unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "42");
        for path in ["../x", "etc/hostname", "out/../../x", "out"] {
            assert!(open_file(root.path(), path).is_err(), "{path} was opened");
        }
        assert!(list(root.path(), "etc").is_err());
    }

    #[test]
    fn logs_of_ended_runners_give_way_oldest_first() {
        let runners = tempfile::tempdir().unwrap();
        let path = |number: u64| runners.path().join(format!("framework-1-1/runner-{number}"));
        for number in 1..=3 {
            fs::create_dir_all(path(number).join("log")).unwrap();
            fs::write(path(number).join("log/000001.log"), [0; 100]).unwrap();
            let changed = std::time::SystemTime::now() - Duration::from_secs(100 - number);
            fs::File::open(path(number)).unwrap().set_modified(changed).unwrap();
        }
        let keeping = |log_bytes| Keeping { keep: HOUR, log_bytes };
        let known = |dir: &Path| dir == path(1);
        assert_eq!(sweep_runners(runners.path(), keeping(200), known, || false).unwrap(), 1);
        assert!(path(1).exists() && !path(2).exists() && path(3).exists());
        // A full disk takes the rest of what has ended, but nothing recent and nothing that runs.
        assert_eq!(sweep_runners(runners.path(), keeping(200), known, || true).unwrap(), 0);
        let long_ago = std::time::SystemTime::now() - 2 * RECENT_LOG;
        fs::File::open(path(3)).unwrap().set_modified(long_ago).unwrap();
        assert_eq!(sweep_runners(runners.path(), keeping(200), known, || true).unwrap(), 1);
        assert!(path(1).exists() && !path(3).exists());
    }

    fn sandboxes(ages: &[(u64, u32)]) -> tempfile::TempDir {
        let works = tempfile::tempdir().unwrap();
        for (work, age) in ages {
            let dir = works.path().join(format!("tenant/work-{work}/scratch/0"));
            fs::create_dir_all(&dir).unwrap();
            let changed = std::time::SystemTime::now() - HOUR / 10 * *age;
            fs::File::open(works.path().join(format!("tenant/work-{work}"))).unwrap().set_modified(changed).unwrap();
        }
        works
    }

    fn are_there(works: &Path) -> Vec<u64> {
        (1..10).filter(|work| directory_of(&works.join("tenant"), WorkId(*work), 0).is_some()).collect()
    }

    #[test]
    fn only_old_sandboxes_of_forgotten_launches_are_removed() {
        let works = sandboxes(&[(1, 0), (2, 20), (3, 20)]);
        let keeping = Keeping { keep: HOUR, log_bytes: 0 };
        assert_eq!(sweep(works.path(), keeping, |work| work == WorkId(3), || false).unwrap(), 1);
        assert_eq!(are_there(works.path()), [1, 3]);
    }

    #[test]
    fn a_full_disk_takes_the_oldest_ended_sandboxes_first_and_no_more_than_it_needs() {
        let works = sandboxes(&[(1, 1), (2, 5), (3, 9), (4, 9), (5, 3)]);
        let keeping = Keeping { keep: HOUR, log_bytes: 0 };
        // Full until two of them are gone. The one that still runs is among the oldest.
        let is_full = || are_there(works.path()).len() > 3;
        assert_eq!(sweep(works.path(), keeping, |work| work == WorkId(4), is_full).unwrap(), 2);
        assert_eq!(are_there(works.path()), [1, 4, 5]);
    }
}
