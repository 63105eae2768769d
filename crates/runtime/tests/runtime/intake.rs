//! What is no task is refused with a reason a person can use.

use std::os::unix::fs::PermissionsExt;

use holm_model::Reason;
use holm_runtime::{CompileError, LoadError, ModuleKind, Program, compile};

use crate::guests::{component_hello, hello};
use crate::harness::ENGINE;

fn refused(wasm: &[u8]) -> (Reason, String) {
    let error: CompileError = compile(&ENGINE, wasm).map(|compiled| compiled.kind).unwrap_err();
    (error.reason(), error.to_string())
}

fn refused_text(text: &str) -> String {
    let (reason, message) = refused(&wat::parse_str(text).unwrap());
    assert_eq!(reason, Reason::InvalidModule);
    message
}

#[test]
fn an_import_we_do_not_offer_is_named() {
    let message = refused_text(r#"(module (import "env" "launch_missiles" (func)) (func (export "_start")))"#);
    assert!(message.contains(r#""env" "launch_missiles""#), "{message}");
    let message = refused_text(r#"(module (import "env" "memory" (memory 1)) (func (export "_start")))"#);
    assert!(message.contains(r#""env" "memory""#), "{message}");
    let message =
        refused_text(r#"(module (import "wasi_snapshot_preview1" "fd_fly" (func)) (func (export "_start")))"#);
    assert!(message.contains(r#""fd_fly""#), "{message}");
    let message =
        refused_text(r#"(module (import "wasi_snapshot_preview1" "fd_write" (func)) (func (export "_start")))"#);
    assert!(message.contains("fd_write"), "{message}");
    let message = refused_text(r#"(module (import "holm_task" "fly" (func)) (func (export "_start")))"#);
    assert!(message.contains(r#""holm_task" "fly""#), "{message}");
}

#[test]
fn a_components_import_we_do_not_offer_is_named() {
    for import in
        ["wasi:http/outgoing-handler@0.2.0", "acme:db/query", "wasi:cli/teleport@0.2.0", "holm:task/flight@0.1.0"]
    {
        let text = format!(r#"(component (import "{import}" (instance (export "f" (func)))))"#);
        let message = refused_text(&text);
        assert!(message.contains(import), "{message}");
    }
    let text = r#"(component (import "wasi:cli/environment@0.2.0" (instance (export "conjure" (func)))))"#;
    let message = refused_text(text);
    assert!(message.contains("wasi:cli/environment@0.2.0") && message.contains("conjure"), "{message}");
}

#[test]
fn a_module_without_an_entry_point_is_no_task() {
    assert!(refused_text("(module)").contains("_start"));
    assert!(refused_text(r#"(module (func (export "_start") (param i32)))"#).contains("_start"));
    assert!(refused_text("(component)").contains("wasi:cli/run"));
}

#[test]
fn a_truncated_module_is_called_truncated() {
    for text in [hello(), component_hello("0.2.0")] {
        let wasm = wat::parse_str(text).unwrap();
        for length in [9, wasm.len() / 2, wasm.len() - 1] {
            let (reason, message) = refused(&wasm[..length]);
            assert_eq!(reason, Reason::InvalidModule);
            assert!(message.contains("cut off") || message.contains("no "), "{length}: {message}");
        }
    }
}

#[test]
fn an_invalid_module_is_told_where() {
    let wasm = wat::parse_str(r#"(module (func (export "_start") (result i32) i64.const 0))"#).unwrap();
    let (reason, message) = refused(&wasm);
    assert_eq!(reason, Reason::InvalidModule);
    assert!(message.contains("type mismatch") && message.contains("offset"), "{message}");
}

#[test]
fn features_that_are_off_are_named() {
    for (text, word) in [
        (r#"(module (memory 1 1 shared) (func (export "_start")))"#, "shared"),
        (r#"(module (memory i64 1) (func (export "_start")))"#, "memory64"),
    ] {
        let message = refused_text(text);
        assert!(message.contains(word) || message.contains("threads"), "{message}");
    }
}

#[test]
fn native_code_posing_as_a_module_is_refused() {
    let native = compile(&ENGINE, &wat::parse_str(hello()).unwrap()).unwrap().native;
    let (reason, message) = refused(&native);
    assert_eq!(reason, Reason::InvalidModule);
    assert!(message.contains("native code"), "{message}");
}

#[test]
fn native_code_that_others_could_have_written_is_not_loaded() {
    let compiled = compile(&ENGINE, &wat::parse_str(hello()).unwrap()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("native");
    std::fs::write(&path, &compiled.native).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
    let load = |path| Program::load(&ENGINE, path, ModuleKind::Core).map(|program| program.kind());
    assert!(matches!(load(&path), Err(LoadError::Untrusted { .. })));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).unwrap();
    assert_eq!(load(&path).unwrap(), ModuleKind::Core);
    let link = directory.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    assert!(matches!(load(&link), Err(LoadError::Open { .. })));
    assert!(matches!(load(directory.path()), Err(LoadError::Untrusted { .. })));
}

#[test]
fn a_file_that_is_no_native_code_is_not_loaded() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("native");
    std::fs::write(&path, b"\x7fELF and so on").unwrap();
    for kind in [ModuleKind::Core, ModuleKind::Component] {
        let error = Program::load(&ENGINE, &path, kind).map(|program| program.kind()).unwrap_err();
        assert!(matches!(error, LoadError::Unusable { .. }), "{error}");
        // The agent has checked that the file is what was compiled, so what remains is a module that does not fit.
        assert_eq!(error.reason(), Reason::InvalidModule);
    }
}
