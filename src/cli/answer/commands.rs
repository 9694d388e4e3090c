//! Commands in the pod's containers.
//!
//! ```text
//! ExecOptions ─► pipes ─┬─► Session, for the client
//!                       └─► Exec + the pod's ends ─► pod process ─ ExecEnded ─► Session
//! ```

use std::io;
use std::os::fd::OwnedFd;

use k8s_openapi::api::core::v1::PodStatus;
use tokio::net::unix::pipe;
use tokio::sync::oneshot;

use super::super::additions;
use super::{Outgoing, Questions};
use crate::api::server::{Ended, ExecOptions, Failure, Session};
use crate::pod::control::Request;

impl Questions<'_> {
    pub(super) fn exec(
        &mut self,
        options: ExecOptions,
        status: Option<&PodStatus>,
    ) -> Result<(Session, Outgoing), Failure> {
        let container = additions::running(options.container.as_deref(), &self.pod, status, &self.begun)?;
        let ExecOptions { command, stdin, stdout, stderr, .. } = options;
        let pipes = Pipes::new([stdin, stdout, stderr]);
        let (carried, ours) = pipes.map_err(|error| Failure::Unavailable(format!("no pipes: {error}")))?;
        let id = self.next_id();
        let (sender, ended) = oneshot::channel();
        let (alive, gone) = oneshot::channel();
        self.execs.insert(id, sender);
        self.clients.push(Box::pin(async move {
            let _ = gone.await;
            id
        }));
        let Pipes { stdin: to, stdout: from, stderr: errors } = ours;
        let session = Session { stdin: to, stdout: from, stderr: errors, ended, alive };
        Ok((session, (Request::Exec { id, container, command, stdin, stdout, stderr }, carried)))
    }

    /// A command has ended.
    pub fn exec_ended(&mut self, id: u64, code: u8, message: Option<String>) {
        if let Some(client) = self.execs.remove(&id) {
            let _ = client.send(Ended { code, message });
        }
    }
}

/// The supervisor's ends of a command's pipes.
struct Pipes {
    stdin: Option<pipe::Sender>,
    stdout: Option<pipe::Receiver>,
    stderr: Option<pipe::Receiver>,
}

impl Pipes {
    /// Those that are wanted of standard input, output and error: the pod's ends, and ours.
    fn new(wanted: [bool; 3]) -> io::Result<(Vec<OwnedFd>, Self)> {
        let pipe = |wanted: bool| match wanted {
            true => nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map(Some),
            false => Ok(None),
        };
        let [stdin, stdout, stderr] = wanted.map(pipe);
        let mut theirs = Vec::new();
        let stdin = stdin?.map(|(read, write)| (theirs.push(read), write).1);
        let mut output =
            |pipe: Option<(OwnedFd, OwnedFd)>| pipe.map(|(read, write)| (theirs.push(write), read).1);
        let (stdout, stderr) = (output(stdout?), output(stderr?));
        let receiver = |pipe: Option<OwnedFd>| pipe.map(pipe::Receiver::from_owned_fd).transpose();
        let ours = Self {
            stdin: stdin.map(pipe::Sender::from_owned_fd).transpose()?,
            stdout: receiver(stdout)?,
            stderr: receiver(stderr)?,
        };
        Ok((theirs, ours))
    }
}
