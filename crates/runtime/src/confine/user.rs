//! Layers `user`, `capabilities` and `no-new-privs`: whoever takes over a runner is nobody.

use std::io;

use rustix::thread::{CapabilitySet, CapabilitySets};
use serde::{Deserialize, Serialize};

/// A user and a group by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunAs {
    /// The user.
    pub uid: u32,
    /// Its only group.
    pub gid: u32,
}

/// Becomes another user for good, with one group and no capability. To be called by the only thread of a process.
pub(super) fn become_user(RunAs { uid, gid }: RunAs) -> io::Result<()> {
    let (uid, gid) = (rustix::thread::Uid::from_raw(uid), rustix::thread::Gid::from_raw(gid));
    rustix::thread::set_thread_groups(&[])?;
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)?;
    // The kernel forgets them with the change of user unless told otherwise; nothing is left to hope.
    drop_capabilities()
}

/// Takes every capability out of the bounding set, so that no program could bring one back.
pub(super) fn drop_bounding_set() -> io::Result<()> {
    let held = rustix::thread::capabilities(None)?.effective;
    if !held.contains(CapabilitySet::SETPCAP) {
        // It has none that could be dropped, or may not: no-new-privs makes the set mean nothing.
        return Ok(());
    }
    for bit in 0..u64::BITS {
        let Some(capability) = CapabilitySet::from_bits(1 << bit) else { continue };
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            // A capability that this kernel does not know.
            Ok(()) | Err(rustix::io::Errno::INVAL) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Drops what capabilities there are.
pub(super) fn drop_capabilities() -> io::Result<()> {
    let none = CapabilitySet::empty();
    rustix::thread::set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?;
    match rustix::thread::clear_ambient_capability_set() {
        Ok(()) | Err(rustix::io::Errno::INVAL) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
