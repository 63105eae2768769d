//! Modules too strange or too large to be written as text, put together byte by byte.

/// An unsigned number as Wasm has it.
pub(crate) fn number(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let (low, rest) = ((value & 0x7f) as u8, value >> 7);
        bytes.push(if rest == 0 { low } else { low | 0x80 });
        value = rest;
        if value == 0 {
            return bytes;
        }
    }
}

/// Bytes after their length.
pub(crate) fn sized(bytes: &[u8]) -> Vec<u8> {
    [&number(bytes.len() as u64), bytes].concat()
}

/// Items after their number.
pub(crate) fn list(items: &[Vec<u8>]) -> Vec<u8> {
    repeated(items.len() as u64, &items.concat())
}

/// Items that are together already, after their number.
pub(crate) fn repeated(count: u64, items: &[u8]) -> Vec<u8> {
    [&number(count), items].concat()
}

/// A section.
pub(crate) fn section(id: u8, content: &[u8]) -> Vec<u8> {
    [&[id][..], &sized(content)].concat()
}

pub(crate) const TYPES: u8 = 1;
pub(crate) const FUNCTIONS: u8 = 3;
pub(crate) const TABLES: u8 = 4;
pub(crate) const MEMORIES: u8 = 5;
pub(crate) const EXPORTS: u8 = 7;
pub(crate) const ELEMENTS: u8 = 9;
pub(crate) const CODE: u8 = 10;
pub(crate) const DATA: u8 = 11;

/// A core module of these sections.
pub(crate) fn module(sections: &[Vec<u8>]) -> Vec<u8> {
    [&b"\0asm\x01\0\0\0"[..], &sections.concat()].concat()
}

/// The type section with `() -> ()` alone.
pub(crate) fn unit_type() -> Vec<u8> {
    section(TYPES, &list(&[vec![0x60, 0, 0]]))
}

/// The export of function 0 as `_start`.
pub(crate) fn start_export() -> Vec<u8> {
    section(EXPORTS, &list(&[[&sized(b"_start")[..], &[0, 0]].concat()]))
}

/// A function body: groups of locals as number and type, then code without its end.
pub(crate) fn body(locals: &[(u64, u8)], code: &[u8]) -> Vec<u8> {
    let groups: Vec<Vec<u8>> = locals.iter().map(|(count, kind)| [&number(*count)[..], &[*kind]].concat()).collect();
    sized(&[&list(&groups)[..], code, &[0x0b]].concat())
}

/// A program of these function bodies, all `() -> ()`; the first is `_start`. `before` are sections between functions
/// and exports.
pub(crate) fn program(bodies: &[Vec<u8>], before: &[Vec<u8>]) -> Vec<u8> {
    program_of(bodies.len() as u64, &bodies.concat(), before)
}

/// As [`program`], with the bodies in one piece.
pub(crate) fn program_of(count: u64, bodies: &[u8], before: &[Vec<u8>]) -> Vec<u8> {
    let functions = repeated(count, &vec![0; usize::try_from(count).unwrap()]);
    let mut sections = vec![unit_type(), section(FUNCTIONS, &functions)];
    sections.extend_from_slice(before);
    sections.extend([start_export(), section(CODE, &repeated(count, bodies))]);
    module(&sections)
}
