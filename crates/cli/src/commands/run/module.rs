//! A first look at what is to be run, so that obvious mistakes are told before anything is sent. The agent looks again, and
//! closer.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use anyhow::{Context, bail};

const MAGIC: &[u8] = b"\0asm";
const CORE: [u8; 4] = [1, 0, 0, 0];
const COMPONENT: [u8; 4] = [13, 0, 1, 0];
/// The most that agents take.
const MAX_BYTES: u64 = 64 << 20;
/// Magic and version.
const HEADER_BYTES: usize = 8;

/// Checks that a file is a whole WebAssembly module or component, as far as its frame tells.
pub(crate) fn check(path: &Path) -> anyhow::Result<()> {
    let shown = path.display();
    let mut file = File::open(path).with_context(|| format!("module {shown} cannot be read"))?;
    let metadata = file.metadata().with_context(|| format!("module {shown} cannot be read"))?;
    if metadata.is_dir() {
        bail!("module {shown} is a directory");
    }
    let mut header = Vec::new();
    file.by_ref()
        .take(HEADER_BYTES as u64)
        .read_to_end(&mut header)
        .with_context(|| format!("module {shown} cannot be read"))?;
    if let Some(problem) = describe_header(&header) {
        bail!("module {shown} {problem}");
    }
    let size = metadata.len();
    if size > MAX_BYTES {
        bail!("module {shown} has {size} bytes; the limit is {MAX_BYTES}");
    }
    match cut_section(&mut file, size).with_context(|| format!("module {shown} cannot be read"))? {
        Some(at) => bail!(
            "module {shown} is truncated: the section at byte {at} goes beyond the end of the file at byte {size}"
        ),
        None => Ok(()),
    }
}

fn describe_header(header: &[u8]) -> Option<String> {
    let native = [
        (b"\x7fELF".as_slice(), "ELF"),
        (b"MZ", "PE"),
        (b"\xcf\xfa\xed\xfe", "Mach-O"),
        (b"\xca\xfe\xba\xbe", "Mach-O"),
    ];
    if header.is_empty() {
        return Some("is empty".to_owned());
    }
    if let Some((_, kind)) = native.into_iter().find(|(magic, _)| header.starts_with(magic)) {
        return Some(format!(
            "is native code ({kind}); only WebAssembly is run here: build for wasm32-wasip1 or wasm32-wasip2"
        ));
    }
    if header.starts_with(b"(") {
        return Some("looks like WebAssembly text; translate it to binary first (wasm-tools parse)".to_owned());
    }
    let begun = MAGIC.starts_with(&header[..header.len().min(MAGIC.len())]);
    if !begun {
        return Some("is not WebAssembly: it does not begin with \\0asm".to_owned());
    }
    match header.get(MAGIC.len()..HEADER_BYTES) {
        None => Some(format!("is truncated: it has {} bytes, less than a header", header.len())),
        Some(version) if version == CORE || version == COMPONENT => None,
        Some(version) => {
            Some(format!("has the WebAssembly version {version:02x?}, which is neither a module's nor a component's"))
        }
    }
}

/// Where the first section begins that is not wholly there. The file is behind its header.
fn cut_section(file: &mut File, size: u64) -> io::Result<Option<u64>> {
    let mut at = HEADER_BYTES as u64;
    while at < size {
        file.seek(SeekFrom::Start(at))?;
        // One byte of kind, then the length in at most five bytes of seven bits.
        let mut frame = Vec::with_capacity(6);
        file.by_ref().take(6).read_to_end(&mut frame)?;
        let Some((length, used)) = leb128(&frame[1..]) else { return Ok(Some(at)) };
        let end = at + 1 + used + length;
        if end > size {
            return Ok(Some(at));
        }
        at = end;
    }
    Ok(None)
}

fn leb128(bytes: &[u8]) -> Option<(u64, u64)> {
    let last = bytes.iter().position(|byte| byte & 0x80 == 0)?;
    let value = bytes[..=last].iter().rev().fold(0, |value, byte| value << 7 | u64::from(byte & 0x7f));
    Some((value, last as u64 + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(bytes: &[u8]) -> Option<String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.wasm");
        std::fs::write(&path, bytes).unwrap();
        check(&path).err().map(|error| error.to_string())
    }

    #[test]
    fn modules_and_components_pass() {
        assert_eq!(refusal(b"\0asm\x01\0\0\0"), None);
        assert_eq!(refusal(b"\0asm\x0d\0\x01\0"), None);
        assert_eq!(refusal(b"\0asm\x01\0\0\0\x00\x02\x01a"), None);
        for program in holm_test_programs::ALL {
            check(Path::new(program.p1)).unwrap();
            check(Path::new(program.p2)).unwrap();
        }
    }

    #[test]
    fn a_module_that_is_too_large_is_refused_with_its_size() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("large.wasm");
        std::fs::write(&path, b"\0asm\x01\0\0\0").unwrap();
        File::options().write(true).open(&path).unwrap().set_len(MAX_BYTES + 5).unwrap();
        assert!(check(&path).unwrap_err().to_string().contains("67108869 bytes; the limit is 67108864"));
    }

    #[test]
    fn what_is_no_module_is_named() {
        for (bytes, expected) in [
            (b"".as_slice(), "is empty"),
            (b"#!/bin/sh\n", "is not WebAssembly"),
            (b"\x7fELF\x02\x01\x01\0\0\0", "native code (ELF)"),
            (b"(module)", "text"),
            (b"\0as", "truncated"),
            (b"\0asm\x02\0\0\0", "version"),
            (b"\0asm\x01\0\0\0\x01\x7f\0", "truncated"),
            (b"\0asm\x01\0\0\0\x01", "truncated"),
            (b"\0asm\x01\0\0\0\x01\xff\xff\xff\xff\xff\xff", "truncated"),
        ] {
            let message = refusal(bytes).unwrap_or_default();
            assert!(message.contains(expected), "{bytes:?}: {message:?}");
        }
    }
}
