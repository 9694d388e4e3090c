//! Claims and volumes, beside the Pod and in it, through the conversion.

use super::tests::{accepted, refused};
use crate::spec::{
    AccessMode, Claim, PersistentVolume, PersistentVolumeKind, ReclaimPolicy, Storage, VolumeSource,
};

fn pod_beside(volumes: &str, documents: &[String]) -> String {
    let pod = format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: web, namespace: team-a}}, spec: {{volumes: [{volumes}], \
         containers: [{{name: main, image: ./app.wasm}}]}}}}"
    );
    std::iter::once(&pod).chain(documents).map(String::as_str).collect::<Vec<_>>().join("\n---\n")
}

fn claim(metadata: &str, spec: &str) -> String {
    format!("{{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {{{metadata}}}, spec: {{{spec}}}}}")
}

fn volume(metadata: &str, spec: &str) -> String {
    format!("{{apiVersion: v1, kind: PersistentVolume, metadata: {{{metadata}}}, spec: {{{spec}}}}}")
}

const NAMED: &str = "name: data, namespace: team-a";
const SPEC: &str = "accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}";
const VOLUME: &str = "accessModes: [ReadWriteOnce], capacity: {storage: 1Gi}";

fn storage(document: String) -> Storage {
    accepted(&pod_beside("", &[document])).pod.storage
}

/// The paths of all errors, without the document's number.
fn paths(text: &str) -> Vec<String> {
    let path = |error: String| {
        let error = error.strip_prefix("document 2: ").unwrap_or(&error);
        error.split(": ").next().unwrap_or_default().to_owned()
    };
    refused(text).into_iter().map(path).collect()
}

fn refused_paths(document: String) -> Vec<String> {
    paths(&pod_beside("", &[document]))
}

#[test]
fn a_claim_says_what_it_wants() {
    let minimal =
        Claim { access_modes: vec![AccessMode::ReadWriteOnce], storage_bytes: 1 << 30, ..Claim::default() };
    assert_eq!(storage(claim(NAMED, SPEC)).claims["data"], minimal);
    let more = "volumeName: v, storageClassName: '', volumeMode: Filesystem, selector: {matchLabels: {a: b}}";
    let labelled = format!("{NAMED}, labels: {{app: web}}");
    let full = &storage(claim(&labelled, &format!("{SPEC}, {more}"))).claims["data"];
    assert_eq!((full.volume_name.as_deref(), full.storage_class.as_deref()), (Some("v"), Some("")));
    assert_eq!((full.labels["app"].as_str(), full.selector.as_ref().unwrap().requirements.len()), ("web", 1));
    let elsewhere = accepted(&pod_beside("", &[claim("name: data", SPEC)]));
    assert!(elsewhere.pod.storage.claims.is_empty() && elsewhere.warnings.len() == 1);
}

#[test]
fn a_claim_that_no_volume_uses_is_warned_of() {
    let document = claim(NAMED, SPEC);
    let unused = accepted(&pod_beside("", std::slice::from_ref(&document)));
    let warnings: Vec<_> = unused.warnings.iter().map(ToString::to_string).collect();
    let [warning] = &warnings[..] else { panic!("{warnings:?}") };
    assert!(warning.starts_with("document 2: metadata.name: no volume of the pod uses claim"), "{warning}");
    let used = "{name: v, persistentVolumeClaim: {claimName: data}}";
    assert!(accepted(&pod_beside(used, &[document])).warnings.is_empty());
}

#[test]
fn a_claim_that_kubernetes_refuses_is_refused() {
    let one = "resources: {requests: {storage: 1Gi}}";
    let modes = "accessModes: [ReadWriteOnce]";
    for (spec, path) in [
        (one.to_owned(), "spec.accessModes"),
        (format!("{one}, accessModes: [ReadWriteTwice]"), "spec.accessModes[0]"),
        (format!("{one}, accessModes: [ReadWriteOncePod, ReadWriteOnce]"), "spec.accessModes"),
        (modes.to_owned(), "spec.resources.requests.storage"),
        (format!("{modes}, resources: {{requests: {{storage: '0'}}}}"), "spec.resources.requests.storage"),
        (
            format!("{modes}, resources: {{requests: {{storage: 1Gi, cpu: 1}}}}"),
            "spec.resources.requests.cpu",
        ),
        (format!("{SPEC}, volumeMode: Block"), "spec.volumeMode"),
        (format!("{SPEC}, volumeMode: Disk"), "spec.volumeMode"),
        (format!("{SPEC}, storageClassName: A_B"), "spec.storageClassName"),
        (format!("{SPEC}, dataSource: {{kind: VolumeSnapshot, name: a}}"), "spec.dataSource"),
        (format!("{SPEC}, dataSourceRef: {{kind: A, name: a}}"), "spec.dataSourceRef"),
        (format!("{SPEC}, volumeAttributesClassName: a"), "spec.volumeAttributesClassName"),
        (
            format!("{SPEC}, selector: {{matchExpressions: [{{key: a, operator: In}}]}}"),
            "spec.selector.matchExpressions[0].values",
        ),
    ] {
        assert_eq!(refused_paths(claim(NAMED, &spec)), [path], "{spec}");
    }
    assert_eq!(refused_paths(claim("namespace: team-a", SPEC)), ["metadata.name"]);
    let twice = pod_beside("", &[claim(NAMED, SPEC), claim(NAMED, SPEC)]);
    assert!(refused(&twice)[0].contains("duplicate value \"data\""));
}

