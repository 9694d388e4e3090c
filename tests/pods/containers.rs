//! What one container is given and gives back: arguments, environment, output, exit code.

use super::support::run;

const ONE: &str = "
apiVersion: v1
kind: Pod
metadata: {name: one}
spec:
  restartPolicy: Never
  containers:
  - name: main
    image: {probe}
";

fn one(rest: &str) -> String {
    format!("{ONE}    {}\n", rest.trim().replace('\n', "\n    "))
}

#[test]
fn success_is_exit_code_0() {
    run(&one("args: [hello]"), &[]).expect_code(0).expect_stdout("[main] hello");
}

#[test]
fn a_failing_containers_exit_code_is_the_pods() {
    let finished = run(&one("args: [exit, '42']"), &["-o", "json"]).expect_code(42);
    let status = &finished.pod()["status"];
    assert_eq!(status["phase"], "Failed");
    let terminated = &status["containerStatuses"][0]["state"]["terminated"];
    assert_eq!(terminated["exitCode"], 42);
    assert_eq!(terminated["reason"], "Error");
}

#[test]
fn a_trap_is_134_with_its_backtrace_in_the_log_and_in_the_status() {
    let finished = run(&one("args: [trap]"), &["-o", "json"]).expect_code(134);
    finished.pod()["status"]["containerStatuses"][0]["state"]["terminated"]["message"]
        .as_str()
        .filter(|message| message.contains("wasm backtrace"))
        .unwrap_or_else(|| panic!("no backtrace in {}", finished.stdout));
    finished.expect_stderr("wasm backtrace");
}

#[test]
fn arguments_and_environment_are_expanded_as_in_kubernetes() {
    let rest = "
env:
- {name: WHO, value: world}
- {name: GREETING, value: 'hello $(WHO)'}
command: [probe, args]
args: ['$(GREETING)', '$$(WHO)', '$(MISSING)']";
    run(&one(rest), &[])
        .expect_code(0)
        .expect_stdout("hello world")
        .expect_stdout("$(WHO)")
        .expect_stdout("$(MISSING)");
    run(&one("env: [{name: A, value: b}]\nargs: [env]"), &[]).expect_code(0).expect_stdout("A=b");
}

#[test]
fn standard_input_is_closed() {
    run(&one("args: [stdin]"), &[]).expect_code(0).expect_stdout("end of stdin after 0 bytes");
}

#[test]
fn output_is_logged_in_cri_format_and_nothing_is_lost() {
    let logs = super::support::directory();
    let argument = logs.path().to_str().unwrap();
    run(&one("args: [print, '20000']"), &["--log-dir", argument]).expect_code(0);
    let pod = std::fs::read_dir(logs.path()).unwrap().next().unwrap().unwrap().path();
    let text = std::fs::read_to_string(pod.join("main/0.log")).unwrap();
    assert_eq!(text.lines().count(), 20_000);
    for line in text.lines() {
        let fields: Vec<&str> = line.splitn(4, ' ').collect();
        assert!(fields[0].ends_with('Z') && fields[0].len() >= 20, "{line}");
        assert_eq!((fields[1], fields[2]), ("stdout", "F"), "{line}");
    }
}

#[test]
fn a_container_beyond_its_memory_limit_is_oom_killed_and_the_others_go_on() {
    let text = "
apiVersion: v1
kind: Pod
metadata: {name: hungry}
spec:
  restartPolicy: Never
  containers:
  - name: hungry
    image: {probe}
    args: [alloc]
    resources: {limits: {memory: 32Mi}}
  - name: modest
    image: {probe}
    args: [sleep, '1500']
";
    let finished = run(text, &["-o", "json"]).expect_code(137);
    let pod = finished.pod();
    let statuses = pod["status"]["containerStatuses"].as_array().unwrap();
    let terminated = |name: &str| {
        let status = statuses.iter().find(|status| status["name"] == name).unwrap();
        status["state"]["terminated"].clone()
    };
    assert_eq!(terminated("hungry")["reason"], "OOMKilled");
    assert_eq!(terminated("hungry")["exitCode"], 137);
    assert_eq!(terminated("modest")["reason"], "Completed");
    assert!(terminated("modest")["finishedAt"].as_str() > terminated("hungry")["finishedAt"].as_str());
}

#[test]
fn an_endless_loop_does_not_delay_another_containers_timers() {
    let text = "
apiVersion: v1
kind: Pod
metadata: {name: spinning}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  containers:
  - name: spin
    image: {probe}
    args: [spin]
  - name: tick
    image: {probe}
    args: [tick, '10', '50']
";
    // The pod never ends by itself; that tick ends and that the stop works is the point.
    let mut pod = super::support::Running::start(text, &[]);
    pod.wait_for("tick Completed");
    pod.signal(nix::sys::signal::Signal::SIGINT);
    assert_eq!(pod.wait(), 130);
}
