//! `wasi:filesystem` 0.3.

use std::iter;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustix::fs::FileType;
use tokio::sync::oneshot;
use wasmtime::component::{
    Access, Accessor, Destination, FutureReader, Resource, StreamProducer, StreamReader, StreamResult,
};
use wasmtime::{AsContextMut as _, StoreContextMut};
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystem, WasiFilesystemView as _};
use wasmtime_wasi::p3::bindings::filesystem::types::{
    Advice, DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry, ErrorCode, Filesize,
    HostDescriptor, HostDescriptorWithStore, MetadataHashValue, NewTimestamp, OpenFlags, PathFlags,
};
use wasmtime_wasi::p3::bindings::filesystem::{preopens, types};
use wasmtime_wasi::p3::filesystem::{FilesystemError, FilesystemResult};

use super::listing::{Entry, Listing};
use super::look::{Look, look};
use super::open::{Existing, Opened};
use super::p3_streams::{FileBytes, FileSink};
use super::reader::Reader;
use super::refused::{Refused, refused};
use super::writer::{Place, Writer};
use super::{Files, FilesCtxView, FilesView};

/// How a data stream or a listing ends.
type End = FutureReader<Result<(), ErrorCode>>;

/// Operations that wait, as wasmtime-wasi has them but as the user.
macro_rules! as_user {
    ($(fn $name:ident($($arg:ident: $type:ty),*) -> $result:ty;)*) => {
        $(
            async fn $name(store: &Accessor<T, Self>, $($arg: $type),*) -> $result {
                let user = store.with(|mut store| store.get().user);
                let files = store.with_getter::<WasiFilesystem>(T::filesystem);
                user.run(WasiFilesystem::$name(&files, $($arg),*)).await
            }
        )*
    };
}

/// As these, where a mount may be read-only: of the descriptors in brackets.
macro_rules! changes_as_user {
    ($([$($of:ident),*] fn $name:ident($($arg:ident: $type:ty),*);)*) => {
        $(
            async fn $name(store: &Accessor<T, Self>, $($arg: $type),*) -> FilesystemResult<()> {
                let descriptors = [$($of.rep()),*];
                let user = store.with(|mut store| store.get().user);
                let files = store.with_getter::<WasiFilesystem>(T::filesystem);
                let changed = user.run(WasiFilesystem::$name(&files, $($arg),*)).await;
                changed.map_err(|error| as_linux(store, &descriptors, error))
            }
        )*
    };
}

/// An error of a change.
fn as_linux<T: FilesView + 'static>(
    store: &Accessor<T, Files>,
    descriptors: &[u32],
    error: FilesystemError,
) -> FilesystemError {
    if !matches!(error.downcast_ref(), Some(ErrorCode::NotPermitted)) {
        return error;
    }
    match store.with(|mut store| refused(store.get().files.table, descriptors)) {
        Some(Refused::ReadOnly) => ErrorCode::ReadOnly.into(),
        Some(Refused::CrossDevice) => ErrorCode::CrossDevice.into(),
        None => error,
    }
}

/// The same store, with wasmtime-wasi's own files.
fn upstream<'a, T: FilesView + 'static>(
    store: &'a mut Access<'_, T, Files>,
) -> Access<'a, T, WasiFilesystem> {
    Access::new(store.as_context_mut(), |data| T::filesystem(data))
}

/// A data stream or a listing has failed before it began.
fn ended<T: FilesView + 'static>(
    store: &mut Access<'_, T, Files>,
    error: ErrorCode,
) -> wasmtime::Result<End> {
    FutureReader::new(store, async move { wasmtime::error::Ok(Err(error)) })
}

