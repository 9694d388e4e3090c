//! Core modules become components, so that everything runs one way.
//!
//! A program for `wasm32-wasip1` calls `wasi_snapshot_preview1` and starts at `_start`. The adapter of
//! the wasmtime project translates those calls to WASI 0.2; wit-component puts the two together.

use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME as PREVIEW1, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER,
};
use wasmparser::{Parser, Payload};
use wit_component::ComponentEncoder;

/// Names shown in a message before "and N more".
const SHOWN: usize = 5;

/// Wraps a core module for WASI preview 1 into a component that exports `wasi:cli/run@0.2`.
///
/// # Errors
///
/// Why `module` cannot be wrapped, and how to mend it.
pub fn wrap(module: &[u8]) -> Result<Vec<u8>, String> {
    let interface = Interface::read(module)
        .map_err(|error| format!("is damaged or cut off ({error}); build or copy it again"))?;
    interface.check()?;
    ComponentEncoder::default()
        .module(module)
        .and_then(|encoder| encoder.adapter(PREVIEW1, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER))
        .and_then(|encoder| encoder.validate(true).encode())
        .map_err(|error| format!("is a core module that cannot be made a component: {error:#}"))
}

/// What a core module wants and has.
#[derive(Debug, Default)]
struct Interface {
    /// `module.name` of each import, outside of preview 1.
    foreign: Vec<String>,
    start: bool,
    initialize: bool,
    /// Made by wit-bindgen: says in a custom section what its imports are.
    describes_itself: bool,
}

impl Interface {
    fn read(module: &[u8]) -> wasmparser::Result<Self> {
        let mut found = Self::default();
        for payload in Parser::new(0).parse_all(module) {
            match payload? {
                Payload::ImportSection(imports) => {
                    for import in imports.into_imports() {
                        let import = import?;
                        if import.module != PREVIEW1 {
                            found.foreign.push(format!("{}.{}", import.module, import.name));
                        }
                    }
                }
                Payload::ExportSection(exports) => {
                    for export in exports {
                        let export = export?;
                        let func = matches!(export.kind, wasmparser::ExternalKind::Func);
                        found.start |= func && export.name == "_start";
                        found.initialize |= func && export.name == "_initialize";
                    }
                }
                Payload::CustomSection(section) => {
                    found.describes_itself |= section.name().starts_with("component-type");
                }
                _ => {}
            }
        }
        Ok(found)
    }

    fn check(&self) -> Result<(), String> {
        if !self.start {
            let what = if self.initialize { "a library (a reactor: `_initialize`)" } else { "a library" };
            return Err(format!(
                "is a core module without `_start`: {what}, not a program; build it with a `main`, or for the \
                 target wasm32-wasip2"
            ));
        }
        if self.describes_itself || self.foreign.is_empty() {
            return Ok(());
        }
        let hint = if self.foreign.iter().any(|name| name.starts_with("wasi_unstable.")) {
            "`wasi_unstable` is WASI before preview 1; build it with current tools"
        } else if self.foreign.iter().any(|name| name == "env.memory" || name == "wasi.thread-spawn") {
            "threads are not supported; build for wasm32-wasip1 or wasm32-wasip2 instead of wasm32-wasip1-threads"
        } else {
            "a core module gets only wasi_snapshot_preview1; link what is missing, or build a component"
        };
        let shown = self.foreign[..self.foreign.len().min(SHOWN)].join(", ");
        let more = match self.foreign.len().saturating_sub(SHOWN) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        Err(format!("is a core module that imports {shown}{more}: {hint}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrap_text(text: &str) -> Result<Vec<u8>, String> {
        wrap(&wat::parse_str(text).unwrap())
    }

    #[test]
    fn a_program_is_wrapped() {
        let component = wrap_text(
            r#"(module
                (import "wasi_snapshot_preview1" "proc_exit" (func (param i32)))
                (memory (export "memory") 1)
                (func (export "_start") (call 0 (i32.const 7))))"#,
        );
        assert_eq!(
            crate::image::source::kind(&component.unwrap()),
            Ok(crate::image::source::Kind::Component)
        );
    }

    #[test]
    fn what_is_not_a_program_says_so() {
        let reactor = wrap_text(r#"(module (func (export "_initialize")))"#).unwrap_err();
        assert!(reactor.contains("_initialize"), "{reactor}");
        let library = wrap_text(r#"(module (global (export "_start") i32 (i32.const 0)))"#).unwrap_err();
        assert!(library.contains("without `_start`"), "{library}");
    }

    #[test]
    fn imports_outside_of_preview_1_are_named() {
        let start = r#"(func (export "_start"))"#;
        let error = wrap_text(&format!(r#"(module (import "env" "now" (func)) {start})"#)).unwrap_err();
        assert!(error.contains("env.now"), "{error}");
        let error =
            wrap_text(&format!(r#"(module (import "wasi_unstable" "fd_read" (func)) {start})"#)).unwrap_err();
        assert!(error.contains("before preview 1"), "{error}");
        let threads = format!(r#"(module (import "env" "memory" (memory 1 2 shared)) {start})"#);
        let error = wrap_text(&threads).unwrap_err();
        assert!(error.contains("threads"), "{error}");
        let many: String = (0..9).map(|n| format!(r#"(import "env" "f{n}" (func))"#)).collect();
        let error = wrap_text(&format!("(module {many} {start})")).unwrap_err();
        assert!(error.contains("env.f4 and 4 more"), "{error}");
        let unknown = format!(r#"(module (import "wasi_snapshot_preview1" "teleport" (func)) {start})"#);
        let error = wrap_text(&unknown).unwrap_err();
        assert!(error.contains("teleport"), "{error}");
    }

    #[test]
    fn a_damaged_module_is_an_error_at_every_length() {
        let module = wat::parse_str(
            r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func (param i32)))
                (memory (export "memory") 1) (func (export "_start") (call 0 (i32.const 7))))"#,
        )
        .unwrap();
        for length in 8..module.len() - 1 {
            assert!(wrap(&module[..length]).is_err(), "{length} bytes");
        }
    }
}
