//! The stages of the manifest together, and the broken manifests of `tests/broken`.

use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;
use crate::spec::{self, Options};

const POD: &str = "
apiVersion: v1
kind: Pod
metadata:
  name: web
spec:
  containers:
  - name: main
    image: ./app.wasm
";

fn errors(text: &str) -> Vec<String> {
    match parse(text.as_bytes()) {
        Ok(_) => Vec::new(),
        Err(invalid) => invalid.errors.iter().map(FieldError::to_string).collect(),
    }
}

/// The broken manifests whose exit code is 2, each with what its error must contain.
fn broken_manifests() -> Vec<(PathBuf, Vec<String>)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/broken");
    let mut cases = Vec::new();
    for entry in std::fs::read_dir(&directory).expect("tests/broken") {
        let path = entry.expect("an entry of tests/broken").path();
        if path.is_dir() || path.extension().is_some_and(|extension| extension == "expected") {
            continue;
        }
        let expected = std::fs::read_to_string(path.with_extension("expected"))
            .unwrap_or_else(|error| panic!("{}: its .expected file: {error}", path.display()));
        let mut lines = expected.lines();
        if lines.next() == Some("exit 2") {
            cases.push((path, lines.map(str::to_owned).collect()));
        }
    }
    cases
}

#[test]
fn broken_manifests_say_what_is_wrong() {
    let cases = broken_manifests();
    assert!(cases.len() >= 30, "only {} cases", cases.len());
    let mut failures = String::new();
    for (path, expected) in cases {
        let text = std::fs::read(&path).unwrap();
        let options = Options { manifest_dir: "/srv".into(), ..Options::default() };
        let message = match spec::load(&text, &options) {
            Ok(_) => "(it was accepted)".to_owned(),
            Err(invalid) => invalid.to_string(),
        };
        for part in expected {
            if !message.contains(&part) {
                failures.push_str(&format!("{}: no {part:?} in:\n{message}\n\n", path.display()));
            }
        }
    }
    assert!(failures.is_empty(), "{failures}");
}

#[test]
fn broken_manifests_have_no_consequential_errors() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/broken");
    let options = Options { manifest_dir: "/srv".into(), ..Options::default() };
    for name in ["misspelt-field", "containers-as-map", "container-as-string", "null-spec", "env-number"] {
        let text = std::fs::read(directory.join(name).with_extension("yaml")).unwrap();
        let invalid = spec::load(&text, &options).unwrap_err();
        assert_eq!(invalid.errors.len(), 1, "{name}: {invalid}");
    }
}

#[test]
fn yaml_and_json_read_the_same() {
    let json = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web"},
        "spec":{"containers":[{"name":"main","image":"./app.wasm"}]}}"#;
    assert_eq!(parse(json.as_bytes()), parse(POD.as_bytes()));
    let tabs = json.replace("\n        ", "\n\t");
    assert_eq!(parse(tabs.as_bytes()), parse(POD.as_bytes()));
    let flow = json.replace('"', "").replace(':', ": ").replace(". /", "./");
    assert_eq!(parse(flow.as_bytes()), parse(POD.as_bytes()));
    let bom = [b"\xef\xbb\xbf", POD.as_bytes()].concat();
    assert_eq!(parse(&bom), parse(POD.as_bytes()));
    let crlf = POD.replace('\n', "\r\n");
    assert_eq!(parse(crlf.as_bytes()), parse(POD.as_bytes()));
}

