//! The files of a volume, from what they are made of. Pure.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::spec::environment::{self, Allocatable, ObjectKind, ObjectRef, Surroundings};
use crate::spec::volume::{DownwardContent, DownwardFile, KeyToPath};
use crate::spec::{Pod, Projection};

/// Files by their paths: relative, without `.` and `..`, none of them a directory of another.
pub(super) type Payload = BTreeMap<PathBuf, FileContent>;

/// One file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileContent {
    pub(super) bytes: Vec<u8>,
    /// Permissions.
    pub(super) mode: u32,
}

/// Why the files cannot be made, in the kubelet's words where it has some.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PayloadError {
    /// An object is not there.
    #[error("{kind} {name:?} not found")]
    Object {
        /// `configmap` or `secret`.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// An object has no such key.
    #[error("references non-existent {kind} key: {key} of {name:?}")]
    Key {
        /// `config` or `secret`.
        kind: &'static str,
        /// The object's name.
        name: String,
        /// The key.
        key: String,
    },
    /// A resource of a container that the pod does not have.
    #[error("container {0} not found")]
    Container(String),
    /// Two files that cannot both be there.
    #[error("{} cannot be a file, {} is below it", file.display(), below.display())]
    Conflict {
        /// A file.
        file: PathBuf,
        /// Another one, whose directory it would be.
        below: PathBuf,
    },
}

/// The files of a volume with these sources; of two with one path, the later one is there
/// (`collectData` in `pkg/volume/projected/projected.go`).
///
/// # Errors
/// What is missing and not optional.
pub(super) fn payload(
    sources: &[Projection],
    default_mode: u32,
    pod: &Pod,
    allocatable: &Allocatable,
) -> Result<Payload, PayloadError> {
    let mut payload = Payload::new();
    for source in sources {
        match source {
            Projection::Object { object, items } => {
                payload.extend(of_object(object, items.as_deref(), default_mode, pod)?);
            }
            Projection::DownwardApi(files) => {
                for file in files {
                    let bytes = of_field(file, pod, allocatable)?.into_bytes();
                    let mode = file.mode.unwrap_or(default_mode);
                    payload.insert(file.path.clone(), FileContent { bytes, mode });
                }
            }
        }
    }
    // In the order of paths, those below one come after it.
    for below in payload.keys() {
        let above = below.ancestors().skip(1).find(|above| payload.contains_key(*above));
        if let Some(file) = above {
            return Err(PayloadError::Conflict { file: file.to_owned(), below: below.clone() });
        }
    }
    Ok(payload)
}

/// `MakePayload` in `pkg/volume/configmap/configmap.go` and `pkg/volume/secret/secret.go`.
fn of_object(
    object: &ObjectRef,
    items: Option<&[KeyToPath]>,
    default_mode: u32,
    pod: &Pod,
) -> Result<Payload, PayloadError> {
    let (kind, of_key) = match object.kind {
        ObjectKind::ConfigMap => ("configmap", "config"),
        ObjectKind::Secret => ("secret", "secret"),
    };
    let data: Option<BTreeMap<&str, &[u8]>> = match object.kind {
        ObjectKind::ConfigMap => pod.objects.config_maps.get(&object.name).map(|map| map.files().collect()),
        ObjectKind::Secret => {
            pod.objects.secrets.get(&object.name).map(|secret| {
                secret.data.iter().map(|(key, bytes)| (key.as_str(), bytes.as_slice())).collect()
            })
        }
    };
    let data = match data {
        Some(data) => data,
        None if object.optional => BTreeMap::new(),
        None => return Err(PayloadError::Object { kind, name: object.name.clone() }),
    };
    let file =
        |path: &Path, bytes: &[u8], mode| (path.to_owned(), FileContent { bytes: bytes.to_vec(), mode });
    let Some(items) = items else {
        return Ok(data.iter().map(|(key, bytes)| file(Path::new(key), bytes, default_mode)).collect());
    };
    let mut payload = Payload::new();
    for KeyToPath { key, path, mode } in items {
        match data.get(key.as_str()) {
            Some(bytes) => payload.extend([file(path, bytes, mode.unwrap_or(default_mode))]),
            None if object.optional => {}
            None => {
                let (name, key) = (object.name.clone(), key.clone());
                return Err(PayloadError::Key { kind: of_key, name, key });
            }
        }
    }
    Ok(payload)
}

