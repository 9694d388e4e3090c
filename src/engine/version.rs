//! The WASI that a component needs, told by its bytes before it is compiled, and what there is one of for each.
//!
//! ```text
//! bytes ─► WasiVersion::of ─┬─ 0.2: no async function, stream or future anywhere ─► an engine without concurrency
//!                           └─ 0.3: everything else ──────────────────────────────► an engine with it
//! ```

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

use semver::Version;
use wasmparser::{ComponentImportSectionReader, Parser, Payload, Validator, WasmFeatures};

/// The newest WASI that a component needs something of: which engine it is compiled for and runs on. Not what it
/// exports ([`CommandVersion`](super::CommandVersion)): a program of 0.2 may import interfaces of 0.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WasiVersion {
    /// 0.2, which knows nothing of the component model's concurrency: with wasmtime's support for that switched
    /// off each call between guest and host is cheaper.
    V02,
    /// 0.3.
    V03,
}

/// Not a [`WasiVersion`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a version of WASI: 0.2 or 0.3 is wanted")]
pub struct NotAVersion;

impl WasiVersion {
    /// Both, in order.
    pub const ALL: [Self; 2] = [Self::V02, Self::V03];

    /// What the component in `bytes` needs. Looks at types, not at code; what is no component is left to the
    /// compiler, which says why, with all that it knows: 0.3.
    pub fn of(bytes: &[u8]) -> Self {
        let mut features = WasmFeatures::default();
        features.remove(WasmFeatures::CM_ASYNC);
        let mut validator = Validator::new_with_features(features);
        let is_02 = Parser::new(0).parse_all(bytes).all(|payload| {
            payload.is_ok_and(|payload| {
                !matches!(&payload, Payload::ComponentImportSection(imports) if import_03(imports))
                    && validator.payload(&payload).is_ok()
            })
        });
        if is_02 { Self::V02 } else { Self::V03 }
    }
}

/// Whether an interface of WASI 0.3 is among them: some have no async function.
fn import_03(imports: &ComponentImportSectionReader<'_>) -> bool {
    imports.clone().into_iter().flatten().any(|import| {
        let version = import.name.name.rsplit_once('@').and_then(|(_, version)| Version::parse(version).ok());
        import.name.name.starts_with("wasi:")
            && version.is_some_and(|version| (0, 3) <= (version.major, version.minor))
    })
}

impl fmt::Display for WasiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V02 => "0.2",
            Self::V03 => "0.3",
        })
    }
}

impl FromStr for WasiVersion {
    type Err = NotAVersion;

    fn from_str(text: &str) -> Result<Self, NotAVersion> {
        Self::ALL.into_iter().find(|version| version.to_string() == text).ok_or(NotAVersion)
    }
}

/// One `T` for each [`WasiVersion`], made when it is first needed: most pods need those of one.
#[derive(Debug)]
pub struct Each<T>([OnceLock<T>; 2]);

impl<T> Each<T> {
    /// The one for `version`.
    pub fn get_or_make(&self, version: WasiVersion, make: impl FnOnce() -> T) -> &T {
        self.0[version as usize].get_or_init(make)
    }

    /// The one for `version`.
    ///
    /// # Errors
    /// Those of `make`; the next call tries again.
    pub fn get_or_try<E>(&self, version: WasiVersion, make: impl FnOnce() -> Result<T, E>) -> Result<&T, E> {
        let place = &self.0[version as usize];
        match place.get() {
            Some(made) => Ok(made),
            None => make().map(|made| place.get_or_init(|| made)),
        }
    }

    /// Those that were made.
    pub fn made(&self) -> impl Iterator<Item = &T> {
        self.0.iter().filter_map(OnceLock::get)
    }
}

impl<T> Default for Each<T> {
    fn default() -> Self {
        Self([OnceLock::new(), OnceLock::new()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needs(text: &str) -> WasiVersion {
        WasiVersion::of(&wat::parse_str(format!("(component {text})")).unwrap())
    }

    #[test]
    fn what_waits_by_pollables_is_02() {
        assert_eq!(needs(""), WasiVersion::V02);
        let exit = r#"(instance (export "exit" (func (param "status" (result)))))"#;
        assert_eq!(needs(&format!(r#"(import "wasi:cli/exit@0.2.6" {exit})"#)), WasiVersion::V02);
        assert_eq!(needs(&format!(r#"(import "acme:cli/exit@0.3.0" {exit})"#)), WasiVersion::V02);
        let nested = "(component (core module (func (param i32) (result i32) local.get 0)))";
        assert_eq!(needs(nested), WasiVersion::V02);
    }

    #[test]
    fn whatever_takes_part_in_concurrency_is_03() {
        for text in [
            r#"(import "acme:db/query" (instance (export "ask" (func async))))"#,
            r#"(import "acme:db/query" (instance (export "rows" (func (result (stream u8))))))"#,
            r#"(import "acme:db/query" (instance (export "row" (func (result (future u8))))))"#,
            r#"(component (import "f" (func async)))"#,
            r#"(core module $m (func (export "f")))
               (core instance $i (instantiate $m))
               (func (export "f") async (canon lift (core func $i "f") async))"#,
            r#"(import "f" (func $f)) (core func (canon lower (func $f) async))"#,
            "(core func (canon task.cancel))",
        ] {
            assert_eq!(needs(text), WasiVersion::V03, "{text}");
        }
    }

    #[test]
    fn imports_of_wasi_03_without_an_async_function_are_03() {
        let random = r#"(instance (export "get-random-u64" (func (result u64))))"#;
        for version in ["0.3.0", "0.3.1", "0.3.0-rc-2025-09-16", "1.0.0"] {
            let text = format!(r#"(import "wasi:random/random@{version}" {random})"#);
            assert_eq!(needs(&text), WasiVersion::V03, "{text}");
        }
    }

    #[test]
    fn what_is_no_component_is_left_to_the_compiler() {
        for bytes in [&b""[..], b"\0asm", b"\0asm\x0d\0\x01\0\x07\x01"] {
            WasiVersion::of(bytes);
        }
        let whole = wat::parse_str("(component (core module (func)))").unwrap();
        assert_eq!(WasiVersion::of(&whole[..whole.len() - 2]), WasiVersion::V03);
    }

    #[test]
    fn text_and_back() {
        for version in WasiVersion::ALL {
            assert_eq!(version.to_string().parse(), Ok(version));
        }
        assert_eq!("0.4".parse::<WasiVersion>(), Err(NotAVersion));
    }

    #[test]
    fn each_is_made_once_and_only_when_needed() {
        let each = Each::default();
        assert_eq!(each.get_or_try(WasiVersion::V03, || Err::<u8, _>("not now")), Err("not now"));
        assert_eq!(each.made().count(), 0);
        assert_eq!(each.get_or_try(WasiVersion::V03, || Ok::<_, ()>(3)), Ok(&3));
        assert_eq!(each.get_or_try(WasiVersion::V03, || Err(())), Ok(&3));
        assert_eq!(each.made().collect::<Vec<_>>(), [&3]);
    }
}
