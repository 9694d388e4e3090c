//! Volumes of kind configMap, secret, downwardAPI and projected, as guests see them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::support::{PATIENCE, Running, needs_root, peapod, root, run};

const OBJECTS: &str = "
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {color: blue, shape: round}
binaryData: {logo: AP8=}
---
apiVersion: v1
kind: Secret
metadata: {name: safe}
data: {key: aHVzaA==}
stringData: {token: t0k}
";

/// A pod whose container does `args`, with the volume `v` at `/v`.
fn pod(name: &str, args: &str, volume: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Pod
metadata:
  name: {name}
  uid: {name}
  labels: {{app: shop, tier: web}}
  annotations: {{example.com/note: \"two\\nlines\"}}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: {{probe}}
    args: {args}
    resources: {{limits: {{cpu: 1500m, memory: 64Mi}}}}
    volumeMounts: [{{name: v, mountPath: /v}}]
  volumes:
  - name: v
    {volume}
{OBJECTS}"
    )
}

#[test]
fn a_config_map_has_a_file_for_every_key() {
    run(&pod("cm-all", "[read-all, /v/color, /v/shape, /v/logo]", "configMap: {name: settings}"), &[])
        .expect_code(0)
        .expect_stdout("/v/color: blue")
        .expect_stdout("/v/shape: round")
        .expect_stdout("/v/logo: [0, 255]");
    run(&pod("cm-ls", "[ls, /v]", "configMap: {name: settings}"), &[])
        .expect_code(0)
        .expect_stdout("..data@")
        .expect_stdout("color@");
}

#[test]
fn items_choose_keys_and_paths() {
    let items = "items: [{key: token, path: a/b/token}, {key: no, path: no}], optional: true";
    let volume = format!("secret: {{secretName: safe, {items}}}");
    let finished = run(&pod("items", "[read-all, /v/a/b/token]", &volume), &[]);
    finished.expect_code(0).expect_stdout("/v/a/b/token: t0k");
    for path in ["/v/token", "/v/key", "/v/no"] {
        run(&pod("items-no", &format!("[read-all, {path}]"), &volume), &[]).expect_code(1);
    }
}

#[test]
fn the_downward_api_says_what_the_pod_is() {
    let field = |path: &str, of: &str| format!("{{path: {path}, fieldRef: {{fieldPath: \"{of}\"}}}}");
    let resource = |path: &str, of: &str| {
        format!("{{path: {path}, resourceFieldRef: {{containerName: main, resource: {of}}}}}")
    };
    let items = [
        field("name", "metadata.name"),
        field("namespace", "metadata.namespace"),
        field("uid", "metadata.uid"),
        field("labels", "metadata.labels"),
        field("annotations", "metadata.annotations"),
        field("app", "metadata.labels['app']"),
        field("nothing", "metadata.annotations['no']"),
        resource("cores", "limits.cpu"),
        resource("millis", "limits.cpu, divisor: 1m"),
        resource("mib", "requests.memory, divisor: 1Mi"),
        resource("disk", "limits.ephemeral-storage"),
    ];
    let paths =
        ["name", "namespace", "uid", "labels", "annotations", "app", "nothing", "cores", "millis", "mib"];
    let args = paths.map(|path| format!("/v/{path}")).join(", ");
    let volume = format!("downwardAPI: {{items: [{}]}}", items.join(", "));
    let mut finished =
        run(&pod("downward", &format!("[read-all, {args}, /v/disk]"), &volume), &[]).expect_code(0);
    for line in [
        "/v/name: downward",
        "/v/namespace: default",
        "/v/uid: downward",
        r#"/v/labels: app=\"shop\"\ntier=\"web\""#,
        r#"/v/annotations: example.com/note=\"two\\nlines\""#,
        "/v/app: shop",
        "/v/nothing: ",
        "/v/cores: 2",
        "/v/millis: 1500",
        "/v/mib: 64",
    ] {
        finished = finished.expect_stdout(&format!("{line}\n"));
    }
    let disk = finished.stdout.lines().find_map(|line| line.split_once("/v/disk: ")).expect("the disk").1;
    assert!(disk.parse::<u64>().unwrap() > 1 << 20, "the node's: {disk}");
}

const ALL: &str = "projected:
      defaultMode: 0440
      sources:
      - configMap: {name: settings, items: [{key: color, path: config/color, mode: 0o604}]}
      - configMap: {name: absent, optional: true}
      - secret: {name: safe}
      - downwardAPI: {items: [{path: pod/name, fieldRef: {fieldPath: metadata.name}}]}";

#[test]
fn all_sources_in_one_volume() {
    run(&pod("all", "[read-all, /v/config/color, /v/key, /v/token, /v/pod/name]", ALL), &[])
        .expect_code(0)
        .expect_stdout("/v/config/color: blue")
        .expect_stdout("/v/key: hush")
        .expect_stdout("/v/token: t0k")
        .expect_stdout("/v/pod/name: all");
}

#[test]
fn guests_only_read() {
    for volume in ["configMap: {name: settings}", "secret: {secretName: safe}", ALL] {
        for args in ["[write, /v/new, x]", "[write, /v/color, x]", "[mkdir, /v/new]", "[symlink, x, /v/new]"]
        {
            run(&pod("read-only", args, volume), &[]).expect_code(1);
        }
    }
}

#[test]
fn a_sub_path_is_a_part() {
    let text = pod("part", "[read-all, /v/color]", ALL);
    let text = text.replace("mountPath: /v}", "mountPath: /v, subPath: config}");
    run(&text, &[]).expect_code(0).expect_stdout("/v/color: blue");
}

#[test]
fn what_is_missing_is_told_before_anything_runs() {
    let refused = |volume: &str, texts: &[&str]| {
        let mut finished = run(&pod("missing", "[hello]", volume), &[]).expect_code(2);
        for text in texts {
            finished = finished.expect_stderr(text);
        }
    };
    refused(
        "configMap: {name: setings}",
        &["spec.volumes[0].configMap.name", "did you mean settings?", "`kind: ConfigMap`", "optional: true"],
    );
    refused(
        "secret: {secretName: safe, items: [{key: kee, path: a}]}",
        &["items[0].key", "did you mean key?"],
    );
    run(&pod("optional", "[ls, /v]", "configMap: {name: absent, optional: true}"), &[])
        .expect_code(0)
        .expect_stdout("..data@");
}

#[test]
fn files_that_exclude_each_other_are_told() {
    let volume = "projected: {sources: [{configMap: {name: settings}}, {downwardAPI: {items: [{path: color/x, fieldRef: {fieldPath: metadata.name}}]}}]}";
    run(&pod("conflict", "[hello]", volume), &[])
        .expect_code(125)
        .expect_stderr("color cannot be a file, color/x is below it");
}

/// The volume's directory of a pod that runs, as the pod process sees it.
fn directory(pod: &Running, name: &str, plugin: &str) -> PathBuf {
    let state = root().join("state/pods").join(name).join("volumes").join(plugin).join("v");
    let seen = format!("/proc/{}/root{}", pod.pod_pid(), state.display());
    seen.into()
}

fn modes(directory: &Path, paths: &[&str]) -> BTreeMap<String, u32> {
    let mode = |path: &&str| {
        let metadata = fs::metadata(directory.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        ((*path).to_owned(), metadata.permissions().mode() & 0o7777)
    };
    paths.iter().map(mode).collect()
}

#[test]
fn modes_are_the_manifests_and_secrets_are_in_memory() {
    if !needs_root() {
        return;
    }
    let pod = Running::start(&pod("modes", "[serve, '7000']", ALL), &[]);
    pod.wait_for("[main] listening");
    let projected = directory(&pod, "modes", "kubernetes.io~projected");
    let expected = [("config", 0o755), ("config/color", 0o604), ("key", 0o440), ("pod/name", 0o440)];
    assert_eq!(
        modes(&projected, &["config", "config/color", "key", "pod/name"]),
        expected.map(|(path, mode)| (path.to_owned(), mode)).into()
    );
    let filesystem = nix::sys::statfs::statfs(&projected).unwrap().filesystem_type();
    assert_eq!(filesystem, nix::sys::statfs::TMPFS_MAGIC);
    let on_disk = root().join("state/pods/modes/volumes/kubernetes.io~projected/v");
    assert_eq!(fs::read_dir(on_disk).unwrap().count(), 0, "not on the disk");
}

/// The swap as it is done inside of the pod, done from outside: what the guest's sandbox makes of it.
#[test]
fn a_guest_follows_an_update() {
    if !needs_root() {
        return;
    }
    let pod = Running::start(&pod("follow", "[follow, /v/color, green]", "configMap: {name: settings}"), &[]);
    pod.wait_for("[main] now blue");
    let volume = directory(&pod, "follow", "kubernetes.io~configmap");
    for (generation, color) in [("..2026_1", "red"), ("..2026_2", "green")] {
        fs::create_dir(volume.join(generation)).unwrap();
        fs::write(volume.join(generation).join("color"), color).unwrap();
        let before = fs::read_link(volume.join("..data")).unwrap();
        symlink(generation, volume.join("..data_tmp")).unwrap();
        fs::rename(volume.join("..data_tmp"), volume.join("..data")).unwrap();
        fs::remove_dir_all(volume.join(before)).unwrap();
        pod.wait_for(&format!("[main] now {color}"));
    }
    pod.wait_for("[main] held blue");
}

#[test]
fn describe_shows_them_as_kubectl_does() {
    if !needs_root() {
        return;
    }
    let downward = "downwardAPI: {items: [{path: n, fieldRef: {fieldPath: metadata.name}}]}
  - {name: w, secret: {secretName: safe}}
  - name: x
    ";
    let pod = Running::start(&pod("described", "[serve, '7000']", &format!("{downward}{ALL}")), &[]);
    pod.wait_for("[main] listening");
    let end = std::time::Instant::now() + PATIENCE;
    let text = loop {
        let output = peapod().args(["describe", "described"]).output().expect("start peapod");
        if output.status.success() || std::time::Instant::now() > end {
            break String::from_utf8_lossy(&output.stdout).into_owned();
        }
    };
    let expected = "
Volumes:
  v:
    Type:  DownwardAPI (a volume populated by information about the pod)
    Items:
      metadata.name -> n
  w:
    Type:        Secret (a volume populated by a Secret)
    SecretName:  safe
    Optional:    false
  x:
    Type:           Projected (a volume that contains injected data from multiple sources)
    ConfigMapName:  settings
    Optional:       false
    ConfigMapName:  absent
    Optional:       true
    SecretName:     safe
    Optional:       false
    DownwardAPI:    true
";
    let squeezed = |text: &str| {
        let line = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        text.lines().map(line).collect::<Vec<_>>().join("\n")
    };
    assert!(squeezed(&text).contains(squeezed(expected).trim()), "{text}");
}
