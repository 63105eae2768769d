//! Builds every package of `sample-tasks/` once per target, and writes the tables that `lib.rs` includes.
//!
//! The guests get a target directory of their own below `OUT_DIR`: the outer build holds the lock of its own one.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const P1: &str = "wasm32-wasip1";
const P2: &str = "wasm32-wasip2";

/// Guests whose bytes are embedded wherever this crate is linked: what `holm demo` runs.
const EMBEDDED: [&str; 3] = ["render-tile", "wordcount-map", "wordcount-reduce"];

/// What the outer cargo tells the build of *this* crate, and what would be wrong for another target. The rest of the environment
/// stays: proxies, registries, the toolchain, the job server.
const NOT_FOR_GUESTS: [&str; 16] = [
    "CARGO_BUILD_",
    "CARGO_CFG_",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_FEATURE_",
    "CARGO_INCREMENTAL",
    "CARGO_MANIFEST_",
    "CARGO_PKG_",
    "CARGO_PRIMARY_PACKAGE",
    "CARGO_PROFILE_",
    "CARGO_RESOLVER_",
    "CARGO_TARGET_",
    "CARGO_UNSTABLE_",
    "CLIPPY_ARGS",
    "RUSTC",
    "RUSTDOC",
    "RUSTFLAGS",
];

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        // One line instead of a backtrace.
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let out = PathBuf::from(variable("OUT_DIR")?);
    let manifest = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let samples =
        manifest.join("../../sample-tasks").canonicalize().map_err(|error| format!("sample-tasks: {error}"))?;
    for part in ["Cargo.toml", "Cargo.lock", "src", "crates", "wat"] {
        println!("cargo::rerun-if-changed={}", samples.join(part).display());
    }
    println!("cargo::rerun-if-changed={}", manifest.join("../../wit").display());

    require_targets()?;
    let target_dir = out.join("guests");
    // A policy is built without the standard library, and by itself: with others cargo would give its dependencies the features
    // that those ask for, the standard library among them.
    let bare = bare(&samples)?;
    let apart: Vec<String> = bare.iter().flat_map(|name| ["--exclude".to_owned(), name.clone()]).collect();
    let alone: Vec<String> = bare.iter().flat_map(|name| ["--package".to_owned(), name.clone()]).collect();
    let apart: Vec<&str> = apart.iter().map(String::as_str).collect();
    let alone: Vec<&str> = alone.iter().map(String::as_str).collect();
    build(&samples, &target_dir, P1, &[&["--workspace", "--bins"], &apart[..]].concat())?;
    build(&samples, &target_dir, P2, &[&["--workspace"], &apart[..]].concat())?;
    build(&samples, &target_dir, P2, &alone)?;

    let programs = programs(&samples)?;
    let components = components(&samples)?;
    let code = generate(&target_dir, &programs, &components)? + &texts(&samples)?;
    fs::write(out.join("programs.rs"), code).map_err(|error| format!("programs.rs: {error}"))
}

fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|error| format!("{name}: {error}"))
}

/// Without this rustc's answer would be a page about `std` not being found.
fn require_targets() -> Result<(), String> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let printed = Command::new(rustc).args(["--print", "sysroot"]).output();
    let printed = printed.map_err(|error| format!("rustc --print sysroot: {error}"))?;
    let sysroot = PathBuf::from(String::from_utf8_lossy(&printed.stdout).trim());
    let missing = |target: &&str| !sysroot.join("lib/rustlib").join(target).join("lib").is_dir();
    match [P1, P2].into_iter().filter(missing).collect::<Vec<_>>() {
        missing if missing.is_empty() => Ok(()),
        missing => Err(format!("the Rust target {} is not installed: run `cargo xtask setup`", missing.join(" and "))),
    }
}

