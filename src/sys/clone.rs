//! `clone3(2)`: a child straight in its namespaces and, with cgroup v2, its cgroup.
//!
//! ```text
//! parent, one thread ─► clone3 ─┬─► parent: pid + pidfd
//!                               └─► child: runs its closure, flushes stdout, _exit; never returns
//! ```

use std::io::{self, Write};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use nix::sched::{CloneFlags, CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};
use nix::unistd::Pid;

use super::process;

/// The child's exit code after a panic: what a Rust binary exits with.
const EXIT_PANIC: i32 = 101;

/// `CLONE_INTO_CGROUP` of linux/sched.h. libc's constant is truncated to 32 bits.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// A child process.
#[derive(Debug)]
pub struct Child {
    /// Its pid, in this process's pid namespace.
    pub pid: i32,
    /// Its pidfd: close-on-exec, pollable, readable when it has ended.
    pub pidfd: OwnedFd,
}

/// Forks a child into `namespaces` and, when given, into the cgroup v2 directory `cgroup`. The child runs
/// `child` and exits with what it returns.
///
/// # Errors
/// `clone3(2)`'s; [`io::ErrorKind::ResourceBusy`] when this process has more than one thread.
pub fn spawn(
    namespaces: CloneFlags,
    cgroup: Option<BorrowedFd<'_>>,
    child: impl FnOnce() -> i32,
) -> io::Result<Child> {
    let threads = process::threads()?;
    if threads != 1 {
        let message =
            format!("this process has {threads} threads; only a single-threaded one may fork a pod");
        return Err(io::Error::new(io::ErrorKind::ResourceBusy, message));
    }
    // What is buffered now would be written twice, once by each process.
    let _ = io::stdout().flush();

    let mut pidfd: RawFd = -1;
    // SAFETY: clone_args consists of integers; all-zero is its documented default.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = namespaces.bits() as u64 | libc::CLONE_PIDFD as u64;
    args.pidfd = &raw mut pidfd as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    if let Some(address) = libc_thread_id() {
        args.flags |= libc::CLONE_CHILD_SETTID as u64;
        args.child_tid = address;
    }
    // SAFETY: without CLONE_VM and with a null stack this is fork(2): the child continues here on its own
    // copy of the stack. `args` and `pidfd` outlive the call, and `child_tid` is null or libc's own cell.
    // This process has one thread (checked above), so no lock is held by a thread that the child lacks.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<libc::clone_args>()) };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let code = catch_unwind(AssertUnwindSafe(child)).unwrap_or(EXIT_PANIC);
            let _ = io::stdout().flush();
            // SAFETY: always safe. Returning instead would run the parent's destructors in the child.
            unsafe { libc::_exit(code) }
        }
        // SAFETY: CLONE_PIDFD stored a fresh descriptor that nothing else owns.
        pid => Ok(Child { pid: pid as i32, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } }),
    }
    .inspect(|child| place_elsewhere(child.pid))
}

/// Moves a child that has not run yet to another CPU, where there is one.
///
/// The kernel tends to put a new child on its parent's CPU, where it waits until the parent sleeps (700 µs
/// here); a parent that has work to do beside its child wants it elsewhere. Advice only: errors do not matter.
fn place_elsewhere(pid: i32) {
    let (Ok(allowed), Ok(here)) = (sched_getaffinity(Pid::from_raw(0)), sched_getcpu()) else { return };
    let mut elsewhere = allowed;
    if elsewhere.unset(here).is_ok() && elsewhere != CpuSet::new() {
        let child = Pid::from_raw(pid);
        // Narrowing the mask moves the child; widening it again leaves the child where it is.
        let _ = sched_setaffinity(child, &elsewhere);
        let _ = sched_setaffinity(child, &allowed);
    }
}

/// Closes descriptors that a child of [`spawn`] inherited and whose owners are the parent's values. Those
/// values also exist in the child's copy of memory, but [`spawn`] ends it without dropping them.
pub fn close_inherited(descriptors: &[RawFd]) {
    for &fd in descriptors {
        let _ = nix::unistd::close(fd);
    }
}

/// Where glibc caches the main thread's id: its own fork(2) lets the kernel write the child's there, a raw
/// clone3 has to ask for it, or functions such as `pthread_setaffinity_np` act on the parent's thread.
/// `None` where the kernel cannot tell (no CONFIG_CHECKPOINT_RESTORE) and with any other libc: musl keeps
/// a lock, not an id, at that address.
fn libc_thread_id() -> Option<u64> {
    if !cfg!(target_env = "gnu") {
        return None;
    }
    let mut address: u64 = 0;
    // SAFETY: PR_GET_TID_ADDRESS stores one pointer-sized value at the address given.
    let result = unsafe { libc::prctl(libc::PR_GET_TID_ADDRESS, &raw mut address, 0, 0, 0) };
    (result == 0 && address != 0).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_threads_must_not_fork() {
        // libtest runs this on a thread beside its main thread.
        let error = spawn(CloneFlags::empty(), None, || 0).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ResourceBusy);
    }
}
