//! Pods on networks of CNI plugins: Debian's, and broken ones.

use peapod::sandbox::cni::{Chain, CniError, PLUGIN_DIRECTORIES};
use peapod::sandbox::host_port::PortMapping;
use peapod::spec::{HostPort, Protocol};
use serde_json::{Value, json};

use super::*;

/// The chain that is configured by these plugins.
fn chain(world: &World, version: &str, plugins: Value, directories: &[&Path]) -> Result<Chain, CniError> {
    let directory = world.root.join("net.d");
    fs::create_dir_all(&directory).unwrap();
    let text = json!({"cniVersion": version, "name": "test-net", "plugins": plugins}).to_string();
    fs::write(directory.join("10-test.conflist"), text).unwrap();
    let directories = directories.iter().map(|path| path.to_path_buf());
    Chain::load(&directory, directories.chain(PLUGIN_DIRECTORIES.map(PathBuf::from)).collect())
}

/// The same with plugins that this machine has to have.
fn debians(world: &World, version: &str, plugins: Value) -> Chain {
    const NEEDED: [(&str, &str); 2] =
        [("/usr/lib/cni/bridge", "containernetworking-plugins"), ("iptables-save", "iptables")];
    debian::require("the test of CNI", &NEEDED);
    chain(world, version, plugins, &[]).unwrap()
}

fn host_local(world: &World) -> Value {
    json!({
        "type": "host-local",
        "dataDir": world.root.join("host-local"),
        "ranges": [[{"subnet": "10.77.0.0/24"}], [{"subnet": "fd77::/64"}]],
        "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
    })
}

/// What host-local has given out.
fn leased(world: &World) -> Vec<String> {
    let entries = fs::read_dir(world.root.join("host-local/test-net")).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().into_string().unwrap());
    names.filter(|name| name.contains("77")).collect()
}

/// Whether a pod's network is kept.
fn mounted(world: &World) -> bool {
    fs::read_to_string("/proc/self/mountinfo").unwrap().contains(world.root.join("run").to_str().unwrap())
}

/// The names of the rules that plugins made.
fn rules() -> String {
    let output = Command::new("iptables-save").output().expect("apt-get install iptables");
    String::from_utf8(output.stdout).unwrap()
}

pub(super) fn a_cni_chain_replaces_the_pods_network(world: &World) {
    let bridge = json!({
        "type": "bridge", "bridge": "test0", "isGateway": true, "ipMasq": true, "ipam": host_local(world),
    });
    let port_map = json!({"type": "portmap", "capabilities": {"portMappings": true}});
    for version in ["0.3.1", "0.4.0", "1.0.0"] {
        let chain = debians(world, version, json!([bridge, port_map]));
        let uid = fresh_uid();
        let host = HostPort { port: 18070, ip: None };
        let host_ports = [PortMapping { host, protocol: Protocol::Tcp, pod_port: 8080 }];
        let config = Config { cni: Some(&chain), host_ports: &host_ports, ..world.config(&uid) };
        let sandbox = server_pod_of(&config);
        assert!(sandbox.warnings.is_empty(), "{:?}", sandbox.warnings);
        let [v4, v6] = both(&sandbox);
        assert!(v4.to_string().starts_with("10.77.0.") && v6.to_string().starts_with("fd77::"), "{v4} {v6}");
        assert_eq!(ask_address((v4, 8080).into()), "10.77.0.1");
        assert_ne!(ask_address((v6, 8080).into()), v6.to_string());
        assert_eq!(ask_address((HOST, 18070).into()), HOST.to_string());
        say(&sandbox.control, SocketAddr::from((v4, 8080)));
        assert_eq!(hear(&sandbox.control), v4.to_string(), "lo is up, too");
        assert_eq!(leased(world).len(), 2);
        assert!(mounted(world));
        let links = nix::net::if_::if_nameindex().unwrap();
        let own =
            links.iter().any(|link| link.name().to_bytes().starts_with(network::LINK_PREFIX.as_bytes()));
        assert!(!own, "peapod's own link is there, too");
        remove(sandbox);
        assert_eq!(leased(world), Vec::<String>::new());
        assert!(!mounted(world));
        assert!(!rules().contains(&uid), "{}", rules());
    }
    let mut bridge = LinkMessage::default();
    bridge.header.index = nix::net::if_::if_nametoindex("test0").unwrap();
    execute("delete the bridge", RouteNetlinkMessage::DelLink(bridge));
    forget_forwarding();
}

