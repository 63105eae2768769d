//! What one guest can make its host hold beyond its memory limit, and how long a name it can give things.

use std::time::Duration;

/// Bytes that one host call may copy out of the guest.
pub const HOSTCALL_BYTES: usize = 8 << 20;

/// Handles (files, streams, pollables) that one task may hold, and entries of its component handle tables.
pub const MAX_HANDLES: usize = 10_000;

/// Random bytes that one host call may ask for: nothing interrupts a host call, so each must be short.
pub const MAX_RANDOM_BYTES: u64 = 64 << 10;

/// Sockets that one task may have, the connections of its HTTP requests included.
pub const MAX_SOCKETS: usize = 256;

/// Look-ups of names that one task may have under way.
pub const MAX_LOOKUPS: usize = 16;

/// Addresses that a task's names are remembered to have resolved to; beyond, they are forgotten and must be looked up again.
pub const MAX_PINNED: usize = 1_024;

/// Senders of datagrams whom a task that listens may answer; beyond, they are forgotten.
pub const MAX_PEERS: usize = 1_024;

/// Refusals of the network that a task's standard error tells of; the others are only counted.
pub const MAX_TOLD_REFUSALS: u64 = 8;

/// Bytes of one write to the body of an HTTP request or answer, and of what waits of it.
pub const HTTP_CHUNK_BYTES: usize = 64 << 10;

/// Bytes that one HTTP connection buffers in each direction.
pub const HTTP_BUFFER_BYTES: usize = 16 << 10;

/// Bytes of the header fields that a guest makes, as the host keeps them.
pub const MAX_FIELD_BYTES: usize = 128 << 10;

/// Bytes of the head of one request to a service.
pub const REQUEST_HEAD_BYTES: usize = 16 << 10;

/// How long a client of a service may take to send the head of a request, and stay idle between two.
pub const REQUEST_HEAD_TIME: Duration = Duration::from_secs(10);

/// Connections that one service has at a time; more wait to be accepted. With [`HTTP_BUFFER_BYTES`] each way they bound what
/// clients make a runner hold for one service: 16 MiB.
pub const MAX_CLIENTS: usize = 512;

/// Core instances that one task may have: composed components have several.
pub const MAX_INSTANCES: usize = 1_000;

/// Linear memories that one task may have.
pub const MAX_MEMORIES: usize = 100;

/// Tables that one task may have.
pub const MAX_TABLES: usize = 1_000;

/// What one table element is charged with, in bytes.
pub const TABLE_ELEMENT_BYTES: u64 = 8;

/// Frames of a trap's backtrace.
pub const MAX_BACKTRACE_FRAMES: usize = 32;

/// Bytes of a task's end message; the rest is cut off.
pub const MAX_MESSAGE_BYTES: usize = 4 << 10;

/// Messages of the framework that wait for a task to receive them.
pub const MAX_INBOX_MESSAGES: usize = 64;

/// Bytes of these messages together.
pub const MAX_INBOX_BYTES: usize = 1 << 20;

/// The longest that one call waits for a message.
pub const MAX_RECEIVE_WAIT: Duration = Duration::from_secs(60);

/// Events that one `poll_oneoff` of a seeded task may wait for.
pub const MAX_POLL_EVENTS: u32 = 4_096;
