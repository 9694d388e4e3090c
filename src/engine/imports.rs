//! Which imports of a component peapod cannot satisfy, all of them at once.
//!
//! wasmtime's linker stops at the first import that it lacks. [`check`] puts a stand-in there and asks
//! again, until the linker is content; the stand-ins are thrown away.

use std::fmt;

use semver::Version;
use wasmtime::component::{Component, Linker, ResourceType, types::ComponentItem};

/// The packages that peapod offers, WASI's and its own, each with the newest version on every track.
pub const OFFERED: &[(&str, &[&str])] = &[
    ("peapod:ipc", &["0.1.0"]),
    ("peapod:pod", &["0.1.1"]),
    ("wasi:cli", &["0.2.12", "0.3.0"]),
    ("wasi:clocks", &["0.2.12", "0.3.0"]),
    ("wasi:config", &["0.2.0-rc.1"]),
    ("wasi:filesystem", &["0.2.12", "0.3.0"]),
    ("wasi:io", &["0.2.12"]),
    ("wasi:keyvalue", &["0.2.0-draft", "0.2.0-draft2"]),
    ("wasi:random", &["0.2.12", "0.3.0"]),
    ("wasi:sockets", &["0.2.12", "0.3.0"]),
];

/// Missing imports that are named; each costs another look at the whole component, of which a hostile one
/// has a hundred thousand.
const MAX_NAMED: usize = 32;

/// Imports that the linker lacks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("imports what peapod does not have: {}", .missing.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct ImportsError {
    /// Each of them, or the first of very many, in the component's order. Never empty.
    pub missing: Vec<Missing>,
}

/// One import that the linker lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// The import's full name, for example `wasi:http/types@0.2.0`.
    pub import: String,
    /// What is wrong, from wasmtime: the item in it that is missing or has another type.
    pub detail: String,
    /// The version of its package that peapod offers and that is nearest to it.
    pub offered: Option<Version>,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (package, version) = split(&self.import);
        write!(f, "{}", self.import)?;
        match (&self.offered, version) {
            (None, _) if package.starts_with("wasi:") => write!(f, " (peapod has no {package})"),
            (None, _) => write!(f, " (not part of WASI; compose the component with one that exports it)"),
            (Some(offered), Some(version)) if same_track(offered, &version) => {
                write!(f, " ({})", self.detail)
            }
            (Some(offered), _) => write!(f, " (peapod has {package} {offered})"),
        }
    }
}

/// Whether `linker` has all that `component` imports.
///
/// # Errors
///
/// All that it lacks, or the first of very many.
pub fn check<T: 'static>(linker: &Linker<T>, component: &Component) -> Result<(), ImportsError> {
    let Err(mut error) = linker.instantiate_pre(component) else { return Ok(()) };
    let mut trial = linker.clone();
    trial.allow_shadowing(true);
    let mut missing: Vec<Missing> = Vec::new();
    loop {
        let Some(import) = import_named_by(&error) else {
            // wasmtime has another way of saying it: better its words than none.
            if missing.is_empty() {
                missing.push(Missing { import: "?".into(), detail: format!("{error:#}"), offered: None });
            }
            break;
        };
        let absent = error.root_cause().to_string().ends_with("implementation is missing");
        let again = missing.iter().any(|m| m.import == import);
        // Once there are stand-ins, an item of another type may be their fault.
        if again || (!absent && !missing.is_empty()) {
            break;
        }
        missing.push(Missing { offered: nearest(&import), detail: detail(&error), import: import.clone() });
        if missing.len() == MAX_NAMED || stand_in(&mut trial, component, &import).is_err() {
            break;
        }
        match trial.instantiate_pre(component) {
            Ok(_) => break,
            Err(next) => error = next,
        }
    }
    Err(ImportsError { missing })
}

/// The import that wasmtime's message names, between its first two backticks.
fn import_named_by(error: &wasmtime::Error) -> Option<String> {
    let message = error.to_string();
    message.starts_with("component imports ").then(|| message.split('`').nth(1).map(str::to_owned)).flatten()
}

/// What is wrong inside of the import: the messages below the outermost, which names the import.
fn detail(error: &wasmtime::Error) -> String {
    error.chain().skip(1).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Defines `import` so that it satisfies `component`'s type for it.
fn stand_in<T: 'static>(linker: &mut Linker<T>, component: &Component, import: &str) -> wasmtime::Result<()> {
    let engine = linker.engine().clone();
    let ty = component.component_type();
    // A resource may be passed on from one interface to another; only where it first appears does
    // it need a definition.
    let mut seen: Vec<ResourceType> = Vec::new();
    for (name, item) in ty.imports(&engine) {
        let ComponentItem::ComponentInstance(instance) = &item.ty else {
            if name == import {
                define(&mut linker.root(), name, &item.ty, &mut seen)?;
            }
            continue;
        };
        for (export, item) in instance.exports(&engine) {
            if name == import {
                define(&mut linker.instance(name)?, export, &item.ty, &mut seen)?;
            } else if let ComponentItem::Resource(resource) = item.ty {
                seen.push(resource);
            }
        }
    }
    Ok(())
}

