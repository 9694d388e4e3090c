//! Variables, and the objects and Services beside the Pod that they come from, through the conversion.

use super::tests::{accepted, pod_with, refused, warnings};
use crate::spec::environment::{
    EnvFrom, Field, Files, ObjectKind, ObjectRef, ResourceField, ResourceName, Value,
};
use crate::spec::environment::{Surroundings, resolve};
use crate::spec::{Pod, Protocol};

const OBJECTS: &str = "
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: settings}, data: {color: red, LEVEL: debug, greeting: $(color)}, \
 binaryData: {blob: /w==}}
---
{apiVersion: v1, kind: Secret, metadata: {name: login}, stringData: {password: hunter2}, data: {raw: /w==}}
---
{apiVersion: v1, kind: Secret, metadata: {name: token}, stringData: {TOKEN: abc}}
";

fn pod(container: &str) -> String {
    let volumes = "volumes: [{name: scratch, emptyDir: {}}, {name: host, hostPath: {path: /srv}}]";
    format!("{}{OBJECTS}", pod_with(volumes, container))
}

/// The value of the one variable.
fn value_of(source: &str) -> Value {
    let mut converted = accepted(&pod(&format!("env: [{{name: A, valueFrom: {{{source}}}}}]")));
    converted.pod.containers[0].environment.variables.pop().unwrap().value
}

fn object(kind: ObjectKind, name: &str, optional: bool) -> ObjectRef {
    ObjectRef { kind, name: name.to_owned(), optional }
}

#[test]
fn every_source_arrives() {
    use ObjectKind::{ConfigMap, Secret};
    let key = |object, key: &str| Value::Key { object, key: key.to_owned() };
    for (source, value) in [
        ("configMapKeyRef: {name: settings, key: color}", key(object(ConfigMap, "settings", false), "color")),
        ("secretKeyRef: {name: login, key: password}", key(object(Secret, "login", false), "password")),
        ("secretKeyRef: {name: none, key: x, optional: true}", key(object(Secret, "none", true), "x")),
        (
            "configMapKeyRef: {name: settings, key: x, optional: true}",
            key(object(ConfigMap, "settings", true), "x"),
        ),
        ("fieldRef: {fieldPath: metadata.uid}", Value::Field(Field::Uid)),
        ("fieldRef: {apiVersion: v1, fieldPath: status.hostIPs}", Value::Field(Field::HostIps)),
        ("fieldRef: {fieldPath: \"metadata.labels['app']\"}", Value::Field(Field::Label("app".into()))),
        (
            "resourceFieldRef: {containerName: main, resource: limits.memory, divisor: 1Mi}",
            Value::Resource(ResourceField {
                container: Some("main".into()),
                resource: ResourceName::LimitsMemory,
                divisor: 1 << 20,
            }),
        ),
        (
            "fileKeyRef: {volumeName: scratch, path: ./a/b.env, key: KEY}",
            Value::File {
                volume: "scratch".into(),
                path: "a/b.env".into(),
                key: "KEY".into(),
                optional: false,
            },
        ),
    ] {
        assert_eq!(value_of(source), value, "{source}");
    }
    let from =
        "envFrom: [{prefix: P_, configMapRef: {name: settings}}, {secretRef: {name: none, optional: true}}]";
    let converted = accepted(&pod(from));
    let expected = [
        EnvFrom { prefix: "P_".into(), object: object(ConfigMap, "settings", false) },
        EnvFrom { prefix: String::new(), object: object(Secret, "none", true) },
    ];
    assert_eq!(converted.pod.containers[0].environment.from, expected);
}

