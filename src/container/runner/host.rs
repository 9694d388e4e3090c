//! What a guest sees of the host.

use std::sync::Arc;

use wasmtime::component::ResourceTable;
use wasmtime_wasi::cli::AsyncStdinStream;
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_config::WasiConfig;

use super::stdio::UntilStop;
use super::{Marks, Setup, Stdio, Streams};
use crate::container::about::About;
use crate::container::stop::StopSignal;
use crate::container::user::FileUser;
use crate::engine::MemoryLimiter;
use crate::ipc;
use crate::wasi::config::{ConfigCtx, ConfigView};
use crate::wasi::ipc::{IpcCtxView, IpcView};
use crate::wasi::keyvalue::{KeyValueCtx, KeyValueCtxView, KeyValueView};
use crate::wasi::pod::PodClock;
use crate::wasi::stdio::LogOutput;
use crate::wasi::{FilesView, OpenFiles, PodCtxView, PodView, SocketsCtx, SocketsCtxView, SocketsView};

/// Random bytes that a guest of WASI 0.2 gets with one call; beyond it the guest traps. The call does not
/// yield, and this many take some milliseconds. wasmtime-wasi's own bound is 64 MiB.
const MAX_RANDOM_BYTES: u64 = 1 << 20;

/// What a container's guest sees of the host: the data of its [`Store`](wasmtime::Store).
pub struct Host {
    wasi: WasiCtx,
    sockets: SocketsCtx,
    ipc: ipc::Handle,
    config: ConfigCtx,
    key_value: KeyValueCtx,
    about: Arc<About>,
    stop: StopSignal,
    user: FileUser,
    table: ResourceTable,
    /// Gives back what `table` holds, and so is dropped after it.
    open_files: OpenFiles,
    pub(super) memory: MemoryLimiter,
    marks: Marks,
    called: bool,
}

impl Host {
    /// The host side of one run.
    pub(super) fn new(setup: &Setup, stdio: &mut Stdio) -> Result<Self, String> {
        let mut wasi = WasiCtx::builder();
        wasi.args(&setup.argv).envs(&setup.env).max_random_size(MAX_RANDOM_BYTES);
        wasi.monotonic_clock(PodClock(setup.stop.clone()));
        match stdio {
            Stdio::Log(log) => {
                wasi.stdout(LogOutput::new(log.stdout())).stderr(LogOutput::new(log.stderr()));
            }
            Stdio::Streams(Streams { stdin, stdout, stderr }) => {
                wasi.stdout(LogOutput::new(stdout.clone())).stderr(LogOutput::new(stderr.clone()));
                if let Some(stdin) = stdin.take() {
                    wasi.stdin(AsyncStdinStream::new(UntilStop::new(stdin, setup.stop.clone())));
                }
            }
        }
        if let Some(directory) = &setup.working_dir {
            wasi.initial_cwd(directory);
        }
        for preopen in setup.preopens.iter() {
            let perms = if preopen.read_only { FsPerms::ReadOnly } else { FsPerms::ReadWrite };
            wasi.preopened_dir(preopen.host_path(), &preopen.guest_path, perms)
                .map_err(|error| format!("cannot open the mount {}: {error:#}", preopen.guest_path))?;
        }
        let sockets = SocketsCtx::new(setup.endpoint.clone());
        let memory = MemoryLimiter::new(Arc::clone(&setup.memory));
        let (wasi, table, marks) = (wasi.build(), ResourceTable::new(), setup.marks.clone());
        let (ipc, stop, about) = (setup.ipc.clone(), setup.stop.clone(), Arc::clone(&setup.about));
        let key_value = KeyValueCtx::new(Arc::clone(&setup.key_value));
        let config = ConfigCtx::new(Arc::clone(&about));
        let (user, called) = (setup.user.clone(), false);
        let open_files = OpenFiles::new(setup.descriptors.clone());
        Ok(Self {
            wasi,
            sockets,
            ipc,
            config,
            key_value,
            about,
            stop,
            user,
            table,
            open_files,
            memory,
            marks,
            called,
        })
    }

    /// The guest calls the host: each of its calls comes by here.
    fn is_called(&mut self) {
        if !self.called {
            self.called = true;
            self.marks.host_call();
        }
    }
}

impl WasiView for Host {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.is_called();
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl FilesView for Host {
    fn file_user(&mut self) -> FileUser {
        self.user.clone()
    }

    fn open_files(&mut self) -> OpenFiles {
        self.open_files.clone()
    }
}

impl SocketsView for Host {
    fn sockets(&mut self) -> SocketsCtxView<'_> {
        self.is_called();
        SocketsCtxView { ctx: &mut self.sockets, table: &mut self.table }
    }
}

impl IpcView for Host {
    fn ipc(&mut self) -> IpcCtxView<'_> {
        self.is_called();
        IpcCtxView { handle: &self.ipc, table: &mut self.table }
    }
}

impl PodView for Host {
    fn pod(&mut self) -> PodCtxView<'_> {
        self.is_called();
        PodCtxView { stop: &self.stop, about: &self.about, table: &mut self.table }
    }
}

impl ConfigView for Host {
    fn config(&mut self) -> WasiConfig<'_> {
        self.is_called();
        self.config.now()
    }
}

impl KeyValueView for Host {
    fn key_value(&mut self) -> KeyValueCtxView<'_> {
        self.is_called();
        KeyValueCtxView { ctx: &self.key_value, table: &mut self.table }
    }
}
