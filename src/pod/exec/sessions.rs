//! The commands that the supervisor has ordered.
//!
//! ```text
//! Request::Exec + pipes ─► begin ─► a task ─► next ─► Report::ExecEnded
//! Request::CancelExec ───► cancel ───┘ ▲
//!                 the container's run ─┘ ends
//! ```

use std::collections::HashMap;
use std::os::fd::OwnedFd;

use tokio::net::unix::pipe;
use tokio::task::{AbortHandle, Id, JoinSet};

use super::{CannotRun, Target};
use crate::container::runner::{Sink, Streams};
use crate::container::state::{Exit, KILLED_EXIT_CODE};

/// Commands at the same time. The supervisor asks for fewer; what is beyond it is refused.
const MAX_SESSIONS: usize = 64;

/// What [`Sessions::begin`] is asked for.
pub struct Order {
    /// Names it until it has ended.
    pub id: u64,
    /// The command and its arguments.
    pub command: Vec<String>,
    /// Which of standard input, output and error there are.
    pub wanted: [bool; 3],
    /// A pipe for each of these.
    pub carried: Vec<OwnedFd>,
}

/// How a command ended.
pub struct Ended {
    /// Of the [`Order`].
    pub id: u64,
    /// Its exit code.
    pub code: u8,
    /// Why, where the code does not say it all.
    pub message: Option<String>,
}

/// The commands under way.
#[derive(Default)]
pub struct Sessions {
    tasks: JoinSet<Result<Exit, CannotRun>>,
    ids: HashMap<Id, u64>,
    handles: HashMap<u64, AbortHandle>,
}

impl Sessions {
    /// Runs a command. The handle ends it.
    ///
    /// # Errors
    /// Why it cannot begin.
    pub fn begin(&mut self, target: &Target, order: Order) -> Result<AbortHandle, Ended> {
        let Order { id, command, wanted, carried } = order;
        let refused = |message: String| Ended { id, code: 125, message: Some(message) };
        if self.tasks.len() >= MAX_SESSIONS {
            return Err(refused(format!("{MAX_SESSIONS} commands run in the pod already")));
        }
        let (streams, pumps) =
            streams(wanted, carried).map_err(|error| refused(format!("pipes: {error}")))?;
        let target = target.clone();
        let task = self.tasks.spawn(async move { target.run_pumped(&command, streams, pumps).await });
        self.ids.insert(task.id(), id);
        self.handles.insert(id, task.clone());
        Ok(task)
    }

    /// Ends a command, if it has not.
    pub fn cancel(&mut self, id: u64) {
        if let Some(task) = self.handles.get(&id) {
            task.abort();
        }
    }

    /// The next that has ended; never when there is none. Safe to cancel.
    pub async fn next(&mut self) -> Ended {
        loop {
            let Some(joined) = self.tasks.join_next_with_id().await else {
                return std::future::pending().await;
            };
            let (task, code, message) = match joined {
                Ok((task, Ok(exit))) => (task, exit.code, exit.message),
                Ok((task, Err(CannotRun { code, message }))) => (task, code, Some(message)),
                Err(error) if error.is_cancelled() => {
                    (error.id(), KILLED_EXIT_CODE, Some("killed: its container has ended".to_owned()))
                }
                Err(error) => {
                    (error.id(), 125, Some(format!("peapod failed while running it (a bug): {error}")))
                }
            };
            if let Some(id) = self.ids.remove(&task) {
                self.handles.remove(&id);
                return Ended { id, code, message };
            }
        }
    }
}

type Pumps = [Option<crate::container::runner::Pump>; 2];

/// The pipes as streams.
fn streams(wanted: [bool; 3], carried: Vec<OwnedFd>) -> std::io::Result<(Streams, Pumps)> {
    let mut carried = carried.into_iter();
    let mut next = |wanted: bool| match wanted {
        true => carried.next().map(Some).ok_or(std::io::ErrorKind::InvalidData),
        false => Ok(None),
    };
    let [stdin, stdout, stderr] = wanted.map(&mut next);
    let stdin = stdin?.map(pipe::Receiver::from_owned_fd).transpose()?;
    let (stdout, first) = output(stdout?)?;
    let (stderr, second) = output(stderr?)?;
    Ok((Streams { stdin, stdout, stderr }, [first, second]))
}

fn output(pipe: Option<OwnedFd>) -> std::io::Result<(Sink, Option<crate::container::runner::Pump>)> {
    Ok(match pipe {
        None => (Sink::discard(), None),
        Some(pipe) => {
            let (sink, pump) = Sink::pumped(pipe::Sender::from_owned_fd(pipe)?);
            (sink, Some(pump))
        }
    })
}
