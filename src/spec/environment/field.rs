//! What a `fieldRef` stands for (`podFieldSelectorRuntimeValue` in `pkg/kubelet/kubelet_pods.go` and
//! `ExtractFieldPathAsString` in `pkg/fieldpath/fieldpath.go`).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;

use super::{Field, Surroundings};
use crate::spec::Pod;

/// The text of `field`. A label or an annotation that the pod does not have is empty, as in Kubernetes. `None`: the
/// pod, or the host, has no address.
pub fn field_text(field: &Field, pod: &Pod, around: &Surroundings) -> Option<String> {
    let value = |map: &BTreeMap<String, String>, key: &str| map.get(key).cloned().unwrap_or_default();
    Some(match field {
        Field::Name => pod.name.clone(),
        Field::Namespace => pod.namespace.clone(),
        Field::Uid => pod.uid.clone(),
        Field::Labels => map_text(&pod.labels),
        Field::Annotations => map_text(&pod.annotations),
        Field::Label(key) => value(&pod.labels, key),
        Field::Annotation(key) => value(&pod.annotations, key),
        Field::NodeName => around.node_name.clone(),
        Field::ServiceAccountName => pod.service_account.clone(),
        Field::HostIp => return around.host_ips.first().map(IpAddr::to_string),
        Field::HostIps => return list(&around.host_ips),
        Field::PodIp => return around.pod_ips.first().map(IpAddr::to_string),
        Field::PodIps => return list(&around.pod_ips),
    })
}

fn list(addresses: &[IpAddr]) -> Option<String> {
    let texts: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
    (!texts.is_empty()).then(|| texts.join(","))
}

/// One `key="value"` to a line, by key (`FormatMap` in `pkg/fieldpath/fieldpath.go`).
fn map_text(map: &BTreeMap<String, String>) -> String {
    let lines: Vec<String> = map.iter().map(|(key, value)| format!("{key}={}", quoted(value))).collect();
    lines.join("\n")
}

/// As Go's `strconv.Quote` writes a string.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{c}' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{b}' => quoted.push_str("\\v"),
            c if is_printable(c) => quoted.push(c),
            // A `String` takes whatever is written to it.
            c if c.is_ascii() => drop(write!(quoted, "\\x{:02x}", u32::from(c))),
            c if u32::from(c) <= 0xffff => drop(write!(quoted, "\\u{:04x}", u32::from(c))),
            c => drop(write!(quoted, "\\U{:08x}", u32::from(c))),
        }
    }
    quoted.push('"');
    quoted
}

/// As Go's `unicode.IsPrint`: marks too, of spaces the ASCII one only.
fn is_printable(c: char) -> bool {
    if c.is_ascii() {
        return (' '..='~').contains(&c);
    }
    // A mark is escaped where nothing stands before it that it could belong to.
    let mut buffer = ['x', c].iter().collect::<String>();
    buffer = buffer.escape_debug().collect();
    buffer.chars().nth(1) == Some(c)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Role;
    use crate::testing::spec as testing;

    fn pod() -> Pod {
        let mut pod = testing::pod([testing::container("web", Role::Main)]);
        pod.labels = [("app", "x"), ("a.b/tier", "front")].map(|(k, v)| (k.into(), v.into())).into();
        pod.annotations = [("note", "two\nlines \"quoted\" \\ \u{7f}é\u{301}\u{a0}"), ("a", "")]
            .map(|(k, v)| (k.into(), v.into()))
            .into();
        pod.service_account = "robot".into();
        pod
    }

    fn around() -> Surroundings {
        Surroundings {
            pod_ips: vec!["10.1.0.2".parse().unwrap(), "fd00::2".parse().unwrap()],
            host_ips: vec!["192.0.2.1".parse().unwrap()],
            node_name: "node-1".into(),
            ..Surroundings::default()
        }
    }

    #[test]
    fn every_field_has_its_text() {
        let (pod, around) = (pod(), around());
        for (field, text) in [
            (Field::Name, "p"),
            (Field::Namespace, "default"),
            (Field::Uid, "uid-1"),
            (Field::Labels, "a.b/tier=\"front\"\napp=\"x\""),
            (
                Field::Annotations,
                "a=\"\"\nnote=\"two\\nlines \\\"quoted\\\" \\\\ \\x7f\u{e9}\u{301}\\u00a0\"",
            ),
            (Field::Label("app".into()), "x"),
            (Field::Label("none".into()), ""),
            (Field::Annotation("a".into()), ""),
            (Field::NodeName, "node-1"),
            (Field::ServiceAccountName, "robot"),
            (Field::HostIp, "192.0.2.1"),
            (Field::HostIps, "192.0.2.1"),
            (Field::PodIp, "10.1.0.2"),
            (Field::PodIps, "10.1.0.2,fd00::2"),
        ] {
            assert_eq!(field_text(&field, &pod, &around).as_deref(), Some(text), "{field:?}");
        }
    }

    #[test]
    fn a_pod_without_an_address_has_none() {
        for field in [Field::PodIp, Field::PodIps, Field::HostIp, Field::HostIps] {
            assert_eq!(field_text(&field, &pod(), &Surroundings::default()), None);
        }
    }

    #[test]
    fn text_is_quoted_as_go_does() {
        assert_eq!(quoted("\u{7}\u{8}\u{c}\r\t\u{b}\u{1}"), r#""\a\b\f\r\t\v\x01""#);
        assert_eq!(quoted("\u{feff}\u{e0001}'日本"), r#""\ufeff\U000e0001'日本""#);
    }
}
