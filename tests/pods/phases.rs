//! Phases, restarts and init containers: what Kubernetes' own end-to-end tests of containers say of them.

use serde_json::Value;

use super::support::{directory, run};

/// A pod's final state, as `-o json` prints it.
fn ended(text: &str, arguments: &[&str]) -> (i32, Value) {
    let host = directory();
    let text = text.replace("HOST", &host.path().display().to_string());
    let arguments = [arguments, &["-o", "json", "--backoff-base", "10ms"]].concat();
    let finished = run(&text, &arguments);
    (finished.code, finished.pod())
}

fn status<'a>(pod: &'a Value, name: &str) -> &'a Value {
    let lists = ["initContainerStatuses", "containerStatuses"].map(|list| &pod["status"][list]);
    let all = lists.into_iter().filter_map(Value::as_array).flatten();
    all.into_iter().find(|status| status["name"] == name).unwrap_or_else(|| panic!("no {name} in {pod:#}"))
}

/// A pod of one container that runs `args`.
fn one(policy: &str, args: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: one}}
spec:
  restartPolicy: {policy}
  terminationGracePeriodSeconds: 0
  containers:
  - {{name: main, image: {{probe}}, args: {args}, volumeMounts: [{{name: data, mountPath: /data}}]}}
  volumes: [{{name: data, hostPath: {{path: HOST}}}}]
"
    )
}

#[test]
fn never_runs_a_container_once_whatever_its_end() {
    for (code, phase, reason) in [(0, "Succeeded", "Completed"), (3, "Failed", "Error")] {
        let (exit, pod) = ended(&one("Never", &format!("[exit, '{code}']")), &[]);
        let main = status(&pod, "main");
        assert_eq!((exit, &pod["status"]["phase"]), (code, &phase.into()), "{pod:#}");
        assert_eq!(main["restartCount"], 0);
        assert_eq!(main["state"]["terminated"]["exitCode"], code);
        assert_eq!(main["state"]["terminated"]["reason"], reason);
        assert_eq!((&main["ready"], &main["started"]), (&false.into(), &false.into()));
    }
}

#[test]
fn on_failure_runs_a_container_until_it_succeeds() {
    let (exit, pod) = ended(&one("OnFailure", "[fail-times, /data/runs, '2', '5']"), &[]);
    let main = status(&pod, "main");
    assert_eq!((exit, &pod["status"]["phase"]), (0, &"Succeeded".into()), "{pod:#}");
    assert_eq!(main["restartCount"], 2);
    assert_eq!(main["state"]["terminated"]["reason"], "Completed");
    assert_eq!(main["lastState"]["terminated"]["exitCode"], 5);
}

#[test]
fn always_restarts_successes_too() {
    let (exit, pod) = ended(&one("Always", "[exit, '0']"), &["--timeout", "1s"]);
    assert_eq!(exit, 124);
    let main = status(&pod, "main");
    assert!(main["restartCount"].as_i64().unwrap() >= 2, "{pod:#}");
    assert_eq!(main["lastState"]["terminated"]["reason"], "Completed");
}

/// A pod of two init containers and a main one, which write their names to a file.
fn with_inits(policy: &str, second: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: inits}}
spec:
  restartPolicy: {policy}
  terminationGracePeriodSeconds: 0
  initContainers:
  - {{name: first, image: {{probe}}, args: [append, /data/order, first], volumeMounts: [{{name: data, mountPath: /data}}]}}
  - {{name: second, image: {{probe}}, args: {second}, volumeMounts: [{{name: data, mountPath: /data}}]}}
  containers:
  - {{name: main, image: {{probe}}, args: [append, /data/order, main], volumeMounts: [{{name: data, mountPath: /data}}]}}
  volumes: [{{name: data, hostPath: {{path: HOST}}}}]
"
    )
}

fn with_order(text: &str, arguments: &[&str]) -> (i32, Value, Vec<String>) {
    let host = directory();
    let text = text.replace("HOST", &host.path().display().to_string());
    let (exit, pod) = ended(&text, arguments);
    let order = std::fs::read_to_string(host.path().join("order")).unwrap_or_default();
    (exit, pod, order.lines().map(str::to_owned).collect())
}

fn initialized(pod: &Value) -> &Value {
    let conditions = pod["status"]["conditions"].as_array().unwrap();
    conditions.iter().find(|condition| condition["type"] == "Initialized").unwrap()
}

#[test]
fn inits_run_one_after_another_to_success_then_the_main_container() {
    let (exit, pod, order) = with_order(&with_inits("Never", "[append, /data/order, second]"), &[]);
    assert_eq!((exit, &pod["status"]["phase"]), (0, &"Succeeded".into()), "{pod:#}");
    assert_eq!(order, ["first", "second", "main"]);
    assert_eq!(initialized(&pod)["status"], "True");
    for name in ["first", "second"] {
        let init = status(&pod, name);
        assert_eq!((&init["ready"], &init["restartCount"]), (&true.into(), &0.into()));
        assert_eq!(init["state"]["terminated"]["exitCode"], 0);
    }
}

