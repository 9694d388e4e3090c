//! Volumes of kind configMap, secret, downwardAPI and projected through the conversion.

use super::tests::{accepted, pod_with, refused, warnings};
use crate::spec::environment::{Field, ObjectKind, ObjectRef, ResourceField, ResourceName};
use crate::spec::volume::{DownwardContent, DownwardFile, KeyToPath, ProjectedPlugin};
use crate::spec::{Projection, VolumeSource};

const OBJECTS: &str = "
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: settings}, data: {color: blue, size: '1'}, binaryData: {logo: AAE=}}
---
{apiVersion: v1, kind: Secret, metadata: {name: safe}, data: {key: aHVzaA==}, stringData: {token: t}}
";

fn manifest(volume: &str) -> String {
    pod_with(&format!("volumes: [{{name: v, {volume}}}]"), "") + OBJECTS
}

fn source(volume: &str) -> VolumeSource {
    accepted(&manifest(volume)).pod.volumes.remove(0).source
}

fn object(kind: ObjectKind, name: &str, optional: bool) -> ObjectRef {
    ObjectRef { kind, name: name.into(), optional }
}

fn item(key: &str, path: &str, mode: Option<u32>) -> KeyToPath {
    KeyToPath { key: key.into(), path: path.into(), mode }
}

fn file(path: &str, content: DownwardContent) -> DownwardFile {
    DownwardFile { path: path.into(), content, mode: None }
}

#[test]
fn objects_with_items_and_modes() {
    let expected = |plugin, object, items, default_mode| VolumeSource::Projected {
        plugin,
        sources: vec![Projection::Object { object, items }],
        default_mode,
    };
    assert_eq!(
        source("configMap: {name: settings}"),
        expected(ProjectedPlugin::ConfigMap, object(ObjectKind::ConfigMap, "settings", false), None, 0o644)
    );
    assert_eq!(
        source("configMap: {name: settings, items: [], defaultMode: 0o600}"),
        expected(ProjectedPlugin::ConfigMap, object(ObjectKind::ConfigMap, "settings", false), None, 0o600)
    );
    let items = "items: [{key: key, path: ./a//b}, {key: token, path: c, mode: 0400}]";
    assert_eq!(
        source(&format!("secret: {{secretName: safe, defaultMode: 292, {items}}}")),
        expected(
            ProjectedPlugin::Secret,
            object(ObjectKind::Secret, "safe", false),
            Some(vec![item("key", "a/b", None), item("token", "c", Some(0o400))]),
            0o444
        )
    );
    assert_eq!(
        source("secret: {secretName: none, optional: true, items: [{key: no, path: no}]}"),
        expected(
            ProjectedPlugin::Secret,
            object(ObjectKind::Secret, "none", true),
            Some(vec![item("no", "no", None)]),
            0o644
        )
    );
    source("configMap: {name: settings, optional: true, items: [{key: no, path: no}]}");
    source("configMap: {name: settings, items: [{key: logo, path: logo.png}]}");
}

#[test]
fn fields_and_resources() {
    let field = |path: &str, field| file(path, DownwardContent::Field(field));
    let resource = |path: &str, resource, divisor| {
        file(
            path,
            DownwardContent::Resource(ResourceField { container: Some("main".into()), resource, divisor }),
        )
    };
    let reference = |path: &str, of: &str| format!("{{path: {path}, fieldRef: {{fieldPath: \"{of}\"}}}}");
    let resource_reference = |path: &str, of: &str| {
        format!("{{path: {path}, resourceFieldRef: {{containerName: main, resource: {of}}}}}")
    };
    let items = [
        reference("name", "metadata.name"),
        reference("labels", "metadata.labels"),
        reference("app", "metadata.labels['app.kubernetes.io/name']"),
        reference("note", "metadata.annotations['Example.com/Note']"),
        resource_reference("cpu", "limits.cpu, divisor: 1m"),
        resource_reference("cores", "requests.cpu"),
        resource_reference("memory", "limits.memory, divisor: 1Mi"),
        resource_reference("bytes", "requests.memory, divisor: '0'"),
    ]
    .join(", ");
    let expected = Projection::DownwardApi(vec![
        field("name", Field::Name),
        field("labels", Field::Labels),
        field("app", Field::Label("app.kubernetes.io/name".into())),
        field("note", Field::Annotation("Example.com/Note".into())),
        resource("cpu", ResourceName::LimitsCpu, 1),
        resource("cores", ResourceName::RequestsCpu, 1000),
        resource("memory", ResourceName::LimitsMemory, 1 << 20),
        resource("bytes", ResourceName::RequestsMemory, 1),
    ]);
    let volume =
        |plugin| VolumeSource::Projected { plugin, sources: vec![expected.clone()], default_mode: 0o644 };
    assert_eq!(source(&format!("downwardAPI: {{items: [{items}]}}")), volume(ProjectedPlugin::DownwardApi));
    assert_eq!(
        source(&format!("projected: {{sources: [{{downwardAPI: {{items: [{items}]}}}}]}}")),
        volume(ProjectedPlugin::Projected)
    );
}

