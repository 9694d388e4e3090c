//! `wasi:filesystem` 0.2.

use std::future::poll_fn;
use std::sync::Arc;

use rustix::fs::FileType;
use wasmtime::component::{Resource, ResourceTable};
use wasmtime_wasi::p2::bindings::filesystem::types::{
    Advice, Descriptor, DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry,
    DirectoryEntryStream, ErrorCode, Filesize, HostDescriptor, HostDirectoryEntryStream, MetadataHashValue,
    NewTimestamp, OpenFlags, PathFlags,
};
use wasmtime_wasi::p2::bindings::filesystem::{preopens, types};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, FsError, FsResult};

use super::FilesCtxView;
use super::listing::Listing;
use super::look::{Look, look};
use super::open::{Existing, Opened};
use super::p2_streams::{FileReader, FileWriter};
use super::reader::Reader;
use super::refused::{Refused, refused};
use super::writer::{Place, Writer};

/// Operations that wait, as wasmtime-wasi has them but as the user.
macro_rules! as_user {
    ($(fn $name:ident($($arg:ident: $type:ty),*) -> $result:ty;)*) => {
        $(
            async fn $name(&mut self, $($arg: $type),*) -> $result {
                let Self { files, user, .. } = self;
                user.run(HostDescriptor::$name(files, $($arg),*)).await
            }
        )*
    };
}

/// As these, where a mount may be read-only: of the descriptors in brackets.
macro_rules! changes_as_user {
    ($([$($of:ident),*] fn $name:ident($($arg:ident: $type:ty),*);)*) => {
        $(
            async fn $name(&mut self, $($arg: $type),*) -> FsResult<()> {
                let descriptors = [$($of.rep()),*];
                let Self { files, user, .. } = self;
                let changed = user.run(HostDescriptor::$name(files, $($arg),*)).await;
                changed.map_err(|error| as_linux(files.table, &descriptors, error))
            }
        )*
    };
}

/// An error of a change.
fn as_linux(table: &ResourceTable, descriptors: &[u32], error: FsError) -> FsError {
    if !matches!(error.downcast_ref(), Some(ErrorCode::NotPermitted)) {
        return error;
    }
    match refused(table, descriptors) {
        Some(Refused::ReadOnly) => ErrorCode::ReadOnly.into(),
        Some(Refused::CrossDevice) => ErrorCode::CrossDevice.into(),
        None => error,
    }
}

