//! The accounts of one sandbox: what its files and names take, and what they may.
//!
//! A file takes its length, holes included, rounded up to [`BLOCK_BYTES`]; a directory and a symbolic link take one block
//! each; every name takes one entry. A file with several names is counted once. A file without a name takes its length
//! until the last handle on it is gone: space comes back when the disk gets it back.
//!
//! Before a file grows its new length is claimed, and afterwards the claim is settled by the length it really has, so
//! that two writers of one file are counted together.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::{Arc, Weak};

use super::DiskLimits;
use crate::limits::DISK_BLOCK_BYTES as BLOCK_BYTES;

/// Which file: its device and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FileId {
    pub(super) device: u64,
    pub(super) number: u64,
}

/// What would have exceeded a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DiskRefusal {
    /// Whether it were the entries that would have been too many, and not the bytes.
    pub(crate) of_entries: bool,
    /// What the sandbox would have taken.
    pub(crate) asked: u64,
    /// What it may take.
    pub(crate) limit: u64,
}

/// Where a write begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// At this byte.
    At(u64),
    /// At the end of the file.
    End,
}

/// A file that is open, or was not long ago.
struct Open {
    /// Everyone who may still reach the file: descriptors, streams, operations under way.
    handles: Vec<Weak<File>>,
    /// The length that is charged.
    size: u64,
    /// How many operations that may change the length are under way.
    under_way: u32,
    /// Whether the file has lost its last name.
    nameless: bool,
}

impl Open {
    fn is_reachable(&self) -> bool {
        self.under_way > 0 || self.handles.iter().any(|handle| handle.strong_count() > 0)
    }
}

/// See the module.
pub(super) struct Books {
    limits: DiskLimits,
    bytes: u64,
    entries: u64,
    peak: u64,
    open: BTreeMap<FileId, Open>,
    /// How many open files are worth looking whether some have been closed.
    look_at: usize,
    refusal: Option<DiskRefusal>,
}

/// The fewest open files that are looked through for closed ones.
const LOOK_AT: usize = 64;

/// What a length takes on disk.
pub(super) fn charge(size: u64) -> u64 {
    size.div_ceil(BLOCK_BYTES).saturating_mul(BLOCK_BYTES)
}

