//! `wasi:filesystem` for containers, each with its own user.
//!
//! ```text
//! guest ─┬─ operations ─► p2, p3 ─► FileUser::run ─► wasmtime-wasi ─► spawn_blocking ─► a thread that is the user
//!        └─ streams ─► p2_streams, p3_streams ─┬─► reader ─┬─ what is in memory: at once
//!                                              │           └─ FileUser ─► a thread that is the user
//!                                              └─► writer ─── FileUser ─► a thread that is the user
//! ```
//!
//! All but streams is wasmtime-wasi's. It hands system calls to the blocking pool of the runtime that is current:
//! while one of its operations is polled here, that is the user's. Streams are peapod's own, as those of wasmtime-wasi
//! would always go over a thread, and in 0.3 over one of the event loop's.
//!
//! A FIFO is not opened: that waits for its other end, and keeps a thread of the container. WASI reads and writes at
//! offsets, which a FIFO has none of: it is of no use to a guest. Sockets, which cannot be opened at all, are refused
//! with it: wasmtime-wasi tells the two apart from other files, not from each other. What is there and is to be read is
//! opened so that it cannot wait (`open`). Else the file that is opened may be another than the one looked at: only who
//! can put a FIFO there, the host, or rename one makes it wait.
//!
//! What a container keeps open is bounded: its files by its share of the process's descriptors, their streams and its
//! listings by what they hold in memory (`open_files`). wasmtime-wasi's listings are not used (`listing`).

mod listing;
mod look;
mod open;
mod open_files;
mod p2;
mod p2_streams;
mod p3;
mod p3_streams;
mod reader;
mod refused;
mod writer;

use wasmtime::component::{HasData, Linker};
use wasmtime_wasi::WasiView;
use wasmtime_wasi::filesystem::{WasiFilesystemCtxView, WasiFilesystemView as _};
use wasmtime_wasi::p2::bindings::filesystem as bindings_p2;
use wasmtime_wasi::p3::bindings::filesystem as bindings_p3;

pub use self::open_files::OpenFiles;

use crate::container::user::FileUser;

/// A store's data with a user for its files.
pub trait FilesView: WasiView {
    /// Who works with them.
    fn file_user(&mut self) -> FileUser;

    /// Which are open.
    fn open_files(&mut self) -> OpenFiles;
}

/// wasmtime-wasi's files and who works with them, for the time of one call.
pub struct FilesCtxView<'a> {
    files: WasiFilesystemCtxView<'a>,
    user: FileUser,
    open: OpenFiles,
}

/// Tells wasmtime's linker that the host of `wasi:filesystem` is a [`FilesCtxView`].
struct Files;

impl HasData for Files {
    type Data<'a> = FilesCtxView<'a>;
}

fn view<T: FilesView>(data: &mut T) -> FilesCtxView<'_> {
    let (user, open) = (data.file_user(), data.open_files());
    FilesCtxView { files: data.filesystem(), user, open }
}

/// Adds `wasi:filesystem` 0.2 to the linker.
pub(super) fn add_p2_to_linker<T: FilesView + 'static>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    bindings_p2::types::add_to_linker::<T, Files>(linker, view)?;
    bindings_p2::preopens::add_to_linker::<T, Files>(linker, view)
}

/// Adds `wasi:filesystem` 0.3 to the linker.
pub(super) fn add_p3_to_linker<T: FilesView + 'static>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    bindings_p3::types::add_to_linker::<T, Files>(linker, view)?;
    bindings_p3::preopens::add_to_linker::<T, Files>(linker, view)
}
