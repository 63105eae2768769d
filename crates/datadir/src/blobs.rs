//! A directory of blobs by digest: the master's store and the agents' cache.
//!
//! A blob is written to a draft, hashed on the way, and renamed into place once its digest is right, so what bears a
//! digest's name is that blob. Blobs are read-only files and never change.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use holm_model::Digest;
use sha2::{Digest as _, Sha256};

/// A blob used within this time is not evicted: somebody may be about to open it.
const EVICTION_AGE: Duration = Duration::from_secs(60);

/// A directory of blobs. Several threads may use it at once.
#[derive(Debug)]
pub struct BlobStore {
    dir: PathBuf,
    max_blob_bytes: u64,
    next_draft: AtomicU64,
}

/// A blob that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlobInfo {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub bytes: u64,
    /// When it was last written or used.
    pub used: SystemTime,
}

/// Why a blob was not stored.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file system refused.
    #[error("blob store {path}: cannot {what}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// It is larger than allowed.
    #[error("blob has more than {limit} bytes, the limit on blobs")]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// Its bytes are not what was announced.
    #[error("blob's bytes have the digest {found}, not {expected}")]
    Mismatch {
        /// What was announced.
        expected: Digest,
        /// What came.
        found: Digest,
    },
}

impl BlobStore {
    /// The store in `dir`, made if missing. Drafts of an earlier process are removed.
    ///
    /// # Errors
    /// When the directory cannot be made or read.
    pub fn open(dir: &Path, max_blob_bytes: u64) -> Result<BlobStore, StoreError> {
        let store = BlobStore { dir: dir.to_owned(), max_blob_bytes, next_draft: AtomicU64::new(0) };
        let made = fs::create_dir_all(dir).and_then(|()| fs::set_permissions(dir, fs::Permissions::from_mode(0o700)));
        made.map_err(|source| store.error(dir, "make it", source))?;
        for entry in fs::read_dir(dir).map_err(|source| store.error(dir, "list it", source))?.flatten() {
            if entry.file_name().to_string_lossy().starts_with("draft-") {
                fs::remove_file(entry.path()).map_err(|source| store.error(&entry.path(), "remove it", source))?;
            }
        }
        Ok(store)
    }

    /// Where the blob is, if it is here. It counts as used.
    pub fn find(&self, digest: &Digest) -> Option<PathBuf> {
        let path = self.path(digest);
        let file = File::open(&path).ok()?;
        // A use that could not be noted makes the blob older than it is, no more.
        let _ = file.set_modified(SystemTime::now());
        Some(path)
    }

    /// The size of the blob in bytes, if it is here.
    pub fn size(&self, digest: &Digest) -> Option<u64> {
        fs::metadata(self.path(digest)).ok().map(|meta| meta.len())
    }

    /// Begins to receive a blob.
    ///
    /// # Errors
    /// When the draft cannot be made.
    pub fn receive(&self) -> Result<Incoming<'_>, StoreError> {
        let number = self.next_draft.fetch_add(1, Ordering::Relaxed);
        let path = self.dir.join(format!("draft-{}-{number}", std::process::id()));
        let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let file = opened.map_err(|source| self.error(&path, "make it", source))?;
        Ok(Incoming { store: self, path, file, hash: Sha256::new(), bytes: 0 })
    }

    /// Stores the bytes of `reader`.
    ///
    /// # Errors
    /// When they are too many, are not `expected`, or cannot be read or written.
    pub fn import(&self, mut reader: impl Read, expected: Option<Digest>) -> Result<Digest, StoreError> {
        let mut incoming = self.receive()?;
        let mut buffer = vec![0; 256 << 10];
        loop {
            let read =
                reader.read(&mut buffer).map_err(|source| self.error(&self.dir, "read a blob's source", source))?;
            if read == 0 {
                return incoming.finish(expected).map(|info| info.digest);
            }
            incoming.write(&buffer[..read])?;
        }
    }

    /// Every blob, in the order of their digests.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn list(&self) -> Result<Vec<BlobInfo>, StoreError> {
        let entries = fs::read_dir(&self.dir).map_err(|source| self.error(&self.dir, "list it", source))?;
        let info = |entry: fs::DirEntry| {
            let digest = format!("sha256:{}", entry.file_name().to_str()?).parse().ok()?;
            let meta = entry.metadata().ok()?;
            Some(BlobInfo { digest, bytes: meta.len(), used: meta.modified().ok()? })
        };
        let mut blobs: Vec<BlobInfo> = entries.flatten().filter_map(info).collect();
        blobs.sort_by_key(|blob| blob.digest);
        Ok(blobs)
    }

    /// Removes the blob; says whether it was here. Open files of it stay readable.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn remove(&self, digest: &Digest) -> Result<bool, StoreError> {
        match fs::remove_file(self.path(digest)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(self.error(&self.path(digest), "remove it", source)),
        }
    }

    /// Removes the blobs not used for the longest time until at most `max_bytes` are left; returns how many went.
    ///
    /// # Errors
    /// When the directory cannot be read or a blob not be removed.
    pub fn evict(&self, max_bytes: u64) -> Result<usize, StoreError> {
        let mut blobs = self.list()?;
        blobs.sort_by_key(|blob| blob.used);
        let mut total: u64 = blobs.iter().map(|blob| blob.bytes).sum();
        let mut evicted = 0;
        for blob in blobs {
            let fresh = blob.used.elapsed().unwrap_or_default() < EVICTION_AGE;
            if total <= max_bytes || fresh {
                break;
            }
            self.remove(&blob.digest)?;
            total -= blob.bytes;
            evicted += 1;
        }
        Ok(evicted)
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.dir.join(digest.hex())
    }

    fn error(&self, path: &Path, what: &'static str, source: io::Error) -> StoreError {
        StoreError::Io { path: path.to_owned(), what, source }
    }
}

