//! Runs one container once: a fresh [`Store`], instantiate, call `wasi:cli/run`, say how it ended.
//!
//! A [`Program`] is linked and type-checked in the supervisor, before the pod process exists, so that a
//! bad image never leads to a half-made pod. [`run`] is a future that the pod's worker polls beside
//! those of the other containers: guest code yields to them at every epoch tick, and dropping the
//! future is how a container is killed; whatever the container held is given back by then.

use std::path::{Path, PathBuf};

use wasmtime::component::{Linker, ResourceTable};
use wasmtime::{Store, UpdateDeadline};
use wasmtime_wasi::{FsPerms, I32Exit, WasiCtx, WasiCtxView, WasiView, p2, p3};

use super::log::ContainerLog;
use super::state::Exit;
use crate::engine::imports::{self, ImportsError};
use crate::engine::{CommandVersion, Engine, MemoryLimiter, WorldError};
use crate::image::Image;
use crate::net::Endpoint;
use crate::volume::Preopen;
use crate::wasi::stdio::LogOutput;
use crate::wasi::{self, SocketsCtx, SocketsCtxView, SocketsView};

/// Random bytes that a guest of WASI 0.2 gets with one call; beyond it the guest traps. The call does not
/// yield, and this many take some milliseconds. wasmtime-wasi's own bound is 64 MiB.
const MAX_RANDOM_BYTES: u64 = 1 << 20;

/// The most that one call copies into the host, bytes: half of what the pod's cgroup has for the runtime
/// (`sandbox::cgroup::RUNTIME_MEMORY_BYTES`).
const MAX_HOSTCALL_BYTES: usize = 32 << 20;

/// Why an image cannot be a container of a pod.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The component is not a command.
    #[error("{}: {error}", .path.display())]
    World {
        /// The image's file.
        path: PathBuf,
        /// What it is instead.
        error: WorldError,
    },
    /// The component needs interfaces that peapod does not offer.
    #[error("{}: {error}", .path.display())]
    Imports {
        /// The image's file.
        path: PathBuf,
        /// The interfaces.
        error: ImportsError,
    },
    /// The component's imports or exports have other types than WASI's.
    #[error("{}: does not fit WASI: {error:#}", .path.display())]
    Types {
        /// The image's file.
        path: PathBuf,
        /// What wasmtime says.
        error: wasmtime::Error,
    },
    /// The WASI hosts do not fit the engine: peapod's own fault.
    #[error("cannot set up the WASI hosts: {0:#}")]
    Hosts(wasmtime::Error),
}

/// What a container's guest sees of the host: the data of its [`Store`].
pub struct Host {
    wasi: WasiCtx,
    sockets: SocketsCtx,
    table: ResourceTable,
    memory: MemoryLimiter,
}

impl WasiView for Host {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl SocketsView for Host {
    fn sockets(&mut self) -> SocketsCtxView<'_> {
        SocketsCtxView { ctx: &mut self.sockets, table: &mut self.table }
    }
}

/// The interfaces that a guest can import, ready to link images against. Made once, in the zygote.
pub struct Hosts {
    engine: Engine,
    linker: Linker<Host>,
}

impl Hosts {
    /// # Errors
    /// [`LinkError::Hosts`].
    pub fn new(engine: &Engine) -> Result<Self, LinkError> {
        let mut linker = Linker::new(engine.wasmtime());
        wasi::add_to_linker(&mut linker).map_err(LinkError::Hosts)?;
        Ok(Self { engine: engine.clone(), linker })
    }

    /// Links an image: resolves its imports and checks that it is a command.
    ///
    /// # Errors
    /// The image's world does not run here, or it imports what peapod does not offer.
    pub fn link(&self, image: &Image) -> Result<Program, LinkError> {
        let path = || image.path.clone();
        let types = |error| LinkError::Types { path: path(), error };
        let version = image.world.command().map_err(|error| LinkError::World { path: path(), error })?;
        imports::check(&self.linker, &image.component)
            .map_err(|error| LinkError::Imports { path: path(), error })?;
        let pre = self.linker.instantiate_pre(&image.component).map_err(types)?;
        let entry = match version {
            CommandVersion::V02 => p2::bindings::CommandPre::new(pre).map(Entry::Command02),
            CommandVersion::V03 => p3::bindings::CommandPre::new(pre).map(Entry::Command03),
        };
        Ok(Program {
            engine: self.engine.clone(),
            entry: entry.map_err(types)?,
            name: file_name(&image.path),
            digest: image.digest.to_string(),
        })
    }
}

/// A linked image: what every start of a container instantiates.
#[derive(Clone)]
pub struct Program {
    engine: Engine,
    entry: Entry,
    name: String,
    digest: String,
}

#[derive(Clone)]
enum Entry {
    Command02(p2::bindings::CommandPre<Host>),
    Command03(p3::bindings::CommandPre<Host>),
}

impl Program {
    /// The image's file name: `argv[0]` where the manifest has no `command`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The image's digest: `imageID` in the status.
    pub fn digest(&self) -> &str {
        &self.digest
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(|| "main".into(), |name| name.to_string_lossy().into_owned())
}

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
    let host = match host(&setup) {
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

fn host(setup: &Setup) -> Result<Host, String> {
    let mut wasi = WasiCtx::builder();
    wasi.args(&setup.argv).envs(&setup.env).max_random_size(MAX_RANDOM_BYTES);
    wasi.stdout(LogOutput::new(setup.log.stdout())).stderr(LogOutput::new(setup.log.stderr()));
    if let Some(directory) = &setup.working_dir {
        wasi.initial_cwd(directory);
    }
    for preopen in &setup.preopens {
        let perms = if preopen.read_only { FsPerms::ReadOnly } else { FsPerms::ReadWrite };
        wasi.preopened_dir(preopen.host_path(), &preopen.guest_path, perms)
            .map_err(|error| format!("cannot open the mount {}: {error:#}", preopen.guest_path))?;
    }
    let sockets = SocketsCtx::new(setup.endpoint.clone());
    let memory = MemoryLimiter::new(setup.memory_limit);
    Ok(Host { wasi: wasi.build(), sockets, table: ResourceTable::new(), memory })
}
