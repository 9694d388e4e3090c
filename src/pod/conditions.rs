//! The conditions of the pod's status, each with its last change. Pure.

use super::event::CustomCondition;
use super::time::Time;

/// Conditions that others may set; more are ignored. A pod has a few readiness gates; each costs every status
/// its length.
pub const MAX_CUSTOM_CONDITIONS: usize = 64;

/// The types that are peapod's own: what they say follows from the pod's state and nobody may set them.
pub const OWN_CONDITIONS: [&str; 6] = [
    "PodScheduled",
    "PodReadyToStartContainers",
    "Initialized",
    "ContainersReady",
    "Ready",
    "DisruptionTarget",
];

/// The conditions of one pod.
#[derive(Debug, Clone)]
pub(super) struct Conditions {
    pub ready_to_start: Condition,
    pub initialized: Condition,
    pub containers_ready: Condition,
    pub ready: Condition,
    /// Those that others set, in the order in which they came.
    pub custom: Vec<(CustomCondition, Time)>,
}

/// One condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Condition {
    pub holds: bool,
    pub since: Time,
}

impl Condition {
    pub(super) fn set(&mut self, holds: bool, now: Time) {
        if self.holds != holds {
            *self = Self { holds, since: now };
        }
    }
}

impl Conditions {
    /// Those of a new pod: nothing holds.
    pub(super) fn new(now: Time) -> Self {
        let condition = Condition { holds: false, since: now };
        Self {
            ready_to_start: condition,
            initialized: condition,
            containers_ready: condition,
            ready: condition,
            custom: Vec::new(),
        }
    }

    /// Somebody sets a condition. The transition time changes with its status only.
    pub(super) fn set(&mut self, condition: CustomCondition, now: Time) {
        if OWN_CONDITIONS.contains(&condition.name.as_str()) {
            return;
        }
        let is_full = self.custom.len() == MAX_CUSTOM_CONDITIONS;
        match self.custom.iter_mut().find(|(known, _)| known.name == condition.name) {
            Some((known, since)) => {
                if known.holds != condition.holds {
                    *since = now;
                }
                *known = condition;
            }
            None if is_full => {}
            None => self.custom.push((condition, now)),
        }
    }

    /// Somebody takes back a condition.
    pub(super) fn remove(&mut self, name: &str) {
        self.custom.retain(|(known, _)| known.name != name);
    }

    /// What is wrong with this readiness gate; `None`: it holds (`GeneratePodReadyCondition` in
    /// `pkg/kubelet/status/generate.go`).
    pub(super) fn gate(&self, name: &str) -> Option<String> {
        match self.custom.iter().find(|(known, _)| known.name == name) {
            None => Some(format!("corresponding condition of pod readiness gate \"{name}\" does not exist.")),
            Some((CustomCondition { holds: Some(true), .. }, _)) => None,
            Some((condition, _)) => {
                let status = condition.status();
                Some(format!("the status of pod readiness gate \"{name}\" is not \"True\", but {status}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::model_tests::at;

    fn custom(name: &str, holds: Option<bool>) -> CustomCondition {
        CustomCondition { name: name.into(), holds, reason: None, message: None }
    }

    #[test]
    fn the_transition_time_changes_with_the_status_only() {
        let mut conditions = Conditions::new(at(0));
        conditions.set(custom("g", Some(true)), at(1));
        conditions.set(CustomCondition { reason: Some("Why".into()), ..custom("g", Some(true)) }, at(2));
        assert_eq!(conditions.custom[0].1, at(1));
        assert_eq!(conditions.custom[0].0.reason.as_deref(), Some("Why"));
        conditions.set(custom("g", None), at(3));
        assert_eq!(conditions.custom[0].1, at(3));
        conditions.remove("g");
        assert!(conditions.custom.is_empty());
    }

    #[test]
    fn nobody_sets_what_is_peapods_and_the_others_are_bounded() {
        let mut conditions = Conditions::new(at(0));
        for own in OWN_CONDITIONS {
            conditions.set(custom(own, Some(true)), at(1));
        }
        assert!(conditions.custom.is_empty());
        for n in 0..2 * MAX_CUSTOM_CONDITIONS {
            conditions.set(custom(&n.to_string(), None), at(1));
        }
        assert_eq!(conditions.custom.len(), MAX_CUSTOM_CONDITIONS);
    }

    #[test]
    fn a_gate_says_what_is_wrong_with_it() {
        let mut conditions = Conditions::new(at(0));
        let absent = "corresponding condition of pod readiness gate \"g\" does not exist.";
        assert_eq!(conditions.gate("g").as_deref(), Some(absent));
        for (holds, word) in [(Some(false), "False"), (None, "Unknown")] {
            conditions.set(custom("g", holds), at(1));
            let wrong = format!("the status of pod readiness gate \"g\" is not \"True\", but {word}");
            assert_eq!(conditions.gate("g"), Some(wrong));
        }
        conditions.set(custom("g", Some(true)), at(1));
        assert_eq!(conditions.gate("g"), None);
    }
}
