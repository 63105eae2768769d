//! Modules made to hurt the compiler: each ends with a reason and the name of what it exceeded, or compiles and then
//! meets the task's own limits.

use std::time::{Duration, Instant};

use holm_model::Reason;
use holm_runtime::{Allocation, CompileLimits, Engine, ModuleKind, compile, precheck};

use crate::encode::{
    CODE, DATA, ELEMENTS, EXPORTS, FUNCTIONS, MEMORIES, TABLES, TYPES, body, list, module, number, program, program_of,
    repeated, section, sized, start_export, unit_type,
};
use crate::harness::{ENGINE, ON_DEMAND, command, program_of as load, run_program};
use crate::worker::judged;

const I32: u8 = 0x7f;
const V128: u8 = 0x7b;
const BLOCK: [u8; 2] = [0x02, 0x40];
const END: u8 = 0x0b;

/// Refused before the compiler sees it: by the count's name, with the value and the limit.
fn refused(wasm: &[u8], name: &str, asked: u64, limit: u64) {
    let error = compile(&ENGINE, wasm).map(|compiled| compiled.kind).unwrap_err();
    let message = error.to_string();
    assert_eq!(error.reason(), Reason::Compile, "{message}");
    let expected = format!("{asked}; the limit is {limit} (limit {name})");
    assert!(message.ends_with(&expected), "{message:?} does not end with {expected:?}");
}

#[test]
fn huge_functions() {
    let nops = vec![0x01; 1_200_000];
    // The number of groups of locals and the end belong to the body.
    let bytes = 1_200_000 + 2;
    refused(&program(&[body(&[], &nops)], &[]), "function-bytes", bytes, precheck::MAX_FUNCTION_BYTES);
}

#[test]
fn many_locals() {
    let groups = [(40_000, I32), (9_999, V128)];
    refused(&program(&[body(&groups, &[])], &[]), "locals", 49_999, precheck::MAX_LOCALS);
}

#[test]
fn a_million_functions() {
    let wasm = program_of(1_000_000, &body(&[], &[]).repeat(1_000_000), &[]);
    refused(&wasm, "functions", 1_000_000, precheck::MAX_FUNCTIONS);
}

#[test]
fn huge_tables_and_segments() {
    let table = |elements: u64| section(TABLES, &list(&[[&[0x70, 0][..], &number(elements)].concat()]));
    let one = [body(&[], &[])];
    refused(&program(&one, &[table(10_000_000)]), "table-elements", 10_000_000, precheck::MAX_TABLE_ELEMENTS);
    let passive = |elements: usize| [&[1, 0][..], &repeated(elements as u64, &vec![0; elements])].concat();
    let segments = section(ELEMENTS, &list(&[passive(700_000), passive(700_000)]));
    let wasm = module(&[
        unit_type(),
        section(FUNCTIONS, &list(&[vec![0]])),
        start_export(),
        segments,
        section(CODE, &list(&one)),
    ]);
    refused(&wasm, "segment-elements", 1_400_000, precheck::MAX_SEGMENT_ELEMENTS);
}

#[test]
fn more_types_imports_and_exports_than_anybody_has() {
    let wasm = module(&[section(TYPES, &repeated(60_000, &[0x60, 0, 0].repeat(60_000)))]);
    refused(&wasm, "types", 60_000, precheck::MAX_TYPES);
    let import = [&sized(b"wasi_snapshot_preview1")[..], &sized(b"sched_yield"), &[0, 0]].concat();
    let wasm = module(&[unit_type(), section(2, &repeated(30_000, &import.repeat(30_000)))]);
    refused(&wasm, "imports", 30_000, precheck::MAX_IMPORTS);
    let exports: Vec<Vec<u8>> =
        (0..150_000u64).map(|at| [&sized(&at.to_le_bytes()[..4])[..], &[0, 0]].concat()).collect();
    let wasm = module(&[unit_type(), section(FUNCTIONS, &list(&[vec![0]])), section(EXPORTS, &list(&exports))]);
    refused(&wasm, "exports", 150_000, precheck::MAX_EXPORTS);
}

#[test]
fn components_nested_a_hundred_deep() {
    let mut wasm = b"\0asm\x0d\0\x01\0".to_vec();
    for _ in 0..100 {
        wasm = [&b"\0asm\x0d\0\x01\0"[..], &section(4, &wasm)].concat();
    }
    refused(&wasm, "depth", precheck::MAX_DEPTH + 1, precheck::MAX_DEPTH);
    let inner = section(1, &module(&[]));
    let wide = [&b"\0asm\x0d\0\x01\0"[..], &inner.repeat(700)].concat();
    refused(&wide, "nested", precheck::MAX_NESTED + 1, precheck::MAX_NESTED);
}

