use super::*;

fn store() -> Store {
    let text = b"
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: prod}
spec: {containers: [{name: web, image: ./web.wasm}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: config, namespace: prod, labels: {team: a}}
data: {color: red, size: big}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: elsewhere, namespace: other}
---
apiVersion: v1
kind: Secret
metadata: {name: login, namespace: prod}
data: {user: YWRtaW4=}
stringData: {password: hunter2}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: fixed, namespace: prod}
immutable: true
data: {a: '1'}
";
    let manifest = crate::manifest::parse(text).unwrap();
    Store::new(&manifest, "prod", "2026-11-20T16:00:00Z".parse().unwrap())
}

const MAP: ObjectKind = ObjectKind::ConfigMap;
const SECRET: ObjectKind = ObjectKind::Secret;

/// Plans and commits; `None` where nothing changes.
fn change(
    store: &mut Store,
    kind: ObjectKind,
    name: &str,
    change: Change,
) -> Result<Option<Changed>, Failure> {
    Ok(match store.plan(kind, "prod", name, change)? {
        Plan::Unchanged(_) => None,
        Plan::Change(planned) => Some(store.commit(*planned)),
    })
}

fn applied(value: Value) -> Change {
    Change::Patch(PatchType::Apply, value)
}

#[test]
fn the_manifests_objects_are_there() {
    let store = store();
    let names = |kind, namespace| {
        let names = store.list(kind, namespace).into_iter();
        names.map(|object| object["metadata"]["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(MAP, None), ["config", "fixed"]);
    assert_eq!(names(SECRET, Some("prod")), ["login"]);
    assert!(names(MAP, Some("default")).is_empty());
    let secret = &store.list(SECRET, None)[0];
    assert_eq!(secret["data"], json!({"user": "YWRtaW4=", "password": "aHVudGVyMg=="}));
    assert_eq!((&secret["type"], &secret["stringData"]), (&json!("Opaque"), &Value::Null));
    let metadata = &secret["metadata"];
    assert_eq!(metadata["creationTimestamp"], "2026-11-20T16:00:00Z");
    assert_eq!((&metadata["resourceVersion"], &metadata["namespace"]), (&json!("1"), &json!("prod")));
}

#[test]
fn what_is_applied_again_changes_nothing_and_what_others_set_stays() {
    let mut store = store();
    let file = |data: Value| {
        applied(json!({"apiVersion": "v1", "kind": "ConfigMap", "data": data,
            "metadata": {"name": "config", "namespace": "prod", "labels": {"team": "a"}}}))
    };
    let same = file(json!({"color": "red", "size": "big"}));
    assert!(change(&mut store, MAP, "config", same).unwrap().is_none());
    let theirs = Change::Patch(PatchType::Merge, json!({"data": {"theirs": "x"}}));
    let patched = change(&mut store, MAP, "config", theirs).unwrap().unwrap();
    assert_eq!(patched.object["metadata"]["resourceVersion"], "2");
    let changed = change(&mut store, MAP, "config", file(json!({"color": "blue"}))).unwrap().unwrap();
    assert_eq!(changed.object["data"], json!({"color": "blue", "theirs": "x"}));
    assert!(!changed.is_new);
    assert_eq!(changed.object["metadata"]["labels"], json!({"team": "a"}));
    assert_eq!(changed.object["metadata"]["resourceVersion"], "3");

    let new = applied(json!({"apiVersion": "v1", "kind": "Secret", "stringData": {"a": "1"}}));
    let made = change(&mut store, SECRET, "new", new).unwrap().unwrap();
    assert!(made.is_new);
    assert_eq!(made.object["data"], json!({"a": "MQ=="}));
    // What stringData has no more is gone, too.
    let other = applied(json!({"apiVersion": "v1", "kind": "Secret", "stringData": {"b": "2"}}));
    assert_eq!(
        change(&mut store, SECRET, "new", other).unwrap().unwrap().object["data"],
        json!({"b": "Mg=="})
    );
}

#[test]
fn objects_appear_are_replaced_and_disappear() {
    let mut store = store();
    let object = |data: Value| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "new"}, "data": data});
    let missing = |result: Result<Option<Changed>, Failure>| matches!(result, Err(Failure::NotFound(message)) if message == "configmaps \"new\" not found");
    assert!(missing(change(&mut store, MAP, "new", Change::Replace(object(json!({}))))));
    assert!(missing(change(&mut store, MAP, "new", Change::Delete)));
    assert!(missing(change(&mut store, MAP, "new", Change::Patch(PatchType::Strategic, json!({})))));
    let made = change(&mut store, MAP, "new", Change::Create(object(json!({"a": "1"})))).unwrap().unwrap();
    assert!(made.is_new);
    let again = change(&mut store, MAP, "new", Change::Create(object(json!({}))));
    assert!(matches!(again, Err(Failure::AlreadyExists(message)) if message.contains("already exists")));

    let mut seen = made.object;
    seen["data"] = json!({"a": "2"});
    let replaced = change(&mut store, MAP, "new", Change::Replace(seen.clone())).unwrap().unwrap();
    assert_eq!(replaced.object["data"], json!({"a": "2"}));
    assert_eq!(replaced.object["metadata"]["uid"], seen["metadata"]["uid"]);
    let stale = change(&mut store, MAP, "new", Change::Replace(seen));
    assert!(matches!(stale, Err(Failure::Conflict(message)) if message.contains("has been modified")));

    let deleted = change(&mut store, MAP, "new", Change::Delete).unwrap().unwrap();
    assert_eq!(deleted.object["metadata"]["name"], "new");
    assert!(missing(change(&mut store, MAP, "new", Change::Delete)));
}

