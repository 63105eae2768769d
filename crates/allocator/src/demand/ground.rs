//! What leaves and agents are to demands: numbers that the rest of the allocator gives them.

/// A framework in a role.
pub(crate) type Leaf = u32;
/// An agent.
pub(crate) type Slot = u32;

#[cfg(test)]
pub(crate) fn slot(number: u32) -> Slot {
    number
}

#[cfg(test)]
pub(crate) fn leaf(number: u32) -> Leaf {
    number
}
