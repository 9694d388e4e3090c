//! Which imports of a component peapod cannot satisfy, all of them at once.
//!
//! wasmtime's linker stops at the first import that it lacks. [`check`] puts a stand-in there and asks
//! again, until the linker is content; the stand-ins are thrown away.

use std::fmt;

use semver::Version;
use wasmtime::component::{Component, Linker, ResourceType, types::ComponentItem};

/// The WASI packages that peapod offers, each with the newest version on every track.
pub const OFFERED: &[(&str, &[Version])] = &[
    ("wasi:cli", &[Version::new(0, 2, 12), Version::new(0, 3, 0)]),
    ("wasi:clocks", &[Version::new(0, 2, 12), Version::new(0, 3, 0)]),
    ("wasi:filesystem", &[Version::new(0, 2, 12), Version::new(0, 3, 0)]),
    ("wasi:io", &[Version::new(0, 2, 12)]),
    ("wasi:random", &[Version::new(0, 2, 12), Version::new(0, 3, 0)]),
    ("wasi:sockets", &[Version::new(0, 2, 12), Version::new(0, 3, 0)]),
];

/// Imports that the linker lacks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("imports what peapod does not have: {}", .missing.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct ImportsError {
    /// Each of them, in the component's order. Never empty.
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
            (Some(offered), Some(version)) if same_track(offered, &version) => write!(f, " ({})", self.detail),
            (Some(offered), _) => write!(f, " (peapod has {package} {offered})"),
        }
    }
}

/// Whether `linker` has all that `component` imports.
///
/// # Errors
///
/// All that it lacks.
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
        if stand_in(&mut trial, component, &import).is_err() {
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
    let (name, version) = import.split_once('@').map_or((import, None), |(name, v)| (name, Version::parse(v).ok()));
    (name.split('/').next().unwrap_or(name), version)
}

/// The newest offered version of the import's package that is not newer than its track, else the oldest.
fn nearest(import: &str) -> Option<Version> {
    let (package, version) = split(import);
    let (_, versions) = OFFERED.iter().find(|(name, _)| *name == package)?;
    let wanted = version.map(|v| (v.major, v.minor));
    let below = versions.iter().rev().find(|v| wanted.is_none_or(|wanted| (v.major, v.minor) <= wanted));
    below.or(versions.first()).cloned()
}

/// Whether a release of `offered` may stand for `wanted`, as the component model has it.
fn same_track(offered: &Version, wanted: &Version) -> bool {
    wanted.pre.is_empty() && (offered.major, offered.minor) == (wanted.major, wanted.minor)
}
