//! Strict priority: a role is served only when no role of a higher priority wants anything.
//!
//! Its configuration has one role per line, `ROLE = PRIORITY`, where the higher number goes first and `#` begins a comment. A
//! role without a line has its parent's priority, and one at the top has 0. Frameworks within a role, and roles of the same
//! priority, share fairly as ever.
//!
//! It reads the roles' paths only, so the master calls it when a role appears and not when usage changes.

#![no_std]

extern crate alloc;

mod bindings {
    #![allow(missing_docs, clippy::all, reason = "generated")]

    wit_bindgen::generate!({ path: "../../../wit/policy", world: "policy" });
}

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;

use policy_guest as _;

use bindings::exports::holm::policy::ranking::{Column, Description, Guest, Patch, Values};

/// Priorities by role.
struct Priorities(RefCell<BTreeMap<String, i32>>);

// SAFETY: a policy has one thread, since the world has no way to make another.
unsafe impl Sync for Priorities {}

static PRIORITIES: Priorities = Priorities(RefCell::new(BTreeMap::new()));

/// The priority of a role: its own, or that of the nearest role above that has one.
fn priority(priorities: &BTreeMap<String, i32>, role: &str) -> i32 {
    let mut path = role;
    loop {
        if let Some(priority) = priorities.get(path) {
            return *priority;
        }
        match path.rfind('/') {
            Some(end) => path = &path[..end],
            None => return 0,
        }
    }
}

fn parse(config: &[u8]) -> Result<BTreeMap<String, i32>, String> {
    let text = core::str::from_utf8(config).map_err(|error| format!("the configuration is not text: {error}"))?;
    let mut priorities = BTreeMap::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let number = number + 1;
        let parts = line.split_once('=').ok_or_else(|| format!("line {number}: {line:?} is not ROLE = PRIORITY"))?;
        let (role, text) = (parts.0.trim(), parts.1.trim());
        let priority = text.parse().map_err(|_| format!("line {number}: {role}: {text:?} is not a whole number"))?;
        if priorities.insert(role.to_owned(), priority).is_some() {
            return Err(format!("line {number}: {role} has a priority already"));
        }
    }
    Ok(priorities)
}

struct StrictPriority;

impl Guest for StrictPriority {
    fn describe(config: Vec<u8>) -> Result<Description, String> {
        *PRIORITIES.0.borrow_mut() = parse(&config)?;
        Ok(Description {
            name: "strict priority".to_owned(),
            reads: vec!["roles.path".to_owned()],
            writes: vec!["roles.rank".to_owned()],
        })
    }

    fn rank(changes: Vec<Patch>) -> Result<Vec<Patch>, String> {
        let priorities = PRIORITIES.0.borrow();
        let mut answer = Vec::new();
        for Patch { table, rows, columns, .. } in changes {
            for Column { values, .. } in columns {
                let Values::Texts(paths) = values else { continue };
                // The smaller rank goes first.
                let ranks = paths.iter().map(|path| -f64::from(priority(&priorities, path))).collect();
                let ranks = Column { name: "rank".to_owned(), values: Values::Numbers(ranks) };
                answer.push(Patch {
                    table: table.clone(),
                    removed: Vec::new(),
                    rows: rows.clone(),
                    columns: vec![ranks],
                });
            }
        }
        Ok(answer)
    }
}

bindings::export!(StrictPriority with_types_in bindings);
