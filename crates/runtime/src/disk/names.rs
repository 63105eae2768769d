//! Names in a sandbox, looked up the way WASI does: never out of the directory they start from.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use wasmtime_wasi::runtime::spawn_blocking;

use super::Disk;
use super::ledger::Entry;

/// What a name leads to, held so that it can still be asked how many names it has once this one is gone. None when there
/// is nothing, or it cannot be reached.
pub(super) async fn find(directory: Arc<File>, path: String, follow: bool) -> Option<File> {
    let flags = OFlags::PATH | OFlags::CLOEXEC | if follow { OFlags::empty() } else { OFlags::NOFOLLOW };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    spawn_blocking(move || openat2(&*directory, path, flags, Mode::empty(), resolve).ok().map(File::from)).await
}

/// Takes an entry if opening `path` with the permission to create is going to make a file.
pub(super) async fn enter_if_new(
    disk: &Disk,
    directory: Arc<File>,
    path: String,
    follow: bool,
) -> io::Result<Option<Entry>> {
    match find(directory, path, follow).await {
        Some(_there) => Ok(None),
        None => disk.enter(0).map(Some),
    }
}

/// What a rename is about to do to the name it gives.
pub(super) struct Replaced(Option<File>);

impl Replaced {
    /// Looks at both names before the rename.
    pub(super) async fn by(from: (Arc<File>, String), to: (Arc<File>, String)) -> Replaced {
        let (moved, target) = (find(from.0, from.1, false).await, find(to.0, to.1, false).await);
        // Renaming one name of a file to another name of it does nothing at all.
        let same = |target: &File| match (moved.as_ref().map(File::metadata), target.metadata()) {
            (Some(Ok(moved)), Ok(target)) => (moved.dev(), moved.ino()) == (target.dev(), target.ino()),
            _ => false,
        };
        Replaced(target.filter(|target| !same(target)))
    }

    /// The rename was done.
    pub(super) fn done(self, disk: &Disk) {
        if let Some(target) = self.0 {
            disk.left(&target);
        }
    }
}
