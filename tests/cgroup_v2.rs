//! Pods under real cgroup v2 limits, in a virtual machine (see `tests/vm`): one boot for all tests of this file.
//!
//! ```text
//! SECTIONS ─► one script ─► one machine ─► its output, cut into sections ─► each test asserts its own
//! ```
//!
//! A section's shell checks exit codes and leftovers itself, and prints what it finds as `NAME: VALUE` lines for the
//! test (`tests/vm/section.sh`).

mod support;
mod vm;

use std::fs;
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use peapod::sandbox::cgroup::{PIDS, RUNTIME_CPU_MILLIS, RUNTIME_MEMORY_BYTES};
use serde_json::Value;

/// For all sections: emulated, on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(300);
/// For one section, seconds of the machine.
const SECTION_TIMEOUT: u32 = 60;
const MIB: u64 = 1024 * 1024;

/// The sections' names and scripts, in their order.
const SECTIONS: [(&str, &str); 8] = [
    ("machine", MACHINE),
    ("limits", LIMITS),
    ("throttled", THROTTLED),
    ("container out of memory", CONTAINER_OUT_OF_MEMORY),
    ("pod out of memory", POD_OUT_OF_MEMORY),
    ("native out of memory", NATIVE_OUT_OF_MEMORY),
    ("killed supervisor", KILLED_SUPERVISOR),
    // The last one: it takes things from the machine.
    ("bare machine", BARE_MACHINE),
];

/// What one section printed.
struct Section(&'static str);

impl Section {
    /// The section of a test, `None` in the rootless set. The first call boots the machine.
    #[track_caller]
    fn of(name: &str) -> Option<Self> {
        static OUTPUT: OnceLock<vm::VmOutput> = OnceLock::new();
        if !support::needs_root() {
            return None;
        }
        let output = OUTPUT.get_or_init(boot);
        let text = output.stdout.split_once(&format!("[begin {name}]\n")).map(|(_, rest)| rest);
        let (text, code) =
            text.and_then(|text| text.split_once(&format!("[end {name}: "))).unwrap_or_else(|| {
                panic!("section {name:?} has no end in:\n{}\nconsole:\n{}", output.stdout, output.console)
            });
        assert!(code.starts_with("0]"), "section {name:?}:\n{text}\nconsole:\n{}", output.console);
        Some(Self(text))
    }

    /// The values of all lines `name: value`.
    fn all(&self, name: &str) -> Vec<&'static str> {
        let value = |line: &'static str| line.strip_prefix(name)?.strip_prefix(": ");
        self.0.lines().filter_map(value).collect()
    }

    /// The value of the only line `name: value`.
    #[track_caller]
    fn one(&self, name: &str) -> &'static str {
        let [value] = self.all(name)[..] else { panic!("not one {name:?} in\n{}", self.0) };
        value
    }

    /// The status in the only Pod object.
    #[track_caller]
    fn status(&self) -> Value {
        let pod: Value =
            serde_json::from_str(self.one("pod")).unwrap_or_else(|e| panic!("{e} in\n{}", self.0));
        pod["status"].clone()
    }
}

/// `cpu.max` of a pod whose containers may have so many thousandths of a core.
fn quota(millis: u64) -> String {
    format!("{} 100000", (millis + RUNTIME_CPU_MILLIS) * 100)
}

/// How container `name` ended.
#[track_caller]
fn terminated(status: &Value, name: &str) -> Value {
    let containers =
        status["containerStatuses"].as_array().unwrap_or_else(|| panic!("no containers in {status:#}"));
    let container = containers.iter().find(|container| container["name"] == name);
    container.unwrap_or_else(|| panic!("no {name} in {status:#}"))["state"]["terminated"].clone()
}

fn boot() -> vm::VmOutput {
    let scratch = support::directory();
    let mut files = vm::program(Path::new(env!("CARGO_BIN_EXE_peapod")), "/bin/peapod", scratch.path());
    files.push((support::guests::guests().probe.clone(), "/probe.wasm".into()));
    let mut script = String::new();
    for (index, (name, section)) in SECTIONS.iter().enumerate() {
        let file = scratch.path().join(format!("{index}.sh"));
        fs::write(&file, [include_str!("vm/section.sh"), section].concat()).expect("write a section");
        files.push((file, format!("/sections/{index}.sh")));
        script += &format!(
            "echo '[begin {name}]'\n\
             timeout -k 5 {SECTION_TIMEOUT} sh -ex /sections/{index}.sh\n\
             echo \"[end {name}: $?] at $(cut -d ' ' -f 1 /proc/uptime) s\"\n"
        );
    }
    let clock = Instant::now();
    let output = vm::run(&files, &script, TIMEOUT);
    eprintln!("the machine booted in {:?} and ended after {:?}", output.boot, clock.elapsed());
    output.stdout.lines().filter(|line| line.starts_with("[end ")).for_each(|line| eprintln!("{line}"));
    output
}

