//! What one guest can make its host hold beyond its memory limit, and how long a name it can give things. The tests
//! `attacks` show that [`HOST_BYTES_PER_TASK`] holds.

use std::time::Duration;

/// Bytes that one host call may copy out of the guest.
pub const HOSTCALL_BYTES: usize = 8 << 20;

/// Handles (files, streams, pollables) that one task may hold.
pub const MAX_HANDLES: usize = 4_096;

/// Entries of a task's component handle tables: several may stand for one handle.
pub const MAX_COMPONENT_HANDLES: usize = 10_000;

/// Files and directories that one task may have open, streams on closed descriptors included. The process shares its
/// limit of open files among its tasks.
pub const MAX_OPEN_FILES: usize = 1_024;

/// Bytes that a file stream holds for a guest that does not wait: read and not taken, or on their way to the disk.
pub const STREAM_BYTES: usize = 4 << 10;

/// Entries of a directory that are read before the guest asks for them.
pub const LISTED_AHEAD: usize = 8;

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

/// What one task can make the host hold beyond its `mem`, in bytes, all of these bounds together: three copies of what one
/// host call may bring (24 MiB), its handles (4,096 of about 1 KiB, 4 MiB) and what streams hold for it (4 KiB or 8
/// names each, 16 MiB), its stacks (4 MiB), arguments and environment (three copies, 384 KiB), its inbox (1 MiB), the
/// instances' own data (10 MiB).
pub const HOST_BYTES_PER_TASK: u64 = 64 << 20;

/// What the disk ledger counts in, in bytes: a block of the usual file systems.
pub const DISK_BLOCK_BYTES: u64 = 4 << 10;

/// Names that a task with little `disk` may have in its own directory.
pub const MIN_DISK_ENTRIES: u64 = 64;

/// Names that a task with much `disk` may have there: whoever removes the directory has to touch each.
pub const MAX_DISK_ENTRIES: u64 = 1_000_000;

/// How deep the directories of a sandbox may lie when its ledger begins.
pub const MAX_SCAN_DEPTH: usize = 256;

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

/// Tasks that an executor is given at a time.
pub const MAX_EXECUTED_TASKS: usize = 16_384;

/// Events that one call of an executor gets.
pub const MAX_EVENTS: usize = 256;

/// Bytes of data that one call of an executor gets, if that is more than one event.
pub const MAX_EVENT_BYTES: usize = 1 << 20;

/// Updates that an executor says at a time.
pub const MAX_UPDATES: usize = 4_096;

/// Events that one `poll_oneoff` of a seeded task may wait for.
pub const MAX_POLL_EVENTS: u32 = 4_096;
