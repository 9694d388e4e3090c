//! The states of one container. Pure: no clock, no I/O.
//!
//! ```text
//!            start             started              exited
//! Waiting ─────────► Starting ─────────► Running ─────────► Terminated
//!                        │  failed to start / exited             ▲ │
//!                        └───────────────────────────────────────┘ │
//!                        ▲                 start (a restart)       │
//!                        └─────────────────────────────────────────┘
//! ```
//!
//! A start that cannot be made as the container is configured is taken back: the pod then puts back the state that was
//! before it (`pod::record`).
//!
//! Each variant owns what is known in that state only. When and whether to move is decided by the pod
//! ([`crate::pod::actions`]); here is what a move does.

use std::time::Duration;

use crate::pod::time::Time;

/// Exit code of a container that could not be started, as containerd reports it (`errorStartExitCode`).
pub const START_ERROR_EXIT_CODE: u8 = 128;

/// Exit code of a container that was killed: 128 + SIGKILL.
pub const KILLED_EXIT_CODE: u8 = 137;

/// Exit code of a guest that trapped: 128 + SIGABRT, what wasmtime's command line has for a trap.
pub const TRAPPED_EXIT_CODE: u8 = 134;

/// Bytes of an exit's message that are kept: the kubelet's `MaxContainerTerminationMessageLength`. A guest
/// chooses the names in its backtrace, and every status carries the message.
pub const MAX_MESSAGE_BYTES: usize = 4096;

/// What a container is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContainerState {
    /// It was never started. Left by a start.
    Waiting,
    /// A start was ordered and is not answered yet. Left when it has started, or when it has ended.
    Starting {
        /// Whether it was told to end meanwhile.
        stopping: Stopping,
    },
    /// Its code runs. Left when it has ended.
    Running {
        /// When its code began to run.
        started_at: Time,
        /// Whether it was told to end.
        stopping: Stopping,
    },
    /// It ended. Left by a restart, if there is one.
    Terminated(Termination),
}

/// How far the stop of a live container has come. One-way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopping {
    /// Nobody told it to end.
    No,
    /// It shall end, and its `preStop` hook runs first.
    PreStop,
    /// Its `preStop` hook is over. It is asked next, when its turn has come.
    Prepared,
    /// It was asked to end.
    Asked {
        /// When, monotonic.
        at: Duration,
    },
    /// It is being interrupted; only its exit is missing.
    Killed,
}

impl Stopping {
    /// How many steps towards the end were made.
    fn step(self) -> u8 {
        match self {
            Self::No => 0,
            Self::PreStop => 1,
            Self::Prepared => 2,
            Self::Asked { .. } => 3,
            Self::Killed => 4,
        }
    }
}

/// One ended run of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Termination {
    /// How it ended.
    pub exit: Exit,
    /// When its code began to run; `None` when it could not be started.
    pub started_at: Option<Time>,
    /// When it ended.
    pub finished_at: Time,
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// 0 for success, as a shell sees it.
    pub code: u8,
    /// The one word of `state.terminated.reason`.
    pub reason: ExitReason,
    /// More for a human, such as the trap and its backtrace, cut to [`MAX_MESSAGE_BYTES`].
    pub message: Option<String>,
}

impl Exit {
    /// The exit of a container that ended by itself with `code`.
    pub fn with_code(code: u8) -> Self {
        let reason = if code == 0 { ExitReason::Completed } else { ExitReason::Error };
        Self { code, reason, message: None }
    }

    /// The code that a guest gave to `wasi:cli/exit`, cut to the 8 bits that a process has (wait(2)).
    pub fn from_guest(code: i32) -> Self {
        Self::with_code((code & 0xff) as u8)
    }

    /// It was interrupted.
    pub fn killed(why: &str) -> Self {
        Self::with_code(KILLED_EXIT_CODE).because(why.to_owned())
    }

    /// The guest trapped; the message has its backtrace.
    pub fn trapped(message: String) -> Self {
        Self::with_code(TRAPPED_EXIT_CODE).because(message)
    }

    /// It wanted more memory than its limit.
    pub fn out_of_memory(message: String) -> Self {
        Self { reason: ExitReason::OomKilled, ..Self::with_code(KILLED_EXIT_CODE) }.because(message)
    }

    /// It could not be started.
    pub fn start_error(message: String) -> Self {
        let reason = ExitReason::FailedToStart("StartError".to_owned());
        Self { reason, ..Self::with_code(START_ERROR_EXIT_CODE) }.because(message)
    }

    fn because(self, mut message: String) -> Self {
        message.truncate(message.floor_char_boundary(MAX_MESSAGE_BYTES));
        Self { message: Some(message), ..self }
    }
}

