//! Messages as bytes of a socket or a file: each is preceded by its length as a varint.

use bytes::{Buf, BytesMut};
use prost::Message;

/// Largest message in a frame, in bytes.
pub const MAX_FRAME_BYTES: usize = 16 << 20;

/// Longest length prefix of a message within [`MAX_FRAME_BYTES`], in bytes.
const MAX_PREFIX_BYTES: usize = 4;

/// Why a frame could not be written or read. After a failed read the stream is of no use any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The message is too large.
    #[error("frame of {bytes} bytes is over the limit of {MAX_FRAME_BYTES}")]
    TooLarge {
        /// Its size.
        bytes: u64,
    },
    /// The length is not a varint of at most four bytes.
    #[error("frame length is malformed")]
    Length,
    /// The bytes are not the message.
    #[error("frame is not a valid message")]
    Message(#[from] prost::DecodeError),
}

/// Appends a message to `out`.
///
/// # Errors
/// [`FrameError::TooLarge`]; nothing has been appended then.
pub fn encode(message: &impl Message, out: &mut BytesMut) -> Result<(), FrameError> {
    let bytes = message.encoded_len();
    if bytes > MAX_FRAME_BYTES {
        return Err(FrameError::TooLarge { bytes: bytes as u64 });
    }
    out.reserve(MAX_PREFIX_BYTES + bytes);
    prost::encoding::encode_varint(bytes as u64, out);
    message.encode_raw(out);
    Ok(())
}

/// Takes the first message off `input`; `None` when it is not complete yet, and nothing has been taken then.
///
/// # Errors
/// The bytes cannot be a frame, however many more come.
pub fn decode<M: Message + Default>(input: &mut BytesMut) -> Result<Option<M>, FrameError> {
    let Some((prefix, bytes)) = read_length(input)? else { return Ok(None) };
    if input.len() < prefix + bytes {
        // Grows to what is needed at once, instead of by doubling, but only after the length has been checked.
        input.reserve(prefix + bytes - input.len());
        return Ok(None);
    }
    input.advance(prefix);
    Ok(Some(M::decode(input.split_to(bytes).freeze())?))
}

/// The length of the prefix and of the message behind it.
fn read_length(input: &[u8]) -> Result<Option<(usize, usize)>, FrameError> {
    let mut length = 0usize;
    for (at, byte) in input.iter().take(MAX_PREFIX_BYTES).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            let fits = length <= MAX_FRAME_BYTES;
            return if fits { Ok(Some((at + 1, length))) } else { Err(FrameError::TooLarge { bytes: length as u64 }) };
        }
    }
    if input.len() < MAX_PREFIX_BYTES { Ok(None) } else { Err(FrameError::Length) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runner::v1::{AcknowledgeReports, ToRunner, WorkMessage, to_runner};

    fn acknowledge(sequence: u64) -> ToRunner {
        ToRunner { message: Some(to_runner::Message::Acknowledge(AcknowledgeReports { sequence })) }
    }

    #[test]
    fn frames_come_out_whole_and_in_order_however_they_arrive() {
        let mut bytes = BytesMut::new();
        for sequence in 0..50 {
            encode(&acknowledge(sequence * 1_000_003), &mut bytes).unwrap();
        }
        let mut input = BytesMut::new();
        let mut got = Vec::new();
        for byte in bytes {
            input.extend_from_slice(&[byte]);
            while let Some(message) = decode::<ToRunner>(&mut input).unwrap() {
                got.push(message);
            }
        }
        let sent: Vec<_> = (0..50).map(|sequence| acknowledge(sequence * 1_000_003)).collect();
        assert_eq!(got, sent);
        assert!(input.is_empty());
    }

    #[test]
    fn an_empty_message_is_a_frame() {
        let mut bytes = BytesMut::new();
        encode(&ToRunner::default(), &mut bytes).unwrap();
        assert_eq!(decode::<ToRunner>(&mut bytes), Ok(Some(ToRunner::default())));
    }

    #[test]
    fn a_length_over_the_limit_is_refused_before_anything_is_buffered() {
        let mut bytes = BytesMut::new();
        prost::encoding::encode_varint(MAX_FRAME_BYTES as u64 + 1, &mut bytes);
        let error = decode::<ToRunner>(&mut bytes).unwrap_err();
        assert_eq!(error, FrameError::TooLarge { bytes: MAX_FRAME_BYTES as u64 + 1 });
        let mut endless = BytesMut::from(&[0xff; 4][..]);
        assert_eq!(decode::<ToRunner>(&mut endless), Err(FrameError::Length));
    }

    #[test]
    fn a_message_over_the_limit_is_not_written() {
        let data = vec![0; MAX_FRAME_BYTES + 1].into();
        let message = WorkMessage { work: 1, position: 0, data };
        let mut out = BytesMut::new();
        assert!(matches!(encode(&message, &mut out), Err(FrameError::TooLarge { .. })));
        assert!(out.is_empty());
    }

    #[test]
    fn garbage_in_a_frame_is_an_error() {
        let mut bytes = BytesMut::from(&[3, 0xff, 0xff, 0xff][..]);
        assert!(matches!(decode::<ToRunner>(&mut bytes), Err(FrameError::Message(_))));
    }
}
