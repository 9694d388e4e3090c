//! `wasi:filesystem` 0.2.

use std::sync::Arc;

use wasmtime::component::Resource;
use wasmtime_wasi::p2::bindings::filesystem::types::{
    Advice, Descriptor, DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry,
    DirectoryEntryStream, ErrorCode, Filesize, HostDescriptor, HostDirectoryEntryStream, MetadataHashValue,
    NewTimestamp, OpenFlags, PathFlags,
};
use wasmtime_wasi::p2::bindings::filesystem::{preopens, types};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, FsError, FsResult};

use super::FilesCtxView;
use super::look::{Look, look};
use super::open::{Existing, Opened};
use super::p2_streams::{FileReader, FileWriter};
use super::reader::Reader;
use super::writer::{Place, Writer};

/// Operations that wait, as wasmtime-wasi has them but as the user.
macro_rules! as_user {
    ($(fn $name:ident($($arg:ident: $type:ty),*) -> $result:ty;)*) => {
        $(
            async fn $name(&mut self, $($arg: $type),*) -> $result {
                let Self { files, user } = self;
                user.run(HostDescriptor::$name(files, $($arg),*)).await
            }
        )*
    };
}

impl HostDescriptor for FilesCtxView<'_> {
    as_user! {
        fn advise(fd: Resource<Descriptor>, offset: Filesize, len: Filesize, advice: Advice) -> FsResult<()>;
        fn sync_data(fd: Resource<Descriptor>) -> FsResult<()>;
        fn get_flags(fd: Resource<Descriptor>) -> FsResult<DescriptorFlags>;
        fn get_type(fd: Resource<Descriptor>) -> FsResult<DescriptorType>;
        fn set_size(fd: Resource<Descriptor>, size: Filesize) -> FsResult<()>;
        fn set_times(fd: Resource<Descriptor>, accessed: NewTimestamp, modified: NewTimestamp) -> FsResult<()>;
        fn read(fd: Resource<Descriptor>, len: Filesize, offset: Filesize) -> FsResult<(Vec<u8>, bool)>;
        fn write(fd: Resource<Descriptor>, bytes: Vec<u8>, offset: Filesize) -> FsResult<Filesize>;
        fn read_directory(fd: Resource<Descriptor>) -> FsResult<Resource<DirectoryEntryStream>>;
        fn sync(fd: Resource<Descriptor>) -> FsResult<()>;
        fn create_directory_at(fd: Resource<Descriptor>, path: String) -> FsResult<()>;
        fn stat(fd: Resource<Descriptor>) -> FsResult<DescriptorStat>;
        fn stat_at(fd: Resource<Descriptor>, flags: PathFlags, path: String) -> FsResult<DescriptorStat>;
        fn set_times_at(
            fd: Resource<Descriptor>, flags: PathFlags, path: String, accessed: NewTimestamp, modified: NewTimestamp
        ) -> FsResult<()>;
        fn link_at(
            fd: Resource<Descriptor>, flags: PathFlags, old: String, new_fd: Resource<Descriptor>, new: String
        ) -> FsResult<()>;
        fn readlink_at(fd: Resource<Descriptor>, path: String) -> FsResult<String>;
        fn remove_directory_at(fd: Resource<Descriptor>, path: String) -> FsResult<()>;
        fn rename_at(
            fd: Resource<Descriptor>, old: String, new_fd: Resource<Descriptor>, new: String
        ) -> FsResult<()>;
        fn symlink_at(fd: Resource<Descriptor>, target: String, path: String) -> FsResult<()>;
        fn unlink_file_at(fd: Resource<Descriptor>, path: String) -> FsResult<()>;
        fn is_same_object(a: Resource<Descriptor>, b: Resource<Descriptor>) -> wasmtime::Result<bool>;
        fn metadata_hash(fd: Resource<Descriptor>) -> FsResult<MetadataHashValue>;
        fn metadata_hash_at(
            fd: Resource<Descriptor>, flags: PathFlags, path: String
        ) -> FsResult<MetadataHashValue>;
    }

    async fn open_at(
        &mut self,
        fd: Resource<Descriptor>,
        path_flags: PathFlags,
        path: String,
        open: OpenFlags,
        flags: DescriptorFlags,
    ) -> FsResult<Resource<Descriptor>> {
        let follow = path_flags.contains(PathFlags::SYMLINK_FOLLOW);
        if OpenFlags::DIRECTORY.contains(open)
            && flags == DescriptorFlags::READ
            && let Descriptor::Dir(directory) = self.files.table.get(&fd)?
        {
            let is_directory = open.contains(OpenFlags::DIRECTORY);
            match Existing::new(directory, &path, follow, is_directory).open(&self.user).await {
                Opened::Done(descriptor) => return Ok(self.files.table.push(descriptor)?),
                Opened::NoEntry => return Err(ErrorCode::NoEntry.into()),
                Opened::Otherwise => {}
            }
        }
        let is_unfit = match look(self.files.table, &fd, &path, follow) {
            Look::Unfit => true,
            Look::Fit => false,
            Look::Unknown => {
                let directory = Resource::new_borrow(fd.rep());
                let found = self.stat_at(directory, path_flags, path.clone()).await;
                found.is_ok_and(|found| found.type_ == DescriptorType::Unknown)
            }
        };
        if is_unfit {
            return Err(ErrorCode::Unsupported.into());
        }
        let Self { files, user } = self;
        user.run(HostDescriptor::open_at(files, fd, path_flags, path, open, flags)).await
    }

    fn drop(&mut self, fd: Resource<Descriptor>) -> wasmtime::Result<()> {
        HostDescriptor::drop(&mut self.files, fd)
    }

    fn read_via_stream(
        &mut self,
        fd: Resource<Descriptor>,
        offset: Filesize,
    ) -> FsResult<Resource<DynInputStream>> {
        let Descriptor::File(file) = self.files.table.get(&fd)? else {
            return HostDescriptor::read_via_stream(&mut self.files, fd, offset);
        };
        let reader = Reader::new(Arc::clone(&file.file), offset, self.user.clone());
        let stream: DynInputStream = Box::new(FileReader::new(reader));
        Ok(self.files.table.push(stream)?)
    }

    fn write_via_stream(
        &mut self,
        fd: Resource<Descriptor>,
        offset: Filesize,
    ) -> FsResult<Resource<DynOutputStream>> {
        match self.writer(&fd, Place::At(offset)) {
            Some(writer) => Ok(self.files.table.push(writer)?),
            None => HostDescriptor::write_via_stream(&mut self.files, fd, offset),
        }
    }

    fn append_via_stream(&mut self, fd: Resource<Descriptor>) -> FsResult<Resource<DynOutputStream>> {
        match self.writer(&fd, Place::End) {
            Some(writer) => Ok(self.files.table.push(writer)?),
            None => HostDescriptor::append_via_stream(&mut self.files, fd),
        }
    }
}

