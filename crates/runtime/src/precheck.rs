//! What a module may ask of the compiler, counted before the compiler sees it.
//!
//! The time and memory of a compiler grow faster than the module: with the size of a function, with its locals times its
//! branches, with what has to be sorted or laid out. The rules of Wasm allow far more than any program has (a million
//! functions, seven megabytes of code in one of them), so the bounds here are a few times what the largest programs that
//! people run have, and a module beyond one is refused in milliseconds instead of by the worker's death. What passes
//! and still takes too much meets the worker's own limits ([`crate::CompileLimits`]).

use wasmparser::{BinaryReaderError, FunctionBody, Operator, Parser, Payload};

/// Bytes of code in one function. Optimised interpreters have functions of some 300 KiB.
pub const MAX_FUNCTION_BYTES: u64 = 1 << 20;

/// Locals of one function, parameters not counted. Unoptimised code of large functions has some thousands.
pub const MAX_LOCALS: u64 = 20_000;

/// Blocks nested in one another. A switch of a thousand cases makes a thousand; the compiler's time grows with the square.
pub const MAX_BLOCK_DEPTH: u64 = 10_000;

/// Functions with a body, over all modules of a component. A Python interpreter has some 15,000.
pub const MAX_FUNCTIONS: u64 = 200_000;

/// Types, over all modules of a component. Runners keep them registered.
pub const MAX_TYPES: u64 = 50_000;

/// Imports, over all modules of a component.
pub const MAX_IMPORTS: u64 = 20_000;

/// Exports, over all modules of a component. Runners keep their names.
pub const MAX_EXPORTS: u64 = 100_000;

/// Elements that one table has from the start: what a slot of the pool has room for.
pub const MAX_TABLE_ELEMENTS: u64 = 100_000;

/// Elements in the segments that fill tables, over all modules of a component.
pub const MAX_SEGMENT_ELEMENTS: u64 = 1_000_000;

/// Modules and components within a component.
pub const MAX_NESTED: u64 = 500;

/// How deep components may be nested.
pub const MAX_DEPTH: u64 = 16;

/// A module asks more of the compiler than is allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("module has {what} {asked}; the limit is {limit} (limit {name})")]
pub struct OverLimit {
    /// What was counted, such as "functions:".
    pub what: String,
    /// How many there are.
    pub asked: u64,
    /// How many there may be.
    pub limit: u64,
    /// The limit's name.
    pub name: &'static str,
}

/// Counts what a module asks. What cannot be read is left to the validator.
///
/// # Errors
/// The first limit that is exceeded.
pub(crate) fn check(bytes: &[u8]) -> Result<(), OverLimit> {
    let mut counts = Counts::default();
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(Stop::from).and_then(|payload| counts.add(payload)) {
            Ok(()) => {}
            Err(Stop::Over(over)) => return Err(over),
            Err(Stop::Unreadable) => return Ok(()),
        }
    }
    Ok(())
}

enum Stop {
    Over(OverLimit),
    Unreadable,
}

impl From<BinaryReaderError> for Stop {
    fn from(_error: BinaryReaderError) -> Stop {
        Stop::Unreadable
    }
}

#[derive(Default)]
struct Counts {
    functions: u64,
    bodies: u64,
    types: u64,
    imports: u64,
    exports: u64,
    elements: u64,
    nested: u64,
    depth: u64,
}

fn within(name: &'static str, what: &str, asked: u64, limit: u64) -> Result<(), Stop> {
    if asked <= limit {
        return Ok(());
    }
    Err(Stop::Over(OverLimit { what: what.to_owned(), asked, limit, name }))
}

/// Adds to a count that is bounded.
fn add(count: &mut u64, more: u32, name: &'static str, what: &str, limit: u64) -> Result<(), Stop> {
    *count += u64::from(more);
    within(name, what, *count, limit)
}

impl Counts {
    fn add(&mut self, payload: Payload<'_>) -> Result<(), Stop> {
        match payload {
            Payload::FunctionSection(section) => {
                add(&mut self.functions, section.count(), "functions", "functions:", MAX_FUNCTIONS)
            }
            Payload::TypeSection(section) => add(&mut self.types, section.count(), "types", "types:", MAX_TYPES),
            Payload::ComponentTypeSection(section) => {
                add(&mut self.types, section.count(), "types", "types:", MAX_TYPES)
            }
            Payload::CoreTypeSection(section) => add(&mut self.types, section.count(), "types", "types:", MAX_TYPES),
            Payload::ImportSection(section) => {
                add(&mut self.imports, section.count(), "imports", "imports:", MAX_IMPORTS)
            }
            Payload::ComponentImportSection(section) => {
                add(&mut self.imports, section.count(), "imports", "imports:", MAX_IMPORTS)
            }
            Payload::ExportSection(section) => {
                add(&mut self.exports, section.count(), "exports", "exports:", MAX_EXPORTS)
            }
            Payload::ComponentExportSection(section) => {
                add(&mut self.exports, section.count(), "exports", "exports:", MAX_EXPORTS)
            }
            Payload::TableSection(section) => {
                for table in section {
                    let initial = table?.ty.initial;
                    within("table-elements", "a table with elements:", initial, MAX_TABLE_ELEMENTS)?;
                }
                Ok(())
            }
            Payload::ElementSection(section) => {
                for segment in section {
                    let count = match segment?.items {
                        wasmparser::ElementItems::Functions(items) => items.count(),
                        wasmparser::ElementItems::Expressions(_, items) => items.count(),
                    };
                    let what = "elements in segments:";
                    add(&mut self.elements, count, "segment-elements", what, MAX_SEGMENT_ELEMENTS)?;
                }
                Ok(())
            }
            Payload::CodeSectionEntry(body) => self.body(&body),
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => {
                self.depth += 1;
                within("depth", "components nested to the depth", self.depth, MAX_DEPTH)?;
                add(&mut self.nested, 1, "nested", "modules and components within it:", MAX_NESTED)
            }
            Payload::End(_) => {
                self.depth = self.depth.saturating_sub(1);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn body(&mut self, body: &FunctionBody<'_>) -> Result<(), Stop> {
        let position = self.bodies;
        self.bodies += 1;
        let bytes = body.as_bytes().len() as u64;
        if bytes > MAX_FUNCTION_BYTES {
            return within("function-bytes", &format!("function body {position} of bytes:"), bytes, MAX_FUNCTION_BYTES);
        }
        let mut locals = 0;
        for group in body.get_locals_reader()? {
            let (count, _type) = group?;
            locals += u64::from(count);
        }
        if locals > MAX_LOCALS {
            return within("locals", &format!("function body {position} with locals:"), locals, MAX_LOCALS);
        }
        // A block has at least two bytes to begin and one to end with: small functions need no look.
        if bytes > 3 * MAX_BLOCK_DEPTH {
            let depth = block_depth(body)?;
            let what = format!("function body {position} with blocks nested to the depth");
            within("block-depth", &what, depth, MAX_BLOCK_DEPTH)?;
        }
        Ok(())
    }
}

/// How deep the blocks of a function are nested, counted up to the first that is too deep.
fn block_depth(body: &FunctionBody<'_>) -> Result<u64, BinaryReaderError> {
    let (mut depth, mut deepest) = (0u64, 0u64);
    let mut operators = body.get_operators_reader()?;
    while !operators.eof() && deepest <= MAX_BLOCK_DEPTH {
        match operators.read()? {
            Operator::Block { .. }
            | Operator::Loop { .. }
            | Operator::If { .. }
            | Operator::Try { .. }
            | Operator::TryTable { .. } => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            Operator::End => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(deepest)
}
