//! `peapod:ipc` for guests: the pod's [`crate::ipc`], object by object.
//!
//! ```text
//!  guest ─ open ─────────────► Handle ─► Queue, Segment, Semaphore, Sender, Receiver: in the store's table
//!        ─ try-… ────────────► at once
//!        ─ …, with a timeout ► a future that blocks this guest alone
//!        ─ subscribe-… ──────► a pollable over the object's readiness
//!        ─ async func (0.3) ─► the same future, which blocks one task of the guest
//!        ─ stream<u8> (0.3) ─► bytes straight between the guest's memory and the channel's messages
//! ```
//!
//! An object ends with the resource: dropped by the guest, or with the store.

pub mod bindings;
mod bytes_stream;
mod channel;
mod concurrent;
mod message_queue;
mod ready;
mod semaphore;
mod shared_memory;

use std::time::Duration;

use wasmtime::component::{HasData, Linker, ResourceTable, ResourceTableError};

use self::bindings::peapod::ipc as wit;
use self::bindings::peapod::ipc::types::{Access, Errno, OpenFlags};
use crate::ipc;

/// A store's data that has `peapod:ipc`.
pub trait IpcView: Send {
    /// Access to it.
    fn ipc(&mut self) -> IpcCtxView<'_>;
}

/// The container's way to the pod's IPC and the store's resources, for the time of one call.
pub struct IpcCtxView<'a> {
    /// What opens objects.
    pub handle: &'a ipc::Handle,
    /// Where the guest's resources are.
    pub table: &'a mut ResourceTable,
}

/// Tells wasmtime's linker that the host of `peapod:ipc` is an [`IpcCtxView`].
pub struct IpcHost;

impl HasData for IpcHost {
    type Data<'a> = IpcCtxView<'a>;
}

/// Adds `peapod:ipc` to the linker, but for the interfaces `…-async`.
///
/// # Errors
/// As [`crate::wasi::add_to_linker`].
pub fn add_to_linker<T: IpcView + 'static>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    let view = <T as IpcView>::ipc;
    wit::types::add_to_linker::<T, IpcHost>(linker, view)?;
    wit::message_queue::add_to_linker::<T, IpcHost>(linker, view)?;
    wit::shared_memory::add_to_linker::<T, IpcHost>(linker, view)?;
    wit::semaphore::add_to_linker::<T, IpcHost>(linker, view)?;
    wit::channel::add_to_linker::<T, IpcHost>(linker, view)
}

/// Adds the interfaces `…-async` to the linker.
///
/// # Errors
/// As [`crate::wasi::add_to_linker`].
pub fn add_async_to_linker<T: IpcView + 'static>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    let view = <T as IpcView>::ipc;
    wit::message_queue_async::add_to_linker::<T, IpcHost>(linker, view)?;
    wit::shared_memory_async::add_to_linker::<T, IpcHost>(linker, view)?;
    wit::semaphore_async::add_to_linker::<T, IpcHost>(linker, view)?;
    wit::channel_async::add_to_linker::<T, IpcHost>(linker, view)
}

/// An error for the guest, or a trap.
#[derive(Debug)]
pub enum Error {
    /// Returned to the guest.
    Code(Errno),
    /// The guest broke the rules of its resources.
    Trap(wasmtime::Error),
}

/// Result of a call.
pub type Result<T> = std::result::Result<T, Error>;

impl From<ipc::Errno> for Error {
    fn from(error: ipc::Errno) -> Self {
        Self::Code(error.into())
    }
}

impl From<ResourceTableError> for Error {
    fn from(error: ResourceTableError) -> Self {
        Self::Trap(error.into())
    }
}

impl From<ipc::Errno> for Errno {
    fn from(error: ipc::Errno) -> Self {
        match error {
            ipc::Errno::Access => Self::Eacces,
            ipc::Errno::Again => Self::Eagain,
            ipc::Errno::Canceled => Self::Ecanceled,
            ipc::Errno::Exist => Self::Eexist,
            ipc::Errno::Fault => Self::Efault,
            ipc::Errno::TooBig => Self::Efbig,
            ipc::Errno::Invalid => Self::Einval,
            ipc::Errno::Io => Self::Eio,
            ipc::Errno::TooManyHandles => Self::Emfile,
            ipc::Errno::MessageSize => Self::Emsgsize,
            ipc::Errno::NameTooLong => Self::Enametoolong,
            ipc::Errno::NoEntry => Self::Enoent,
            ipc::Errno::NoMemory => Self::Enomem,
            ipc::Errno::NoSpace => Self::Enospc,
            ipc::Errno::NotSupported => Self::Enosys,
            ipc::Errno::Overflow => Self::Eoverflow,
            ipc::Errno::Pipe => Self::Epipe,
            ipc::Errno::TimedOut => Self::Etimedout,
        }
    }
}

impl wit::types::Host for IpcCtxView<'_> {
    fn convert_errno(&mut self, error: Error) -> wasmtime::Result<Errno> {
        match error {
            Error::Code(code) => Ok(code),
            Error::Trap(error) => Err(error),
        }
    }
}

fn how(flags: OpenFlags) -> ipc::Result<ipc::Open> {
    match (flags.contains(OpenFlags::CREATE), flags.contains(OpenFlags::EXCLUSIVE)) {
        (false, false) => Ok(ipc::Open::Existing),
        (true, false) => Ok(ipc::Open::Create),
        (true, true) => Ok(ipc::Open::Exclusive),
        (false, true) => Err(ipc::Errno::Invalid),
    }
}

impl From<Access> for ipc::Access {
    fn from(access: Access) -> Self {
        match access {
            Access::ReadOnly => Self::Read,
            Access::WriteOnly => Self::Write,
            Access::ReadWrite => Self::Both,
        }
    }
}

fn timeout(nanoseconds: Option<u64>) -> Option<Duration> {
    nanoseconds.map(Duration::from_nanos)
}
