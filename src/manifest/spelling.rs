//! How the manifest spells a scalar: `0x1F` where the tree only has 31.
//!
//! Reads the text once more, along one path; only for the wording of an error.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::path::{FieldPath, Step};

/// The scalar at `path` of document `number`, counted from 1. `None`: there is none, or it came through a
/// merge key.
pub(super) fn at(text: &str, number: usize, path: &FieldPath) -> Option<String> {
    let document = serde_yaml::Deserializer::from_str(text).nth(number.checked_sub(1)?)?;
    Along { steps: path.steps() }.deserialize(document).ok().flatten()
}

/// What is left of the way.
struct Along<'p> {
    steps: &'p [Step],
}

impl<'de> DeserializeSeed<'de> for Along<'_> {
    type Value = Option<String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<String>, D::Error> {
        match self.steps.first() {
            // Whatever it would be by itself: as a string it is its spelling.
            None => deserializer.deserialize_str(self),
            Some(Step::Key(_)) => deserializer.deserialize_map(self),
            Some(Step::Index(_)) => deserializer.deserialize_seq(self),
        }
    }
}

impl<'de> Visitor<'de> for Along<'_> {
    type Value = Option<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("what the path leads through")
    }

    fn visit_str<E>(self, text: &str) -> Result<Option<String>, E> {
        Ok(Some(text.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Option<String>, A::Error> {
        let Some((Step::Key(wanted), rest)) = self.steps.split_first() else { return Ok(None) };
        let mut found = None;
        while let Some(key) = map.next_key_seed(Along { steps: &[] })? {
            // The first of several with the same key is the one in the tree.
            if found.is_none() && key.as_ref() == Some(wanted) {
                found = map.next_value_seed(Along { steps: rest })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Option<String>, A::Error> {
        let Some((Step::Index(wanted), rest)) = self.steps.split_first() else { return Ok(None) };
        for _ in 0..*wanted {
            if items.next_element::<IgnoredAny>()?.is_none() {
                return Ok(None);
            }
        }
        let found = items.next_element_seed(Along { steps: rest })?.flatten();
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scalar_is_given_back_as_it_is_spelt() {
        let text = "a: 1\n---\nx: {y: [0, 0x1F, 1.10, &b True], z: *b}\nlast: 1_0";
        let y = FieldPath::root().field("x").field("y");
        assert_eq!(at(text, 2, &y.index(1)).as_deref(), Some("0x1F"));
        assert_eq!(at(text, 2, &y.index(2)).as_deref(), Some("1.10"));
        assert_eq!(at(text, 2, &FieldPath::root().field("x").field("z")).as_deref(), Some("True"));
        assert_eq!(at(text, 2, &FieldPath::root().field("last")).as_deref(), Some("1_0"));
        for nowhere in [y.clone(), y.index(9), FieldPath::root().field("q"), FieldPath::root()] {
            assert_eq!(at(text, 2, &nowhere), None, "{nowhere}");
        }
        assert_eq!(at(text, 0, &y), None);
        assert_eq!(at(text, 3, &y), None);
        assert_eq!(at(r#"{"a": [1e3]}"#, 1, &FieldPath::root().field("a").index(0)).as_deref(), Some("1e3"));
    }
}
