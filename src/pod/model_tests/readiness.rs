//! readinessGates and the conditions that others set.

use super::*;

fn set(name: &str, holds: Option<bool>) -> Event {
    Event::ConditionSet(CustomCondition { name: name.into(), holds, reason: None, message: None })
}

fn condition(pod: &Pod, state: &State, name: &str) -> Option<(String, Option<String>, Option<String>)> {
    let conditions = pod_status(pod, state, &Facts::default()).conditions.unwrap();
    let found = conditions.into_iter().find(|condition| condition.type_ == name);
    found.map(|condition| (condition.status, condition.reason, condition.message))
}

#[test]
fn a_pod_is_ready_when_its_gates_are() {
    let mut pod = pod(RestartPolicy::Always, "M:x");
    pod.readiness_gates = vec!["example.com/a".into(), "example.com/b".into()];
    let mut s = run_to_start(&pod);
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(condition(&pod, &s, "ContainersReady"), Some(("True".into(), None, None)));
    let message = "corresponding condition of pod readiness gate \"example.com/a\" does not exist., \
                   corresponding condition of pod readiness gate \"example.com/b\" does not exist.";
    let ready = condition(&pod, &s, "Ready");
    assert_eq!(ready, Some(("False".into(), text("ReadinessGatesNotReady"), text(message))));
    s.step(&pod, set("example.com/a", Some(true)), at(10));
    s.step(&pod, set("example.com/b", Some(false)), at(11));
    let message = "the status of pod readiness gate \"example.com/b\" is not \"True\", but False";
    let ready = condition(&pod, &s, "Ready");
    assert_eq!(ready, Some(("False".into(), text("ReadinessGatesNotReady"), text(message))));
    s.step(&pod, set("example.com/b", Some(true)), at(12));
    assert_eq!(condition(&pod, &s, "Ready"), Some(("True".into(), None, None)));
    assert_eq!(condition(&pod, &s, "example.com/b"), Some(("True".into(), None, None)));
    s.step(&pod, exited("x", 1), at(13));
    let (_, reason, message) = condition(&pod, &s, "Ready").unwrap();
    assert_eq!((reason, message), (text("ContainersNotReady"), text("containers with unready status: [x]")));
    s.step(&pod, Event::ConditionRemoved { name: "example.com/b".into() }, at(14));
    assert_eq!(condition(&pod, &s, "example.com/b"), None);
}

#[test]
fn nobody_sets_the_pods_own_conditions() {
    let pod = pod(RestartPolicy::Always, "M:x");
    let (mut s, _) = ready(&pod);
    s.step(&pod, set("Ready", Some(true)), at(1));
    assert_eq!(condition(&pod, &s, "Ready").unwrap().0, "False");
}
