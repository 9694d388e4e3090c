//! The numbers in a segment, changed in place: little-endian, sequentially consistent.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::Segment;
use crate::ipc::Result;
use crate::sys::shared::Atomic;

impl Segment {
    /// # Errors
    /// `Errno::Fault`, `Errno::Invalid`.
    pub fn load_u32(&self, offset: u64) -> Result<u32> {
        self.0.shared.words.number(offset)
    }

    /// # Errors
    /// `Errno::Fault`, `Errno::Invalid`.
    pub fn load_u64(&self, offset: u64) -> Result<u64> {
        self.0.shared.words.with(offset, |number: &AtomicU64| u64::from_le(number.load(Ordering::SeqCst)))
    }

    /// # Errors
    /// `Errno::Access`, `Errno::Fault`, `Errno::Invalid`.
    pub fn store_u32(&self, offset: u64, value: u32) -> Result<()> {
        self.change(offset, |number: &AtomicU32| number.store(value.to_le(), Ordering::SeqCst))
    }

    /// # Errors
    /// `Errno::Access`, `Errno::Fault`, `Errno::Invalid`.
    pub fn store_u64(&self, offset: u64, value: u64) -> Result<()> {
        self.change(offset, |number: &AtomicU64| number.store(value.to_le(), Ordering::SeqCst))
    }

    /// Adds, and returns what was there. Numbers are little-endian; where the machine is not, this is a loop.
    ///
    /// # Errors
    /// `Errno::Access`, `Errno::Fault`, `Errno::Invalid`.
    pub fn fetch_add_u32(&self, offset: u64, value: u32) -> Result<u32> {
        self.change(offset, |number: &AtomicU32| {
            if cfg!(target_endian = "little") {
                return number.fetch_add(value, Ordering::SeqCst);
            }
            let add = |old: u32| Some(u32::from_le(old).wrapping_add(value).to_le());
            let was = number.fetch_update(Ordering::SeqCst, Ordering::SeqCst, add);
            u32::from_le(was.unwrap_or_default())
        })
    }

    /// As [`Self::fetch_add_u32`].
    ///
    /// # Errors
    /// `Errno::Access`, `Errno::Fault`, `Errno::Invalid`.
    pub fn fetch_add_u64(&self, offset: u64, value: u64) -> Result<u64> {
        self.change(offset, |number: &AtomicU64| {
            if cfg!(target_endian = "little") {
                return number.fetch_add(value, Ordering::SeqCst);
            }
            let add = |old: u64| Some(u64::from_le(old).wrapping_add(value).to_le());
            let was = number.fetch_update(Ordering::SeqCst, Ordering::SeqCst, add);
            u64::from_le(was.unwrap_or_default())
        })
    }

    /// Replaces the expected number; returns what was there.
    ///
    /// # Errors
    /// `Errno::Access`, `Errno::Fault`, `Errno::Invalid`.
    pub fn compare_and_swap_u32(&self, offset: u64, expected: u32, new: u32) -> Result<u32> {
        let (expected, new) = (expected.to_le(), new.to_le());
        self.change(offset, |number: &AtomicU32| {
            let was = number.compare_exchange(expected, new, Ordering::SeqCst, Ordering::SeqCst);
            u32::from_le(was.unwrap_or_else(|was| was))
        })
    }

    /// Replaces the expected number; returns what was there.
    ///
    /// # Errors
    /// `Errno::Access`, `Errno::Fault`, `Errno::Invalid`.
    pub fn compare_and_swap_u64(&self, offset: u64, expected: u64, new: u64) -> Result<u64> {
        let (expected, new) = (expected.to_le(), new.to_le());
        self.change(offset, |number: &AtomicU64| {
            let was = number.compare_exchange(expected, new, Ordering::SeqCst, Ordering::SeqCst);
            u64::from_le(was.unwrap_or_else(|was| was))
        })
    }

    fn change<A: Atomic, R>(&self, offset: u64, change: impl FnOnce(&A) -> R) -> Result<R> {
        self.check_writable()?;
        self.0.shared.words.with(offset, change)
    }
}
