//! Mounts of single files, the types of `hostPath`, `image` volumes.

use std::fs;
use std::path::Path;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::support::{Finished, directory, peapod, run};

/// A pod of one container that has this after its name and image, and these volumes.
fn pod(container: &str, volumes: &str) -> String {
    pod_of(&format!("containers: [{{name: main, image: {{probe}}, {container}}}]"), volumes)
}

fn pod_of(containers: &str, volumes: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: files}}
spec:
  restartPolicy: Never
  {containers}
  volumes: [{volumes}]
"
    )
}

fn host(name: &str, path: &Path, kind: &str) -> String {
    format!("{{name: {name}, hostPath: {{path: {}, type: {kind}}}}}", path.display())
}

#[test]
fn a_file_that_an_init_container_wrote_is_mounted_by_its_sub_path() {
    let text = |at: &str, arguments: &str, mount: &str| {
        pod_of(
            &format!(
                "
  initContainers:
  - {{name: write, image: {{probe}}, args: [write, /v/conf/app.yaml, words], volumeMounts: [{{name: v, mountPath: /v}}, {{name: v, mountPath: /v/conf, subPath: conf}}]}}
  containers:
  - {{name: main, image: {{probe}}, args: [{arguments}], volumeMounts: [{{name: v, mountPath: {at}, subPath: conf/app.yaml{mount}}}]}}"
            ),
            "{name: v, emptyDir: {}}",
        )
    };
    run(&text("/etc/app.yaml", "read, /etc/app.yaml", ""), &[]).expect_code(0).expect_stdout("words");
    run(&text("/app.yaml", "append, /app.yaml, more", ""), &[]).expect_code(0);
    run(&text("/a/b.yaml", "append, /a/b.yaml, more", ", readOnly: true"), &[])
        .expect_code(1)
        .expect_stderr("probe: append: /a/b.yaml: ReadOnlyFilesystem");
}

#[test]
fn files_of_the_host_stand_beside_the_pods_own_in_etc() {
    let host_dir = directory();
    let (file, made) = (host_dir.path().join("file"), host_dir.path().join("made"));
    fs::write(&file, "host words").unwrap();
    let volumes = format!("{}, {}", host("f", &file, "File"), host("m", &made, "FileOrCreate"));
    let mounts = "volumeMounts: [{name: f, mountPath: /etc/one.conf, readOnly: true}, {name: m, mountPath: /etc/two.conf}]";
    let listed = run(&pod(&format!("args: [ls, /etc], {mounts}"), &volumes), &[]).expect_code(0);
    for name in ["hostname", "hosts", "one.conf", "resolv.conf", "two.conf"] {
        assert!(listed.stdout.contains(name), "{}", listed.stdout);
    }
    run(&pod(&format!("args: [read, /etc/hostname], {mounts}"), &volumes), &[]).expect_stdout("files");
    run(&pod(&format!("args: [read, /etc/one.conf], {mounts}"), &volumes), &[]).expect_stdout("host words");
    run(&pod(&format!("args: [write, /etc/two.conf, written], {mounts}"), &volumes), &[]).expect_code(0);
    assert_eq!(fs::read_to_string(&made).unwrap(), "written\n");
    for refused in ["write, /etc/one.conf, x", "write, /etc/new, x", "write, /etc/hosts, x"] {
        run(&pod(&format!("args: [{refused}], {mounts}"), &volumes), &[]).expect_code(1);
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "host words");
}

#[test]
fn a_file_below_another_mount_is_there_and_nowhere_else() {
    let host_dir = directory();
    fs::write(host_dir.path().join("file"), "host words").unwrap();
    let volumes =
        format!("{}, {{name: v, emptyDir: {{}}}}", host("f", &host_dir.path().join("file"), "File"));
    let mounts = "volumeMounts: [{name: f, mountPath: /v/deep/app.conf}, {name: v, mountPath: /v}]";
    let text = |init: &str, main: &str, mounts_of_main: &str| {
        pod_of(
            &format!(
                "
  initContainers: [{{name: first, image: {{probe}}, args: [{init}], {mounts}}}]
  containers: [{{name: main, image: {{probe}}, args: [{main}], {mounts_of_main}}}]"
            ),
            &volumes,
        )
    };
    let alone = "volumeMounts: [{name: v, mountPath: /v}]";
    run(&text("write, /v/shared, x", "read, /v/deep/app.conf", mounts), &[]).expect_stdout("host words");
    // Another container has the empty file that it covers, and what was written beside it.
    let seen = run(&text("write, /v/shared, shared words", "read, /v/shared", alone), &[]);
    seen.expect_code(0).expect_stdout("shared words");
    let covered = run(&text("write, /v/shared, x", "read, /v/deep/app.conf", alone), &[]).expect_code(0);
    assert!(!covered.stdout.contains("host words"));
    let read_only = mounts.replace("mountPath: /v}", "mountPath: /v, readOnly: true}");
    run(&pod(&format!("args: [hello], {read_only}"), &volumes), &[])
        .expect_code(128)
        .expect_stderr("read-only and has no file of that name");
}

