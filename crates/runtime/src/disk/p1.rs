//! The file functions of preview 1 that make something grow in a sandbox, those that open and close descriptors, and those
//! for which upstream would hold more than we allow.
//!
//! Upstream's table of descriptors is its own. We learn which entry of the resource table a descriptor got by looking,
//! before it is opened, which entry is free next; that is checked afterwards.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use wasmtime::component::Resource;
use wasmtime::{AsContextMut, Caller, Error, Extern, Linker, Memory, Result};
use wasmtime_wasi::WasiView;
use wasmtime_wasi::filesystem::Descriptor;
use wasmtime_wasi::p1::types::Errno;
use wasmtime_wasi::p1::wasi_snapshot_preview1::{self as preview1, WasiSnapshotPreview1};
use wasmtime_wasi::p2::bindings::filesystem::types::ErrorCode;
use wiggle::GuestMemory;

use super::Disk;
use super::books::Place;
use super::listing::pack;
use super::names::{Replaced, enter_if_new, find};
use super::sandbox::{Number, Sandbox, directory, file};
use crate::limits::{DISK_BLOCK_BYTES, HOSTCALL_BYTES};
use crate::links::PREVIEW1;
use crate::run::State;

const OK: i32 = 0;
/// Descriptors below are standard input, output and error.
const FIRST_PREOPEN: u32 = 3;

// Bits of preview 1.
const OFLAGS_CREAT: i32 = 1;
const OFLAGS_DIRECTORY: i32 = 2;
const OFLAGS_TRUNC: i32 = 8;
const RIGHT_READ: i64 = 1 << 1;
const RIGHT_WRITE: i64 = 1 << 6;
const LOOKUP_FOLLOW: i32 = 1;
const FDFLAGS_APPEND: i32 = 1;
const WHENCE_SET: i32 = 0;

/// Upstream's function of the same name, with what it would have been given without us.
macro_rules! upstream {
    ($caller:ident, $function:ident($($argument:expr),*)) => {{
        let fuel = $caller.as_context_mut().hostcall_fuel();
        match $caller.get_export("memory") {
            Some(Extern::Memory(memory)) => {
                let (bytes, state) = memory.data_and_store_mut(&mut $caller);
                state.wasi.set_hostcall_fuel(fuel);
                preview1::$function(&mut state.wasi, &mut GuestMemory::Unshared(bytes), $($argument),*).await
            }
            _ => Err(no_memory()),
        }
    }};
}

/// Guest memory of our own, to ask upstream something.
#[repr(align(8))]
struct Scratch([u8; 16]);

impl Scratch {
    fn new() -> Scratch {
        Scratch([0; 16])
    }

    fn memory(&mut self) -> GuestMemory<'_> {
        GuestMemory::Unshared(&mut self.0)
    }

    fn word(&self) -> u64 {
        self.0.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }
}

/// Replaces the functions in a linker that has upstream's and allows it.
pub(crate) fn add_to_linker(linker: &mut Linker<State>) -> Result<()> {
    macro_rules! replace {
        ($($function:ident($($argument:ident: $type:ty),*);)*) => {$(
            linker.func_wrap_async(
                PREVIEW1,
                stringify!($function),
                |caller: Caller<'_, State>, ($($argument,)*): ($($type,)*)| Box::new($function(caller, $($argument),*)),
            )?;
        )*};
    }
    replace! {
        fd_close(fd: i32);
        fd_renumber(from: i32, to: i32);
        fd_write(fd: i32, buffers: i32, count: i32, out: i32);
        fd_pwrite(fd: i32, buffers: i32, count: i32, offset: i64, out: i32);
        fd_filestat_set_size(fd: i32, size: i64);
        fd_readdir(fd: i32, buffer: i32, length: i32, cookie: i64, out: i32);
        path_open(
            fd: i32, lookup: i32, path: i32, length: i32, oflags: i32, rights: i64, inherited: i64, flags: i32, out: i32
        );
        path_create_directory(fd: i32, path: i32, length: i32);
        path_remove_directory(fd: i32, path: i32, length: i32);
        path_unlink_file(fd: i32, path: i32, length: i32);
        path_symlink(target: i32, target_length: i32, fd: i32, path: i32, length: i32);
        path_link(fd: i32, lookup: i32, path: i32, length: i32, new_fd: i32, new_path: i32, new_length: i32);
        path_rename(fd: i32, path: i32, length: i32, new_fd: i32, new_path: i32, new_length: i32);
    }
    linker.func_wrap(PREVIEW1, "fd_fdstat_set_flags", fd_fdstat_set_flags)?;
    Ok(())
}

