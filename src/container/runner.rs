//! Runs one container once: a fresh [`Store`], instantiate, call `wasi:cli/run`, say how it ended.
//!
//! A [`Program`] is linked and type-checked in the supervisor, before the pod process exists, so that a
//! bad image never leads to a half-made pod. [`run`] is a future that the pod's worker polls beside
//! those of the other containers: guest code yields to them at every epoch tick, and dropping the
//! future is how a container is killed; whatever the container held is given back by then.

use std::path::{Path, PathBuf};

use wasmtime::Store;
use wasmtime::component::{Linker, ResourceTable};
use wasmtime_wasi::{FsPerms, I32Exit, WasiCtx, WasiCtxView, WasiView, p2, p3};

use super::log::ContainerLog;
use super::state::Exit;
use crate::engine::{Engine, MemoryLimiter, World};
use crate::image::Image;
use crate::net::Endpoint;
use crate::volume::Preopen;
use crate::wasi::{self, LogOutput, SocketsCtx, SocketsCtxView, SocketsView};

/// Why an image cannot be a container of a pod.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The component's world is not one that runs here.
    #[error("image {path}: {reason}")]
    World {
        /// The image's file.
        path: PathBuf,
        /// What it is instead.
        reason: String,
    },
    /// The component needs what peapod does not offer.
    #[error("image {path}: {reason}")]
    Imports {
        /// The image's file.
        path: PathBuf,
        /// The interfaces.
        reason: String,
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
        let path = || image.path().to_path_buf();
        let world = |reason: String| LinkError::World { path: path(), reason };
        let imports = |reason: String| LinkError::Imports { path: path(), reason };
        if let Err(missing) = self.engine.check_imports(&self.linker, image.component()) {
            return Err(imports(missing.to_string()));
        }
        let pre = self
            .linker
            .instantiate_pre(image.component())
            .map_err(|error| imports(format!("cannot be linked: {error:#}")))?;
        let entry = match image.world() {
            World::Command02 => p2::bindings::CommandPre::new(pre).map(Entry::Command02),
            World::Command03 => p3::bindings::CommandPre::new(pre).map(Entry::Command03),
            other => return Err(world(other.to_string())),
        };
        let entry = entry.map_err(|error| world(format!("is not a wasi:cli command: {error:#}")))?;
        Ok(Program { engine: self.engine.clone(), entry, name: file_name(image.path()) })
    }
}

/// A linked image: what every start of a container instantiates.
#[derive(Clone)]
pub struct Program {
    engine: Engine,
    entry: Entry,
    name: String,
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

/// Instantiates the program and runs it to its end. `started` is called once, right before the entry
/// point is.
pub async fn run(program: &Program, setup: Setup, started: impl FnOnce()) -> Exit {
    let log = setup.log.clone();
    let memory = MemoryLimiter::new(setup.memory_limit);
    let host = match host(setup, memory) {
        Ok(host) => host,
        Err(error) => return Exit::start_error(error),
    };
    let mut store = Store::new(program.engine.wasmtime(), host);
    store.limiter(|host| &mut host.memory);
    store.epoch_deadline_async_yield_and_update(1);
    store.set_epoch_deadline(1);

    let result = call(program, &mut store, started).await;
    let exceeded = store.data().memory.exceeded().cloned();
    match (result, exceeded) {
        (Outcome::Ran(Ok(Ok(()))), _) => Exit::completed(),
        (Outcome::Ran(Ok(Err(()))), None) => Exit::code(1),
        (_, Some(exceeded)) => Exit::out_of_memory(exceeded.to_string()),
        (Outcome::NotStarted(error), None) => Exit::start_error(format!("{error:#}")),
        (Outcome::Ran(Err(error)), None) => match error.downcast_ref::<I32Exit>() {
            Some(&I32Exit(code)) => Exit::code(code),
            None => {
                let text = format!("{error:?}");
                log.system(&text);
                Exit::trapped(text)
            }
        },
    }
}

enum Outcome {
    NotStarted(wasmtime::Error),
    Ran(wasmtime::Result<Result<(), ()>>),
}

async fn call(program: &Program, store: &mut Store<Host>, started: impl FnOnce()) -> Outcome {
    match &program.entry {
        Entry::Command02(pre) => {
            let command = match pre.instantiate_async(&mut *store).await {
                Ok(command) => command,
                Err(error) => return Outcome::NotStarted(error),
            };
            started();
            Outcome::Ran(command.wasi_cli_run().call_run(store).await)
        }
        Entry::Command03(pre) => {
            let command = match pre.instantiate_async(&mut *store).await {
                Ok(command) => command,
                Err(error) => return Outcome::NotStarted(error),
            };
            started();
            let run = store.run_concurrent(async |store| command.wasi_cli_run().call_run(store).await);
            Outcome::Ran(run.await.and_then(|result| result))
        }
    }
}

fn host(setup: Setup, memory: MemoryLimiter) -> Result<Host, String> {
    let mut wasi = WasiCtx::builder();
    wasi.args(&setup.argv).envs(&setup.env);
    wasi.stdout(LogOutput::new(setup.log.stdout())).stderr(LogOutput::new(setup.log.stderr()));
    if let Some(directory) = &setup.working_dir {
        wasi.initial_cwd(directory);
    }
    for preopen in &setup.preopens {
        let perms = if preopen.read_only { FsPerms::ReadOnly } else { FsPerms::ReadWrite };
        wasi.preopened_dir(preopen.host_path(), &preopen.guest_path, perms)
            .map_err(|error| format!("cannot open the mount {}: {error:#}", preopen.guest_path))?;
    }
    let sockets = SocketsCtx::new(setup.endpoint);
    Ok(Host { wasi: wasi.build(), sockets, table: ResourceTable::new(), memory })
}
