//! `wasi:sockets` 0.2 on the pod's network.
//!
//! Every operation of 0.2 is a start, a finish, and a pollable between them. Here a start does all
//! that can be done at once, a finish polls with a waker that does nothing, and the pollable polls
//! with the guest's: it is pending until the finish has an answer, never a loop.

pub mod bindings;
mod lookup;
mod network;
mod tcp;
mod tcp_stream;
mod udp;

use wasmtime::component::{HasData, Linker, ResourceTable};
use wasmtime_wasi::cli::{WasiCli, WasiCliView as _};
use wasmtime_wasi::clocks::{WasiClocks, WasiClocksView as _};
use wasmtime_wasi::p2::bindings::{cli, clocks, random};
use wasmtime_wasi::random::WasiRandom;
use wasmtime_wasi_io::bindings::wasi::io;

pub use lookup::ResolveAddressStream;
pub use network::Network;
pub use tcp::TcpSocket;
pub use udp::{IncomingDatagramStream, OutgoingDatagramStream, UdpSocket};

use self::bindings::wasi::sockets;
use super::{FilesView, Sockets, SocketsView, filesystem};

/// What a socket call of 0.2 fails with.
pub type SocketError = super::SocketError<sockets::network::ErrorCode>;

/// Result of a socket call of 0.2.
pub type SocketResult<T> = Result<T, SocketError>;

/// The host of `wasi:io` is the resource table itself.
struct Io;

impl HasData for Io {
    type Data<'a> = &'a mut ResourceTable;
}

/// Adds WASI 0.2 to the linker: peapod's sockets, wasmtime-wasi's everything else.
pub(super) fn add_to_linker<T>(l: &mut Linker<T>) -> wasmtime::Result<()>
where
    T: FilesView + SocketsView + 'static,
{
    io::error::add_to_linker::<T, Io>(l, |t| t.ctx().table)?;
    io::poll::add_to_linker::<T, Io>(l, |t| t.ctx().table)?;
    io::streams::add_to_linker::<T, Io>(l, |t| t.ctx().table)?;

    clocks::wall_clock::add_to_linker::<T, WasiClocks>(l, T::clocks)?;
    clocks::monotonic_clock::add_to_linker::<T, WasiClocks>(l, T::clocks)?;
    random::random::add_to_linker::<T, WasiRandom>(l, |t| wasmtime_wasi::random::WasiRandomView::random(t))?;
    random::insecure::add_to_linker::<T, WasiRandom>(l, |t| {
        wasmtime_wasi::random::WasiRandomView::random(t)
    })?;
    random::insecure_seed::add_to_linker::<T, WasiRandom>(l, |t| {
        wasmtime_wasi::random::WasiRandomView::random(t)
    })?;
    filesystem::add_p2_to_linker(l)?;

    cli::exit::add_to_linker::<T, WasiCli>(l, T::cli)?;
    cli::environment::add_to_linker::<T, WasiCli>(l, T::cli)?;
    cli::stdin::add_to_linker::<T, WasiCli>(l, T::cli)?;
    cli::stdout::add_to_linker::<T, WasiCli>(l, T::cli)?;
    cli::stderr::add_to_linker::<T, WasiCli>(l, T::cli)?;
    cli::terminal_input::add_to_linker::<T, WasiCli>(l, T::cli)?;
    cli::terminal_output::add_to_linker::<T, WasiCli>(l, T::cli)?;
    cli::terminal_stdin::add_to_linker::<T, WasiCli>(l, T::cli)?;
    cli::terminal_stdout::add_to_linker::<T, WasiCli>(l, T::cli)?;
    cli::terminal_stderr::add_to_linker::<T, WasiCli>(l, T::cli)?;

    let view = <T as SocketsView>::sockets;
    sockets::instance_network::add_to_linker::<T, Sockets>(l, view)?;
    sockets::network::add_to_linker::<T, Sockets>(l, &Default::default(), view)?;
    sockets::ip_name_lookup::add_to_linker::<T, Sockets>(l, view)?;
    sockets::tcp::add_to_linker::<T, Sockets>(l, view)?;
    sockets::tcp_create_socket::add_to_linker::<T, Sockets>(l, view)?;
    sockets::udp::add_to_linker::<T, Sockets>(l, view)?;
    sockets::udp_create_socket::add_to_linker::<T, Sockets>(l, view)?;
    Ok(())
}