/// Has upstream enter the preopened directories in its tables while these are still empty, and notes where they are.
pub(crate) fn begin(state: &mut State) -> Result<()> {
    if state.sandbox.preopens.is_empty() {
        return Ok(());
    }
    let mut scratch = Scratch::new();
    preview1::fd_prestat_get(&mut state.wasi, &mut scratch.memory(), raw(FIRST_PREOPEN), 0)?;
    let table = state.wasi.ctx().table;
    let mut index = 0;
    for (number, disk) in (FIRST_PREOPEN..).zip(state.sandbox.preopens.clone()) {
        // Standard streams come first.
        while directory(table, index).is_none() {
            index += 1;
            if index > number {
                return Err(Error::msg("upstream's preopened directories are not where they were"));
            }
        }
        state.sandbox.numbers.insert(number, Number { index, append: false });
        if let Some(disk) = disk {
            state.sandbox.descriptors.insert(index, disk);
        }
        index += 1;
    }
    Ok(())
}

impl Sandbox {
    /// A descriptor that has a ledger.
    fn number(&self, fd: i32) -> Option<(Disk, Number)> {
        let number = *self.numbers.get(&unsigned(fd))?;
        Some((self.of(number.index)?.clone(), number))
    }
}

/// The ledger of a directory, and the directory.
fn charged_directory(state: &mut State, fd: i32) -> Option<(Disk, Arc<File>)> {
    let (disk, number) = state.sandbox.number(fd)?;
    Some((disk, directory(state.wasi.ctx().table, number.index)?))
}

/// The ledger of a file, the file, and whether every write goes to its end.
fn charged_file(state: &mut State, fd: i32) -> Option<(Disk, Arc<File>, bool)> {
    let (disk, number) = state.sandbox.number(fd)?;
    Some((disk, file(state.wasi.ctx().table, number.index)?, number.append))
}

async fn fd_close(mut caller: Caller<'_, State>, fd: i32) -> Result<i32> {
    let errno = upstream!(caller, fd_close(fd))?;
    let sandbox = &mut caller.data_mut().sandbox;
    if errno == OK
        && let Some(number) = sandbox.numbers.remove(&unsigned(fd))
    {
        sandbox.closed(number.index);
    }
    Ok(errno)
}

async fn fd_renumber(mut caller: Caller<'_, State>, from: i32, to: i32) -> Result<i32> {
    let errno = upstream!(caller, fd_renumber(from, to))?;
    let sandbox = &mut caller.data_mut().sandbox;
    if errno == OK && from != to {
        if let Some(closed) = sandbox.numbers.remove(&unsigned(to)) {
            sandbox.closed(closed.index);
        }
        if let Some(moved) = sandbox.numbers.remove(&unsigned(from)) {
            sandbox.numbers.insert(unsigned(to), moved);
        }
    }
    Ok(errno)
}

fn fd_fdstat_set_flags(mut caller: Caller<'_, State>, fd: i32, flags: i32) -> Result<i32> {
    let state = caller.data_mut();
    // It touches no guest memory.
    let errno = preview1::fd_fdstat_set_flags(&mut state.wasi, &mut GuestMemory::Unshared(&mut []), fd, flags)?;
    if errno == OK
        && let Some(number) = state.sandbox.numbers.get_mut(&unsigned(fd))
    {
        number.append = flags & FDFLAGS_APPEND != 0;
    }
    Ok(errno)
}

