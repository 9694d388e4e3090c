//! From bytes to document trees.
//!
//! ```text
//! bytes ─► size, UTF-8 ─► JSON when it is JSON, else YAML ─► one Node per non-empty document
//! ```

use std::collections::HashMap;

use super::error::FieldError;
use super::node::{Builder, Node};

/// The largest manifest, bytes. The Kubernetes API server takes requests up to 3 MiB, etcd objects up to
/// 1.5 MiB; what is larger is another file by mistake.
pub const MAX_MANIFEST_BYTES: usize = 3 << 20;

/// Documents of one manifest.
const MAX_DOCUMENTS: usize = 1000;

/// Brackets and braces open at once anywhere in the text. The parser's time and memory grow with the
/// square of their nesting before it reports it as too deep; real manifests nest a few dozen, and text
/// inside of a ConfigMap is allowed its share of unbalanced ones.
const MAX_OPEN_BRACKETS: usize = 10_000;

/// One document with something in it.
pub(super) struct Document {
    /// Its place in the file, counted from 1 over all documents, empty ones too.
    pub(super) number: usize,
    pub(super) root: Node,
}

/// What is in a file: its documents, and what is wrong with their syntax.
#[derive(Default)]
pub(super) struct Split {
    pub(super) documents: Vec<Document>,
    pub(super) errors: Vec<FieldError>,
    /// Whether the file has more than one document, so that errors should name theirs.
    pub(super) several: bool,
}

impl Split {
    fn failed(message: impl Into<String>) -> Self {
        Self { errors: vec![FieldError::new("", message)], ..Self::default() }
    }

    fn too_many(&mut self) {
        self.errors.push(FieldError::new("", format!("more than {MAX_DOCUMENTS} documents")));
    }

    /// Adds document `number`. False: its syntax is broken and nothing after it can be read.
    fn add<E>(
        &mut self,
        number: usize,
        read: (Result<Node, E>, Vec<FieldError>),
        explain: impl FnOnce(E) -> String,
    ) -> bool {
        let (node, problems) = read;
        self.several |= number > 1;
        self.errors.extend(problems.into_iter().map(|problem| in_document(problem, number)));
        match node {
            Ok(Node::Null) => true,
            Ok(root) => {
                self.documents.push(Document { number, root });
                true
            }
            Err(error) => {
                self.errors.push(in_document(FieldError::new("", explain(error)), number));
                false
            }
        }
    }
}

/// Names the document in `error`'s path, except for the first one.
pub(super) fn in_document(mut error: FieldError, number: usize) -> FieldError {
    if number > 1 {
        error.path = match error.path.as_str() {
            "" => format!("document {number}"),
            path => format!("document {number}: {path}"),
        };
    }
    error
}

/// Reads `bytes` into documents.
pub(super) fn split(bytes: &[u8]) -> Split {
    let text = match text(bytes) {
        Ok(text) => text,
        Err(message) => return Split::failed(message),
    };
    if !text.trim_start().starts_with('{') {
        return split_yaml(text).0;
    }
    // Only JSON has surrogate escapes and keeps its own number syntax, so JSON that parses is read as
    // JSON; a flow mapping of YAML begins with the same brace.
    match split_json(text) {
        Ok(split) => split,
        Err(fault) => match split_yaml(text) {
            (split, true) => split,
            (split, false) if begins_as_yaml(text) => split,
            (_, false) => Split { errors: vec![fault], ..Split::default() },
        },
    }
}

/// Whether the first key after the brace has no quotes, as only YAML has it.
fn begins_as_yaml(text: &str) -> bool {
    let inside = text.trim_start().trim_start_matches('{').trim_start();
    inside.starts_with(|c: char| c.is_alphanumeric())
}

fn text(bytes: &[u8]) -> Result<&str, String> {
    if bytes.len() > MAX_MANIFEST_BYTES {
        return Err(format!(
            "more than {} MiB, too many for a manifest; is this another file?",
            MAX_MANIFEST_BYTES >> 20
        ));
    }
    if bytes.starts_with(b"\0asm") {
        return Err(
            "this is a WebAssembly file, not a manifest; name it as `image:` of a container".to_owned()
        );
    }
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err("this is UTF-16 text or a binary file; save the manifest as UTF-8".to_owned());
    }
    if bytes.contains(&0) {
        return Err("this is a binary file, not a manifest: it holds NUL bytes".to_owned());
    }
    if open_brackets(bytes) > MAX_OPEN_BRACKETS {
        return Err(format!("nested too deeply: more than {MAX_OPEN_BRACKETS} brackets are open at once"));
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    std::str::from_utf8(bytes).map_err(|error| {
        let before = &bytes[..error.valid_up_to()];
        let line = before.iter().filter(|b| **b == b'\n').count() + 1;
        let column = before.iter().rev().take_while(|b| **b != b'\n').count() + 1;
        format!(
            "not UTF-8: byte 0x{:02x} at line {line} column {column}; save the manifest as UTF-8",
            bytes[error.valid_up_to()]
        )
    })
}

