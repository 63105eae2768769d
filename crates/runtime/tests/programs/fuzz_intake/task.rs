//! Makes tasks of what wasm-smith generates, and modules that call the host with strange arguments.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use wasmparser::{CompositeInnerType, FuncType, Parser, Payload, ValType};

use crate::random::Random;

/// The order of a module's sections: tags come after memories, the count of data before the code.
const ORDER: [u8; 13] = [1, 2, 3, 4, 5, 13, 6, 7, 8, 9, 12, 10, 11];

/// Functions that `_start` calls, each once: there is fuel for more, but nothing new to see.
const MOST_CALLS: usize = 40;

/// A module without imports, with a `_start` that calls its functions one after another. None if it cannot be read.
pub(crate) fn task_of(bytes: &[u8], random: &mut Random) -> Option<Vec<u8>> {
    let (mut types, mut functions): (Vec<Option<FuncType>>, Vec<u32>) = Default::default();
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.ok()? {
            Payload::TypeSection(section) => {
                for group in section {
                    types.extend(group.ok()?.into_types().map(|kind| match kind.composite_type.inner {
                        CompositeInnerType::Func(function) => Some(function),
                        _ => None,
                    }));
                }
            }
            Payload::FunctionSection(section) => functions = section.into_iter().collect::<Result<_, _>>().ok()?,
            Payload::ImportSection(section) if section.count() > 0 => return None,
            _ => {}
        }
    }
    let signatures: Vec<_> = functions.iter().map(|kind| types.get(*kind as usize).cloned().flatten()).collect();
    let mut sections = sections_of(bytes)?;
    append(&mut sections, 1, &[0x60, 0, 0])?;
    append(&mut sections, 3, &number(types.len()))?;
    append(&mut sections, 10, &start(&signatures, random))?;
    let export = [&sized(b"_start")[..], &[0], &number(functions.len())].concat();
    sections.insert(7, [&number(1)[..], &export].concat());
    let mut module = b"\0asm\x01\0\0\0".to_vec();
    for id in ORDER {
        if let Some(content) = sections.get(&id) {
            module.push(id);
            module.extend(sized(content));
        }
    }
    Some(module)
}

/// The body of `_start`: calls with constants, results dropped. Functions that want a reference which is not null are
/// left out.
fn start(signatures: &[Option<FuncType>], random: &mut Random) -> Vec<u8> {
    let mut code = vec![0];
    let first = random.below(signatures.len());
    let order = (first..signatures.len()).chain(0..first);
    for index in order.take(MOST_CALLS) {
        let Some(signature) = &signatures[index] else { continue };
        let arguments: Option<Vec<Vec<u8>>> = signature.params().iter().map(|kind| constant(*kind, random)).collect();
        let Some(arguments) = arguments else { continue };
        code.extend(arguments.concat());
        code.push(0x10);
        code.extend(number(index));
        code.extend(std::iter::repeat_n(0x1a, signature.results().len()));
    }
    code.push(0x0b);
    sized(&code)
}

fn constant(kind: ValType, random: &mut Random) -> Option<Vec<u8>> {
    // One byte each: numbers around zero.
    let small = random.byte() & 0x7f;
    Some(match kind {
        ValType::I32 => vec![0x41, small],
        ValType::I64 => vec![0x42, small],
        ValType::F32 => [vec![0x43], random.bytes(4)].concat(),
        ValType::F64 => [vec![0x44], random.bytes(8)].concat(),
        ValType::V128 => [vec![0xfd, 12], random.bytes(16)].concat(),
        ValType::Ref(reference) if reference.is_func_ref() => vec![0xd0, 0x70],
        ValType::Ref(reference) if reference.is_extern_ref() => vec![0xd0, 0x6f],
        ValType::Ref(_) => return None,
    })
}

fn append(sections: &mut BTreeMap<u8, Vec<u8>>, id: u8, item: &[u8]) -> Option<()> {
    let content = sections.entry(id).or_insert_with(|| vec![0]);
    let (count, length) = size_at(content)?;
    let rest = content.split_off(length);
    *content = [&number(count + 1)[..], &rest, item].concat();
    Some(())
}

/// The contents of a module's sections but for custom ones.
fn sections_of(bytes: &[u8]) -> Option<BTreeMap<u8, Vec<u8>>> {
    let (mut sections, mut at) = (BTreeMap::new(), 8);
    while at < bytes.len() {
        let (size, header) = size_at(&bytes[at + 1..])?;
        let begin = at + 1 + header;
        sections.insert(bytes[at], bytes.get(begin..begin + size)?.to_vec());
        at = begin + size;
    }
    sections.remove(&0);
    Some(sections)
}