async fn fd_write(mut caller: Caller<'_, State>, fd: i32, buffers: i32, count: i32, out: i32) -> Result<i32> {
    let Some((disk, file, append)) = charged_file(caller.data_mut(), fd) else {
        return upstream!(caller, fd_write(fd, buffers, count, out));
    };
    let Some(bytes) = first_buffer(&mut caller, buffers, count)? else { return Ok(errno(Errno::Nomem)) };
    let mut scratch = Scratch::new();
    let told = preview1::fd_tell(&mut caller.data_mut().wasi, &mut scratch.memory(), fd, 0)?;
    if told != OK {
        return Ok(told);
    }
    let position = scratch.word();
    let place = if append { Place::End } else { Place::At(position) };
    let (written, size) = match disk.write(file, place, bytes).await {
        Ok(done) => done,
        Err(error) => return Ok(errno_of(&error)),
    };
    let position = if append { size } else { position.saturating_add(written as u64) };
    let sought = {
        let wasi = &mut caller.data_mut().wasi;
        preview1::fd_seek(wasi, &mut scratch.memory(), fd, position.cast_signed(), WHENCE_SET, 0).await?
    };
    if sought != OK {
        return Ok(sought);
    }
    put_length(&mut caller, out, written)
}

async fn fd_pwrite(
    mut caller: Caller<'_, State>,
    fd: i32,
    buffers: i32,
    count: i32,
    offset: i64,
    out: i32,
) -> Result<i32> {
    let Some((disk, file, append)) = charged_file(caller.data_mut(), fd) else {
        return upstream!(caller, fd_pwrite(fd, buffers, count, offset, out));
    };
    let Some(bytes) = first_buffer(&mut caller, buffers, count)? else { return Ok(errno(Errno::Nomem)) };
    // As upstream, and Linux: a file in append mode knows no offset.
    let place = if append { Place::End } else { Place::At(offset.cast_unsigned()) };
    match disk.write(file, place, bytes).await {
        Ok((written, _)) => put_length(&mut caller, out, written),
        Err(error) => Ok(errno_of(&error)),
    }
}

async fn fd_filestat_set_size(mut caller: Caller<'_, State>, fd: i32, size: i64) -> Result<i32> {
    let Some((disk, file, _)) = charged_file(caller.data_mut(), fd) else {
        return upstream!(caller, fd_filestat_set_size(fd, size));
    };
    Ok(disk.set_size(file, size.cast_unsigned()).await.map_or_else(|error| errno_of(&error), |()| OK))
}

#[expect(clippy::too_many_arguments, reason = "the signature is preview 1's")]
async fn path_open(
    mut caller: Caller<'_, State>,
    fd: i32,
    lookup: i32,
    path: i32,
    length: i32,
    mut oflags: i32,
    mut rights: i64,
    inherited: i64,
    flags: i32,
    out: i32,
) -> Result<i32> {
    if !caller.data_mut().sandbox.may_open() {
        return Ok(errno(Errno::Mfile));
    }
    let charged = charged_directory(caller.data_mut(), fd).zip(text(&mut caller, path, length)?);
    let disk = charged.as_ref().map(|((disk, _), _)| disk.clone());
    let mut entry = None;
    if oflags & OFLAGS_CREAT != 0
        && let Some(((disk, directory), name)) = charged
    {
        entry = match enter_if_new(&disk, directory, name, lookup & LOOKUP_FOLLOW != 0).await {
            Ok(entry) => entry,
            Err(error) => return Ok(errno_of(&error)),
        };
    }
    let truncate = disk.is_some() && oflags & OFLAGS_TRUNC != 0 && oflags & OFLAGS_DIRECTORY == 0;
    if truncate {
        // Truncated below, so that the ledger sees it. This opens as upstream would.
        oflags &= !OFLAGS_TRUNC;
        if rights & RIGHT_WRITE == 0 {
            rights |= RIGHT_WRITE | RIGHT_READ;
        }
    }
    let index = next_index(caller.data_mut());
    let errno = upstream!(caller, path_open(fd, lookup, path, length, oflags, rights, inherited, flags, out))?;
    if errno != OK {
        return Ok(errno);
    }
    let is_new = entry.is_some();
    entry.into_iter().for_each(super::ledger::Entry::keep);
    let new = number_at(&mut caller, out)?;
    note_opened(caller.data_mut(), disk, new, index, flags & FDFLAGS_APPEND != 0)?;
    if truncate
        && !is_new
        && let Some((disk, file, _)) = charged_file(caller.data_mut(), new)
        && let Err(error) = disk.set_size(file, 0).await
    {
        fd_close(caller, new).await?;
        return Ok(errno_of(&error));
    }
    Ok(OK)
}

