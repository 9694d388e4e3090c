//! What files of a downward API volume hold (`pkg/fieldpath/fieldpath.go`, `pkg/api/v1/resource/helpers.go`).

use std::collections::BTreeMap;

use crate::spec::Pod;
use crate::spec::environment::{Allocatable, Field, ResourceField, ResourceName};

/// The text of a field; empty for a label or annotation that is not there.
pub(super) fn field_text(field: &Field, pod: &Pod) -> String {
    let value = |map: &BTreeMap<String, String>, key| map.get(key).cloned().unwrap_or_default();
    match field {
        Field::Name => pod.name.clone(),
        Field::Namespace => pod.namespace.clone(),
        Field::Uid => pod.uid.clone(),
        Field::Labels => lines(&pod.labels),
        Field::Annotations => lines(&pod.annotations),
        Field::Label(key) => value(&pod.labels, key),
        Field::Annotation(key) => value(&pod.annotations, key),
        // Not in volumes: the conversion refuses them.
        Field::NodeName
        | Field::ServiceAccountName
        | Field::HostIp
        | Field::HostIps
        | Field::PodIp
        | Field::PodIps => String::new(),
    }
}

/// The number of a resource, rounded up to units of the divisor; `None` when there is no such container.
pub(super) fn resource_text(field: &ResourceField, pod: &Pod, node: &Allocatable) -> Option<String> {
    let own = &pod.container(field.container.as_deref()?)?.resources;
    // A limit of 0 is none.
    let limit = |limit: Option<u64>, all: u64| limit.filter(|limit| *limit > 0).unwrap_or(all);
    let value = match field.resource {
        ResourceName::LimitsCpu => limit(own.cpu_limit_millis, node.cpu_millis),
        ResourceName::LimitsMemory => limit(own.memory_limit_bytes, node.memory_bytes),
        ResourceName::LimitsEphemeralStorage => limit(own.storage_limit_bytes, node.storage_bytes),
        ResourceName::RequestsCpu => own.cpu_request_millis.unwrap_or_default(),
        ResourceName::RequestsMemory => own.memory_request_bytes.unwrap_or_default(),
        ResourceName::RequestsEphemeralStorage => own.storage_request_bytes.unwrap_or_default(),
    };
    Some(value.div_ceil(field.divisor.max(1)).to_string())
}

/// A line `key="value"` for each, without a newline at the end (`FormatMap`).
fn lines(map: &BTreeMap<String, String>) -> String {
    let lines: Vec<String> = map.iter().map(|(key, value)| format!("{key}={}", quoted(value))).collect();
    lines.join("\n")
}

/// As Go's `%q` (`strconv.Quote`).
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted += "\\\"",
            '\\' => quoted += "\\\\",
            '\x07' => quoted += "\\a",
            '\x08' => quoted += "\\b",
            '\x0c' => quoted += "\\f",
            '\n' => quoted += "\\n",
            '\r' => quoted += "\\r",
            '\t' => quoted += "\\t",
            '\x0b' => quoted += "\\v",
            c if c < ' ' || c == '\x7f' => quoted += &format!("\\x{:02x}", u32::from(c)),
            c if is_printable(c) => quoted.push(c),
            c if u32::from(c) < 0x1_0000 => quoted += &format!("\\u{:04x}", u32::from(c)),
            c => quoted += &format!("\\U{:08x}", u32::from(c)),
        }
    }
    quoted.push('"');
    quoted
}

/// Whether it is a letter, mark, number, punctuation, symbol or the space, as both Go and Rust mean it.
fn is_printable(c: char) -> bool {
    // After another one: at the start a mark would be escaped.
    let text = format!("a{c}");
    c == '\'' || text.escape_debug().eq(text.chars())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Role;
    use crate::testing::spec as testing;

    #[test]
    fn maps_are_lines_as_go_prints_them() {
        for (value, text) in [
            ("", r#""""#),
            ("plain", r#""plain""#),
            ("it's \"so\"\\", r#""it's \"so\"\\""#),
            ("a\nb\r\tc\x07\x08\x0b\x0c", r#""a\nb\r\tc\a\b\v\f""#),
            ("\0\x1b\x7f", r#""\x00\x1b\x7f""#),
            ("€ é ✓ 😀 e\u{301}", "\"€ é ✓ 😀 e\u{301}\""),
            ("\u{a0}\u{ad}\u{200b}\u{feff}", r#""\u00a0\u00ad\u200b\ufeff""#),
            ("\u{e0001}", r#""\U000e0001""#),
        ] {
            assert_eq!(quoted(value), text);
        }
        let mut pod = testing::pod([testing::container("web", Role::Main)]);
        pod.annotations = [("b/x".into(), "2\n".into()), ("a".into(), "1".into())].into();
        assert_eq!(field_text(&Field::Annotations, &pod), "a=\"1\"\nb/x=\"2\\n\"");
        assert_eq!(field_text(&Field::Labels, &pod), "");
        assert_eq!(field_text(&Field::Annotation("b/x".into()), &pod), "2\n");
        assert_eq!(field_text(&Field::Annotation("no".into()), &pod), "");
    }

    #[test]
    fn resources_are_rounded_up_and_limits_are_the_nodes() {
        let mut pod = testing::pod([testing::container("web", Role::Main)]);
        pod.containers[0].resources.cpu_limit_millis = Some(1500);
        pod.containers[0].resources.memory_request_bytes = Some((64 << 20) + 1);
        let node = Allocatable { cpu_millis: 8000, memory_bytes: 1 << 30, storage_bytes: 5 };
        let text = |container: &str, resource, divisor| {
            let field = ResourceField { container: Some(container.into()), resource, divisor };
            resource_text(&field, &pod, &node)
        };
        assert_eq!(text("web", ResourceName::LimitsCpu, 1000).unwrap(), "2");
        assert_eq!(text("web", ResourceName::LimitsCpu, 1).unwrap(), "1500");
        assert_eq!(text("web", ResourceName::RequestsCpu, 1).unwrap(), "0");
        assert_eq!(text("web", ResourceName::RequestsMemory, 1 << 20).unwrap(), "65");
        assert_eq!(text("web", ResourceName::LimitsMemory, 1 << 20).unwrap(), "1024");
        assert_eq!(text("web", ResourceName::LimitsEphemeralStorage, 1).unwrap(), "5");
        assert_eq!(text("no", ResourceName::LimitsCpu, 1), None);
    }
}
