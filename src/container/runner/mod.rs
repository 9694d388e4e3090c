//! Runs one container once: a fresh [`Store`], instantiate, call `wasi:cli/run`, say how it ended.
//!
//! A [`Program`] is linked and type-checked in the supervisor, before the pod process exists, so that a
//! bad image never leads to a half-made pod. [`run`] is a future that the pod's worker polls beside
//! those of the other containers: guest code yields to them at every epoch tick, and dropping the
//! future is how a container is killed; whatever the container held is given back by then.

mod host;
mod program;

use wasmtime::{Store, UpdateDeadline};
use wasmtime_wasi::I32Exit;

pub use host::Host;
pub use program::{Hosts, LinkError, Program};

use program::Entry;

use super::log::ContainerLog;
use super::state::Exit;
use crate::ipc;
use crate::net::Endpoint;
use crate::volume::Preopen;

/// The most that one call copies into the host, bytes: half of what the pod's cgroup has for the runtime
/// (`sandbox::cgroup::RUNTIME_MEMORY_BYTES`).
const MAX_HOSTCALL_BYTES: usize = 32 << 20;

/// What one run of a container is given.
pub struct Setup {
    /// The whole command line, `argv[0]` included.
    pub argv: Vec<String>,
    /// The environment, in order.
    pub env: Vec<(String, String)>,
    /// `workingDir`.
    pub working_dir: Option<String>,
    /// The directories the guest sees.
    pub preopens: Vec<Preopen>,
    /// `resources.limits.memory`, bytes.
    pub memory_limit: Option<u64>,
    /// The container's part of the pod's network.
    pub endpoint: Endpoint,
    /// The run's way to the pod's IPC.
    pub ipc: ipc::Handle,
    /// Where its output goes.
    pub log: ContainerLog,
}

/// Ends a container's network before its store: a store drops the streams of 0.3 one by one, each of which is
/// a `shutdown`, and peers would see the end of the stream where a process that dies resets them.
struct CloseNetwork<'a>(&'a Endpoint);

impl Drop for CloseNetwork<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Instantiates the program and runs it to its end. `started` is awaited once, right before the entry
/// point is called.
pub async fn run(program: &Program, setup: Setup, started: impl AsyncFnOnce()) -> Exit {
    // The log stays open until the container's end, and closes with it.
    let Setup { log, .. } = &setup;
    let host = match Host::new(&setup) {
        Ok(host) => host,
        Err(error) => return Exit::start_error(error),
    };
    let mut store = Store::new(program.engine.wasmtime(), host);
    let _network = CloseNetwork(&setup.endpoint);
    store.limiter(|host| &mut host.memory);
    store.set_hostcall_fuel(hostcall_bytes(setup.memory_limit));
    // tokio's own yield: it comes back after the event loop has looked for I/O and timers.
    store.epoch_deadline_callback(|_| Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now()))));
    store.set_epoch_deadline(1);

    let outcome = call(program, &mut store, started).await;
    let exceeded = store.data().memory.exceeded();
    match (outcome, exceeded) {
        (Outcome::Ran(Ok(Ok(()))), _) => Exit::with_code(0),
        (_, Some(exceeded)) => Exit::out_of_memory(exceeded.to_string()),
        (Outcome::NotStarted(error), None) => Exit::start_error(format!("{error:#}")),
        (Outcome::Ran(Ok(Err(()))), None) => Exit::with_code(1),
        (Outcome::Ran(Err(error)), None) => match error.downcast_ref::<I32Exit>() {
            Some(&I32Exit(code)) => Exit::from_guest(code),
            None => {
                // The cause first: it is what a summary shows.
                let message = format!("{}\n{error:?}", error.root_cause());
                log.system(&message);
                Exit::trapped(message)
            }
        },
    }
}

/// How many bytes one call may copy from the guest into the host: no more than the guest itself may have.
fn hostcall_bytes(memory_limit: Option<u64>) -> usize {
    memory_limit.map_or(MAX_HOSTCALL_BYTES, |limit| MAX_HOSTCALL_BYTES.min(limit as usize))
}

enum Outcome {
    NotStarted(wasmtime::Error),
    Ran(wasmtime::Result<Result<(), ()>>),
}

async fn call(program: &Program, store: &mut Store<Host>, started: impl AsyncFnOnce()) -> Outcome {
    match &program.entry {
        Entry::Command02(pre) => {
            let command = match pre.instantiate_async(&mut *store).await {
                Ok(command) => command,
                Err(error) => return Outcome::NotStarted(error),
            };
            started().await;
            Outcome::Ran(command.wasi_cli_run().call_run(store).await)
        }
        Entry::Command03(pre) => {
            let command = match pre.instantiate_async(&mut *store).await {
                Ok(command) => command,
                Err(error) => return Outcome::NotStarted(error),
            };
            started().await;
            let run = store.run_concurrent(async |store| command.wasi_cli_run().call_run(store).await);
            Outcome::Ran(run.await.and_then(|result| result))
        }
    }
}
