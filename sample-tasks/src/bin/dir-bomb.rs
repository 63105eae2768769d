//! A directory with as many names as allowed, listed over and over without ever finishing a listing. `dir-bomb`
//!
//! Prints how many names there are and how many listings it began.

use std::fs::{self, File};

fn main() {
    let mut names = 0;
    while File::create(format!("a-name-that-is-not-short-{names:0>100}")).is_ok() {
        names += 1;
    }
    let mut listings = Vec::new();
    while listings.len() < 2000 {
        match fs::read_dir("/").map(|mut listing| listing.next().is_some().then_some(listing)) {
            Ok(Some(listing)) => listings.push(listing),
            _ => break,
        }
    }
    println!("{names} names, {} listings", listings.len());
}