/// A number as Wasm has it, and how many bytes it takes.
pub(crate) fn size_at(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0usize;
    for (position, byte) in bytes.iter().take(5).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * position);
        if byte & 0x80 == 0 {
            return Some((value, position + 1));
        }
    }
    None
}

fn number(value: usize) -> Vec<u8> {
    let (mut bytes, mut value) = (Vec::new(), value);
    loop {
        let low = u8::try_from(value & 0x7f).unwrap();
        value >>= 7;
        bytes.push(if value == 0 { low } else { low | 0x80 });
        if value == 0 {
            return bytes;
        }
    }
}

fn sized(bytes: &[u8]) -> Vec<u8> {
    [&number(bytes.len()), bytes].concat()
}

/// What a task may call, with the types of the parameters: `i` and `l` for 32 and 64 bits.
const CALLS: &[(&str, &str)] = &[
    ("args_get", "ii"),
    ("args_sizes_get", "ii"),
    ("environ_get", "ii"),
    ("environ_sizes_get", "ii"),
    ("clock_res_get", "ii"),
    ("clock_time_get", "ili"),
    ("fd_advise", "illi"),
    ("fd_allocate", "ill"),
    ("fd_close", "i"),
    ("fd_datasync", "i"),
    ("fd_fdstat_get", "ii"),
    ("fd_fdstat_set_flags", "ii"),
    ("fd_fdstat_set_rights", "ill"),
    ("fd_filestat_get", "ii"),
    ("fd_filestat_set_size", "il"),
    ("fd_filestat_set_times", "illi"),
    ("fd_pread", "iiili"),
    ("fd_prestat_get", "ii"),
    ("fd_prestat_dir_name", "iii"),
    ("fd_pwrite", "iiili"),
    ("fd_read", "iiii"),
    ("fd_readdir", "iiili"),
    ("fd_renumber", "ii"),
    ("fd_seek", "ilii"),
    ("fd_sync", "i"),
    ("fd_tell", "ii"),
    ("fd_write", "iiii"),
    ("path_create_directory", "iii"),
    ("path_filestat_get", "iiiii"),
    ("path_filestat_set_times", "iiiilli"),
    ("path_link", "iiiiiii"),
    ("path_open", "iiiiillii"),
    ("path_readlink", "iiiiii"),
    ("path_remove_directory", "iii"),
    ("path_rename", "iiiiii"),
    ("path_symlink", "iiiii"),
    ("path_unlink_file", "iii"),
    ("poll_oneoff", "iiii"),
    ("random_get", "ii"),
    ("sched_yield", ""),
    ("sock_accept", "iii"),
    ("sock_recv", "iiiiii"),
    ("sock_send", "iiiii"),
    ("sock_shutdown", "ii"),
];

/// A module that calls the host in any order with descriptors, pointers and sizes at and beyond every edge.
pub(crate) fn caller(random: &mut Random) -> Vec<u8> {
    const NUMBERS: [i64; 20] = [
        0,
        1,
        2,
        3,
        4,
        7,
        8,
        16,
        47,
        64,
        4096,
        65_528,
        65_535,
        65_536,
        65_537,
        0x7fff_ffff,
        -1,
        -8,
        0x2000_0000,
        1_000_000_000,
    ];
    let mut text = String::from("(module");
    for (at, (name, kinds)) in CALLS.iter().enumerate() {
        let params: Vec<&str> = kinds.chars().map(|kind| if kind == 'l' { "i64" } else { "i32" }).collect();
        let params = if params.is_empty() { String::new() } else { format!("(param {})", params.join(" ")) };
        let _ = write!(text, "(import \"wasi_snapshot_preview1\" \"{name}\" (func $f{at} {params} (result i32)))");
    }
    let bytes: String = random.bytes(200).iter().map(|byte| format!("\\{:02x}", byte & 0x8f)).collect();
    let _ = write!(text, "(memory (export \"memory\") 1 4) (data (i32.const 0) \"{bytes}\")");
    // A vector of buffers in order, for those calls that want one.
    text.push_str("(data (i32.const 256) \"\\00\\02\\00\\00\\10\\00\\00\\00\\f0\\ff\\00\\00\\10\\00\\00\\00\")(func (export \"_start\")");
    for _ in 0..1 + random.below(60) {
        let at = random.below(CALLS.len());
        text.push_str("(drop (call $f");
        let _ = write!(text, "{at}");
        for kind in CALLS[at].1.chars() {
            let value = if random.below(3) == 0 { 256 } else { *random.pick(&NUMBERS) };
            let _ = match kind {
                'l' => write!(text, "(i64.const {value})"),
                _ => write!(text, "(i32.const {value})"),
            };
        }
        text.push_str("))");
    }
    text.push_str("))");
    wat::parse_str(text).unwrap()
}
