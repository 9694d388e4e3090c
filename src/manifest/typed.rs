//! From a document tree to a typed object, with every type error and unknown field at once.
//!
//! ```text
//!          ┌── record the error, put Node::Removed there ◄──┐ type error
//!          ▼                                                │
//! Node ─► Typed (a serde Deserializer that knows its path) ─┴─► T + unknown fields of the last pass
//! ```
//!
//! k8s-openapi's types name their fields in `deserialize_struct`, so a field that is not among them is
//! found here, where the path is known; the generated code itself would drop it.

use std::cell::RefCell;
use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;

use super::error::FieldError;
use super::node::Node;
use super::path::{FieldPath, Step};
use super::suggest;

/// Type errors reported for one document. Each costs a pass over it.
const MAX_TYPE_ERRORS: usize = 50;

/// Unknown fields reported for one document.
const MAX_UNKNOWN_FIELDS: usize = 100;

/// A typed object as far as it could be read.
pub(super) struct Outcome<T> {
    /// `None`: it is so broken that there is none.
    pub(super) value: Option<T>,
    pub(super) errors: Vec<FieldError>,
    /// Paths about which nothing can be said any more: what was removed, and what a misspelt field
    /// was meant to be.
    pub(super) doubtful: Vec<FieldPath>,
}

/// How the manifest spells the scalar at a path, where that can be told.
pub(super) type Spelling<'s> = &'s dyn Fn(&FieldPath) -> Option<String>;

/// Reads `root`, removing from it what has the wrong type.
pub(super) fn read<T: DeserializeOwned>(root: &mut Node, spelling: Spelling<'_>) -> Outcome<T> {
    let mut errors = Vec::new();
    let mut doubtful = Vec::new();
    let mut value = None;
    loop {
        let context = Context { path: RefCell::default(), unknown: RefCell::default(), spelling };
        let result = T::deserialize(Typed { node: root, context: &context });
        let fault = match result {
            Ok(read) => {
                value = Some(read);
                None
            }
            Err(fault) => Some(fault),
        };
        if let Some(fault) = fault {
            let path = fault.path.unwrap_or_default();
            errors.push(FieldError::new(&path, fault.message));
            let removed = !path.steps().is_empty() && root.remove(&path);
            doubtful.push(path);
            if removed && errors.len() < MAX_TYPE_ERRORS {
                continue;
            }
            if removed {
                errors.push(FieldError::new("", "more type errors may follow; mend these first"));
            }
        }
        let unknown = context.unknown.into_inner();
        for Unknown { path, error, meant } in unknown {
            errors.push(error);
            doubtful.extend(meant);
            doubtful.push(path);
        }
        return Outcome { value, errors, doubtful };
    }
}

/// What one pass has found so far, and where it is.
struct Context<'s> {
    path: RefCell<FieldPath>,
    unknown: RefCell<Vec<Unknown>>,
    spelling: Spelling<'s>,
}

struct Unknown {
    path: FieldPath,
    error: FieldError,
    meant: Option<FieldPath>,
}

impl Context<'_> {
    fn inside<T>(&self, step: Step, read: impl FnOnce() -> Result<T, TypeError>) -> Result<T, TypeError> {
        self.path.borrow_mut().push(step);
        // Errors made by a visitor know no path; the innermost value being read is the one at fault.
        let result = read().map_err(|error| error.at(&self.path.borrow()));
        self.path.borrow_mut().pop();
        result
    }

    fn unknown(&self, key: &str, fields: &'static [&'static str]) {
        let mut unknown = self.unknown.borrow_mut();
        if unknown.len() >= MAX_UNKNOWN_FIELDS {
            return;
        }
        // Listing them helps only while the list can be read at a glance.
        const FEW: usize = 8;
        let parent = self.path.borrow();
        let path = parent.field(key);
        let meant = suggest::closest(key, fields.iter().copied());
        let message = match meant {
            Some(field) => format!("unknown field, did you mean {field}?"),
            None if fields.len() <= FEW => format!("unknown field; known here: {}", fields.join(", ")),
            None => "unknown field".to_owned(),
        };
        unknown.push(Unknown {
            error: FieldError::new(&path, message),
            meant: meant.map(|field| parent.field(field)),
            path,
        });
    }
}

