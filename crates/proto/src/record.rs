//! Registry records as the bytes stored under their keys.

use holm_model::{AgentRecord, ClusterRecord, FrameworkRecord, ReservationRecord, RoleRecord};
use prost::Message;

use crate::{ConvertError, v1};

/// Why stored bytes are not the record they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The bytes are not a message.
    #[error("{record} record is damaged")]
    Damaged {
        /// Which kind of record.
        record: &'static str,
        /// How.
        #[source]
        source: prost::DecodeError,
    },
    /// A field of the message is not acceptable.
    #[error("{record} record is not valid")]
    Invalid {
        /// Which kind of record.
        record: &'static str,
        /// Which field, and why.
        #[source]
        source: ConvertError,
    },
}

/// A record of the registry.
pub trait Stored: Sized {
    /// The bytes to store.
    fn to_bytes(&self) -> Vec<u8>;

    /// The record that was stored.
    ///
    /// # Errors
    /// The bytes are not such a record.
    fn from_bytes(bytes: &[u8]) -> Result<Self, RecordError>;
}

macro_rules! stored {
    ($($model:ident = $record:literal,)*) => {$(
        impl Stored for $model {
            fn to_bytes(&self) -> Vec<u8> {
                v1::$model::from(self).encode_to_vec()
            }

            fn from_bytes(bytes: &[u8]) -> Result<$model, RecordError> {
                let wire = v1::$model::decode(bytes)
                    .map_err(|source| RecordError::Damaged { record: $record, source })?;
                $model::try_from(wire).map_err(|source| RecordError::Invalid { record: $record, source })
            }
        }
    )*};
}

stored! {
    ClusterRecord = "cluster",
    AgentRecord = "agent",
    FrameworkRecord = "framework",
    ReservationRecord = "reservation",
    RoleRecord = "role",
}