/// The most `[` and `{` that are open at once, taking every one for syntax.
fn open_brackets(bytes: &[u8]) -> usize {
    let (mut open, mut most) = (0usize, 0);
    for byte in bytes {
        match byte {
            b'[' | b'{' => open += 1,
            b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        most = most.max(open);
    }
    most
}

/// The documents of JSON, or where it is none.
fn split_json(text: &str) -> Result<Split, FieldError> {
    let mut split = Split::default();
    let mut rest = text;
    let mut number = 0;
    while !rest.trim_start().is_empty() {
        if number == MAX_DOCUMENTS {
            split.too_many();
            break;
        }
        number += 1;
        let mut stream = serde_json::Deserializer::from_str(rest);
        let read = Builder::build(&mut stream);
        if let Err(error) = &read.0 {
            let before = &text[..text.len() - rest.len()];
            return Err(in_document(FieldError::new("", json_fault(before, error)), number));
        }
        split.add(number, read, |error: serde_json::Error| error.to_string());
        rest = json_end(rest, stream).and_then(|end| rest.get(end..)).unwrap_or_default();
    }
    Ok(split)
}

/// `error` of the document that follows after `before`, with its place in the whole text.
fn json_fault(before: &str, error: &serde_json::Error) -> String {
    let message = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    let Some(message) = message.strip_suffix(&place) else { return format!("not valid JSON: {message}") };
    let line = before.bytes().filter(|byte| *byte == b'\n').count() + error.line();
    let column = match error.line() {
        1 => before.len() - before.rfind('\n').map_or(0, |end| end + 1) + error.column(),
        _ => error.column(),
    };
    format!("not valid JSON: {message} at line {line} column {column}")
}

/// Whether `text` is one JSON object and nothing else.
pub fn is_json_object(text: &[u8]) -> bool {
    serde_json::from_slice::<HashMap<String, serde::de::IgnoredAny>>(text).is_ok()
}

/// Where the value that `stream` has just read from `text` ends.
fn json_end(text: &str, stream: serde_json::Deserializer<serde_json::de::StrRead<'_>>) -> Option<usize> {
    let mut following = stream.into_iter::<serde::de::IgnoredAny>();
    let offset = following.byte_offset();
    // At the end only white space follows; anything else begins the next value.
    match following.next() {
        None => Some(text.len()),
        Some(_) => Some(offset),
    }
}

/// The documents of YAML, and whether its syntax is good to the end.
fn split_yaml(text: &str) -> (Split, bool) {
    let mut split = Split::default();
    for (index, document) in serde_yaml::Deserializer::from_str(text).enumerate() {
        if index == MAX_DOCUMENTS {
            split.too_many();
            break;
        }
        // The parser cannot find its way after a fault and would report it for ever.
        if !split.add(index + 1, Builder::build(document), |error| yaml_fault(text, &error)) {
            return (split, false);
        }
    }
    (split, true)
}

fn yaml_fault(text: &str, error: &serde_yaml::Error) -> String {
    let mut message = error.to_string();
    if message.contains("repetition limit exceeded") {
        return "its aliases (*name) expand to too much; write the values out".to_owned();
    }
    if message.contains("recursion limit exceeded") {
        message = message.replace("recursion limit exceeded", "nested too deeply");
    }
    let Some(location) = error.location() else { return format!("not valid YAML: {message}") };
    if !message.contains(" line ") {
        message.push_str(&format!(" at line {} column {}", location.line(), location.column()));
    }
    let line = text.lines().nth(location.line().saturating_sub(1)).unwrap_or_default();
    if line.chars().take_while(|c| c.is_whitespace()).any(|c| c == '\t') {
        message.push_str("; YAML indents with spaces, this line with a tab");
    }
    format!("not valid YAML: {message}")
}
