//! Readers that look at what passes: its digest, how much it is, whether it is time to show a sign of life.

use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

use crate::image::Digest;

/// Between two signs of life.
const TICK: Duration = Duration::from_millis(100);

/// Takes the digest of what is read.
pub(super) struct Hashing<R> {
    inner: R,
    hasher: Sha256,
    read: u64,
}

impl<R: Read> Hashing<R> {
    pub(super) fn new(inner: R) -> Self {
        Self { inner, hasher: Sha256::new(), read: 0 }
    }

    /// How many bytes that were.
    pub(super) fn count(&self) -> u64 {
        self.read
    }

    pub(super) fn digest(self) -> Digest {
        self.hasher.into()
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        self.read += read as u64;
        Ok(read)
    }
}

/// Calls somebody ten times a second while it is read.
pub(super) struct Ticking<'t, R> {
    inner: R,
    tick: &'t dyn Fn(),
    last: Instant,
}

impl<'t, R> Ticking<'t, R> {
    pub(super) fn new(inner: R, tick: &'t dyn Fn()) -> Self {
        Self { inner, tick, last: Instant::now() }
    }
}

impl<R: Read> Read for Ticking<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.last.elapsed() >= TICK {
            self.last = Instant::now();
            (self.tick)();
        }
        self.inner.read(buffer)
    }
}

/// Fails when more is read than there is an allowance for.
pub(super) struct Bounded<R> {
    inner: R,
    allowance: Rc<Cell<u64>>,
}

impl<R> Bounded<R> {
    pub(super) fn new(inner: R, allowance: Rc<Cell<u64>>) -> Self {
        Self { inner, allowance }
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        match self.allowance.get().checked_sub(read as u64) {
            Some(rest) => self.allowance.set(rest),
            None => return Err(io::ErrorKind::FileTooLarge.into()),
        }
        Ok(read)
    }
}