const MACHINE: &str = "
cat /sys/fs/cgroup/cgroup.controllers
fact modules \"$(grep -cE '^(veth|nf_tables|nft_masq|nft_chain_nat) ' /proc/modules)\"
fact kernel \"$(uname -r)\"
";

/// What the other tests of this file rely on.
#[test]
fn the_machine_has_cgroup_v2_veth_and_nftables() {
    let Some(section) = Section::of("machine") else { return };
    assert_eq!(section.one("modules"), "4");
    for controller in ["cpu", "memory", "pids"] {
        assert!(section.0.contains(controller), "no {controller} in {}", section.0);
    }
}

const LIMITS: &str = r#"
# The world beyond this host, which knows no way to the pods' addresses: what answers was masqueraded.
ip link add beyond type veth
unshare -n nc -ll -p 9000 -e cat &
world=$!
started=$world
await "[ \$(readlink /proc/$world/ns/net) != $(readlink /proc/1/ns/net) ]"
ip link set veth0 netns $world
nsenter --net=/proc/$world/ns/net sh -c 'ip addr add 192.0.2.2/24 dev veth0; ip link set veth0 up'
ip addr add 192.0.2.1/24 dev beyond
ip link set beyond up

start limits <<EOF
apiVersion: v1
kind: Pod
metadata: {name: limits, uid: u-limits}
spec:
  restartPolicy: OnFailure
  terminationGracePeriodSeconds: 0
  containers:
  - name: server
    image: /probe.wasm
    args: [serve, '8080']
    resources: {limits: {cpu: 500m, memory: 40Mi}}
  - name: client
    image: /probe.wasm
    args: [connect, '192.0.2.2:9000', 'beyond this host', --retry, '20000']
    resources: {limits: {cpu: 250m, memory: 24Mi}}
EOF
await_line limits '[server] listening'
cd $cgroups/podu-limits
for file in memory.max memory.swap.max cpu.max cpu.weight pids.max cgroup.procs; do fact $file "$(cat $file)"; done
process=$(cat cgroup.procs)
fact 'pod process' "$(cat /proc/$supervisor/task/$supervisor/children)"
for kind in net uts ipc mnt pid; do
    [ "$(readlink /proc/$process/ns/$kind)" != "$(readlink /proc/self/ns/$kind)" ]
done
fact hostname "$(nsenter --uts=/proc/$process/ns/uts hostname)"
ask limits 'from the host'
await_line limits '[client] beyond this host'
fact masquerades "$(masquerades)"
fact memory.peak "$(cat memory.peak)"
fact warnings "$(grep -F warning /tmp/limits.log || true)"
cd /
kill -TERM $supervisor
ended
nothing_left
"#;

#[test]
fn a_pods_cgroup_has_its_limits_and_its_network_works() {
    let Some(section) = Section::of("limits") else { return };
    assert_eq!(section.one("memory.max"), (64 * MIB + RUNTIME_MEMORY_BYTES).to_string());
    assert_eq!(section.one("memory.swap.max"), "0");
    assert_eq!(section.one("cpu.max"), quota(750));
    assert_eq!(section.one("cpu.weight"), "30");
    assert_eq!(section.one("pids.max"), PIDS.to_string());
    assert_eq!(section.one("cgroup.procs"), section.one("pod process").trim_end());
    assert_eq!(section.one("hostname"), "limits");
    assert_eq!(section.one("answer"), "from the host");
    assert_eq!(section.one("masquerades"), "1");
    assert_eq!(section.one("warnings"), "");
    assert_eq!(section.one("exit code"), "143");
}

const THROTTLED: &str = r#"
start throttled <<EOF
apiVersion: v1
kind: Pod
metadata: {name: throttled, uid: u-throttled}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: spin
    image: /probe.wasm
    args: [spin]
    resources: {limits: {cpu: 200m}}