#[test]
fn what_is_wrong_is_refused_and_nothing_changes() {
    let mut store = store();
    let before = (store.list(MAP, None), store.list(SECRET, None));
    let merge = |value: Value| Change::Patch(PatchType::Merge, value);
    let mut told = |kind, name: &str, wanted: Change| match change(&mut store, kind, name, wanted) {
        Err(failure) => failure.to_string(),
        Ok(_) => panic!("{name}"),
    };
    assert_eq!(
        told(MAP, "fixed", merge(json!({"data": {"a": "2"}}))),
        "ConfigMap \"fixed\" is invalid: data: Forbidden: field is immutable when `immutable` is set"
    );
    assert!(told(MAP, "config", merge(json!({"data": {"../x": ""}}))).contains("data[../x]: "));
    assert!(
        told(MAP, "config", merge(json!({"metadata": {"labels": {"a b": ""}}})))
            .contains("metadata.labels[a b]")
    );
    assert!(
        told(MAP, "config", merge(json!({"data": {"a": 1}}))).contains("cannot be handled as a ConfigMap")
    );
    assert!(
        told(MAP, "config", merge(json!({"metadata": {"name": "x"}}))).contains("does not match the name")
    );
    assert!(told(MAP, "config", merge(json!({"metadata": {"namespace": "x"}}))).contains("the namespace of"));
    assert!(
        told(SECRET, "login", merge(json!({"data": {"user": "no base64!"}}))).contains("cannot be handled")
    );
    assert!(told(SECRET, "login", merge(json!({"type": "example.com/x"}))).contains("type: Invalid value"));
    assert!(told(MAP, "Upper", applied(json!({"data": {}}))).contains("metadata.name"));
    assert!(
        told(MAP, "big", applied(json!({"data": {"a": "x".repeat((1 << 20) + 1)}}))).contains("too long")
    );
    let foreign = store.plan(MAP, "default", "config", Change::Delete);
    assert!(matches!(foreign, Err(Failure::NotFound(_))));
    assert_eq!((store.list(MAP, None), store.list(SECRET, None)), before);
}

#[test]
fn objects_are_bounded() {
    let mut store = store();
    let object = applied(json!({"data": {"a": "x".repeat(1 << 20)}}));
    let mut count = 0;
    let refused = loop {
        match change(&mut store, MAP, &format!("big-{count}"), object.clone()) {
            Ok(_) => count += 1,
            Err(failure) => break failure,
        }
    };
    assert!(matches!(refused, Failure::Unavailable(_)), "{refused}");
    assert!((20..32).contains(&count), "{count}");
    // One that is there can still change.
    let smaller = applied(json!({"data": {"a": "x"}}));
    assert!(change(&mut store, MAP, "big-0", smaller).unwrap().is_some());
}
