//! `wasi:filesystem` 0.3.

use std::sync::Arc;

use tokio::sync::oneshot;
use wasmtime::AsContextMut as _;
use wasmtime::component::{Access, Accessor, FutureReader, Resource, StreamReader};
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystem, WasiFilesystemView as _};
use wasmtime_wasi::p3::bindings::filesystem::types::{
    Advice, DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry, ErrorCode, Filesize,
    HostDescriptor, HostDescriptorWithStore, MetadataHashValue, NewTimestamp, OpenFlags, PathFlags,
};
use wasmtime_wasi::p3::bindings::filesystem::{preopens, types};
use wasmtime_wasi::p3::filesystem::{FilesystemError, FilesystemResult};

use super::look::{Look, look};
use super::open::{Existing, Opened};
use super::p3_streams::{FileBytes, FileSink};
use super::reader::Reader;
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

/// The same store, with wasmtime-wasi's own files.
fn upstream<'a, T: FilesView + 'static>(
    store: &'a mut Access<'_, T, Files>,
) -> Access<'a, T, WasiFilesystem> {
    Access::new(store.as_context_mut(), |data| T::filesystem(data))
}

impl<T: FilesView + 'static> HostDescriptorWithStore<T> for Files {
    as_user! {
        fn advise(
            fd: Resource<Descriptor>, offset: Filesize, len: Filesize, advice: Advice
        ) -> FilesystemResult<()>;
        fn sync_data(fd: Resource<Descriptor>) -> FilesystemResult<()>;
        fn get_flags(fd: Resource<Descriptor>) -> FilesystemResult<DescriptorFlags>;
        fn get_type(fd: Resource<Descriptor>) -> FilesystemResult<DescriptorType>;
        fn set_size(fd: Resource<Descriptor>, size: Filesize) -> FilesystemResult<()>;
        fn set_times(
            fd: Resource<Descriptor>, accessed: NewTimestamp, modified: NewTimestamp
        ) -> FilesystemResult<()>;
        fn sync(fd: Resource<Descriptor>) -> FilesystemResult<()>;
        fn create_directory_at(fd: Resource<Descriptor>, path: String) -> FilesystemResult<()>;
        fn stat(fd: Resource<Descriptor>) -> FilesystemResult<DescriptorStat>;
        fn stat_at(
            fd: Resource<Descriptor>, flags: PathFlags, path: String
        ) -> FilesystemResult<DescriptorStat>;
        fn set_times_at(
            fd: Resource<Descriptor>, flags: PathFlags, path: String, accessed: NewTimestamp, modified: NewTimestamp
        ) -> FilesystemResult<()>;
        fn link_at(
            fd: Resource<Descriptor>, flags: PathFlags, old: String, new_fd: Resource<Descriptor>, new: String
        ) -> FilesystemResult<()>;
        fn readlink_at(fd: Resource<Descriptor>, path: String) -> FilesystemResult<String>;
        fn remove_directory_at(fd: Resource<Descriptor>, path: String) -> FilesystemResult<()>;
        fn rename_at(
            fd: Resource<Descriptor>, old: String, new_fd: Resource<Descriptor>, new: String
        ) -> FilesystemResult<()>;
        fn symlink_at(fd: Resource<Descriptor>, target: String, path: String) -> FilesystemResult<()>;
        fn unlink_file_at(fd: Resource<Descriptor>, path: String) -> FilesystemResult<()>;
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
        let existing = (OpenFlags::DIRECTORY.contains(open) && flags == DescriptorFlags::READ).then(|| {
            store.with(|mut store| {
                let FilesCtxView { files, user } = store.get();
                let Ok(Descriptor::Dir(directory)) = files.table.get(&fd) else { return None };
                let is_directory = open.contains(OpenFlags::DIRECTORY);
                Some((Existing::new(directory, &path, follow, is_directory), user))
            })
        });
        if let Some((existing, user)) = existing.flatten() {
            match existing.open(&user).await {
                Opened::Done(opened) => {
                    return Ok(store.with(|mut store| store.get().files.table.push(opened))?);
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
        let user = store.with(|mut store| store.get().user);
        let files = store.with_getter::<WasiFilesystem>(T::filesystem);
        user.run(WasiFilesystem::open_at(&files, fd, path_flags, path, open, flags)).await
    }

    fn read_directory(
        mut store: Access<'_, T, Self>,
        fd: Resource<Descriptor>,
    ) -> wasmtime::Result<(StreamReader<DirectoryEntry>, End)> {
        let user = store.get().user;
        user.start_lasting(|| WasiFilesystem::read_directory(upstream(&mut store), fd))
    }

    fn read_via_stream(
        mut store: Access<'_, T, Self>,
        fd: Resource<Descriptor>,
        offset: Filesize,
    ) -> wasmtime::Result<(StreamReader<u8>, End)> {
        let FilesCtxView { files, user } = store.get();
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
        data: StreamReader<u8>,
        offset: Filesize,
    ) -> wasmtime::Result<End> {
        match sink(&mut store, &fd, Place::At(offset)) {
            Some((sink, end)) => pipe(store, data, sink, end),
            None => WasiFilesystem::write_via_stream(upstream(&mut store), fd, data, offset),
        }
    }

    fn append_via_stream(
        mut store: Access<'_, T, Self>,
        fd: Resource<Descriptor>,
        data: StreamReader<u8>,
    ) -> wasmtime::Result<End> {
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
    let FilesCtxView { files, user } = store.get();
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
        HostDescriptor::drop(&mut self.files, fd)
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
