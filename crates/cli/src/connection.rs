//! From the command line to a connected client.

use anyhow::Context;
use holm_sdk::{Client, ClientError};
use tonic::{Code, Status};

use crate::args::Global;
use crate::token;

/// The token to show to the masters: of the file that was named, else the one that `holm up` left for them.
pub(crate) fn token(global: &Global) -> anyhow::Result<Option<String>> {
    match &global.token_file {
        Some(path) => token::read(path).map(Some),
        None => Ok(token::find(&global.master)),
    }
}

/// Connects to the master that leads.
pub(crate) async fn connect(global: &Global) -> anyhow::Result<Client> {
    let token = token(global)?;
    match Client::connect(&global.master, token.as_deref()).await {
        Ok(client) => Ok(client),
        Err(error @ ClientError::NoMaster { .. }) => {
            Err(error).context("no master can be reached; `holm up` starts a cluster, --master names one elsewhere")
        }
        Err(error @ ClientError::Refused { .. }) if token.is_none() => {
            Err(error).context("the master may want a token: give it with --token-file")
        }
        Err(error) => Err(error.into()),
    }
}

/// A refusal of the master as an error for people.
pub(crate) fn refusal(status: Status) -> anyhow::Error {
    match status.code() {
        Code::InvalidArgument | Code::NotFound | Code::FailedPrecondition | Code::ResourceExhausted => {
            anyhow::anyhow!("{}", crate::output::clean(status.message()))
        }
        Code::Unavailable => anyhow::anyhow!("the master is not available: {}", crate::output::clean(status.message())),
        code => anyhow::anyhow!("{}: {}", code.description(), crate::output::clean(status.message())),
    }
}