pub(super) fn a_killed_supervisor_leaves_a_cni_network(world: &World) {
    debians(world, "1.0.0", json!([{"type": "ptp", "ipMasq": true, "ipam": host_local(world)}]));
    let mut victim = start_supervisor(world, &[CNI]);
    let (pid, uid, address) = said(&mut victim);
    assert!(address.starts_with("10.77.0."));
    ask_address((address.parse::<IpAddr>().unwrap(), 8080).into());
    let pod = pidfd::open(pid).unwrap();
    victim.kill().unwrap();
    victim.wait().unwrap();
    let ended = poll(&mut [PollFd::new(pod.as_fd(), PollFlags::POLLIN)], PollTimeout::from(10_000u16));
    assert_eq!(ended.unwrap(), 1);
    assert_eq!(leased(world).len(), 2);
    assert!(mounted(world) && rules().contains(&uid), "there is something to take back: {}", rules());
    let swept = sandbox::sweep(&world.paths).unwrap();
    assert!(swept.len() == 1 && swept[0].errors.is_empty(), "{swept:?}");
    assert_eq!(swept[0].addresses[0].to_string(), address);
    assert_eq!(leased(world), Vec::<String>::new());
    assert!(!mounted(world) && !rules().contains(&uid), "{}", rules());
    forget_forwarding();
}

/// The plugins turn it on for good.
fn forget_forwarding() {
    set_network_parameter("ipv6/conf/all/forwarding", "0").unwrap();
}

/// A plugin of the test's own, which writes down how it was called.
fn script(world: &World, name: &str, text: &str) -> PathBuf {
    let directory = world.root.join("bin");
    fs::create_dir_all(&directory).unwrap();
    let log = directory.join(format!("{name}.log"));
    let log_call = format!(
        "{{ echo $CNI_COMMAND $CNI_CONTAINERID $CNI_IFNAME $CNI_ARGS; cat; echo; }} >> {}",
        log.display()
    );
    fs::write(directory.join(name), format!("#!/bin/sh\n{log_call}\n{text}\n")).unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(directory.join(name), executable).unwrap();
    log
}

pub(super) fn a_broken_cni_plugin_is_told_and_undone(world: &World) {
    let before = world.traces();
    let bin = world.root.join("bin");
    let good = script(
        world,
        "good",
        r#"[ $CNI_COMMAND = DEL ] || echo '{"cniVersion": "1.0.0", "ips": [{"address": "192.0.2.7/24"}]}'"#,
    );
    let create_with = |second: &str, uid: &str| {
        script(world, "second", second);
        let chain =
            chain(world, "1.0.0", json!([{"type": "good", "mtu": 7}, {"type": "second"}]), &[&bin]).unwrap();
        create(&Config { cni: Some(&chain), ..world.config(uid) }, |inside| until_told(&inside))
    };
    let fail = r#"[ $CNI_COMMAND = DEL ] && exit 0"#;
    for (text, words) in [
        (
            r#"echo '{"cniVersion": "1.0.0", "code": 7, "msg": "bad field mtu", "details": "is 7"}'; exit 1"#,
            "CNI plugin second cannot ADD: bad field mtu: is 7 (code 7)",
        ),
        (
            "echo no idea >&2; exit 3",
            "CNI plugin second cannot ADD: exit status: 3, and no error result; no idea",
        ),
        ("echo hello", "CNI plugin second cannot ADD: its result is not JSON"),
        ("echo '{}'", "CNI network test-net: its plugins gave the pod no address"),
    ] {
        let uid = fresh_uid();
        fs::remove_file(&good).ok();
        let error = create_with(&format!("{fail}\n{text}"), &uid).expect_err("it was to fail").to_string();
        assert!(error.starts_with(words), "{error}");
        // All were taken back, whoever failed, and knew whose it was.
        let calls = fs::read_to_string(&good).unwrap();
        assert!(
            calls.contains(&format!(
                "ADD {uid} eth0 IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=test;"
            )),
            "{calls}"
        );
        assert!(calls.contains(&format!("DEL {uid} eth0")), "{calls}");
        assert!(calls.contains(r#""mtu":7"#) && calls.contains(r#""name":"test-net""#), "{calls}");
        assert_eq!(world.traces(), before);
    }

    // One that cannot be taken back is tried again with the next sweep.
    let uid = fresh_uid();
    let result = r#"cat > /dev/null; echo '{"ips": [{"address": "192.0.2.7/24"}]}'"#;
    let sandbox = create_with(&format!("[ $CNI_COMMAND = DEL ] && exit 1\n{result}"), &uid).unwrap();
    assert_eq!(sandbox.addresses, ["192.0.2.7".parse::<IpAddr>().unwrap()]);
    let errors = sandbox.remove();
    assert!(
        matches!(&errors[..], [error] if error.to_string().contains("CNI plugin second cannot DEL")),
        "{errors:?}"
    );
    assert!(mounted(world), "what there is to take back is kept");
    script(world, "second", "");
    let swept = sandbox::sweep(&world.paths).unwrap();
    assert!(swept.len() == 1 && swept[0].errors.is_empty(), "{swept:?}");
    assert_eq!(world.traces(), before);

    let error = chain(world, "1.0.0", json!([{"type": "no-such-plugin"}]), &[&bin]).unwrap_err().to_string();
    assert!(error.contains("CNI plugin no-such-plugin is in none of"), "{error}");
}