impl Books {
    /// Books that begin with what is there, even if that is more than is allowed.
    pub(super) fn new(limits: DiskLimits, bytes: u64, entries: u64) -> Books {
        Books { limits, bytes, entries, peak: bytes, open: BTreeMap::new(), look_at: LOOK_AT, refusal: None }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn entries(&self) -> u64 {
        self.entries
    }

    pub(super) fn peak(&self) -> u64 {
        self.peak
    }

    pub(super) fn refusal(&self) -> Option<DiskRefusal> {
        self.refusal
    }

    /// A file was opened; `size` is its length now.
    pub(super) fn opened(&mut self, id: FileId, handle: &Arc<File>, size: u64) {
        if self.open.len() >= self.look_at {
            self.release_unreachable();
            self.look_at = (self.open.len() * 2).max(LOOK_AT);
        }
        // A nameless file cannot be opened: this is a new one that got its number.
        if self.open.get(&id).is_some_and(|open| open.nameless && !open.is_reachable()) {
            self.release(id);
        }
        let open = self.open.entry(id).or_insert(Open { handles: Vec::new(), size, under_way: 0, nameless: false });
        open.handles.retain(|handle| handle.strong_count() > 0);
        open.handles.push(Arc::downgrade(handle));
    }

    /// Claims what a file of length `size` takes once `length` bytes are written at `place`, or once it is that long.
    pub(super) fn begin(&mut self, id: FileId, size: u64, place: Place, length: u64) -> Result<(), DiskRefusal> {
        let fresh = Open { handles: Vec::new(), size, under_way: 0, nameless: false };
        let open = self.open.entry(id).or_insert(fresh);
        let before = open.size;
        let end = match place {
            Place::At(position) => position.saturating_add(length),
            Place::End => before.saturating_add(length),
        };
        let after = if length == 0 { before } else { before.max(end) };
        open.under_way += 1;
        if let Err(refusal) = self.take(charge(after).saturating_sub(charge(before)), 0) {
            self.end(id, before);
            return Err(refusal);
        }
        if let Some(open) = self.open.get_mut(&id) {
            open.size = after;
        }
        Ok(())
    }

    /// An operation is over that was begun, and the file has this length. Claims of others under way stay.
    pub(super) fn end(&mut self, id: FileId, size: u64) {
        let Some(open) = self.open.get_mut(&id) else { return };
        open.under_way = open.under_way.saturating_sub(1);
        if open.under_way == 0 {
            let charged = charge(std::mem::replace(&mut open.size, size));
            self.bytes = self.bytes.saturating_sub(charged).saturating_add(charge(size));
            self.peak = self.peak.max(self.bytes);
        }
    }

    /// Takes a name, and the bytes of what it names unless that is a file.
    pub(super) fn enter(&mut self, bytes: u64) -> Result<(), DiskRefusal> {
        self.take(bytes, 1)
    }

    /// A name is gone, and the bytes of what it named unless that was a file.
    pub(super) fn leave(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_sub(bytes);
        self.entries = self.entries.saturating_sub(1);
    }

    /// A file of this length has lost its last name; its bytes stay charged while somebody can reach it.
    pub(super) fn nameless(&mut self, id: FileId, size: u64) {
        let charged = match self.open.get_mut(&id) {
            Some(open) if open.is_reachable() => {
                open.nameless = true;
                return;
            }
            Some(open) => open.size,
            None => size,
        };
        self.open.remove(&id);
        self.bytes = self.bytes.saturating_sub(charge(charged));
    }

    fn take(&mut self, bytes: u64, entries: u64) -> Result<(), DiskRefusal> {
        if self.excess(bytes, entries).is_some() {
            self.release_unreachable();
        }
        if let Some(refusal) = self.excess(bytes, entries) {
            self.refusal = Some(refusal);
            return Err(refusal);
        }
        self.bytes += bytes;
        self.entries += entries;
        self.peak = self.peak.max(self.bytes);
        Ok(())
    }

    /// What would be too much. Who takes nothing of what there is too much of is not refused.
    fn excess(&self, bytes: u64, entries: u64) -> Option<DiskRefusal> {
        let refused = |of_entries, held: u64, more: u64, limit| {
            let asked = held.saturating_add(more);
            (more > 0 && asked > limit).then_some(DiskRefusal { of_entries, asked, limit })
        };
        refused(false, self.bytes, bytes, self.limits.bytes)
            .or_else(|| refused(true, self.entries, entries, self.limits.entries))
    }

    /// Gives back what nameless files took that nobody can reach any more, and forgets files that were closed.
    pub(super) fn release_unreachable(&mut self) {
        let gone: Vec<FileId> = self.open.iter().filter(|(_, open)| !open.is_reachable()).map(|(id, _)| *id).collect();
        gone.into_iter().for_each(|id| self.release(id));
    }

    fn release(&mut self, id: FileId) {
        if let Some(open) = self.open.remove(&id)
            && open.nameless
        {
            self.bytes = self.bytes.saturating_sub(charge(open.size));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: u64 = BLOCK_BYTES;

    fn books(blocks: u64, entries: u64) -> Books {
        Books::new(DiskLimits { bytes: blocks * BLOCK, entries }, 0, 0)
    }

    fn id(number: u64) -> FileId {
        FileId { device: 1, number }
    }

    fn handle() -> Arc<File> {
        Arc::new(tempfile::tempfile().unwrap())
    }

    /// A file as a guest makes and fills it.
    fn file(books: &mut Books, number: u64, size: u64) -> Result<Arc<File>, DiskRefusal> {
        let handle = handle();
        books.enter(0)?;
        books.opened(id(number), &handle, 0);
        write(books, number, 0, Place::At(0), size)?;
        Ok(handle)
    }

    fn write(books: &mut Books, number: u64, size: u64, place: Place, length: u64) -> Result<(), DiskRefusal> {
        books.begin(id(number), size, place, length)?;
        let end = match place {
            Place::At(position) => position + length,
            Place::End => size + length,
        };
        books.end(id(number), size.max(end));
        Ok(())
    }

    #[test]
    fn the_limit_is_reached_exactly_and_not_passed_by_a_byte() {
        let mut books = books(2, 10);
        let _file = file(&mut books, 1, BLOCK + 1).unwrap();
        assert_eq!((books.bytes(), books.entries()), (2 * BLOCK, 1));
        write(&mut books, 1, BLOCK + 1, Place::End, BLOCK - 1).unwrap();
        let refusal = write(&mut books, 1, 2 * BLOCK, Place::End, 1).unwrap_err();
        assert_eq!(refusal, DiskRefusal { of_entries: false, asked: 3 * BLOCK, limit: 2 * BLOCK });
        assert_eq!(books.refusal(), Some(refusal));
        // What is there can be written again.
        write(&mut books, 1, 2 * BLOCK, Place::At(0), 2 * BLOCK).unwrap();
        assert_eq!(books.peak(), 2 * BLOCK);
    }

    #[test]
    fn holes_count() {
        let mut books = books(10, 10);
        let _file = file(&mut books, 1, 1).unwrap();
        assert!(write(&mut books, 1, 1, Place::At(u64::MAX - 5), 10).is_err());
        write(&mut books, 1, 1, Place::At(9 * BLOCK), 1).unwrap();
        assert_eq!(books.bytes(), 10 * BLOCK);
    }

    #[test]
    fn entries_have_a_limit_of_their_own() {
        let mut books = books(100, 2);
        books.enter(BLOCK).unwrap();
        books.enter(0).unwrap();
        assert_eq!(books.enter(0), Err(DiskRefusal { of_entries: true, asked: 3, limit: 2 }));
        books.leave(BLOCK);
        books.enter(0).unwrap();
        assert_eq!((books.bytes(), books.entries()), (0, 2));
    }

    #[test]
    fn a_nameless_file_takes_its_bytes_until_it_is_closed() {
        let mut books = books(4, 10);
        let first = file(&mut books, 1, 2 * BLOCK).unwrap();
        books.leave(0);
        books.nameless(id(1), 2 * BLOCK);
        assert_eq!((books.bytes(), books.entries()), (2 * BLOCK, 0));
        // It can even grow.
        write(&mut books, 1, 2 * BLOCK, Place::End, BLOCK).unwrap();
        assert!(file(&mut books, 2, 2 * BLOCK).is_err());
        drop(first);
        let _second = file(&mut books, 3, 4 * BLOCK).unwrap();
        assert_eq!(books.bytes(), 4 * BLOCK);
    }

    #[test]
    fn a_file_that_is_closed_gives_its_bytes_back_at_once_when_it_is_removed() {
        let mut books = books(4, 10);
        drop(file(&mut books, 1, 3 * BLOCK).unwrap());
        books.leave(0);
        books.nameless(id(1), 3 * BLOCK);
        assert_eq!((books.bytes(), books.entries()), (0, 0));
    }

    #[test]
    fn a_number_that_is_used_again_is_another_file() {
        let mut books = books(4, 10);
        let first = file(&mut books, 1, 3 * BLOCK).unwrap();
        books.leave(0);
        books.nameless(id(1), 3 * BLOCK);
        drop(first);
        let _second = file(&mut books, 1, BLOCK).unwrap();
        assert_eq!(books.bytes(), BLOCK);
    }

    #[test]
    fn two_writers_of_one_file_are_counted_together() {
        let mut books = books(4, 10);
        let _file = file(&mut books, 1, 0).unwrap();
        books.begin(id(1), 0, Place::At(0), 3 * BLOCK).unwrap();
        books.begin(id(1), 0, Place::At(BLOCK), 2 * BLOCK).unwrap();
        assert_eq!(books.bytes(), 3 * BLOCK);
        assert!(books.begin(id(1), 0, Place::End, 2 * BLOCK).is_err());
        books.end(id(1), 2 * BLOCK);
        assert_eq!(books.bytes(), 3 * BLOCK, "one claim is still open");
        books.end(id(1), 2 * BLOCK);
        assert_eq!(books.bytes(), 2 * BLOCK, "the second writer failed half way");
    }

    #[test]
    fn truncation_gives_back() {
        let mut books = books(4, 10);
        let _file = file(&mut books, 1, 4 * BLOCK).unwrap();
        books.begin(id(1), 4 * BLOCK, Place::At(0), 0).unwrap();
        books.end(id(1), 1);
        assert_eq!(books.bytes(), BLOCK);
    }

    #[test]
    fn closed_files_are_forgotten() {
        let mut books = books(1 << 40, 1 << 40);
        for number in 0..10_000 {
            drop(file(&mut books, number, 1).unwrap());
        }
        assert!(books.open.len() <= 2 * LOOK_AT, "{} files are remembered", books.open.len());
        assert_eq!(books.bytes(), 10_000 * BLOCK);
    }

    #[test]
    fn what_was_there_already_may_be_too_much_and_is_no_reason_to_refuse_what_takes_nothing() {
        let mut books = Books::new(DiskLimits { bytes: BLOCK, entries: 1 }, 5 * BLOCK, 3);
        let handle = handle();
        books.opened(id(1), &handle, 5 * BLOCK);
        write(&mut books, 1, 5 * BLOCK, Place::At(0), BLOCK).unwrap();
        assert!(books.enter(0).is_err());
        books.leave(0);
        books.nameless(id(1), 5 * BLOCK);
        drop(handle);
        assert!(books.enter(0).is_err(), "two entries are left, one is allowed");
    }
}