/// The entry of the resource table that the next thing pushed gets.
fn next_index(state: &mut State) -> Option<u32> {
    let table = state.wasi.ctx().table;
    // A full table has no next entry; then upstream cannot open anything either.
    let probe = table.push(()).ok()?;
    let index = probe.rep();
    table.delete(probe).ok().map(|()| index)
}

fn note_opened(state: &mut State, disk: Option<Disk>, fd: i32, index: Option<u32>, append: bool) -> Result<()> {
    let lost = || Error::msg("the descriptor that was opened is not where it was expected");
    let index = index.ok_or_else(lost)?;
    let table = state.wasi.ctx().table;
    let descriptor = table.get(&Resource::<Descriptor>::new_borrow(index)).map_err(|_not_there| lost())?;
    state.sandbox.numbers.insert(unsigned(fd), Number { index, append });
    Ok(state.sandbox.opened(index, disk, descriptor)?)
}

async fn fd_readdir(
    mut caller: Caller<'_, State>,
    fd: i32,
    buffer: i32,
    length: i32,
    cookie: i64,
    out: i32,
) -> Result<i32> {
    let number = caller.data().sandbox.numbers.get(&unsigned(fd)).copied();
    let listed = number.and_then(|number| directory(caller.data_mut().wasi.ctx().table, number.index));
    let Some(listed) = listed else { return upstream!(caller, fd_readdir(fd, buffer, length, cookie, out)) };
    let memory = memory(&mut caller)?;
    let range = range(&memory, &caller, unsigned(buffer), unsigned(length))?;
    if range.len() > HOSTCALL_BYTES {
        return Ok(errno(Errno::Nomem));
    }
    match pack(listed, cookie.cast_unsigned(), range.len()).await {
        Ok(packed) => {
            memory.data_mut(&mut caller)[range][..packed.len()].copy_from_slice(&packed);
            put_length(&mut caller, out, packed.len())
        }
        Err(error) => Ok(errno_of(&error)),
    }
}

async fn path_create_directory(mut caller: Caller<'_, State>, fd: i32, path: i32, length: i32) -> Result<i32> {
    let Some((disk, _)) = charged_directory(caller.data_mut(), fd) else {
        return upstream!(caller, path_create_directory(fd, path, length));
    };
    let entry = match disk.enter(DISK_BLOCK_BYTES) {
        Ok(entry) => entry,
        Err(error) => return Ok(errno_of(&error)),
    };
    let errno = upstream!(caller, path_create_directory(fd, path, length))?;
    if errno == OK {
        entry.keep();
    }
    Ok(errno)
}

