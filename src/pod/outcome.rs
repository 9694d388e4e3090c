//! What a pod's life comes to: its phase, why it ends, the exit code of `peapod run`. Pure.
//!
//! ```text
//! State ─┬─► cause_to_end: all main containers over, an init container failed for good, time is up
//!        ├─► phase (`getPhase` in pkg/kubelet/kubelet_pods.go), final_phase once nothing lives
//!        └─► exit_code
//! ```

use super::event::{Phase, StopCause};
use super::record::ContainerRecord;
use super::state::{Cause, Ending, Stage, State};
use super::time::Time;
use crate::container::state::KILLED_EXIT_CODE;
use crate::spec::{Pod, Role};

/// Exit code of `peapod run` for a pod that ran out of time, as timeout(1) has it.
pub const EXIT_TIMED_OUT: u8 = 124;
/// Exit code of `peapod run` for a pod that failed without a container to blame.
pub const EXIT_FAILED: u8 = 1;

impl State {
    /// `status.phase`.
    pub fn phase(&self, pod: &Pod) -> Phase {
        match self.stage {
            Stage::Finished { phase, .. } => phase,
            _ if self.mains(pod).all(ContainerRecord::has_run) => Phase::Running,
            _ => Phase::Pending,
        }
    }

    /// The exit code of `peapod run` once the pod has ended; `None` before.
    ///
    /// 0 when it Succeeded. When it Failed: the code of the container whose failure, first in time, decided
    /// it; [`EXIT_TIMED_OUT`] for `activeDeadlineSeconds`; [`KILLED_EXIT_CODE`] when it was evicted. A pod that was
    /// stopped: [`EXIT_TIMED_OUT`], or 128 + the signal unless all its main containers ended well.
    pub fn exit_code(&self, pod: &Pod) -> Option<u8> {
        let Stage::Finished { cause, phase, .. } = self.stage else { return None };
        if cause == Cause::Stopped(StopCause::Timeout) {
            return Some(EXIT_TIMED_OUT);
        }
        if phase == Phase::Succeeded {
            return Some(0);
        }
        Some(match cause {
            Cause::DeadlineExceeded | Cause::Stopped(StopCause::Timeout) => EXIT_TIMED_OUT,
            Cause::Evicted => KILLED_EXIT_CODE,
            Cause::InitFailed(index) => {
                let record = self.containers.get(index);
                record.and_then(|r| r.last_termination()).map_or(EXIT_FAILED, |t| t.exit.code)
            }
            Cause::Completed => {
                let failed =
                    self.mains(pod).filter_map(|r| r.last_termination()).filter(|t| t.exit.code != 0);
                failed.min_by_key(|t| t.finished_at.mono).map_or(EXIT_FAILED, |t| t.exit.code)
            }
            Cause::Stopped(StopCause::Signal(signal)) => 128_u8.saturating_add(signal),
        })
    }

    /// The phase in which the pod ends, given that nothing lives any more.
    pub(super) fn final_phase(&self, pod: &Pod) -> Phase {
        let failed_by_cause = matches!(
            self.stage,
            Stage::Ending(Ending {
                cause: Cause::DeadlineExceeded | Cause::InitFailed(_) | Cause::Evicted,
                ..
            })
        );
        if !failed_by_cause && self.mains(pod).all(ContainerRecord::has_succeeded) {
            Phase::Succeeded
        } else {
            Phase::Failed
        }
    }

    /// Why the pod has to end by itself, if it has to.
    pub(super) fn cause_to_end(&self, pod: &Pod, now: Time) -> Option<Cause> {
        let failed_init = self.each(pod).position(|(spec, record)| {
            spec.role == Role::Init && !record.has_succeeded() && record.is_over(pod, spec)
        });
        if let Some(index) = failed_init {
            return Some(Cause::InitFailed(index));
        }
        let mut mains = self.each(pod).filter(|(spec, _)| spec.role == Role::Main);
        if mains.all(|(spec, record)| record.is_over(pod, spec)) {
            return Some(Cause::Completed);
        }
        let deadline = self.active_deadline(pod)?;
        (now.mono >= deadline).then_some(Cause::DeadlineExceeded)
    }
}
