//! Claims: what outlives a pod is found by the next, and who may have it is held.

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Output;

use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::support::{Finished, PATIENCE, Running, directory, needs_root, peapod, run};

/// A namespace of one test's own, gone with all of its claims and volumes when it is dropped.
struct Place {
    namespace: String,
    directory: TempDir,
}

impl Place {
    fn new(test: &str) -> Self {
        let place =
            Self { namespace: format!("claims-{test}-{}", std::process::id()), directory: directory() };
        place.clear();
        place
    }

    fn peapod(&self, words: &[&str]) -> Finished {
        let output: Output = peapod().args(words).args(["-n", &self.namespace]).output().unwrap();
        Finished::from(output)
    }

    fn clear(&self) {
        for kind in ["pvc", "pv"] {
            for name in self.peapod(&["get", kind, "-o", "name"]).stdout.lines() {
                // Volumes have no namespace, but names of their test.
                if kind == "pvc" || name.contains(&self.namespace) {
                    self.peapod(&["delete", name]);
                }
            }
        }
    }

    /// A pod with one container, a volume `v` at /v, and documents beside it.
    fn pod(&self, name: &str, args: &str, source: &str, documents: &[&str]) -> String {
        let pod = format!(
            "
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: {}}}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  containers:
  - {{name: main, image: {{probe}}, args: [{args}], volumeMounts: [{{name: v, mountPath: /v}}]}}
  volumes: [{{name: v, {source}}}]
",
            self.namespace
        );
        std::iter::once(&*pod).chain(documents.iter().copied()).collect::<Vec<_>>().join("\n---\n")
    }

    fn claim(&self, name: &str, mode: &str, more: &str) -> String {
        format!(
            "{{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {{name: {name}, namespace: {}}}, spec: \
             {{accessModes: [{mode}], resources: {{requests: {{storage: 1Gi}}}}, {more}}}}}",
            self.namespace
        )
    }

    fn volume(&self, name: &str, source: &str) -> String {
        format!(
            "{{apiVersion: v1, kind: PersistentVolume, metadata: {{name: {}-{name}}}, spec: {{accessModes: \
             [ReadWriteOnce], capacity: {{storage: 5Gi}}, storageClassName: manual, {source}, nodeAffinity: {{}}}}}}",
            self.namespace
        )
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.clear();
    }
}

const DATA: &str = "persistentVolumeClaim: {claimName: data}";
const FOREVER: &str = "sleep, '3600000'";

#[test]
fn data_survives_its_pod_until_the_claim_is_deleted() {
    let place = Place::new("survives");
    let document = place.claim("data", "ReadWriteOnce", "");
    run(&place.pod("first", "write, /v/file, kept words", DATA, &[&document]), &[]).expect_code(0);
    // With the document, and without it.
    for documents in [&[&*document][..], &[]] {
        run(&place.pod("next", "read, /v/file", DATA, documents), &[])
            .expect_code(0)
            .expect_stdout("kept words");
    }
    let shown = place.peapod(&["get", "pvc"]).expect_code(0);
    let row = shown.stdout.lines().nth(1).unwrap().split_whitespace().collect::<Vec<_>>();
    assert_eq!((row[0], row[1], row[3], row[4], row[5]), ("data", "Bound", "1Gi", "RWO", "local"));
    let yaml = place.peapod(&["get", "pvc/data", "-o", "yaml"]).expect_code(0);
    yaml.expect_stdout("kind: PersistentVolumeClaim").expect_stdout("phase: Bound");
    place.peapod(&["get", "pv"]).expect_code(0).expect_stdout(&format!("{}/data", place.namespace));
    let other = place.claim("data", "ReadWriteMany", "");
    run(&place.pod("other", "hello", DATA, &[&other]), &[])
        .expect_code(2)
        .expect_stderr("spec is immutable after creation except resources.requests");
    place
        .peapod(&["delete", "pvc", "data"])
        .expect_code(0)
        .expect_stdout("persistentvolumeclaim \"data\" deleted");
    run(&place.pod("late", "hello", DATA, &[]), &[]).expect_code(2).expect_stderr(
        "persistentvolumeclaim \"data\" not found: add a document of kind PersistentVolumeClaim",
    );
    run(&place.pod("anew", "read, /v/file", DATA, &[&document]), &[]).expect_code(1);
}

#[test]
fn a_claim_of_one_pod_is_of_one_pod_until_that_is_gone() {
    let place = Place::new("alone");
    let document = place.claim("data", "ReadWriteOncePod", "");
    let text = |name: &str| place.pod(name, FOREVER, DATA, &[&document]);
    let second = || run(&place.pod("second", "hello", DATA, &[&document]), &[]);
    let mut first = Running::start(&text("first"), &[]);
    first.wait_for("sandbox");
    let refused = second().expect_code(125);
    refused.expect_stderr("ReadWriteOncePod access mode: pod").expect_stderr("/first");
    first.signal(Signal::SIGTERM);
    first.wait();
    second().expect_code(0);
    // Killed: nobody is there to let it go, but the kernel.
    let mut killed = Running::start(&text("killed"), &[]);
    killed.wait_for("sandbox");
    second().expect_code(125);
    killed.signal(Signal::SIGKILL);
    killed.wait();
    let end = std::time::Instant::now() + PATIENCE;
    // The pod process dies at its own pace.
    while second().code != 0 {
        assert!(std::time::Instant::now() < end, "the lock outlives the pod");
    }
}

