//! Directories that many tasks share, opened once per thread and not once per task.
//!
//! A small task without files of its own still has a root, the same empty directory for all; opening and closing it cost
//! more than the task's own instructions. What is shared is the handle alone: names, permissions and everything a guest
//! opens beneath it belong to the one task.

use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};

use wasmtime_wasi::filesystem::WasiFilesystemCtx;

use crate::{HostDir, Preopen};

/// The list of directories that a thread opened last.
struct Opened {
    list: Vec<(Weak<OwnedFd>, String, bool)>,
    context: WasiFilesystemCtx,
}

thread_local! {
    static LAST: RefCell<Option<Opened>> = const { RefCell::new(None) };
}

impl Opened {
    /// A directory that its owner has closed is never taken for another one: the list does not keep it, and a dead
    /// reference equals none.
    fn is_of(&self, preopens: &[Preopen]) -> bool {
        let same = |(preopen, (opened, guest, writable)): (&Preopen, &(Weak<OwnedFd>, String, bool))| {
            let HostDir::Opened(directory) = &preopen.host else { return false };
            let alive = opened.strong_count() > 0 && std::ptr::eq(opened.as_ptr(), Arc::as_ptr(directory));
            alive && preopen.guest == *guest && preopen.writable == *writable
        };
        self.list.len() == preopens.len() && preopens.iter().zip(&self.list).all(same)
    }
}

/// What this thread opened last, if it was the same list of opened directories.
pub(crate) fn recall(preopens: &[Preopen]) -> Option<WasiFilesystemCtx> {
    if preopens.is_empty() {
        return None;
    }
    LAST.with_borrow(|last| last.as_ref().filter(|last| last.is_of(preopens)).map(|last| last.context.clone()))
}

/// Keeps a list for the next task, if it holds nothing but opened directories. The thread keeps their handles until it
/// opens another list.
pub(crate) fn remember(preopens: &[Preopen], context: &WasiFilesystemCtx) {
    let listed = |preopen: &Preopen| match &preopen.host {
        HostDir::Opened(directory) => Some((Arc::downgrade(directory), preopen.guest.clone(), preopen.writable)),
        _ => None,
    };
    if let Some(list) = preopens.iter().map(listed).collect::<Option<Vec<_>>>() {
        LAST.set(Some(Opened { list, context: context.clone() }));
    }
}

#[cfg(test)]
mod tests {
    use wasmtime_wasi::{FsPerms, WasiCtxBuilder};

    use super::*;

    fn opened(directory: &Arc<OwnedFd>, guest: &str, writable: bool) -> Preopen {
        Preopen { host: HostDir::Opened(directory.clone()), guest: guest.to_owned(), writable }
    }

    fn directory() -> Arc<OwnedFd> {
        Arc::new(std::fs::File::open("/").unwrap().into())
    }

    #[test]
    fn only_the_very_same_list_is_taken_again() {
        let (one, other) = (directory(), directory());
        let mut wasi = WasiCtxBuilder::new();
        wasi.preopened_dir("/", "/", FsPerms::ReadOnly).unwrap();
        let mut context = wasi.build();
        remember(&[opened(&one, "/", false)], context.filesystem());
        assert!(recall(&[opened(&one, "/", false)]).is_some());
        assert!(recall(&[opened(&one, "/", true)]).is_none());
        assert!(recall(&[opened(&one, "/data", false)]).is_none());
        assert!(recall(&[opened(&other, "/", false)]).is_none());
        assert!(recall(&[opened(&one, "/", false), opened(&other, "/more", false)]).is_none());
        assert!(recall(&[]).is_none());
    }

    #[test]
    fn a_closed_directory_is_forgotten_and_paths_are_never_kept() {
        let one = directory();
        let mut context = WasiCtxBuilder::new().build();
        remember(&[opened(&one, "/", false)], context.filesystem());
        drop(one);
        // Whatever is opened next, even at the same address, is another directory.
        assert!(recall(&[opened(&directory(), "/", false)]).is_none());
        let kept = directory();
        remember(&[opened(&kept, "/", false)], context.filesystem());
        remember(
            &[Preopen { host: HostDir::Path("/".into()), guest: "/".into(), writable: false }],
            context.filesystem(),
        );
        assert!(recall(&[opened(&kept, "/", false)]).is_some());
    }
}
