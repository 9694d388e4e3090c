//! Entering the namespaces of a running process, for a command that is to run there.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{SigHandler, SigSet, Signal, signal};

use super::{namespace, pidfd};

/// The namespaces of a pod, by their names below `/proc/<pid>/ns`.
const NAMESPACES: [(&str, CloneFlags); 6] = [
    ("user", CloneFlags::CLONE_NEWUSER),
    ("mnt", CloneFlags::CLONE_NEWNS),
    ("uts", CloneFlags::CLONE_NEWUTS),
    ("ipc", CloneFlags::CLONE_NEWIPC),
    ("net", CloneFlags::CLONE_NEWNET),
    ("pid", CloneFlags::CLONE_NEWPID),
];

/// Another process, held so that its pid cannot become another's.
#[derive(Debug)]
pub struct Process {
    pid: i32,
    pidfd: std::os::fd::OwnedFd,
}

impl Process {
    /// # Errors
    /// ESRCH when there is none.
    pub fn open(pid: i32) -> io::Result<Self> {
        Ok(Self { pid, pidfd: pidfd::open(pid)? })
    }

    /// Moves this process, which must have one thread, into all of its namespaces at once that are not its own already
    /// (setns(2) with a pidfd, Linux 5.8). Of the pid namespace only children are a part.
    ///
    /// # Errors
    /// EPERM or EACCES without the rights, ESRCH when the process has ended.
    pub fn enter(&self) -> io::Result<()> {
        let namespace = |of: &str, name: &str| fs::read_link(format!("/proc/{of}/ns/{name}"));
        let mut entered = CloneFlags::empty();
        for (name, flag) in NAMESPACES {
            if namespace(&self.pid.to_string(), name)? != namespace("self", name)? {
                entered |= flag;
            }
        }
        if entered.is_empty() {
            return Ok(());
        }
        Ok(setns(self.pidfd.as_fd(), entered)?)
    }
}

/// Lets `command` begin in the cgroups of which these are the `cgroup.procs`, open for writing: this process stays
/// where it is.
#[expect(unsafe_code, reason = "pre_exec")]
pub fn begin_in(command: &mut Command, cgroups: Vec<File>) {
    // SAFETY: the closure runs in a forked child and makes one system call for each file, write(2): it takes no lock
    // and allocates nothing.
    unsafe { command.pre_exec(move || cgroups.iter().try_for_each(|mut procs| procs.write_all(b"0"))) };
}

/// Lets `command` begin with this signal mask, and with every signal's default action: it would inherit this process's
/// mask and what is ignored here (signal(7)), as by a shell for its jobs in the background.
#[expect(unsafe_code, reason = "pre_exec")]
pub fn begin_with_signals(command: &mut Command, mask: SigSet) {
    let begin = move || {
        for number in Signal::iterator() {
            // SAFETY: the default action runs no code of this process.
            // SIGKILL and SIGSTOP cannot be set, and always have theirs.
            let _ = unsafe { signal(number, SigHandler::SigDfl) };
        }
        Ok(mask.thread_set_mask()?)
    };
    // SAFETY: the closure runs in a forked child and makes system calls only, rt_sigaction(2) and rt_sigprocmask(2): it
    // takes no lock and allocates nothing.
    unsafe { command.pre_exec(begin) };
}

/// Lets `command` end with this process, however that ends.
#[expect(unsafe_code, reason = "pre_exec")]
pub fn end_with_this_process(command: &mut Command) {
    // SAFETY: the closure runs in a forked child and makes one system call, prctl(2): it takes no lock and
    // allocates nothing.
    unsafe { command.pre_exec(namespace::die_with_parent) };
}
