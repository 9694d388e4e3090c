use std::cell::{Cell, RefCell};
use std::path::Path;

use serde_json::json;

use super::super::super::startup::Startup;
use super::super::{About, Inquiry, Resize};
use super::*;
use crate::spec::convert::Converted;

const MANIFEST: &[u8] = b"
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}, annotations: {peapod.dev/ipc.queues: '4'}}
spec: {containers: [{name: web, image: ./web.wasm, resources: {limits: {cpu: 100m}}}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: config}
data: {color: red}
";

/// What the world outside was told.
#[derive(Default)]
struct Told {
    resized: RefCell<Vec<i64>>,
    relabelled: RefCell<Vec<BTreeMap<String, String>>>,
    /// The labels cannot be written.
    refuses_labels: Cell<bool>,
}

/// Has `test` ask about a pod.
fn with_pod(test: impl FnOnce(&mut Questions<'_>, &Told)) {
    let Converted { pod: spec, wire, manifest, .. } =
        convert::load(MANIFEST, &convert::Options::default()).unwrap();
    let (startup, told) = (Startup::new(), Told::default());
    let resize: Resize<'_> = &|pod| {
        told.resized.borrow_mut().push(pod.generation);
        Ok(Request::CancelExec { id: 0 })
    };
    let relabel: Relabel<'_> = &|labels| {
        told.relabelled.borrow_mut().push(labels.clone());
        if told.refuses_labels.get() { Err(RecordError::Running("x".to_owned())) } else { Ok(()) }
    };
    let about = About {
        pod: &wire,
        spec: &spec,
        directory: Path::new("/"),
        startup: &startup,
        manifest: &manifest,
        resize,
        relabel,
    };
    test(&mut Questions::new(about), &told);
}

type Answer<T> = oneshot::Receiver<Result<T, Failure>>;

fn object(questions: &mut Questions<'_>, data: Value) -> (Option<Outgoing>, Answer<Changed>) {
    let (answer, answered) = oneshot::channel();
    let wanted = Wanted::Object {
        kind: ObjectKind::ConfigMap,
        namespace: "default".to_owned(),
        name: "config".to_owned(),
        change: Change::Patch(PatchType::Merge, json!({"data": data})),
        is_dry_run: false,
        answer,
    };
    (questions.inquire(Inquiry::Configure(Box::new(wanted)), None), answered)
}

fn pod(questions: &mut Questions<'_>, kind: PatchType, patch: Value) -> (Option<Outgoing>, Answer<Pod>) {
    let (answer, answered) = oneshot::channel();
    let wanted = Wanted::Pod { kind, patch, is_dry_run: false, answer };
    (questions.inquire(Inquiry::Configure(Box::new(wanted)), None), answered)
}

fn id_of(outgoing: Option<Outgoing>) -> u64 {
    match outgoing {
        Some((Request::Configure { id, .. }, _)) => id,
        other => panic!("{other:?}"),
    }
}

#[test]
fn one_change_after_the_other_and_none_before_the_pod_has_it() {
    with_pod(|questions, _| {
        let (first, mut first_answer) = object(questions, json!({"color": "blue"}));
        let (second, mut second_answer) = object(questions, json!({"size": "big"}));
        assert!(second.is_none() && first_answer.try_recv().is_err());
        assert_eq!(questions.spec.objects.config_maps["config"].data["color"], "red");
        let first = id_of(first);
        assert!(questions.configured(first + 7, None, None).is_none());
        let second = id_of(questions.configured(first, None, None));
        assert_eq!(first_answer.try_recv().unwrap().unwrap().object["data"], json!({"color": "blue"}));
        assert_eq!(questions.spec.objects.config_maps["config"].data["color"], "blue");
        // The pod process could not.
        assert!(questions.configured(second, Some("no".to_owned()), None).is_none());
        assert!(matches!(second_answer.try_recv().unwrap(), Err(Failure::Unavailable(_))));
        assert_eq!(questions.spec.objects.config_maps["config"].data.len(), 1);
        // The same once more is no change.
        let (none, mut answer) = object(questions, json!({"color": "blue"}));
        assert!(none.is_none() && answer.try_recv().unwrap().is_ok());
    });
}

#[test]
fn those_that_wait_are_bounded_and_those_that_left_are_forgotten() {
    with_pod(|questions, _| {
        let (first, _answer) = object(questions, json!({"n": "first"}));
        let mut answers: Vec<_> =
            (0..MAX_OPEN).map(|n| object(questions, json!({"n": n.to_string()})).1).collect();
        let (_, mut refused) = object(questions, json!({"n": "more"}));
        assert!(matches!(refused.try_recv().unwrap(), Err(Failure::Unavailable(_))));
        answers.drain(..MAX_OPEN - 1);
        let next = questions.configured(id_of(first), None, None);
        assert!(questions.configured(id_of(next), None, None).is_none());
        let changed = answers[0].try_recv().unwrap().unwrap();
        assert_eq!(changed.object["data"]["n"], (MAX_OPEN - 1).to_string());
    });
}