fn of_field(file: &DownwardFile, pod: &Pod, allocatable: &Allocatable) -> Result<String, PayloadError> {
    match &file.content {
        // A volume has no fields that say more than the pod itself.
        DownwardContent::Field(field) => {
            Ok(environment::field_text(field, pod, &Surroundings::default()).unwrap_or_default())
        }
        DownwardContent::Resource(resource) => {
            let text = environment::resource_text(resource, None, pod, allocatable);
            text.map_err(|_| PayloadError::Container(resource.container.clone().unwrap_or_default()))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::spec::environment::Field;
    use crate::spec::{ConfigMap, Role, Secret};
    use crate::testing::spec as testing;

    fn pod() -> Pod {
        let mut pod = testing::pod([testing::container("web", Role::Main)]);
        pod.labels = [("app".to_owned(), "shop".to_owned())].into();
        let map = ConfigMap {
            data: [("a".into(), "text".into()), ("b".into(), String::new())].into(),
            binary_data: [("bin".into(), vec![0, 255])].into(),
            immutable: false,
        };
        let secret = Secret { data: [("key".into(), b"hush".to_vec())].into(), immutable: false };
        pod.objects.config_maps = [("map".to_owned(), Arc::new(map))].into();
        pod.objects.secrets = [("safe".to_owned(), Arc::new(secret))].into();
        pod
    }

    fn object(
        kind: ObjectKind,
        name: &str,
        optional: bool,
        items: Option<&[(&str, &str, Option<u32>)]>,
    ) -> Projection {
        let item = |(key, path, mode): &(&str, &str, Option<u32>)| KeyToPath {
            key: (*key).into(),
            path: path.into(),
            mode: *mode,
        };
        let object = ObjectRef { kind, name: name.into(), optional };
        Projection::Object { object, items: items.map(|items| items.iter().map(item).collect()) }
    }

    fn name_at(path: &str) -> Projection {
        let content = DownwardContent::Field(Field::Name);
        Projection::DownwardApi(vec![DownwardFile { path: path.into(), content, mode: None }])
    }

    fn made(sources: &[Projection]) -> Result<Vec<(String, Vec<u8>, u32)>, PayloadError> {
        let payload = payload(sources, 0o644, &pod(), &Allocatable::default())?;
        let file = |(path, file): (PathBuf, FileContent)| (path.display().to_string(), file.bytes, file.mode);
        Ok(payload.into_iter().map(file).collect())
    }

    fn expected(files: &[(&str, &[u8], u32)]) -> Result<Vec<(String, Vec<u8>, u32)>, PayloadError> {
        Ok(files.iter().map(|(path, bytes, mode)| ((*path).to_owned(), bytes.to_vec(), *mode)).collect())
    }

    use ObjectKind::{ConfigMap as Map, Secret as Safe};

    #[test]
    fn without_items_every_key_is_a_file() {
        assert_eq!(
            made(&[object(Map, "map", false, None)]),
            expected(&[("a", b"text", 0o644), ("b", b"", 0o644), ("bin", &[0, 255], 0o644)])
        );
        assert_eq!(made(&[object(Safe, "safe", false, None)]), expected(&[("key", b"hush", 0o644)]));
        assert_eq!(made(&[]), expected(&[]));
    }

    #[test]
    fn items_choose_names_and_modes() {
        let items = [("a", "x/y", None), ("bin", "raw", Some(0o400)), ("a", "again", None)];
        assert_eq!(
            made(&[object(Map, "map", false, Some(&items))]),
            expected(&[("again", b"text", 0o644), ("raw", &[0, 255], 0o400), ("x/y", b"text", 0o644)])
        );
    }

    #[test]
    fn what_is_missing_has_to_be_optional() {
        let says = |source| made(&[source]).unwrap_err().to_string();
        assert_eq!(says(object(Map, "no", false, None)), "configmap \"no\" not found");
        assert_eq!(says(object(Safe, "no", false, None)), "secret \"no\" not found");
        let items: &[_] = &[("no", "p", None), ("a", "q", None)];
        assert_eq!(
            says(object(Map, "map", false, Some(items))),
            "references non-existent config key: no of \"map\""
        );
        assert_eq!(
            says(object(Safe, "safe", false, Some(items))),
            "references non-existent secret key: no of \"safe\""
        );
        assert_eq!(made(&[object(Map, "no", true, None)]), expected(&[]));
        assert_eq!(made(&[object(Safe, "no", true, Some(items))]), expected(&[]));
        assert_eq!(made(&[object(Map, "map", true, Some(items))]), expected(&[("q", b"text", 0o644)]));
    }

    #[test]
    fn sources_come_one_over_the_other() {
        let sources = [object(Map, "map", false, None), object(Safe, "safe", false, None), name_at("a")];
        assert_eq!(
            made(&sources),
            expected(&[
                ("a", b"p", 0o644),
                ("b", b"", 0o644),
                ("bin", &[0, 255], 0o644),
                ("key", b"hush", 0o644)
            ])
        );
    }

    #[test]
    fn a_file_is_no_directory_of_another() {
        let error = made(&[object(Map, "map", false, None), name_at("a/name")]).unwrap_err();
        assert_eq!(error.to_string(), "a cannot be a file, a/name is below it");
        assert!(made(&[object(Map, "map", false, None), name_at("ab/name"), name_at("a-/name")]).is_ok());
    }
}
