//! `wasi:filesystem` called directly, where no toolchain's programs call it.

use std::collections::BTreeSet;
use std::future::Future;
use std::path::Path;

use wasmtime_wasi::filesystem::WasiFilesystemView;
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::p2::bindings::filesystem::preopens::Host as _;
use wasmtime_wasi::p2::bindings::filesystem::types::{
    DescriptorFlags, ErrorCode, Host as _, HostDescriptor, HostDirectoryEntryStream, OpenFlags, PathFlags,
};
use wasmtime_wasi::p2::{DynOutputStream, InputStream, Pollable, StreamError};
use wasmtime_wasi::{FsPerms, WasiCtxBuilder};

use super::input::FileInput;
use super::p2::SandboxView;
use super::{Disk, DiskLimits, Sandbox};
use crate::limits::{MAX_OPEN_FILES, STREAM_BYTES};

/// What a component has whose root is `root`, with a ledger if limits are given.
fn component(root: &Path, limits: Option<DiskLimits>) -> (WasiP1Ctx, Sandbox) {
    let wasi = WasiCtxBuilder::new().preopened_dir(root, "/", FsPerms::ReadWrite).unwrap().build_p1();
    let mut sandbox = Sandbox::default();
    sandbox.preopen(limits.map(|limits| Disk::open(root, limits).unwrap()));
    (wasi, sandbox)
}

fn view<'a>(parts: &'a mut (WasiP1Ctx, Sandbox)) -> SandboxView<'a> {
    SandboxView { upstream: parts.0.filesystem(), sandbox: &mut parts.1 }
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

type Fd = wasmtime::component::Resource<wasmtime_wasi::filesystem::Descriptor>;

fn again(fd: &Fd) -> Fd {
    Fd::new_borrow(fd.rep())
}

async fn open(view: &mut SandboxView<'_>, root: &Fd, name: &str) -> Result<Fd, Option<ErrorCode>> {
    let flags = DescriptorFlags::READ | DescriptorFlags::WRITE;
    let opened = view.open_at(again(root), PathFlags::empty(), name.to_owned(), OpenFlags::CREATE, flags).await;
    opened.map_err(|error| error.downcast().ok())
}

#[test]
fn a_write_to_a_descriptor_and_one_to_a_stream_meet_the_same_limit() {
    let dir = tempfile::tempdir().unwrap();
    let mut parts = component(dir.path(), Some(DiskLimits { bytes: 8192, entries: 1 }));
    let mut view = view(&mut parts);
    wait(async {
        let root = view.get_directories().unwrap().remove(0).0;
        let file = open(&mut view, &root, "file").await.unwrap();
        assert_eq!(open(&mut view, &root, "other").await.unwrap_err(), Some(ErrorCode::InsufficientSpace));
        assert_eq!(view.write(again(&file), vec![1; 8192], 0).await.unwrap(), 8192);
        let refused = view.write(again(&file), vec![1], 8192).await.unwrap_err();
        assert_eq!(refused.downcast().unwrap(), ErrorCode::InsufficientSpace);

        let stream = view.write_via_stream(again(&file), 8000).unwrap();
        let stream: &mut DynOutputStream = view.upstream.table.get_mut(&stream).unwrap();
        assert_eq!(stream.check_write().unwrap(), STREAM_BYTES);
        stream.write(vec![2; 192].into()).unwrap();
        assert_eq!(stream.check_write().unwrap(), 0, "one write at a time");
        stream.ready().await;
        stream.write(vec![2; 1].into()).unwrap();
        stream.ready().await;
        let Err(StreamError::LastOperationFailed(error)) = stream.check_write() else { panic!("it did not fail") };
        let error = view.upstream.table.push(error).unwrap();
        assert_eq!(view.filesystem_error_code(error).unwrap(), Some(ErrorCode::InsufficientSpace));
    });
    assert_eq!(std::fs::metadata(dir.path().join("file")).unwrap().len(), 8192);
}

#[test]
fn what_a_guest_reads_and_does_not_take_is_little() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), vec![7; 1 << 20]).unwrap();
    let mut stream = FileInput::new(std::fs::File::open(file.path()).unwrap().into(), 0);
    wait(async {
        assert!(stream.read(1 << 20).unwrap().is_empty(), "it is still being read");
        stream.ready().await;
        assert_eq!(stream.read(1 << 20).unwrap().len(), STREAM_BYTES);
        // Who waits takes all of it at once, and may have more.
        let mut total = STREAM_BYTES;
        loop {
            match stream.blocking_read(1 << 20).await {
                Ok(bytes) => total += bytes.len(),
                Err(StreamError::Closed) => break,
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(total, 1 << 20);
    });
}

#[test]
fn a_directory_is_listed_once_and_completely() {
    let dir = tempfile::tempdir().unwrap();
    let expected: BTreeSet<String> = (0..100).map(|number| format!("file-{number}")).collect();
    expected.iter().for_each(|name| std::fs::write(dir.path().join(name), "").unwrap());
    let mut parts = component(dir.path(), None);
    let mut view = view(&mut parts);
    wait(async {
        let root = view.get_directories().unwrap().remove(0).0;
        let stream = view.read_directory(root).await.unwrap();
        let again = || wasmtime::component::Resource::new_borrow(stream.rep());
        let mut names = Vec::new();
        while let Some(entry) = view.read_directory_entry(again()).await.unwrap() {
            names.push(entry.name);
        }
        assert_eq!(names.len(), 100);
        assert_eq!(names.into_iter().collect::<BTreeSet<_>>(), expected);
    });
}

#[test]
fn open_files_are_limited_and_those_that_are_closed_make_room() {
    let dir = tempfile::tempdir().unwrap();
    let mut parts = component(dir.path(), None);
    let mut view = view(&mut parts);
    wait(async {
        let root = view.get_directories().unwrap().remove(0).0;
        let mut files = Vec::new();
        for _ in 0..MAX_OPEN_FILES {
            files.push(open(&mut view, &root, "file").await.unwrap());
        }
        assert_eq!(open(&mut view, &root, "file").await.unwrap_err(), Some(ErrorCode::Quota));
        // A stream keeps a file open whose descriptor was dropped.
        let file = files.pop().unwrap();
        let stream = view.read_via_stream(again(&file), 0).unwrap();
        HostDescriptor::drop(&mut view, file).unwrap();
        assert_eq!(open(&mut view, &root, "file").await.unwrap_err(), Some(ErrorCode::Quota));
        drop(view.upstream.table.delete(stream).unwrap());
        open(&mut view, &root, "file").await.unwrap();
    });
}
