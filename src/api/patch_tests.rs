use proptest::prelude::*;
use serde_json::json;

use super::*;

fn strategic_of(object: Value, patch: Value) -> Result<Value, String> {
    PatchType::Strategic.apply(object, patch)
}

#[test]
fn rfc_7386s_own_examples() {
    for (object, patch, expected) in [
        (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
        (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
        (json!({"a": "b"}), json!({"a": null}), json!({})),
        (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
        (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
        (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
        (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
        (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
        (json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"])),
        (json!({"a": "b"}), json!(["c"]), json!(["c"])),
        (json!({"a": "foo"}), json!(null), json!(null)),
        (json!({"a": "foo"}), json!("bar"), json!("bar")),
        (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
        (json!([1, 2]), json!({"a": "b", "c": null}), json!({"a": "b"})),
        (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
    ] {
        assert_eq!(merge(object, patch), expected);
    }
}

#[test]
fn lists_of_objects_are_merged_by_their_key() {
    let pod = json!({"spec": {"containers": [
        {"name": "a", "args": ["x", "y"], "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}},
        {"name": "b"},
    ]}});
    let patch = json!({"spec": {"containers": [
        {"name": "b", "$patch": "delete"},
        {"name": "a", "args": ["z"], "resources": {"limits": {"cpu": "2", "memory": null}}},
        {"name": "c"},
    ]}});
    let expected = json!({"spec": {"containers": [
        {"name": "a", "args": ["z"], "resources": {"limits": {"cpu": "2"}}},
        {"name": "c"},
    ]}});
    assert_eq!(strategic_of(pod.clone(), patch).unwrap(), expected);
    let replaced = json!({"spec": {"containers": [{"$patch": "replace"}, {"name": "d"}]}});
    let expected = json!({"spec": {"containers": [{"name": "d"}]}});
    assert_eq!(strategic_of(pod.clone(), replaced).unwrap(), expected);
    let whole = json!({"spec": {"$patch": "replace", "nodeName": "n"}});
    assert_eq!(strategic_of(pod, whole).unwrap(), json!({"spec": {"nodeName": "n"}}));
}

#[test]
fn a_patch_that_makes_no_sense_says_so() {
    for (patch, words) in [
        (json!([]), "a JSON object"),
        (json!({"spec": {"containers": [{"image": "x"}]}}), "has no \"name\""),
        (json!({"spec": {"containers": ["web"]}}), "no object"),
        (json!({"spec": {"$patch": "destroy"}}), "destroy"),
        (json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["x"]}}), "not supported"),
    ] {
        let error = strategic_of(json!({}), patch).unwrap_err();
        assert!(error.contains(words), "{error}");
    }
    let deep = (0..MAX_DEPTH + 2).fold(json!(1), |inner, _| json!({"a": inner}));
    assert!(strategic_of(json!({}), deep).unwrap_err().contains("levels deep"));
}

fn running() -> Pod {
    serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"containers": [{"name": "web", "image": "./web.wasm", "resources": {"limits": {"cpu": "1"}}}]},
        "status": {"phase": "Running", "conditions": [
            {"type": "Ready", "status": "True"}, {"type": "example.com/gate", "status": "False"},
        ]},
    }))
    .unwrap()
}

fn patched(kind: PatchType, patch: Value) -> Value {
    kind.apply(serde_json::to_value(running()).unwrap(), patch).unwrap()
}

#[test]
fn a_status_patch_sets_conditions_of_others() {
    let patch = json!({"status": {"conditions": [
        {"type": "example.com/gate", "status": "True", "reason": "Open"}, {"type": "other", "status": "Unknown"},
    ]}});
    let set = conditions(&running(), &patched(PatchType::Strategic, patch)).unwrap();
    let set: Vec<_> = set.iter().map(|c| (&*c.type_, &*c.status, c.reason.as_deref())).collect();
    assert_eq!(set, [("example.com/gate", "True", Some("Open")), ("other", "Unknown", None)]);
    // A merge patch replaces the list; peapod's own conditions stay whatever it says.
    let patch = json!({"status": {"conditions": [{"type": "example.com/gate", "status": "True"}]}});
    assert_eq!(conditions(&running(), &patched(PatchType::Merge, patch)).unwrap().len(), 1);
    assert_eq!(conditions(&running(), &patched(PatchType::Merge, json!({}))), Ok(vec![]));
}

#[test]
fn a_status_patch_cannot_set_anything_else() {
    for (kind, patch, field) in [
        (PatchType::Strategic, json!({"status": {"phase": "Failed"}}), "status.phase"),
        (PatchType::Strategic, json!({"status": {"podIP": "10.0.0.1"}}), "status.podIP"),
        (PatchType::Merge, json!({"status": {"phase": null}}), "status.phase"),
        (
            PatchType::Strategic,
            json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}}),
            "status.conditions[0]",
        ),
        (
            PatchType::Strategic,
            json!({"status": {"conditions": [{"type": "x", "status": "yes"}]}}),
            "status.conditions[2].status",
        ),
        (
            PatchType::Strategic,
            json!({"status": {"conditions": [{"type": "a b", "status": "True"}]}}),
            "status.conditions[2].type",
        ),
        (PatchType::Merge, json!({"status": {"conditions": []}}), "status.conditions"),
        (
            PatchType::Merge,
            json!({"status": {"conditions": [
                {"type": "example.com/gate", "status": "True"}, {"type": "example.com/gate", "status": "False"}]}}),
            "status.conditions[1].type",
        ),
        (PatchType::Strategic, json!({"status": {"conditions": 7}}), "patch"),
    ] {
        let causes = conditions(&running(), &patched(kind, patch.clone())).unwrap_err();
        assert_eq!(causes[0].field, field, "{patch}");
    }
    let many: Vec<_> =
        (0..=MAX_CONDITIONS).map(|n| json!({"type": format!("c{n}"), "status": "True"})).collect();
    let patch = json!({"status": {"conditions": many}});
    let causes = conditions(&running(), &patched(PatchType::Strategic, patch)).unwrap_err();
    assert_eq!(causes[0].reason, "FieldValueTooMany");
}

#[test]
fn a_resize_changes_resources_and_nothing_else() {
    let patch = json!({"spec": {"containers": [{"name": "web", "resources": {"limits": {"cpu": "200m"}}}]}});
    let pod = resized(&running(), &patched(PatchType::Strategic, patch)).unwrap();
    let limits = pod.spec.unwrap().containers[0].resources.clone().unwrap().limits.unwrap();
    assert_eq!(limits["cpu"].0, "200m");
    for patch in [
        json!({"spec": {"containers": [{"name": "web", "image": "./other.wasm"}]}}),
        json!({"spec": {"containers": [{"name": "new", "image": "./other.wasm"}]}}),
        json!({"spec": {"nodeName": "elsewhere"}}),
    ] {
        let causes = resized(&running(), &patched(PatchType::Strategic, patch)).unwrap_err();
        assert_eq!((&*causes[0].field, causes[0].reason), ("spec", "FieldValueForbidden"));
    }
}

#[test]
fn media_types_may_have_parameters() {
    let of = PatchType::of;
    assert_eq!(of("application/merge-patch+json; charset=utf-8"), Some(PatchType::Merge));
    assert_eq!(of("Application/Strategic-Merge-Patch+JSON"), Some(PatchType::Strategic));
    assert_eq!(of("application/json-patch+json"), None);
}

/// Objects without lists: there the two kinds of patch agree.
fn value(with_null: bool) -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<u8>().prop_map(Value::from),
        "[a-c]{0,2}".prop_map(Value::from),
        Just(if with_null { Value::Null } else { json!(true) }),
    ];
    let tree = leaf.prop_recursive(4, 24, 4, |inner| {
        proptest::collection::btree_map("[a-d]", inner, 0..4)
            .prop_map(|map| Value::Object(map.into_iter().collect()))
    });
    proptest::collection::btree_map("[a-d]", tree, 0..4)
        .prop_map(|map| Value::Object(map.into_iter().collect()))
}

