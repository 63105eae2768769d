//! Which of a guest's descriptors belong to a sandbox with a ledger.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::{Arc, Weak};

use wasmtime::component::Resource;
use wasmtime_wasi::ResourceTable;
use wasmtime_wasi::filesystem::Descriptor;

use super::{Disk, DiskRefusal};
use crate::limits::MAX_OPEN_FILES;

/// The files of one task and their ledgers. A descriptor belongs to the ledger of the directory it was opened from.
#[derive(Default)]
pub(crate) struct Sandbox {
    /// The ledger of each preopened directory, in order, where it has one.
    pub(super) preopens: Vec<Option<Disk>>,
    /// The ledger of each descriptor that has one, by its number in the resource table.
    pub(super) descriptors: BTreeMap<u32, Disk>,
    /// What preview 1 calls its descriptors, those without a ledger included.
    pub(super) numbers: BTreeMap<u32, Number>,
    /// Everything that was opened; some of it is closed.
    open: Vec<Weak<File>>,
}

/// A descriptor of preview 1.
#[derive(Clone, Copy, Debug)]
pub(super) struct Number {
    /// Its number in the resource table.
    pub(super) index: u32,
    /// Whether every write goes to the end.
    pub(super) append: bool,
}

impl Sandbox {
    /// The next preopened directory, with its ledger if it has one.
    pub(crate) fn preopen(&mut self, disk: Option<Disk>) {
        self.preopens.push(disk);
    }

    /// The latest refusal.
    pub(crate) fn refusal(&self) -> Option<DiskRefusal> {
        self.preopens.iter().flatten().find_map(Disk::refusal)
    }

    /// The most bytes taken at one time.
    pub(crate) fn peak(&self) -> u64 {
        self.preopens.iter().flatten().map(Disk::peak).sum()
    }

    /// The ledger of a descriptor.
    pub(super) fn of(&self, index: u32) -> Option<&Disk> {
        self.descriptors.get(&index)
    }

    /// Whether another file may be opened.
    pub(super) fn may_open(&mut self) -> bool {
        if self.open.len() >= MAX_OPEN_FILES {
            self.open.retain(|file| file.strong_count() > 0);
        }
        self.open.len() < MAX_OPEN_FILES
    }

    /// A descriptor was opened, below one that has this ledger if there is one.
    pub(super) fn opened(&mut self, index: u32, disk: Option<Disk>, descriptor: &Descriptor) -> std::io::Result<()> {
        let file = match descriptor {
            Descriptor::File(file) => &file.file,
            Descriptor::Dir(directory) => &directory.dir,
        };
        self.open.push(Arc::downgrade(file));
        let Some(disk) = disk else { return Ok(()) };
        let noted = disk.opened(file);
        self.descriptors.insert(index, disk);
        noted
    }

    /// A descriptor was closed.
    pub(super) fn closed(&mut self, index: u32) {
        self.descriptors.remove(&index);
    }
}

/// The open directory of a descriptor.
pub(super) fn directory(table: &ResourceTable, index: u32) -> Option<Arc<File>> {
    match table.get(&Resource::<Descriptor>::new_borrow(index)) {
        Ok(Descriptor::Dir(directory)) => Some(directory.dir.clone()),
        _ => None,
    }
}

/// The open file of a descriptor.
pub(super) fn file(table: &ResourceTable, index: u32) -> Option<Arc<File>> {
    match table.get(&Resource::<Descriptor>::new_borrow(index)) {
        Ok(Descriptor::File(file)) => Some(file.file.clone()),
        _ => None,
    }
}
