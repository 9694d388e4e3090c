//! The WASI hosts: thin adapters that put `wasi:sockets` 0.2 and 0.3 on the pod's
//! [network](crate::net), the container's output on its log and its file operations on threads of its user, and
//! `peapod:pod` and `peapod:ipc`, which are peapod's own; `wasi:config` and `wasi:keyvalue` are over what the pod has
//! of them. Everything else of WASI (cli, clocks, io, random) is wasmtime-wasi's.
//!
//! ```text
//!  guest ─ wasi:sockets 0.2 ─► p2 ┐
//!        ─ wasi:sockets 0.3 ─► p3 ┴─► net::{TcpSocket, UdpSocket, Endpoint}
//!        ─ wasi:filesystem ──► filesystem ─► wasmtime-wasi, as the container's user
//!        ─ wasi:cli/stdout ──► wasmtime-wasi ─► stdio ─► the container's log
//!        ─ peapod:ipc ───────► ipc ─► crate::ipc
//!        ─ peapod:pod ───────► pod ─► whether the container is asked to end, who it is
//!        ─ wasi:config ──────► config ─► its ConfigMaps and variables
//!        ─ wasi:keyvalue ────► keyvalue ─► crate::keyvalue
//!        ─ the rest ─────────► wasmtime-wasi
//! ```
//!
//! Sockets live in the store's [`ResourceTable`]; what they do is decided in [`crate::net`], which
//! knows nothing of wasmtime. An adapter translates types and errors, and the polls of `net` into
//! the pollables of 0.2 and the streams and futures of 0.3.

pub mod config;
mod convert;
mod error;
mod filesystem;
pub mod ipc;
pub mod keyvalue;
pub mod p2;
pub mod p3;
pub mod pod;
pub mod stdio;

#[cfg(test)]
mod tests;

use wasmtime::component::{HasData, Linker, ResourceTable};

pub use error::SocketError;
pub use filesystem::{FilesCtxView, FilesView, OpenFiles};
pub use pod::{PodCtxView, PodView};

use crate::engine::WasiVersion;
use crate::net::Endpoint;

/// Most bytes one call moves between guest and host, and so the most that the host allocates for one.
/// wasmtime-wasi's limit.
const MAX_TRANSFER: usize = 64 * 1024;

/// What a container's sockets need.
#[derive(Debug, Clone)]
pub struct SocketsCtx {
    /// The container's place on the pod's network.
    pub endpoint: Endpoint,
}

impl SocketsCtx {
    /// Sockets on the endpoint.
    pub fn new(endpoint: Endpoint) -> Self {
        Self { endpoint }
    }
}

/// [`SocketsCtx`] and the store's resources, for the time of one call.
pub struct SocketsCtxView<'a> {
    /// The container's sockets.
    pub ctx: &'a mut SocketsCtx,
    /// Where the guest's resources are.
    pub table: &'a mut ResourceTable,
}

/// A store's data that has sockets.
pub trait SocketsView: Send {
    /// Access to them.
    fn sockets(&mut self) -> SocketsCtxView<'_>;
}

/// Tells wasmtime's linker that the host of `wasi:sockets` is a [`SocketsCtxView`].
pub struct Sockets;

impl HasData for Sockets {
    type Data<'a> = SocketsCtxView<'a>;
}

/// Adds all of WASI 0.2 (its async variant) to the linker, with peapod's sockets, `peapod:pod` and `peapod:ipc`,
/// and `wasi:config` and `wasi:keyvalue`; for components that need 0.3 all of that too.
///
/// # Errors
/// When the linker has one of the interfaces already, or its engine is not for `version`.
pub fn add_to_linker<T>(linker: &mut Linker<T>, version: WasiVersion) -> wasmtime::Result<()>
where
    T: FilesView + SocketsView + PodView + ipc::IpcView + 'static,
    T: config::ConfigView + keyvalue::KeyValueView,
{
    p2::add_to_linker(linker)?;
    pod::add_to_linker(linker)?;
    ipc::add_to_linker(linker)?;
    config::add_to_linker(linker)?;
    keyvalue::add_to_linker(linker)?;
    if version == WasiVersion::V03 {
        p3::add_to_linker(linker)?;
        pod::add_async_to_linker(linker)?;
        ipc::add_async_to_linker(linker)?;
    }
    Ok(())
}
