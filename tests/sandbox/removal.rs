//! Roll-back, removal, sweeping.

use peapod::sandbox::cni::{Chain, PLUGIN_DIRECTORIES};
use peapod::sandbox::host_port::PortMapping;
use peapod::sandbox::record::Identity;
use peapod::spec::{HostPort, Protocol};

use super::*;

pub(super) fn a_mount_in_the_pods_directory_is_not_entered(world: &World) {
    let sandbox = world.create(|inside| until_told(&inside));
    let precious = world.root.join("precious");
    fs::create_dir(&precious).unwrap();
    fs::write(precious.join("file"), "x").unwrap();
    let inside = sandbox.pod_dir.join("volume");
    fs::create_dir(&inside).unwrap();
    // A bind mount of the same filesystem: the device number does not tell it.
    let flags = nix::mount::MsFlags::MS_BIND;
    nix::mount::mount(Some(&precious), &inside, None::<&str>, flags, None::<&str>).unwrap();
    let errors = sandbox.remove();
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(precious.join("file").exists(), "removed through a mount");
    nix::mount::umount(&inside).unwrap();
    let swept = sandbox::sweep(&world.paths).unwrap();
    assert!(swept.len() == 1 && swept[0].errors.is_empty(), "{swept:?}");
    assert!(precious.join("file").exists());
}

pub(super) fn a_failure_at_any_step_is_undone(world: &World) {
    let before = world.traces();
    for step in Step::ALL {
        let uid = fresh_uid();
        let config = Config { fail_at: Some(step), ..world.config(&uid) };
        let error = create(&config, |inside| until_told(&inside)).expect_err("it was to fail");
        match (step, &error) {
            (Step::Inside, SandboxError::Inside(_)) => {}
            (_, SandboxError::Failpoint(at)) => assert_eq!(*at, step),
            _ => panic!("{step:?}: {error}"),
        }
        assert_eq!(world.traces(), before, "{step:?}");
        assert!(cgroups_of(&uid).is_empty(), "{step:?}");
    }
    // And errors of the kernel's own: a hostname that is too long.
    let uid = fresh_uid();
    let hostname = "h".repeat(65);
    let identity = Identity { hostname: hostname.clone(), ..Identity::default() };
    let config = Config { identity, ..world.config(&uid) };
    let error = sandbox::create(&config, |entered| entered.begin().map_or(1, |_| 0))
        .expect_err("it was to fail")
        .to_string();
    assert!(error.contains("hostname"), "{error}");
    assert_eq!(world.traces(), before);
}

pub(super) fn one_uid_runs_once(world: &World) {
    let uid = fresh_uid();
    let sandbox = create(&world.config(&uid), |inside| until_told(&inside)).unwrap();
    let error = sandbox::create(&world.config(&uid), |entered| entered.begin().map_or(1, |_| 0))
        .expect_err("it runs already");
    assert!(matches!(error, SandboxError::Record(_)), "{error}");
    assert!(sandbox::sweep(&world.paths).unwrap().is_empty(), "a living pod was swept");
    assert!(sandbox.pod_dir.is_dir() && !cgroups_of(&uid).is_empty());
    remove(sandbox);
    for hostile in ["../x", "", "a/b"] {
        assert!(sandbox::create(&world.config(hostile), |entered| entered.begin().map_or(1, |_| 0)).is_err());
    }
}

pub(super) fn a_process_with_threads_is_refused(world: &World) {
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || ended.recv());
    let uid = fresh_uid();
    let error = sandbox::create(&world.config(&uid), |entered| entered.begin().map_or(1, |_| 0))
        .expect_err("two threads");
    assert!(matches!(error, SandboxError::Clone(_)), "{error}");
    drop(end);
    let _ = thread.join();
}

pub(super) fn a_panic_in_the_pod_stays_there(world: &World) {
    let mut sandbox = world.create(|_| panic!("on purpose"));
    assert_eq!(sandbox.wait().unwrap(), Exit::Code(101));
    remove(sandbox);
}

