//! `kubectl apply`: what is wanted and what was wanted before make of an object another. Pure.
//!
//! ```text
//! applied before ─┐
//!                 ├─► what is wanted no more is removed ─┐
//! wanted ─────────┴─► is merged into ────────────────────┴─► current
//! ```
//!
//! So what somebody else has added to the object stays, and defaults do. Modelled on `CreateThreeWayMergePatch` in
//! `k8s.io/apimachinery/pkg/util/strategicpatch/patch.go`.

use serde_json::{Map, Value, json};

use super::patch::{PatchType, merge_key};

/// `current` as it is wanted to be; `applied` is what was wanted before.
///
/// # Errors
/// What is wanted makes no sense.
pub fn apply(current: Value, applied: &Value, wanted: Value) -> Result<Value, String> {
    let current = match removed(applied, &wanted, "") {
        Some(patch) => PatchType::Strategic.apply(current, patch)?,
        None => current,
    };
    PatchType::Strategic.apply(current, wanted)
}

/// The patch that removes what `wanted` has no more. `field` is the name of both in what they are a part of.
fn removed(applied: &Value, wanted: &Value, field: &str) -> Option<Value> {
    match (applied, wanted) {
        (Value::Object(applied), Value::Object(wanted)) => {
            let mut patch = Map::new();
            for (name, before) in applied {
                let change = match wanted.get(name) {
                    None => Some(Value::Null),
                    Some(after) => removed(before, after, name),
                };
                patch.extend(change.map(|change| (name.clone(), change)));
            }
            (!patch.is_empty()).then_some(Value::Object(patch))
        }
        (Value::Array(applied), Value::Array(wanted)) => {
            let key = merge_key(field)?;
            let changes = applied.iter().filter_map(|before| {
                let name = before.get(key)?;
                match wanted.iter().find(|after| after.get(key) == Some(name)) {
                    None => Some(json!({key: name, "$patch": "delete"})),
                    Some(after) => {
                        let mut change = removed(before, after, "")?;
                        change[key] = name.clone();
                        Some(change)
                    }
                }
            });
            let changes: Vec<_> = changes.collect();
            (!changes.is_empty()).then_some(Value::Array(changes))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_have_added_stays() {
        let applied = json!({"data": {"a": "1", "b": "2"}, "metadata": {"labels": {"x": "1"}}});
        let current = json!({"data": {"a": "1", "b": "2", "theirs": "3"}, "metadata": {"labels": {"x": "1"}, "uid": "u"}});
        let wanted = json!({"data": {"a": "9", "c": "4"}, "metadata": {}});
        let expected = json!({"data": {"a": "9", "c": "4", "theirs": "3"}, "metadata": {"uid": "u"}});
        assert_eq!(apply(current.clone(), &applied, wanted).unwrap(), expected);
        assert_eq!(apply(current.clone(), &applied, applied.clone()).unwrap(), current, "nothing changes");
        let expected = json!({"metadata": {"labels": {"x": "1"}, "uid": "u"}});
        let wanted = json!({"metadata": {"labels": {"x": "1"}}});
        assert_eq!(apply(current, &applied, wanted).unwrap(), expected);
    }

    #[test]
    fn lists_are_merged_by_their_keys() {
        let applied =
            json!({"containers": [{"name": "a", "env": [{"name": "X", "value": "1"}]}, {"name": "b"}]});
        let current = json!({"containers": [
            {"name": "a", "env": [{"name": "X", "value": "1"}, {"name": "HOST", "value": "h"}], "default": true},
            {"name": "b"}, {"name": "theirs"},
        ]});
        let wanted = json!({"containers": [{"name": "a", "env": []}]});
        let expected = json!({"containers": [
            {"name": "a", "env": [{"name": "HOST", "value": "h"}], "default": true}, {"name": "theirs"},
        ]});
        assert_eq!(apply(current, &applied, wanted).unwrap(), expected);
        // A list without a key is replaced.
        let list = |items: Value| json!({"args": items});
        assert_eq!(
            apply(list(json!(["a", "b"])), &list(json!(["a", "b"])), list(json!(["b"]))).unwrap(),
            list(json!(["b"]))
        );
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(apply(json!({}), &json!({}), json!([])).is_err());
        assert!(apply(json!({}), &json!({}), json!({"$setElementOrder/x": []})).is_err());
    }
}
