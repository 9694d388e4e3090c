//! What must be true from one event to the next, whatever happens.

use super::environment::{Model, Order};
use super::*;
use crate::pod::probe::due;

impl Model {
    pub(super) fn check_progress(&mut self, before: &State, actions: &[Action]) {
        let (pod, state, now) = (&self.pod, &self.state, at_ms(self.ms));
        let (was, is) = (before.phase(pod), state.phase(pod));
        assert!(was <= is, "the phase went back from {was:?} to {is:?}");
        assert!(was < Phase::Succeeded || was == is, "a final phase changed");
        assert_eq!(is >= Phase::Succeeded, self.finished);
        assert!(before.is_ending() <= state.is_ending());
        for ((spec, was), (_, is)) in before.each(pod).zip(state.each(pod)) {
            let is_taken_back = !was.state.is_running() && was.state.is_live() && is.misconfigured.is_some();
            let at_least = if is_taken_back { was.restarts.saturating_sub(1) } else { was.restarts };
            assert!(at_least <= is.restarts && is.restarts <= was.restarts + 1);
            assert!(!was.is_over(pod, spec) || was.state == is.state, "{} ran again", spec.name);
            if was.restarts == is.restarts && is.state.is_live() {
                if let (Some(was), Some(is)) = (before.stop_of(was), state.stop_of(is)) {
                    assert!(is.deadline <= was.deadline && was.kill <= is.kill, "grace grew");
                }
                assert!(before.stop_of(was).is_none() || state.stop_of(is).is_some(), "a stop taken back");
                assert!(was.run.started_since.is_none() || was.run.started_since == is.run.started_since);
            }
            if was.state.is_live() && is.state.termination().is_some() && !is_taken_back {
                self.ended.push((spec.name.clone(), is.restarts));
            }
        }
        // What was under way ends with its run.
        let live: Vec<_> = state.each(pod).filter(|(_, r)| r.state.is_live()).collect();
        self.orders.retain(|(name, run, _)| live.iter().any(|(s, r)| s.name == *name && r.restarts == *run));
        let again = decide(pod, state, now);
        assert!(again.iter().all(|a| matches!(a, Action::WakeAt(_))), "{again:?} repeats {actions:?}");
        assert_eq!(state.exit_code(pod).is_some(), self.finished);
        if self.finished {
            assert_eq!(state.exit_code(pod) == Some(0), is == Phase::Succeeded);
        }
        let timers = actions.iter().filter(|a| matches!(a, Action::WakeAt(_))).count();
        assert!(timers == 0 || (timers == 1 && matches!(actions.last(), Some(Action::WakeAt(_)))));
        self.check_timer();
        let mut mains = self.state.each(&self.pod).filter(|(spec, _)| spec.role == Role::Main);
        let mains_over = mains.all(|(spec, record)| record.is_over(&self.pod, spec));
        assert!(
            !mains_over || self.state.is_ending(),
            "something holds up a pod whose main containers are done"
        );
        self.check_status(before);
    }

    /// Whatever comes with time has a timer.
    fn check_timer(&self) {
        let wake_at = self.wake_at.map_or(Duration::MAX, Duration::from_millis);
        for (spec, record) in self.state.each(&self.pod) {
            if !self.state.is_ending() {
                assert!(
                    record.restart_at(&self.pod, spec).is_none_or(|at| wake_at <= at),
                    "no timer to restart"
                );
            }
            if record.misconfigured.is_some() && spec.role == Role::Ephemeral && !self.state.is_ending() {
                assert!(wake_at <= record.not_before(), "no timer to try again");
            }
            let stop = self.state.stop_of(record);
            for kind in ProbeKind::ALL {
                let at = spec.probes.of(kind).and_then(|p| due(kind, p, record, stop.is_some()));
                assert!(at.is_none_or(|at| wake_at <= at), "no timer to probe");
                let under_way =
                    self.orders.contains(&(spec.name.clone(), record.restarts, Order::Probe(kind)));
                assert!(!record.state.is_live() || record.run.probe(kind).is_under_way() == under_way);
            }
            let is_killed = record.state.stopping() == Some(Stopping::Killed);
            if let Some(stop) = stop.filter(|_| record.state.is_live() && !is_killed) {
                assert!(
                    wake_at <= stop.deadline.max(Duration::from_millis(self.ms) + MIN_STOP_WINDOW),
                    "no timer to kill"
                );
            }
        }
    }

    fn check_status(&self, before: &State) {
        let now = at_ms(self.ms);
        let is = pod_status(&self.pod, &self.state, &Facts::default());
        let was = pod_status(&self.pod, before, &Facts::default());
        assert_eq!(is.phase.as_deref(), Some(self.state.phase(&self.pod).as_str()));
        let was: Vec<_> = was.conditions.into_iter().flatten().collect();
        for condition in is.conditions.into_iter().flatten() {
            let at = condition.last_transition_time.clone().unwrap();
            assert!(at.0 <= now.wall);
            if let Some(was) = was.iter().find(|was| was.type_ == condition.type_) {
                let was_at = was.last_transition_time.clone().unwrap();
                assert!(was_at.0 <= at.0, "{} went back in time", condition.type_);
                assert!(was.status != condition.status || was_at == at, "{}: no transition", condition.type_);
            }
        }
        let lists = [is.container_statuses, is.init_container_statuses, is.ephemeral_container_statuses];
        for status in lists.into_iter().flatten().flatten() {
            let state = status.state.unwrap();
            let states = [state.waiting.is_some(), state.running.is_some(), state.terminated.is_some()];
            assert_eq!(states.into_iter().filter(|is| *is).count(), 1);
            assert!(status.started != Some(true) || state.running.is_some());
            assert!(
                !status.ready
                    || state.running.is_some()
                    || state.terminated.is_some_and(|t| t.exit_code == 0)
            );
        }
    }
}
