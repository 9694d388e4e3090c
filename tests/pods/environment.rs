//! The variables of containers: every source, what comes before what, and what happens when one is missing.

use std::time::Instant;

use nix::sys::signal::Signal;
use serde_json::Value;

use super::support::{Finished, PATIENCE, Running, directory, peapod, rootless, run};

fn ask(arguments: &[&str]) -> Finished {
    Finished::from(peapod().args(arguments).output().expect("start peapod"))
}

/// The pod of this name, as soon as `ready` likes it.
#[track_caller]
fn pod(name: &str, ready: impl Fn(&Value) -> bool) -> Value {
    let end = Instant::now() + PATIENCE;
    loop {
        let said = ask(&["get", "pod", name, "-o", "json"]);
        if let Ok(pod) = serde_json::from_str::<Value>(&said.stdout)
            && ready(&pod)
        {
            return pod;
        }
        assert!(Instant::now() < end, "never as wanted:\n{}\n{}", said.stdout, said.stderr);
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

#[test]
fn variables_come_from_everywhere() {
    let text = "
apiVersion: v1
kind: Pod
metadata:
  name: sources
  namespace: team
  labels: {app: web}
  annotations: {example.com/note: 'two words'}
spec:
  restartPolicy: Never
  serviceAccountName: robot
  containers:
  - name: main
    image: {probe}
    args: [env]
    resources: {limits: {cpu: 1500m, memory: 64Mi}, requests: {cpu: 250m}}
    envFrom:
    - configMapRef: {name: settings}
    - prefix: S_
      secretRef: {name: login}
    - secretRef: {name: none, optional: true}
    env:
    - {name: PLAIN, value: 'color=$(color) $(UNKNOWN) $$(color) $(DB_SERVICE_HOST)'}
    - {name: LEVEL, value: replaced}
    - {name: KEY, valueFrom: {configMapKeyRef: {name: settings, key: file.txt}}}
    - {name: PASSWORD, valueFrom: {secretKeyRef: {name: login, key: password}}}
    - {name: ABSENT, valueFrom: {secretKeyRef: {name: login, key: none, optional: true}}}
    - {name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
    - {name: NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
    - {name: APP, valueFrom: {fieldRef: {fieldPath: \"metadata.labels['app']\"}}}
    - {name: NOTE, valueFrom: {fieldRef: {fieldPath: \"metadata.annotations['example.com/note']\"}}}
    - {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
    - {name: ACCOUNT, valueFrom: {fieldRef: {fieldPath: spec.serviceAccountName}}}
    - {name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
    - {name: CPU, valueFrom: {resourceFieldRef: {resource: limits.cpu}}}
    - {name: CPU_REQUEST, valueFrom: {resourceFieldRef: {resource: requests.cpu, divisor: 1m}}}
    - {name: MEMORY, valueFrom: {resourceFieldRef: {resource: limits.memory, divisor: 1Mi}}}
    - {name: OTHER, valueFrom: {resourceFieldRef: {containerName: main, resource: limits.memory}}}
    - {name: DISK, valueFrom: {resourceFieldRef: {resource: limits.ephemeral-storage, divisor: 1Mi}}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, namespace: team}
data: {color: red, LEVEL: debug, file.txt: 'dots are fine'}
---
apiVersion: v1
kind: Secret
metadata: {name: login, namespace: team}
stringData: {password: hunter2}
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: team}
spec: {clusterIP: 10.96.0.7, ports: [{port: 5432}]}
---
apiVersion: v1
kind: Service
metadata: {name: my-web, namespace: team}
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}]}
";
    let finished = run(text, &[]).expect_code(0);
    let node = nix::unistd::gethostname().unwrap().to_string_lossy().to_lowercase();
    for line in [
        "PLAIN=color=red $(UNKNOWN) $(color) 10.96.0.7",
        "color=red",
        "LEVEL=replaced",
        "file.txt=dots are fine",
        "S_password=hunter2",
        "KEY=dots are fine",
        "PASSWORD=hunter2",
        "POD=sources",
        "NAMESPACE=team",
        "APP=web",
        "NOTE=two words",
        &format!("NODE={node}"),
        "ACCOUNT=robot",
        "CPU=2",
        "CPU_REQUEST=250",
        "MEMORY=64",
        "OTHER=67108864",
        "DB_SERVICE_HOST=10.96.0.7",
        "DB_PORT_5432_TCP=tcp://10.96.0.7:5432",
    ] {
        assert!(finished.stdout.contains(&format!("[main] {line}\n")), "no {line:?} in\n{}", finished.stdout);
    }
    assert!(!finished.stdout.contains("ABSENT="), "{}", finished.stdout);
    let value = |name: &str| {
        let start = format!("[main] {name}=");
        finished.stdout.lines().find_map(|line| line.strip_prefix(&start)).map(str::to_owned)
    };
    assert!(value("DISK").unwrap().parse::<u64>().unwrap() > 0);
    let ip = value("IP").unwrap();
    assert_eq!(ip.is_empty(), rootless());
    if !rootless() {
        assert_eq!(value("MY_WEB_SERVICE_HOST"), Some(ip));
        assert_eq!(value("MY_WEB_SERVICE_PORT_HTTP").as_deref(), Some("8080"));
    }
}

#[test]
fn an_init_container_writes_variables_for_those_after_it() {
    let text = "
apiVersion: v1
kind: Pod
metadata: {name: env-file}
spec:
  restartPolicy: Never
  initContainers:
  - name: write
    image: {probe}
    args: [write, /data/app.env, \"# for main\\nA='one two'\\nB='$(A)'\\n\"]
    volumeMounts: [{name: data, mountPath: /data}]
  containers:
  - name: main
    image: {probe}
    args: [args, 'A is $(A)', 'B is $(B)', 'C is $(C)']
    env:
    - {name: A, valueFrom: {fileKeyRef: {volumeName: data, path: app.env, key: A}}}
    - {name: B, valueFrom: {fileKeyRef: {volumeName: data, path: app.env, key: B}}}
    - {name: C, valueFrom: {fileKeyRef: {volumeName: data, path: other.env, key: C, optional: true}}}
  volumes: [{name: data, emptyDir: {}}]
";
    let finished = run(text, &[]).expect_code(0);
    finished.expect_stdout("A is one two").expect_stdout("B is $(A)").expect_stdout("C is $(C)");
}

#[test]
fn a_sub_path_is_named_by_variables() {
    let host = directory();
    let text = "
apiVersion: v1
kind: Pod
metadata: {name: sub-path-expr}
spec:
  restartPolicy: Never
  containers:
  - name: main
    image: {probe}
    workingDir: /logs/deep
    args: [write, file, hello]
    env: [{name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]
    volumeMounts: [{name: data, mountPath: /logs, subPathExpr: of/$(POD)}]
  volumes: [{name: data, hostPath: {path: HOST}}]
";
    run(&text.replace("HOST", &host.path().display().to_string()), &[]).expect_code(0);
    let file = host.path().join("of/sub-path-expr/deep/file");
    assert_eq!(std::fs::read_to_string(file).unwrap().trim_end(), "hello");
}

#[test]
fn a_container_waits_for_what_its_variables_come_from() {
    let text = "
apiVersion: v1
kind: Pod
metadata: {name: late-file}
spec:
  restartPolicy: Never
  containers:
  - name: main
    image: {probe}
    args: [env, A]
    env: [{name: A, valueFrom: {fileKeyRef: {volumeName: data, path: late.env, key: A}}}]
  - name: writer
    image: {probe}
    args: [write, /data/late.env, \"A='at last'\"]
    volumeMounts: [{name: data, mountPath: /data}]
  volumes: [{name: data, emptyDir: {}}]
";
    let finished = run(text, &["-o", "json"]).expect_code(0);
    let statuses = finished.pod()["status"]["containerStatuses"].clone();
    assert_eq!(statuses[0]["restartCount"], 0, "{statuses:#}");
    finished
        .expect_stderr(
            "container main: CreateContainerConfigError: env file late.env of volume data not found",
        )
        .expect_stderr("[main] at last");
}

#[test]
fn a_container_that_cannot_be_configured_says_why_and_the_pod_can_be_stopped() {
    let text = "
apiVersion: v1
kind: Pod
metadata: {name: misconfigured}
spec:
  terminationGracePeriodSeconds: 1
  initContainers:
  - {name: prepare, image: {probe}, args: [hello]}
  containers:
  - name: main
    image: {probe}
    args: [hello]
    env: [{name: OUT, value: ../../etc}]
    volumeMounts: [{name: data, mountPath: /data, subPathExpr: x/$(OUT)}]
  volumes: [{name: data, emptyDir: {}}]
";
    let mut running = Running::start(text, &[]);
    let message = "unable to provision SubPath `x/../../etc`: must not contain '..'";
    running.wait_for(&format!("container main: CreateContainerConfigError: {message}"));
    let waiting = |pod: &Value| {
        let waiting = &pod["status"]["containerStatuses"][0]["state"]["waiting"];
        waiting["reason"] == "CreateContainerConfigError" && waiting["message"] == message
    };
    let status = pod("misconfigured", waiting)["status"].clone();
    assert_eq!(status["phase"], "Pending", "{status:#}");
    ask(&["get", "pods"]).expect_stdout("CreateContainerConfigError");
    let described = ask(&["describe", "pod", "misconfigured"]).stdout;
    for part in ["Reason:       CreateContainerConfigError", "Failed", &format!("Error: {message}")] {
        assert!(described.contains(part), "no {part:?} in\n{described}");
    }
    running.signal(Signal::SIGTERM);
    assert_eq!(running.wait(), 143);
}

#[test]
fn an_ephemeral_container_has_variables_too() {
    if rootless() {
        return;
    }
    let text = "
apiVersion: v1
kind: Pod
metadata: {name: debugged-env}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: main, image: {probe}, args: [sleep, '600000']}
---
apiVersion: v1
kind: Service
metadata: {name: db}
spec: {clusterIP: 10.96.0.7, ports: [{port: 5432}]}
";
    let mut running = Running::start(text, &[]);
    running.wait_for("started");
    let probe = super::support::guests::guests().probe.display().to_string();
    let arguments =
        ["debug", "debugged-env", "--image", &probe, "--env", "A=1", "--env", "B=$(A) $(DB_SERVICE_PORT)"];
    ask(&[&arguments[..], &["-c", "look", "--", "env"]].concat()).expect_code(0);
    running.wait_for("[look] B=1 5432");
    running.signal(Signal::SIGTERM);
    running.wait();
}