#[test]
fn pods_of_a_node_share_a_claim_and_it_is_not_deleted_meanwhile() {
    let place = Place::new("shared");
    let document = place.claim("data", "ReadWriteOnce", "");
    let reader = Running::start(&place.pod("reader", "await-file, /v/file", DATA, &[&document]), &[]);
    reader.wait_for("sandbox");
    place
        .peapod(&["delete", "pvc", "data"])
        .expect_code(1)
        .expect_stderr("kubernetes.io/pvc-protection")
        .expect_stderr("/reader");
    let described = place.peapod(&["describe", "pvc", "data"]).expect_code(0);
    described.expect_stdout("Used By:       reader\n").expect_stdout("Status:        Bound\n");
    run(&place.pod("writer", "write, /v/file, shared words", DATA, &[&document]), &[]).expect_code(0);
    let mut reader = reader;
    assert_eq!(reader.wait(), 0, "{}", reader.output());
}

#[test]
fn volumes_of_the_host_are_bound_by_name_and_kept() {
    let place = Place::new("host");
    for (number, kind) in ["hostPath", "local"].into_iter().enumerate() {
        let path = place.directory.path().join(kind);
        let source = format!("{kind}: {{path: {}}}", path.display());
        let name = kind.to_lowercase();
        let volume = place.volume(&name, &source);
        let bound = format!("storageClassName: manual, volumeName: {}-{name}", place.namespace);
        let document = place.claim(&name, "ReadWriteOnce", &bound);
        let claim = format!("persistentVolumeClaim: {{claimName: {name}}}");
        let text = place.pod("pod", "write, /v/file, host words", &claim, &[&document, &volume]);
        run(&text, &[]).expect_code(125).expect_stderr("does not exist");
        std::fs::create_dir(&path).unwrap();
        run(&text, &[]).expect_code(0);
        assert_eq!(std::fs::read_to_string(path.join("file")).unwrap(), "host words\n", "{number}");
        place.peapod(&["get", "pvc", &name]).expect_code(0).expect_stdout("5Gi");
        let both = place.peapod(&["get", "pvc,pv", "-o", "name"]).expect_code(0);
        both.expect_stdout(&format!("persistentvolumeclaim/{name}")).expect_stdout("persistentvolume/");
        let volume = format!("{}-{name}", place.namespace);
        place.peapod(&["delete", "pv", &volume]).expect_code(1).expect_stderr("pv-protection");
        place.peapod(&["delete", "pvc", &name]).expect_code(0);
        place.peapod(&["get", "pv", &volume]).expect_code(0).expect_stdout("Released");
        assert!(path.join("file").exists(), "Retain");
        run(&text, &[]).expect_code(2).expect_stderr("already bound to a different claim");
        place.peapod(&["delete", "pv", &volume]).expect_code(0);
        run(&text, &[]).expect_code(0);
    }
}

/// As Kubernetes does: `/tmp` alone is deleted from.
#[test]
fn a_host_path_goes_with_its_claim_below_tmp_only() {
    let place = Place::new("delete");
    let temporary = tempfile::tempdir_in("/tmp").unwrap();
    let kept = tempfile::tempdir_in("/var/tmp").unwrap();
    let link = temporary.path().join("link");
    std::os::unix::fs::symlink(kept.path(), &link).unwrap();
    let claim = "persistentVolumeClaim: {claimName: c}";
    for (name, path, is_deleted) in
        [("tmp", temporary.path(), true), ("kept", kept.path(), false), ("link", &link, false)]
    {
        let path = path.join("data");
        std::fs::create_dir(&path).unwrap();
        let source = format!("hostPath: {{path: {}}}, persistentVolumeReclaimPolicy: Delete", path.display());
        let volume = place.volume(name, &source);
        let bound = format!("storageClassName: manual, volumeName: {}-{name}", place.namespace);
        let document = place.claim("c", "ReadWriteOnce", &bound);
        run(&place.pod("pod", "write, /v/file, x", claim, &[&document, &volume]), &[]).expect_code(0);
        let deleted = place.peapod(&["delete", "pvc", "c"]).expect_code(0);
        assert_eq!(path.exists(), !is_deleted, "{name}");
        let volume = format!("{}-{name}", place.namespace);
        let left = place.peapod(&["get", "pv", &volume]);
        if is_deleted {
            left.expect_code(1).expect_stderr("not found");
            assert_eq!(deleted.stderr, "");
        } else {
            left.expect_code(0).expect_stdout(" Failed ");
            let described = place.peapod(&["describe", "pv", &volume]).expect_code(0).stdout;
            let deleted = deleted.expect_stderr("is Failed, its data stays: ");
            if name == "kept" {
                let why = format!(
                    "host_path deleter only supports /tmp/.+ but received provided {}",
                    path.display()
                );
                assert!(described.contains(&why), "{described}");
                deleted.expect_stderr(&why);
            }
            assert_eq!(std::fs::read_to_string(path.join("file")).unwrap(), "x\n");
            std::fs::remove_dir_all(&path).unwrap();
            place.peapod(&["delete", "pv", &volume]).expect_code(0);
        }
    }
}

