//! Waiting on several numbers in memory at once (futex_waitv(2), Linux 5.16).
//!
//! ```text
//! wait ─► the kernel compares each number with its value ─ one is another ─► EAGAIN
//!           └─ none is ─► asleep ◄─ FUTEX_WAKE: of another process, on a number; of this one, on the control word
//! ```

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use super::shared::Mapping;

/// Numbers that one call waits on, beside the control word (`FUTEX_WAITV_MAX`, 128).
pub const MAX_NUMBERS: usize = 127;

/// What this process wakes its own waiting thread by.
#[derive(Debug, Default)]
pub struct Control(AtomicU32);

/// A number in a mapped file, and what it has to be for a wait to begin.
#[derive(Debug)]
pub struct Number {
    /// Where it is.
    pub mapping: Arc<Mapping>,
    /// At a multiple of four, inside the mapping.
    pub offset: usize,
    /// As it is in memory.
    pub value: u32,
}

/// Who has ended a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Woken {
    /// [`Control::wake`].
    Control,
    /// FUTEX_WAKE on one of the numbers, by its index. Others may have been woken with it: the kernel tells one.
    Number(usize),
}

/// Whether this kernel can do it, and lets this process.
pub fn is_supported() -> bool {
    // SAFETY: no numbers: the kernel reads nothing, and fails with EINVAL where it has the call.
    let result = unsafe { libc::syscall(libc::SYS_futex_waitv, 0, 0, 0, 0, 0) };
    result == -1 && io::Error::last_os_error().raw_os_error() == Some(libc::EINVAL)
}

impl Control {
    /// What [`Control::wait`] compares with: asked for before what the wait depends on is looked at.
    pub fn value(&self) -> u32 {
        self.0.load(Ordering::SeqCst)
    }

    /// Keeps a wait from beginning with the value that was; one that is queued on its numbers already goes on.
    pub fn outdate(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    /// Ends a wait that is under way, or would begin with the value that was.
    pub fn wake(&self) {
        self.outdate();
        // SAFETY: a number that outlives the call; the kernel only looks up who waits on it.
        unsafe {
            libc::syscall(libc::SYS_futex, self.0.as_ptr(), libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG, 1)
        };
    }

    /// Waits until it, or one of at most [`MAX_NUMBERS`] numbers, is woken.
    ///
    /// # Errors
    /// futex_waitv(2)'s: EAGAIN when a number, or this one, is not the expected one, ETIMEDOUT, EINTR, EFAULT when a
    /// file has become shorter; EINVAL for a number that is not inside its mapping.
    pub fn wait(&self, value: u32, numbers: &[Number], timeout: Duration) -> io::Result<Woken> {
        let shared = libc::FUTEX2_SIZE_U32 as u32;
        let private = (libc::FUTEX2_SIZE_U32 | libc::FUTEX2_PRIVATE) as u32;
        let mut all = Vec::with_capacity(numbers.len() + 1);
        for number in numbers {
            let address = number.mapping.number_address(number.offset).ok_or(io::ErrorKind::InvalidInput)?;
            all.push(waiter(number.value, address, shared));
        }
        // Looked at last: a wait that begins was queued on every number when this one still had its value.
        all.push(waiter(value, self.0.as_ptr() as usize, private));
        let end = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC)?).saturating_add(timeout);
        let end = libc::timespec {
            tv_sec: end.as_secs().min(i64::MAX as u64) as libc::time_t,
            tv_nsec: end.subsec_nanos().into(),
        };
        // SAFETY: an array with its length, and a time, that outlive the call. The addresses are those of numbers that
        // do too: this one, and some inside mappings that the caller holds; the kernel reads them, and fails with EFAULT
        // where nothing is behind one.
        let woken = unsafe {
            libc::syscall(
                libc::SYS_futex_waitv,
                all.as_ptr(),
                all.len() as libc::c_uint,
                0,
                &raw const end,
                libc::CLOCK_MONOTONIC,
            )
        };
        match usize::try_from(woken) {
            Ok(index) if index == numbers.len() => Ok(Woken::Control),
            Ok(index) => Ok(Woken::Number(index)),
            Err(_) => Err(io::Error::last_os_error()),
        }
    }
}

fn waiter(value: u32, address: usize, flags: u32) -> libc::futex_waitv {
    // SAFETY: plain numbers, for which zeros are valid; the reserved one has to be zero.
    let mut waiter: libc::futex_waitv = unsafe { std::mem::zeroed() };
    waiter.val = value.into();
    waiter.uaddr = address as u64;
    waiter.flags = flags;
    waiter
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn raw(result: io::Result<Woken>) -> Option<i32> {
        result.unwrap_err().raw_os_error()
    }

    #[test]
    fn a_wait_ends_by_whoever_wakes() {
        assert!(is_supported(), "this test needs futex_waitv(2): Linux 5.16");
        let file = tempfile::tempfile_in("/dev/shm").unwrap();
        file.set_len(8192).unwrap();
        // Another process's mapping of the same file.
        let theirs = Mapping::new(&file, 8192).unwrap();
        let mapping = Arc::new(Mapping::new(&file, 8192).unwrap());
        let number = |offset, value| Number { mapping: Arc::clone(&mapping), offset, value };
        let control = Control::default();
        let now = control.value();
        assert_eq!(raw(control.wait(now, &[number(0, 1)], LONG)), Some(libc::EAGAIN));
        assert_eq!(raw(control.wait(now, &[number(0, 0)], Duration::ZERO)), Some(libc::ETIMEDOUT));
        assert!(control.wait(now, &[number(8192, 0)], LONG).is_err());
        let wait = |numbers: &[Number]| {
            std::thread::scope(|scope| {
                let waiter = scope.spawn(|| control.wait(control.value(), numbers, LONG));
                while theirs.wake(4096, 1) == 0 && !waiter.is_finished() {
                    std::thread::yield_now();
                }
                waiter.join().unwrap()
            })
        };
        assert_eq!(wait(&[number(0, 0), number(4096, 0)]).unwrap(), Woken::Number(1));
        control.wake();
        assert_eq!(raw(control.wait(now, &[], LONG)), Some(libc::EAGAIN));
        let woken = std::thread::scope(|scope| {
            let waiter = scope.spawn(|| control.wait(control.value(), &[number(0, 0)], LONG));
            while !waiter.is_finished() {
                control.wake();
                std::thread::yield_now();
            }
            waiter.join().unwrap()
        });
        // Woken, or too early to wait.
        assert!(matches!(woken, Ok(Woken::Control)) || raw(woken) == Some(libc::EAGAIN));
        file.set_len(0).unwrap();
        assert_eq!(raw(control.wait(control.value(), &[number(0, 0)], LONG)), Some(libc::EFAULT));
    }
}
