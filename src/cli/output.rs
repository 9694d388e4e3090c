//! `-o`: the final Pod on standard output.
//!
//! ```text
//! Pod ─► serde_json::Value ─► JSON, or YAML in block style as kubectl prints it
//! ```
//!
//! Readers of YAML 1.1 (kubectl, PyYAML) take `on`, `12:30:45` or `1_000` for something else than a string.
//! So a string is written plain only where every version of YAML agrees that it is one; all others are
//! double-quoted, on one line.

use std::fmt::Write as _;
use std::io::Write as _;

use anyhow::Context;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use serde_json::Value;

use crate::container::words::may_deceive;

/// How `-o` prints.
#[derive(Clone, Copy, clap::ValueEnum)]
pub enum Format {
    Yaml,
    Json,
}

/// Prints `pod` with `status` on standard output.
pub fn print(mut pod: Pod, status: Option<PodStatus>, format: Format) -> anyhow::Result<()> {
    pod.status = status;
    let value = serde_json::to_value(&pod)?;
    let mut text = match format {
        Format::Yaml => yaml(&value),
        Format::Json => serde_json::to_string_pretty(&value)?,
    };
    text.push('\n');
    std::io::stdout().write_all(text.as_bytes()).context("cannot write to standard output")
}

/// YAML in block style, without a last line break.
pub fn yaml(value: &Value) -> String {
    let mut out = String::new();
    block(&mut out, value, 0);
    out
}

/// Writes `value` from where `out` ends; its further lines begin at column `indent`.
fn block(out: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (position, (key, value)) in map.iter().enumerate() {
                if position > 0 {
                    line(out, indent);
                }
                string(out, key);
                out.push(':');
                let inner = match value {
                    Value::Object(map) if !map.is_empty() => indent + 2,
                    // As kubectl: the dashes stand below the key.
                    Value::Array(items) if !items.is_empty() => indent,
                    scalar => {
                        out.push(' ');
                        block(out, scalar, indent);
                        continue;
                    }
                };
                line(out, inner);
                block(out, value, inner);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (position, item) in items.iter().enumerate() {
                if position > 0 {
                    line(out, indent);
                }
                out.push_str("- ");
                block(out, item, indent + 2);
            }
        }
        Value::String(text) => string(out, text),
        // null, true, 1, [] and {} are written as in JSON.
        other => out.push_str(&other.to_string()),
    }
}

fn line(out: &mut String, indent: usize) {
    out.push('\n');
    out.extend(std::iter::repeat_n(' ', indent));
}

fn string(out: &mut String, text: &str) {
    if is_plain(text) {
        out.push_str(text);
        return;
    }
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            // What YAML does not allow raw, or takes for the end of a line (YAML 1.1, 4.1 and 4.2).
            c if may_deceive(c)
                || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}') =>
            {
                // Writing to a string cannot fail.
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// The words that some version of YAML reads as a boolean, null or a number, in lower case
/// (<https://yaml.org/type/bool.html>, <https://yaml.org/type/null.html>).
const WORDS: [&str; 12] = ["y", "n", "yes", "no", "true", "false", "on", "off", "null", "nan", "inf", "nil"];

/// Whether every reader of YAML takes `text`, unquoted, for this very string: a word or a path. Numbers and dates
/// begin with other characters.
fn is_plain(text: &str) -> bool {
    let begins = text.starts_with(|c: char| c.is_ascii_alphabetic())
        || ["/", "./", "../"].iter().any(|prefix| text.starts_with(prefix));
    begins
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-".contains(&b))
        && !WORDS.iter().any(|word| word.eq_ignore_ascii_case(text))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_yaml_1_1_would_not_take_for_a_string_is_quoted() {
        for text in [
            "yes",
            "on",
            "n",
            "NO",
            "True",
            "null",
            "~",
            "",
            "12:30:45",
            "1_000",
            "2026-01-01",
            "=",
            "<<",
            "0x1F",
            "2026-01-01T00:00:00Z",
            ".5",
            ".inf",
            "-",
            "- a",
            "a: b",
            "a #b",
            "8080",
            "1e3",
            "+1",
            "!tag",
            "*a",
            " a",
            "a ",
            "%",
            "@a",
            "`a",
            "?",
            "a\nb",
        ] {
            assert!(yaml(&json!(text)).starts_with('"'), "{text}");
            assert!(yaml(&json!({text: 1})).starts_with('"'), "{text}");
        }
        for text in ["main", "./app.wasm", "../a/b.wasm", "/data", "node", "kube-root-ca.crt", "v1"] {
            assert_eq!(yaml(&json!(text)), text);
        }
    }

    #[test]
    fn it_looks_as_kubectl_has_it() {
        let pod = json!({
            "kind": "Pod",
            "metadata": {"annotations": {}, "labels": {"app.kubernetes.io/name": "web"}},
            "spec": {"containers": [{"args": ["on", ["x"]], "name": "main"}, {"name": "b", "ports": []}]},
        });
        let expected = "\
kind: Pod
metadata:
  annotations: {}
  labels:
    app.kubernetes.io/name: web
spec:
  containers:
  - args:
    - \"on\"
    - - x
    name: main
  - name: b
    ports: []";
        assert_eq!(yaml(&pod), expected);
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<String>().prop_map(Value::from),
            "[-:#,\\[\\]{}&*!|>'\"%@`a-c0-2 \n\t<~=._\u{85}\u{2028}]*".prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<bool>().prop_map(Value::from),
            Just(Value::Null),
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            let key =
                prop_oneof!["[a-z]{1,5}", "[-:?#a1 <=~]{0,5}".prop_filter("a merge", |key| key != "<<")];
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                proptest::collection::btree_map(key, inner, 0..5)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(value in value()) {
            let text = yaml(&value);
            let read: Value = serde_yaml::from_str(&text).map_err(|error| TestCaseError::fail(format!("{error}\n{text}")))?;
            prop_assert_eq!(read, value, "{}", text);
        }
    }
}
