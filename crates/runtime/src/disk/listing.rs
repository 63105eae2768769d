//! Directories as guests list them: a little at a time, however large they are. Upstream reads all names at once.

use std::collections::VecDeque;
use std::ffi::CStr;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use rustix::fs::{FileType, Mode, OFlags, RawDir, SeekFrom, openat, seek};
use wasmtime_wasi::p2::bindings::filesystem::types::{DescriptorType, DirectoryEntry, ErrorCode};
use wasmtime_wasi::p2::{FsError, FsResult};
use wasmtime_wasi::runtime::spawn_blocking;

use crate::limits::LISTED_AHEAD;

/// What the kernel is given room for at a time, in bytes: at least some entries with the longest name.
const BUFFER_BYTES: usize = 8 << 10;

/// An entry of a directory.
struct Listed {
    name: Vec<u8>,
    kind: FileType,
    number: u64,
    /// Where the next one is.
    next: u64,
}

/// Reads entries that begin at `cookie` until `take` has enough of them. Returns the directory's own identity too.
fn list(directory: &File, cookie: u64, mut take: impl FnMut(Listed) -> bool) -> io::Result<()> {
    let opened = openat(directory, c".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    seek(&opened, SeekFrom::Start(cookie))?;
    let mut buffer = [MaybeUninit::uninit(); BUFFER_BYTES];
    let mut entries = RawDir::new(&opened, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let kind = kind_of(directory, entry.file_name(), entry.file_type());
        let name = entry.file_name().to_bytes().to_vec();
        if !take(Listed { name, kind, number: entry.ino(), next: entry.next_entry_cookie() }) {
            break;
        }
    }
    Ok(())
}

/// Some file systems do not say in a listing what a name leads to.
fn kind_of(directory: &File, name: &CStr, said: FileType) -> FileType {
    if said != FileType::Unknown {
        return said;
    }
    let stat = rustix::fs::statat(directory, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW);
    stat.map_or(said, |stat| FileType::from_raw_mode(stat.st_mode))
}

/// The stream of a component that lists a directory.
pub(super) struct Listing {
    directory: Arc<File>,
    ahead: VecDeque<FsResult<DirectoryEntry>>,
    cookie: u64,
    at_end: bool,
}

impl Listing {
    pub(super) fn new(directory: Arc<File>) -> Listing {
        Listing { directory, ahead: VecDeque::new(), cookie: 0, at_end: false }
    }

    /// The next entry; the names of the directory itself and of the one above are left out.
    pub(super) async fn next(&mut self) -> FsResult<Option<DirectoryEntry>> {
        if self.ahead.is_empty() && !self.at_end {
            self.read_ahead().await?;
        }
        self.ahead.pop_front().transpose()
    }

    async fn read_ahead(&mut self) -> FsResult<()> {
        let (directory, cookie) = (self.directory.clone(), self.cookie);
        let (listed, cookie, at_end) = spawn_blocking(move || {
            let (mut listed, mut next, mut at_end) = (VecDeque::new(), cookie, true);
            let result = list(&directory, cookie, |entry| {
                next = entry.next;
                if !matches!(&*entry.name, b"." | b"..") {
                    listed.push_back(entry);
                }
                at_end = listed.len() < LISTED_AHEAD;
                at_end
            });
            result.map(|()| (listed, next, at_end))
        })
        .await?;
        self.ahead = listed.into_iter().map(entry_of).collect();
        (self.cookie, self.at_end) = (cookie, at_end);
        Ok(())
    }
}

fn entry_of(listed: Listed) -> FsResult<DirectoryEntry> {
    let name = String::from_utf8(listed.name).map_err(|_not_text| FsError::from(ErrorCode::IllegalByteSequence))?;
    let type_ = match listed.kind {
        FileType::RegularFile => DescriptorType::RegularFile,
        FileType::Directory => DescriptorType::Directory,
        FileType::Symlink => DescriptorType::SymbolicLink,
        FileType::BlockDevice => DescriptorType::BlockDevice,
        FileType::CharacterDevice => DescriptorType::CharacterDevice,
        FileType::Fifo => DescriptorType::Fifo,
        FileType::Socket => DescriptorType::Socket,
        _ => DescriptorType::Unknown,
    };
    Ok(DirectoryEntry { type_, name })
}

/// Entries from `cookie` on as preview 1 packs them, cut off at `room` bytes: the last one may be incomplete, and a result
/// that is shorter is the end of the directory.
pub(super) async fn pack(directory: Arc<File>, cookie: u64, room: usize) -> io::Result<Vec<u8>> {
    spawn_blocking(move || {
        let device = directory.metadata()?.dev();
        let mut packed = Vec::new();
        list(&directory, cookie, |entry| {
            pack_entry(&mut packed, &entry, device);
            packed.len() < room
        })?;
        packed.truncate(room);
        Ok(packed)
    })
    .await
}

/// One `dirent`: where the next is, its number, the length of its name, its type, its name.
fn pack_entry(packed: &mut Vec<u8>, entry: &Listed, device: u64) {
    let kind: u8 = match entry.kind {
        FileType::BlockDevice => 1,
        FileType::CharacterDevice => 2,
        FileType::Directory => 3,
        FileType::RegularFile => 4,
        FileType::Socket => 6,
        FileType::Symlink => 7,
        _ => 0,
    };
    // A name has at most 255 bytes.
    let length = u32::try_from(entry.name.len()).unwrap_or(u32::MAX);
    packed.extend_from_slice(&entry.next.to_le_bytes());
    packed.extend_from_slice(&number_for_guests(device, entry.number).to_le_bytes());
    packed.extend_from_slice(&length.to_le_bytes());
    packed.extend_from_slice(&[kind, 0, 0, 0]);
    packed.extend_from_slice(&entry.name);
}

/// The number of a file as upstream's `stat` gives it: guests compare the two.
fn number_for_guests(device: u64, number: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    (device, number).hash(&mut hasher);
    hasher.finish()
}
