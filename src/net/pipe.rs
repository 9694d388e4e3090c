//! One direction of a memory-plane connection: a bounded queue of bytes with two wakers.
//!
//! ```text
//!           write            read
//!  writer ────────► [chunks] ────────► reader
//!     finish: no more follows    shut: what comes is thrown away
//! ```
//!
//! Large chunks are handed over as they are; small ones are gathered into one buffer, so that a
//! writer of single bytes costs memory for its bytes and not for its calls. The pipe has no lock and
//! never calls a waker itself: [`super::memory`] does both.

use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes, BytesMut};

use super::budget::Budget;
use super::wakes::{Wakes, remember};

/// Chunks below this many bytes are copied together when data is already waiting. At this size the
/// copy costs about as much as the bookkeeping of a chunk, and bookkeeping stays below a tenth of
/// the data.
const COALESCE_BELOW: usize = 1024;

/// Bytes gathered before the gathered buffer becomes a chunk: one large read.
const GATHER_LIMIT: usize = 16 * 1024;

/// What a reader finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Readable {
    /// At least one byte.
    Data,
    /// The writer finished and everything has been read, or the reader shut the pipe.
    Eof,
}

#[derive(Debug)]
pub(super) struct Pipe {
    chunks: VecDeque<Bytes>,
    /// Follows the chunks.
    tail: BytesMut,
    /// Bytes in chunks and tail.
    len: usize,
    /// Bytes that may wait here; lowering it below `len` only stops new ones.
    capacity: usize,
    /// Bytes of the front chunk (or of the tail, when it is in front) that were read: their memory is given
    /// back with the rest.
    front_read: usize,
    /// What [`Self::budget`] was last told.
    held: usize,
    budget: Budget,
    finished: bool,
    shut: bool,
    /// Bytes that arrived were thrown away instead of read.
    lossy: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Pipe {
    pub(super) fn new(capacity: usize, budget: Budget) -> Self {
        Self {
            chunks: VecDeque::new(),
            tail: BytesMut::new(),
            len: 0,
            capacity,
            front_read: 0,
            held: 0,
            budget,
            finished: false,
            shut: false,
            lossy: false,
            reader: None,
            writer: None,
        }
    }

    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    pub(super) fn set_capacity(&mut self, capacity: usize, wakes: &mut Wakes) {
        self.capacity = capacity;
        self.wake_writer(wakes);
    }

    /// Bytes that a write takes now. A pipe that was shut takes, and loses, everything.
    pub(super) fn free(&self) -> usize {
        if self.shut {
            return self.capacity.max(1);
        }
        self.budget.capacity(self.capacity).saturating_sub(self.len)
    }

    /// Bytes that wait for the reader.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_finished(&self) -> bool {
        self.finished
    }

    pub(super) fn is_shut(&self) -> bool {
        self.shut
    }

    /// Whether bytes were, or would now be, lost by closing: what makes Linux send RST, not FIN.
    pub(super) fn loses_data(&self) -> bool {
        self.lossy || self.len > 0
    }

