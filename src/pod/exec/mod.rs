//! Running a command in a container of the pod: a *fresh component instance* with the container's mounts,
//! environment, network and limits.
//!
//! ```text
//! probe, hook ────────────► run_captured ─┐
//! peapod exec ─► control ─► run ──────────┴─► resolve command[0] ─► a store of its own ─► Exit
//! ```

use std::sync::Arc;

use crate::container::state::Exit;

/// A container that commands can be run in, for as long as its run lives. Clones are the same.
#[derive(Clone)]
pub struct Target {
    container: Arc<str>,
}

/// A command's output that was captured is cut to this many bytes, as the kubelet's `maxReadLength`
/// (`pkg/probe/exec/exec.go`).
pub const CAPTURED_BYTES: usize = 10 * 1024;

impl Target {
    /// The container of this name.
    pub fn new(container: &str) -> Self {
        Self { container: container.into() }
    }

    /// Runs `command` and captures what it writes to standard output and standard error together. Dropping the
    /// future kills it.
    ///
    /// # Errors
    /// Why it could not be run.
    pub async fn run_captured(&self, command: &[String]) -> Result<(Exit, String), String> {
        Err(format!("cannot run {command:?} in {}: exec is not there yet", self.container))
    }
}