/// One item of a stand-in. Never called: the trial linker makes no instance.
fn define<T: 'static>(
    at: &mut wasmtime::component::LinkerInstance<'_, T>,
    name: &str,
    item: &ComponentItem,
    seen: &mut Vec<ResourceType>,
) -> wasmtime::Result<()> {
    match item {
        ComponentItem::ComponentFunc(func) if func.async_() => {
            at.func_new_concurrent(name, |_, _, _, _| Box::pin(async { wasmtime::bail!("a stand-in") }))
        }
        ComponentItem::ComponentFunc(_) => at.func_new(name, |_, _, _, _| wasmtime::bail!("a stand-in")),
        ComponentItem::Resource(resource) if !seen.contains(resource) => {
            seen.push(*resource);
            at.resource(name, ResourceType::host::<()>(), |_, _| Ok(()))
        }
        _ => Ok(()),
    }
}

/// `wasi:io/poll@0.2.0` → (`wasi:io`, 0.2.0).
fn split(import: &str) -> (&str, Option<Version>) {
    let (name, version) =
        import.split_once('@').map_or((import, None), |(name, v)| (name, Version::parse(v).ok()));
    (name.split('/').next().unwrap_or(name), version)
}

/// The newest offered version of the import's package that is not newer than its track, else the oldest.
fn nearest(import: &str) -> Option<Version> {
    let (package, version) = split(import);
    let (_, versions) = OFFERED.iter().find(|(name, _)| *name == package)?;
    let wanted = version.map(|v| (v.major, v.minor));
    let versions: Vec<Version> = versions.iter().filter_map(|version| Version::parse(version).ok()).collect();
    let below = versions.iter().rev().find(|v| wanted.is_none_or(|wanted| (v.major, v.minor) <= wanted));
    below.or(versions.first()).cloned()
}

/// Whether a release of `offered` may stand for `wanted`, as the component model has it.
fn same_track(offered: &Version, wanted: &Version) -> bool {
    let released = wanted.pre.is_empty() && offered.pre.is_empty();
    offered == wanted || released && (offered.major, offered.minor) == (wanted.major, wanted.minor)
}

#[cfg(test)]
mod tests {
    use wasmtime_wasi::{ResourceTable, WasiCtx, WasiCtxView, WasiView};

    use super::*;
    use crate::container::about::About;
    use crate::container::stop::StopSignal;
    use crate::engine::{Engine, WasiVersion};
    use crate::ipc;
    use crate::wasi::config::{ConfigCtx, ConfigView};
    use crate::wasi::ipc::{IpcCtxView, IpcView};
    use crate::wasi::keyvalue::{KeyValueCtx, KeyValueCtxView, KeyValueView};
    use crate::wasi::{self, PodCtxView, PodView};

    /// No guest runs here.
    struct Host(WasiCtx, ResourceTable, StopSignal, ipc::Handle, About, ConfigCtx, KeyValueCtx);

