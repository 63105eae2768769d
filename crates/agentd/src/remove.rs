//! Removing a directory that a guest filled: it may be deeper than any stack and have more levels than a process may have
//! open files.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What directories are called while they wait at the top. No guest reaches them any more.
const WAITING: &str = ".removed-";

/// Removes a directory with everything in it, following no links. Directories below are moved to the top one by one, so
/// that neither memory nor open files grow with the depth; cut off in the middle, it can be begun again.
///
/// # Errors
/// What the system says; it is no error when there is no such directory.
pub(crate) fn remove_tree(root: &Path) -> io::Result<()> {
    let mut number = 0_u64;
    loop {
        match empty(root, root, &mut number) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound && !root.exists() => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    fs::remove_dir(root)
}

/// Removes the files of `directory`, and its directories that are empty; others are moved up to `root`, or emptied if
/// they are there. Returns how many directories there still were.
fn empty(directory: &Path, root: &Path, number: &mut u64) -> io::Result<usize> {
    let mut full = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let path = entry.path();
        if !entry.file_type()?.is_dir() {
            fs::remove_file(&path)?;
        } else if fs::remove_dir(&path).is_err() {
            full += 1;
            if directory == root {
                empty(&path, root, number)?;
            } else {
                fs::rename(&path, free_name(root, number))?;
            }
        }
    }
    Ok(full)
}

/// A name at the top that nothing has.
fn free_name(root: &Path, number: &mut u64) -> PathBuf {
    loop {
        *number += 1;
        let path = root.join(format!("{WAITING}{number}"));
        if path.symlink_metadata().is_err() {
            return path;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_removed_and_what_links_lead_to_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let (root, outside) = (dir.path().join("root"), dir.path().join("outside"));
        fs::create_dir_all(root.join("a/b/c")).unwrap();
        fs::create_dir_all(root.join(".removed-1/x")).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("kept"), "kept").unwrap();
        fs::write(root.join("a/b/file"), "gone").unwrap();
        std::os::unix::fs::symlink(&outside, root.join("a/link")).unwrap();
        remove_tree(&root).unwrap();
        assert!(!root.exists() && outside.join("kept").exists());
        remove_tree(&root).unwrap();
    }

    #[test]
    fn a_tree_deeper_than_any_stack_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir(&root).unwrap();
        // No path is long enough for it: it is built from within, as a guest would.
        let mut at = fs::File::open(&root).unwrap();
        for _ in 0..20_000 {
            rustix::fs::mkdirat(&at, "d", rustix::fs::Mode::RWXU).unwrap();
            let flags = rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
            at = rustix::fs::openat(&at, "d", flags, rustix::fs::Mode::empty()).unwrap().into();
        }
        remove_tree(&root).unwrap();
        assert!(!root.exists());
    }
}