fn build(samples: &Path, target_dir: &Path, target: &str, what: &[&str]) -> Result<(), String> {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in env::vars_os() {
        let outer = name.to_str().is_some_and(|name| NOT_FOR_GUESTS.iter().any(|prefix| name.starts_with(prefix)));
        if outer {
            command.env_remove(name);
        }
    }
    command
        .current_dir(samples)
        .args(["build", "--quiet", "--release", "--locked", "--target", target])
        .args(what)
        .arg("--target-dir")
        .arg(target_dir);
    let output = command.output().map_err(|error| format!("cargo build in sample-tasks: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    Err(format!("the sample tasks do not build for {target}"))
}

/// The samples: one per file in `sample-tasks/src/bin`, by name.
fn programs(samples: &Path) -> Result<Vec<String>, String> {
    let mut names = Vec::new();
    for path in listed(&samples.join("src/bin"))? {
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        let name = stem.filter(|_| path.extension().is_some_and(|extension| extension == "rs"));
        let name = name.ok_or_else(|| format!("sample-tasks/src/bin holds what is no sample: {}", path.display()))?;
        names.push(name.to_owned());
    }
    Ok(names)
}

/// Packages of a world of their own: the ones below `sample-tasks/crates` whose library is a `cdylib`, by directory name.
fn components(samples: &Path) -> Result<Vec<String>, String> {
    let mut names = Vec::new();
    for path in listed(&samples.join("crates"))? {
        let manifest =
            fs::read_to_string(path.join("Cargo.toml")).map_err(|error| format!("{}: {error}", path.display()))?;
        if manifest.lines().any(|line| line.starts_with("crate-type") && line.contains("cdylib")) {
            names.extend(path.file_name().map(|name| name.to_string_lossy().into_owned()));
        }
    }
    Ok(names)
}

/// Packages below `sample-tasks/crates` that do without the standard library, by directory name.
fn bare(samples: &Path) -> Result<Vec<String>, String> {
    let mut names = Vec::new();
    for path in listed(&samples.join("crates"))? {
        let source = path.join("src/lib.rs");
        let code = fs::read_to_string(&source).map_err(|error| format!("{}: {error}", source.display()))?;
        if code.lines().any(|line| line == "#![no_std]") {
            names.extend(path.file_name().map(|name| name.to_string_lossy().into_owned()));
        }
    }
    Ok(names)
}

/// Guests in text form: a constant for each file of `sample-tasks/wat`.
fn texts(samples: &Path) -> Result<String, String> {
    let mut code = String::new();
    for path in listed(&samples.join("wat"))? {
        let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().to_owned();
        if path.extension().is_none_or(|extension| extension != "wat") {
            return Err(format!("sample-tasks/wat holds what is no text of a module: {}", path.display()));
        }
        let constant = name.replace('-', "_").to_uppercase();
        let text = format!(
            "/// The guest `sample-tasks/wat/{name}.wat`, as text.\npub const {constant}_WAT: &str = include_str!({path:?});\n"
        );
        code.push_str(&text);
    }
    Ok(code)
}

fn listed(dir: &Path) -> Result<Vec<PathBuf>, String> {
    let entries =
        fs::read_dir(dir).and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>, _>>());
    let mut paths = entries.map_err(|error| format!("{}: {error}", dir.display()))?;
    paths.sort();
    Ok(paths)
}

fn generate(target_dir: &Path, programs: &[String], components: &[String]) -> Result<String, String> {
    let built = |target: &str, name: &str| {
        let path = target_dir.join(target).join("release").join(format!("{name}.wasm"));
        if path.is_file() { Ok(path) } else { Err(format!("{} was not built", path.display())) }
    };
    let ident = |name: &str| name.replace('-', "_");
    let constant = |name: &str| ident(name).to_uppercase();
    let mut code = String::new();
    let mut line = |text: String| writeln!(code, "{text}").map_err(|error| error.to_string());
    for name in programs {
        let (p1, p2) = (built(P1, name)?, built(P2, name)?);
        line(format!("/// The sample task `{name}` (`sample-tasks/src/bin/{name}.rs`)."))?;
        line(format!("pub const {}: Program = Program {{ name: {name:?}, p1: {p1:?}, p2: {p2:?} }};", constant(name)))?;
        for (world, path) in [("P1", p1), ("P2", p2)].into_iter().filter(|_| EMBEDDED.contains(&name.as_str())) {
            line(format!("/// The bytes of `{name}`, built for {}.", if world == "P1" { P1 } else { P2 }))?;
            line(format!("pub static {}_{world}_WASM: &[u8] = include_bytes!({path:?});", constant(name)))?;
        }
    }
    for name in components {
        let path = built(P2, &ident(name))?;
        line(format!("/// The component `{name}` (`sample-tasks/crates/{name}`)."))?;
        line(format!("pub const {}: Component = Component {{ name: {name:?}, path: {path:?} }};", constant(name)))?;
        line(format!("/// The bytes of the component `{name}`."))?;
        line(format!("pub static {}_WASM: &[u8] = include_bytes!({path:?});", constant(name)))?;
    }
    let table = |names: &[String]| names.iter().map(|name| constant(name)).collect::<Vec<_>>().join(", ");
    line("/// Every sample task, by name.".to_owned())?;
    line(format!("pub const ALL: &[Program] = &[{}];", table(programs)))?;
    line("/// Every component with a world of its own, by name.".to_owned())?;
    line(format!("pub const COMPONENTS: &[Component] = &[{}];", table(components)))?;
    line("/// Expands `$each!(sample_name);` for every sample task.".to_owned())?;
    line("#[macro_export]".to_owned())?;
    let calls: String = programs.iter().map(|name| format!("$each!({}); ", ident(name))).collect();
    line(format!("macro_rules! foreach_sample {{ ($each:ident) => {{ {calls}}}; }}"))?;
    Ok(code)
}