EOF
await_line throttled '[spin] spinning'
cd $cgroups/podu-throttled
fact cpu.max "$(cat cpu.max)"
fact memory.max "$(cat memory.max)"
before=$(awk '$1 == "usage_usec" { print $2 }' cpu.stat)
sleep 2
fact used $(($(awk '$1 == "usage_usec" { print $2 }' cpu.stat) - before))
cd /
kill -INT $supervisor
ended
nothing_left
"#;

#[test]
fn a_spinning_pod_is_throttled() {
    let Some(section) = Section::of("throttled") else { return };
    assert_eq!(section.one("cpu.max"), quota(200));
    // Of 2 s, or more on a busy machine.
    let used: u64 = section.one("used").parse().unwrap();
    assert!((1..1_000_000).contains(&used), "{used} us");
    assert_eq!(section.one("memory.max"), "max");
    assert_eq!(section.one("exit code"), "130");
}

const CONTAINER_OUT_OF_MEMORY: &str = r#"
start container <<EOF
apiVersion: v1
kind: Pod
metadata: {name: container, uid: u-container}
spec:
  restartPolicy: Never
  containers:
  - name: hungry
    image: /probe.wasm
    args: [alloc]
    resources: {limits: {memory: 32Mi}}
  - name: modest
    image: /probe.wasm
    args: [serve, '8080', '1']
    resources: {limits: {memory: 16Mi}}
EOF
await_line container '[modest] listening'
await_line container 'hungry OOMKilled'
fact 'kernel kills' "$(awk '$1 == "oom_kill" { print $2 }' $cgroups/podu-container/memory.events)"
ask container 'still here'
ended
show container
nothing_left
"#;

#[test]
fn a_container_out_of_memory_ends_alone() {
    let Some(section) = Section::of("container out of memory") else { return };
    assert_eq!(section.one("kernel kills"), "0");
    assert_eq!(section.one("answer"), "still here");
    assert_eq!(section.one("exit code"), "137");
    let status = section.status();
    assert_eq!((&status["phase"], &status["reason"]), (&"Failed".into(), &Value::Null), "{status:#}");
    let hungry = terminated(&status, "hungry");
    assert_eq!((&hungry["reason"], &hungry["exitCode"]), (&"OOMKilled".into(), &137.into()), "{status:#}");
    let modest = terminated(&status, "modest");
    assert_eq!((&modest["reason"], &modest["exitCode"]), (&"Completed".into(), &0.into()), "{status:#}");
}

/// Each volume is no larger than the containers' limits together, and so fits into the cgroup alone.
const POD_OUT_OF_MEMORY: &str = r#"
pod whole <<EOF
apiVersion: v1
kind: Pod
metadata: {name: whole, uid: u-whole}
spec:
  restartPolicy: Never
  containers:
  - name: fill-a
    image: /probe.wasm
    args: [fill, /v/file, '400']
    volumeMounts: [{name: a, mountPath: /v}]
    resources: {limits: {memory: 16Mi}}
  - name: fill-b
    image: /probe.wasm
    args: [fill, /v/file, '400']
    volumeMounts: [{name: b, mountPath: /v}]
    resources: {limits: {memory: 16Mi}}
  - name: fill-c
    image: /probe.wasm
    args: [fill, /v/file, '400']
    volumeMounts: [{name: c, mountPath: /v}]
    resources: {limits: {memory: 16Mi}}
  - name: server
    image: /probe.wasm
    args: [serve, '8080']
    resources: {limits: {memory: 16Mi}}
  volumes:
  - {name: a, emptyDir: {medium: Memory}}
  - {name: b, emptyDir: {medium: Memory}}
  - {name: c, emptyDir: {medium: Memory}}
EOF
show whole
nothing_left
"#;

#[test]
fn a_pod_out_of_memory_is_killed_by_the_kernel_and_says_so() {
    let Some(section) = Section::of("pod out of memory") else { return };
    assert_eq!(section.one("exit code"), "137");
    let status = section.status();
    assert_eq!((&status["phase"], &status["reason"]), (&"Failed".into(), &"OOMKilled".into()), "{status:#}");
    assert!(status["message"].as_str().is_some_and(|message| message.contains("cgroup")), "{status:#}");
    for name in ["fill-a", "fill-b", "fill-c", "server"] {
        let ended = terminated(&status, name);
        assert_eq!((&ended["reason"], &ended["exitCode"]), (&"OOMKilled".into(), &137.into()), "{status:#}");
    }
}