impl<T: FilesView + 'static> HostDescriptorWithStore<T> for Files {
    changes_as_user! {
        [fd] fn set_size(fd: Resource<Descriptor>, size: Filesize);
        [fd] fn set_times(
            fd: Resource<Descriptor>, accessed: NewTimestamp, modified: NewTimestamp
        );
        [fd] fn create_directory_at(fd: Resource<Descriptor>, path: String);
        [fd] fn set_times_at(
            fd: Resource<Descriptor>, flags: PathFlags, path: String, accessed: NewTimestamp, modified: NewTimestamp
        );
        [fd] fn remove_directory_at(fd: Resource<Descriptor>, path: String);
        [fd] fn symlink_at(fd: Resource<Descriptor>, target: String, path: String);
        [fd] fn unlink_file_at(fd: Resource<Descriptor>, path: String);
        [fd, new_fd] fn link_at(
            fd: Resource<Descriptor>, flags: PathFlags, old: String, new_fd: Resource<Descriptor>, new: String
        );
        [fd, new_fd] fn rename_at(
            fd: Resource<Descriptor>, old: String, new_fd: Resource<Descriptor>, new: String
        );
    }

    as_user! {
        fn advise(
            fd: Resource<Descriptor>, offset: Filesize, len: Filesize, advice: Advice
        ) -> FilesystemResult<()>;
        fn sync_data(fd: Resource<Descriptor>) -> FilesystemResult<()>;
        fn get_flags(fd: Resource<Descriptor>) -> FilesystemResult<DescriptorFlags>;
        fn get_type(fd: Resource<Descriptor>) -> FilesystemResult<DescriptorType>;
        fn sync(fd: Resource<Descriptor>) -> FilesystemResult<()>;
        fn stat(fd: Resource<Descriptor>) -> FilesystemResult<DescriptorStat>;
        fn stat_at(
            fd: Resource<Descriptor>, flags: PathFlags, path: String
        ) -> FilesystemResult<DescriptorStat>;
        fn readlink_at(fd: Resource<Descriptor>, path: String) -> FilesystemResult<String>;
        fn is_same_object(a: Resource<Descriptor>, b: Resource<Descriptor>) -> wasmtime::Result<bool>;
        fn metadata_hash(fd: Resource<Descriptor>) -> FilesystemResult<MetadataHashValue>;
        fn metadata_hash_at(
            fd: Resource<Descriptor>, flags: PathFlags, path: String
        ) -> FilesystemResult<MetadataHashValue>;
    }

    async fn open_at(
        store: &Accessor<T, Self>,
        fd: Resource<Descriptor>,
        path_flags: PathFlags,
        path: String,
        open: OpenFlags,
        flags: DescriptorFlags,
    ) -> FilesystemResult<Resource<Descriptor>> {
        let follow = path_flags.contains(PathFlags::SYMLINK_FOLLOW);
        let (user, files) = store.with(|mut store| {
            let view = store.get();
            (view.user, view.open)
        });
        let descriptor = files.take().ok_or(ErrorCode::Quota)?;
        let existing = (OpenFlags::DIRECTORY.contains(open) && flags == DescriptorFlags::READ).then(|| {
            store.with(|mut store| {
                let Ok(Descriptor::Dir(directory)) = store.get().files.table.get(&fd) else { return None };
                let is_directory = open.contains(OpenFlags::DIRECTORY);
                Some(Existing::new(directory, &path, follow, is_directory))
            })
        });
        if let Some(existing) = existing.flatten() {
            match existing.open(&user).await {
                Opened::Done(opened) => {
                    return store.with(|mut store| {
                        let table = store.get().files.table;
                        let opened = table.push(opened)?;
                        files.opened(table, &opened, descriptor);
                        Ok(opened)
                    });
                }
                Opened::NoEntry => return Err(ErrorCode::NoEntry.into()),
                Opened::Otherwise => {}
            }
        }
        let is_unfit = match store.with(|mut store| look(store.get().files.table, &fd, &path, follow)) {
            Look::Unfit => true,
            Look::Fit => false,
            Look::Unknown => {
                let directory = Resource::new_borrow(fd.rep());
                let found = Self::stat_at(store, directory, path_flags, path.clone()).await;
                found.is_ok_and(|found| matches!(found.type_, DescriptorType::Other(_)))
            }
        };
        if is_unfit {
            return Err(ErrorCode::Unsupported.into());
        }
        let changes = open.intersects(OpenFlags::CREATE | OpenFlags::TRUNCATE)
            || flags.contains(DescriptorFlags::WRITE);
        let upstream = store.with_getter::<WasiFilesystem>(T::filesystem);
        let directory = fd.rep();
        let opened = WasiFilesystem::open_at(&upstream, fd, path_flags, path, open, flags);
        let opened = user.run(opened).await;
        let opened =
            opened.map_err(|error| if changes { as_linux(store, &[directory], error) } else { error })?;
        store.with(|mut store| files.opened(store.get().files.table, &opened, descriptor));
        Ok(opened)
    }

    fn read_directory(
        mut store: Access<'_, T, Self>,
        fd: Resource<Descriptor>,
    ) -> wasmtime::Result<(StreamReader<DirectoryEntry>, End)> {
        let FilesCtxView { files, user, open } = store.get();
        let listing = match files.table.get(&fd)? {
            Descriptor::Dir(directory) => match open.listing() {
                Some(place) => Ok(Listing::new(Arc::clone(&directory.dir), user, place)),
                None => Err(ErrorCode::Quota),
            },
            Descriptor::File(_) => Err(ErrorCode::NotDirectory),
        };
        match listing {
            Ok(listing) => {
                let (done, result) = oneshot::channel();
                let entries = StreamReader::new(&mut store, Entries { listing, done: Some(done) })?;
                Ok((entries, FutureReader::new(&mut store, result)?))
            }
            Err(error) => Ok((StreamReader::new(&mut store, iter::empty())?, ended(&mut store, error)?)),
        }
    }

    fn read_via_stream(
        mut store: Access<'_, T, Self>,
        fd: Resource<Descriptor>,
        offset: Filesize,
    ) -> wasmtime::Result<(StreamReader<u8>, End)> {
        if !store.get().open.may_stream() {
            let end = ended(&mut store, ErrorCode::InsufficientMemory)?;
            return Ok((StreamReader::new(&mut store, iter::empty())?, end));
        }
        let FilesCtxView { files, user, .. } = store.get();
        let Descriptor::File(file) = files.table.get(&fd)? else {
            return WasiFilesystem::read_via_stream(upstream(&mut store), fd, offset);
        };
        let reader = Reader::new(Arc::clone(&file.file), offset, user);
        let (done, end) = oneshot::channel();
        let bytes = StreamReader::new(&mut store, FileBytes::new(reader, done))?;
        Ok((bytes, FutureReader::new(&mut store, end)?))
    }

    fn write_via_stream(
        mut store: Access<'_, T, Self>,
        fd: Resource<Descriptor>,
        mut data: StreamReader<u8>,
        offset: Filesize,
    ) -> wasmtime::Result<End> {
        if !store.get().open.may_stream() {
            data.close(&mut store)?;
            return ended(&mut store, ErrorCode::InsufficientMemory);
        }
        match sink(&mut store, &fd, Place::At(offset)) {
            Some((sink, end)) => pipe(store, data, sink, end),
            None => WasiFilesystem::write_via_stream(upstream(&mut store), fd, data, offset),
        }
    }

    fn append_via_stream(
        mut store: Access<'_, T, Self>,
        fd: Resource<Descriptor>,
        mut data: StreamReader<u8>,
    ) -> wasmtime::Result<End> {
        if !store.get().open.may_stream() {
            data.close(&mut store)?;
            return ended(&mut store, ErrorCode::InsufficientMemory);
        }
        match sink(&mut store, &fd, Place::End) {
            Some((sink, end)) => pipe(store, data, sink, end),
            None => WasiFilesystem::append_via_stream(upstream(&mut store), fd, data),
        }
    }
}

