//! The sample tasks of `sample-tasks/`, built once: where their modules and components are, and a proof that tests cover them.
//!
//! Every sample exists twice, from the same source: as a core module for wasip1 and as a component for wasip2.
//!
//! A test module that claims to cover every sample says so, and then a sample without a test of its name does not compile:
//!
//! ```
//! # mod covered {
//! use holm_test_programs::{assert_test_exists, foreach_sample};
//!
//! foreach_sample!(assert_test_exists);
//! # macro_rules! a_test { ($name:ident) => { fn $name() {} } }
//! # foreach_sample!(a_test);
//! # }
//! ```
//!
//! ```compile_fail,E0432
//! # mod uncovered {
//! use holm_test_programs::{assert_test_exists, foreach_sample};
//!
//! foreach_sample!(assert_test_exists);
//!
//! #[test]
//! fn hello() {} // and none of the others
//! # }
//! ```

use std::{fs, io};

include!(concat!(env!("OUT_DIR"), "/programs.rs"));

/// A sample task in both of its forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Program {
    /// As in `sample-tasks/src/bin/<name>.rs`.
    pub name: &'static str,
    /// Absolute path of the core module (wasip1).
    pub p1: &'static str,
    /// Absolute path of the component (wasip2).
    pub p2: &'static str,
}

impl Program {
    /// Reads the core module. Fails when the build directory is gone.
    pub fn p1_bytes(&self) -> io::Result<Vec<u8>> {
        fs::read(self.p1)
    }

    /// Reads the component. Fails when the build directory is gone.
    pub fn p2_bytes(&self) -> io::Result<Vec<u8>> {
        fs::read(self.p2)
    }
}

/// A component with a world of its own, such as a scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Component {
    /// As in `sample-tasks/crates/<name>`.
    pub name: &'static str,
    /// Absolute path of the component.
    pub path: &'static str,
}

/// The sample task called `name` (with dashes, as on disk), if there is one.
pub fn find(name: &str) -> Option<&'static Program> {
    ALL.iter().find(|program| program.name == name)
}

/// Does not compile unless the module it stands in has an item of this name. For [`foreach_sample!`].
#[macro_export]
macro_rules! assert_test_exists {
    ($name:ident) => {
        #[allow(unused_imports, reason = "only asserts that the item exists")]
        use self::$name as _;
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    // The first eight bytes: magic and version, then the layer that tells a component from a core module.
    const CORE_MODULE: &[u8] = b"\0asm\x01\0\0\0";
    const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

    #[test]
    fn every_sample_is_a_core_module_and_a_component() {
        assert!(ALL.len() >= 22, "only {} samples", ALL.len());
        for program in ALL {
            assert!(program.p1_bytes().unwrap().starts_with(CORE_MODULE), "{}", program.p1);
            assert!(program.p2_bytes().unwrap().starts_with(COMPONENT), "{}", program.p2);
        }
        for component in COMPONENTS {
            assert!(fs::read(component.path).unwrap().starts_with(COMPONENT), "{}", component.path);
        }
    }

    #[test]
    fn samples_stay_small() {
        for program in ALL {
            for bytes in [program.p1_bytes().unwrap(), program.p2_bytes().unwrap()] {
                assert!(bytes.len() < 256 << 10, "{} has {} bytes", program.name, bytes.len());
            }
        }
    }

    #[test]
    fn the_demo_embeds_what_was_built() {
        for (program, p1, p2) in [
            (RENDER_TILE, RENDER_TILE_P1_WASM, RENDER_TILE_P2_WASM),
            (WORDCOUNT_MAP, WORDCOUNT_MAP_P1_WASM, WORDCOUNT_MAP_P2_WASM),
            (WORDCOUNT_REDUCE, WORDCOUNT_REDUCE_P1_WASM, WORDCOUNT_REDUCE_P2_WASM),
        ] {
            assert_eq!(program.p1_bytes().unwrap(), p1);
            assert_eq!(program.p2_bytes().unwrap(), p2);
        }
    }

    #[test]
    fn foreach_sample_visits_what_all_lists() {
        let mut visited = Vec::new();
        macro_rules! visit {
            ($name:ident) => {
                visited.push(stringify!($name).replace('_', "-"));
            };
        }
        foreach_sample!(visit);
        assert_eq!(visited, ALL.iter().map(|program| program.name).collect::<Vec<_>>());
    }

    #[test]
    fn samples_are_found_by_name() {
        assert_eq!(find("exit-code"), Some(&EXIT_CODE));
        assert_eq!(find("exit_code"), None);
    }
}
