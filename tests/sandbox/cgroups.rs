//! The cgroup.

use super::*;

pub(super) fn the_cgroup_limits_and_kills(world: &World) {
    let uid = fresh_uid();
    let mut sandbox = create(&world.config(&uid), |inside| {
        hear(&inside.control);
        let mut hoard = Vec::new();
        loop {
            hoard.push(vec![1u8; 1 << 20]);
        }
    })
    .unwrap();
    let membership = fs::read_to_string(format!("/proc/{}/cgroup", sandbox.pid())).unwrap();
    for path in sandbox.cgroups() {
        assert!(path.ends_with(format!("peapod/pod{uid}")), "{}", path.display());
    }
    let inside = membership.lines().filter(|line| line.ends_with(&format!("/peapod/pod{uid}"))).count();
    assert_eq!(inside, sandbox.cgroups().len(), "{membership}");
    let read = |file: &str| {
        let mut found = sandbox.cgroups().iter().filter_map(|path| fs::read_to_string(path.join(file)).ok());
        found.next().map(|text| text.trim().to_owned())
    };
    let memory = read("memory.max").or_else(|| read("memory.limit_in_bytes"));
    assert_eq!(memory.unwrap(), (256u64 << 20).to_string());
    let quota = read("cpu.max").or_else(|| read("cpu.cfs_quota_us")).unwrap();
    assert_eq!(quota.split(' ').next(), Some("150000"));
    assert_eq!(read("pids.max").unwrap(), "64");
    assert_eq!(sandbox.oom_kills(), 0);
    let weight = read("cpu.weight").or_else(|| read("cpu.shares")).unwrap();
    assert!(["20", "512"].contains(&weight.as_str()), "{weight}");
    assert_eq!(sandbox.oom_score_adj(), Some(321));
    let notices = sandbox.oom_notices().unwrap();
    resizes(&sandbox, &read);
    let noticed = || poll(&mut [PollFd::new(notices.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO).unwrap();
    assert_eq!(noticed(), 0);
    say(&sandbox.control, "eat");
    assert_eq!(sandbox.wait().unwrap(), Exit::Signal(9));
    assert_eq!(sandbox.oom_kills(), 1);
    assert_eq!(noticed(), 1);
    remove(sandbox);
}

/// Limits of a running pod grow, shrink, are lifted and come back; never below what is in use.
fn resizes(sandbox: &Sandbox, read: &dyn Fn(&str) -> Option<String>) {
    let memory = || read("memory.max").or_else(|| read("memory.limit_in_bytes")).unwrap();
    let swap = || read("memory.memsw.limit_in_bytes");
    let quota = || read("cpu.max").or_else(|| read("cpu.cfs_quota_us")).unwrap();
    for bytes in [512 << 20, 128 << 20, 256_u64 << 20] {
        let limits = cgroup::Limits { memory_bytes: Some(bytes), cpu_millis: Some(500), ..world::LIMITS };
        sandbox.resize(&limits).unwrap();
        assert_eq!(memory(), bytes.to_string());
        assert!(swap().is_none_or(|swap| swap == bytes.to_string()));
        assert_eq!(quota().split(' ').next(), Some("50000"));
    }
    sandbox.resize(&cgroup::Limits::default()).unwrap();
    assert!(memory() == "max" || memory().parse::<u64>().unwrap() > 1 << 40, "{}", memory());
    assert!(["-1", "max"].contains(&quota().split(' ').next().unwrap()), "{}", quota());
    assert_eq!(read("pids.max").unwrap(), "max");
    sandbox.resize(&world::LIMITS).unwrap();
    let little = cgroup::Limits { memory_bytes: Some(4096), ..world::LIMITS };
    let refused = sandbox.resize(&little).unwrap_err();
    assert!(refused.is_busy(), "{refused}");
    sandbox.resize(&world::LIMITS).unwrap();
}

/// The mount points of the test's own view of the cgroup hierarchies of this type.
pub(super) fn cgroup_mounts(kind: &str) -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let lines = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    lines.filter(|words| words[2] == kind).map(|words| words[1].into()).collect()
}

pub(super) fn the_unified_hierarchy_is_entered_killed_and_removed(world: &World) {
    // Where v1 has the controllers, v2 can only be had without: hidden, v1 is not found.
    for place in cgroup_mounts("cgroup") {
        nix::mount::umount2(&place, nix::mount::MntFlags::MNT_DETACH).unwrap();
    }
    assert!(matches!(cgroup::Hierarchy::find(), Some(cgroup::Hierarchy::V2 { .. })), "no cgroup2 is mounted");
    let sandbox = world.create(|inside| until_told(&inside));
    let [path] = sandbox.cgroups() else { panic!("{:?}", sandbox.cgroups()) };
    assert_eq!(fs::read_to_string(path.join("cgroup.procs")).unwrap().trim(), sandbox.pid().to_string());
    let controllers = fs::read_to_string(path.join("cgroup.controllers")).unwrap();
    let limited =
        controllers.contains("memory") && controllers.contains("cpu") && controllers.contains("pids");
    assert_eq!(sandbox.warnings.is_empty(), limited, "{:?}", sandbox.warnings);
    if limited {
        assert_eq!(fs::read_to_string(path.join("memory.max")).unwrap().trim(), (256u64 << 20).to_string());
        assert_eq!(fs::read_to_string(path.join("cpu.max")).unwrap().trim(), "150000 100000");
        assert_eq!(fs::read_to_string(path.join("pids.max")).unwrap().trim(), "64");
    }
    let mut native = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    fs::write(path.join("cgroup.procs"), native.id().to_string()).unwrap();
    let parent = path.parent().unwrap().to_owned();
    remove(sandbox);
    assert!(!native.wait().unwrap().success());
    assert!(!parent.exists() || fs::read_dir(&parent).unwrap().flatten().any(|entry| entry.path().is_dir()));
}

pub(super) fn read_only_cgroups_are_a_warning(world: &World) {
    let flags =
        nix::mount::MsFlags::MS_REMOUNT | nix::mount::MsFlags::MS_BIND | nix::mount::MsFlags::MS_RDONLY;
    for place in cgroup_mounts("cgroup").into_iter().chain(cgroup_mounts("cgroup2")) {
        nix::mount::mount(None::<&str>, &place, None::<&str>, flags, None::<&str>).unwrap();
    }
    let sandbox = server_pod(world);
    assert!(sandbox.warnings.iter().all(|line| line.starts_with("no ")), "{:?}", sandbox.warnings);
    assert!(!sandbox.warnings.is_empty() && sandbox.cgroups().is_empty());
    assert_eq!(ask_address((address(&sandbox), 8080).into()), HOST.to_string());
    remove(sandbox);
}

pub(super) fn removal_ends_native_processes_too(world: &World) {
    // Not of the pod's pid namespace, but of its network and cgroup: what `nsenter -n` and `cgexec` make.
    let sandbox = world.create(|inside| until_told(&inside));
    let mut native = Command::new("nsenter")
        .args(["-t", &sandbox.pid().to_string(), "-n", "cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("nsenter (util-linux)");
    let mut stdin = native.stdin.take().unwrap();
    writeln!(stdin, "hello").unwrap();
    let mut echoed = String::new();
    BufReader::new(native.stdout.take().unwrap()).read_line(&mut echoed).unwrap();
    for path in sandbox.cgroups() {
        fs::write(path.join("cgroup.procs"), native.id().to_string()).unwrap();
    }
    remove(sandbox);
    assert!(!native.wait().unwrap().success());
}

pub(super) fn the_last_pod_out_turns_off_the_light(world: &World) {
    let mut netfilter = Socket::netfilter().unwrap();
    let mut there = || nftables::table_exists(&mut netfilter, "peapod").unwrap();
    let forwarding = || parameter("ipv4/ip_forward").unwrap();
    assert!(!there());
    // A new namespace may take it over from the machine.
    let before = forwarding();
    set_network_parameter("ipv4/ip_forward", "0").unwrap();
    let one = world.create(|inside| until_told(&inside));
    let two = world.create(|inside| until_told(&inside));
    assert!(there());
    assert_eq!(forwarding(), "1");
    remove(one);
    assert!(there(), "the other pod needs it");
    assert_eq!(forwarding(), "1");
    remove(two);
    assert!(!there());
    assert_eq!(forwarding(), "0");

    set_network_parameter("ipv4/ip_forward", "1").unwrap();
    remove(world.create(|inside| until_told(&inside)));
    assert_eq!(forwarding(), "1", "it was on before");
    set_network_parameter("ipv4/ip_forward", &before).unwrap();
}

pub(super) fn the_floor_is_measured_and_removed(_: &World) {
    for _ in 0..3 {
        let floor = sandbox::floor().unwrap();
        let phases: Vec<_> = floor.phases.iter().map(|(name, _)| *name).collect();
        assert_eq!(phases, ["cgroup", "clone", "link", "route", "ready"]);
        eprintln!("{floor:?}");
    }
    assert!(cgroups_of(&format!("floor-{}", std::process::id())).is_empty());
}