/// A blob being received; dropped before [`Incoming::finish`], it leaves nothing behind.
#[derive(Debug)]
pub struct Incoming<'a> {
    store: &'a BlobStore,
    path: PathBuf,
    file: File,
    hash: Sha256,
    bytes: u64,
}

impl Incoming<'_> {
    /// Takes the next bytes.
    ///
    /// # Errors
    /// When the blob exceeds its limit or cannot be written.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.bytes += bytes.len() as u64;
        if self.bytes > self.store.max_blob_bytes {
            return Err(StoreError::TooLarge { limit: self.store.max_blob_bytes });
        }
        self.hash.update(bytes);
        self.file.write_all(bytes).map_err(|source| self.store.error(&self.path, "write it", source))
    }

    /// Syncs the blob and gives it its name.
    ///
    /// # Errors
    /// When its digest is not `expected`, or the file system refuses.
    pub fn finish(mut self, expected: Option<Digest>) -> Result<BlobInfo, StoreError> {
        let found = Digest(std::mem::take(&mut self.hash).finalize().into());
        if let Some(expected) = expected.filter(|expected| *expected != found) {
            return Err(StoreError::Mismatch { expected, found });
        }
        let path = self.store.path(&found);
        let stored = self
            .file
            .set_permissions(fs::Permissions::from_mode(0o444))
            .and_then(|()| self.file.sync_all())
            .and_then(|()| fs::rename(&self.path, &path))
            .and_then(|()| File::open(&self.store.dir)?.sync_all());
        stored.map_err(|source| self.store.error(&path, "store it", source))?;
        Ok(BlobInfo { digest: found, bytes: self.bytes, used: SystemTime::now() })
    }
}

impl Drop for Incoming<'_> {
    fn drop(&mut self) {
        // After `finish` the draft is gone; a draft left behind is removed when the store is opened next.
        let _ = fs::remove_file(&self.path);
    }
}

/// The digest of a file.
///
/// # Errors
/// When it cannot be read.
pub fn digest_of_file(path: &Path) -> io::Result<Digest> {
    let mut hash = Sha256::new();
    io::copy(&mut File::open(path)?, &mut hash)?;
    Ok(Digest(hash.finalize().into()))
}

/// The digest of `bytes`.
pub fn digest_of(bytes: &[u8]) -> Digest {
    Digest(Sha256::digest(bytes).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_is_found_by_what_it_contains() {
        let dir = tempfile::tempdir().unwrap();
        let store = BlobStore::open(dir.path(), 1 << 20).unwrap();
        let digest = store.import(&b"hello"[..], None).unwrap();
        assert_eq!(digest, digest_of(b"hello"));
        assert_eq!(fs::read(store.find(&digest).unwrap()).unwrap(), b"hello");
        assert_eq!(store.list().unwrap()[0].bytes, 5);
        assert!(store.remove(&digest).unwrap() && !store.remove(&digest).unwrap());
        assert_eq!(store.find(&digest), None);
    }

    #[test]
    fn wrong_large_and_abandoned_blobs_leave_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let store = BlobStore::open(dir.path(), 10).unwrap();
        let wrong = store.import(&b"hello"[..], Some(digest_of(b"other")));
        assert!(matches!(wrong, Err(StoreError::Mismatch { .. })));
        let error = store.import(&b"hello world"[..], None).unwrap_err();
        assert!(error.to_string().contains("10"), "{error}");
        let mut abandoned = store.receive().unwrap();
        abandoned.write(b"half").unwrap();
        drop(abandoned);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn eviction_takes_the_longest_unused_first_and_spares_what_is_in_use() {
        let dir = tempfile::tempdir().unwrap();
        let store = BlobStore::open(dir.path(), 1 << 20).unwrap();
        let digests: Vec<Digest> = (0..3u8).map(|n| store.import(&[n; 100][..], None).unwrap()).collect();
        for (age, digest) in [(300, digests[0]), (600, digests[1])] {
            let file = File::open(dir.path().join(digest.hex())).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
        }
        assert_eq!(store.evict(200).unwrap(), 1);
        assert_eq!(store.size(&digests[1]), None);
        assert_eq!(store.evict(0).unwrap(), 1);
        assert_eq!(store.size(&digests[2]), Some(100), "a blob just used was evicted");
    }
}