#[test]
fn last_words_are_heard_beside_a_file_in_dev() {
    let host_dir = directory();
    fs::write(host_dir.path().join("file"), "").unwrap();
    let volumes = host("f", &host_dir.path().join("file"), "File");
    let text = pod(
        "args: [last-words, /dev/termination-log, disk on fire, '3'], volumeMounts: [{name: f, mountPath: /dev/app.conf, readOnly: true, recursiveReadOnly: IfPossible}]",
        &volumes,
    );
    let finished = run(&text, &["-o", "json"]).expect_code(3);
    let status = &finished.pod()["status"]["containerStatuses"][0];
    assert_eq!(status["state"]["terminated"]["message"], "disk on fire");
    assert_eq!(
        status["volumeMounts"],
        serde_json::json!([
            {"name": "f", "mountPath": "/dev/app.conf", "readOnly": true, "recursiveReadOnly": "Enabled"}
        ])
    );
    let bad = text.replace("readOnly: true, ", "");
    run(&bad, &[]).expect_code(2).expect_stderr("may only be specified when readOnly is true");
}

#[test]
fn sockets_and_devices_are_checked_and_seen() {
    let host_dir = directory();
    let socket = host_dir.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let listed = |path: &Path, kind: &str, arguments: &str| -> Finished {
        let container = format!("args: [{arguments}], volumeMounts: [{{name: v, mountPath: /dev/it}}]");
        run(&pod(&container, &host("v", path, kind)), &[])
    };
    listed(&socket, "Socket", "ls, /dev").expect_code(0).expect_stdout("it");
    listed(&socket, "Socket", "read, /dev/it").expect_code(1);
    listed(Path::new("/dev/null"), "CharDevice", "write, /dev/it, x").expect_code(0);
    for (kind, word) in [
        ("Socket", "a socket file"),
        ("CharDevice", "a character device"),
        ("BlockDevice", "a block device"),
        ("File", "a file"),
        ("Directory", "a directory"),
    ] {
        let path = host_dir.path().join("missing");
        let check = format!("hostPath type check failed: {} is not {word}", path.display());
        listed(&path, kind, "hello").expect_code(125).expect_stderr(&check);
    }
    let check = format!("hostPath type check failed: {} is not a block device", socket.display());
    listed(&socket, "BlockDevice", "hello").expect_code(125).expect_stderr(&check);
}