#[test]
fn a_claim_that_says_no_class_has_the_default_one() {
    let place = Place::new("class");
    let path = place.directory.path().to_owned();
    let source = format!("hostPath: {{path: {}}}", path.display());
    let volume = place.volume("plain", &source).replace("storageClassName: manual, ", "");
    let claim = "persistentVolumeClaim: {claimName: c}";
    let document = place.claim("c", "ReadWriteOnce", "");
    let text = place.pod("pod", "write, /v/file, x", claim, &[&document, &volume]);
    run(&text, &[]).expect_code(0).expect_stderr("the claim has the default class");
    assert!(!path.join("file").exists());
    let columns = |kind: &str, name: &str| {
        let text = place.peapod(&["get", kind, name]).expect_code(0).stdout;
        text.lines().nth(1).unwrap().split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    let got = columns("pvc", "c");
    assert_eq!(got[5], "local", "{got:?}");
    let made = columns("pv", &got[2]);
    assert_eq!((&*made[3], &*made[6]), ("Delete", "local"), "{made:?}");
    place.peapod(&["delete", "pvc", "c"]).expect_code(0);
    let document = place.claim("c", "ReadWriteOnce", "storageClassName: ''");
    let text = place.pod("pod", "write, /v/file, x", claim, &[&document, &volume]);
    run(&text, &[]).expect_code(0);
    assert!(path.join("file").exists());
    let volume = format!("{}-plain", place.namespace);
    assert_eq!(columns("pvc", "c")[2], volume);
    place.peapod(&["delete", "pvc", "c"]).expect_code(0);
    place.peapod(&["delete", "pv", &volume]).expect_code(0);
}

#[test]
fn the_fs_group_is_given_local_volumes_and_none_that_is_a_host_path() {
    if !needs_root() {
        return;
    }
    let place = Place::new("group");
    for (kind, gid, mode) in [("hostPath", 0, 0o755), ("local", 3000, 0o2775)] {
        let path = place.directory.path().join(kind);
        std::fs::create_dir(&path).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        let name = kind.to_lowercase();
        let volume = place.volume(&name, &format!("{kind}: {{path: {}}}", path.display()));
        let bound = format!("storageClassName: manual, volumeName: {}-{name}", place.namespace);
        let document = place.claim(&name, "ReadWriteOnce", &bound);
        let claim = format!("persistentVolumeClaim: {{claimName: {name}}}");
        // The second time the volume is known from the first.
        for documents in [&[&*document, &*volume][..], &[]] {
            let text = place.pod("pod", "ls, /v", &claim, documents);
            let text = text.replace("spec:\n", "spec:\n  securityContext: {fsGroup: 3000}\n");
            run(&text, &[]).expect_code(0);
            let metadata = std::fs::metadata(&path).unwrap();
            assert_eq!((metadata.gid(), metadata.mode() & 0o7777), (gid, mode), "{kind}");
        }
    }
}

#[test]
fn a_read_only_claim_refuses_writes() {
    let place = Place::new("readonly");
    let document = place.claim("data", "ReadWriteOnce", "");
    let source = "persistentVolumeClaim: {claimName: data, readOnly: true}";
    run(&place.pod("pod", "write, /v/file, x", source, &[&document]), &[]).expect_code(1);
    run(&place.pod("pod", "write, /v/file, x", DATA, &[]), &[]).expect_code(0);
    run(&place.pod("pod", "read, /v/file", source, &[]), &[]).expect_code(0).expect_stdout("x");
}

#[test]
fn an_ephemeral_claim_goes_with_its_pod() {
    let place = Place::new("ephemeral");
    let source = "ephemeral: {volumeClaimTemplate: {spec: {accessModes: [ReadWriteOnce], resources: {requests: \
                  {storage: 1Mi}}}}}";
    let mut pod = Running::start(&place.pod("pod", FOREVER, source, &[]), &[]);
    pod.wait_for("sandbox");
    place.peapod(&["get", "pvc"]).expect_code(0).expect_stdout("pod-v ");
    pod.signal(Signal::SIGTERM);
    pod.wait();
    place.peapod(&["get", "pvc"]).expect_code(0).expect_stderr("No resources found");
    // And that of one that was killed, with whatever runs next.
    let mut killed = Running::start(&place.pod("pod", FOREVER, source, &[]), &[]);
    killed.wait_for("sandbox");
    killed.signal(Signal::SIGKILL);
    killed.wait();
    run(&place.pod("pod", "write, /v/file, x", source, &[]), &[]).expect_code(0);
    place.peapod(&["get", "pvc"]).expect_code(0).expect_stderr("No resources found");
}
