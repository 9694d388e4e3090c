//! What a socket call of the host fails with.

use wasmtime::component::ResourceTableError;

use crate::net;

/// An error for the guest, or a trap. `E` is the error code of one version of `wasi:sockets`.
#[derive(Debug)]
pub enum SocketError<E> {
    /// Returned to the guest.
    Code(E),
    /// The guest broke the rules of its resources, or the host failed.
    Trap(wasmtime::Error),
}

impl<E> SocketError<E> {
    /// The code, or the trap as an error.
    ///
    /// # Errors
    /// The trap.
    pub fn into_code(self) -> wasmtime::Result<E> {
        match self {
            Self::Code(code) => Ok(code),
            Self::Trap(error) => Err(error),
        }
    }
}

impl<E: From<net::Error>> From<net::Error> for SocketError<E> {
    fn from(error: net::Error) -> Self {
        Self::Code(error.into())
    }
}

impl<E> From<ResourceTableError> for SocketError<E> {
    fn from(error: ResourceTableError) -> Self {
        Self::Trap(error.into())
    }
}