/// Why a container ended, in Kubernetes' words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExitReason {
    /// It ended by itself with code 0.
    Completed,
    /// It ended with another code, by a trap or because it was interrupted.
    Error,
    /// It needed more memory than its limit.
    OomKilled,
    /// It could not be started; the word says at what it failed, such as `StartError`.
    FailedToStart(String),
}

impl ExitReason {
    /// The word for `state.terminated.reason`.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Completed => "Completed",
            Self::Error => "Error",
            Self::OomKilled => "OOMKilled",
            Self::FailedToStart(reason) => reason,
        }
    }
}

impl ContainerState {
    /// Whether there is something to stop: it is starting or running.
    pub fn is_live(&self) -> bool {
        self.stopping().is_some()
    }

    /// Whether its code runs.
    pub fn is_running(&self) -> bool {
        matches!(self, Self::Running { .. })
    }

    /// How far its stop has come; `None` when it is not live.
    pub fn stopping(&self) -> Option<Stopping> {
        match self {
            Self::Starting { stopping } | Self::Running { stopping, .. } => Some(*stopping),
            Self::Waiting | Self::Terminated(_) => None,
        }
    }

    /// Its end, when that is where it is.
    pub fn termination(&self) -> Option<&Termination> {
        match self {
            Self::Terminated(termination) => Some(termination),
            _ => None,
        }
    }

    /// A start is ordered. Returns the end that a restart leaves behind. No effect on a live container.
    pub fn start(&mut self) -> Option<Termination> {
        if self.is_live() {
            return None;
        }
        match std::mem::replace(self, Self::Starting { stopping: Stopping::No }) {
            Self::Terminated(termination) => Some(termination),
            _ => None,
        }
    }

    /// Its code runs. No effect unless it is starting.
    pub fn started(&mut self, now: Time) {
        if let Self::Starting { stopping } = *self {
            *self = Self::Running { started_at: now, stopping };
        }
    }

    /// It ended, or its start failed. No effect unless it is live: an exit is counted once.
    pub fn exited(&mut self, exit: Exit, now: Time) {
        let started_at = match self {
            Self::Starting { .. } => None,
            Self::Running { started_at, .. } => Some(*started_at),
            Self::Waiting | Self::Terminated(_) => return,
        };
        *self = Self::Terminated(Termination { exit, started_at, finished_at: now });
    }

    /// Its stop comes this far. A stop never goes back: one that has come further stays where it is.
    pub fn stop(&mut self, to: Stopping) {
        if let Self::Starting { stopping } | Self::Running { stopping, .. } = self
            && stopping.step() < to.step()
        {
            *stopping = to;
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    const T: Time = Time { mono: Duration::ZERO, wall: Timestamp::UNIX_EPOCH };

    #[test]
    fn a_run_goes_round_once() {
        let mut state = ContainerState::Waiting;
        assert_eq!(state.start(), None);
        state.started(T);
        assert!(state.is_running());
        state.exited(Exit::with_code(3), T);
        state.exited(Exit::with_code(0), T);
        assert_eq!(state.termination().map(|t| t.exit.code), Some(3));
        assert_eq!(state.start().map(|t| t.exit.code), Some(3));
        assert!(state.is_live() && !state.is_running());
    }

    #[test]
    fn a_message_without_end_is_cut_between_characters() {
        let exit = Exit::trapped(format!("x{}", "\u{1fadb}".repeat(MAX_MESSAGE_BYTES)));
        let message = exit.message.unwrap();
        assert!((MAX_MESSAGE_BYTES - 3..=MAX_MESSAGE_BYTES).contains(&message.len()));
        assert_eq!(Exit::start_error("short".into()).message.as_deref(), Some("short"));
    }

    #[test]
    fn an_order_to_end_survives_the_start_and_never_weakens() {
        let mut state = ContainerState::Waiting;
        state.stop(Stopping::Killed);
        assert_eq!(state, ContainerState::Waiting);
        state.start();
        state.stop(Stopping::Killed);
        state.started(T);
        for weaker in [Stopping::No, Stopping::PreStop, Stopping::Prepared] {
            state.stop(weaker);
        }
        state.stop(Stopping::Asked { at: Duration::ZERO });
        assert_eq!(state.stopping(), Some(Stopping::Killed));
    }

    #[test]
    fn a_container_is_asked_once() {
        let asked = |secs| Stopping::Asked { at: Duration::from_secs(secs) };
        let mut state = ContainerState::Running { started_at: T, stopping: Stopping::No };
        state.stop(asked(1));
        state.stop(asked(2));
        state.stop(Stopping::Prepared);
        assert_eq!(state.stopping(), Some(asked(1)));
    }

    #[test]
    fn a_live_container_is_not_started_again() {
        let mut state = ContainerState::Running { started_at: T, stopping: Stopping::Killed };
        assert_eq!(state.start(), None);
        assert!(state.is_running());
    }
}
