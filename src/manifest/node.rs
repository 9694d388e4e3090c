//! The tree of one document, before it has a type.
//!
//! Built straight from the YAML or JSON parser so that every duplicate key and tag is reported with
//! its path, and so that aliases cannot expand without bound:
//!
//! ```text
//! parser events ─► Builder (budget, duplicates, merge keys) ─► Node
//! ```

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, VariantAccess, Visitor,
};

use super::error::FieldError;
use super::path::{FieldPath, Step};

/// Nodes of one document with its aliases expanded. A 4 MiB manifest of real fields has a tenth of it.
const MAX_NODES: usize = 1 << 20;
/// Bytes of all strings and keys of one document with its aliases expanded: twice the largest manifest.
const MAX_STRING_BYTES: usize = 8 << 20;

/// A value of YAML or JSON.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    Null,
    Bool(bool),
    Integer(i128),
    Float(f64),
    String(String),
    List(Vec<Node>),
    /// In the document's order; keys are unique.
    Map(Vec<(String, Node)>),
    /// Was reported as an error and is skipped from now on; list indexes still count it.
    Removed,
}

impl Node {
    /// The value of `key`, of a mapping.
    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        match self {
            Node::Map(entries) => entries.iter().find(|(k, _)| k == key).map(|(_, v)| v),
            _ => None,
        }
    }

    /// The value of `key`, of a mapping, to change it.
    pub(super) fn get_mut(&mut self, key: &str) -> Option<&mut Node> {
        match self {
            Node::Map(entries) => entries.iter_mut().find(|(k, _)| k == key).map(|(_, v)| v),
            _ => None,
        }
    }

    /// Takes `key` out of a mapping.
    pub(super) fn take(&mut self, key: &str) {
        if let Node::Map(entries) = self {
            entries.retain(|(k, _)| k != key);
        }
    }

    /// Puts [`Node::Removed`] at `path`. False: there is nothing.
    pub(super) fn remove(&mut self, path: &FieldPath) -> bool {
        let mut node = self;
        for step in path.steps() {
            let next = match (node, step) {
                (Node::Map(entries), Step::Key(key)) => {
                    entries.iter_mut().find(|(k, _)| k == key).map(|(_, v)| v)
                }
                (Node::List(items), Step::Index(index)) => items.get_mut(*index),
                _ => None,
            };
            match next {
                Some(next) => node = next,
                None => return false,
            }
        }
        if matches!(node, Node::Removed) {
            return false;
        }
        *node = Node::Removed;
        true
    }

    /// What a reader of the manifest would call it.
    pub(super) fn describe(&self) -> String {
        match self {
            Node::Null | Node::Removed => "nothing (null)".to_owned(),
            Node::Bool(value) => format!("the boolean {value}"),
            Node::Integer(value) => format!("the number {value}"),
            Node::Float(value) => format!("the number {value}"),
            Node::String(value) => {
                const SHOWN_CHARS: usize = 40;
                let shown: String = value.chars().take(SHOWN_CHARS).collect();
                let cut = if shown.len() < value.len() { "…" } else { "" };
                format!("the string \"{}{cut}\"", shown.escape_debug())
            }
            Node::List(_) => "a list".to_owned(),
            Node::Map(_) => "a mapping".to_owned(),
        }
    }
}

/// Builds the [`Node`] of one document and collects what is wrong with it on the way.
#[derive(Default)]
pub(super) struct Builder {
    path: RefCell<FieldPath>,
    problems: RefCell<Vec<FieldError>>,
    nodes: Cell<usize>,
    string_bytes: Cell<usize>,
}

impl Builder {
    /// Reads one document. The outer error is the parser's: there is no tree. The list holds duplicate
    /// keys, tags and bad merges: there is a tree without them.
    pub(super) fn build<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> (Result<Node, D::Error>, Vec<FieldError>) {
        let builder = Builder::default();
        let node = (&builder).deserialize(deserializer);
        (node, builder.problems.into_inner())
    }

    fn problem(&self, message: impl Into<String>) {
        // One per node at most, and nodes are bounded; a reader needs the first few.
        const MAX_PROBLEMS: usize = 100;
        let mut problems = self.problems.borrow_mut();
        if problems.len() < MAX_PROBLEMS {
            problems.push(FieldError::new(self.path.borrow(), message));
        }
    }