#[test]
fn what_is_wrong_is_told_where_it_is() {
    for (container, path, part) in [
        ("env: [{name: A, valueFrom: {}}]", "env[0].valueFrom", "must specify one of: `fieldRef`"),
        (
            "env: [{name: A, value: x, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]",
            "env[0].valueFrom",
            "may not be specified when `value` is not empty",
        ),
        (
            "env: [{name: A, valueFrom: {fieldRef: {fieldPath: metadata.name}, \
             configMapKeyRef: {name: settings, key: color}}}]",
            "env[0].valueFrom",
            "may not have more than one field specified",
        ),
        ("env: [{name: A=B, value: x}]", "env[0].name", "printable ASCII"),
        (
            "env: [{name: A, valueFrom: {configMapKeyRef: {name: setings, key: color}}}]",
            "env[0].valueFrom.configMapKeyRef.name",
            "configmap \"setings\" not found, did you mean settings?; add a document of kind: ConfigMap, or set optional: true",
        ),
        (
            "env: [{name: A, valueFrom: {configMapKeyRef: {name: settings, key: colour}}}]",
            "env[0].valueFrom.configMapKeyRef.key",
            "no key \"colour\" in ConfigMap \"settings\", did you mean color?",
        ),
        (
            "env: [{name: A, valueFrom: {configMapKeyRef: {name: settings, key: blob}}}]",
            "env[0].valueFrom.configMapKeyRef.key",
            "binaryData",
        ),
        (
            "env: [{name: A, valueFrom: {secretKeyRef: {name: login, key: raw}}}]",
            "env[0].valueFrom.secretKeyRef.key",
            "not UTF-8",
        ),
        (
            "env: [{name: A, valueFrom: {secretKeyRef: {name: login, key: ''}}}]",
            "env[0].valueFrom.secretKeyRef.key",
            "required",
        ),
        (
            "env: [{name: A, valueFrom: {secretKeyRef: {name: '', key: a}}}]",
            "env[0].valueFrom.secretKeyRef.name",
            "required",
        ),
        (
            "env: [{name: A, valueFrom: {fieldRef: {fieldPath: status.phase}}}]",
            "env[0].valueFrom.fieldRef.fieldPath",
            "unsupported value",
        ),
        (
            "env: [{name: A, valueFrom: {resourceFieldRef: {containerName: mian, resource: limits.cpu}}}]",
            "env[0].valueFrom.resourceFieldRef.containerName",
            "container mian not found, did you mean main?",
        ),
        (
            "env: [{name: A, valueFrom: {fileKeyRef: {volumeName: scrach, path: a, key: K}}}]",
            "env[0].valueFrom.fileKeyRef.volumeName",
            "did you mean scratch?",
        ),
        (
            "env: [{name: A, valueFrom: {fileKeyRef: {volumeName: host, path: a, key: K}}}]",
            "env[0].valueFrom.fileKeyRef.volumeName",
            "must be of type emptyDir",
        ),
        (
            "env: [{name: A, valueFrom: {fileKeyRef: {volumeName: scratch, path: ../a, key: K}}}]",
            "env[0].valueFrom.fileKeyRef.path",
            "'..'",
        ),
        (
            "env: [{name: A, valueFrom: {fileKeyRef: {volumeName: scratch, path: ..a, key: K}}}]",
            "env[0].valueFrom.fileKeyRef.path",
            "must not start with '..'",
        ),
        (
            "env: [{name: A, valueFrom: {fileKeyRef: {volumeName: scratch, path: '', key: K}}}]",
            "env[0].valueFrom.fileKeyRef.path",
            "required",
        ),
        ("envFrom: [{prefix: A}]", "envFrom[0]", "must specify one of: `configMapRef` or `secretRef`"),
        (
            "envFrom: [{configMapRef: {name: settings}, secretRef: {name: token}}]",
            "envFrom[0]",
            "may not have more than one field",
        ),
        ("envFrom: [{prefix: 'A=', configMapRef: {name: settings}}]", "envFrom[0].prefix", "printable ASCII"),
        ("envFrom: [{secretRef: {name: logon}}]", "envFrom[0].secretRef.name", "secret \"logon\" not found"),
        ("envFrom: [{secretRef: {name: login}}]", "envFrom[0]", "not UTF-8"),
        (
            "volumeMounts: [{name: scratch, mountPath: /a, subPath: x, subPathExpr: y}]",
            "volumeMounts[0].subPathExpr",
            "subPathExpr and subPath are mutually exclusive",
        ),
        (
            "volumeMounts: [{name: scratch, mountPath: /a, subPathExpr: ../y}]",
            "volumeMounts[0].subPathExpr",
            "'..'",
        ),
    ] {
        let errors = refused(&pod(container));
        let start = format!("spec.containers[0].{path}: ");
        let is_told = |error: &String| error.starts_with(&start) && error.contains(part);
        assert!(errors.len() == 1 && errors.iter().all(is_told), "{container}\n{path}: {part}\n{errors:#?}");
    }
}

