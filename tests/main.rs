//! End-to-end tests: the real `holm` binary, real processes, real sockets and files.

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod harness;

mod blobs;
mod caches;
mod compiling;
mod confinement;
mod disk;
mod executors;
mod frameworks;
mod hostile;
mod logs;
mod messages;
mod offers;
mod roles;
mod run;
mod services;
mod store;
mod survive;
mod up;
mod volumes;
