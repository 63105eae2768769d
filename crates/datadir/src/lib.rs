//! A daemon's data directory: one process at a time, bound to the machine and the place it was made in; and the store
//! of blobs that masters and agents keep in theirs.
//!
//! An agent's or master's directory is its identity. Two processes on one directory would corrupt it; a copy of it on a
//! second machine (or beside the first) would be two daemons with one identity. Both are refused here, before anything
//! in the directory is read.

mod blobs;

pub use blobs::{BlobInfo, BlobStore, Incoming, StoreError, digest_of, digest_of_file};

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

const LOCK: &str = "lock";
const STAMP: &str = "stamp";
const FORMAT: u32 = 1;

/// A directory that this process holds; released when dropped, also by the end of the process.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: File,
}

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file system refused.
    #[error("data directory {path}: cannot {what}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// Another process has it.
    #[error("data directory {path} is in use by process {owner}")]
    InUse {
        /// The directory.
        path: PathBuf,
        /// The process id of its owner, as it wrote it.
        owner: String,
    },
    /// It belongs to a daemon of another kind.
    #[error("data directory {path} belongs to a Holm {found}, not to a Holm {wanted}")]
    Kind {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        found: String,
        /// Who asked.
        wanted: String,
    },
    /// It was copied or restored.
    #[error(
        "data directory {path} is a copy: it was made {change}; two daemons with one identity would harm each other. \
         If the original is gone for good, start once with --adopt"
    )]
    Copied {
        /// The directory.
        path: PathBuf,
        /// What differs.
        change: &'static str,
    },
    /// A newer version wrote it.
    #[error("data directory {path} has format {found}; this version reads up to {FORMAT}")]
    Newer {
        /// The directory.
        path: PathBuf,
        /// Its format.
        found: String,
    },
}

/// What a directory says of its origin: format, kind of daemon, machine, and its own inode.
#[derive(PartialEq, Eq)]
struct Stamp {
    kind: String,
    machine: String,
    inode: u64,
}

impl DataDir {
    /// Takes `path` for a daemon of this `kind` ("master", "agent"), making it with mode 0700 when it is missing.
    /// `adopt` accepts a directory that was copied or restored, and binds it to this machine and place.
    ///
    /// # Errors
    /// When somebody else has it, when it is a copy, or when it cannot be made or read.
    pub fn open(path: &Path, kind: &str, adopt: bool) -> Result<DataDir, OpenError> {
        let io = |what, at: &Path| {
            let path = at.to_owned();
            move |source| OpenError::Io { path, what, source }
        };
        if !path.is_dir() {
            let mut builder = fs::DirBuilder::new();
            builder.recursive(true).mode(0o700).create(path).map_err(io("make it", path))?;
        }
        let path = fs::canonicalize(path).map_err(io("find it", path))?;
        let lock = take_lock(&path)?;
        let inode = fs::metadata(&path).map_err(io("look at it", &path))?.ino();
        let here = Stamp { kind: kind.to_owned(), machine: machine_id(), inode };
        match read_stamp(&path)? {
            Some(found) if found == here => {}
            Some(found) if found.kind != here.kind => {
                return Err(OpenError::Kind { path, found: found.kind, wanted: here.kind });
            }
            Some(found) if !adopt => {
                let change = if found.machine == here.machine { "in another place" } else { "on another machine" };
                return Err(OpenError::Copied { path, change });
            }
            _ => write_stamp(&path, &here).map_err(io("write its stamp", &path))?,
        }
        Ok(DataDir { path, _lock: lock })
    }

    /// The directory's absolute path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A directory below it, made with mode 0700 when it is missing.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn below(&self, name: &str) -> Result<PathBuf, OpenError> {
        let path = self.path.join(name);
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&path);
        made.map_err(|source| OpenError::Io { path: path.clone(), what: "make it", source })?;
        Ok(path)
    }
}