impl HostDescriptor for FilesCtxView<'_> {
    changes_as_user! {
        [fd] fn set_size(fd: Resource<Descriptor>, size: Filesize);
        [fd] fn set_times(fd: Resource<Descriptor>, accessed: NewTimestamp, modified: NewTimestamp);
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
        fn advise(fd: Resource<Descriptor>, offset: Filesize, len: Filesize, advice: Advice) -> FsResult<()>;
        fn sync_data(fd: Resource<Descriptor>) -> FsResult<()>;
        fn get_flags(fd: Resource<Descriptor>) -> FsResult<DescriptorFlags>;
        fn get_type(fd: Resource<Descriptor>) -> FsResult<DescriptorType>;
        fn read(fd: Resource<Descriptor>, len: Filesize, offset: Filesize) -> FsResult<(Vec<u8>, bool)>;
        fn write(fd: Resource<Descriptor>, bytes: Vec<u8>, offset: Filesize) -> FsResult<Filesize>;
        fn sync(fd: Resource<Descriptor>) -> FsResult<()>;
        fn stat(fd: Resource<Descriptor>) -> FsResult<DescriptorStat>;
        fn stat_at(fd: Resource<Descriptor>, flags: PathFlags, path: String) -> FsResult<DescriptorStat>;
        fn readlink_at(fd: Resource<Descriptor>, path: String) -> FsResult<String>;
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
        let descriptor = self.open.take().ok_or(ErrorCode::Quota)?;
        let follow = path_flags.contains(PathFlags::SYMLINK_FOLLOW);
        if OpenFlags::DIRECTORY.contains(open)
            && flags == DescriptorFlags::READ
            && let Descriptor::Dir(directory) = self.files.table.get(&fd)?
        {
            let is_directory = open.contains(OpenFlags::DIRECTORY);
            match Existing::new(directory, &path, follow, is_directory).open(&self.user).await {
                Opened::Done(opened) => {
                    let opened = self.files.table.push(opened)?;
                    self.open.opened(self.files.table, &opened, descriptor);
                    return Ok(opened);
                }
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
        let changes = open.intersects(OpenFlags::CREATE | OpenFlags::TRUNCATE)
            || flags.contains(DescriptorFlags::WRITE);
        let Self { files, user, .. } = self;
        let directory = fd.rep();
        let opened = user.run(HostDescriptor::open_at(files, fd, path_flags, path, open, flags)).await;
        let opened = opened
            .map_err(|error| if changes { as_linux(files.table, &[directory], error) } else { error })?;
        self.open.opened(self.files.table, &opened, descriptor);
        Ok(opened)
    }

    fn drop(&mut self, fd: Resource<Descriptor>) -> wasmtime::Result<()> {
        Ok(self.open.close(self.files.table, fd)?)
    }

    async fn read_directory(&mut self, fd: Resource<Descriptor>) -> FsResult<Resource<DirectoryEntryStream>> {
        let Descriptor::Dir(directory) = self.files.table.get(&fd)? else {
            return Err(ErrorCode::NotDirectory.into());
        };
        let place = self.open.listing().ok_or(ErrorCode::Quota)?;
        let mut listing = Listing::new(Arc::clone(&directory.dir), self.user.clone(), place);
        // Whether it can be listed at all is told here.
        poll_fn(|cx| listing.poll_ready(cx)).await?;
        let listing = self.files.table.push(listing)?;
        Ok(Resource::new_own(listing.rep()))
    }

    fn read_via_stream(
        &mut self,
        fd: Resource<Descriptor>,
        offset: Filesize,
    ) -> FsResult<Resource<DynInputStream>> {
        self.check_stream()?;
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
        self.check_stream()?;
        match self.writer(&fd, Place::At(offset)) {
            Some(writer) => Ok(self.files.table.push(writer)?),
            None => HostDescriptor::write_via_stream(&mut self.files, fd, offset),
        }
    }

    fn append_via_stream(&mut self, fd: Resource<Descriptor>) -> FsResult<Resource<DynOutputStream>> {
        self.check_stream()?;
        match self.writer(&fd, Place::End) {
            Some(writer) => Ok(self.files.table.push(writer)?),
            None => HostDescriptor::append_via_stream(&mut self.files, fd),
        }
    }
}

impl FilesCtxView<'_> {
    /// Whether there may be one more stream.
    fn check_stream(&self) -> FsResult<()> {
        if self.open.may_stream() { Ok(()) } else { Err(ErrorCode::InsufficientMemory.into()) }
    }

    /// `None` for what cannot be written to: wasmtime-wasi says why.
    fn writer(&self, fd: &Resource<Descriptor>, place: Place) -> Option<DynOutputStream> {
        let Ok(Descriptor::File(file)) = self.files.table.get(fd) else { return None };
        if file.perms.write_not_permitted() {
            return None;
        }
        Some(Box::new(FileWriter::new(Writer::new(Arc::clone(&file.file), place, self.user.clone()))))
    }
}

/// What the guest knows as a stream of entries is a [`Listing`] in the table.
fn listing(stream: &Resource<DirectoryEntryStream>) -> Resource<Listing> {
    Resource::new_own(stream.rep())
}

fn kind(kind: FileType) -> DescriptorType {
    match kind {
        FileType::BlockDevice => DescriptorType::BlockDevice,
        FileType::CharacterDevice => DescriptorType::CharacterDevice,
        FileType::Directory => DescriptorType::Directory,
        FileType::Symlink => DescriptorType::SymbolicLink,
        FileType::RegularFile => DescriptorType::RegularFile,
        // wasmtime-wasi does not tell FIFOs from sockets.
        FileType::Fifo | FileType::Socket | FileType::Unknown => DescriptorType::Unknown,
    }
}

impl HostDirectoryEntryStream for FilesCtxView<'_> {
    async fn read_directory_entry(
        &mut self,
        stream: Resource<DirectoryEntryStream>,
    ) -> FsResult<Option<DirectoryEntry>> {
        let listing = self.files.table.get_mut(&listing(&stream))?;
        let Some(entry) = poll_fn(|cx| listing.poll_next(cx)).await? else { return Ok(None) };
        let name = entry.name.ok_or(ErrorCode::IllegalByteSequence)?;
        Ok(Some(DirectoryEntry { type_: kind(entry.kind), name }))
    }

    fn drop(&mut self, stream: Resource<DirectoryEntryStream>) -> wasmtime::Result<()> {
        self.files.table.delete(listing(&stream))?;
        Ok(())
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
