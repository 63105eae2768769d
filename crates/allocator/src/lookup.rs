//! Lookup tables from ids to slots.

use std::collections::HashMap; // lookup only: it is never iterated, so its order cannot matter
use std::hash::{BuildHasherDefault, Hasher};

/// A table that is only ever asked for one key. Its hash is fixed and cheap: ids are minted by the master itself, counted
/// up, and nobody can choose them so that they collide.
pub(crate) type Lookup<K, V> = HashMap<K, V, BuildHasherDefault<IdHasher>>; // lookup only

/// Multiplies and mixes what ids consist of: a few 64-bit numbers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, number: u64) {
        let mixed = (self.0.rotate_left(23) ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = mixed ^ (mixed >> 29);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
