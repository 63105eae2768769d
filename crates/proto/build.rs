//! Turns `/proto` into Rust without `protoc`, and keeps the descriptors for the reflection service and the renumbering test.

use std::error::Error;
use std::path::{Path, PathBuf};

use prost::Message;

const FILES: [&str; 8] = ["types", "scheduler", "agent", "bulk", "blobs", "operator", "runner", "store"];

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto");
    println!("cargo:rerun-if-changed={}", root.join("holm/v1").display());
    let files = FILES.map(|name| format!("holm/v1/{name}.proto"));
    let descriptors = protox::compile(files, [&root])?;
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    std::fs::write(out.join("holm.fds"), descriptors.encode_to_vec())?;
    // No `transport` constructors: their name `connect` is that of our own rpc. Clients are made with `new(channel)`.
    let builder = tonic_prost_build::configure().build_transport(false).bytes(".").btree_map(".");
    builder.compile_fds(descriptors)?;
    Ok(())
}
