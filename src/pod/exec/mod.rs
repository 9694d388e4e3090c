//! Running a command in a container of the pod: a *fresh component instance* with the container's mounts,
//! environment, network and limits.
//!
//! ```text
//! probe, hook ──────────────────────► run_captured ─┐
//! peapod exec ─► Request ─► Sessions ─► run ────────┴─► resolve command[0] ─► a store of its own ─► Exit
//!                                                          │
//!               a file on a mount ─► Components ─► Report::Prepare ─► the supervisor compiles ─► Program
//! ```
//!
//! A command lives at most as long as the run of its container. Its sockets and what it opens of the pod's IPC are
//! its own: they end with it, and those of the container go on.

mod components;
mod orders;
mod resolve;
mod sessions;

use std::sync::Arc;

pub use components::{Components, Wanted};
pub(super) use orders::{ExecEvent, Execs};
pub use sessions::{Ended, Order, Sessions};

use resolve::Resolved;

use crate::container::account::Account;
use crate::container::runner::{self, Call, Marks, Program, Pump, Setup, Sink, Stdio, Streams};
use crate::container::state::Exit;
use crate::engine::EpochHandle;
use crate::net::Stack;

/// Exit code of a command that is there but cannot be run, as a shell has it.
pub const EXIT_CANNOT_RUN: u8 = 126;

/// Exit code of a command that is not there.
pub const EXIT_NOT_FOUND: u8 = 127;

/// A command's output that was captured is cut to this many bytes, as the kubelet's `maxReadLength`
/// (`pkg/probe/exec/exec.go`).
pub const CAPTURED_BYTES: usize = 10 * 1024;

/// A container that commands can be run in, for as long as its run lives. Clones are the same.
#[derive(Clone)]
pub struct Target(Arc<Inner>);

struct Inner {
    container: String,
    parts: Parts,
}

/// What a run of a container is made of, for the commands in it.
pub struct Parts {
    /// Its image.
    pub program: Program,
    /// What it was given.
    pub setup: Setup,
    /// The pod's network.
    pub stack: Arc<Stack>,
    /// The clock that makes guests yield.
    pub epochs: EpochHandle,
    /// What it shares its limits by.
    pub account: Arc<Account>,
    /// Where components on its mounts come from.
    pub components: Components,
}

/// Why a command cannot be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CannotRun {
    /// [`EXIT_CANNOT_RUN`] or [`EXIT_NOT_FOUND`], or 125 when the host is at fault.
    pub code: u8,
    /// Why, and what there is instead.
    pub message: String,
}

impl CannotRun {
    fn new(code: u8, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

impl Target {
    /// The run of `container` that is made of these; its commands run with the same.
    pub fn new(container: &str, parts: Parts) -> Self {
        Self(Arc::new(Inner { container: container.to_owned(), parts }))
    }

    /// Runs `command` and captures what it writes to standard output and standard error together. Dropping the
    /// future kills it.
    ///
    /// # Errors
    /// Why it could not be run.
    pub async fn run_captured(&self, command: &[String]) -> Result<(Exit, String), String> {
        let output = Sink::capture(CAPTURED_BYTES);
        let streams = Streams { stdin: None, stdout: output.clone(), stderr: output.clone() };
        let exit = self.run(command, streams).await.map_err(|error| error.message)?;
        Ok((exit, String::from_utf8_lossy(&output.captured()).into_owned()))
    }

    /// Runs `command` on these streams. Dropping the future kills it.
    ///
    /// # Errors
    /// Why it could not be run.
    pub async fn run(&self, command: &[String], streams: Streams) -> Result<Exit, CannotRun> {
        let Inner { container, parts: Parts { setup, stack, epochs, account, .. } } = &*self.0;
        let Resolved { program, call } = self.resolve(command).await?;
        let setup = Setup {
            argv: command.to_vec(),
            endpoint: stack.attach(container),
            ipc: setup.ipc.for_command(),
            marks: Marks::default(),
            ..setup.clone()
        };
        let run = runner::run(&program, &call, setup, Stdio::Streams(streams), async || {});
        Ok(account.cpu.run(epochs.run(run)).await)
    }

    /// [`Self::run`] with output through pumps: returns when all of it has been passed on.
    async fn run_pumped(
        &self,
        command: &[String],
        streams: Streams,
        pumps: [Option<Pump>; 2],
    ) -> Result<Exit, CannotRun> {
        let [first, second] = pumps.map(|pump| async {
            if let Some(pump) = pump {
                pump.run().await;
            }
        });
        let sinks = [streams.stdout.clone(), streams.stderr.clone()];
        let guest = async {
            let ended = self.run(command, streams).await;
            if let Err(error) = &ended {
                sinks[1].write(format!("peapod: {}\n", error.message).as_bytes());
            }
            sinks.iter().for_each(Sink::finish);
            ended
        };
        let (ended, (), ()) = tokio::join!(guest, first, second);
        ended
    }

    fn main(&self) -> Resolved {
        Resolved { program: self.0.parts.program.clone(), call: Call::Main }
    }
}
