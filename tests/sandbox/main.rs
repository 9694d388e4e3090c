//! Real sandboxes: namespaces, cgroups, links and processes of this machine. Needs root.
//!
//! Only a single-threaded process may fork a pod, so each test runs in a process of its own, which this binary
//! starts from itself; its "host" is a network namespace of its own. `cargo test --test sandbox -- FILTER`.

mod cgroups;
mod cni;
#[path = "../support/debian.rs"]
mod debian;
mod firewall;
mod host_ports;
mod networks;
mod removal;
mod rootless;
mod world;

use std::collections::HashSet;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::route::{
    RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns, unshare};
use peapod::paths::Paths;
use peapod::sandbox::{self, Config, Entered, Inside, Sandbox, SandboxError, Step, cgroup, network};
use peapod::spec::NetworkMode;
use peapod::sys::namespace::{network_parameter as parameter, set_network_parameter};
use peapod::sys::netlink::{ACK, Batch, CREATE, EXCLUSIVE, Socket, attributes};
use peapod::sys::pidfd::{self, Exit};
use peapod::sys::{nftables, process};

use cgroups::*;
use cni::*;
use firewall::*;
use host_ports::*;
use networks::*;
use removal::*;
use rootless::*;
use world::*;

/// After this a test is killed and has failed: far beyond what any needs, even on a busy machine.
const TEST_TIMEOUT: Duration = Duration::from_secs(120);
/// The user without privileges, `nobody`.
const NOBODY: u32 = 65534;
/// The host's own address (RFC 5737).
const HOST: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// And its IPv6 address (RFC 3849).
const HOST_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
/// The test that becomes an ordinary user, or is run by one.
const ROOTLESS: &str = "without_root_a_pod_has_loopback";
/// What tells this binary which part to play, and where.
const PART: &str = "PEAPOD_TEST_PART";
const ROOT: &str = "PEAPOD_TEST_ROOT";