#[test]
fn data_segments_of_a_gigabyte() {
    // One that says it has a gigabyte and ends before.
    let claims = [&[0, 0x41, 0, END][..], &number(1 << 30), b"data"].concat();
    let content = [&number(1)[..], &claims].concat();
    let header = [&[DATA][..], &number((1 << 30) + 20)].concat();
    let memory = section(MEMORIES, &list(&[[&[0][..], &number(16_500)].concat()]));
    let cut = [&program(&[body(&[], &[])], std::slice::from_ref(&memory))[..], &header, &content].concat();
    let error = compile(&ENGINE, &cut).map(|compiled| compiled.kind).unwrap_err();
    assert_eq!(error.reason(), Reason::InvalidModule);
    assert!(error.to_string().contains("cut off"), "{error}");
    // Two bytes that lie a gigabyte apart: that is no gigabyte of native code, and the task's limit judges the memory.
    let at = |offset: &[u8]| [&[0, 0x41][..], offset, &[END], &sized(b"x")].concat();
    let apart = section(DATA, &list(&[at(&[0]), at(&[0xff, 0xff, 0xff, 0xff, 0x03])]));
    let wasm = [&program(&[body(&[], &[])], &[memory])[..], &apart].concat();
    let compiled = compile(&ENGINE, &wasm).unwrap();
    assert!(compiled.native.len() < 1 << 20, "{} bytes of native code", compiled.native.len());
    let status = run_program(&load(&ENGINE, &wasm), command()).status();
    assert_eq!(status.reason, Some(Reason::MemoryLimit), "{}", status.message);
    let asked = 16_500 * 65_536u64;
    assert!(status.message.contains(&asked.to_string()) && status.message.contains("16777216"), "{}", status.message);
}

#[test]
fn jump_tables_beyond_the_rules_of_wasm() {
    let targets = 100_000;
    let code = [&BLOCK[..], &[0x41, 0, 0x0e], &repeated(targets, &vec![0; 100_000]), &[0, END]].concat();
    let result = judged(&program(&[body(&[], &code)], &[]), &CompileLimits::default());
    // Whatever the rules say today: it ends, with a reason that tells.
    if let Err((reason, message)) = result {
        assert!(matches!(reason, Reason::InvalidModule | Reason::Compile) && message.contains("table"), "{message}");
    }
}

#[test]
fn deep_nesting() {
    let nested = |depth: usize| program(&[body(&[], &[BLOCK.repeat(depth), vec![END; depth]].concat())], &[]);
    let limit = precheck::MAX_BLOCK_DEPTH;
    refused(&nested(300_000), "block-depth", limit + 1, limit);
    assert_eq!(judged(&nested(10_000), &CompileLimits::default()), Ok(ModuleKind::Core));
}

/// One function with many locals that change in many branches: each of them may need a value at each join.
fn tangle(locals: u64, blocks: usize) -> Vec<u8> {
    let mut code = Vec::new();
    for at in 0..blocks as u64 {
        let local = number(at % locals);
        // block; local.get; br_if 0; local.get; i32.const 1; i32.add; local.set; end
        code.extend(
            [&BLOCK[..], &[0x20], &local, &[0x0d, 0, 0x20], &local, &[0x41, 1, 0x6a, 0x21], &local, &[END]].concat(),
        );
    }
    let looped = [&[0x03, 0x40][..], &code, &[0x20, 0, 0x0d, 0, END]].concat();
    program(&[body(&[(locals, I32)], &looped)], &[])
}

#[test]
fn a_compilation_over_its_memory_says_so() {
    let limits = CompileLimits { memory_bytes: 400 << 20, ..CompileLimits::default() };
    let (reason, message) = judged(&tangle(10_000, 40_000), &limits).unwrap_err();
    assert_eq!(reason, Reason::Compile);
    assert!(message.contains("419430400 bytes (limit compile-memory)"), "{message}");
}

#[test]
fn a_compilation_over_its_cpu_time_is_ended() {
    let limits = CompileLimits { cpu: Duration::from_secs(1), ..CompileLimits::default() };
    let begin = Instant::now();
    let (reason, message) = judged(&tangle(10_000, 60_000), &limits).unwrap_err();
    assert_eq!(reason, Reason::Compile);
    assert!(message.contains("1 s (limit compile-cpu)"), "{message} after {:?}", begin.elapsed());
}

#[test]
fn native_code_over_its_limit_is_not_kept() {
    let limits = CompileLimits { native_bytes: 1 << 20, ..CompileLimits::default() };
    // Thirty bytes whose memory image is two megabytes.
    let memory = section(MEMORIES, &list(&[[&[0][..], &number(64)].concat()]));
    let at = |offset: &[u8]| [&[0, 0x41][..], offset, &[END], &sized(b"x")].concat();
    let apart = section(DATA, &list(&[at(&[0]), at(&[0x80, 0x80, 0x80, 0x01])]));
    let wasm = [&program(&[body(&[], &[])], &[memory])[..], &apart].concat();
    let (reason, message) = judged(&wasm, &limits).unwrap_err();
    assert_eq!(reason, Reason::Compile);
    assert!(message.contains("the limit is 1048576 (limit compile-output)"), "{message}");
}

#[test]
fn what_a_pool_cannot_hold_is_refused_and_named() {
    let engine = Engine::new(Allocation::Pooled { tasks: 2 }).unwrap();
    let text = r#"(module (memory 1) (memory 1) (memory 1) (memory 1) (memory 1) (func (export "_start")))"#;
    let compiled = compile(&ON_DEMAND, &wat::parse_str(text).unwrap()).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), compiled.native).unwrap();
    let error = holm_runtime::Program::load(&engine, file.path(), compiled.kind).map(drop).unwrap_err();
    assert_eq!(error.reason(), Reason::InvalidModule);
    assert!(error.to_string().contains("memor") && error.to_string().contains("limit"), "{error}");
}
