//! The ledger of one sandbox, and the file operations that go through it.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::{Errno, ReadWriteFlags, pwritev2};
use wasmtime_wasi::runtime::spawn_blocking;

use super::DiskLimits;
use super::books::{Books, DiskRefusal, FileId, Place, charge};
use crate::limits::{DISK_BLOCK_BYTES, MAX_SCAN_DEPTH};

/// Why a sandbox cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// It cannot be looked through.
    #[error("the sandbox {path:?} cannot be looked through")]
    Scan {
        /// Where.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// What is in it before the task starts takes more than the task may.
    #[error("the input files take {asked} {what} of the task's own directory; the limit disk allows {limit}")]
    Full {
        /// Bytes or entries.
        what: &'static str,
        /// What is there.
        asked: u64,
        /// What is allowed.
        limit: u64,
    },
}

/// The ledger of one sandbox. Clones are the same ledger; all guests that are given the sandbox have to share it.
#[derive(Clone)]
pub struct Disk {
    // A lock, since operations of one guest run on other threads than the one that polls it. It is held for a few
    // instructions and a `fstat`, never while something is written.
    books: Arc<Mutex<Books>>,
}

impl std::fmt::Debug for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Disk").field("bytes", &self.bytes()).finish_non_exhaustive()
    }
}

/// A name that is about to be made. Unless it is kept, what it took is given back.
pub(super) struct Entry {
    disk: Disk,
    bytes: u64,
    kept: bool,
}

impl Entry {
    /// The name was made.
    pub(super) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if !self.kept {
            self.disk.books().leave(self.bytes);
        }
    }
}

impl Disk {
    /// A ledger of the directory `root`, which begins with what is there.
    ///
    /// # Errors
    /// When the directory cannot be looked through, or already takes more than `limits`.
    pub fn open(root: &Path, limits: DiskLimits) -> Result<Disk, DiskError> {
        let mut found = Found::default();
        found.scan(root, 0)?;
        for (what, asked, limit) in [("bytes", found.bytes, limits.bytes), ("entries", found.entries, limits.entries)] {
            if asked > limit {
                return Err(DiskError::Full { what, asked, limit });
            }
        }
        Ok(Disk { books: Arc::new(Mutex::new(Books::new(limits, found.bytes, found.entries))) })
    }

    /// Bytes taken now.
    pub fn bytes(&self) -> u64 {
        let mut books = self.books();
        books.release_unreachable();
        books.bytes()
    }

    /// Entries taken now.
    pub fn entries(&self) -> u64 {
        self.books().entries()
    }

    /// The most bytes taken at one time.
    pub fn peak(&self) -> u64 {
        self.books().peak()
    }

    /// The latest refusal.
    pub(crate) fn refusal(&self) -> Option<DiskRefusal> {
        self.books().refusal()
    }