type Test = (&'static str, fn(&World));

const TESTS: &[Test] = &[
    ("the_pod_has_namespaces_of_its_own", the_pod_has_namespaces_of_its_own),
    ("the_first_packet_is_never_lost", the_first_packet_is_never_lost),
    ("two_pods_use_one_port_and_see_real_addresses", two_pods_use_one_port_and_see_real_addresses),
    ("the_link_is_quiet", the_link_is_quiet),
    ("a_host_without_ipv6_has_pods_without", a_host_without_ipv6_has_pods_without),
    ("ipv6_forwarding_makes_no_router_of_the_host", ipv6_forwarding_makes_no_router_of_the_host),
    ("a_host_that_forwards_listens_to_its_router_still", a_host_that_forwards_listens_to_its_router_still),
    ("no_more_pods_than_addresses", no_more_pods_than_addresses),
    ("a_native_process_enters_the_pod", a_native_process_enters_the_pod),
    ("the_outside_sees_the_hosts_address", the_outside_sees_the_hosts_address),
    ("links_carry_no_more_than_the_way_out", links_carry_no_more_than_the_way_out),
    ("no_network_is_loopback_only", no_network_is_loopback_only),
    ("the_hosts_network_stays_the_hosts", the_hosts_network_stays_the_hosts),
    ("a_host_without_addresses_reaches_its_pods", a_host_without_addresses_reaches_its_pods),
    ("the_network_moves_aside", the_network_moves_aside),
    ("two_roots_never_share_an_address", two_roots_never_share_an_address),
    ("host_ports_lead_in_from_everywhere", host_ports_lead_in_from_everywhere),
    ("a_host_ip_is_exact", a_host_ip_is_exact),
    ("a_host_port_is_had_once", a_host_port_is_had_once),
    ("host_ports_of_many_pods_are_their_own", host_ports_of_many_pods_are_their_own),
    ("datagrams_follow_the_port_to_the_next_pod", datagrams_follow_the_port_to_the_next_pod),
    ("stale_host_ports_are_in_nobodys_way", stale_host_ports_are_in_nobodys_way),
    ("a_cni_chain_replaces_the_pods_network", a_cni_chain_replaces_the_pods_network),
    ("a_killed_supervisor_leaves_a_cni_network", a_killed_supervisor_leaves_a_cni_network),
    ("a_broken_cni_plugin_is_told_and_undone", a_broken_cni_plugin_is_told_and_undone),
    ("the_kernel_lets_out_what_the_rules_allow", the_kernel_lets_out_what_the_rules_allow),
    ("thousands_of_rules_and_peers_are_one_transaction", thousands_of_rules_and_peers_are_one_transaction),
    ("a_change_that_is_refused_says_nothing_of_the_next", a_change_that_is_refused_says_nothing_of_the_next),
    (
        "what_comes_in_is_judged_without_the_kernels_filter_too",
        what_comes_in_is_judged_without_the_kernels_filter_too,
    ),
    ("the_cgroup_limits_and_kills", the_cgroup_limits_and_kills),
    (
        "the_unified_hierarchy_is_entered_killed_and_removed",
        the_unified_hierarchy_is_entered_killed_and_removed,
    ),
    ("read_only_cgroups_are_a_warning", read_only_cgroups_are_a_warning),
    ("removal_ends_native_processes_too", removal_ends_native_processes_too),
    ("the_last_pod_out_turns_off_the_light", the_last_pod_out_turns_off_the_light),
    ("a_mount_in_the_pods_directory_is_not_entered", a_mount_in_the_pods_directory_is_not_entered),
    ("a_failure_at_any_step_is_undone", a_failure_at_any_step_is_undone),
    ("one_uid_runs_once", one_uid_runs_once),
    ("a_process_with_threads_is_refused", a_process_with_threads_is_refused),
    ("a_panic_in_the_pod_stays_there", a_panic_in_the_pod_stays_there),
    ("a_killed_supervisor_is_swept_up_after", a_killed_supervisor_is_swept_up_after),
    (
        "a_supervisor_killed_at_any_instant_is_swept_up_after",
        a_supervisor_killed_at_any_instant_is_swept_up_after,
    ),
    ("garbage_is_swept_up", garbage_is_swept_up),
    ("eight_at_once_get_eight_addresses", eight_at_once_get_eight_addresses),
    ("without_root_a_pod_has_loopback", without_root_a_pod_has_loopback),
    ("the_floor_is_measured_and_removed", the_floor_is_measured_and_removed),
];

fn main() -> ExitCode {
    if let Ok(part) = std::env::var(PART) {
        play(&part);
        return ExitCode::SUCCESS;
    }
    let filters: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    if std::env::args().any(|argument| argument == "--list") {
        TESTS.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let chosen =
        |name: &str| filters.is_empty() || filters.iter().any(|filter| name.contains(filter.as_str()));
    let rootless = std::env::var_os("PEAPOD_TESTS").is_some_and(|set| set == "rootless");
    if rootless {
        println!("the rootless set: {ROOTLESS} only");
    }
    let in_set = |name: &str| !rootless || name == ROOTLESS;
    let tests: Vec<_> = TESTS.iter().filter(|(name, _)| chosen(name) && in_set(name)).collect();
    let begin = Instant::now();
    println!("\nrunning {} tests", tests.len());
    let mut failures = Vec::new();
    for (name, _) in &tests {
        match run_alone(if rootless { "rootless" } else { name }) {
            Ok(()) => println!("test {name} ... ok"),
            Err(output) => {
                println!("test {name} ... FAILED");
                failures.push((name, output));
            }
        }
    }
    for (name, output) in &failures {
        println!("\n---- {name} ----\n{output}");
    }
    let result = if failures.is_empty() { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {result}. {} passed; {} failed; 0 ignored; 0 measured; {} filtered out; finished in {:.2}s\n",
        tests.len() - failures.len(),
        failures.len(),
        TESTS.len() - tests.len(),
        begin.elapsed().as_secs_f64()
    );
    if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(101) }
}

/// Runs one test in its own process; its output when it failed. What it left behind is removed.
fn run_alone(name: &str) -> Result<(), String> {
    let root = tempfile::tempdir().expect("a temporary directory");
    let mut child = Command::new(std::env::current_exe().expect("this binary's path"))
        .env(PART, name)
        .env(ROOT, root.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("this binary starts");
    if !ended_within(&child, TEST_TIMEOUT) {
        let _ = child.kill();
    }
    let output = child.wait_with_output().expect("the test's output");
    let left = sandbox::sweep(&paths(root.path())).expect("the sweep after a test");
    match output.status.success() && left.is_empty() {
        true => Ok(()),
        false => Err(format!(
            "{}{}{}; left behind: {left:?}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
            output.status
        )),
    }
}

fn ended_within(child: &Child, timeout: Duration) -> bool {
    let process = pidfd::open(child.id() as i32).expect("the test's process");
    let timeout = PollTimeout::try_from(timeout).expect("a short timeout");
    poll(&mut [PollFd::new(process.as_fd(), PollFlags::POLLIN)], timeout).expect("poll") == 1
}

fn play(part: &str) {
    let root = PathBuf::from(std::env::var_os(ROOT).expect("a directory"));
    match part {
        "supervisor" => supervise(&World::new(root)),
        "rootless" => rootless(&World::new(root)),
        name => {
            assert!(
                nix::unistd::geteuid().is_root(),
                "this test needs root; PEAPOD_TESTS=rootless runs the set that does not"
            );
            let (_, test) = TESTS.iter().find(|(other, _)| *other == name).expect("a test of this name");
            unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("namespaces for the test");
            peapod::sys::mount::make_private().expect("private mounts");
            let world = World::new(root);
            link_up(1);
            if name != "a_host_without_addresses_reaches_its_pods" {
                add_address(1, HOST);
                add_address(1, HOST_V6);
                wait_for(HOST_V6);
            }
            let before = world.traces();
            test(&world);
            assert_eq!(world.traces(), before, "something is left behind");
        }
    }
}
