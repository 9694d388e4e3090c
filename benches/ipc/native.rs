//! Two native processes that talk: this program, and itself as its own peer.

use std::ffi::CStr;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

const ROUND_TRIPS: u32 = 20_000;
/// Round trips that are not counted.
const WARM_UP: u32 = 1000;
/// A message, bytes.
const SMALL: usize = 64;
/// What this program does is in the environment: cargo has arguments of its own.
const PEER: &str = "PEAPOD_BENCH_PEER";

/// Whether this process is the peer; it is done then.
pub fn is_peer() -> anyhow::Result<bool> {
    match std::env::var(PEER).as_deref() {
        Ok("socket") => {
            let mut stream = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
            let mut message = [0; SMALL];
            while stream.read_exact(&mut message).is_ok() {
                stream.write_all(&message)?;
            }
        }
        Ok("queue") => {
            let (ping, pong) = (Queue::open(c"/native-ping")?, Queue::open(c"/native-pong")?);
            loop {
                let message = ping.receive()?;
                pong.send(&message)?;
                if message[0] == 0 {
                    break;
                }
            }
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn peer(kind: &str, stdin: Stdio) -> anyhow::Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    Ok(command.env(PEER, kind).stdin(stdin).spawn()?)
}

fn measure(mut once: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<Duration> {
    for _ in 0..WARM_UP {
        once()?;
    }
    let start = Instant::now();
    for _ in 0..ROUND_TRIPS {
        once()?;
    }
    Ok(start.elapsed() / ROUND_TRIPS)
}

/// A round trip through a Unix socket.
pub fn socket() -> anyhow::Result<Duration> {
    let (mut mine, other) = UnixStream::pair()?;
    let mut peer = peer("socket", Stdio::from(OwnedFd::from(other)))?;
    let mut message = [7; SMALL];
    let took = measure(|| {
        mine.write_all(&message)?;
        Ok(mine.read_exact(&mut message)?)
    });
    drop(mine);
    peer.wait()?;
    took
}

/// A round trip through two message queues.
pub fn queue() -> anyhow::Result<Duration> {
    let (ping, pong) = (Queue::open(c"/native-ping")?, Queue::open(c"/native-pong")?);
    let mut peer = peer("queue", Stdio::null())?;
    let took = measure(|| {
        ping.send(&[7; SMALL])?;
        pong.receive().map(drop)
    });
    ping.send(&[0; SMALL])?;
    peer.wait()?;
    pong.receive()?;
    took
}

/// Runs this thread, and processes that it starts, on one CPU.
pub fn pinned(run: impl FnOnce() -> anyhow::Result<Duration>) -> anyhow::Result<Duration> {
    let this = Pid::from_raw(0);
    let all = sched_getaffinity(this)?;
    let mut one = CpuSet::new();
    let first = (0..CpuSet::count()).find(|cpu| all.is_set(*cpu).unwrap_or(false)).context("no CPU")?;
    one.set(first)?;
    sched_setaffinity(this, &one)?;
    let result = run();
    sched_setaffinity(this, &all)?;
    result
}

/// A queue as a plain C program has it: it blocks.
struct Queue(libc::mqd_t);

impl Queue {
    fn open(name: &CStr) -> anyhow::Result<Self> {
        // SAFETY: plain numbers.
        let mut attributes: libc::mq_attr = unsafe { std::mem::zeroed() };
        attributes.mq_maxmsg = 10;
        attributes.mq_msgsize = SMALL as libc::c_long;
        let mode: libc::mode_t = 0o600;
        // SAFETY: all that is pointed to outlives the call.
        let queue =
            unsafe { libc::mq_open(name.as_ptr(), libc::O_RDWR | libc::O_CREAT, mode, &raw mut attributes) };
        ensure!(queue >= 0, "mq_open: {}", std::io::Error::last_os_error());
        Ok(Self(queue))
    }

    fn send(&self, message: &[u8]) -> anyhow::Result<()> {
        // SAFETY: a slice that outlives the call.
        let sent = unsafe { libc::mq_send(self.0, message.as_ptr().cast(), message.len(), 0) };
        ensure!(sent == 0, "mq_send: {}", std::io::Error::last_os_error());
        Ok(())
    }

    fn receive(&self) -> anyhow::Result<[u8; SMALL]> {
        let mut message = [0u8; SMALL];
        // SAFETY: a buffer that outlives the call.
        let got = unsafe {
            libc::mq_receive(self.0, message.as_mut_ptr().cast(), message.len(), std::ptr::null_mut())
        };
        ensure!(got == SMALL as isize, "mq_receive: {}", std::io::Error::last_os_error());
        Ok(message)
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: open, and used by nobody any more.
        unsafe { libc::mq_close(self.0) };
    }
}
