//! Runs one container once: a fresh [`Store`], instantiate, call `wasi:cli/run`, say how it ended.
//!
//! ```text
//! Program + Setup + Stdio ─► Store ─► instantiate ─┬─ Call::Main ───► wasi:cli/run ─┬─► Exit
//!                                                  └─ Call::Export ─► the function ─┘
//! ```
//!
//! A [`Program`] is linked and type-checked in the supervisor, before the pod process exists, so that a
//! bad image never leads to a half-made pod. [`run`] is a future that the pod's worker polls beside
//! those of the other containers: guest code yields to them at every epoch tick, and dropping the
//! future is how a container is killed; whatever the container held is given back by then.

mod export;
mod host;
mod marks;
mod program;
mod stdio;

use std::sync::Arc;

use wasmtime::{Store, UpdateDeadline};
use wasmtime_wasi::I32Exit;

pub use export::{Export, ExportError};
pub use host::Host;
pub use marks::Marks;
pub use program::{Hosts, LinkError, Program};
pub use stdio::{Pump, Sink, Stdio, Streams};

use program::Entry;

use super::about::About;
use super::state::Exit;
use super::stop::StopSignal;
use super::user::{FileUser, near};
use crate::descriptors;
use crate::engine::MemoryAccount;
use crate::ipc;
use crate::keyvalue::KeyValue;
use crate::net::Endpoint;
use crate::volume::Preopen;

/// The most that one call copies into the host, bytes: half of what the pod's cgroup has for the runtime
/// (`sandbox::cgroup::RUNTIME_MEMORY_BYTES`).
const MAX_HOSTCALL_BYTES: usize = 32 << 20;

/// Resources, streams, calls under way and the like that a guest of WASI 0.2 has at a time; beyond it the guest traps.
/// Room for all the sockets that it may have ([`crate::net::MAX_SOCKETS`]) with their streams and pollables. The host
/// keeps some 250 bytes for a pollable, the most numerous. wasmtime's own bound.
const MAX_HANDLES_02: usize = 100_000;

/// The same for WASI 0.3, where a call under way is one as well, of 1.2 KiB: 40 MiB, part of what the pod's cgroup has
/// for the runtime.
const MAX_HANDLES_03: usize = 32_768;

/// What one run of a container is given; a command that is run in it is given the same. Clones are cheap.
#[derive(Clone)]
pub struct Setup {
    /// The whole command line, `argv[0]` included.
    pub argv: Vec<String>,
    /// The environment, in order.
    pub env: Vec<(String, String)>,
    /// `workingDir`.
    pub working_dir: Option<String>,
    /// Who works with its files.
    pub user: FileUser,
    /// The directories the guest sees.
    pub preopens: Arc<[Preopen]>,
    /// What its memory is charged to.
    pub memory: Arc<MemoryAccount>,
    /// The container's part of the pod's network.
    pub endpoint: Endpoint,
    /// The run's way to the pod's IPC.
    pub ipc: ipc::Handle,
    /// What its files are taken of.
    pub descriptors: descriptors::Share,
    /// The pod's key-value stores.
    pub key_value: Arc<KeyValue>,
    /// What it can know of itself.
    pub about: Arc<About>,
    /// Tells the guest that it is asked to end.
    pub stop: StopSignal,
    /// When its steps happened.
    pub marks: Marks,
}

/// What of a program is called.
pub enum Call {
    /// Its entry point, `wasi:cli/run`.
    Main,
    /// Another function that it exports, with the arguments behind `argv[0]`.
    Export(Export),
}

/// Ends a container's network before its store: a store drops the streams of 0.3 one by one, each of which is
/// a `shutdown`, and peers would see the end of the stream where a process that dies resets them.
struct CloseNetwork<'a>(&'a Endpoint);

impl Drop for CloseNetwork<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Instantiates the program and runs it to its end. `started` is awaited once, right before the function is
/// called.
pub async fn run(
    program: &Program,
    what: &Call,
    setup: Setup,
    mut stdio: Stdio,
    started: impl AsyncFnOnce(),
) -> Exit {
    let host = match Host::new(&setup, &mut stdio) {
        Ok(host) => host,
        Err(error) => return Exit::start_error(error),
    };
    let mut store = Store::new(program.engine.wasmtime(), host);
    let _network = CloseNetwork(&setup.endpoint);
    store.limiter(|host| &mut host.memory);
    store.set_hostcall_fuel(hostcall_bytes(setup.memory.limit()));
    store.set_max_component_handles(max_handles(&program.entry));
    // tokio's own yield: it comes back after the event loop has looked for I/O and timers.
    store.epoch_deadline_callback(|_| {
        near::tick();
        Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())))
    });
    store.set_epoch_deadline(1);

    let outcome = match what {
        Call::Main => call(program, &mut store, &setup.marks, started).await,
        Call::Export(export) => {
            started().await;
            let arguments = setup.argv.get(1..).unwrap_or_default();
            match export::call(program, export, &mut store, arguments).await {
                Ok(ended) => {
                    let code = ended.say(&stdio);
                    Outcome::Ran(Ok(code))
                }
                Err(error) => Outcome::Ran(Err(error)),
            }
        }
    };
    let exceeded = store.data().memory.exceeded();
    match (outcome, exceeded) {
        (Outcome::Ran(Ok(0)), _) => Exit::with_code(0),
        (_, Some(exceeded)) => Exit::out_of_memory(exceeded.to_string()),
        (Outcome::NotStarted(error), None) => Exit::start_error(format!("{error:#}")),
        (Outcome::Ran(Ok(code)), None) => Exit::from_guest(code),
        (Outcome::Ran(Err(error)), None) => match error.downcast_ref::<I32Exit>() {
            Some(&I32Exit(code)) => Exit::from_guest(code),
            None => {
                // The cause first: it is what a summary shows.
                let message = format!("{}\n{error:?}", error.root_cause());
                stdio.system(&message);
                Exit::trapped(message)
            }
        },
    }
}

/// How many bytes one call may copy from the guest into the host: no more than the guest itself may have.
fn hostcall_bytes(memory_limit: Option<u64>) -> usize {
    memory_limit.map_or(MAX_HOSTCALL_BYTES, |limit| MAX_HOSTCALL_BYTES.min(limit as usize))
}

fn max_handles(entry: &Entry) -> usize {
    match entry {
        Entry::Command02(_) => MAX_HANDLES_02,
        Entry::Command03(_) => MAX_HANDLES_03,
    }
}

enum Outcome {
    NotStarted(wasmtime::Error),
    /// With this exit code.
    Ran(wasmtime::Result<i32>),
}

async fn call(
    program: &Program,
    store: &mut Store<Host>,
    marks: &Marks,
    started: impl AsyncFnOnce(),
) -> Outcome {
    let code = |result: Result<(), ()>| i32::from(result.is_err());
    marks.instantiate();
    match &program.entry {
        Entry::Command02(pre) => {
            let command = match pre.instantiate_async(&mut *store).await {
                Ok(command) => command,
                Err(error) => return Outcome::NotStarted(error),
            };
            marks.instantiated();
            started().await;
            Outcome::Ran(command.wasi_cli_run().call_run(store).await.map(code))
        }
        Entry::Command03(pre) => {
            let command = match pre.instantiate_async(&mut *store).await {
                Ok(command) => command,
                Err(error) => return Outcome::NotStarted(error),
            };
            marks.instantiated();
            started().await;
            let run = store.run_concurrent(async |store| command.wasi_cli_run().call_run(store).await);
            Outcome::Ran(run.await.and_then(|result| result).map(code))
        }
    }
}