#[test]
fn values_that_come_from_objects_count() {
    let big = format!(
        "{}\n---\n{{apiVersion: v1, kind: ConfigMap, metadata: {{name: big}}, data: {{A: {}}}}}",
        pod_with("", "envFrom: [{configMapRef: {name: big}}]"),
        "x".repeat(128 << 10)
    );
    accepted(&big);
    let errors = refused(&big.replace("data: {A: x", "data: {A: xx"));
    assert!(errors[0].starts_with("spec.containers[0].envFrom[0]: expands to too much text"), "{errors:?}");
    let twice = big.replace("name: big}}]", "name: big}}], env: [{name: B, value: $(A)$(A)}]");
    let errors = refused(&twice);
    assert!(errors[0].starts_with("spec.containers[0].env[0].value: expands to too much text"), "{errors:?}");
}

#[test]
fn objects_of_another_namespace_are_not_seen() {
    let text = pod("envFrom: [{configMapRef: {name: settings}}]")
        .replace("name: settings}, data", "name: settings, namespace: other}, data");
    assert!(refused(&text).iter().any(|error| error.contains("configmap \"settings\" not found")));
}

struct NoFiles;

impl Files for NoFiles {
    fn read(&self, _: &str, path: &std::path::Path) -> Result<Option<String>, String> {
        match path.to_str() {
            Some("a.env") => Ok(Some("A='from a file'\nEMPTY=''".into())),
            Some("b.env") => Ok(Some("A=unquoted".into())),
            Some("c.env") => Err("Is a directory".into()),
            _ => Ok(None),
        }
    }
}

fn around() -> Surroundings {
    Surroundings {
        pod_ips: vec!["10.1.0.2".parse().unwrap()],
        host_ips: vec!["192.0.2.1".parse().unwrap()],
        node_name: "node-1".into(),
        ..Surroundings::default()
    }
}

fn resolved(pod: &Pod) -> Result<crate::spec::Resolved, String> {
    resolve(&pod.containers[0], pod, &around(), &NoFiles).map_err(|error| error.to_string())
}

/// The variables of the container as `NAME=value`.
fn variables(container: &str) -> Vec<String> {
    let env = resolved(&accepted(&pod(container)).pod).unwrap().env;
    env.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}

#[test]
fn the_later_source_wins_and_values_see_what_is_before_them() {
    assert_eq!(
        variables(
            "envFrom: [{configMapRef: {name: settings}}, {prefix: S_, secretRef: {name: token}}], \
             env: [{name: color, value: blue}, {name: LINE, value: '$(color) $(S_TOKEN) $(greeting) $(LATER) $$(color)'}, \
             {name: LATER, value: x}, {name: LEVEL, valueFrom: {secretKeyRef: {name: none, key: x, optional: true}}}, \
             {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}, \
             {name: LABEL, valueFrom: {fieldRef: {fieldPath: \"metadata.labels['none']\"}}}]"
        ),
        [
            // An optional key that is missing leaves what is there.
            "LEVEL=debug",
            "color=blue",
            // What comes from an object is not expanded.
            "greeting=$(color)",
            "S_TOKEN=abc",
            "LINE=blue abc $(color) $(LATER) $(color)",
            "LATER=x",
            "NODE=node-1",
            "LABEL=",
        ]
    );
}