    impl WasiView for Host {
        fn ctx(&mut self) -> WasiCtxView<'_> {
            WasiCtxView { ctx: &mut self.0, table: &mut self.1 }
        }
    }

    impl PodView for Host {
        fn pod(&mut self) -> PodCtxView<'_> {
            PodCtxView { stop: &self.2, about: &self.4, table: &mut self.1 }
        }
    }

    impl IpcView for Host {
        fn ipc(&mut self) -> IpcCtxView<'_> {
            IpcCtxView { handle: &self.3, table: &mut self.1 }
        }
    }

    impl ConfigView for Host {
        fn config(&mut self) -> wasmtime_wasi_config::WasiConfig<'_> {
            self.5.now()
        }
    }

    impl KeyValueView for Host {
        fn key_value(&mut self) -> KeyValueCtxView<'_> {
            KeyValueCtxView { ctx: &self.6, table: &mut self.1 }
        }
    }

    fn linker(engine: &Engine) -> Linker<Host> {
        let mut linker = Linker::new(engine.wasmtime());
        wasmtime_wasi::p2::add_to_linker_async(&mut linker).unwrap();
        wasmtime_wasi::p3::add_to_linker(&mut linker).unwrap();
        wasi::pod::add_to_linker(&mut linker).unwrap();
        wasi::pod::add_async_to_linker(&mut linker).unwrap();
        wasi::ipc::add_to_linker(&mut linker).unwrap();
        wasi::ipc::add_async_to_linker(&mut linker).unwrap();
        wasi::config::add_to_linker(&mut linker).unwrap();
        wasi::keyvalue::add_to_linker(&mut linker).unwrap();
        linker
    }

    fn check_text(imports: &str) -> Result<(), ImportsError> {
        let engine = Engine::new(WasiVersion::V03).unwrap();
        let binary = wat::parse_str(format!("(component {imports})")).unwrap();
        let component = Component::new(engine.wasmtime(), binary).unwrap();
        check(&linker(&engine), &component)
    }

    const EXIT: &str = r#"(export "exit" (func (param "status" (result))))"#;

    #[test]
    fn what_is_there_is_fine() {
        assert_eq!(check_text(""), Ok(()));
        assert_eq!(check_text(&format!(r#"(import "wasi:cli/exit@0.2.0" (instance {EXIT}))"#)), Ok(()));
        assert_eq!(check_text(&format!(r#"(import "wasi:cli/exit@0.3.0" (instance {EXIT}))"#)), Ok(()));
    }

    /// Guests that were built for an earlier version of a package link, where the package is not a draft.
    #[test]
    fn earlier_versions_of_a_package_are_fine() {
        let lifecycle = r#"
            (import "wasi:io/poll@0.2.0" (instance $poll (export "pollable" (type (sub resource)))))
            (alias export $poll "pollable" (type $pollable))
            (import "peapod:pod/lifecycle@0.1.0" (instance
                (export "pollable" (type $own (eq $pollable)))
                (export "stopping" (func (result (own $own))))))"#;
        assert_eq!(check_text(lifecycle), Ok(()));
        let config = |version| {
            let get = "(func (result string))";
            check_text(&format!(
                r#"(import "wasi:config/store@{version}" (instance (export "nothing" {get})))"#
            ))
        };
        let text = |version| config(version).unwrap_err().to_string();
        assert!(text("0.2.0-draft").contains("(peapod has wasi:config 0.2.0-rc.1)"));
        assert!(text("0.2.0-rc.1").contains("nothing"), "{}", text("0.2.0-rc.1"));
    }

    #[test]
    fn all_that_is_missing_is_named_with_what_is_near() {
        let error = check_text(&format!(
            r#"(import "wasi:http/types@0.2.0" (instance $http
                   (export "fields" (type $fields (sub resource)))
                   (export "make" (func (result (own $fields))))))
               (import "wasi:cli/exit@0.2.0" (instance {EXIT}))
               (import "wasi:cli/exit@0.4.0" (instance {EXIT}))
               (import "wasi:cli/exit@0.2.99" (instance {EXIT} (export "exit-slowly" (func))))
               (import "wasi:cli/exit@0.3.0-rc-2025-09-16" (instance {EXIT}))
               (import "acme:db/query" (instance (export "ask" (func async))))
               (import "naked" (func))"#
        ))
        .unwrap_err();
        let names: Vec<&str> = error.missing.iter().map(|m| m.import.as_str()).collect();
        assert_eq!(
            names,
            [
                "wasi:http/types@0.2.0",
                "wasi:cli/exit@0.4.0",
                "wasi:cli/exit@0.2.99",
                "wasi:cli/exit@0.3.0-rc-2025-09-16",
                "acme:db/query",
                "naked"
            ]
        );
        let text = error.to_string();
        for words in [
            "wasi:http/types@0.2.0 (peapod has no wasi:http)",
            "wasi:cli/exit@0.4.0 (peapod has wasi:cli 0.3.0)",
            "exit-slowly",
            "wasi:cli/exit@0.3.0-rc-2025-09-16 (peapod has wasi:cli 0.3.0)",
            "acme:db/query (not part of WASI",
        ] {
            assert!(text.contains(words), "{words} in {text}");
        }
    }

    #[test]
    fn of_very_many_only_some_are_named() {
        let imports: String = (0..500).map(|n| format!(r#"(import "a:b/c{n}" (func))"#)).collect();
        assert_eq!(check_text(&imports).unwrap_err().missing.len(), MAX_NAMED);
    }

    #[test]
    fn an_item_of_another_type_is_explained() {
        let error =
            check_text(r#"(import "wasi:cli/exit@0.2.0" (instance (export "exit" (func (result u8)))))"#);
        let text = error.unwrap_err().to_string();
        assert!(text.contains("`exit` has the wrong type"), "{text}");
    }

    #[test]
    fn what_is_offered_is_what_the_hosts_define() {
        let engine = Engine::new(WasiVersion::V03).unwrap();
        let mut linker = linker(&engine);
        let of = |package| match package {
            "wasi:cli" => "exit",
            "wasi:clocks" => "monotonic-clock",
            "wasi:filesystem" => "preopens",
            "peapod:ipc" => "message-queue",
            "peapod:pod" => "identity",
            "wasi:config" => "store",
            "wasi:keyvalue" => "atomics",
            "wasi:io" => "poll",
            "wasi:random" => "random",
            "wasi:sockets" => "types",
            other => panic!("{other} has no interface here"),
        };
        for (package, versions) in OFFERED {
            for version in *versions {
                let interface = match (*package, *version) {
                    ("wasi:sockets", "0.2.12") => "tcp",
                    (package, _) => of(package),
                };
                let name = format!("{package}/{interface}@{version}");
                let taken = linker.root().func_new(&name, |_, _, _, _| Ok(())).is_err();
                assert!(taken, "{name} is not defined");
            }
        }
    }
}
