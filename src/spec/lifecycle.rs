//! What a container wants done at the turns of its life: hooks, restart rules, its last message.

use std::time::Duration;

use super::probe::HttpGet;

/// `lifecycle`
/// (<https://kubernetes.io/docs/concepts/containers/container-lifecycle-hooks/>).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hooks {
    /// `postStart`: runs right after the container has started; what comes next waits for it.
    pub post_start: Option<Hook>,
    /// `preStop`: runs before the container is asked to end, within its grace period.
    pub pre_stop: Option<Hook>,
}

impl Hooks {
    /// The hook of this kind.
    pub fn of(&self, kind: HookKind) -> Option<&Hook> {
        match kind {
            HookKind::PostStart => self.post_start.as_ref(),
            HookKind::PreStop => self.pre_stop.as_ref(),
        }
    }
}

/// Which of a container's hooks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HookKind {
    /// `postStart`.
    PostStart,
    /// `preStop`.
    PreStop,
}

/// One hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hook {
    /// Runs a command in the container; exit code 0 is success.
    Exec(Vec<String>),
    /// An HTTP request; any answer that a probe would take is success.
    HttpGet(HttpGet),
    /// Waits. Zero is allowed.
    Sleep(Duration),
}

/// One entry of `restartPolicyRules`: the first whose condition fits an exit decides, before the
/// container's `restartPolicy`
/// (<https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#container-restart-rules>). The only
/// action that Kubernetes 1.37 knows is to restart the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestartRule {
    /// Whether `values` are those it applies to (`In`), or those it does not (`NotIn`).
    pub operator: SetOperator,
    /// `exitCodes.values`.
    pub values: Vec<i32>,
}

impl RestartRule {
    /// Whether it applies to a container that ended with `code`.
    pub fn applies_to(&self, code: u8) -> bool {
        self.values.contains(&i32::from(code)) == (self.operator == SetOperator::In)
    }
}

/// How a value relates to a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetOperator {
    /// It is in it.
    In,
    /// It is not.
    NotIn,
}

/// Where a container leaves its last words
/// (<https://kubernetes.io/docs/tasks/debug/debug-application/determine-reason-pod-failure/>).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TerminationMessage {
    /// `terminationMessagePath`: an absolute path.
    pub path: String,
    /// `terminationMessagePolicy: FallbackToLogsOnError`: the end of the log, when the container failed and
    /// the file is empty.
    pub falls_back_to_logs: bool,
}

impl Default for TerminationMessage {
    fn default() -> Self {
        Self { path: "/dev/termination-log".to_owned(), falls_back_to_logs: false }
    }
}
