use serde_json::{Value, json};

use super::*;
use crate::cli::testing;

fn pod() -> Pod {
    serde_json::from_value(json!({
        "metadata": {
            "name": "web", "namespace": "default", "uid": "u1",
            "labels": {"app": "web", "tier": "front"},
            "annotations": {"a": "1", "long": "x".repeat(150), LAST_APPLIED: "{}"},
        },
        "spec": {
            "nodeName": "node",
            "initContainers": [{"name": "setup", "image": "./setup.wasm"}],
            "containers": [{
                "name": "web", "image": "./web.wasm", "command": ["serve"], "args": ["--port", "80"],
                "ports": [{"containerPort": 80}, {"containerPort": 53, "protocol": "UDP", "hostPort": 5353}],
                "resources": {"limits": {"memory": "64Mi", "cpu": "100m"}, "requests": {"cpu": "50m"}},
                "livenessProbe": {"httpGet": {"path": "/healthz", "port": 8080}},
                "readinessProbe": {"exec": {"command": ["cat", "/ready"]}, "periodSeconds": 5},
                "startupProbe": {"tcpSocket": {"port": "http"}, "failureThreshold": 30},
                "env": [
                    {"name": "A", "value": "1"},
                    {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                    {"name": "IPS", "valueFrom": {"fieldRef": {"fieldPath": "status.podIPs"}}},
                    {"name": "M", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
                    {"name": "C", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
                    {"name": "D", "valueFrom": {"resourceFieldRef": {"resource": "limits.ephemeral-storage"}}},
                    {"name": "K", "valueFrom": {"configMapKeyRef": {"name": "map", "key": "k"}}},
                    {"name": "S", "valueFrom": {"secretKeyRef": {"name": "sec", "key": "k", "optional": true}}},
                    {"name": "F", "valueFrom": {"fileKeyRef": {"volumeName": "data", "path": "a.env", "key": "k"}}},
                ],
                "volumeMounts": [
                    {"name": "data", "mountPath": "/data"},
                    {"name": "conf", "mountPath": "/conf", "readOnly": true, "subPath": "a"},
                ],
            }],
            "readinessGates": [{"conditionType": "example.com/gate"}],
            "volumes": [{"name": "data", "emptyDir": {}}, {"name": "conf", "hostPath": {"path": "/etc/web"}}],
        },
        "status": {
            "phase": "Running", "hostIP": "192.0.2.1", "podIP": "10.201.0.7", "qosClass": "Burstable",
            "podIPs": [{"ip": "10.201.0.7"}, {"ip": "fd00::7"}],
            "startTime": "2026-11-20T16:00:00Z",
            "conditions": [{"type": "Initialized", "status": "True"}, {"type": "Ready", "status": "False"}],
            "initContainerStatuses": [{
                "name": "setup", "ready": true, "restartCount": 0, "image": "", "imageID": "sha256:1",
                "containerID": "peapod://u1/setup/0",
                "state": {"terminated": {
                    "exitCode": 0, "reason": "Completed",
                    "startedAt": "2026-11-20T16:00:00Z", "finishedAt": "2026-11-20T16:00:01Z",
                }},
            }],
            "containerStatuses": [{
                "name": "web", "ready": false, "restartCount": 2, "image": "", "imageID": "sha256:2",
                "containerID": "peapod://u1/web/2",
                "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "not shown"}},
                "lastState": {"terminated": {
                    "exitCode": 134, "reason": "Error", "message": "trap\n  at main\u{1b}[2J\u{202e}",
                    "startedAt": "2026-11-20T16:00:01Z", "finishedAt": "2026-11-20T16:00:02Z",
                }},
            }],
        },
    }))
    .unwrap()
}

fn events() -> Vec<Event> {
    let event = |kind: &str, reason: &str, message: &str, first: &str, last: &str, count: i32| -> Value {
        json!({
            "metadata": {}, "involvedObject": {}, "type": kind, "reason": reason, "message": message,
            "count": count, "source": {"component": "peapod"},
            "firstTimestamp": format!("2026-11-20T16:00:{first}Z"), "lastTimestamp": format!("2026-11-20T16:00:{last}Z"),
        })
    };
    let back_off = "Back-off restarting failed container web in pod web_default(u1)";
    serde_json::from_value(json!([
        event("Warning", "BackOff", back_off, "03", "20", 4),
        event("Normal", "Started", "Started container web", "01", "01", 1),
    ]))
    .unwrap()
}

const EXPECTED: &str = "\
Name:         web
Namespace:    default
Node:         node/192.0.2.1
Start Time:   Fri, 20 Nov 2026 16:00:00 +0000
Labels:       app=web
              tier=front
Annotations:  a: 1
              long:
                LONG...
Status:       Running
IP:           10.201.0.7
IPs:
  IP:  10.201.0.7
  IP:  fd00::7
Init Containers:
  setup:
    Container ID:   peapod://u1/setup/0
    Image:          ./setup.wasm
    Image ID:       sha256:1
    Port:           <none>
    Host Port:      <none>
    State:          Terminated
      Reason:       Completed
      Exit Code:    0
      Started:      Fri, 20 Nov 2026 16:00:00 +0000
      Finished:     Fri, 20 Nov 2026 16:00:01 +0000
    Ready:          True
    Restart Count:  0
    Environment:    <none>
    Mounts:         <none>
Containers:
  web:
    Container ID:  peapod://u1/web/2
    Image:         ./web.wasm
    Image ID:      sha256:2
    Ports:         80/TCP, 53/UDP
    Host Ports:    0/TCP, 5353/UDP
    Command:
      serve
    Args:
      --port
      80
    State:       Waiting
      Reason:    CrashLoopBackOff
    Last State:  Terminated
      Reason:    Error
      Message:   trap
  at main^[[2J\\u{202e}
      Exit Code:    134
      Started:      Fri, 20 Nov 2026 16:00:01 +0000
      Finished:     Fri, 20 Nov 2026 16:00:02 +0000
    Ready:          False
    Restart Count:  2
    Limits:
      cpu:     100m
      memory:  64Mi
    Requests:
      cpu:      50m
    Liveness:   http-get http://:8080/healthz delay=0s timeout=1s period=10s #success=1 #failure=3
    Readiness:  exec [cat /ready] delay=0s timeout=1s period=5s #success=1 #failure=3
    Startup:    tcp-socket :http delay=0s timeout=1s period=10s #success=1 #failure=30
    Environment:
      A:    1
      POD:  web (v1:metadata.name)
      IPS:  10.201.0.7,fd00::7 (v1:status.podIPs)
      M:    64 (limits.memory)
      C:    1 (limits.cpu)
      D:    0 (limits.ephemeral-storage)
      K:    <set to the key 'k' of config map 'map'>               Optional: false
      S:    <set to the key 'k' in secret 'sec'>                   Optional: true
      F:    <set to the key 'k' in file 'a.env' of volume 'data'>  Optional: false
    Mounts:
      /conf from conf (ro,path=\"a\")
      /data from data (rw)
Readiness Gates:
  Type               Status
  example.com/gate   <none>\x20
Conditions:
  Type          Status
  Initialized   True\x20
  Ready         False\x20
Volumes:
  data:
    Type:       EmptyDir (a temporary directory that shares a pod's lifetime)
    Medium:     \n    SizeLimit:  <unset>
  conf:
    Type:          HostPath (bare host directory volume)
    Path:          /etc/web
    HostPathType:  <none>
QoS Class:         Burstable
Node-Selectors:    <none>
Tolerations:       <none>
Events:
  Type     Reason   Age                From    Message
  ----     ------   ----               ----    -------
  Normal   Started  29s                peapod  Started container web
  Warning  BackOff  10s (x4 over 27s)  peapod  Back-off restarting failed container web in pod web_default(u1)
";

#[test]
fn the_layout_is_kubectls_to_the_letter() {
    let now = "2026-11-20T16:00:30Z".parse().unwrap();
    let expected = EXPECTED.replace("LONG", &"x".repeat(138));
    let text = describe(&pod(), Some(events()), now);
    assert_eq!(text, expected, "{text}");
}

#[test]
fn a_pod_that_ends_and_one_that_nobody_answers_for() {
    let now: Timestamp = "2026-11-20T16:00:30Z".parse().unwrap();
    let mut pod = pod();
    pod.metadata.deletion_timestamp =
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time("2026-11-20T16:00:20Z".parse().unwrap()));
    pod.metadata.deletion_grace_period_seconds = Some(30);
    let text = describe(&pod, Some(vec![]), now);
    assert!(text.contains("Terminating (lasts 10s)\nTermination Grace Period:  30s\n"), "{text}");
    assert!(text.ends_with("Events:  <none>\n"), "{text}");
    let mut unknown = Pod::default();
    unknown.metadata.name = Some("web".to_owned());
    unknown.status.get_or_insert_default().phase = Some("Unknown".to_owned());
    let text = describe(&unknown, None, now);
    let expected = "\
Name:         web
Namespace:    \nNode:         <none>
Labels:       <none>
Annotations:  <none>
Status:       Unknown
IP:           \nIPs:          <none>
Containers: <none>
Volumes:         <none>
QoS Class:       \nNode-Selectors:  <none>
Tolerations:     <none>
";
    assert_eq!(text, expected, "{text}");
}

#[test]
fn the_timeline_has_every_step_of_every_container() {
    let expected = "\
Timeline:  microseconds since 2026-11-20T16:10:38.000123Z
  Pod:
    Step      At    Took  Detail
    ----      --    ----  ------
    manifest  10    600
    accepted  611
    sandbox   2000  2500
    volumes   2600  40
  web:
    Step             At    Took  Detail
    ----             --    ----  ------
    image            700   1200  AOT hit
    start            4500
    instantiate      4510  35
    first host call  4560
    started          4570
    ready            4571
";
    assert_eq!(timeline::describe(&testing::timeline()), expected);
}