/// The port of the host that leads to a supervised pod, when it is the only one.
pub(super) const SUPERVISED_HOST_PORT: u16 = 18090;

/// A supervisor in a process of its own: says its pod's pid, uid and address, then waits for its stdin to end.
pub(super) fn supervise(world: &World) {
    let uid = fresh_uid();
    let host = HostPort { port: SUPERVISED_HOST_PORT, ip: None };
    let host_ports = [PortMapping { host, protocol: Protocol::Tcp, pod_port: 8080 }];
    let has = |variable| std::env::var_os(variable).is_some();
    let host_ports = if has(MANY) || has(CNI) { &[] } else { &host_ports[..] };
    let plugins = PLUGIN_DIRECTORIES.map(PathBuf::from).to_vec();
    let chain = has(CNI).then(|| Chain::load(&world.root.join("net.d"), plugins).unwrap());
    let config = Config { host_ports, cni: chain.as_ref(), ..world.config(&uid) };
    let sandbox = create(&config, |inside| {
        let listeners = [TcpListener::bind("0.0.0.0:8080").unwrap(), only_v6(8080)];
        for listener in listeners {
            std::thread::spawn(move || tell_addresses(listener));
        }
        say(&inside.control, "listening");
        until_told(&inside)
    });
    let sandbox = sandbox.unwrap();
    assert_eq!(hear(&sandbox.control), "listening");
    println!("{} {uid} {}", sandbox.pid(), address(&sandbox));
    let _ = std::io::stdin().read_line(&mut String::new());
    remove(sandbox);
}

/// Says that there are several supervisors, which cannot have one port of the host.
const MANY: &str = "PEAPOD_TEST_MANY";
/// Says that plugins see to the network: those of the configuration that is there.
pub(super) const CNI: &str = "PEAPOD_TEST_CNI";

pub(super) fn supervisor(world: &World) -> Child {
    start_supervisor(world, &[])
}

pub(super) fn start_supervisor(world: &World, variables: &[&str]) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .env(PART, "supervisor")
        .env(ROOT, &world.root)
        .envs(variables.iter().map(|name| (name, "1")))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// What a supervisor says: pid, uid and address of its pod.
