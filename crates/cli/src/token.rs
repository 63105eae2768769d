//! The operator's token: made by `holm up`, found again by the commands of the same user.
//!
//! `holm up` keeps the token in its own directory and leaves a copy, mode 0600, where every command looks: in
//! `$XDG_RUNTIME_DIR/holm` and in `$HOME/.holm/tokens`, in a file named after the master's address. A token is therefore shown
//! only to the address for which it was made.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;

/// Random bytes of a token.
const TOKEN_BYTES: usize = 32;

/// Reads a token file.
pub(crate) fn read(path: &Path) -> anyhow::Result<String> {
    let text = fs::read_to_string(path).with_context(|| format!("token file {} cannot be read", path.display()))?;
    let token = text.trim();
    anyhow::ensure!(!token.is_empty(), "token file {} is empty", path.display());
    Ok(token.to_owned())
}

/// The token in `path`, which is made, mode 0600, when it is not there.
pub(crate) fn read_or_make(path: &Path) -> anyhow::Result<String> {
    if path.exists() {
        return read(path);
    }
    let mut bytes = [0; TOKEN_BYTES];
    getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("the system has no randomness: {error}"))?;
    let token = hex::encode(bytes);
    write(path, &token).with_context(|| format!("token file {} cannot be written", path.display()))?;
    Ok(token)
}

/// Leaves the token where commands that talk to `address` find it. What cannot be written is not: then they need
/// `--token-file`.
pub(crate) fn announce(address: &str, token: &str) {
    for dir in places() {
        let mut builder = fs::DirBuilder::new();
        let made =
            builder.recursive(true).mode(0o700).create(&dir).and_then(|()| write(&dir.join(name(address)), token));
        if let Err(error) = made {
            tracing::debug!(dir = %dir.display(), %error, "the token is not left here");
        }
    }
}

/// Takes the token away from where [`announce`] left it, if it is still the same.
pub(crate) fn withdraw(address: &str, token: &str) {
    for dir in places() {
        let path = dir.join(name(address));
        if fs::read_to_string(&path).is_ok_and(|text| text.trim() == token) {
            // Left behind it would be overwritten by the next one.
            let _ = fs::remove_file(path);
        }
    }
}

/// The token that was left for one of these masters.
pub(crate) fn find(masters: &[String]) -> Option<String> {
    let paths = masters.iter().flat_map(|master| places().into_iter().map(move |dir| dir.join(name(master))));
    paths
        .filter_map(|path| fs::read_to_string(path).ok())
        .map(|text| text.trim().to_owned())
        .find(|text| !text.is_empty())
}

fn places() -> Vec<PathBuf> {
    let place = |variable: &str, below: &str| {
        let base = std::env::var_os(variable).map(PathBuf::from).filter(|base| base.is_absolute())?;
        Some(base.join(below))
    };
    [place("XDG_RUNTIME_DIR", "holm"), place("HOME", ".holm/tokens")].into_iter().flatten().collect()
}

/// The file of a master's address; one machine's names for itself are one.
fn name(address: &str) -> String {
    let address = address.strip_prefix("http://").unwrap_or(address).trim_end_matches('/');
    let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
    let host = if matches!(host, "localhost" | "[::1]" | "0.0.0.0" | "[::]") { "127.0.0.1" } else { host };
    let safe = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-') { c } else { '_' };
    format!("{}_{port}", host.chars().take(200).map(safe).collect::<String>()).replace('/', "_")
}

fn write(path: &Path, token: &str) -> io::Result<()> {
    let draft = path.with_extension("new");
    // A draft that was left behind may have another mode.
    let _ = fs::remove_file(&draft);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    writeln!(file, "{token}")?;
    fs::rename(draft, path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_token_is_made_once_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let token = read_or_make(&path).unwrap();
        assert_eq!(token.len(), 2 * TOKEN_BYTES);
        assert_eq!(read_or_make(&path).unwrap(), token);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(&path, "\n").unwrap();
        assert!(read_or_make(&path).is_err());
    }

    #[test]
    fn an_address_names_a_file() {
        assert_eq!(name("127.0.0.1:5050"), "127.0.0.1_5050");
        assert_eq!(name("http://localhost:5050/"), "127.0.0.1_5050");
        assert_eq!(name("../../etc:1"), ".._.._etc_1");
    }
}
