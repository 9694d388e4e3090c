//! Without root.

use super::*;

pub(super) fn without_root_a_pod_has_loopback(world: &World) {
    let root = world.root.join("nobody");
    fs::create_dir(&root).unwrap();
    // The test's own directory is for root alone.
    fs::set_permissions(&world.root, std::os::unix::fs::PermissionsExt::from_mode(0o711)).unwrap();
    std::os::unix::fs::chown(&root, Some(NOBODY), Some(NOBODY)).unwrap();
    // Where nobody may run it, too.
    let binary = root.join("test");
    fs::copy(std::env::current_exe().unwrap(), &binary).unwrap();
    let output = Command::new(&binary)
        .env(PART, "rootless")
        .env(ROOT, &root)
        .uid(NOBODY)
        .gid(NOBODY)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

pub(super) fn rootless(world: &World) {
    let user = nix::unistd::geteuid().as_raw();
    assert_ne!(user, 0);
    let uid = fresh_uid();
    let mut sandbox = create(&world.config(&uid), |inside| {
        let listener = TcpListener::bind("127.0.0.1:80").expect("a low port of the pod's own");
        TcpStream::connect(listener.local_addr().unwrap()).expect("lo is up");
        fs::write(inside.pod_dir.join("file"), "x").unwrap();
        fs::write("/dev/shm/file", "x").unwrap();
        say(&inside.control, fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim());
        until_told(&inside)
    })
    .unwrap();
    assert_eq!(hear(&sandbox.control), "test-host");
    assert!(sandbox.addresses.is_empty());
    assert!(sandbox.cgroups().is_empty());
    let [warning] = sandbox.warnings.as_slice() else { panic!("{:?}", sandbox.warnings) };
    assert!(warning.contains("no address") && warning.contains("no cgroup"), "{warning}");
    assert_eq!(fs::metadata(sandbox.pod_dir.join("file")).unwrap().uid(), user);
    say(&sandbox.control, "end");
    assert_eq!(sandbox.wait().unwrap(), Exit::Code(0));
    let pod_dir = sandbox.pod_dir.clone();
    remove(sandbox);
    assert!(!pod_dir.exists());
    assert!(sandbox::sweep(&world.paths).unwrap().is_empty());
}