#[test]
fn json_escapes_and_documents() {
    let text = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web","annotations":{"smile":"\ud83d\ude00"}}}
        {"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"settings"}}"#;
    let manifest = parse(text.as_bytes()).unwrap();
    let annotations = manifest.pod.metadata.annotations.unwrap();
    assert_eq!(annotations["smile"], "\u{1f600}");
    assert_eq!(manifest.config_maps.len(), 1);
    assert_eq!(
        errors(r#"{"apiVersion":"v1","kind":"Pod","kind":"Pod"}"#),
        ["kind: duplicate key; a mapping has each key once"]
    );
}

#[test]
fn objects_may_stand_beside_the_pod() {
    let text = format!(
        "---\n# first\n---{POD}---\napiVersion: v1\nkind: Secret\nmetadata: {{name: s}}\ndata: {{a: aGk=}}\n---\n\
         apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {{name: c}}\n...\n---\n\
         apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: m}}\n"
    );
    let manifest = parse(text.as_bytes()).unwrap();
    assert_eq!(manifest.secrets[0].1.data.as_ref().unwrap()["a"].0, b"hi");
    assert_eq!((manifest.claims.len(), manifest.config_maps.len()), (1, 1));
    assert_eq!(manifest.pod.metadata.name.as_deref(), Some("web"));
}

#[test]
fn merge_keys_are_applied() {
    let text = "
apiVersion: v1
kind: Pod
metadata:
  name: web
  labels: &base {app: web, tier: front}
  annotations:
    <<: [{tier: back, a: '1'}, *base]
    a: '2'
";
    let annotations = parse(text.as_bytes()).unwrap().pod.metadata.annotations.unwrap();
    let pairs: Vec<_> = annotations.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(pairs, [("a", "2"), ("app", "web"), ("tier", "back")]);
    let scalar = "apiVersion: v1\nkind: Pod\nmetadata:\n  <<: 3\n";
    assert!(
        errors(scalar)[0].starts_with("metadata: the merge key << takes a mapping"),
        "{:?}",
        errors(scalar)
    );
}

#[test]
fn scalar_keys_are_strings() {
    let text = "apiVersion: v1\nkind: Pod\nmetadata:\n  labels:\n    1: one\n    true: yes\n";
    let labels = parse(text.as_bytes()).unwrap().pod.metadata.labels.unwrap();
    assert_eq!(labels["1"], "one");
    assert_eq!(labels["true"], "yes");
    assert!(
        errors("apiVersion: v1\nkind: Pod\nmetadata:\n  labels:\n    [a]: b\n")[0]
            .contains("a string as key")
    );
}

#[test]
fn all_type_errors_and_unknown_fields_come_together() {
    let text = "
apiVersion: v1
kind: Pod
metadata: {name: 7, lables: {}}
spec:
  hostNetwork: 1
  terminationGracePeriodSeconds: 99999999999999999999
  containers:
  - {name: a, args: [1, two, 3.5, null], tty: 'yes', readOnly: true}
  - {name: b, resources: {limits: {memory: [1]}}, ports: [{containerPort: 5000000000}]}
";
    let found = errors(text);
    for expected in [
        "metadata.name: expected a string, found the number 7; quote it: \"7\"",
        "spec.hostNetwork: expected a boolean (true or false), found the number 1",
        "spec.terminationGracePeriodSeconds: 99999999999999999999 does not fit in 64 bits",
        "spec.containers[0].args[0]: expected a string, found the number 1; quote it: \"1\"",
        "spec.containers[0].args[2]: expected a string, found the number 3.5; quote it: \"3.5\"",
        "spec.containers[0].args[3]: expected a string, found nothing (null)",
        "spec.containers[0].tty: expected a boolean, found the string \"yes\"; write true or false without quotes",
        "spec.containers[1].resources.limits.memory: expected a quantity such as 500m or 64Mi, found a list",
        "spec.containers[1].ports[0].containerPort: 5000000000 does not fit in 32 bits",
        "metadata.lables: unknown field, did you mean labels?",
        "spec.containers[0].readOnly: unknown field",
    ] {
        assert!(found.contains(&expected.to_owned()), "{expected}\nnot in {found:#?}");
    }
    assert_eq!(found.len(), 11, "{found:#?}");
}

#[test]
fn faults_inside_of_values_have_their_path() {
    let time = "apiVersion: v1\nkind: Pod\nmetadata:\n  creationTimestamp: yesterday\n";
    assert!(errors(time)[0].starts_with("metadata.creationTimestamp: "), "{:?}", errors(time));
    let secret = format!("{POD}---\napiVersion: v1\nkind: Secret\ndata: {{key: '%'}}\n");
    let encode = "document 2: data.key: not base64 (Invalid symbol 37, offset 0): encode it, or write it as it is under";
    assert_eq!(errors(&secret), [format!("{encode} stringData")]);
}

#[test]
fn status_and_server_fields_are_no_matter() {
    let text = format!("{POD}status:\n  phase: [what, ever]\n  nonsense: 1\n");
    assert_eq!(parse(text.as_bytes()), parse(POD.as_bytes()));
}

#[test]
fn very_many_errors_are_cut_off() {
    let env: String = (0..5000).map(|i| format!("    - {{name: A{i}, value: {i}, valeu: 1}}\n")).collect();
    let found = errors(&format!("{POD}    env:\n{env}"));
    assert!((50..=200).contains(&found.len()), "{}", found.len());
    assert!(found.iter().any(|error| error.contains("more type errors may follow")));
}

#[test]
fn broken_json_is_reported_as_json() {
    for (text, expected) in [
        ("\u{feff} {\"kind\": \"Pod\",\n \"a\": [}", "not valid JSON: expected value at line 2 column 8"),
        ("{} {\"a\": \n\n]", "document 2: not valid JSON: expected value at line 3 column 1"),
        ("{}\n{} x]", "document 3: not valid JSON: expected value at line 2 column 4"),
        ("{kind: Pod, a: [}", "not valid YAML: "),
    ] {
        let found = errors(text);
        assert!(found[0].starts_with(expected), "{found:?}");
    }
    // A comma at the end is YAML's to allow; as is a key without quotes.
    let flow =
        "{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: [{name: b, image: ./c,}],},}";
    assert_eq!(errors(flow), Vec::<String>::new());
}

#[test]
fn too_large_is_refused() {
    let text = vec![b'#'; MAX_MANIFEST_BYTES + 1];
    assert!(parse(&text).unwrap_err().to_string().contains("too many for a manifest"));
}

#[test]
fn aliases_cannot_fill_the_memory() {
    // Each alias repeats a long list, or a long string: quadratic, where the bomb of the files is exponential.
    let list = format!("a: &a [{}]\nb: [{}]\n", "x,".repeat(10_000), "*a,".repeat(10_000));
    assert!(errors(&list)[0].contains("aliases"), "{:?}", errors(&list));
    let string = format!("a: &a {}\nb: [{}]\n", "x".repeat(1 << 20), "*a,".repeat(1000));
    assert!(errors(&string)[0].contains("aliases"), "{:?}", errors(&string));
}

#[test]
fn deep_nesting_is_refused_before_it_costs_anything() {
    for text in ["[".repeat(1 << 20), "{a: ".repeat(1 << 19), "{\"a\":".repeat(1 << 19)] {
        assert!(errors(&text)[0].starts_with("nested too deeply"), "{:?}", errors(&text));
    }
    let script =
        format!("{POD}---\napiVersion: v1\nkind: ConfigMap\ndata:\n  text: '{}'\n", "[".repeat(5000));
    assert_eq!(errors(&script), Vec::<String>::new());
}

/// As YAML 1.1 has it, which Kubernetes reads.
#[test]
fn permissions_are_octal() {
    for (mode, value) in [("0400", 256), ("0644", 420), ("00", 0), ("0o644", 420), ("420", 420)] {
        let spec = format!("spec:\n  volumes: [{{name: v, configMap: {{name: c, defaultMode: {mode}}}}}]\n");
        let text = format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\n{spec}");
        let reading = read(text.as_bytes());
        assert_eq!(reading.errors, []);
        let spec = reading.manifest.unwrap().pod.spec.unwrap();
        let found = spec.volumes.unwrap()[0].config_map.as_ref().unwrap().default_mode;
        assert_eq!(found, Some(value), "{mode}");
    }
}

#[test]
fn documents_are_bounded() {
    for text in ["--- a\n".repeat(2000), "{}".repeat(2000)] {
        assert!(errors(&text).contains(&"more than 1000 documents".to_owned()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(&bytes);
    }

    #[test]
    fn arbitrary_yaml_never_panics(text in "([-:?,\\[\\]{}#&*!|>'\"%@`a-c1 \n\t<~])*") {
        let _ = read(text.as_bytes());
    }

    /// One byte of a manifest replaced by another, or a piece cut out.
    #[test]
    fn damaged_manifests_never_panic(position in 0usize..1000, byte: u8, cut in 0usize..40) {
        let options = Options { manifest_dir: "/srv".into(), ..Options::default() };
        let text = include_bytes!("../../tests/broken/several-errors.yaml");
        let mut text = text.to_vec();
        let position = position % text.len();
        text[position] = byte;
        let _ = spec::load(&text, &options);
        text.drain(position..(position + cut).min(text.len()));
        let _ = spec::load(&text, &options);
    }
}
