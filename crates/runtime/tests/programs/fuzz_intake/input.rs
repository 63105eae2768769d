//! Inputs: modules that wasm-smith makes, sample tasks and seeds from the corpus, and all of these with bytes changed.

use std::panic::{AssertUnwindSafe, catch_unwind};

use arbitrary::{Arbitrary, Unstructured};
use wasm_smith::{Config, Module};

use crate::random::Random;
use crate::task;

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

/// The inputs of one seed.
pub(crate) struct Inputs {
    seed: u64,
    corpus: Vec<Vec<u8>>,
    samples: Vec<Vec<u8>>,
}

impl Inputs {
    pub(crate) fn new(seed: u64) -> Inputs {
        let parse = |text: &&str| wat::parse_str(text).unwrap();
        let samples = holm_test_programs::ALL.iter();
        let samples = samples.flat_map(|sample| [sample.p1_bytes().unwrap(), sample.p2_bytes().unwrap()]);
        Inputs { seed, corpus: CORPUS.iter().map(parse).collect(), samples: samples.collect() }
    }

    /// Input `number`, always the same.
    pub(crate) fn make(&self, number: u64) -> Vec<u8> {
        if let Some(seed) = self.corpus.get(usize::try_from(number).unwrap()) {
            return seed.clone();
        }
        let mut random = Random::new(self.seed, number);
        match random.below(20) {
            0..=7 => generated(&mut random, true),
            8 => generated(&mut random, false),
            9..=10 => {
                let module = generated(&mut random, true);
                mutated(module, &mut random)
            }
            11..=12 => task::caller(&mut random),
            13 => {
                let module = task::caller(&mut random);
                mutated(module, &mut random)
            }
            14..=16 => mutated(random.pick(&self.corpus).clone(), &mut random),
            _ => mutated(random.pick(&self.samples).clone(), &mut random),
        }
    }
}

/// A valid module. A tame one has only what tasks may have, and is made one that runs.
fn generated(random: &mut Random, tame: bool) -> Vec<u8> {
    let length = 64 << random.below(8);
    let bytes = random.bytes(length);
    let mut source = Unstructured::new(&bytes);
    let mut config = Config::arbitrary(&mut source).unwrap();
    config.max_instructions = 400;
    config.max_funcs = config.max_funcs.clamp(1, 60);
    if tame {
        config.max_imports = 0;
        config.min_funcs = 1;
        config.threads_enabled = false;
        config.shared_everything_threads_enabled = false;
        config.memory64_enabled = false;
        config.max_memories = 2;
        config.max_tables = config.max_tables.min(4);
        config.max_table_elements = 10_000;
        config.max_memory32_bytes = 16 << 20;
        config.disallow_traps = random.below(2) == 0;
    }
    // The generator has its own faults; they are not what is looked for.
    let module = catch_unwind(AssertUnwindSafe(|| Module::new(config, &mut source).map(|module| module.to_bytes())));
    let Ok(Ok(module)) = module else { return bytes };
    let task = if tame { task::task_of(&module, random) } else { None };
    task.unwrap_or(module)
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
        let Some((size, header)) = task::size_at(&bytes[at + 1..]) else { break };
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
