//! A policy that misbehaves in the way its configuration names: what the master must survive.
//!
//! It reads `roles.path` and writes `roles.rank`. A configuration of two words misbehaves only from the second call on, in the way of
//! the second word: `good spin`.

#![no_std]

extern crate alloc;

mod bindings {
    #![allow(missing_docs, clippy::all, reason = "generated")]

    wit_bindgen::generate!({ path: "../../../wit/policy", world: "policy" });
}

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;

use policy_guest as _;

use bindings::exports::holm::policy::ranking::{Column, Description, Guest, Patch, Values};

/// How it misbehaves in the next calls.
struct Ways(RefCell<Vec<String>>);

// SAFETY: a policy has one thread, since the world has no way to make another.
unsafe impl Sync for Ways {}

static WAYS: Ways = Ways(RefCell::new(Vec::new()));

fn spin() {
    let mut turns = 0_u64;
    loop {
        turns = core::hint::black_box(turns.wrapping_add(1));
    }
}

fn grow() {
    let mut held = Vec::new();
    loop {
        held.push(core::hint::black_box(vec![1_u8; 1 << 20]));
    }
}

/// An answer that ranks `rows` of `table` in `column`.
fn answer(table: &str, column: &str, rows: Vec<u32>, ranks: Vec<f64>) -> Vec<Patch> {
    let column = Column { name: column.to_owned(), values: Values::Numbers(ranks) };
    vec![Patch { table: table.to_owned(), removed: Vec::new(), rows, columns: vec![column] }]
}

struct Rogue;

impl Guest for Rogue {
    fn describe(config: Vec<u8>) -> Result<Description, String> {
        let text = String::from_utf8_lossy(&config).into_owned();
        let ways: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        let mut description = Description {
            name: "rogue".to_owned(),
            reads: vec!["roles.path".to_owned()],
            writes: vec!["roles.rank".to_owned()],
        };
        match ways.first().map(String::as_str) {
            None => return Err("no way to misbehave is given".to_owned()),
            Some("spin-in-describe") => spin(),
            Some("reads-nonsense") => description.reads.push("roles.colour".to_owned()),
            Some("writes-nonsense") => description.writes.push("roles.path".to_owned()),
            Some("reads-everything") => description.reads = vec!["roles.path".to_owned(); 65],
            Some("nameless") => description.name = String::new(),
            _ => {}
        }
        *WAYS.0.borrow_mut() = ways;
        Ok(description)
    }

    fn rank(changes: Vec<Patch>) -> Result<Vec<Patch>, String> {
        let mut ways = WAYS.0.borrow_mut();
        let way = if ways.len() > 1 { ways.remove(0) } else { ways[0].clone() };
        let rows: Vec<u32> = changes.iter().flat_map(|patch| patch.rows.iter().copied()).collect();
        let ranks: Vec<f64> = rows.iter().map(|row| f64::from(*row)).collect();
        let count = rows.len();
        Ok(match way.as_str() {
            "trap" => core::arch::wasm32::unreachable(),
            "spin" => {
                spin();
                Vec::new()
            }
            "grow" => {
                grow();
                Vec::new()
            }
            "give-up" => return Err(format!("as told, at {count} rows")),
            "row-nobody-told" => answer("roles", "rank", vec![1_000_000], vec![0.0]),
            "row-twice" => answer("roles", "rank", vec![0, 0], vec![0.0, 1.0]),
            "too-few-ranks" => answer("roles", "rank", rows, Vec::new()),
            "not-a-number" => answer("roles", "rank", rows, vec![f64::NAN; count]),
            "infinite" => answer("roles", "rank", rows, vec![f64::NEG_INFINITY; count]),
            "other-column" => answer("roles", "weight", rows, ranks),
            "other-table" => answer("leaves", "rank", rows, ranks),
            "many-patches" => (0..1000).flat_map(|_| answer("roles", "rank", rows.clone(), ranks.clone())).collect(),
            "long-answer" => answer("roles", "rank", vec![0; 8 << 20], Vec::new()),
            _ => answer("roles", "rank", rows, ranks),
        })
    }
}

bindings::export!(Rogue with_types_in bindings);