#[test]
fn a_file_of_variables_is_read_at_the_start() {
    let file = |path: &str, key: &str, optional: bool| {
        let source =
            format!("fileKeyRef: {{volumeName: scratch, path: {path}, key: {key}, optional: {optional}}}");
        let converted = accepted(&pod(&format!("env: [{{name: A, valueFrom: {{{source}}}}}]")));
        resolved(&converted.pod).map(|resolved| resolved.env.into_iter().next().map(|(_, value)| value))
    };
    assert_eq!(file("a.env", "A", false), Ok(Some("from a file".into())));
    assert_eq!(file("a.env", "B", true), Ok(None));
    assert_eq!(file("none.env", "A", true), Ok(None));
    for (path, key, optional, part) in [
        ("a.env", "B", false, "environment variable key \"B\" not found in file a.env"),
        ("a.env", "EMPTY", false, "key \"EMPTY\" not found"),
        ("none.env", "A", false, "env file none.env of volume scratch not found"),
        ("b.env", "A", true, "couldn't parse env file b.env of volume scratch: line 1: "),
        ("c.env", "A", true, "Is a directory"),
    ] {
        let error = file(path, key, optional).unwrap_err();
        assert!(error.contains(part), "{path} {key}: {error}");
    }
}

#[test]
fn what_goes_missing_later_is_told_in_the_kubelets_words() {
    let of = |container: &str, change: fn(&mut Pod)| {
        let mut pod = accepted(&pod(container)).pod;
        change(&mut pod);
        resolved(&pod).unwrap_err()
    };
    let key = "env: [{name: A, valueFrom: {configMapKeyRef: {name: settings, key: color}}}]";
    assert_eq!(of(key, |pod| pod.objects.config_maps.clear()), "configmap \"settings\" not found");
    let emptied = |pod: &mut Pod| {
        pod.objects.config_maps.insert("settings".into(), Default::default());
    };
    assert_eq!(of(key, emptied), "couldn't find key color in ConfigMap default/settings");
    let from = "envFrom: [{secretRef: {name: token}}]";
    assert_eq!(of(from, |pod| pod.objects.secrets.clear()), "secret \"token\" not found");
}

#[test]
fn a_sub_path_is_made_of_variables() {
    let path = |text: &str, value: &str| {
        let container = format!(
            "env: [{{name: A, value: '{value}'}}], \
             volumeMounts: [{{name: scratch, mountPath: /a, subPathExpr: '{text}'}}]"
        );
        let mut resolved = resolved(&accepted(&pod(&container)).pod)?;
        Ok(resolved.mounts.pop().unwrap().sub_path.map(|path| path.display().to_string()))
    };
    assert_eq!(path("logs/$(A)", "x.y"), Ok(Some("logs/x.y".into())));
    assert_eq!(path("$$(A)", "x"), Ok(Some("$(A)".into())));
    assert_eq!(path("$(A)", "."), Ok(None));
    for (text, value, error) in [
        ("$(B)/$(C)", "x", "missing value for B, C"),
        ("$(A)", "", "missing value for A"),
        ("$(A)", "/etc", "error SubPath `/etc` must not be an absolute path"),
        ("x/$(A)", "../../etc", "unable to provision SubPath `x/../../etc`: must not contain '..'"),
        ("$(A)$(A)", ".", "unable to provision SubPath `..`: must not contain '..'"),
    ] {
        assert_eq!(path(text, value), Err::<Option<String>, String>(error.into()), "{text} {value}");
    }
}

fn service(spec: &str) -> String {
    let pod = pod_with("", "ports: [{name: http, containerPort: 8080}]");
    let pod = pod.replace("metadata: {name: web}", "metadata: {name: web, labels: {app: web}}");
    format!("{pod}\n---\n{{apiVersion: v1, kind: Service, metadata: {{name: front}}, spec: {{{spec}}}}}")
}