    /// Whether both are one ledger.
    pub(super) fn is(&self, other: &Disk) -> bool {
        Arc::ptr_eq(&self.books, &other.books)
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        // Nothing between two changes of the books can panic.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a file is open.
    pub(super) fn opened(&self, file: &Arc<File>) -> io::Result<()> {
        let meta = file.metadata()?;
        if meta.is_file() {
            self.books().opened(id_of(&meta), file, meta.len());
        }
        Ok(())
    }

    /// Takes an entry for a name about to be made, and `bytes` for what it names.
    pub(super) fn enter(&self, bytes: u64) -> io::Result<Entry> {
        self.books().enter(bytes).map_err(|_refusal| no_space())?;
        Ok(Entry { disk: self.clone(), bytes, kept: false })
    }

    /// A name is gone; `target` is what it named.
    pub(super) fn left(&self, target: &File) {
        // It was open a moment ago; a failure here leaves its bytes charged, which harms nobody but the guest.
        let Ok(meta) = target.metadata() else { return };
        let mut books = self.books();
        if !meta.is_file() {
            books.leave(DISK_BLOCK_BYTES);
            return;
        }
        books.leave(0);
        if meta.nlink() == 0 {
            books.nameless(id_of(&meta), meta.len());
        }
    }

    /// Writes all of `bytes`, or nothing when that would take too much. Returns how much was written and the length of
    /// the file afterwards.
    pub(super) async fn write(&self, file: Arc<File>, place: Place, bytes: bytes::Bytes) -> io::Result<(usize, u64)> {
        let disk = self.clone();
        spawn_blocking(move || disk.write_now(&file, place, &bytes)).await
    }

    fn write_now(&self, file: &File, place: Place, bytes: &[u8]) -> io::Result<(usize, u64)> {
        let id = self.begin(file, place, bytes.len() as u64)?;
        let written = write_once(file, place, bytes);
        let size = self.end(file, id);
        let written = written?;
        Ok((written, size?))
    }

    /// Changes a file's length.
    pub(super) async fn set_size(&self, file: Arc<File>, size: u64) -> io::Result<()> {
        let disk = self.clone();
        spawn_blocking(move || {
            let id = disk.begin(&file, Place::At(0), size)?;
            let done = file.set_len(size);
            disk.end(&file, id)?;
            done
        })
        .await
    }

    fn begin(&self, file: &File, place: Place, length: u64) -> io::Result<FileId> {
        let mut books = self.books();
        let meta = file.metadata()?;
        let id = id_of(&meta);
        books.begin(id, meta.len(), place, length).map_err(|_refusal| no_space())?;
        Ok(id)
    }

    fn end(&self, file: &File, id: FileId) -> io::Result<u64> {
        let mut books = self.books();
        let size = file.metadata()?.len();
        books.end(id, size);
        Ok(size)
    }
}

fn id_of(meta: &fs::Metadata) -> FileId {
    FileId { device: meta.dev(), number: meta.ino() }
}

/// What the guest is told.
fn no_space() -> io::Error {
    Errno::NOSPC.into()
}

/// Writes until all of `bytes` are written, through a ledger if there is one. Blocks.
pub(super) fn write_all(disk: Option<&Disk>, file: &File, mut place: Place, bytes: &[u8]) -> io::Result<usize> {
    let mut written = 0;
    while written < bytes.len() {
        let rest = &bytes[written..];
        let more = match disk {
            Some(disk) => disk.write_now(file, place, rest)?.0,
            None => write_once(file, place, rest)?,
        };
        if more == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        if let Place::At(position) = &mut place {
            *position = position.saturating_add(more as u64);
        }
        written += more;
    }
    Ok(written)
}

fn write_once(file: &File, place: Place, bytes: &[u8]) -> io::Result<usize> {
    match place {
        Place::At(position) => write_at(file, bytes, position),
        Place::End => append(file, bytes),
    }
}

fn write_at(file: &File, mut bytes: &[u8], mut position: u64) -> io::Result<usize> {
    let mut total = 0;
    while !bytes.is_empty() {
        let written = match file.write_at(bytes, position) {
            Ok(written) if written > 0 => written,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            // What was written before counts; the next write meets the reason again.
            _ if total > 0 => break,
            result => return result,
        };
        bytes = &bytes[written..];
        position += written as u64;
        total += written;
    }
    Ok(total)
}

/// Appends with one system call, as WASI's append promises.
fn append(file: &File, bytes: &[u8]) -> io::Result<usize> {
    match pwritev2(file, &[io::IoSlice::new(bytes)], 0, ReadWriteFlags::APPEND) {
        Err(Errno::NOSYS | Errno::NOTSUP) => write_at(file, bytes, file.metadata()?.len()),
        result => Ok(result?),
    }
}

/// What a directory holds.
#[derive(Default)]
struct Found {
    bytes: u64,
    entries: u64,
    /// Files that have several names and were counted.
    shared: BTreeSet<FileId>,
}

impl Found {
    fn scan(&mut self, directory: &Path, depth: usize) -> Result<(), DiskError> {
        let failed = |source| DiskError::Scan { path: directory.to_owned(), source };
        if depth > MAX_SCAN_DEPTH {
            return Err(failed(io::Error::other(format!("deeper than {MAX_SCAN_DEPTH} directories"))));
        }
        for entry in fs::read_dir(directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let meta = entry.metadata().map_err(failed)?;
            self.entries += 1;
            if meta.is_dir() {
                self.bytes = self.bytes.saturating_add(DISK_BLOCK_BYTES);
                self.scan(&entry.path(), depth + 1)?;
            } else if !meta.is_file() {
                self.bytes = self.bytes.saturating_add(DISK_BLOCK_BYTES);
            } else if meta.nlink() == 1 || self.shared.insert(id_of(&meta)) {
                self.bytes = self.bytes.saturating_add(charge(meta.len()));
            }
        }
        Ok(())
    }
}
