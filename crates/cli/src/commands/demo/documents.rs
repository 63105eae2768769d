//! The texts whose words are counted.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// Endings of documents and sources, where nobody says what to count.
const ENDINGS: [&str; 4] = ["md", "rs", "proto", "wit"];
/// Directories that hold what was built or fetched.
const SKIPPED: [&str; 2] = ["target", "node_modules"];
/// Most files that are counted.
const MAX_FILES: usize = 2000;
/// Most bytes that are counted.
const MAX_BYTES: u64 = 256 << 20;
/// Largest file that is counted.
const MAX_FILE_BYTES: u64 = 32 << 20;
/// A file with a zero byte this close to its beginning is no text.
const PROBE_BYTES: u64 = 8 << 10;
/// Deepest directory that is looked into.
const MAX_DEPTH: usize = 32;

/// What is counted when there is nothing else.
const OWN_DOCUMENT: &[u8] = include_bytes!("../../../../../README.md");

/// A text.
#[derive(Clone, Debug)]
pub(super) struct Document {
    pub(super) bytes: Vec<u8>,
}

/// The documents, and what people should know about the choice.
#[derive(Debug)]
pub(super) struct Documents {
    pub(super) found: Vec<Document>,
    pub(super) note: Option<String>,
}

/// All text files below `input`; without one the documents and sources below the current directory.
pub(super) fn find(input: Option<&Path>) -> anyhow::Result<Documents> {
    let root = input.unwrap_or_else(|| Path::new("."));
    let mut paths = Vec::new();
    walk(root, 0, &|path| input.is_some() || has_ending(path), &mut paths)
        .with_context(|| format!("directory {} cannot be read", root.display()))?;
    paths.sort();
    let (mut found, mut bytes, mut left_out) = (Vec::new(), 0, 0);
    for (path, size) in paths {
        let too_much = found.len() >= MAX_FILES || size > MAX_FILE_BYTES || bytes + size > MAX_BYTES;
        let text = if too_much { None } else { read_text(&path)? };
        match text {
            Some(text) => {
                bytes += text.len() as u64;
                found.push(Document { bytes: text });
            }
            None => left_out += 1,
        }
    }
    let note =
        (left_out > 0).then(|| format!("{left_out} files are left out: no text, or over the limits of the demo"));
    match (found.is_empty(), input) {
        (true, Some(root)) => bail!("no text file below {}", root.display()),
        (true, None) => {
            let own = Document { bytes: OWN_DOCUMENT.to_vec() };
            let note = "no documents below the current directory; the project's own README is counted".to_owned();
            Ok(Documents { found: vec![own], note: Some(note) })
        }
        (false, _) => Ok(Documents { found, note }),
    }
}

fn has_ending(path: &Path) -> bool {
    path.extension().and_then(|ending| ending.to_str()).is_some_and(|ending| ENDINGS.contains(&ending))
}

/// Ordinary files below a directory; links are not followed, hidden things are not looked at.
fn walk(
    dir: &Path,
    depth: usize,
    wanted: &dyn Fn(&Path) -> bool,
    found: &mut Vec<(PathBuf, u64)>,
) -> std::io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let (path, kind) = (entry.path(), entry.file_type()?);
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with('.') || found.len() > 10 * MAX_FILES {
            continue;
        }
        if kind.is_dir() && depth < MAX_DEPTH && !SKIPPED.contains(&&*name) {
            match walk(&path, depth + 1, wanted, found) {
                // Somebody else's directory below is not worth giving up for.
                Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {}
                result => result?,
            }
        } else if kind.is_file() && wanted(&path) {
            found.push((path, entry.metadata()?.len()));
        }
    }
    Ok(())
}

/// The bytes of a text; none of anything else, or of what cannot be read.
fn read_text(path: &Path) -> anyhow::Result<Option<Vec<u8>>> {
    let Ok(mut file) = File::open(path) else { return Ok(None) };
    let read = || format!("{} cannot be read", path.display());
    let mut bytes = Vec::new();
    file.by_ref().take(PROBE_BYTES).read_to_end(&mut bytes).with_context(read)?;
    if bytes.contains(&0) {
        return Ok(None);
    }
    file.take(MAX_FILE_BYTES).read_to_end(&mut bytes).with_context(read)?;
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_found_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in [
            ("a.txt", b"text".as_slice()),
            ("sub/b", b"more"),
            ("c.bin", b"\0\x01"),
            (".hidden", b"x"),
            ("target/d.md", b"built"),
        ] {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        std::os::unix::fs::symlink("/etc", dir.path().join("link")).unwrap();
        let documents = find(Some(dir.path())).unwrap();
        let texts: Vec<_> = documents.found.iter().map(|document| document.bytes.as_slice()).collect();
        assert_eq!(texts, [b"text", b"more"]);
        assert!(documents.note.is_some());
    }

    #[test]
    fn an_input_without_texts_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        assert!(find(Some(dir.path())).unwrap_err().to_string().contains("no text file"));
        assert!(find(Some(&dir.path().join("missing"))).is_err());
    }
}