/// Conditions by type, in some order.
fn condition_list() -> impl Strategy<Value = Vec<(String, String)>> {
    let map = proptest::collection::btree_map("[a-e]", "True|False|Unknown", 0..5);
    map.prop_map(|map| map.into_iter().collect::<Vec<_>>()).prop_shuffle()
}

fn wire(conditions: &[(String, String)]) -> Value {
    let list: Vec<_> =
        conditions.iter().map(|(name, status)| json!({"type": name, "status": status})).collect();
    json!({"conditions": list})
}

proptest! {
    #[test]
    fn without_lists_both_kinds_say_the_same(object in value(false), patch in value(true)) {
        let by_merge = merge(object.clone(), patch.clone());
        prop_assert_eq!(strategic_of(object, patch).unwrap(), by_merge);
    }

    #[test]
    fn a_patch_twice_is_a_patch_once(object in value(false), patch in value(true)) {
        let once = strategic_of(object, patch.clone()).unwrap();
        prop_assert_eq!(strategic_of(once.clone(), patch).unwrap(), once);
    }

    #[test]
    fn a_merged_list_has_every_item_once_and_the_patchs_last_word(
        before in condition_list(),
        patch in condition_list(),
    ) {
        let merged = strategic_of(wire(&before), wire(&patch)).unwrap();
        let merged: Vec<PodCondition> = serde_json::from_value(merged["conditions"].clone()).unwrap();
        let expected = |name: &str| {
            let of = |list: &[(String, String)]| list.iter().find(|(n, _)| n == name).map(|(_, s)| s.clone());
            of(&patch).or_else(|| of(&before))
        };
        for condition in &merged {
            prop_assert_eq!(Some(condition.status.clone()), expected(&condition.type_));
        }
        let mut names: Vec<_> = merged.iter().map(|condition| &condition.type_).collect();
        // What was there keeps its order; what is new comes after.
        let kept: Vec<_> = before.iter().map(|(name, _)| name).collect();
        prop_assert_eq!(&names[..kept.len()], &kept[..]);
        names.sort();
        names.dedup();
        prop_assert_eq!(names.len(), merged.len());
        prop_assert!(patch.iter().all(|(name, _)| names.contains(&name)));
    }
}
