//! Pods under real cgroup v2 limits, in a virtual machine (see `tests/vm`).

mod vm;

use std::time::Duration;

/// Emulated, on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(300);

/// What the other tests of this file rely on: the machine has what a pod takes from a kernel.
#[test]
fn the_machine_has_cgroup_v2_veth_and_nftables() {
    let script = r#"
set -ex
uname -r
cat /sys/fs/cgroup/cgroup.controllers /sys/fs/cgroup/cgroup.subtree_control
mkdir /sys/fs/cgroup/pod
cd /sys/fs/cgroup/pod
echo 33554432 > memory.max
echo "20000 100000" > cpu.max
echo 16 > pids.max
cat memory.max cpu.max pids.max
# The memory limit kills a process that fills memory in the cgroup, and only that.
sh -c 'echo 0 > cgroup.procs; exec tail /dev/zero' || echo "killed with $?"
grep oom_kill memory.events
# A veth pair (busybox calls the peer veth0) and another network namespace.
ip link add pea0 type veth
ip addr add 10.9.0.1/30 dev pea0
ip link set pea0 up
unshare -n sleep 60 &
sleeper=$!
until [ "$(readlink /proc/$sleeper/ns/net)" != "$(readlink /proc/1/ns/net)" ]; do :; done
ip link set veth0 netns $sleeper
nsenter --net=/proc/$sleeper/ns/net sh -c 'ip addr add 10.9.0.2/30 dev veth0; ip link set veth0 up; ip link set lo up'
ping -c 1 -w 20 10.9.0.2
kill $sleeper
grep -E '^(veth|nf_tables|nft_masq|nft_chain_nat) ' /proc/modules | cut -d ' ' -f 1 | sort
"#;
    let output = vm::run(&[], script, TIMEOUT);
    assert!(output.ok, "{output:#?}");
    println!("booted in {:?}\n{}", output.boot, output.stdout);
    for expected in ["cpu", "memory", "pids", "killed with 137", "oom_kill 1", "1 packets received"] {
        assert!(output.stdout.contains(expected), "no {expected:?} in {output:#?}");
    }
    assert!(output.stdout.ends_with("nf_tables\nnft_chain_nat\nnft_masq\nveth\n"), "{output:#?}");
}