#[test]
fn labels_reach_the_pod_the_record_and_the_answer() {
    with_pod(|questions, told| {
        let patch = json!({"metadata": {"labels": {"tier": "front"}, "annotations": {"note": "x"}}});
        let (outgoing, mut answer) = pod(questions, PatchType::Strategic, patch.clone());
        let Some((Request::Configure { id, configuration }, _)) = outgoing else { panic!() };
        let labels =
            BTreeMap::from([("app", "web"), ("tier", "front")].map(|(k, v)| (k.to_owned(), v.to_owned())));
        let Configuration::Metadata { labels: of_pod, annotations, .. } = configuration else { panic!() };
        assert_eq!((&of_pod, annotations["note"].as_str()), (&labels, "x"));
        assert_eq!(*told.relabelled.borrow(), vec![labels.clone()]);
        questions.configured(id, None, None);
        let metadata = answer.try_recv().unwrap().unwrap().metadata;
        assert_eq!((metadata.labels, metadata.generation), (Some(labels.clone()), Some(1)));
        assert_eq!(questions.spec.labels, labels);
        let (none, mut answer) = pod(questions, PatchType::Strategic, patch);
        assert!(none.is_none() && answer.try_recv().unwrap().is_ok());
        assert_eq!(told.relabelled.borrow().len(), 1);
    });
}

#[test]
fn what_cannot_change_is_refused() {
    with_pod(|questions, told| {
        let mut refused = |patch: Value| {
            let (none, mut answer) = pod(questions, PatchType::Strategic, patch);
            assert!(none.is_none());
            answer.try_recv().unwrap().unwrap_err().to_string()
        };
        let own = refused(json!({"metadata": {"annotations": {"peapod.dev/ipc.queues": null}}}));
        assert!(own.contains("metadata.annotations[peapod.dev/ipc.queues]: cannot change while"), "{own}");
        let image = refused(json!({"spec": {"containers": [{"name": "web", "image": "./x.wasm"}]}}));
        assert!(image.contains("spec: Forbidden: pod updates may not change"), "{image}");
        let cpu =
            json!({"spec": {"containers": [{"name": "web", "resources": {"limits": {"cpu": "200m"}}}]}});
        assert!(refused(cpu).contains("spec: Forbidden"));
        assert!(refused(json!({"metadata": {"name": "other"}})).contains("metadata.name: Invalid value"));
        assert!(refused(json!({"metadata": {"labels": {"a b": "x"}}})).contains("metadata.labels[a b]"));
        assert!(refused(json!({"metadata": {"labels": {"a": 1}}})).contains("is no Pod"));
        assert!(told.relabelled.borrow().is_empty() && told.resized.borrow().is_empty());
    });
}

#[test]
fn a_manifest_is_applied_again() {
    with_pod(|questions, told| {
        let file = |labels: Value, cpu: &str| {
            json!({"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [{"name": "web", "image": "./web.wasm",
                "resources": {"limits": {"cpu": cpu}}}]}, "metadata": {"name": "web", "labels": labels,
                "annotations": {"peapod.dev/ipc.queues": "4"}}})
        };
        let (none, mut answer) = pod(questions, PatchType::Apply, file(json!({"app": "web"}), "100m"));
        assert!(none.is_none());
        answer.try_recv().unwrap().unwrap();

        let labelled = pod(questions, PatchType::Merge, json!({"metadata": {"labels": {"theirs": "1"}}}));
        questions.configured(id_of(labelled.0), None, None);
        let (outgoing, mut answer) = pod(questions, PatchType::Apply, file(json!({"tier": "front"}), "200m"));
        assert_eq!(questions.ready.len(), 1, "resized, too");
        questions.configured(id_of(outgoing), None, None);
        let Pod { metadata, spec, .. } = answer.try_recv().unwrap().unwrap();
        let labels: Vec<_> = metadata.labels.unwrap().into_keys().collect();
        assert_eq!(
            labels,
            ["theirs", "tier"],
            "what the file has no more is gone, what others have set is not"
        );
        let limits = spec.unwrap().containers[0].resources.clone().unwrap().limits.unwrap();
        assert_eq!((&*limits["cpu"].0, metadata.generation), ("200m", Some(2)));
        assert_eq!(*told.resized.borrow(), [2]);

        let mut other = file(json!({"tier": "front"}), "200m");
        other["spec"]["containers"][0]["args"] = json!(["x"]);
        let (none, mut answer) = pod(questions, PatchType::Apply, other);
        let refused = answer.try_recv().unwrap().unwrap_err().to_string();
        assert!(
            none.is_none() && refused.contains("to change spec.containers[0].args delete the pod"),
            "{refused}"
        );
    });
}

#[test]
fn resources_stay_where_labels_cannot_be_written() {
    with_pod(|questions, told| {
        told.refuses_labels.set(true);
        let patch = json!({
            "metadata": {"name": "web", "labels": {"app": "other"}, "annotations": {"peapod.dev/ipc.queues": "4"}},
            "spec": {"containers": [{"name": "web", "image": "./web.wasm", "resources": {"limits": {"cpu": "200m"}}}]},
        });
        let (none, mut answer) = pod(questions, PatchType::Apply, patch);
        assert!(none.is_none() && matches!(answer.try_recv().unwrap(), Err(Failure::Unavailable(_))));
        assert_eq!((told.relabelled.borrow().len(), told.resized.borrow().len()), (1, 0));
        let limits =
            questions.pod.spec.as_ref().unwrap().containers[0].resources.as_ref().unwrap().limits.clone();
        assert_eq!(limits.unwrap()["cpu"].0, "100m");
    });
}