/// `None` for what cannot be written to: wasmtime-wasi says why.
fn sink<T: FilesView + 'static>(
    store: &mut Access<'_, T, Files>,
    fd: &Resource<Descriptor>,
    place: Place,
) -> Option<(FileSink, oneshot::Receiver<Result<(), ErrorCode>>)> {
    let FilesCtxView { files, user, .. } = store.get();
    let Ok(Descriptor::File(file)) = files.table.get(fd) else { return None };
    if file.perms.write_not_permitted() {
        return None;
    }
    let (done, end) = oneshot::channel();
    let writer = Writer::new(Arc::clone(&file.file), place, user);
    Some((FileSink::new(writer, done), end))
}

fn pipe<T: FilesView + 'static>(
    mut store: Access<'_, T, Files>,
    data: StreamReader<u8>,
    sink: FileSink,
    end: oneshot::Receiver<Result<(), ErrorCode>>,
) -> wasmtime::Result<End> {
    data.pipe(&mut store, sink)?;
    FutureReader::new(&mut store, end)
}

impl HostDescriptor for FilesCtxView<'_> {
    fn drop(&mut self, fd: Resource<Descriptor>) -> wasmtime::Result<()> {
        Ok(self.open.close(self.files.table, fd)?)
    }
}

/// A directory's entries as a stream.
struct Entries {
    listing: Listing,
    done: Option<oneshot::Sender<Result<(), ErrorCode>>>,
}

