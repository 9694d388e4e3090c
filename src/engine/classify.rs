//! What a component is, told by what it exports.

use std::fmt;

use semver::Version;
use wasmtime::component::Component;

use super::Engine;

/// The version of `wasi:cli/run` that a component exports, and so of the WASI it is written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandVersion {
    /// `wasi:cli/run@0.2.x`: a synchronous `run`.
    V02,
    /// `wasi:cli/run@0.3.x`: an async `run`.
    V03,
}

/// What a component is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum World {
    /// A program: exports `wasi:cli/run@0.2.x`.
    Command02,
    /// A program: exports `wasi:cli/run@0.3.x`.
    Command03,
    /// A server without a socket of its own: exports `wasi:http/incoming-handler@0.2.x`.
    Http02,
    /// The same for WASI 0.3: exports `wasi:http/handler@0.3.x`.
    Http03,
    /// Exports one of the above in a version that peapod does not know, such as a release candidate.
    UnknownVersion {
        /// The export's full name.
        export: String,
    },
    /// Something to be called by others.
    Reactor {
        /// The names of all it exports, in its own order.
        exports: Vec<String>,
    },
}

/// Why a component is not something that a container can run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WorldError {
    /// An HTTP handler.
    #[error(
        "exports {0}: an HTTP handler, which this version of peapod cannot serve yet; build it as a command \
         (a component that exports wasi:cli/run and listens on a socket itself)"
    )]
    HttpHandler(&'static str),
    /// A version of a known interface that peapod does not know.
    #[error("exports {0}, a version that peapod does not run; build it for wasi:cli/run 0.2 or 0.3")]
    UnknownVersion(String),
    /// No entry point at all.
    #[error(
        "has nothing to run: it exports {} but not wasi:cli/run; build it as a command (in Rust: a crate with a \
         `main`, for the target wasm32-wasip2)", List(.0)
    )]
    NoEntryPoint(Vec<String>),
}

impl World {
    /// The world of `component`.
    pub fn of(engine: &Engine, component: &Component) -> Self {
        let ty = component.component_type();
        let exports: Vec<&str> = ty.exports(engine.wasmtime()).map(|(name, _)| name).collect();
        Self::from_exports(&exports)
    }

    /// The world of a component with these exports. A program that also exports a handler is a program.
    pub fn from_exports(exports: &[&str]) -> Self {
        let known = |interface: &str, tracks: &[(u64, World)]| {
            let mut unknown = None;
            for &name in exports {
                let Some((package, version)) = name.split_once('@') else { continue };
                if package != interface {
                    continue;
                }
                match tracks.iter().find(|(minor, _)| on_track(version, *minor)) {
                    Some((_, world)) => return Some(world.clone()),
                    None => unknown = Some(World::UnknownVersion { export: name.to_owned() }),
                }
            }
            unknown
        };
        known("wasi:cli/run", &[(2, World::Command02), (3, World::Command03)])
            .or_else(|| known("wasi:http/incoming-handler", &[(2, World::Http02)]))
            .or_else(|| known("wasi:http/handler", &[(3, World::Http03)]))
            .unwrap_or_else(|| World::Reactor {
                exports: exports.iter().map(|&name| name.to_owned()).collect(),
            })
    }

    /// Which kind of program this is.
    ///
    /// # Errors
    ///
    /// What it is instead, and what to do about that.
    pub fn command(&self) -> Result<CommandVersion, WorldError> {
        match self {
            Self::Command02 => Ok(CommandVersion::V02),
            Self::Command03 => Ok(CommandVersion::V03),
            Self::Http02 => Err(WorldError::HttpHandler("wasi:http/incoming-handler 0.2")),
            Self::Http03 => Err(WorldError::HttpHandler("wasi:http/handler 0.3")),
            Self::UnknownVersion { export } => Err(WorldError::UnknownVersion(export.clone())),
            Self::Reactor { exports } => Err(WorldError::NoEntryPoint(exports.clone())),
        }
    }
}

/// Whether `version` is a release of 0.`minor`. Release candidates are not: they differ from it.
fn on_track(version: &str, minor: u64) -> bool {
    Version::parse(version).is_ok_and(|v| v.major == 0 && v.minor == minor && v.pre.is_empty())
}

/// A few names for a message: a component may export thousands.
struct List<'a>(&'a [String]);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// Names shown before "and N more".
        const SHOWN: usize = 4;
        if self.0.is_empty() {
            return f.write_str("nothing");
        }
        f.write_str(&self.0[..self.0.len().min(SHOWN)].join(", "))?;
        match self.0.len().checked_sub(SHOWN) {
            None | Some(0) => Ok(()),
            Some(more) => write!(f, " and {more} more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn world(exports: &[&str]) -> World {
        World::from_exports(exports)
    }

    #[test]
    fn programs_and_handlers_are_told_by_their_exports() {
        assert_eq!(world(&["wasi:cli/run@0.2.0"]), World::Command02);
        assert_eq!(world(&["wasi:cli/run@0.2.99"]), World::Command02);
        assert_eq!(world(&["other", "wasi:cli/run@0.3.0"]), World::Command03);
        assert_eq!(world(&["wasi:http/incoming-handler@0.2.3"]), World::Http02);
        assert_eq!(world(&["wasi:http/handler@0.3.1"]), World::Http03);
        assert_eq!(world(&["wasi:http/handler@0.3.1", "wasi:cli/run@0.2.1"]), World::Command02);
    }

    #[test]
    fn a_release_candidate_is_not_the_release() {
        let rc = world(&["wasi:cli/run@0.3.0-rc-2026-01-06"]);
        let error = rc.command().unwrap_err().to_string();
        assert!(error.contains("wasi:cli/run@0.3.0-rc-2026-01-06"), "{error}");
        assert!(matches!(world(&["wasi:cli/run@1.0.0"]), World::UnknownVersion { .. }));
        assert_eq!(world(&["wasi:cli/run@0.3.0-rc-1", "wasi:cli/run@0.2.0"]), World::Command02);
    }

    #[test]
    fn what_cannot_run_is_named() {
        let error = world(&["wasi:http/incoming-handler@0.2.0"]).command().unwrap_err().to_string();
        assert!(error.contains("wasi:http/incoming-handler") && error.contains("wasi:cli/run"), "{error}");
        let error = world(&["a", "b", "c", "d", "e", "f"]).command().unwrap_err().to_string();
        assert!(error.contains("a, b, c, d and 2 more"), "{error}");
        let error = world(&[]).command().unwrap_err().to_string();
        assert!(error.contains("exports nothing"), "{error}");
        assert!(matches!(world(&["wasi:cli/run"]), World::Reactor { .. }), "without a version: not WASI's");
    }
}
