//! `wasi:filesystem` of components: upstream's, except where something grows in a sandbox with a ledger, or where upstream
//! would hold more for a guest than we allow.

use std::sync::Arc;

use wasmtime::component::{HasData, Resource};
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystemCtxView, WasiFilesystemView};
use wasmtime_wasi::p2::bindings::filesystem::types::{self, ErrorCode, HostDescriptor, HostDirectoryEntryStream};
use wasmtime_wasi::p2::bindings::filesystem::{preopens, types::DirectoryEntryStream};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, FsError, FsResult};

use super::Disk;
use super::books::Place;
use super::input::FileInput;
use super::listing::Listing;
use super::names::{Replaced, enter_if_new, find};
use super::sandbox::{Sandbox, directory, file};
use super::stream::FileStream;
use crate::limits::DISK_BLOCK_BYTES;
use crate::run::State;

/// Upstream's file system together with the ledgers.
pub(crate) struct SandboxView<'a> {
    pub(super) upstream: WasiFilesystemCtxView<'a>,
    pub(super) sandbox: &'a mut Sandbox,
}

struct SandboxedFiles;

impl HasData for SandboxedFiles {
    type Data<'a> = SandboxView<'a>;
}

fn view(state: &mut State) -> SandboxView<'_> {
    SandboxView { upstream: state.wasi.filesystem(), sandbox: &mut state.sandbox }
}

/// Replaces `wasi:filesystem` in a linker that has upstream's and allows it.
pub(crate) fn add_to_linker(linker: &mut wasmtime::component::Linker<State>) -> wasmtime::Result<()> {
    preopens::add_to_linker::<State, SandboxedFiles>(linker, view)?;
    types::add_to_linker::<State, SandboxedFiles>(linker, view)
}

type Fd = Resource<Descriptor>;

impl SandboxView<'_> {
    /// The ledger that a descriptor belongs to.
    fn disk(&self, fd: &Fd) -> Option<Disk> {
        self.sandbox.of(fd.rep()).cloned()
    }

    /// The ledger of a directory, and the directory.
    fn directory(&self, fd: &Fd) -> Option<(Disk, Arc<std::fs::File>)> {
        Some((self.disk(fd)?, directory(self.upstream.table, fd.rep())?))
    }

    /// The ledger of a file, and the file.
    fn file(&self, fd: &Fd) -> Option<(Disk, Arc<std::fs::File>)> {
        Some((self.disk(fd)?, file(self.upstream.table, fd.rep())?))
    }

    /// A name cannot be carried from one ledger to another, nor out of or into one: a program copies instead.
    fn check_same(&self, from: &Fd, to: &Fd) -> FsResult<()> {
        let same = match (self.sandbox.of(from.rep()), self.sandbox.of(to.rep())) {
            (None, None) => true,
            (Some(from), Some(to)) => from.is(to),
            _ => false,
        };
        if same { Ok(()) } else { Err(ErrorCode::CrossDevice.into()) }
    }

    /// A stream that writes to a file; upstream's answer if it is none, or must not be written to.
    fn stream_to(&mut self, fd: &Fd, place: Place) -> Option<FsResult<Resource<DynOutputStream>>> {
        let file = match self.upstream.table.get(fd) {
            Ok(Descriptor::File(file)) if !file.perms.write_not_permitted() => file.file.clone(),
            _ => return None,
        };
        let stream: DynOutputStream = Box::new(FileStream::new(self.disk(fd), file, place));
        Some(self.upstream.table.push(stream).map_err(FsError::from))
    }
}

impl preopens::Host for SandboxView<'_> {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Fd, String)>> {
        let directories = preopens::Host::get_directories(&mut self.upstream)?;
        for ((fd, _), disk) in directories.iter().zip(&self.sandbox.preopens) {
            if let Some(disk) = disk {
                self.sandbox.descriptors.insert(fd.rep(), disk.clone());
            }
        }
        Ok(directories)
    }
}

impl types::Host for SandboxView<'_> {
    fn convert_error_code(&mut self, error: FsError) -> wasmtime::Result<ErrorCode> {
        types::Host::convert_error_code(&mut self.upstream, error)
    }

    fn filesystem_error_code(&mut self, error: Resource<wasmtime::Error>) -> wasmtime::Result<Option<ErrorCode>> {
        types::Host::filesystem_error_code(&mut self.upstream, error)
    }
}