fn take_lock(path: &Path) -> Result<File, OpenError> {
    let file = path.join(LOCK);
    let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&file);
    let mut lock = opened.map_err(|source| OpenError::Io { path: file.clone(), what: "open its lock", source })?;
    if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        let mut owner = String::new();
        let known = lock.read_to_string(&mut owner).is_ok() && !owner.trim().is_empty();
        let owner = if known { owner.trim().to_owned() } else { "unknown".to_owned() };
        return Err(OpenError::InUse { path: path.to_owned(), owner });
    }
    let note = lock.rewind().and_then(|()| lock.set_len(0)).and_then(|()| writeln!(lock, "{}", std::process::id()));
    note.map_err(|source| OpenError::Io { path: file, what: "write its lock", source })?;
    Ok(lock)
}

fn read_stamp(path: &Path) -> Result<Option<Stamp>, OpenError> {
    let text = match fs::read_to_string(path.join(STAMP)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(OpenError::Io { path: path.join(STAMP), what: "read it", source }),
    };
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).unwrap_or("");
    if field("format").parse::<u32>().ok().is_none_or(|format| format > FORMAT) {
        return Err(OpenError::Newer { path: path.to_owned(), found: field("format").chars().take(20).collect() });
    }
    let inode = field("inode").parse().unwrap_or(0);
    Ok(Some(Stamp { kind: field("kind").to_owned(), machine: field("machine").to_owned(), inode }))
}

fn write_stamp(path: &Path, stamp: &Stamp) -> io::Result<()> {
    let Stamp { kind, machine, inode } = stamp;
    let draft = path.join("stamp.new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    write!(file, "format {FORMAT}\nkind {kind}\nmachine {machine}\ninode {inode}\n")?;
    file.sync_all()?;
    fs::rename(&draft, path.join(STAMP))?;
    File::open(path)?.sync_all()
}

/// The operating system's id of this machine, or its host name where it has none.
fn machine_id() -> String {
    let files = ["/etc/machine-id", "/var/lib/dbus/machine-id", "/proc/sys/kernel/hostname"];
    let first = files.iter().filter_map(|file| fs::read_to_string(file).ok()).find(|text| !text.trim().is_empty());
    first.map_or_else(|| "unknown".to_owned(), |text| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_serves_one_process_at_a_time() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a/b");
        let held = DataDir::open(&path, "agent", false).unwrap();
        let error = DataDir::open(&path, "agent", false).unwrap_err();
        assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
        drop(held);
        DataDir::open(&path, "agent", false).unwrap();
    }

    #[test]
    fn a_copy_is_refused_until_adopted() {
        let parent = tempfile::tempdir().unwrap();
        let (first, second) = (parent.path().join("first"), parent.path().join("second"));
        drop(DataDir::open(&first, "agent", false).unwrap());
        fs::create_dir(&second).unwrap();
        fs::copy(first.join(STAMP), second.join(STAMP)).unwrap();
        assert!(matches!(DataDir::open(&second, "agent", false), Err(OpenError::Copied { .. })));
        drop(DataDir::open(&second, "agent", true).unwrap());
        DataDir::open(&second, "agent", false).unwrap();
    }

    #[test]
    fn a_directory_from_another_machine_kind_or_future_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("d");
        drop(DataDir::open(&path, "agent", false).unwrap());
        assert!(matches!(DataDir::open(&path, "master", true), Err(OpenError::Kind { .. })));
        let stamp = fs::read_to_string(path.join(STAMP)).unwrap();
        fs::write(path.join(STAMP), stamp.replace("machine ", "machine x")).unwrap();
        let error = DataDir::open(&path, "agent", false).unwrap_err();
        assert!(error.to_string().contains("another machine"), "{error}");
        fs::write(path.join(STAMP), stamp.replace("format 1", "format 2")).unwrap();
        assert!(matches!(DataDir::open(&path, "agent", true), Err(OpenError::Newer { .. })));
    }

    #[test]
    fn a_moved_directory_is_the_same_directory() {
        let parent = tempfile::tempdir().unwrap();
        let (old, new) = (parent.path().join("old"), parent.path().join("new"));
        drop(DataDir::open(&old, "agent", false).unwrap());
        fs::rename(&old, &new).unwrap();
        DataDir::open(&new, "agent", false).unwrap();
    }
}
