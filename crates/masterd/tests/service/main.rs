//! The daemon in this process, driven over real sockets by agents and frameworks that the tests play themselves.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod blobs;
mod bulk;
mod cluster;
mod harness;
mod hostile;
mod http;
mod identity;
mod store;
