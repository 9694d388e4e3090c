//! Documents of any mix of kinds, with or without a Pod: what `peapod apply` reads.

use std::cell::Cell;

use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use serde::de::DeserializeOwned;

use super::document::{self, Document};
use super::error::FieldError;
use super::kind::{self, Kind};
use super::{MAX_SPELLINGS, Numbered, in_named_document, node, spelling, typed};

/// One document. No field is checked yet.
#[derive(Debug, Clone, PartialEq)]
pub enum Object {
    /// Without `status`.
    Pod(Box<Pod>),
    /// A ConfigMap.
    ConfigMap(Box<ConfigMap>),
    /// A Secret.
    Secret(Box<Secret>),
    /// Another object that a manifest may hold, by its `kind`.
    Other(&'static str),
}

/// Reads every document that can be read, and what is wrong with the others.
pub fn objects(bytes: &[u8]) -> (Vec<Numbered<Object>>, Vec<FieldError>) {
    let split = document::split(bytes);
    let several = split.several;
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    let spellings = Cell::new(MAX_SPELLINGS);
    let mut errors = split.errors;
    if split.documents.is_empty() && errors.is_empty() {
        errors.push(FieldError::new("", "there is nothing in it; write a ConfigMap, a Secret or a Pod"));
    }
    let mut objects = Vec::new();
    for Document { number, mut root } in split.documents {
        let spelling: typed::Spelling<'_> = &|path| {
            let left = spellings.get().checked_sub(1)?;
            spellings.set(left);
            spelling::at(text, number, path)
        };
        let object = kind::classify(&root).and_then(|kind| read(kind, &mut root, spelling));
        match object {
            Ok(object) => objects.push((number, object)),
            Err(found) => errors.extend(found.into_iter().map(|error| match several {
                true => in_named_document(error, number),
                false => error,
            })),
        }
    }
    (objects, errors)
}

fn read(kind: Kind, root: &mut node::Node, spelling: typed::Spelling<'_>) -> Result<Object, Vec<FieldError>> {
    root.take("status");
    Ok(match kind {
        Kind::Pod => Object::Pod(typed(root, spelling)?),
        Kind::ConfigMap => Object::ConfigMap(typed(root, spelling)?),
        Kind::Secret => Object::Secret(typed(root, spelling)?),
        other => Object::Other(other.name()),
    })
}

fn typed<T: DeserializeOwned>(
    root: &mut node::Node,
    spelling: typed::Spelling<'_>,
) -> Result<Box<T>, Vec<FieldError>> {
    match typed::read::<T>(root, spelling) {
        typed::Outcome { value: Some(value), errors, .. } if errors.is_empty() => Ok(Box::new(value)),
        outcome => Err(outcome.errors),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_read_without_a_pod() {
        let text = "\
apiVersion: v1
kind: ConfigMap
metadata: {name: a}
data: {k: v}
---
apiVersion: v1
kind: Service
metadata: {name: s}
---
apiVersion: v1
kind: Secret
metadata: {name: b}
stringDatum: {k: v}
---
apiVersion: apps/v1
kind: Deployment
";
        let (objects, errors) = objects(text.as_bytes());
        let [(1, Object::ConfigMap(map)), (2, Object::Other("Service"))] = &objects[..] else {
            panic!("{objects:?}")
        };
        assert_eq!(map.data.as_ref().unwrap()["k"], "v");
        let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(errors.len(), 2, "{errors:?}");
        assert!(errors[0].starts_with("document 3: stringDatum: unknown field"), "{errors:?}");
        assert!(errors[1].starts_with("document 4: kind: peapod runs Pods"), "{errors:?}");
        assert_eq!(super::objects(b"").1.len(), 1);
        assert!(super::objects(b"kind: ConfigMap").1[0].path == "apiVersion");
    }
}
