//! Documents of any mix of kinds, with or without a Pod: what `peapod apply` reads.

use std::cell::Cell;

use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolume, PersistentVolumeClaim, Pod, Secret};
use serde::de::DeserializeOwned;

use super::document::{self, Document};
use super::error::FieldError;
use super::kind::{self, Kind};
use super::node::Node;
use super::path::FieldPath;
use super::{MAX_SPELLINGS, in_named_document, spelling, typed};

/// One document. No field is checked yet.
#[derive(Debug, Clone, PartialEq)]
pub enum Object {
    /// Without `status`.
    Pod(Box<Pod>),
    /// A ConfigMap.
    ConfigMap(Box<ConfigMap>),
    /// A Secret.
    Secret(Box<Secret>),
    /// A claim.
    PersistentVolumeClaim(Box<PersistentVolumeClaim>),
    /// A volume.
    PersistentVolume(Box<PersistentVolume>),
    /// Another object that a manifest may hold, by its `kind`.
    Other(&'static str),
}

/// An object and its place in the file, such as `document 2` or `document 1: items[3]`.
pub type Placed = (String, Object);

/// Reads every document that can be read, and what is wrong with the others. A `List`, as `get -o yaml` prints several
/// objects, is its items (`EachListItemOption` of `k8s.io/cli-runtime/pkg/resource/visitor.go`).
pub fn objects(bytes: &[u8]) -> (Vec<Placed>, Vec<FieldError>) {
    let split = document::split(bytes);
    let several = split.several;
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    let spellings = Cell::new(MAX_SPELLINGS);
    let mut errors = split.errors;
    if split.documents.is_empty() && errors.is_empty() {
        errors.push(FieldError::new("", "there is nothing in it; write a ConfigMap, a Secret or a Pod"));
    }
    let mut objects = Vec::new();
    for Document { number, root } in split.documents {
        for (place, mut root) in items(root) {
            let spelling: typed::Spelling<'_> = &|path| {
                let left = spellings.get().checked_sub(1)?;
                spellings.set(left);
                spelling::at(text, number, &place.join(path))
            };
            match kind::classify(&root).and_then(|kind| read(kind, &mut root, spelling)) {
                Ok(object) => {
                    let item = if place == FieldPath::root() { String::new() } else { format!(": {place}") };
                    objects.push((format!("document {number}{item}"), object));
                }
                Err(found) => errors.extend(found.into_iter().map(|error| {
                    let error = within(&place, error);
                    if several { in_named_document(error, number) } else { error }
                })),
            }
        }
    }
    (objects, errors)
}

/// The items of a `List` with their places in it; of anything else itself.
fn items(mut root: Node) -> Vec<(FieldPath, Node)> {
    let says = |key, value: &str| matches!(root.get(key), Some(Node::String(own)) if own == value);
    let is_list = says("kind", "List") && says("apiVersion", "v1");
    if is_list && let Some(Node::List(items)) = root.get_mut("items") {
        let items = std::mem::take(items).into_iter().enumerate();
        let items = items.filter(|(_, item)| !matches!(item, Node::Removed));
        let place = FieldPath::root().field("items");
        return items.map(|(index, item)| (place.index(index), item)).collect();
    }
    vec![(FieldPath::root(), root)]
}

/// What is wrong with an item, in the words of its document.
fn within(place: &FieldPath, error: FieldError) -> FieldError {
    let path = match (place.steps(), &error.path[..]) {
        ([], own) => own.to_owned(),
        (_, "") => place.to_string(),
        (_, own) => format!("{place}.{own}"),
    };
    FieldError { path, ..error }
}

fn read(kind: Kind, root: &mut Node, spelling: typed::Spelling<'_>) -> Result<Object, Vec<FieldError>> {
    root.take("status");
    Ok(match kind {
        Kind::Pod => Object::Pod(typed(root, spelling)?),
        Kind::ConfigMap => Object::ConfigMap(typed(root, spelling)?),
        Kind::Secret => Object::Secret(typed(root, spelling)?),
        Kind::PersistentVolumeClaim => Object::PersistentVolumeClaim(typed(root, spelling)?),
        Kind::PersistentVolume => Object::PersistentVolume(typed(root, spelling)?),
        other => Object::Other(other.name()),
    })
}

fn typed<T: DeserializeOwned>(
    root: &mut Node,
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
        let [(first, Object::ConfigMap(map)), (second, Object::Other("Service"))] = &objects[..] else {
            panic!("{objects:?}")
        };
        assert_eq!((&**first, &**second), ("document 1", "document 2"));
        assert_eq!(map.data.as_ref().unwrap()["k"], "v");
        let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(errors.len(), 2, "{errors:?}");
        assert!(errors[0].starts_with("document 3: stringDatum: unknown field"), "{errors:?}");
        assert!(errors[1].starts_with("document 4: kind: peapod runs Pods"), "{errors:?}");
        assert_eq!(super::objects(b"").1.len(), 1);
        assert!(super::objects(b"kind: ConfigMap").1[0].path == "apiVersion");
    }

    #[test]
    fn a_list_is_its_items() {
        let text = "\
apiVersion: v1
kind: List
metadata: {resourceVersion: ''}
items:
- {apiVersion: v1, kind: ConfigMap, metadata: {name: a}, data: {k: 1}}
- {apiVersion: v1, kind: Secret, metadata: {name: b}}
- {apiVersion: v1, kind: List, items: []}
- text
";
        let (objects, errors) = objects(text.as_bytes());
        let [(place, Object::Secret(_))] = &objects[..] else { panic!("{objects:?}") };
        assert_eq!(place, "document 1: items[1]");
        let paths: Vec<_> = errors.iter().map(|error| &*error.path).collect();
        assert_eq!(paths, ["items[0].data.k", "items[2].kind", "items[3]"]);
        assert!(errors[0].message.contains("\"1\""), "{errors:?}");
    }
}