/// Methods that upstream does alone.
macro_rules! upstream {
    ($($name:ident($($arg:ident: $type:ty),*) -> $result:ty;)*) => {$(
        async fn $name(&mut self, fd: Fd, $($arg: $type),*) -> $result {
            HostDescriptor::$name(&mut self.upstream, fd, $($arg),*).await
        }
    )*};
}

impl HostDescriptor for SandboxView<'_> {
    upstream! {
        advise(offset: u64, length: u64, advice: types::Advice) -> FsResult<()>;
        sync_data() -> FsResult<()>;
        get_flags() -> FsResult<types::DescriptorFlags>;
        get_type() -> FsResult<types::DescriptorType>;
        set_times(access: types::NewTimestamp, modification: types::NewTimestamp) -> FsResult<()>;
        read(length: u64, offset: u64) -> FsResult<(Vec<u8>, bool)>;
        sync() -> FsResult<()>;
        stat() -> FsResult<types::DescriptorStat>;
        stat_at(flags: types::PathFlags, path: String) -> FsResult<types::DescriptorStat>;
        set_times_at(
            flags: types::PathFlags,
            path: String,
            access: types::NewTimestamp,
            modification: types::NewTimestamp
        ) -> FsResult<()>;
        readlink_at(path: String) -> FsResult<String>;
        is_same_object(other: Fd) -> wasmtime::Result<bool>;
        metadata_hash() -> FsResult<types::MetadataHashValue>;
        metadata_hash_at(flags: types::PathFlags, path: String) -> FsResult<types::MetadataHashValue>;
    }

    async fn set_size(&mut self, fd: Fd, size: u64) -> FsResult<()> {
        match self.file(&fd) {
            Some((disk, file)) => Ok(disk.set_size(file, size).await?),
            None => self.upstream.set_size(fd, size).await,
        }
    }

    async fn write(&mut self, fd: Fd, bytes: Vec<u8>, offset: u64) -> FsResult<u64> {
        match self.file(&fd) {
            Some((disk, file)) => Ok(disk.write(file, Place::At(offset), bytes.into()).await?.0 as u64),
            None => self.upstream.write(fd, bytes, offset).await,
        }
    }

    async fn create_directory_at(&mut self, fd: Fd, path: String) -> FsResult<()> {
        let entry = self.disk(&fd).map(|disk| disk.enter(DISK_BLOCK_BYTES)).transpose()?;
        self.upstream.create_directory_at(fd, path).await?;
        entry.into_iter().for_each(super::ledger::Entry::keep);
        Ok(())
    }

    async fn link_at(
        &mut self,
        fd: Fd,
        flags: types::PathFlags,
        path: String,
        new_fd: Fd,
        new_path: String,
    ) -> FsResult<()> {
        self.check_same(&fd, &new_fd)?;
        let entry = self.disk(&fd).map(|disk| disk.enter(0)).transpose()?;
        self.upstream.link_at(fd, flags, path, new_fd, new_path).await?;
        entry.into_iter().for_each(super::ledger::Entry::keep);
        Ok(())
    }

    async fn open_at(
        &mut self,
        fd: Fd,
        path_flags: types::PathFlags,
        path: String,
        mut open_flags: types::OpenFlags,
        mut flags: types::DescriptorFlags,
    ) -> FsResult<Fd> {
        if !self.sandbox.may_open() {
            return Err(ErrorCode::Quota.into());
        }
        let Some((disk, directory)) = self.directory(&fd) else {
            let opened = self.upstream.open_at(fd, path_flags, path, open_flags, flags).await?;
            let descriptor = self.upstream.table.get(&opened)?;
            self.sandbox.opened(opened.rep(), None, descriptor)?;
            return Ok(opened);
        };
        let mut entry = None;
        if open_flags.contains(types::OpenFlags::CREATE) {
            let follow = path_flags.contains(types::PathFlags::SYMLINK_FOLLOW);
            entry = enter_if_new(&disk, directory, path.clone(), follow).await?;
        }
        let truncate =
            open_flags.contains(types::OpenFlags::TRUNCATE) && !open_flags.contains(types::OpenFlags::DIRECTORY);
        if truncate {
            // Truncated below, so that the ledger sees it. This opens as upstream would.
            if !flags.contains(types::DescriptorFlags::WRITE) {
                flags |= types::DescriptorFlags::WRITE | types::DescriptorFlags::READ;
            }
            open_flags &= !types::OpenFlags::TRUNCATE;
        }
        let opened = self.upstream.open_at(fd, path_flags, path, open_flags, flags).await?;
        let is_new = entry.is_some();
        entry.into_iter().for_each(super::ledger::Entry::keep);
        let descriptor = self.upstream.table.get(&opened)?;
        self.sandbox.opened(opened.rep(), Some(disk.clone()), descriptor)?;
        if truncate
            && !is_new
            && let Some(file) = file(self.upstream.table, opened.rep())
            && let Err(error) = disk.set_size(file, 0).await
        {
            HostDescriptor::drop(self, opened).map_err(FsError::trap)?;
            return Err(error.into());
        }
        Ok(opened)
    }

    fn drop(&mut self, fd: Fd) -> wasmtime::Result<()> {
        self.sandbox.closed(fd.rep());
        HostDescriptor::drop(&mut self.upstream, fd)
    }

    async fn remove_directory_at(&mut self, fd: Fd, path: String) -> FsResult<()> {
        let Some((disk, directory)) = self.directory(&fd) else {
            return self.upstream.remove_directory_at(fd, path).await;
        };
        let target = find(directory, path.clone(), false).await;
        self.upstream.remove_directory_at(fd, path).await?;
        target.iter().for_each(|target| disk.left(target));
        Ok(())
    }

    async fn rename_at(&mut self, fd: Fd, path: String, new_fd: Fd, new_path: String) -> FsResult<()> {
        self.check_same(&fd, &new_fd)?;
        let (Some((disk, from)), Some((_, to))) = (self.directory(&fd), self.directory(&new_fd)) else {
            return self.upstream.rename_at(fd, path, new_fd, new_path).await;
        };
        let replaced = Replaced::by((from, path.clone()), (to, new_path.clone())).await;
        self.upstream.rename_at(fd, path, new_fd, new_path).await?;
        replaced.done(&disk);
        Ok(())
    }

    async fn symlink_at(&mut self, fd: Fd, target: String, path: String) -> FsResult<()> {
        let entry = self.disk(&fd).map(|disk| disk.enter(DISK_BLOCK_BYTES)).transpose()?;
        self.upstream.symlink_at(fd, target, path).await?;
        entry.into_iter().for_each(super::ledger::Entry::keep);
        Ok(())
    }

    async fn unlink_file_at(&mut self, fd: Fd, path: String) -> FsResult<()> {
        let Some((disk, directory)) = self.directory(&fd) else {
            return self.upstream.unlink_file_at(fd, path).await;
        };
        let target = find(directory, path.clone(), false).await;
        self.upstream.unlink_file_at(fd, path).await?;
        target.iter().for_each(|target| disk.left(target));
        Ok(())
    }

    async fn read_directory(&mut self, fd: Fd) -> FsResult<Resource<DirectoryEntryStream>> {
        let Some(directory) = directory(self.upstream.table, fd.rep()) else {
            return self.upstream.read_directory(fd).await;
        };
        let listing = self.upstream.table.push(Listing::new(directory))?;
        // Only the methods below look at it, and they know what it really is.
        Ok(Resource::new_own(listing.rep()))
    }

    fn read_via_stream(&mut self, fd: Fd, offset: u64) -> FsResult<Resource<DynInputStream>> {
        let Some(file) = file(self.upstream.table, fd.rep()) else { return self.upstream.read_via_stream(fd, offset) };
        let stream: DynInputStream = Box::new(FileInput::new(file, offset));
        Ok(self.upstream.table.push(stream)?)
    }

    fn write_via_stream(&mut self, fd: Fd, offset: u64) -> FsResult<Resource<DynOutputStream>> {
        match self.stream_to(&fd, Place::At(offset)) {
            Some(stream) => stream,
            None => self.upstream.write_via_stream(fd, offset),
        }
    }

    fn append_via_stream(&mut self, fd: Fd) -> FsResult<Resource<DynOutputStream>> {
        match self.stream_to(&fd, Place::End) {
            Some(stream) => stream,
            None => self.upstream.append_via_stream(fd),
        }
    }
}

impl HostDirectoryEntryStream for SandboxView<'_> {
    async fn read_directory_entry(
        &mut self,
        stream: Resource<DirectoryEntryStream>,
    ) -> FsResult<Option<types::DirectoryEntry>> {
        let listing = Resource::<Listing>::new_borrow(stream.rep());
        self.upstream.table.get_mut(&listing)?.next().await
    }

    fn drop(&mut self, stream: Resource<DirectoryEntryStream>) -> wasmtime::Result<()> {
        self.upstream.table.delete(Resource::<Listing>::new_own(stream.rep()))?;
        Ok(())
    }
}
