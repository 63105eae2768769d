//! Who is behind a request: the operator token, and secrets drawn and hashed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use holm_master::Fresh;
use holm_model::{Principal, Secret, SecretHash};
use sha2::{Digest as _, Sha256};
use tonic::Status;

/// Longest token, in bytes.
const MAX_TOKEN_BYTES: usize = 4096;

/// Why the token file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// It cannot be read.
    #[error("the token file {} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// It is empty, too long, or not text that fits a header.
    #[error("the token file {} does not hold one line of 1 to {MAX_TOKEN_BYTES} visible ASCII characters", .0.display())]
    Text(PathBuf),
}

/// What requests must present.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    token: Option<SecretHash>,
}

impl Gate {
    /// A gate that wants the token in this file, or none.
    pub(crate) fn open(file: Option<&Path>) -> Result<Gate, TokenError> {
        let Some(path) = file else { return Ok(Gate { token: None }) };
        let read = std::fs::read_to_string(path);
        let text = read.map_err(|source| TokenError::Read { path: path.to_owned(), source })?;
        let token = text.trim_end();
        if token.is_empty() || token.len() > MAX_TOKEN_BYTES || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(TokenError::Text(path.to_owned()));
        }
        Ok(Gate { token: Some(hash(token.as_bytes())) })
    }

    /// Whether a token is wanted at all.
    pub(crate) fn is_closed(&self) -> bool {
        self.token.is_some()
    }

    /// Who presents this `authorization` header. Nobody is anybody while no token is wanted.
    ///
    /// # Errors
    /// UNAUTHENTICATED for a header that is not the token.
    pub(crate) fn identify(&self, headers: &http::HeaderMap) -> Result<Principal, Status> {
        let Some(wanted) = self.token else { return Ok(Principal::Anonymous) };
        let Some(header) = headers.get(http::header::AUTHORIZATION) else { return Ok(Principal::Anonymous) };
        let presented = header.as_bytes().strip_prefix(b"Bearer ").map(hash);
        if presented == Some(wanted) {
            return Ok(Principal::Operator(Arc::from("operator")));
        }
        Err(Status::unauthenticated("the token in the authorization header is not the one this master wants"))
    }

    /// Like [`Gate::identify`], for what only a holder of the token may do.
    ///
    /// # Errors
    /// UNAUTHENTICATED without the token, when one is wanted.
    pub(crate) fn admit(&self, headers: &http::HeaderMap) -> Result<Principal, Status> {
        match self.identify(headers)? {
            Principal::Anonymous if self.is_closed() => Err(missing()),
            principal => Ok(principal),
        }
    }
}

/// The refusal of those who present nothing.
pub(crate) fn missing() -> Status {
    Status::unauthenticated("this master wants a token: send it as authorization: Bearer TOKEN")
}

fn hash(bytes: &[u8]) -> SecretHash {
    SecretHash(Sha256::digest(bytes).into())
}

/// What the registry knows of a secret.
pub(crate) fn hash_secret(secret: &Secret) -> SecretHash {
    hash(secret.expose())
}

/// A new secret for whoever registers first.
///
/// # Errors
/// When the operating system has no randomness.
pub(crate) fn fresh() -> Result<Fresh, Status> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| Status::internal(format!("no randomness: {error}")))?;
    let secret = Secret::from_bytes(bytes);
    let hash = hash_secret(&secret);
    Ok(Fresh { secret, hash })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(authorization: Option<&str>) -> http::HeaderMap {
        let mut headers = http::HeaderMap::new();
        if let Some(text) = authorization {
            headers.insert(http::header::AUTHORIZATION, text.parse().unwrap());
        }
        headers
    }

    #[test]
    fn the_token_opens_and_nothing_else_does() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        std::fs::write(&file, "s3cret\n").unwrap();
        let gate = Gate::open(Some(&file)).unwrap();
        assert_eq!(gate.admit(&headers(Some("Bearer s3cret"))).unwrap(), Principal::Operator("operator".into()));
        for wrong in [Some("Bearer s3cre"), Some("Bearer "), Some("s3cret"), Some("Basic s3cret"), None] {
            assert_eq!(gate.admit(&headers(wrong)).unwrap_err().code(), tonic::Code::Unauthenticated, "{wrong:?}");
        }
        assert_eq!(gate.identify(&headers(None)).unwrap(), Principal::Anonymous);
        let open = Gate::open(None).unwrap();
        assert_eq!(open.admit(&headers(None)).unwrap(), Principal::Anonymous);
    }

    #[test]
    fn a_token_file_that_says_nothing_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        assert!(matches!(Gate::open(Some(&file)), Err(TokenError::Read { .. })));
        for text in ["", "\n", "two words", "x\ny"] {
            std::fs::write(&file, text).unwrap();
            assert!(matches!(Gate::open(Some(&file)), Err(TokenError::Text(_))), "{text:?}");
        }
    }
}