#[test]
fn services_are_checked() {
    for (spec, path, part) in [
        ("selector: {app: web}", "spec.ports", "required"),
        ("selector: {app: web}, ports: [{port: 0}]", "spec.ports[0].port", "between 1 and 65535"),
        ("selector: {app: web}, ports: [{port: 1}, {port: 2}]", "spec.ports[0].name", "required"),
        (
            "ports: [{port: 1, name: a}, {port: 2, name: a}], clusterIP: 10.0.0.1",
            "spec.ports[1].name",
            "duplicate",
        ),
        (
            "ports: [{port: 1, name: a}, {port: 1, name: b}], clusterIP: 10.0.0.1",
            "spec.ports[1]",
            "duplicate",
        ),
        (
            "ports: [{port: 1, protocol: SCTP}], clusterIP: 10.0.0.1",
            "spec.ports[0].protocol",
            "TCP and UDP only",
        ),
        ("ports: [{port: 1, targetPort: 70000}], clusterIP: 10.0.0.1", "spec.ports[0].targetPort", "65535"),
        ("ports: [{port: 1, targetPort: A_}], clusterIP: 10.0.0.1", "spec.ports[0].targetPort", "lower case"),
        ("ports: [{port: 1}], clusterIP: here", "spec.clusterIP", "valid IP address"),
        (
            "ports: [{port: 1}], clusterIP: 10.0.0.1, clusterIPs: [10.0.0.2]",
            "spec.clusterIPs[0]",
            "must match",
        ),
        ("ports: [{port: 1}], selector: {'a b': c}", "spec.selector[a b]", "invalid value"),
        ("type: Wrong, ports: [{port: 1}], clusterIP: 10.0.0.1", "spec.type", "unsupported value"),
        ("type: ExternalName", "spec.externalName", "required"),
    ] {
        let errors = refused(&service(spec));
        let start = format!("document 2: {path}: ");
        let is_told = |error: &String| error.starts_with(&start) && error.contains(part);
        assert!(errors.iter().any(is_told), "{spec}\n{path}: {part}\n{errors:#?}");
    }
}

#[test]
fn a_service_leads_to_ports_of_the_pod() {
    let converted = accepted(&service("selector: {app: web}, ports: [{port: 80, targetPort: http}]"));
    let port = &converted.pod.services[0].ports[0];
    assert_eq!((port.port, port.target_port, port.protocol), (80, 8080, Protocol::Tcp));
    assert!(warnings(&converted).is_empty());
    let env = resolved(&converted.pod).unwrap().env;
    assert_eq!(env[0], ("FRONT_SERVICE_HOST".into(), "10.1.0.2".into()));
    assert_eq!(env[1], ("FRONT_SERVICE_PORT".into(), "8080".into()));
    // Given an address, it says what the manifest says.
    let converted = accepted(&service("clusterIP: 10.0.0.9, ports: [{port: 80, targetPort: other}]"));
    let env = resolved(&converted.pod).unwrap().env;
    assert_eq!(env[0].1, "10.0.0.9");
    assert_eq!(env[1].1, "80");
}

#[test]
fn services_without_variables_say_so() {
    for (spec, told) in [
        ("clusterIP: None, selector: {app: web}", None),
        ("type: ExternalName, externalName: example.com", None),
        ("selector: {app: other}, ports: [{port: 80}]", Some("spec.selector: there are no variables")),
        (
            "selector: {app: web}, ports: [{port: 80, targetPort: nobody}]",
            Some("spec.ports[0].targetPort: there are no variables"),
        ),
    ] {
        let converted = accepted(&service(spec));
        assert!(resolved(&converted.pod).unwrap().env.is_empty(), "{spec}");
        let warnings = warnings(&converted);
        assert_eq!(warnings.is_empty(), told.is_none(), "{spec}: {warnings:?}");
        assert!(
            told.is_none_or(|told| warnings[0].starts_with(&format!("document 2: {told}"))),
            "{warnings:?}"
        );
    }
    let outside =
        accepted(&service("type: NodePort, selector: {app: web}, ports: [{port: 80, nodePort: 30080}]"));
    assert_eq!(warnings(&outside).len(), 2);
    let without = service("clusterIP: 10.0.0.9, ports: [{port: 80}]")
        .replace("spec: {containers", "spec: {enableServiceLinks: false, containers");
    assert!(resolved(&accepted(&without).pod).unwrap().env.is_empty());
}