impl FilesCtxView<'_> {
    /// `None` for what cannot be written to: wasmtime-wasi says why.
    fn writer(&self, fd: &Resource<Descriptor>, place: Place) -> Option<DynOutputStream> {
        let Ok(Descriptor::File(file)) = self.files.table.get(fd) else { return None };
        if file.perms.write_not_permitted() {
            return None;
        }
        Some(Box::new(FileWriter::new(Writer::new(Arc::clone(&file.file), place, self.user.clone()))))
    }
}

/// A directory has been read whole when its entries are asked for.
impl HostDirectoryEntryStream for FilesCtxView<'_> {
    async fn read_directory_entry(
        &mut self,
        stream: Resource<DirectoryEntryStream>,
    ) -> FsResult<Option<DirectoryEntry>> {
        self.files.read_directory_entry(stream).await
    }

    fn drop(&mut self, stream: Resource<DirectoryEntryStream>) -> wasmtime::Result<()> {
        HostDirectoryEntryStream::drop(&mut self.files, stream)
    }
}

impl types::Host for FilesCtxView<'_> {
    fn convert_error_code(&mut self, error: FsError) -> wasmtime::Result<ErrorCode> {
        types::Host::convert_error_code(&mut self.files, error)
    }

    fn filesystem_error_code(
        &mut self,
        error: Resource<wasmtime::Error>,
    ) -> wasmtime::Result<Option<ErrorCode>> {
        types::Host::filesystem_error_code(&mut self.files, error)
    }
}

impl preopens::Host for FilesCtxView<'_> {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Resource<Descriptor>, String)>> {
        preopens::Host::get_directories(&mut self.files)
    }
}
