//! Inputs: modules that wasm-smith makes, sample tasks and seeds from the corpus, and all of these with bytes changed.

use arbitrary::{Arbitrary, Unstructured};
use wasm_smith::{Config, Module};

use crate::random::Random;

/// Modules in text form whose features are worth meeting often.
const CORPUS: &[&str] = &[
    include_str!("corpus/bulk.wat"),
    include_str!("corpus/calls.wat"),
    include_str!("corpus/component.wat"),
    include_str!("corpus/exceptions.wat"),
    include_str!("corpus/floats.wat"),
    include_str!("corpus/gc.wat"),
    include_str!("corpus/hostcalls.wat"),
    include_str!("corpus/memories.wat"),
    include_str!("corpus/simd.wat"),
    include_str!("corpus/tables.wat"),
];

/// What generated modules may import.
const IMPORTS: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_read" (func (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_close" (func (param i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_seek" (func (param i32 i64 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_prestat_dir_name" (func (param i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_readdir" (func (param i32 i32 i32 i64 i32) (result i32)))
    (import "wasi_snapshot_preview1" "path_open"
        (func (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "clock_time_get" (func (param i32 i64 i32) (result i32)))
    (import "wasi_snapshot_preview1" "poll_oneoff" (func (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "random_get" (func (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "args_get" (func (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "environ_sizes_get" (func (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "sched_yield" (func (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func (param i32)))
    (import "holm_task" "stop_requested" (func (result i32))))"#;

/// What makes a generated module a task. Host calls want a memory.
const EXPORTS: &str = r#"(module (memory (export "memory") 1) (func (export "_start")))"#;

/// The inputs of one seed.
pub(crate) struct Inputs {
    seed: u64,
    imports: Vec<u8>,
    exports: Vec<u8>,
    corpus: Vec<Vec<u8>>,
    samples: Vec<Vec<u8>>,
}

impl Inputs {
    pub(crate) fn new(seed: u64) -> Inputs {
        let parse = |text: &&str| wat::parse_str(text).unwrap();
        let samples = holm_test_programs::ALL.iter();
        let samples = samples.flat_map(|sample| [sample.p1_bytes().unwrap(), sample.p2_bytes().unwrap()]);
        Inputs {
            seed,
            imports: parse(&IMPORTS),
            exports: parse(&EXPORTS),
            corpus: CORPUS.iter().map(parse).collect(),
            samples: samples.collect(),
        }
    }

    /// Input `number`, always the same.
    pub(crate) fn make(&self, number: u64) -> Vec<u8> {
        if let Some(seed) = self.corpus.get(usize::try_from(number).unwrap()) {
            return seed.clone();
        }
        let mut random = Random::new(self.seed, number);
        match random.below(20) {
            0..=9 => self.generated(&mut random, true),
            10..=11 => self.generated(&mut random, false),
            12..=13 => {
                let module = self.generated(&mut random, true);
                mutated(module, &mut random)
            }
            14..=16 => mutated(random.pick(&self.corpus).clone(), &mut random),
            _ => mutated(random.pick(&self.samples).clone(), &mut random),
        }
    }

    /// A valid module. A tame one has only what tasks may have, so that it comes to run.
    fn generated(&self, random: &mut Random, tame: bool) -> Vec<u8> {
        let length = 64 << random.below(8);
        let bytes = random.bytes(length);
        let mut source = Unstructured::new(&bytes);
        let mut config = Config::arbitrary(&mut source).unwrap();
        config.max_instructions = 400;
        config.max_funcs = config.max_funcs.min(60);
        if tame {
            config.available_imports = Some(self.imports.clone());
            config.exports = Some(self.exports.clone());
            config.threads_enabled = false;
            config.shared_everything_threads_enabled = false;
            config.memory64_enabled = false;
            config.max_memories = 2;
            config.max_tables = config.max_tables.min(4);
            config.max_table_elements = 10_000;
            config.max_memory32_bytes = 16 << 20;
            config.disallow_traps = random.below(2) == 0;
        }
        Module::new(config, &mut source).map_or_else(|_exhausted| bytes.clone(), |module| module.to_bytes())
    }
}

/// The same with some bytes changed: single ones, numbers, ranges, whole sections.
fn mutated(mut bytes: Vec<u8>, random: &mut Random) -> Vec<u8> {
    const NUMBERS: [&[u8]; 6] = [
        &[0xff, 0xff, 0xff, 0xff, 0x0f],
        &[0xff, 0xff, 0xff, 0xff, 0x07],
        &[0x80, 0x80, 0x80, 0x80, 0x08],
        &[0x80, 0x80, 0x04],
        &[0x7f],
        &[0x00],
    ];
    for _ in 0..=random.below(6) {
        // Past the header most of the time, so that it stays Wasm.
        let start = if random.below(50) == 0 { 0 } else { 8.min(bytes.len()) };
        let at = start + random.below(bytes.len() - start);
        let length = 1 + random.below(16).min(bytes.len() - at);
        match random.below(9) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            1 if at < bytes.len() => bytes[at] = random.byte(),
            2 => drop(bytes.drain(at..(at + length).min(bytes.len()))),
            3 => {
                let more = random.bytes(length);
                bytes.splice(at..at, more);
            }
            4 => {
                let range = bytes[at..(at + length).min(bytes.len())].to_vec();
                let to = start + random.below(bytes.len() - start);
                bytes.splice(to..to, range);
            }
            5 => {
                let number = *random.pick(&NUMBERS);
                bytes.splice(at..(at + number.len()).min(bytes.len()), number.iter().copied());
            }
            6 => swap_sections(&mut bytes, random),
            7 if random.below(10) == 0 => bytes.truncate(at),
            _ if at < bytes.len() => bytes[at] = bytes[at].wrapping_add(1),
            _ => {}
        }
    }
    bytes
}

/// Exchanges, repeats or drops whole sections.
fn swap_sections(bytes: &mut Vec<u8>, random: &mut Random) {
    let mut sections = Vec::new();
    let mut at = 8;
    while at < bytes.len() {
        let Some((size, header)) = size_at(&bytes[at + 1..]) else { break };
        let end = (at + 1 + header).saturating_add(size).min(bytes.len());
        sections.push(bytes[at..end].to_vec());
        at = end;
    }
    if sections.is_empty() {
        return;
    }
    let (one, other) = (random.below(sections.len()), random.below(sections.len()));
    match random.below(3) {
        0 => sections.swap(one, other),
        1 => sections.insert(other, sections[one].clone()),
        _ => drop(sections.remove(one)),
    }
    bytes.truncate(8);
    bytes.extend(sections.concat());
}

/// A number as Wasm has it, and how many bytes it takes.
fn size_at(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0usize;
    for (position, byte) in bytes.iter().take(5).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * position);
        if byte & 0x80 == 0 {
            return Some((value, position + 1));
        }
    }
    None
}
