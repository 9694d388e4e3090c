//! The buffers between one container and the logger's thread.
//!
//! ```text
//! container task: poll_ready ─► write ─► [ buffer, 64 KiB ] ─► take ─► logger thread
//!                     ▲                                          │
//!                     └───────────── wakes the waiting ──────────┘
//! ```
//!
//! A buffer is open until its container's log is closed; after that, what is written to it is discarded and
//! nobody waits.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::Thread;

use bytes::Bytes;
use jiff::Timestamp;

use super::cri::Output;
use super::tail::LogTail;

/// What one stream of one container may hold that the logger has not taken yet, in bytes: a pipe's default
/// capacity on Linux (pipe(7)), which is what a container's output goes through elsewhere.
pub const BUFFER_BYTES: usize = 64 * 1024;

/// What one separately timed piece of a buffer counts against [`BUFFER_BYTES`], in bytes, so that a flood
/// of tiny writes is bounded in memory as well.
const PIECE_BYTES: usize = 32;

/// How many tasks can wait for room in one stream. One is usual; a waiting task beyond that displaces the
/// first, which is woken and polls again.
const MAX_WAITERS: usize = 16;

/// The three sources of a container's log, in the order of their index.
pub(super) const SOURCES: [Output; 3] = [Output::Stdout, Output::Stderr, Output::Stderr];
/// Index of peapod's own lines. A source of its own, so that they never land within a container's line.
const SYSTEM: usize = 2;

/// Where a container's standard output or standard error goes. Clones are the same stream.
#[derive(Debug, Clone)]
pub struct LogStream {
    feed: Arc<Feed>,
    source: usize,
}

impl LogStream {
    /// How many bytes the stream takes now, at least 1; pending while it is full.
    ///
    /// Always ready once the container's log was closed: there is nothing left to wait for.
    pub fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<usize> {
        self.feed.buffer(self.source).poll_ready(cx)
    }

    /// Appends `bytes` and stamps the lines that end in them with the present time. Never blocks.
    ///
    /// Give no more than [`LogStream::poll_ready`] allowed. More is taken too, as nothing may be lost; the
    /// bound is then one allowance per clone. Discarded, and counted, once the log was closed.
    pub fn write(&self, bytes: Bytes) {
        if !bytes.is_empty() && !self.feed.append(self.source, &bytes, usize::MAX) {
            self.feed.discarded.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        }
    }
}

/// All buffers of one container, shared with the logger's thread.
#[derive(Debug)]
pub(super) struct Feed {
    buffers: [Mutex<Buffer>; SOURCES.len()],
    /// Orders the pieces of the three buffers among each other.
    next_piece: AtomicU64,
    /// Whether there is something to take.
    dirty: AtomicBool,
    /// Whether no more will come.
    closed: AtomicBool,
    /// Bytes that were written too late, or found no room.
    discarded: AtomicU64,
    /// The last of what was said, where somebody wants it.
    tail: OnceLock<LogTail>,
    logger: Thread,
}

impl Feed {
    pub(super) fn new(logger: Thread) -> Self {
        Self {
            buffers: Default::default(),
            next_piece: AtomicU64::new(0),
            // The first round creates the container's file, even if it never says anything.
            dirty: AtomicBool::new(true),
            closed: AtomicBool::new(false),
            discarded: AtomicU64::new(0),
            tail: OnceLock::new(),
            logger,
        }
    }

    /// Keeps the last of what is said from now on.
    pub(super) fn tail(&self) -> LogTail {
        self.tail.get_or_init(LogTail::default).clone()
    }

    pub(super) fn stream(self: &Arc<Self>, output: Output) -> LogStream {
        let source = match output {
            Output::Stdout => 0,
            Output::Stderr => 1,
        };
        LogStream { feed: Arc::clone(self), source }
    }

    /// Lines of peapod's own, cut to what the buffer holds. Discarded, and counted, when there is no room.
    pub(super) fn system(&self, text: &str) {
        let end = text.floor_char_boundary(BUFFER_BYTES - 1);
        let text = &text[..end];
        let line = format!("{}\n", text.strip_suffix('\n').unwrap_or(text));
        if !self.append(SYSTEM, line.as_bytes(), BUFFER_BYTES) {
            self.discarded.fetch_add(line.len() as u64, Ordering::Relaxed);
        }
    }

    /// No more will come. What waits for room is woken.
    pub(super) fn close(&self) {
        for source in 0..SOURCES.len() {
            let mut buffer = self.buffer(source);
            buffer.closed = true;
            let waiters = std::mem::take(&mut buffer.waiters);
            drop(buffer);
            waiters.into_iter().for_each(Waker::wake);
        }
        self.closed.store(true, Ordering::Release);
        self.logger.unpark();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Whether anything was written since the last call.
    pub(super) fn take_dirty(&self) -> bool {
        self.dirty.swap(false, Ordering::AcqRel)
    }

    pub(super) fn discarded(&self) -> u64 {
        self.discarded.load(Ordering::Relaxed)
    }

    /// Moves what a source holds into `batch`, which must be empty, and lets its writer go on.
    pub(super) fn take(&self, source: usize, batch: &mut Batch) {
        let mut buffer = self.buffer(source);
        std::mem::swap(&mut buffer.batch, batch);
        let waiters = std::mem::take(&mut buffer.waiters);
        drop(buffer);
        waiters.into_iter().for_each(Waker::wake);
    }

    /// Whether `bytes` were taken: the source is open and they fit into `limit`.
    fn append(&self, source: usize, bytes: &[u8], limit: usize) -> bool {
        let mut buffer = self.buffer(source);
        if buffer.closed || bytes.len() > limit.saturating_sub(buffer.batch.used()) {
            return false;
        }
        let order = self.next_piece.fetch_add(1, Ordering::Relaxed);
        buffer.batch.push(bytes, order, Timestamp::now());
        drop(buffer);
        if let Some(tail) = self.tail.get() {
            tail.push(bytes);
        }
        self.dirty.store(true, Ordering::Release);
        // Makes a system call only if the thread is asleep.
        self.logger.unpark();
        true
    }

    fn buffer(&self, source: usize) -> MutexGuard<'_, Buffer> {
        // A buffer is whole between any two statements that could panic.
        self.buffers[source].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
struct Buffer {
    batch: Batch,
    waiters: Vec<Waker>,
    closed: bool,
}

impl Buffer {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        if self.closed {
            return Poll::Ready(BUFFER_BYTES);
        }
        let room = BUFFER_BYTES.saturating_sub(self.batch.used());
        if room > 0 {
            return Poll::Ready(room);
        }
        if !self.waiters.iter().any(|waiter| waiter.will_wake(cx.waker())) {
            if self.waiters.len() == MAX_WAITERS {
                self.waiters.remove(0).wake();
            }
            self.waiters.push(cx.waker().clone());
        }
        Poll::Pending
    }
}

/// Bytes of one source in the order in which they came, with the times at which they did.
#[derive(Debug, Default)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    pieces: Vec<Piece>,
}

