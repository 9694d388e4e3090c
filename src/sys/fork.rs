//! Work done in a forked child, so that the threads it starts, the memory it touches and the crash it
//! may end in are not this process's.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, getppid, pipe2};

use super::{namespace, process};

/// Bytes of an answer: enough for a verdict and a message, not for a payload (that goes into a file).
const MAX_ANSWER: u64 = 1 << 20;

/// Milliseconds between two calls of `while_waiting`: as often as a progress line should move.
const WAITING_MS: u16 = 100;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    /// The calling process has more than one thread.
    #[error("this process has several threads; a child forked from it could deadlock")]
    SeveralThreads,
    /// A system call failed.
    #[error("{0}: {1}")]
    System(&'static str, io::Error),
    /// The child panicked.
    #[error("panicked: {0}")]
    Panicked(String),
    /// A signal ended the child; SIGKILL is most often the kernel being out of memory.
    #[error("was killed by {0}")]
    Killed(Signal),
    /// The child ended without an answer.
    #[error("ended with code {0} and no answer")]
    Exited(i32),
}

/// Runs `work` in a forked child and returns its answer, at most 1 MiB. The child dies with
/// this process. `while_waiting` is called from time to time until it has answered.
///
/// # Errors
///
/// Without an answer; never for what `work` makes of its task, that is for the answer to tell.
#[expect(unsafe_code, reason = "fork and _exit")]
pub fn run_in_child(
    work: impl FnOnce() -> Vec<u8>,
    while_waiting: &mut dyn FnMut(),
) -> Result<Vec<u8>, ChildError> {
    let system = |what| move |errno: Errno| ChildError::System(what, errno.into());
    if process::threads().map_err(|error| ChildError::System("read /proc/self/task", error))? != 1 {
        return Err(ChildError::SeveralThreads);
    }
    let parent = Pid::this();
    let (answer, question) = pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(system("pipe"))?;
    // SAFETY: in the child of a process with several threads only async-signal-safe functions may be
    // called, because a lock may be held by a thread that is not there any more. This process has only
    // the calling thread, so no lock is held by another; the check above is not racing since only this
    // thread could start one.
    match unsafe { fork() }.map_err(system("fork"))? {
        ForkResult::Child => {
            drop(answer);
            let code = in_child(parent, work, File::from(question));
            // SAFETY: `_exit` has no preconditions. It runs no destructor and no atexit handler: those belong
            // to the parent, whose copies of the same things they would undo.
            unsafe { libc::_exit(code) }
        }
        ForkResult::Parent { child } => {
            drop(question);
            let answer = receive(File::from(answer), while_waiting);
            // Reaped before anything is returned, whatever became of the answer.
            let status = wait(child).map_err(system("waitpid"))?;
            conclude(answer.map_err(|error| ChildError::System("read the child's answer", error))?, status)
        }
    }
}

/// The child's exit code when `work` panicked; its answer is then the panic's message.
const PANICKED: i32 = 101;

fn in_child(parent: Pid, work: impl FnOnce() -> Vec<u8>, mut to: File) -> i32 {
    // Where that is not possible the child outlives a killed parent by the length of its work.
    let _ = namespace::die_with_parent();
    if getppid() != parent {
        return 1;
    }
    let (answer, code) = match catch_unwind(AssertUnwindSafe(work)) {
        Ok(answer) => (answer, 0),
        Err(panic) => {
            let message = panic.downcast_ref::<&str>().map(ToString::to_string);
            let message = message.or_else(|| panic.downcast_ref::<String>().cloned());
            (message.unwrap_or_default().into_bytes(), PANICKED)
        }
    };
    if to.write_all(&answer).is_ok() { code } else { 1 }
}

fn receive(mut from: File, while_waiting: &mut dyn FnMut()) -> io::Result<Vec<u8>> {
    loop {
        match poll(&mut [PollFd::new(from.as_fd(), PollFlags::POLLIN)], PollTimeout::from(WAITING_MS)) {
            Ok(0) => while_waiting(),
            Ok(_) => break,
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    let mut answer = Vec::new();
    (&mut from).take(MAX_ANSWER).read_to_end(&mut answer)?;
    Ok(answer)
}

fn wait(child: Pid) -> Result<WaitStatus, Errno> {
    loop {
        match waitpid(child, None) {
            Err(Errno::EINTR) => {}
            other => return other,
        }
    }
}

fn conclude(answer: Vec<u8>, status: WaitStatus) -> Result<Vec<u8>, ChildError> {
    match status {
        WaitStatus::Exited(_, 0) => Ok(answer),
        WaitStatus::Exited(_, PANICKED) => {
            Err(ChildError::Panicked(String::from_utf8_lossy(&answer).into_owned()))
        }
        WaitStatus::Exited(_, code) => Err(ChildError::Exited(code)),
        WaitStatus::Signaled(_, signal, _) => Err(ChildError::Killed(signal)),
        _ => Err(ChildError::Exited(-1)),
    }
}
