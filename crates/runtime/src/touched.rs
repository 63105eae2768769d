//! Pages that every run of a program writes, made ready before it runs.
//!
//! A fresh memory costs a page fault for each page that is touched, and where a page of the initial contents is read before
//! it is written a second one that interrupts the other cores: together a third of the CPU time of a small task. The first
//! run of a program that ends shows which pages are written; for those after it a call or two make them ready. That is a
//! hint and no more: the contents are what they were, and a page too many is one that the task did not need.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;

use rustix::mm::Advice;

/// Most pages that are made ready, so that a program whose first run was large costs the others little.
const MAX_PAGES: usize = 24;
/// Most stretches of neighbouring pages, each of which is a call.
const MAX_RANGES: usize = 6;
/// How much of a memory is looked at, in pages.
const SEEN_PAGES: usize = 1024;
/// Bytes in which the kernel describes a page.
const ENTRY: usize = 8;
/// The page is there ...
const PRESENT: u64 = 1 << 63;
/// ... and still that of the file it was mapped from.
const OF_FILE: u64 = 1 << 61;

/// What the kernel says of this process's pages, and how large these are.
static PAGES: OnceLock<Option<(File, usize)>> = OnceLock::new();

/// Opens what tells which pages are written. A process that confines itself calls this before: it cannot afterwards, and
/// nothing is made ready without it.
pub fn watch_own_pages() {
    PAGES.get_or_init(|| Some((File::open("/proc/self/pagemap").ok()?, rustix::param::page_size())));
}

/// What the first run of a program showed: ranges of bytes of its memory.
#[derive(Default)]
pub(crate) struct Touched(OnceLock<Box<[Range<usize>]>>);

impl Touched {
    /// Whether a run has shown it, or none can.
    pub(crate) fn is_known(&self) -> bool {
        self.0.get().is_some() || !matches!(PAGES.get(), Some(Some(_)))
    }

    /// Makes the pages ready in a memory that starts here and has at least `bytes` bytes.
    pub(crate) fn prepare(&self, memory: *mut u8, bytes: usize) {
        let ranges = self.0.get().map(AsRef::as_ref).unwrap_or_default();
        for range in ranges.iter().filter(|range| range.end <= bytes) {
            let start = memory.wrapping_add(range.start).cast();
            // SAFETY: the range lies in a linear memory that the caller's store owns and nobody uses at the moment; populating
            // it for writing changes none of its contents.
            let made = unsafe { rustix::mm::madvise(start, range.len(), Advice::LinuxPopulateWrite) };
            if made.is_err() {
                // An older kernel: the pages come when they are touched, as ever.
                return;
            }
        }
    }

    /// Looks at what a run has left in its memory.
    pub(crate) fn learn(&self, memory: *const u8, bytes: usize) {
        let Some(Some((pages, size))) = PAGES.get() else { return };
        let size = *size;
        let mut entries = vec![0; (bytes / size).min(SEEN_PAGES) * ENTRY];
        let at = (memory.addr() / size * ENTRY) as u64;
        let read = pages.read_exact_at(&mut entries, at);
        let (entries, _) = entries.as_chunks::<ENTRY>();
        let written =
            entries.iter().map(|entry| u64::from_le_bytes(*entry)).map(|entry| entry & (PRESENT | OF_FILE) == PRESENT);
        let ranges = if read.is_ok() { ranges(written) } else { Vec::new() };
        let bytes_of = |range: Range<usize>| range.start * size..range.end * size;
        // Another run may have been first.
        let _ = self.0.set(ranges.into_iter().map(bytes_of).collect());
    }
}

/// Stretches of written pages, within the limits; none of a program that writes more.
fn ranges(written: impl Iterator<Item = bool>) -> Vec<Range<usize>> {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    for (page, _) in written.enumerate().filter(|(_, written)| *written) {
        match ranges.last_mut() {
            Some(last) if last.end == page => last.end += 1,
            _ => ranges.push(page..page + 1),
        }
    }
    let pages: usize = ranges.iter().map(ExactSizeIterator::len).sum();
    if pages > MAX_PAGES || ranges.len() > MAX_RANGES { Vec::new() } else { ranges }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_pages_are_one_stretch_and_many_are_none() {
        let written = |pages: &[usize]| {
            let pages = pages.to_vec();
            ranges((0..100).map(move |page| pages.contains(&page)))
        };
        assert_eq!(written(&[3, 4, 9]), [3..5, 9..10]);
        assert_eq!(written(&(0..MAX_PAGES).collect::<Vec<_>>()), vec![0..MAX_PAGES]);
        assert_eq!(written(&(0..=MAX_PAGES).collect::<Vec<_>>()), []);
        assert_eq!(written(&[0, 2, 4, 6, 8, 10]).len(), MAX_RANGES);
        assert_eq!(written(&[0, 2, 4, 6, 8, 10, 12]), []);
    }

    #[test]
    fn what_is_made_ready_keeps_its_contents() {
        watch_own_pages();
        let size = rustix::param::page_size();
        // SAFETY: a mapping of its own, at an address that the kernel chooses.
        let memory = unsafe {
            rustix::mm::mmap_anonymous(
                std::ptr::null_mut(),
                8 * size,
                rustix::mm::ProtFlags::READ | rustix::mm::ProtFlags::WRITE,
                rustix::mm::MapFlags::PRIVATE,
            )
        }
        .unwrap()
        .cast::<u8>();
        // SAFETY: within the mapping.
        unsafe { memory.add(2 * size).write(7) };
        let touched = Touched::default();
        touched.learn(memory, 8 * size);
        let learnt = touched.0.get().expect("it has learnt");
        assert!(learnt.len() == 1 && learnt[0] == (2 * size..3 * size), "{learnt:?}");
        touched.prepare(memory, 8 * size);
        // SAFETY: within the mapping.
        assert_eq!(unsafe { (memory.add(2 * size).read(), memory.add(2 * size + 1).read()) }, (7, 0));
        // A memory that is shorter than those seen so far.
        touched.prepare(memory, size);
    }
}