/// Part of a batch: from the end of the piece before it to `end`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece {
    end: usize,
    /// Its place among the pieces of all sources of the container.
    pub order: u64,
    /// When its last byte came.
    pub at: Timestamp,
    /// Whether a line ends in it. If not, the next bytes join it: only the end of a line needs a time.
    ends_line: bool,
}

impl Batch {
    fn used(&self) -> usize {
        self.bytes.len() + self.pieces.len() * PIECE_BYTES
    }

    fn push(&mut self, bytes: &[u8], order: u64, at: Timestamp) {
        self.bytes.extend_from_slice(bytes);
        let piece = Piece { end: self.bytes.len(), order, at, ends_line: bytes.contains(&b'\n') };
        match self.pieces.last_mut().filter(|last| !last.ends_line) {
            Some(last) => *last = piece,
            None => self.pieces.push(piece),
        }
    }

    /// Each piece with its bytes.
    pub(super) fn pieces(&self) -> impl Iterator<Item = (Piece, &[u8])> {
        let mut start = 0;
        self.pieces.iter().map(move |piece| {
            let bytes = &self.bytes[start..piece.end];
            start = piece.end;
            (*piece, bytes)
        })
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.pieces.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    fn feed() -> Arc<Feed> {
        Arc::new(Feed::new(std::thread::current()))
    }

    fn room(stream: &LogStream) -> Poll<usize> {
        stream.poll_ready(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_full_stream_makes_only_its_own_writer_wait() {
        let feed = feed();
        let (out, err) = (feed.stream(Output::Stdout), feed.stream(Output::Stderr));
        assert_eq!(room(&out), Poll::Ready(BUFFER_BYTES));
        out.write(vec![b'x'; BUFFER_BYTES].into());
        assert_eq!(room(&out), Poll::Pending);
        assert_eq!(room(&err), Poll::Ready(BUFFER_BYTES));
        let mut batch = Batch::default();
        feed.take(0, &mut batch);
        assert_eq!(room(&out), Poll::Ready(BUFFER_BYTES));
        assert_eq!(batch.pieces().map(|(_, bytes)| bytes.len()).sum::<usize>(), BUFFER_BYTES);
    }

    #[test]
    fn a_flood_of_single_bytes_is_bounded_too() {
        let feed = feed();
        let out = feed.stream(Output::Stdout);
        let mut writes = 0;
        while room(&out).is_ready() {
            out.write(Bytes::from_static(b"\n"));
            writes += 1;
        }
        assert_eq!(writes, BUFFER_BYTES.div_ceil(1 + PIECE_BYTES));
    }

    #[test]
    fn bytes_without_a_line_end_share_one_piece() {
        let mut batch = Batch::default();
        for (order, bytes) in ["ab", "c", "d\n", "e"].into_iter().enumerate() {
            batch.push(bytes.as_bytes(), order as u64, Timestamp::UNIX_EPOCH);
        }
        let pieces: Vec<_> = batch.pieces().map(|(piece, bytes)| (piece.order, bytes)).collect();
        assert_eq!(pieces, [(2, &b"abcd\n"[..]), (3, b"e")]);
    }

    #[tokio::test]
    async fn closing_wakes_who_waits_and_discards_what_comes_late() {
        let feed = feed();
        let out = feed.stream(Output::Stdout);
        out.write(vec![b'x'; 2 * BUFFER_BYTES].into());
        let waiting = tokio::spawn({
            let out = out.clone();
            async move { poll_fn(|cx| out.poll_ready(cx)).await }
        });
        tokio::task::yield_now().await;
        feed.close();
        assert_eq!(waiting.await.unwrap(), BUFFER_BYTES);
        out.write(Bytes::from_static(b"late"));
        assert_eq!(feed.discarded(), 4);
    }

    #[test]
    fn more_waiters_than_the_bound_displace_the_first() {
        let feed = feed();
        let out = feed.stream(Output::Stdout);
        out.write(vec![b'x'; BUFFER_BYTES].into());
        let wakers: Vec<Waker> = (0..2 * MAX_WAITERS).map(|_| Waker::from(Arc::new(Flag))).collect();
        for waker in &wakers {
            assert!(out.poll_ready(&mut Context::from_waker(waker)).is_pending());
        }
        assert_eq!(feed.buffer(0).waiters.len(), MAX_WAITERS);
    }

    struct Flag;

    impl std::task::Wake for Flag {
        fn wake(self: Arc<Self>) {}
    }
}