#[test]
fn all_sources_in_one() {
    let all = "projected: {defaultMode: 0440, sources: [
        {configMap: {name: settings, items: [{key: color, path: color}]}}, {secret: {name: safe}},
        {configMap: {name: none, optional: true}},
        {downwardAPI: {items: [{path: name, fieldRef: {apiVersion: v1, fieldPath: metadata.name}}]}}]}";
    let VolumeSource::Projected { plugin, sources, default_mode } = source(all) else {
        panic!("not projected")
    };
    assert_eq!((plugin, sources.len(), default_mode), (ProjectedPlugin::Projected, 4, 0o440));
    assert_eq!(sources[3], Projection::DownwardApi(vec![file("name", DownwardContent::Field(Field::Name))]));
}

#[test]
fn an_empty_source_is_none() {
    let converted = accepted(&manifest("projected: {sources: [{}]}"));
    assert!(warnings(&converted)[0].starts_with("spec.volumes[0].projected.sources[0]: ignored"));
}

#[test]
fn what_the_api_server_refuses() {
    let map = |rest: &str| format!("configMap: {{name: settings, {rest}}}");
    let one = |item: &str| map(&format!("items: [{item}]"));
    let downward = |item: &str| format!("downwardAPI: {{items: [{item}]}}");
    let all = |sources: &str| format!("projected: {{sources: [{sources}]}}");
    let resource = |rest: &str| downward(&format!("{{path: a, resourceFieldRef: {{{rest}}}}}"));
    for (volume, path, part) in [
        ("configMap: {}".into(), "configMap.name", "required"),
        ("secret: {}".into(), "secret.secretName", "required"),
        (map("defaultMode: 0o1000"), "configMap.defaultMode", "must be a number between 0 and 0777 (octal)"),
        (map("defaultMode: -1"), "configMap.defaultMode", "invalid value -1"),
        (one("{key: color, path: a, mode: 512}"), "configMap.items[0].mode", "invalid value 512"),
        (one("{path: a}"), "configMap.items[0].key", "required"),
        (one("{key: color}"), "configMap.items[0].path", "required"),
        (one("{key: color, path: /a}"), "configMap.items[0].path", "must be a relative path"),
        (one("{key: color, path: a/../b}"), "configMap.items[0].path", "must not contain '..'"),
        (one("{key: color, path: ..a}"), "configMap.items[0].path", "must not start with '..'"),
        (
            one("{key: colour, path: a}"),
            "configMap.items[0].key",
            "did you mean color? (one of: color, size, logo)",
        ),
        (one("{key: color, path: a, user: 5}"), "configMap.items[0].user", "alpha"),
        (map("defaultUser: 5"), "configMap.defaultUser", "alpha"),
        ("configMap: {name: setings}".into(), "configMap.name", "did you mean settings?"),
        ("secret: {secretName: none}".into(), "secret.secretName", "add a document of `kind: Secret`"),
        ("secret: {secretName: none}".into(), "secret.secretName", "optional: true"),
        (
            "secret: {secretName: safe, items: [{key: a, path: a}]}".into(),
            "secret.items[0].key",
            "(one of: key, token)",
        ),
        (downward("{path: a}"), "downwardAPI.items[0]", "one of fieldRef and resourceFieldRef is required"),
        (
            downward(
                "{path: a, fieldRef: {fieldPath: metadata.uid}, resourceFieldRef: {containerName: main, resource: limits.cpu}}",
            ),
            "downwardAPI.items[0]",
            "can not be specified simultaneously",
        ),
        (
            downward("{path: a, fieldRef: {fieldPath: status.podIP}}"),
            "downwardAPI.items[0].fieldRef.fieldPath",
            "unsupported value",
        ),
        (
            downward("{path: a, fieldRef: {fieldPath: metadata.label}}"),
            "downwardAPI.items[0].fieldRef.fieldPath",
            "did you mean metadata.labels?",
        ),
        (
            downward("{path: a, fieldRef: {fieldPath: ''}}"),
            "downwardAPI.items[0].fieldRef.fieldPath",
            "required",
        ),
        (
            downward("{path: a, fieldRef: {apiVersion: v2, fieldPath: metadata.name}}"),
            "downwardAPI.items[0].fieldRef.apiVersion",
            "unsupported pod version",
        ),
        (
            downward("{path: a, fieldRef: {fieldPath: \"metadata.name['a']\"}}"),
            "downwardAPI.items[0].fieldRef.fieldPath",
            "does not support subscript",
        ),
        (
            downward("{path: a, fieldRef: {fieldPath: \"metadata.labels['-']\"}}"),
            "downwardAPI.items[0].fieldRef.fieldPath",
            "name part",
        ),
        (
            downward("{path: a, mode: 1000, fieldRef: {fieldPath: metadata.name}}"),
            "downwardAPI.items[0].mode",
            "invalid value 1000",
        ),
        (resource("resource: limits.cpu"), "downwardAPI.items[0].resourceFieldRef.containerName", "required"),
        (
            resource("containerName: mian, resource: limits.cpu"),
            "downwardAPI.items[0].resourceFieldRef.containerName",
            "did you mean main?",
        ),
        (
            resource("containerName: main, resource: limits.gpu"),
            "downwardAPI.items[0].resourceFieldRef.resource",
            "unsupported value",
        ),
        (
            resource("containerName: main, resource: limits.cpu, divisor: 1Mi"),
            "downwardAPI.items[0].resourceFieldRef.divisor",
            "only these are supported: 1m, 1",
        ),
        (
            resource("containerName: main, resource: limits.memory, divisor: 2"),
            "downwardAPI.items[0].resourceFieldRef.divisor",
            "only these are supported",
        ),
        (
            all("{serviceAccountToken: {path: t}}"),
            "projected.sources[0].serviceAccountToken",
            "no API server",
        ),
        (all("{clusterTrustBundle: {path: t}}"), "projected.sources[0].clusterTrustBundle", "no API server"),
        (
            all("{podCertificate: {signerName: a, keyType: b}}"),
            "projected.sources[0].podCertificate",
            "no API server",
        ),
        (
            all("{secret: {name: safe}, configMap: {name: settings}}"),
            "projected.sources[0]",
            "found configMap and secret",
        ),
        (
            all(
                "{secret: {name: safe, items: [{key: key, path: a}]}}, {configMap: {name: settings, items: [{key: color, path: ./a}]}}",
            ),
            "projected.sources[1].configMap.items[0].path",
            "conflicting duplicate paths: spec.volumes[0].projected.sources[0].secret.items[0].path has it",
        ),
        (all("{secret: {}}"), "projected.sources[0].secret.name", "required"),
    ] {
        let found = refused(&manifest(&volume));
        let path = format!("spec.volumes[0].{path}: ");
        assert!(
            found.len() == 1 && found[0].starts_with(&path) && found[0].contains(part),
            "{volume}\n{path}{part}\n{found:#?}"
        );
    }
}

#[test]
fn what_the_api_server_fills_in() {
    let item = "{path: cpu, resourceFieldRef: {containerName: main, resource: limits.cpu}}";
    let name = "{path: name, fieldRef: {fieldPath: metadata.name}}";
    let wire = accepted(&manifest(&format!("downwardAPI: {{items: [{item}, {name}]}}"))).wire;
    let source = wire.spec.unwrap().volumes.unwrap().remove(0).downward_api.unwrap();
    let items = source.items.unwrap();
    assert_eq!(source.default_mode, Some(0o644));
    assert_eq!(items[0].resource_field_ref.as_ref().unwrap().divisor.as_ref().unwrap().0, "0");
    assert_eq!(items[1].field_ref.as_ref().unwrap().api_version.as_deref(), Some("v1"));
}
