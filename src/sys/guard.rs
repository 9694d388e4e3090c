//! A command that leaves nothing running when this process ends before it, however that ends.
//!
//! ```text
//! this process ─► guard ─► the command ─► what it starts, and what that starts
//!        ends ─► SIGTERM ─► SIGKILL to each, until none is left
//! ```
//!
//! `PR_SET_PDEATHSIG` alone reaches the command, not what it has started: cargo dies and its compilers go
//! on. A process group of its own would reach them all, but takes the terminal away from the command. So
//! the guard is a subreaper (`PR_SET_CHILD_SUBREAPER`, prctl(2)): whoever loses its parent becomes the guard's child.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::prctl;
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, kill, signal};
use nix::sys::stat::Mode;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, getpid, getppid, read};

/// Added to the number of the signal that ended the command, as a shell does.
const SIGNALLED: i32 = 128;

/// Bytes of pids that are read at once, some hundred; the others have their turn when these have ended.
const CHILDREN_BYTES: usize = 4096;

/// Puts a guard between this process and `command`. The guard takes the command's exit code; 128 and the
/// signal's number where a signal ended it. What the command leaves running when it ends by itself goes on
/// running.
///
/// "This process" is, as prctl(2) has it, the thread that starts the command.
#[expect(unsafe_code, reason = "pre_exec")]
pub fn guard(command: &mut Command) {
    let parent = getpid();
    // SAFETY: the closure runs in a forked child, where locks may be held by threads that are not there any more.
    // `split` and all it calls allocate nothing and take no lock of Rust's; they are system calls, and
    // fork(3), whose own locks the C library made anew in this child.
    unsafe { command.pre_exec(move || split(parent)) };
}

/// Returns in a second process, which is to become the command. The first becomes the guard.
#[expect(unsafe_code, reason = "fork and signal")]
fn split(parent: Pid) -> io::Result<()> {
    // Whatever else comes, a Ctrl-C for example: the guard ends with its parent, should that end of it.
    let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
    // SAFETY: the default action is no function of ours. Where it was ignored, nobody would say that the
    // command has ended.
    unsafe { signal(Signal::SIGCHLD, SigHandler::SigDfl) }?;
    prctl::set_pdeathsig(Signal::SIGTERM)?;
    // Whether the parent ended before it could be noticed.
    if getppid() != parent {
        return Err(Errno::ESRCH.into());
    }
    prctl::set_child_subreaper(true)?;
    let guard = getpid();
    // SAFETY: this process has one thread, see `guard`. The child goes on to execute the command, the
    // parent never returns.
    match unsafe { fork() }? {
        ForkResult::Child => {
            prctl::set_pdeathsig(Signal::SIGKILL)?;
            if getppid() != guard {
                return Err(Errno::ESRCH.into());
            }
            before.thread_set_mask()?;
            Ok(())
        }
        ForkResult::Parent { child } => watch(child),
    }
}

/// The guard's life.
fn watch(command: Pid) -> ! {
    // The ends of pipes that are the command's: their readers wait for all of them to be closed.
    if close_all().is_err() {
        end_all(command);
    }
    loop {
        match SigSet::from_iter([Signal::SIGCHLD, Signal::SIGTERM]).wait() {
            Ok(Signal::SIGCHLD) => reap(command),
            _ => end_all(command),
        }
    }
}

/// Collects who has ended; ends with the command.
fn reap(command: Pid) {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) if pid == command => exit(code),
            Ok(WaitStatus::Signaled(pid, by, _)) if pid == command => exit(SIGNALLED + by as i32),
            Ok(WaitStatus::StillAlive) | Err(_) => return,
            Ok(_) => {}
        }
    }
}

/// Kills the command and its descendants, and ends.
fn end_all(command: Pid) -> ! {
    // Where there is no /proc to say who the others are. It is this process's child and not yet waited for.
    let _ = kill(command, Signal::SIGKILL);
    loop {
        kill_children();
        // The children of the one that has ended are this process's from now on.
        match waitpid(None, None) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => exit(SIGNALLED + Signal::SIGTERM as i32),
        }
    }
}

