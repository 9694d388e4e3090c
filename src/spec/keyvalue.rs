//! Where the pod's `wasi:keyvalue` buckets are: annotations `peapod.dev/keyvalue` and `peapod.dev/keyvalue.<bucket>`.

use std::collections::{BTreeMap, BTreeSet};

use super::name;

/// The volumes that buckets are in. A bucket that has none is in a directory of the pod's own, and goes with the pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyValueVolumes {
    /// `peapod.dev/keyvalue`: the volume of every bucket that is not in `buckets`.
    pub all: Option<String>,
    /// `peapod.dev/keyvalue.<bucket>`, by bucket.
    pub buckets: BTreeMap<String, String>,
}

impl KeyValueVolumes {
    /// The volume that this bucket is in.
    pub fn of(&self, bucket: &str) -> Option<&str> {
        self.buckets.get(bucket).or(self.all.as_ref()).map(String::as_str)
    }

    /// Every volume with buckets in it.
    pub fn names(&self) -> BTreeSet<&str> {
        self.buckets.values().chain(&self.all).map(String::as_str).collect()
    }
}

/// The name of a bucket: as the value of a label, and not empty.
///
/// # Errors
/// What is wrong with it.
pub fn bucket(bucket: &str) -> Result<(), String> {
    if bucket.is_empty() {
        return Err("required: the name of a bucket".to_owned());
    }
    name::label_value(bucket)
        .map_err(|error| error.replace("a label's value must be empty or", "a bucket's name must"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_of_its_own_goes_before_all() {
        let volumes = KeyValueVolumes {
            all: Some("data".into()),
            buckets: [("cache".to_owned(), "fast".to_owned())].into(),
        };
        assert_eq!(volumes.of("cache"), Some("fast"));
        assert_eq!(volumes.of("default"), Some("data"));
        assert_eq!(volumes.names(), BTreeSet::from(["data", "fast"]));
        assert_eq!(KeyValueVolumes::default().of("default"), None);
    }

    #[test]
    fn names_of_buckets() {
        for good in ["default", "a", "A_b.c-1", &"a".repeat(63)] {
            assert_eq!(bucket(good), Ok(()));
        }
        for bad in ["", "-a", "a/b", "a b", "..", &"a".repeat(64)] {
            assert!(bucket(bad).is_err(), "{bad}");
        }
        assert!(bucket("a/b").unwrap_err().contains("a bucket's name must consist of"));
    }
}