/// A value that does not have the type of its field.
#[derive(Debug)]
struct TypeError {
    message: String,
    path: Option<FieldPath>,
}

impl TypeError {
    fn at(mut self, path: &FieldPath) -> Self {
        self.path.get_or_insert_with(|| path.clone());
        self
    }
}

impl fmt::Display for TypeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for TypeError {}

impl serde::de::Error for TypeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self { message: message.to_string(), path: None }
    }
}

/// How k8s-openapi's `ByteString` names what it reads.
const BYTE_STRING: &str = "a base64-encoded string";

/// A [`Node`] as a serde deserializer.
#[derive(Clone, Copy)]
struct Typed<'n, 'c> {
    node: &'n Node,
    context: &'c Context<'c>,
}

impl Typed<'_, '_> {
    fn expected(&self, what: &str) -> TypeError {
        TypeError::custom(format_args!("expected {what}, found {}", self.node.describe()))
    }

    fn expected_string(&self) -> TypeError {
        let error = self.expected("a string");
        let spelt = || (self.context.spelling)(&self.context.path.borrow());
        let quoted = match self.node {
            Node::Bool(value) => spelt().unwrap_or_else(|| value.to_string()),
            Node::Integer(value) => spelt().unwrap_or_else(|| value.to_string()),
            Node::Float(_) => match spelt() {
                Some(text) => text,
                // The number's own spelling (1.10) is lost in the tree, so it is not repeated.
                None => return TypeError::custom(format_args!("{}; put it in quotes", error.message)),
            },
            _ => return error,
        };
        TypeError::custom(format_args!("{}; quote it: \"{quoted}\"", error.message))
    }

    fn not_base64(&self, error: &TypeError) -> TypeError {
        let in_config_map = self.context.path.borrow().to_string().starts_with("binaryData");
        let plain = if in_config_map { "data" } else { "stringData" };
        let why = error.message.trim_end_matches('.');
        TypeError::custom(format_args!("not base64 ({why}): encode it, or write it as it is under {plain}"))
    }

    fn expected_integer(&self) -> TypeError {
        match self.node {
            Node::String(text) if text.parse::<i64>().is_ok() => {
                TypeError::custom(format_args!("{}; remove its quotes", self.expected("a number").message))
            }
            _ => self.expected("a whole number"),
        }
    }

    fn integer<T: TryFrom<i128>>(&self) -> Result<T, TypeError> {
        let value = match self.node {
            Node::Integer(value) => *value,
            Node::String(text) => octal(text).ok_or_else(|| self.expected_integer())?,
            _ => return Err(self.expected_integer()),
        };
        T::try_from(value).map_err(|_| {
            TypeError::custom(format_args!("{value} does not fit in {} bits", std::mem::size_of::<T>() * 8))
        })
    }
}

/// A number as permissions are spelt, `0644`: octal in YAML 1.1, which Kubernetes reads, and text in YAML 1.2.
fn octal(text: &str) -> Option<i128> {
    let digits =
        text.strip_prefix('0').filter(|digits| digits.bytes().all(|digit| digit.is_ascii_digit()))?;
    i128::from_str_radix(digits, 8).ok()
}

macro_rules! integers {
    ($($method:ident $visit:ident $type:ty),* $(,)?) => {
        $(
            fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
                visitor.$visit(self.integer::<$type>()?)
            }
        )*
    };
}