const NATIVE_OUT_OF_MEMORY: &str = r#"
start native <<EOF
apiVersion: v1
kind: Pod
metadata: {name: native, uid: u-native}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: server
    image: /probe.wasm
    args: [serve, '8080']
    resources: {limits: {memory: 16Mi}}
EOF
await_line native '[server] listening'
code=0
sh -c "echo 1000 > /proc/self/oom_score_adj; echo 0 > $cgroups/podu-native/cgroup.procs; exec tail /dev/zero" || code=$?
fact 'native exit code' $code
fact 'kernel kills' "$(awk '$1 == "oom_kill" { print $2 }' $cgroups/podu-native/memory.events)"
ask native 'still here'
# What is in the pod's cgroup ends with the pod.
sh -c "echo 0 > $cgroups/podu-native/cgroup.procs; exec sleep 1000" &
sleeper=$!
started="$started $sleeper"
await "grep -q '^$sleeper$' $cgroups/podu-native/cgroup.procs"
kill -TERM $supervisor
ended
code=0
wait $sleeper || code=$?
fact 'sleeper exit code' $code
show native
nothing_left
"#;

#[test]
fn a_native_process_out_of_memory_leaves_the_pod_alone() {
    let Some(section) = Section::of("native out of memory") else { return };
    assert_eq!(section.one("native exit code"), "137");
    assert_eq!(section.one("kernel kills"), "1");
    assert_eq!(section.one("answer"), "still here");
    assert_eq!(section.one("exit code"), "143");
    assert_eq!(section.one("sleeper exit code"), "137");
    assert_eq!(section.status()["reason"], Value::Null);
}

const KILLED_SUPERVISOR: &str = r#"
start left <<EOF
apiVersion: v1
kind: Pod
metadata: {name: left, uid: u-left}
spec:
  containers:
  - {name: server, image: /probe.wasm, args: [serve, '8080'], volumeMounts: [{name: v, mountPath: /v}]}
  volumes: [{name: v, emptyDir: {}}]
EOF
await_line left '[server] listening'
process=$(cat $cgroups/podu-left/cgroup.procs)
kill -KILL $supervisor
ended
# It dies with its supervisor; the directories stay.
await "[ ! -e /proc/$process ]"
ls -d $cgroups/podu-left /run/peapod/pods/u-left /var/lib/peapod/pods/u-left
pod next <<EOF
apiVersion: v1
kind: Pod
metadata: {name: next, uid: u-next}
spec:
  restartPolicy: Never
  containers:
  - {name: hello, image: /probe.wasm, args: [hello]}
EOF
fact swept "$(grep -o 'cleaned up after pod [a-z]*' /tmp/next.log)"
fact warnings "$(grep -F warning /tmp/next.log || true)"
nothing_left
"#;

#[test]
fn after_sigkill_of_the_supervisor_the_next_run_cleans_up() {
    let Some(section) = Section::of("killed supervisor") else { return };
    assert_eq!(section.all("exit code"), ["137", "0"]);
    assert_eq!(section.one("swept"), "cleaned up after pod left");
    assert_eq!(section.one("warnings"), "");
}

/// The modules go one layer after the other: first nf_tables is missing, then all of netfilter's netlink.
const BARE_MACHINE: &str = r#"
umount /dev/shm
rmdir /dev/shm
run() {
    pod bare <<EOF
apiVersion: v1
kind: Pod
metadata: {name: bare, uid: u-bare}
spec:
  restartPolicy: Never
  containers:
  - {name: hello, image: /probe.wasm, args: [hello]}
EOF
    grep -F warning /tmp/bare.log | sed 's/^.*warning/warning/'
    nothing_left
}
rmmod nft_masq nft_chain_nat nft_nat nft_ct nf_tables
run
rmmod nfnetlink
run
"#;

#[test]
fn a_machine_without_shm_and_nftables_runs_pods_and_says_what_is_missing() {
    let Some(section) = Section::of("bare machine") else { return };
    assert_eq!(section.all("exit code"), ["0", "0"]);
    let warnings = section.all("warning");
    assert_eq!(warnings.len(), 4, "{warnings:#?}");
    for missing in ["/dev/shm", "nf_tables"] {
        let told = warnings.iter().filter(|warning| warning.contains(missing)).count();
        assert_eq!(told, 2, "{missing} in {warnings:#?}");
    }
}