fn tar(items: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in items {
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        builder.append(&header, content.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

/// An OCI layout of one layer.
fn layout(at: &Path, layer: &[u8]) {
    use sha2::Digest;
    fs::create_dir_all(at.join("blobs/sha256")).unwrap();
    let blob = |bytes: &[u8]| {
        let digest: String = sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        fs::write(at.join("blobs/sha256").join(&digest), bytes).unwrap();
        format!("\"digest\": \"sha256:{digest}\", \"size\": {}", bytes.len())
    };
    let layer = blob(layer);
    let layer = format!("{{\"mediaType\": \"application/vnd.oci.image.layer.v1.tar\", {layer}}}");
    let manifest = blob(format!("{{\"layers\": [{layer}]}}").as_bytes());
    fs::write(at.join("index.json"), format!("{{\"manifests\": [{{{manifest}}}]}}")).unwrap();
    fs::write(at.join("oci-layout"), "{\"imageLayoutVersion\": \"1.0.0\"}").unwrap();
}

#[test]
fn image_volumes_are_directories_archives_layouts_and_artifacts_to_read() {
    let dir = directory();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir(at("tree")).unwrap();
    fs::write(at("tree/file"), "from a directory").unwrap();
    let archive = tar(&[("./file", "from an archive"), ("sub/file", "from below")]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, &archive).unwrap();
    fs::write(at("data.tar.gz"), gzip.finish().unwrap()).unwrap();
    layout(&at("image"), &tar(&[("file", "from an image")]));
    fs::write(at("file"), "an artifact").unwrap();
    let text = |name: &str, mount: &str, arguments: &str| {
        let reference = at(name).display().to_string();
        pod(
            &format!("args: [{arguments}], volumeMounts: [{{name: v, mountPath: /v{mount}}}]"),
            &format!("{{name: v, image: {{reference: 'file://{reference}', pullPolicy: IfNotPresent}}}}"),
        )
    };
    for (name, words) in [
        ("tree", "from a directory"),
        ("data.tar.gz", "from an archive"),
        ("image", "from an image"),
        ("file", "an artifact"),
    ] {
        run(&text(name, "", "read, /v/file"), &[]).expect_code(0).expect_stdout(words);
        run(&text(name, "", "write, /v/file, x"), &[]).expect_code(1);
        run(&text(name, "", "write, /v/new, x"), &[]).expect_code(1);
        let as_file = text(name, "/it.conf, subPath: file", "read, /v/it.conf");
        run(&as_file, &[]).expect_code(0).expect_stdout(words);
    }
    run(&text("data.tar.gz", ", subPath: sub", "read, /v/file"), &[]).expect_stdout("from below");
    run(&text("data.tar.gz", ", subPath: none", "hello"), &["--timeout", "2s"])
        .expect_code(124)
        .expect_stderr(
            "failed to create subPath directory for volumeMount \"v\" of container \"main\": none",
        );
    assert!(!at("tree/none").exists());
    run(&text("none", "", "hello"), &[]).expect_code(127).expect_stderr("spec.volumes[0].image.reference");
}

#[test]
fn a_fifo_of_the_host_makes_nobody_wait() {
    let host_dir = directory();
    mkfifo(&host_dir.path().join("fifo"), Mode::from_bits_truncate(0o666)).unwrap();
    std::os::unix::fs::symlink("fifo", host_dir.path().join("link")).unwrap();
    let mount = "volumeMounts: [{name: v, mountPath: /v}]";
    let containers: String = [
        ("read", "probe", "read, /v/fifo"),
        ("write", "probe", "append, /v/link, x"),
        ("read3", "p3", "read, /v/link"),
        ("write3", "p3", "write, /v/fifo, x"),
        ("list", "probe", "ls, /v"),
    ]
    .map(|(name, guest, args)| format!("{{name: {name}, image: {{{guest}}}, args: [{args}], {mount}}}, "))
    .concat();
    let volume = host("v", host_dir.path(), "Directory");
    run(&pod_of(&format!("containers: [{containers}]"), &volume), &["--timeout", "60s"])
        .expect_code(1)
        .expect_stderr("[read] probe: read: /v/fifo: Unsupported")
        .expect_stderr("[write] probe: append: /v/link: Unsupported")
        .expect_stderr("[read3] p3: /v/link: ErrorCode::Unsupported")
        .expect_stderr("[write3] p3: /v/fifo: ErrorCode::Unsupported")
        .expect_stdout("[list] fifo");
}

#[test]
fn hostile_image_volumes_are_refused_before_anything_runs() {
    let dir = directory();
    let file = dir.path().join("bad.tar");
    fs::write(&file, tar(&[("fine", "x"), ("../../escaped", "x")])).unwrap();
    let manifest = pod(
        "args: [hello], volumeMounts: [{name: v, mountPath: /v}]",
        &format!("{{name: v, image: {{reference: {}}}}}", file.display()),
    );
    let manifest = super::support::manifest(dir.path(), &manifest);
    let root = dir.path().join("root");
    let output = peapod().env("PEAPOD_ROOT", &root).arg("run").arg(manifest).output().unwrap();
    Finished::from(output).expect_code(126).expect_stderr("bad.tar").expect_stderr("../../escaped");
    assert_eq!(fs::read_dir(root.join("cache/volumes")).unwrap().count(), 0);
    let registry = pod("args: [hello]", "{name: v, image: {reference: 'quay.io/model:1'}}");
    run(&registry, &[]).expect_code(2).expect_stderr("registry references are not supported yet");
    run(&pod("args: [hello]", "{name: v, image: {}}"), &[])
        .expect_code(2)
        .expect_stderr("spec.volumes[0].image.reference");
}