pub(super) fn said(supervisor: &mut Child) -> (i32, String, String) {
    let mut line = String::new();
    BufReader::new(supervisor.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let words: Vec<_> = line.split_ascii_whitespace().map(str::to_owned).collect();
    let [pid, uid, address] = <[String; 3]>::try_from(words).expect("three words");
    (pid.parse().unwrap(), uid, address)
}

pub(super) fn a_killed_supervisor_is_swept_up_after(world: &World) {
    let before = world.traces();
    let mut victim = supervisor(world);
    let (pid, uid, address) = said(&mut victim);
    let pod = pidfd::open(pid).unwrap();
    assert!(sandbox::sweep(&world.paths).unwrap().is_empty(), "swept though its supervisor lives");
    victim.kill().unwrap();
    victim.wait().unwrap();
    // The pod process ends with its supervisor, before any sweep.
    let ended =
        poll(&mut [PollFd::new(pod.as_fd(), PollFlags::POLLIN)], PollTimeout::from(10_000u16)).unwrap();
    assert_eq!(ended, 1);
    assert!(!cgroups_of(&uid).is_empty());
    let swept = sandbox::sweep(&world.paths).unwrap();
    assert_eq!(swept.len(), 1);
    assert!(swept[0].errors.is_empty(), "{swept:?}");
    assert_eq!((swept[0].uid.as_str(), swept[0].name.as_deref()), (uid.as_str(), Some("test")));
    assert_eq!(swept[0].addresses[0].to_string(), address);
    assert_eq!(world.traces(), before);
    assert!(cgroups_of(&uid).is_empty());
}

pub(super) fn a_supervisor_killed_at_any_instant_is_swept_up_after(world: &World) {
    let before = world.traces();
    let mut caught = 0;
    for instant in 0..40 {
        let mut victim = supervisor(world);
        // Not a wait for anything: the instant of death is what varies.
        std::thread::sleep(Duration::from_micros(500 + 150 * instant));
        victim.kill().unwrap();
        victim.wait().unwrap();
        let pods = fs::read_dir(world.root.join("run/pods")).into_iter().flatten().flatten();
        let uids: Vec<_> = pods.map(|entry| entry.file_name().into_string().unwrap()).collect();
        // A pod process that was just forked holds the lock, too, until it has closed its copy or has seen that
        // its supervisor is dead: then a later sweep finds it.
        let deadline = Instant::now() + Duration::from_secs(10);
        while fs::read_dir(world.root.join("run/pods")).is_ok_and(|mut pods| pods.next().is_some()) {
            assert!(Instant::now() < deadline, "{uids:?} cannot be swept");
            let swept = sandbox::sweep(&world.paths).unwrap();
            assert!(swept.iter().all(|pod| pod.errors.is_empty()), "{swept:?}");
            caught += swept.len();
        }
        assert_eq!(world.traces(), before, "after {instant}");
        assert!(uids.iter().all(|uid| cgroups_of(uid).is_empty()), "{uids:?}");
    }
    eprintln!("{caught} of 40 died with something to sweep");
}

pub(super) fn garbage_is_swept_up(world: &World) {
    let pods = world.root.join("run/pods");
    let uids: Vec<_> = (0..4).map(|_| fresh_uid()).collect();
    let texts = [
        "",
        "{\"uid\":",
        "\u{0}\u{1}",
        "{\"uid\":\"x\",\"name\":\"\",\"namespace\":\"\",\"pid\":1,\
        \"started\":1,\"cgroups\":[\"/sys/fs/cgroup\",\"/etc\"],\"link\":\"lo\",\"addresses\":[]}",
    ];
    let leases = world.root.join("run/net/leases");
    fs::create_dir_all(&leases).unwrap();
    for (index, (uid, text)) in uids.iter().zip(texts).enumerate() {
        fs::create_dir_all(pods.join(uid).join("unexpected/deep")).unwrap();
        fs::write(pods.join(uid).join("record.json"), text).unwrap();
        fs::create_dir_all(world.paths.pod_state(uid).join("volumes/a")).unwrap();
        std::os::unix::fs::symlink(uid, leases.join(format!("10.201.0.{}", index + 2))).unwrap();
        for path in cgroup::Hierarchy::find().unwrap().paths(uid) {
            fs::create_dir_all(path).unwrap();
        }
    }
    std::os::unix::fs::symlink("nobody-at-all", leases.join("10.201.0.99")).unwrap();
    fs::create_dir(pods.join("empty")).unwrap();
    fs::write(pods.join("a-file"), "x").unwrap();
    let swept = sandbox::sweep(&world.paths).unwrap();
    assert_eq!(swept.len(), 5, "{swept:?}");
    assert!(swept.iter().all(|pod| pod.errors.is_empty()), "{swept:?}");
    assert!(uids.iter().all(|uid| cgroups_of(uid).is_empty()));
    assert!(!leases.exists() || fs::read_dir(&leases).unwrap().next().is_none());
    assert!(Path::new("/etc").exists() && nix::net::if_::if_nametoindex("lo").is_ok());
    fs::remove_file(pods.join("a-file")).unwrap();
    fs::remove_dir(&leases).ok();
    fs::remove_dir(world.root.join("run/net")).ok();
}

pub(super) fn eight_at_once_get_eight_addresses(world: &World) {
    let mut supervisors: Vec<_> = (0..8).map(|_| start_supervisor(world, &[MANY])).collect();
    let said: Vec<_> = supervisors.iter_mut().map(said).collect();
    let addresses: HashSet<_> = said.iter().map(|(_, _, address)| address).collect();
    assert_eq!(addresses.len(), 8, "{said:?}");
    for mut supervisor in supervisors {
        drop(supervisor.stdin.take());
        assert!(supervisor.wait().unwrap().success());
    }
    assert!(said.iter().all(|(_, uid, _)| cgroups_of(uid).is_empty()));
}