async fn path_symlink(
    mut caller: Caller<'_, State>,
    target: i32,
    target_length: i32,
    fd: i32,
    path: i32,
    length: i32,
) -> Result<i32> {
    let Some((disk, _)) = charged_directory(caller.data_mut(), fd) else {
        return upstream!(caller, path_symlink(target, target_length, fd, path, length));
    };
    let entry = match disk.enter(DISK_BLOCK_BYTES) {
        Ok(entry) => entry,
        Err(error) => return Ok(errno_of(&error)),
    };
    let errno = upstream!(caller, path_symlink(target, target_length, fd, path, length))?;
    if errno == OK {
        entry.keep();
    }
    Ok(errno)
}

async fn path_remove_directory(mut caller: Caller<'_, State>, fd: i32, path: i32, length: i32) -> Result<i32> {
    let charged = charged_directory(caller.data_mut(), fd);
    let (Some((disk, directory)), Some(name)) = (charged, text(&mut caller, path, length)?) else {
        return upstream!(caller, path_remove_directory(fd, path, length));
    };
    let gone = find(directory, name, false).await;
    let errno = upstream!(caller, path_remove_directory(fd, path, length))?;
    gone.iter().filter(|_| errno == OK).for_each(|gone| disk.left(gone));
    Ok(errno)
}

async fn path_unlink_file(mut caller: Caller<'_, State>, fd: i32, path: i32, length: i32) -> Result<i32> {
    let charged = charged_directory(caller.data_mut(), fd);
    let (Some((disk, directory)), Some(name)) = (charged, text(&mut caller, path, length)?) else {
        return upstream!(caller, path_unlink_file(fd, path, length));
    };
    let gone = find(directory, name, false).await;
    let errno = upstream!(caller, path_unlink_file(fd, path, length))?;
    gone.iter().filter(|_| errno == OK).for_each(|gone| disk.left(gone));
    Ok(errno)
}

#[expect(clippy::too_many_arguments, reason = "the signature is preview 1's")]
async fn path_link(
    mut caller: Caller<'_, State>,
    fd: i32,
    lookup: i32,
    path: i32,
    length: i32,
    new_fd: i32,
    new_path: i32,
    new_length: i32,
) -> Result<i32> {
    let disk = match common_disk(caller.data(), fd, new_fd) {
        Ok(disk) => disk,
        Err(refused) => return Ok(refused),
    };
    let entry = match disk.map(|disk| disk.enter(0)).transpose() {
        Ok(entry) => entry,
        Err(error) => return Ok(errno_of(&error)),
    };
    let errno = upstream!(caller, path_link(fd, lookup, path, length, new_fd, new_path, new_length))?;
    if errno == OK {
        entry.into_iter().for_each(super::ledger::Entry::keep);
    }
    Ok(errno)
}

async fn path_rename(
    mut caller: Caller<'_, State>,
    fd: i32,
    path: i32,
    length: i32,
    new_fd: i32,
    new_path: i32,
    new_length: i32,
) -> Result<i32> {
    let disk = match common_disk(caller.data(), fd, new_fd) {
        Ok(disk) => disk,
        Err(refused) => return Ok(refused),
    };
    let names = (text(&mut caller, path, length)?, text(&mut caller, new_path, new_length)?);
    let (from, to) = (charged_directory(caller.data_mut(), fd), charged_directory(caller.data_mut(), new_fd));
    let replaced = match (from, to, names) {
        (Some((_, from)), Some((_, to)), (Some(old), Some(new))) => Some(Replaced::by((from, old), (to, new)).await),
        _ => None,
    };
    let errno = upstream!(caller, path_rename(fd, path, length, new_fd, new_path, new_length))?;
    if errno == OK
        && let (Some(disk), Some(replaced)) = (disk, replaced)
    {
        replaced.done(&disk);
    }
    Ok(errno)
}

/// The ledger that both directories belong to. A name cannot be carried from one ledger to another, nor out of or into
/// one: a program copies instead.
fn common_disk(state: &State, fd: i32, other: i32) -> Result<Option<Disk>, i32> {
    match (state.sandbox.number(fd), state.sandbox.number(other)) {
        (None, None) => Ok(None),
        (Some((disk, _)), Some((other, _))) if disk.is(&other) => Ok(Some(disk)),
        _ => Err(errno(Errno::Xdev)),
    }
}

