//! The network of a task: nothing, unless granted.
//!
//! What a task reaches is what its template grants *and* its agent's operator allows ([`policy`]); names are resolved only
//! if they are granted, and admit exactly the addresses that they resolved to. Every path to the network goes through one
//! [`TaskNetwork`]: sockets by wasmtime's address check and the calls shadowed in [`sockets`], outgoing HTTP by
//! [`crate::http`]. Core modules have no call that opens a socket: preview 1 only knows sockets that it is given, and gets none.

mod policy;
mod sockets;
mod task;

pub use policy::{NetworkPolicy, NotAllowed, public_internet};

pub(crate) use sockets::shadow;
pub(crate) use task::{Connection, TaskNetwork};
