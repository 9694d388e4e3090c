//! What a guest sees of the host.

use wasmtime::component::ResourceTable;
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxView, WasiView};

use super::Setup;
use crate::engine::MemoryLimiter;
use crate::ipc;
use crate::wasi::ipc::{IpcCtxView, IpcView};
use crate::wasi::stdio::LogOutput;
use crate::wasi::{SocketsCtx, SocketsCtxView, SocketsView};

/// Random bytes that a guest of WASI 0.2 gets with one call; beyond it the guest traps. The call does not
/// yield, and this many take some milliseconds. wasmtime-wasi's own bound is 64 MiB.
const MAX_RANDOM_BYTES: u64 = 1 << 20;

/// What a container's guest sees of the host: the data of its [`Store`].
pub struct Host {
    wasi: WasiCtx,
    sockets: SocketsCtx,
    ipc: ipc::Handle,
    table: ResourceTable,
    pub(super) memory: MemoryLimiter,
}

impl Host {
    /// The host side of one run.
    pub(super) fn new(setup: &Setup) -> Result<Self, String> {
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
        let ipc = setup.ipc.clone();
        Ok(Self { wasi: wasi.build(), sockets, ipc, table: ResourceTable::new(), memory })
    }
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

impl IpcView for Host {
    fn ipc(&mut self) -> IpcCtxView<'_> {
        IpcCtxView { handle: &self.ipc, table: &mut self.table }
    }
}