fn kill_children() {
    let mut list = [0_u8; CHILDREN_BYTES];
    let length = open(c"/proc/thread-self/children", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
        .and_then(|file| read(&file, &mut list));
    for pid in pids(&list[..length.unwrap_or(0)]) {
        // Only children, and only here are they waited for: no pid can have become another process's.
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
}

/// The pids in a `/proc/pid/task/tid/children` (proc_pid_task(5)). Each has a space behind it; one without may
/// have been cut off.
fn pids(list: &[u8]) -> impl Iterator<Item = i32> {
    let whole = list.iter().rposition(|byte| *byte == b' ').map_or(&list[..0], |end| &list[..end]);
    whole.split(|byte| *byte == b' ').filter_map(|pid| str::from_utf8(pid).ok()?.parse().ok())
}

#[expect(unsafe_code, reason = "close_range")]
fn close_all() -> nix::Result<()> {
    // SAFETY: the guard never returns to code that owns a descriptor.
    Errno::result(unsafe { libc::syscall(libc::SYS_close_range, 0, libc::c_uint::MAX, 0) }).map(drop)
}

#[expect(unsafe_code, reason = "_exit")]
fn exit(code: i32) -> ! {
    // SAFETY: `_exit` has no preconditions. It runs none of the destructors, which are the parent's.
    unsafe { libc::_exit(code) }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::{Child, Stdio};
    use std::thread;

    use super::*;

    /// A shell, guarded.
    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdout(Stdio::piped());
        guard(&mut command);
        command
    }

    /// Starts children and grandchildren that would run for long, and says their pids.
    const FAMILY: &str = "sleep 1000 & echo $!; sh -c 'sleep 1000 & echo $!; echo $$; wait' & wait";

    fn family(child: &mut Child) -> Vec<Pid> {
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().take(3);
        lines.map(|line| Pid::from_raw(line.unwrap().parse().unwrap())).collect()
    }

    fn assert_all_gone(mut child: Child, family: &[Pid]) {
        assert_eq!(child.wait().unwrap().code(), Some(143));
        assert_eq!(family.len(), 3);
        for pid in family {
            assert_eq!(kill(*pid, None), Err(Errno::ESRCH), "{pid}");
        }
    }

    #[test]
    fn a_command_is_as_without_a_guard() {
        let output = shell("echo out; echo err >&2; exit 7").stderr(Stdio::piped()).output().unwrap();
        assert_eq!(output.status.code(), Some(7));
        assert_eq!((&*output.stdout, &*output.stderr), (&b"out\n"[..], &b"err\n"[..]));
        assert_eq!(shell("kill -9 $$").status().unwrap().code(), Some(137));
        let mut missing = Command::new("/nowhere/tool");
        guard(&mut missing);
        assert_eq!(missing.status().unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn all_descendants_end_when_the_guard_is_told() {
        let mut child = shell(FAMILY).spawn().unwrap();
        let family = family(&mut child);
        kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).unwrap();
        assert_all_gone(child, &family);
    }

    #[test]
    fn all_descendants_end_when_the_parent_does() {
        // prctl(2)'s parent is a thread: its end is as good as the process's.
        let started = thread::spawn(|| {
            let mut child = shell(FAMILY).spawn().unwrap();
            let family = family(&mut child);
            (child, family)
        });
        let (child, family) = started.join().unwrap();
        assert_all_gone(child, &family);
    }

    #[test]
    fn a_pid_that_was_cut_off_is_not_taken() {
        assert_eq!(pids(b"12 345 67").collect::<Vec<_>>(), [12, 345]);
        assert_eq!(pids(b"12 ").collect::<Vec<_>>(), [12]);
        assert_eq!(pids(b"12").count() + pids(b"").count(), 0);
    }
}