    pub(super) fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.free() > 0 {
            return Poll::Ready(());
        }
        remember(&mut self.writer, cx.waker());
        Poll::Pending
    }

    /// Takes from the front of `data` what fits, without copying unless it is small or only a part.
    pub(super) fn write(&mut self, data: &mut Bytes, wakes: &mut Wakes) -> usize {
        let n = data.len().min(self.free());
        if n == 0 {
            return 0;
        }
        if self.shut {
            self.lossy = true;
            data.advance(n);
        } else if self.len > 0 && n < COALESCE_BELOW {
            self.gather(&data[..n]);
            data.advance(n);
        } else if n < data.len() {
            // Otherwise a part of it here, or the rest of it, would keep the memory of the whole, uncounted.
            self.push(Bytes::copy_from_slice(&data[..n]));
            *data = Bytes::copy_from_slice(&data[n..]);
        } else {
            self.push(std::mem::take(data));
        }
        wakes.add(self.reader.take());
        n
    }

    /// Copies from the front of `data` what fits.
    pub(super) fn write_slice(&mut self, data: &[u8], wakes: &mut Wakes) -> usize {
        let n = data.len().min(self.free());
        if n == 0 {
            return 0;
        }
        if self.shut {
            self.lossy = true;
        } else if n < COALESCE_BELOW {
            self.gather(&data[..n]);
        } else {
            self.push(Bytes::copy_from_slice(&data[..n]));
        }
        wakes.add(self.reader.take());
        n
    }

    fn gather(&mut self, data: &[u8]) {
        self.tail.extend_from_slice(data);
        self.len += data.len();
        if self.tail.len() >= GATHER_LIMIT {
            self.chunks.push_back(self.tail.split().freeze());
        }
        self.account();
    }

    fn push(&mut self, chunk: Bytes) {
        if !self.tail.is_empty() {
            self.chunks.push_back(self.tail.split().freeze());
        }
        self.len += chunk.len();
        self.chunks.push_back(chunk);
        self.account();
    }

    fn account(&mut self) {
        let now = self.len + self.front_read;
        self.budget.replace(std::mem::replace(&mut self.held, now), now);
    }

    pub(super) fn readable(&self) -> Option<Readable> {
        if self.len > 0 {
            Some(Readable::Data)
        } else if self.finished || self.shut {
            Some(Readable::Eof)
        } else {
            None
        }
    }

    /// Registers the reader; call it when [`Self::readable`] said `None`.
    pub(super) fn await_data(&mut self, cx: &mut Context<'_>) {
        remember(&mut self.reader, cx.waker());
    }

    /// Up to `max` bytes, at most one chunk. A whole chunk is handed over, and is nobody else's; a part of one
    /// is copied, as a guest would be given a copy of what it shares.
    pub(super) fn read(&mut self, max: usize, wakes: &mut Wakes) -> Bytes {
        let chunk = match self.chunks.front_mut() {
            Some(front) if front.len() > max => {
                self.front_read += max;
                let part = Bytes::copy_from_slice(&front[..max]);
                front.advance(max);
                part
            }
            Some(_) => {
                self.front_read = 0;
                self.chunks.pop_front().unwrap_or_default()
            }
            None if self.tail.len() > max => {
                self.front_read += max;
                let part = Bytes::copy_from_slice(&self.tail[..max]);
                self.tail.advance(max);
                part
            }
            None => std::mem::take(&mut self.tail).freeze(),
        };
        self.taken(chunk.len(), wakes);
        chunk
    }

    /// Copies into `out` as much as there is and fits.
    pub(super) fn read_into(&mut self, out: &mut [u8], wakes: &mut Wakes) -> usize {
        let mut done = 0;
        while done < out.len() {
            let rest = &mut out[done..];
            let n = match self.chunks.front_mut() {
                Some(front) => {
                    let n = front.len().min(rest.len());
                    front.copy_to_slice(&mut rest[..n]);
                    self.front_read += n;
                    if front.is_empty() {
                        self.chunks.pop_front();
                        self.front_read = 0;
                    }
                    n
                }
                None if self.tail.is_empty() => break,
                None => {
                    let n = self.tail.len().min(rest.len());
                    self.tail.copy_to_slice(&mut rest[..n]);
                    self.front_read += n;
                    n
                }
            };
            done += n;
        }
        self.taken(done, wakes);
        done
    }

    fn taken(&mut self, n: usize, wakes: &mut Wakes) {
        self.len -= n;
        if self.len == 0 {
            // An idle connection keeps no buffer.
            self.front_read = 0;
            self.tail = BytesMut::new();
            if self.chunks.capacity() > 8 {
                self.chunks = VecDeque::new();
            }
        }
        self.account();
        self.wake_writer(wakes);
    }

    /// A blocked writer is woken when half of the buffer is free, not for every byte: otherwise a
    /// bulk transfer would become a ping-pong of tiny pieces. Linux waits for a third.
    fn wake_writer(&mut self, wakes: &mut Wakes) {
        if self.len <= self.capacity / 2 {
            wakes.add(self.writer.take());
        }
    }

    /// The writer has no more.
    pub(super) fn finish(&mut self, wakes: &mut Wakes) {
        self.finished = true;
        wakes.add(self.reader.take());
        wakes.add(self.writer.take());
    }

    /// The reader wants no more; what waits is thrown away.
    pub(super) fn shut(&mut self, wakes: &mut Wakes) {
        self.lossy |= self.len > 0;
        self.shut = true;
        self.chunks = VecDeque::new();
        self.tail = BytesMut::new();
        self.len = 0;
        self.front_read = 0;
        self.account();
        wakes.add(self.reader.take());
        wakes.add(self.writer.take());
    }

    /// Wakes both sides: the connection's state changed.
    pub(super) fn wake(&mut self, wakes: &mut Wakes) {
        wakes.add(self.reader.take());
        wakes.add(self.writer.take());
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.budget.replace(self.held, 0);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use proptest::prelude::*;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[derive(Debug, Clone)]
    enum Op {
        Write(usize),
        WriteSlice(usize),
        Read(usize),
        ReadInto(usize),
        Capacity(usize),
        Finish,
        Shut,
    }

    fn any_op() -> impl Strategy<Value = Op> {
        prop_oneof![
            6 => (1usize..4000).prop_map(Op::Write),
            6 => prop_oneof![1usize..40, 1usize..4000].prop_map(Op::WriteSlice),
            6 => (1usize..5000).prop_map(Op::Read),
            6 => prop_oneof![1usize..40, 1usize..5000].prop_map(Op::ReadInto),
            1 => (1usize..6000).prop_map(Op::Capacity),
            1 => Just(Op::Finish),
            1 => Just(Op::Shut),
        ]
    }

    proptest! {
        /// Any interleaving keeps the bytes in order, stays within the bound, and wakes a side that
        /// was told to wait as soon as it can go on.
        #[test]
        fn bytes_bounds_and_wakes(ops in proptest::collection::vec(any_op(), 1..200)) {
            let mut pipe = Pipe::new(4096, Budget::default());
            let (mut capacity, mut limit) = (4096usize, 4096usize);
            let (mut next_in, mut next_out) = (0u8, 0u8);
            let (reader, writer) = (Arc::new(Count::default()), Arc::new(Count::default()));
            let (reader_waker, writer_waker) = (Waker::from(reader.clone()), Waker::from(writer.clone()));
            let (mut reader_waits, mut writer_waits) = (None, None);
            for op in ops {
                let mut wakes = Wakes::default();
                match op {
                    Op::Write(n) | Op::WriteSlice(n) if !pipe.is_finished() => {
                        let free = pipe.free();
                        let data: Vec<u8> = (0..n).map(|i| next_in.wrapping_add(i as u8)).collect();
                        let took = if matches!(op, Op::Write(_)) {
                            let mut bytes = Bytes::from(data);
                            let took = pipe.write(&mut bytes, &mut wakes);
                            prop_assert_eq!(bytes.len(), n - took);
                            took
                        } else {
                            pipe.write_slice(&data, &mut wakes)
                        };
                        prop_assert_eq!(took, n.min(free));
                        next_in = next_in.wrapping_add(took as u8);
                        if took == 0 {
                            let ready = pipe.poll_writable(&mut Context::from_waker(&writer_waker));
                            prop_assert!(ready.is_pending());
                            writer_waits = Some(writer.0.load(Ordering::Relaxed));
                        }
                    }
                    Op::Read(n) | Op::ReadInto(n) => match pipe.readable() {
                        Some(Readable::Data) => {
                            let got = if matches!(op, Op::Read(_)) {
                                pipe.read(n, &mut wakes).to_vec()
                            } else {
                                let mut out = vec![0; n];
                                let got = pipe.read_into(&mut out, &mut wakes);
                                out.truncate(got);
                                out
                            };
                            prop_assert!(!got.is_empty() && got.len() <= n);
                            for byte in got {
                                prop_assert_eq!(byte, next_out);
                                next_out = next_out.wrapping_add(1);
                            }
                        }
                        Some(Readable::Eof) => prop_assert!(pipe.is_finished() || pipe.is_shut()),
                        None => {
                            pipe.await_data(&mut Context::from_waker(&reader_waker));
                            reader_waits = Some(reader.0.load(Ordering::Relaxed));
                        }
                    },
                    Op::Capacity(n) => {
                        capacity = n;
                        pipe.set_capacity(n, &mut wakes);
                    }
                    Op::Finish => pipe.finish(&mut wakes),
                    Op::Shut => pipe.shut(&mut wakes),
                    _ => {}
                }
                drop(wakes);
                limit = capacity.max(limit.min(pipe.len.max(capacity)));
                prop_assert!(pipe.len <= limit);
                prop_assert_eq!(
                    pipe.len,
                    pipe.chunks.iter().map(Bytes::len).sum::<usize>() + pipe.tail.len()
                );
                if pipe.is_shut() {
                    next_out = next_in;
                }
                if let Some(before) = reader_waits && pipe.readable().is_some() {
                    prop_assert!(reader.0.load(Ordering::Relaxed) > before, "reader not woken");
                    reader_waits = None;
                }
                if let Some(before) = writer_waits
                    && (pipe.is_shut() || pipe.is_finished() || pipe.len <= capacity / 2)
                {
                    prop_assert!(writer.0.load(Ordering::Relaxed) > before, "writer not woken");
                    writer_waits = None;
                }
            }
        }
    }

    #[test]
    fn a_large_chunk_is_handed_over_not_copied() {
        let mut pipe = Pipe::new(1 << 16, Budget::default());
        let mut wakes = Wakes::default();
        let mut data = Bytes::from(vec![7; 5000]);
        let at = data.as_ptr();
        assert_eq!(pipe.write(&mut data, &mut wakes), 5000);
        assert_eq!(pipe.read(9000, &mut wakes).as_ptr(), at);
    }

    #[test]
    fn single_bytes_do_not_cost_a_chunk_each() {
        let mut pipe = Pipe::new(1 << 16, Budget::default());
        let mut wakes = Wakes::default();
        for _ in 0..1 << 16 {
            assert_eq!(pipe.write(&mut Bytes::from_static(b"x"), &mut wakes), 1);
        }
        assert!(pipe.chunks.len() <= 8, "{}", pipe.chunks.len());
    }

    #[test]
    fn closing_loses_data_only_if_some_was_unread() {
        let mut wakes = Wakes::default();
        let mut pipe = Pipe::new(10, Budget::default());
        assert!(!pipe.loses_data());
        pipe.write_slice(b"abc", &mut wakes);
        assert!(pipe.loses_data());
        assert_eq!(&pipe.read(10, &mut wakes)[..], b"abc");
        pipe.shut(&mut wakes);
        assert!(!pipe.loses_data());
        assert_eq!(pipe.write_slice(b"more", &mut wakes), 4, "taken, as Linux takes it");
        assert!(pipe.loses_data());
    }

    /// Fills `count` pipes of 1 MiB.
    fn fill(budget: &Budget, count: usize) -> Vec<Pipe> {
        let mut wakes = Wakes::default();
        let pipes = (0..count).map(|_| {
            let mut pipe = Pipe::new(1 << 20, budget.clone());
            pipe.write_slice(&vec![1; 1 << 20], &mut wakes);
            pipe
        });
        pipes.collect()
    }

    #[test]
    fn pipes_that_hold_much_together_hold_little_each() {
        let budget = Budget::default();
        let mut wakes = Wakes::default();
        let mut full = fill(&budget, 64);
        // 16 MiB in some of them; the others hold a page each.
        assert_eq!(budget.held(), (16 << 20) + 48 * 4096);
        let mut out = vec![0; 1 << 20];
        // The front chunk's memory is there until its last byte was read.
        assert_eq!(full[0].read_into(&mut out[1..], &mut wakes), (1 << 20) - 1);
        assert_eq!(budget.held(), (16 << 20) + 48 * 4096);
        assert_eq!(full[0].read(1, &mut wakes).len(), 1);
        assert_eq!(budget.held(), (15 << 20) + 48 * 4096);
        drop(full);
        assert_eq!(budget.held(), 0);
    }

    #[test]
    fn a_container_that_hoards_slows_itself_down_before_the_others() {
        let hoarder = Budget::default();
        let full = fill(&hoarder, 32_768);
        assert!(hoarder.held() < 32 << 20, "{}", hoarder.held());
        let other = hoarder.share();
        let before = hoarder.held();
        let some = fill(&other, 3);
        assert_eq!(hoarder.held() - before, 3 << 20);
        drop((full, some));
        assert_eq!(hoarder.held(), 0);
    }

    #[test]
    fn containers_that_hoard_together_leave_little_for_each() {
        let budgets: Vec<_> = {
            let first = Budget::default();
            let shares: Vec<_> = (0..2).map(|_| first.share()).collect();
            std::iter::once(first).chain(shares).collect()
        };
        let _hoards = [fill(&budgets[0], 16), fill(&budgets[1], 16)];
        let before = budgets[2].held();
        let _some = fill(&budgets[2], 1);
        assert_eq!(budgets[2].held() - before, 4096);
    }

    #[test]
    fn a_part_of_a_large_chunk_does_not_keep_all_of_it() {
        let mut pipe = Pipe::new(2000, Budget::default());
        let mut wakes = Wakes::default();
        let mut data = Bytes::from(vec![7; 1 << 16]);
        let (start, whole) = (data.as_ptr() as usize, 1 << 16);
        assert_eq!(pipe.write(&mut data, &mut wakes), 2000);
        assert_eq!(data.len(), whole - 2000);
        let inside = |bytes: &Bytes| (start..start + whole).contains(&(bytes.as_ptr() as usize));
        // The whole is freed, so that something else may be there by now: what counts is that nobody shares it.
        assert!(data.is_unique() && !(inside(&pipe.read(2000, &mut wakes)) && inside(&data)));
    }
}
