//! `wasi:filesystem` 0.3.

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
use super::refused::{Refused, refused};
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
        let user = store.with(|mut store| store.get().user);
        let files = store.with_getter::<WasiFilesystem>(T::filesystem);
        let directory = fd.rep();
        let opened = user.run(WasiFilesystem::open_at(&files, fd, path_flags, path, open, flags)).await;
        opened.map_err(|error| if changes { as_linux(store, &[directory], error) } else { error })
    }

    fn read_directory(
        mut store: Access<'_, T, Self>,
        fd: Resource<Descriptor>,
    ) -> wasmtime::Result<(StreamReader<DirectoryEntry>, End)> {
        let user = store.get().user;
        user.call(|| WasiFilesystem::read_directory(upstream(&mut store), fd))
    }

    fn read_via_stream(
        mut store: Access<'_, T, Self>,
        fd: Resource<Descriptor>,
        offset: Filesize,
    ) -> wasmtime::Result<(StreamReader<u8>, End)> {
        WasiFilesystem::read_via_stream(upstream(&mut store), fd, offset)
    }

    fn write_via_stream(
        mut store: Access<'_, T, Self>,
        fd: Resource<Descriptor>,
        data: StreamReader<u8>,
        offset: Filesize,
    ) -> wasmtime::Result<End> {
        WasiFilesystem::write_via_stream(upstream(&mut store), fd, data, offset)
    }

    fn append_via_stream(
        mut store: Access<'_, T, Self>,
        fd: Resource<Descriptor>,
        data: StreamReader<u8>,
    ) -> wasmtime::Result<End> {
        WasiFilesystem::append_via_stream(upstream(&mut store), fd, data)
    }
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