impl Entries {
    fn end(&mut self, result: Result<(), ErrorCode>) -> StreamResult {
        if let Some(done) = self.done.take() {
            // The guest may have dropped the future.
            let _ = done.send(result);
        }
        StreamResult::Dropped
    }
}

impl Drop for Entries {
    fn drop(&mut self) {
        self.end(Ok(()));
    }
}

fn entry(entry: Entry) -> Result<DirectoryEntry, ErrorCode> {
    let type_ = match entry.kind {
        FileType::BlockDevice => DescriptorType::BlockDevice,
        FileType::CharacterDevice => DescriptorType::CharacterDevice,
        FileType::Directory => DescriptorType::Directory,
        FileType::Symlink => DescriptorType::SymbolicLink,
        FileType::RegularFile => DescriptorType::RegularFile,
        // wasmtime-wasi does not tell FIFOs from sockets.
        FileType::Fifo | FileType::Socket | FileType::Unknown => DescriptorType::Other(None),
    };
    let name = entry.name.ok_or(ErrorCode::IllegalByteSequence)?;
    Ok(DirectoryEntry { type_, name })
}

impl<D> StreamProducer<D> for Entries {
    type Item = DirectoryEntry;
    type Buffer = Option<DirectoryEntry>;

    fn poll_produce<'a>(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut store: StoreContextMut<'a, D>,
        mut to: Destination<'a, Self::Item, Self::Buffer>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let is_asked = to.remaining(&mut store) != Some(0);
        let next = match self.listing.poll_ready(cx) {
            Poll::Pending if finish => return Poll::Ready(Ok(StreamResult::Cancelled)),
            // Nothing is taken that nobody asked for.
            Poll::Ready(Ok(true)) if !is_asked => return Poll::Ready(Ok(StreamResult::Completed)),
            Poll::Ready(Ok(true)) => ready!(self.listing.poll_next(cx)),
            Poll::Ready(Ok(false)) => Ok(None),
            Poll::Ready(Err(error)) => Err(error),
            Poll::Pending => return Poll::Pending,
        };
        let next = next.map_err(ErrorCode::from).and_then(|next| next.map(entry).transpose());
        Poll::Ready(Ok(match next {
            Ok(Some(next)) => {
                to.set_buffer(Some(next));
                StreamResult::Completed
            }
            Ok(None) => self.end(Ok(())),
            Err(error) => self.end(Err(error)),
        }))
    }
}

impl types::Host for FilesCtxView<'_> {
    fn convert_error_code(&mut self, error: FilesystemError) -> wasmtime::Result<ErrorCode> {
        types::Host::convert_error_code(&mut self.files, error)
    }
}

impl preopens::Host for FilesCtxView<'_> {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Resource<Descriptor>, String)>> {
        preopens::Host::get_directories(&mut self.files)
    }
}