#[test]
fn inits_are_not_run_again_when_the_main_container_is() {
    let text = with_inits("Always", "[append, /data/order, second]");
    let (exit, _, order) = with_order(&text, &["--timeout", "1s"]);
    assert_eq!(exit, 124);
    assert_eq!(order[..2], ["first", "second"]);
    assert!(order.len() > 3 && order[2..].iter().all(|name| name == "main"), "{order:?}");
}

#[test]
fn an_init_that_fails_under_never_fails_the_pod_and_the_main_container_never_starts() {
    let (exit, pod, order) = with_order(&with_inits("Never", "[exit, '9']"), &[]);
    assert_eq!((exit, &pod["status"]["phase"]), (9, &"Failed".into()), "{pod:#}");
    assert_eq!(order, ["first"]);
    assert_eq!(initialized(&pod)["reason"], "ContainersNotInitialized");
    assert_eq!(initialized(&pod)["message"], "containers with incomplete status: [second]");
    let main = status(&pod, "main");
    assert_eq!(main["state"]["waiting"]["reason"], "PodInitializing");
    assert_eq!(main["started"], false);
}

#[test]
fn an_init_that_fails_under_always_is_retried_and_the_pod_stays_pending() {
    let (exit, pod, order) = with_order(&with_inits("Always", "[exit, '9']"), &["--timeout", "1s"]);
    assert_eq!(exit, 124);
    assert_eq!(order, ["first"]);
    let second = status(&pod, "second");
    assert!(second["restartCount"].as_i64().unwrap() >= 2, "{pod:#}");
    assert_eq!(second["lastState"]["terminated"]["exitCode"], 9);
}

#[test]
fn an_init_that_succeeds_at_last_lets_the_pod_go_on() {
    let text = with_inits("OnFailure", "[fail-times, /data/runs, '2', '1']");
    let (exit, pod, order) = with_order(&text, &[]);
    assert_eq!((exit, status(&pod, "second")["restartCount"].as_i64()), (0, Some(2)), "{pod:#}");
    assert_eq!(order, ["first", "main"]);
}

#[test]
fn rules_for_exit_codes_come_before_the_restart_policy() {
    let rules = "restartPolicyRules: [{action: Restart, exitCodes: {operator: In, values: [42]}}]";
    for (code, restarts, exit) in [(42, 2, 0), (41, 0, 41)] {
        let args = format!("[fail-times, /data/runs, '2', '{code}']");
        let own = format!("restartPolicy: Never, {rules}, args:");
        let text = one("Always", &args).replacen("args:", &own, 1);
        let (ended_with, pod) = ended(&text, &[]);
        assert_eq!(ended_with, exit, "{pod:#}");
        assert_eq!(status(&pod, "main")["restartCount"], restarts);
    }
}

#[test]
fn a_container_may_have_a_restart_policy_of_its_own() {
    let text = "
apiVersion: v1
kind: Pod
metadata: {name: own}
spec:
  restartPolicy: Never
  containers:
  - name: retried
    image: {probe}
    restartPolicy: OnFailure
    args: [fail-times, /data/runs, '1', '1']
    volumeMounts: [{name: data, mountPath: /data}]
  - {name: once, image: {probe}, args: [hello]}
  volumes: [{name: data, hostPath: {path: HOST}}]
";
    let (exit, pod) = ended(text, &[]);
    assert_eq!((exit, &pod["status"]["phase"]), (0, &"Succeeded".into()), "{pod:#}");
    assert_eq!(status(&pod, "retried")["restartCount"], 1);
    assert_eq!(status(&pod, "once")["restartCount"], 0);
}

#[test]
fn what_the_host_fills_in_is_there() {
    let (_, pod) = ended(&one("Never", "[hello]"), &[]);
    let status = &pod["status"];
    assert_eq!((&pod["metadata"]["generation"], &status["observedGeneration"]), (&1.into(), &1.into()));
    assert_eq!(status["qosClass"], "BestEffort");
    assert!(status["hostIP"].is_string() && status["hostIPs"].is_array(), "{pod:#}");
    assert!(status["startTime"].is_string());
    let conditions = status["conditions"].as_array().unwrap();
    for name in ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"] {
        let condition = conditions.iter().find(|c| c["type"] == name).unwrap_or_else(|| panic!("{name}"));
        assert!(condition["lastTransitionTime"].is_string());
        assert_eq!(condition["observedGeneration"], 1, "{name}");
    }
}