fn memory(caller: &mut Caller<'_, State>) -> Result<Memory> {
    match caller.get_export("memory") {
        Some(Extern::Memory(memory)) => Ok(memory),
        _ => Err(no_memory()),
    }
}

fn no_memory() -> Error {
    Error::msg("the module exports no memory as \"memory\"")
}

/// A range of guest memory.
fn range(memory: &Memory, caller: &Caller<'_, State>, at: u32, length: u32) -> Result<Range<usize>> {
    let bytes = memory.data_size(caller);
    let end = (at as usize).checked_add(length as usize).filter(|&end| end <= bytes);
    end.map(|end| at as usize..end)
        .ok_or_else(|| Error::msg(format!("{length} bytes at address {at} are outside of the memory of {bytes}")))
}

/// A path, if it is text of a length that upstream takes; otherwise upstream says what is wrong with it.
fn text(caller: &mut Caller<'_, State>, at: i32, length: i32) -> Result<Option<String>> {
    let memory = memory(caller)?;
    let range = range(&memory, caller, unsigned(at), unsigned(length))?;
    let bytes = &memory.data(&caller)[range];
    Ok(std::str::from_utf8(bytes).ok().filter(|text| text.len() <= HOSTCALL_BYTES).map(str::to_owned))
}

/// The bytes of the first buffer that has some, as upstream writes no more; none when it is too much for one call.
fn first_buffer(caller: &mut Caller<'_, State>, at: i32, count: i32) -> Result<Option<bytes::Bytes>> {
    const BUFFER_BYTES: u32 = 8;
    let memory = memory(caller)?;
    let length = unsigned(count).checked_mul(BUFFER_BYTES).filter(|length| *length as usize <= HOSTCALL_BYTES);
    let Some(length) = length else { return Ok(None) };
    let list = range(&memory, caller, unsigned(at), length)?;
    let (buffers, _) = memory.data(&caller)[list].as_chunks::<8>();
    let word = |bytes: &[u8]| bytes.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
    let first = buffers.iter().map(|buffer| (word(&buffer[..4]), word(&buffer[4..]))).find(|(_, length)| *length > 0);
    let Some((at, length)) = first else { return Ok(Some(bytes::Bytes::new())) };
    if length as usize > HOSTCALL_BYTES {
        return Ok(None);
    }
    let range = range(&memory, caller, at, length)?;
    Ok(Some(bytes::Bytes::copy_from_slice(&memory.data(&caller)[range])))
}

fn put_length(caller: &mut Caller<'_, State>, out: i32, written: usize) -> Result<i32> {
    let memory = memory(caller)?;
    let range = range(&memory, caller, unsigned(out), 4)?;
    // At most what one buffer has.
    let written = u32::try_from(written).unwrap_or(u32::MAX);
    memory.data_mut(caller)[range].copy_from_slice(&written.to_le_bytes());
    Ok(OK)
}

/// The descriptor that upstream has put into guest memory.
fn number_at(caller: &mut Caller<'_, State>, out: i32) -> Result<i32> {
    let memory = memory(caller)?;
    let range = range(&memory, caller, unsigned(out), 4)?;
    let bytes = memory.data(&caller)[range].first_chunk().copied().unwrap_or_default();
    Ok(i32::from_le_bytes(bytes))
}

const fn unsigned(number: i32) -> u32 {
    number.cast_unsigned()
}

const fn raw(number: u32) -> i32 {
    number.cast_signed()
}

fn errno(errno: Errno) -> i32 {
    u16::from(errno).into()
}

fn errno_of(error: &io::Error) -> i32 {
    errno(Errno::from(ErrorCode::from(error)))
}