impl<'de> Deserializer<'de> for Typed<'_, '_> {
    type Error = TypeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        match self.node {
            Node::Null | Node::Removed => visitor.visit_unit(),
            Node::Bool(value) => visitor.visit_bool(*value),
            Node::Integer(value) => match (i64::try_from(*value), u64::try_from(*value)) {
                (Ok(value), _) => visitor.visit_i64(value),
                (_, Ok(value)) => visitor.visit_u64(value),
                _ => visitor.visit_i128(*value),
            },
            Node::Float(value) => visitor.visit_f64(*value),
            Node::String(value) => visitor.visit_str(value),
            Node::List(items) => visitor.visit_seq(Items { items, next: 0, context: self.context }),
            Node::Map(entries) => {
                visitor.visit_map(Entries { entries, fields: None, value: None, context: self.context })
            }
        }
    }

    integers! {
        deserialize_i8 visit_i8 i8,
        deserialize_i16 visit_i16 i16,
        deserialize_i32 visit_i32 i32,
        deserialize_i64 visit_i64 i64,
        deserialize_u8 visit_u8 u8,
        deserialize_u16 visit_u16 u16,
        deserialize_u32 visit_u32 u32,
        deserialize_u64 visit_u64 u64,
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        match self.node {
            Node::Bool(value) => visitor.visit_bool(*value),
            Node::String(_) => Err(TypeError::custom(format_args!(
                "{}; write true or false without quotes",
                self.expected("a boolean").message
            ))),
            _ => Err(self.expected("a boolean (true or false)")),
        }
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        match self.node {
            Node::Float(value) => visitor.visit_f64(*value),
            Node::Integer(value) => visitor.visit_f64(*value as f64),
            _ => Err(self.expected("a number")),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        let is_base64 = (&visitor as &dyn serde::de::Expected).to_string() == BYTE_STRING;
        match self.node {
            Node::String(value) if is_base64 => {
                visitor.visit_str(value).map_err(|error| self.not_base64(&error))
            }
            Node::String(value) => visitor.visit_str(value),
            _ => Err(self.expected_string()),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        match self.node {
            Node::Null | Node::Removed => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, TypeError> {
        match (name, self.node) {
            ("Quantity", Node::String(_) | Node::Integer(_) | Node::Float(_)) => {}
            ("Quantity", _) => return Err(self.expected("a quantity such as 500m or 64Mi")),
            ("Time" | "MicroTime", Node::String(_)) => {}
            ("Time" | "MicroTime", _) => {
                return Err(self.expected("a time such as 2026-01-31T12:00:00Z"));
            }
            _ => {}
        }
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        match self.node {
            Node::List(_) => self.deserialize_any(visitor),
            Node::Map(_) => Err(TypeError::custom(format_args!(
                "{}; begin each item with `- `",
                self.expected("a list").message
            ))),
            _ => Err(self.expected("a list")),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        match self.node {
            Node::Map(_) => self.deserialize_any(visitor),
            _ => Err(self.expected("a mapping")),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, TypeError> {
        match self.node {
            Node::Map(entries) => visitor.visit_map(Entries {
                entries,
                fields: Some(fields),
                value: None,
                context: self.context,
            }),
            _ => Err(self.expected(&format!("a mapping ({name})"))),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! { i128 u128 bytes byte_buf unit unit_struct tuple tuple_struct enum }
}

struct Items<'n, 'c> {
    items: &'n [Node],
    next: usize,
    context: &'c Context<'c>,
}

impl<'de> SeqAccess<'de> for Items<'_, '_> {
    type Error = TypeError;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, TypeError> {
        while let Some(node) = self.items.get(self.next) {
            let index = self.next;
            self.next += 1;
            if !matches!(node, Node::Removed) {
                let context = self.context;
                return context
                    .inside(Step::Index(index), || seed.deserialize(Typed { node, context }))
                    .map(Some);
            }
        }
        Ok(None)
    }
}

struct Entries<'n, 'c> {
    entries: &'n [(String, Node)],
    /// The fields of a struct; `None` for a map, which takes any key.
    fields: Option<&'static [&'static str]>,
    value: Option<&'n (String, Node)>,
    context: &'c Context<'c>,
}

impl<'de> MapAccess<'de> for Entries<'_, '_> {
    type Error = TypeError;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, TypeError> {
        while let Some((entry, rest)) = self.entries.split_first() {
            self.entries = rest;
            let (key, value) = entry;
            if matches!(value, Node::Removed) {
                continue;
            }
            if let Some(fields) = self.fields
                && !fields.contains(&key.as_str())
            {
                self.context.unknown(key, fields);
                continue;
            }
            self.value = Some(entry);
            return seed.deserialize(StrDeserializer::new(key)).map(Some);
        }
        Ok(None)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, TypeError> {
        let Some((key, node)) = self.value.take() else {
            return Err(TypeError::custom("a value was read before its key"));
        };
        let context = self.context;
        context.inside(Step::Key(key.clone()), || seed.deserialize(Typed { node, context }))
    }
}
