//! Numbers in memory that other processes have mapped too.
//!
//! The kernel raises SIGBUS where a mapping is touched behind the end of its file: any process that may open the file
//! can make it shorter at any time. A native process must not end the pod so:
//!
//! ```text
//! Mapping::with ─► this thread touches [start, end) ─► the access ─► done; did it fault?
//!                                                          │ SIGBUS
//!                                                          └─► a page of zeros in its place, and go on
//! ```
//!
//! libwayland does the same for the buffers of its clients. What is written to that page is lost, the access fails, and
//! a mapping that has faulted is of no further use.

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::ptr::{self, NonNull};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, compiler_fence};

thread_local! {
    /// What this thread is about to touch: start and end address. Nothing while it does not.
    static TOUCHED: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
    static FAULTED: Cell<bool> = const { Cell::new(false) };
}

/// What SIGBUS did before.
static PREVIOUS: OnceLock<libc::sigaction> = OnceLock::new();

/// A file in this process's memory, shared with whoever else has mapped it.
#[derive(Debug)]
pub struct Mapping {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: the memory belongs to the mapping, and all access to it is atomic.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

/// The file has become shorter than what was touched, or there is no memory for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Faulted;

/// A number that can be changed in place.
///
/// # Safety
/// Any bytes are a valid value, and access through a shared reference is atomic.
pub unsafe trait Atomic: Sized {
    /// Its size, bytes.
    const SIZE: usize = size_of::<Self>();
}

// SAFETY: any four bytes are a number.
unsafe impl Atomic for AtomicU32 {}
// SAFETY: any eight bytes are a number.
unsafe impl Atomic for AtomicU64 {}

impl Mapping {
    /// Maps the first `length` bytes, more than none.
    ///
    /// # Errors
    /// mmap(2)'s; EACCES when the file was not opened to read and write.
    pub fn new(file: &File, length: usize) -> io::Result<Self> {
        catch_sigbus()?;
        // SAFETY: a new mapping at an address that the kernel chooses.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, length })
    }

    /// How long it is, bytes.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Does something with the number at `offset`. `None` where there is none: behind the end, or not at a multiple of
    /// its size.
    pub fn with<A: Atomic, R>(
        &self,
        offset: usize,
        access: impl FnOnce(&A) -> R,
    ) -> Option<Result<R, Faulted>> {
        let end = offset.checked_add(A::SIZE)?;
        if end > self.length || !offset.is_multiple_of(A::SIZE) {
            return None;
        }
        // SAFETY: inside the mapping, which lives as long as `self`, and aligned, as the mapping begins a page. All
        // processes' views of it are atomic, or theirs to answer for: no reference to plain bytes is ever made. Where
        // no page is behind it any more, the handler of SIGBUS puts one there.
        let number = unsafe { &*self.start.as_ptr().add(offset).cast::<A>() };
        let address = self.start.as_ptr() as usize + offset;
        TOUCHED.set((address, address + A::SIZE));
        compiler_fence(Ordering::SeqCst);
        let result = access(number);
        compiler_fence(Ordering::SeqCst);
        TOUCHED.set((0, 0));
        Some(if FAULTED.take() { Err(Faulted) } else { Ok(result) })
    }

    /// Where the number of four bytes at `offset` is, for the kernel.
    pub(super) fn number_address(&self, offset: usize) -> Option<usize> {
        let end = offset.checked_add(size_of::<u32>())?;
        let is_number = end <= self.length && offset.is_multiple_of(size_of::<u32>());
        is_number.then(|| self.start.as_ptr() as usize + offset)
    }

    /// Wakes up to `count` threads, of any process, that wait at `offset` by futex(2); how many.
    pub fn wake(&self, offset: usize, count: u32) -> u32 {
        let count = count.min(i32::MAX as u32);
        let Some(address) = self.number_address(offset) else { return 0 };
        if count == 0 {
            // The kernel would wake one.
            return 0;
        }
        // SAFETY: an address inside the mapping; the kernel only looks up who waits there, and fails with EFAULT where
        // nothing is behind it.
        let woken = unsafe { libc::syscall(libc::SYS_futex, address, libc::FUTEX_WAKE, count) };
        u32::try_from(woken).unwrap_or(0)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly what was mapped; nobody refers to it any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.length) };
    }
}

/// Handles SIGBUS from now on, for all threads.
fn catch_sigbus() -> io::Result<()> {
    if PREVIOUS.get().is_some() {
        return Ok(());
    }
    // SAFETY: zeros are a valid action; every field that counts is set below.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    action.sa_sigaction = on_sigbus as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    let mut previous = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: asks only what is set.
    if unsafe { libc::sigaction(libc::SIGBUS, ptr::null(), previous.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has written it. Known before the handler can run, which needs it.
    if PREVIOUS.set(unsafe { previous.assume_init() }).is_err() {
        return Ok(());
    }
    // SAFETY: the handler only does what is async-signal-safe: it reads thread-locals that need no initialisation and
    // calls mmap(2) or sigaction(2).
    if unsafe { libc::sigaction(libc::SIGBUS, &raw const action, ptr::null_mut()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

extern "C" fn on_sigbus(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid siginfo_t, and SIGBUS has an address.
    let address = unsafe { (*info).si_addr() } as usize;
    let (start, end) = TOUCHED.get();
    if (start..end).contains(&address) {
        // Numbers are aligned: one lies within a page.
        let page = address & !(PAGE - 1);
        // SAFETY: replaces a page of the mapping that `with` holds, which has nothing behind it.
        let mapped = unsafe {
            libc::mmap(
                page as *mut libc::c_void,
                PAGE,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED,
                -1,
                0,
            )
        };
        if mapped != libc::MAP_FAILED {
            FAULTED.set(true);
            return;
        }
    }
    if let Some(previous) = PREVIOUS.get() {
        // SAFETY: an action that was in force before. The access is tried again, and meets it.
        unsafe { libc::sigaction(libc::SIGBUS, previous, ptr::null_mut()) };
    }
}

/// The smallest page there is: the kernel maps nothing less, and one more fault finds the rest of a larger one.
const PAGE: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_becomes_shorter_is_an_error() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(8192).unwrap();
        let mapping = Mapping::new(&file, 8192).unwrap();
        let add = |offset| mapping.with(offset, |n: &AtomicU64| n.fetch_add(1, Ordering::SeqCst));
        assert_eq!(add(0), Some(Ok(0)));
        assert_eq!(add(8184), Some(Ok(0)));
        assert_eq!(add(8185), None);
        assert_eq!(add(8192), None);
        assert_eq!(add(usize::MAX), None);
        file.set_len(4096).unwrap();
        assert_eq!(add(8184), Some(Err(Faulted)));
        assert_eq!(add(0), Some(Ok(1)));
        assert_eq!(mapping.wake(0, 5), 0);
    }
}