#[test]
fn a_volume_says_where_it_is() {
    let path = |kind: &str| storage(volume("name: v", &format!("{VOLUME}, {kind}"))).volumes["v"].clone();
    let plain = PersistentVolume {
        labels: Default::default(),
        path: "/srv".into(),
        kind: PersistentVolumeKind::HostPath,
        capacity_bytes: 1 << 30,
        access_modes: vec![AccessMode::ReadWriteOnce],
        storage_class: String::new(),
        reclaim_policy: ReclaimPolicy::Retain,
        claim: None,
    };
    assert_eq!(path("hostPath: {path: /srv/}"), plain);
    assert_eq!(
        path("hostPath: {path: /srv, type: DirectoryOrCreate}").kind,
        PersistentVolumeKind::HostPathOrCreate
    );
    let local = path("local: {path: /srv}, nodeAffinity: {required: {nodeSelectorTerms: []}}");
    assert_eq!(local.kind, PersistentVolumeKind::Local);
    let reserved = path("hostPath: {path: /srv}, claimRef: {name: c, namespace: n}, storageClassName: x");
    assert_eq!(reserved.claim, Some(("n".to_owned(), "c".to_owned())));
    assert_eq!(reserved.storage_class, "x");
    let deleting = volume(
        "name: v",
        &format!("{VOLUME}, hostPath: {{path: /srv}}, persistentVolumeReclaimPolicy: Delete"),
    );
    let deleting = accepted(&pod_beside("", &[deleting]));
    let warning = &deleting.warnings[0].message;
    assert!(
        warning.contains("host_path deleter only supports /tmp/.+ but received provided /srv"),
        "{warning}"
    );
    let spec = format!("{VOLUME}, hostPath: {{path: /tmp/data}}, persistentVolumeReclaimPolicy: Delete");
    assert!(accepted(&pod_beside("", &[volume("name: v", &spec)])).warnings.is_empty());
}

#[test]
fn a_volume_that_kubernetes_refuses_is_refused() {
    const AT: &str = "hostPath: {path: /srv}";
    for (spec, path) in [
        (VOLUME.to_owned(), "spec"),
        (format!("{VOLUME}, {AT}, local: {{path: /a}}, nodeAffinity: {{}}"), "spec"),
        (format!("{VOLUME}, nfs: {{path: /a, server: b}}"), "spec.nfs"),
        (format!("{VOLUME}, csi: {{driver: a, volumeHandle: b}}"), "spec.csi"),
        (format!("{VOLUME}, hostPath: {{path: srv}}"), "spec.hostPath.path"),
        (format!("{VOLUME}, hostPath: {{path: /a/../b}}"), "spec.hostPath.path"),
        (format!("{VOLUME}, hostPath: {{path: /a, type: File}}"), "spec.hostPath.type"),
        (format!("accessModes: [ReadWriteOnce], {AT}"), "spec.capacity.storage"),
        (format!("capacity: {{storage: 1Gi}}, {AT}"), "spec.accessModes"),
        (format!("{VOLUME}, {AT}, mountOptions: [ro]"), "spec.mountOptions"),
        (format!("{VOLUME}, {AT}, volumeMode: Block"), "spec.volumeMode"),
        (
            format!("{VOLUME}, {AT}, persistentVolumeReclaimPolicy: Recycle"),
            "spec.persistentVolumeReclaimPolicy",
        ),
        (format!("{VOLUME}, {AT}, volumeAttributesClassName: a"), "spec.volumeAttributesClassName"),
        (format!("{VOLUME}, {AT}, claimRef: {{name: a}}"), "spec.claimRef.namespace"),
    ] {
        assert_eq!(refused_paths(volume("name: v", &spec)), [path], "{spec}");
    }
}

#[test]
fn volumes_of_a_pod_refer_to_claims_or_bring_their_own() {
    let template =
        format!("ephemeral: {{volumeClaimTemplate: {{metadata: {{labels: {{a: b}}}}, spec: {{{SPEC}}}}}}}");
    let volumes = format!(
        "{{name: a, persistentVolumeClaim: {{claimName: data.1, readOnly: true}}}}, {{name: b, {template}}}"
    );
    let pod = accepted(&pod_beside(&volumes, &[])).pod;
    assert_eq!(pod.volumes[0].source, VolumeSource::Claim { name: "data.1".to_owned(), read_only: true });
    let VolumeSource::Ephemeral { claim } = &pod.volumes[1].source else { panic!("{:?}", pod.volumes[1]) };
    assert_eq!((claim.storage_bytes, claim.labels["a"].as_str()), (1 << 30, "b"));
    for (source, path) in [
        ("persistentVolumeClaim: {claimName: ''}".to_owned(), "persistentVolumeClaim.claimName"),
        ("persistentVolumeClaim: {claimName: A}".to_owned(), "persistentVolumeClaim.claimName"),
        ("ephemeral: {}".to_owned(), "ephemeral.volumeClaimTemplate"),
        (
            format!("ephemeral: {{volumeClaimTemplate: {{metadata: {{name: a}}, spec: {{{SPEC}}}}}}}"),
            "ephemeral.volumeClaimTemplate.metadata",
        ),
        (
            "ephemeral: {volumeClaimTemplate: {spec: {accessModes: [ReadWriteOnce]}}}".to_owned(),
            "ephemeral.volumeClaimTemplate.spec.resources.requests.storage",
        ),
    ] {
        let paths = paths(&pod_beside(&format!("{{name: a, {source}}}"), &[]));
        assert_eq!(paths, [format!("spec.volumes[0].{path}")], "{source}");
    }
}
