//! Directories that are being listed.
//!
//! ```text
//! guest ─► next ─ one of the batch ─► Entry
//!            └─ none left ─► a thread reads the next batch (getdents64(2)) ─► batch
//! ```
//!
//! wasmtime-wasi's own listings read a directory whole, as large as a guest makes it (0.2), or keep a thread of the
//! pool which the containers share until the guest has read all (0.3). Here a listing that nobody goes on with is one
//! descriptor and one batch.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, openat, statat};
use tokio::task::JoinHandle;

use super::open_files::ListingPlace;
use crate::container::user::FileUser;

/// Entries that are read at a time: of 255 bytes each less than [`super::super::MAX_TRANSFER`].
const BATCH: usize = 128;

/// An entry of a directory; the name need not be Unicode.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) kind: FileType,
    /// `None`: it is none that a guest can be told.
    pub(super) name: Option<String>,
}

/// A directory that is being listed.
#[derive(Debug)]
pub(super) struct Listing {
    user: FileUser,
    state: State,
    batch: VecDeque<Entry>,
    /// A thread that reads has it too: what nobody waits for any more still counts.
    place: Arc<ListingPlace>,
}

#[derive(Debug)]
enum State {
    /// Exit: `Reading`.
    Idle(Reader),
    /// Exits: `Idle`, `Ended`.
    Reading(JoinHandle<io::Result<(Option<Reader>, VecDeque<Entry>)>>),
    /// Final.
    Ended,
}

/// Reads batches; blocks.
enum Reader {
    New(Arc<File>),
    Open(Dir),
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::New(_) => "New",
            Self::Open(_) => "Open",
        })
    }
}

impl Listing {
    /// Lists `directory` as the user. Nothing is read yet.
    pub(super) fn new(directory: Arc<File>, user: FileUser, place: ListingPlace) -> Self {
        Self {
            user,
            state: State::Idle(Reader::New(directory)),
            batch: VecDeque::new(),
            place: Arc::new(place),
        }
    }

    /// Waits until there is an entry to take, or none left: whether there is.
    ///
    /// # Errors
    /// The kernel's; then there are no more entries.
    pub(super) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        loop {
            if !self.batch.is_empty() {
                return Poll::Ready(Ok(true));
            }
            self.state = match std::mem::replace(&mut self.state, State::Ended) {
                State::Idle(reader) => {
                    let place = Arc::clone(&self.place);
                    State::Reading(self.user.spawn(move || {
                        let _place = place;
                        reader.read()
                    }))
                }
                State::Reading(mut reading) => {
                    let Poll::Ready(read) = Pin::new(&mut reading).poll(cx) else {
                        self.state = State::Reading(reading);
                        return Poll::Pending;
                    };
                    let (reader, batch) = read.unwrap_or_else(|error| Err(io::Error::other(error)))?;
                    self.batch = batch;
                    reader.map_or(State::Ended, State::Idle)
                }
                State::Ended => return Poll::Ready(Ok(false)),
            };
        }
    }

    /// Waits for the next entry.
    ///
    /// # Errors
    /// As [`Self::poll_ready`].
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Entry>>> {
        ready!(self.poll_ready(cx))?;
        Poll::Ready(Ok(self.batch.pop_front()))
    }
}

impl Reader {
    /// The next entries, and what reads more.
    fn read(self) -> io::Result<(Option<Self>, VecDeque<Entry>)> {
        let mut directory = match self {
            Self::New(directory) => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                // A position of its own.
                Dir::new(openat(&directory, ".", flags, Mode::empty())?)?
            }
            Self::Open(directory) => directory,
        };
        let mut batch = VecDeque::with_capacity(BATCH);
        while batch.len() < BATCH {
            let Some(entry) = directory.read() else { return Ok((None, batch)) };
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let kind = match entry.file_type() {
                FileType::Unknown => match statat(directory.fd()?, name, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                    // Gone since.
                    Err(rustix::io::Errno::NOENT) => continue,
                    Err(error) => return Err(error.into()),
                },
                kind => kind,
            };
            batch.push_back(Entry { kind, name: name.to_str().ok().map(str::to_owned) });
        }
        Ok((Some(Self::Open(directory)), batch))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::future::poll_fn;
    use std::os::unix::ffi::OsStrExt;

    use super::*;
    use crate::descriptors::Descriptors;
    use crate::wasi::filesystem::OpenFiles;

    fn listing(path: &std::path::Path) -> Listing {
        let place = OpenFiles::new(Descriptors::guaranteed(1).share("a")).listing().unwrap();
        Listing::new(File::open(path).unwrap().into(), FileUser::default(), place)
    }

    #[tokio::test]
    async fn every_entry_comes_once_whatever_the_batches() {
        for count in [0, 1, BATCH - 1, BATCH, BATCH + 1, 3 * BATCH + 7] {
            let dir = tempfile::tempdir().unwrap();
            let names: BTreeSet<_> = (0..count).map(|n| format!("{n:0>40}")).collect();
            for name in &names {
                std::fs::write(dir.path().join(name), "").unwrap();
            }
            let mut listing = listing(dir.path());
            let mut listed = Vec::new();
            while let Some(entry) = poll_fn(|cx| listing.poll_next(cx)).await.unwrap() {
                assert_eq!(entry.kind, FileType::RegularFile);
                listed.push(entry.name.unwrap());
            }
            assert_eq!((listed.len(), listed.into_iter().collect()), (count, names));
            assert_eq!(poll_fn(|cx| listing.poll_next(cx)).await.unwrap(), None, "and again");
        }
    }

    #[tokio::test]
    async fn kinds_names_and_errors() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("directory")).unwrap();
        std::os::unix::fs::symlink("nowhere", dir.path().join("link")).unwrap();
        std::fs::write(dir.path().join(std::ffi::OsStr::from_bytes(b"\xff")), "").unwrap();
        let mut found = listing(dir.path());
        let mut listed = BTreeSet::new();
        while let Some(entry) = poll_fn(|cx| found.poll_next(cx)).await.unwrap() {
            listed.insert(format!("{:?} {:?}", entry.name, entry.kind));
        }
        let expected = ["None RegularFile", "Some(\"directory\") Directory", "Some(\"link\") Symlink"]
            .map(str::to_owned);
        assert_eq!(listed, expected.into());

        std::fs::write(dir.path().join("file"), "").unwrap();
        let mut none = listing(&dir.path().join("file"));
        poll_fn(|cx| none.poll_next(cx)).await.unwrap_err();
        assert_eq!(poll_fn(|cx| none.poll_next(cx)).await.unwrap(), None);
    }

    #[test]
    fn what_is_given_up_counts_until_its_thread_has_ended() {
        let event_loop =
            tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).build().unwrap();
        event_loop.block_on(async {
            let (ends, ended) = std::sync::mpsc::channel::<()>();
            let busy = tokio::task::spawn_blocking(move || ended.recv());
            let dir = tempfile::tempdir().unwrap();
            let files = OpenFiles::new(Descriptors::guaranteed(1).share("a"));
            let place = files.listing().unwrap();
            let mut listing =
                Listing::new(File::open(dir.path()).unwrap().into(), FileUser::default(), place);
            let mut cx = Context::from_waker(std::task::Waker::noop());
            assert!(listing.poll_ready(&mut cx).is_pending());
            drop(listing);
            assert!(files.listing().is_none(), "it is before the thread");
            drop(ends);
            busy.await.unwrap().unwrap_err();
            // The one thread has done it before this.
            tokio::task::spawn_blocking(|| ()).await.unwrap();
            assert!(files.listing().is_some());
        });
    }
}