    fn count_node<E: Error>(&self) -> Result<(), E> {
        self.nodes.set(self.nodes.get() + 1);
        if self.nodes.get() > MAX_NODES {
            return Err(E::custom(format_args!(
                "more than {MAX_NODES} values with aliases (*name) expanded; a Pod needs no more than a few thousand"
            )));
        }
        Ok(())
    }

    fn count_string<E: Error>(&self, text: &str) -> Result<(), E> {
        self.string_bytes.set(self.string_bytes.get() + text.len());
        if self.string_bytes.get() > MAX_STRING_BYTES {
            return Err(E::custom(format_args!(
                "more than {} MiB of text with aliases (*name) expanded",
                MAX_STRING_BYTES >> 20
            )));
        }
        Ok(())
    }

    fn inside<T>(&self, step: Step, read: impl FnOnce() -> T) -> T {
        self.path.borrow_mut().push(step);
        let result = read();
        self.path.borrow_mut().pop();
        result
    }

    /// Applies `<<` (<https://yaml.org/type/merge.html>): own keys win, then earlier mappings.
    fn merge(&self, entries: &mut Vec<(String, Node)>, merged: Node) {
        let sources = match merged {
            Node::List(items) => items,
            single => vec![single],
        };
        let mut known: HashSet<String> = entries.iter().map(|(key, _)| key.clone()).collect();
        for source in sources {
            match source {
                Node::Map(more) => {
                    for (key, value) in more {
                        if known.insert(key.clone()) {
                            entries.push((key, value));
                        }
                    }
                }
                other => self.problem(format!(
                    "the merge key << takes a mapping or a list of mappings, found {}",
                    other.describe()
                )),
            }
        }
    }
}

impl<'de> DeserializeSeed<'de> for &Builder {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for &Builder {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of YAML or JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Node, E> {
        self.count_node()?;
        Ok(Node::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Node, E> {
        self.visit_unit()
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Node, E> {
        self.count_node()?;
        Ok(Node::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Node, E> {
        self.visit_i128(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Node, E> {
        self.visit_i128(value.into())
    }

    fn visit_i128<E: Error>(self, value: i128) -> Result<Node, E> {
        self.count_node()?;
        Ok(Node::Integer(value))
    }

    fn visit_u128<E: Error>(self, value: u128) -> Result<Node, E> {
        match i128::try_from(value) {
            Ok(value) => self.visit_i128(value),
            // No field is as wide; as a float it is still reported as the number it is.
            Err(_) => self.visit_f64(value as f64),
        }
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Node, E> {
        self.count_node()?;
        Ok(Node::Float(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Node, E> {
        self.count_node()?;
        self.count_string(value)?;
        Ok(Node::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut data: A) -> Result<Node, A::Error> {
        self.count_node()?;
        let mut items = Vec::new();
        while let Some(item) = self.inside(Step::Index(items.len()), || data.next_element_seed(self))? {
            items.push(item);
        }
        Ok(Node::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut data: A) -> Result<Node, A::Error> {
        self.count_node()?;
        let mut entries: Vec<(String, Node)> = Vec::new();
        let mut seen = HashSet::new();
        let mut merged = None;
        while let Some(key) = data.next_key_seed(KeySeed { builder: self })? {
            let fresh = seen.insert(key.clone());
            let value = self.inside(Step::Key(key.clone()), || {
                if !fresh {
                    self.problem("duplicate key; a mapping has each key once");
                }
                data.next_value_seed(self)
            })?;
            match fresh {
                true if key == "<<" => merged = Some(value),
                true => entries.push((key, value)),
                false => {}
            }
        }
        if let Some(merged) = merged {
            self.merge(&mut entries, merged);
        }
        Ok(Node::Map(entries))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<Node, A::Error> {
        let (tag, content) = data.variant_seed(KeySeed { builder: self })?;
        self.problem(format!("the YAML tag !{tag} means nothing here; remove it"));
        content.newtype_variant_seed(self)
    }
}

/// Reads a key: a string, or a scalar that becomes one as in Kubernetes' YAML.
struct KeySeed<'b> {
    builder: &'b Builder,
}

impl<'de> DeserializeSeed<'de> for KeySeed<'_> {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for KeySeed<'_> {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string as key")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<String, E> {
        self.visit_string(value.to_string())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<String, E> {
        self.visit_string(value.to_string())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<String, E> {
        self.visit_string(value.to_string())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<String, E> {
        self.visit_string(value.to_string())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<String, E> {
        self.builder.count_string(value)?;
        Ok(value.to_owned())
    }
}
