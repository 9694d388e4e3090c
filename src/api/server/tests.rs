use http_body_util::BodyExt;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;

use super::super::types::API_VERSION;
use super::*;

/// One pod, which knows its network unless it is told not to.
#[derive(Clone)]
struct One(Option<Failure>);

impl Pods for One {
    async fn list(&self) -> Result<Vec<Pod>, Failure> {
        let mut pod = Pod::default();
        pod.metadata.name = Some("web".to_owned());
        pod.metadata.namespace = Some("prod".to_owned());
        pod.metadata.uid = Some("u1".to_owned());
        let web = k8s_openapi::api::core::v1::Container { name: "web".to_owned(), ..Default::default() };
        pod.spec.get_or_insert_default().containers = vec![web];
        Ok(vec![pod])
    }

    async fn network(&self, uid: &str) -> Result<PodNetwork, Failure> {
        assert_eq!(uid, "u1");
        match &self.0 {
            Some(failure) => Err(failure.clone()),
            None => Ok(PodNetwork {
                api_version: API_VERSION.to_owned(),
                kind: "PodNetwork".to_owned(),
                metadata: Default::default(),
                sockets: Vec::new(),
                omitted: 0,
                containers: Vec::new(),
                denied_packets: Default::default(),
            }),
        }
    }

    async fn ipc(&self, uid: &str) -> Result<PodIpc, Failure> {
        assert_eq!(uid, "u1");
        Ok(PodIpc {
            api_version: API_VERSION.to_owned(),
            kind: "PodIpc".to_owned(),
            metadata: Default::default(),
            objects: Vec::new(),
        })
    }

    async fn remove_ipc(&self, uid: &str, kind: IpcKind, name: String) -> Result<(), Failure> {
        assert_eq!(uid, "u1");
        if (kind, &*name) == (IpcKind::Queue, "/a+b") { Ok(()) } else { Err(Failure::NotFound(name)) }
    }

    async fn timeline(&self, uid: &str) -> Result<Timeline, Failure> {
        assert_eq!(uid, "u1");
        Ok(Timeline {
            api_version: API_VERSION.to_owned(),
            kind: "PodTimeline".to_owned(),
            metadata: Default::default(),
            began: Default::default(),
            supervisor: Vec::new(),
            pod: Vec::new(),
            containers: Vec::new(),
        })
    }

    async fn events(&self) -> Result<Vec<Event>, Failure> {
        let mut event = Event { reason: Some("Killing".to_owned()), ..Event::default() };
        event.metadata.namespace = Some("prod".to_owned());
        event.involved_object.name = Some("web".to_owned());
        Ok(vec![event])
    }

    async fn delete(&self, uid: &str, grace: Option<u32>) -> Result<Pod, Failure> {
        assert_eq!(uid, "u1");
        let mut pod = self.list().await?.remove(0);
        pod.metadata.deletion_grace_period_seconds = Some(grace.map_or(30, Into::into));
        Ok(pod)
    }

    async fn set_conditions(&self, uid: &str, conditions: Vec<PodCondition>) -> Result<(), Failure> {
        assert_eq!((uid, conditions.len()), ("u1", 1));
        Ok(())
    }

    async fn resize(&self, uid: &str, wanted: Pod) -> Result<Pod, Failure> {
        assert_eq!(uid, "u1");
        Ok(wanted)
    }

    async fn update(&self, uid: &str, kind: PatchType, patch: Value, _: bool) -> Result<Pod, Failure> {
        assert_eq!((uid, kind), ("u1", PatchType::Merge));
        let pod = serde_json::to_value(self.list().await?.remove(0)).unwrap();
        Ok(serde_json::from_value(kind.apply(pod, patch).map_err(Failure::BadRequest)?).unwrap())
    }

    async fn objects(&self, kind: ObjectKind, namespace: Option<&str>) -> Result<Vec<Value>, Failure> {
        let object =
            json!({"apiVersion": "v1", "kind": kind.kind(), "metadata": {"name": "x", "namespace": "prod"}});
        Ok(if namespace.is_none_or(|namespace| namespace == "prod") { vec![object] } else { Vec::new() })
    }

    async fn object(&self, kind: ObjectKind, namespace: &str, name: &str) -> Result<Option<Value>, Failure> {
        let all = self.objects(kind, Some(namespace)).await?;
        Ok(all.into_iter().find(|object| object["metadata"]["name"] == name))
    }

    async fn change_object(
        &self,
        kind: ObjectKind,
        namespace: &str,
        name: &str,
        change: Change,
        _: bool,
    ) -> Result<Changed, Failure> {
        assert_eq!((kind, namespace), (ObjectKind::ConfigMap, "prod"));
        match change {
            Change::Create(object) => Ok(Changed { object, is_new: true }),
            Change::Patch(PatchType::Apply, object) => Ok(Changed { object, is_new: name != "x" }),
            Change::Replace(object) | Change::Patch(_, object) => Ok(Changed { object, is_new: false }),
            Change::Delete if name == "x" => Ok(Changed { object: Value::Null, is_new: false }),
            Change::Delete => Err(Failure::no_object(kind, name)),
        }
    }

    async fn exec(&self, uid: &str, _: ExecOptions) -> Result<Session, Failure> {
        assert_eq!(uid, "u1");
        Self::unavailable()
    }

    async fn add_ephemeral(&self, uid: &str, _: EphemeralContainer) -> Result<Pod, Failure> {
        assert_eq!(uid, "u1");
        Self::unavailable()
    }
}

impl One {
    /// What has no pod process answers no command.
    fn unavailable<T>() -> Result<T, Failure> {
        Err(Failure::Unavailable("the pod ends".to_owned()))
    }
}

struct Server {
    directory: tempfile::TempDir,
    tasks: JoinSet<()>,
    end: Option<oneshot::Sender<()>>,
}

impl Server {
    fn start(pods: One) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("s")).unwrap();
        let mut tasks = JoinSet::new();
        let (end, is_over) = oneshot::channel();
        tasks.spawn(serve(listener, pods, async { drop(is_over.await) }));
        Self { directory, tasks, end: Some(end) }
    }

    async fn connect(&self) -> UnixStream {
        UnixStream::connect(self.directory.path().join("s")).await.unwrap()
    }

    async fn ask(&self, method: &str, path: &str) -> (u16, serde_json::Value) {
        self.send(method, path, "", "").await
    }

    /// With a body of this media type.
    async fn send(&self, method: &str, path: &str, media_type: &str, body: &str) -> (u16, serde_json::Value) {
        let io = TokioIo::new(self.connect().await);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        let request = Request::builder().method(method).uri(path).header("host", "localhost");
        let request = request.header(CONTENT_TYPE, media_type);
        let (response, _) = tokio::join!(
            sender.send_request(request.body(Full::<Bytes>::from(body.to_owned())).unwrap()),
            connection
        );
        let response = response.unwrap();
        let code = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (code, serde_json::from_slice(&body).unwrap())
    }
}

#[tokio::test]
async fn every_path_answers_as_kubernetes_does() {
    let server = Server::start(One(None));
    let (code, list) = server.ask("GET", "/api/v1/pods").await;
    assert_eq!(
        (code, &list["kind"], &list["items"][0]["metadata"]["name"]),
        (200, &"PodList".into(), &"web".into())
    );
    let (code, pod) = server.ask("GET", "/api/v1/namespaces/prod/pods/web").await;
    assert_eq!((code, &pod["kind"]), (200, &"Pod".into()));
    let (code, network) = server.ask("GET", "/api/v1/namespaces/prod/pods/web/network").await;
    assert_eq!((code, &network["kind"]), (200, &"PodNetwork".into()));
    let (code, ipc) = server.ask("GET", "/api/v1/namespaces/prod/pods/web/ipc").await;
    assert_eq!((code, &ipc["kind"]), (200, &"PodIpc".into()));
    let (code, status) = server.ask("DELETE", "/api/v1/namespaces/prod/pods/web/ipc/queue/%2Fa+b").await;
    assert_eq!((code, &status["status"]), (200, &"Success".into()));
    for (code, reason, method, path) in [
        (404, "NotFound", "DELETE", "/api/v1/namespaces/prod/pods/web/ipc/queue/%2Fmail"),
        (404, "NotFound", "DELETE", "/api/v1/namespaces/prod/pods/web/ipc/queues/%2Fjobs"),
        (400, "BadRequest", "DELETE", "/api/v1/namespaces/prod/pods/web/ipc/queue/%zz"),
        (405, "MethodNotAllowed", "GET", "/api/v1/namespaces/prod/pods/web/ipc/queue/%2Fjobs"),
        (404, "NotFound", "GET", "/"),
        (404, "NotFound", "GET", "/api/v1/pods/web"),
        (404, "NotFound", "GET", "/api/v1/namespaces/default/pods/web"),
        (404, "NotFound", "GET", "/api/v1/namespaces/prod/pods/wbe/network"),
        (404, "NotFound", "POST", "/api/v1/nodes"),
        (405, "MethodNotAllowed", "PUT", "/api/v1/namespaces/prod/pods/web"),
        (405, "MethodNotAllowed", "DELETE", "/api/v1/namespaces/prod/pods/web/network"),
        (415, "UnsupportedMediaType", "PATCH", "/api/v1/namespaces/prod/pods/web"),
        (404, "NotFound", "GET", "/api/v1/namespaces/prod/configmaps/y"),
        (404, "NotFound", "GET", "/api/v1/namespaces/default/configmaps/x"),
        (404, "NotFound", "DELETE", "/api/v1/namespaces/prod/configmaps/y"),
        (404, "NotFound", "GET", "/api/v1/services"),
        (405, "MethodNotAllowed", "POST", "/api/v1/configmaps"),
        (405, "MethodNotAllowed", "PUT", "/api/v1/namespaces/prod/secrets"),
        (405, "MethodNotAllowed", "POST", "/api/v1/namespaces/prod/secrets/x"),
        (400, "BadRequest", "DELETE", "/api/v1/namespaces/prod/configmaps/x?dryRun=All"),
        (400, "BadRequest", "PUT", "/api/v1/namespaces/prod/configmaps/x"),
        (404, "NotFound", "DELETE", "/api/v1/namespaces/prod/pods/wbe"),
        (404, "NotFound", "PATCH", "/api/v1/namespaces/prod/pods/web/spec"),
        (400, "BadRequest", "DELETE", "/api/v1/namespaces/prod/pods/web?gracePeriodSeconds=soon"),
        (400, "BadRequest", "GET", "/api/v1/events?fieldSelector=spec.nodeName%3Dx"),
        (415, "UnsupportedMediaType", "PATCH", "/api/v1/namespaces/prod/pods/web/status"),
        (405, "MethodNotAllowed", "GET", "/api/v1/namespaces/prod/pods/web/ephemeralcontainers"),
        (405, "MethodNotAllowed", "DELETE", "/api/v1/namespaces/prod/pods/web/exec"),
        (400, "BadRequest", "GET", "/api/v1/pods?watch=true"),
        (400, "BadRequest", "GET", "/api/v1/pods?labelSelector=a%20b"),
        (400, "BadRequest", "GET", "/api/v1/configmaps?fieldSelector=type%3Dx"),
        (400, "BadRequest", "POST", "/api/v1/namespaces/prod/pods/web/ephemeralcontainers"),
        (400, "BadRequest", "GET", "/api/v1/namespaces/prod/pods/web/exec"),
        (400, "BadRequest", "GET", "/api/v1/namespaces/prod/pods/web/exec?command=x&stdout=1"),
        (404, "NotFound", "GET", "/api/v1/namespaces/prod/pods/wbe/exec?command=x&stdout=1"),
    ] {
        let (got, status) = server.ask(method, path).await;
        assert_eq!(got, code, "{method} {path}");
        assert_eq!((&status["kind"], &status["status"]), (&"Status".into(), &"Failure".into()));
        assert_eq!((&status["code"], &status["reason"]), (&code.into(), &reason.into()));
        assert!(!status["message"].as_str().unwrap().is_empty());
    }
}

#[tokio::test]
async fn events_are_selected_and_timelines_found() {
    let server = Server::start(One(None));
    for (path, count) in [
        ("/api/v1/events", 1),
        ("/api/v1/namespaces/prod/events?fieldSelector=involvedObject.name%3Dweb", 1),
        ("/api/v1/namespaces/prod/events?fieldSelector=involvedObject.name%3Dwbe", 0),
        ("/api/v1/namespaces/default/events", 0),
    ] {
        let (code, list) = server.ask("GET", path).await;
        assert_eq!((code, &list["kind"]), (200, &"EventList".into()));
        assert_eq!(list["items"].as_array().map(Vec::len), Some(count), "{path}");
    }
    let (code, timeline) = server.ask("GET", "/api/v1/namespaces/prod/pods/web/timeline").await;
    assert_eq!((code, &timeline["kind"]), (200, &"PodTimeline".into()));
    let (_, pods) = server.ask("GET", "/api/v1/namespaces/default/pods").await;
    assert_eq!(pods["items"], json!([]));
}

#[tokio::test]
async fn objects_are_listed_and_changed() {
    let server = Server::start(One(None));
    let (code, list) = server.ask("GET", "/api/v1/configmaps").await;
    assert_eq!(
        (code, &list["kind"], &list["items"][0]["metadata"]["name"]),
        (200, &"ConfigMapList".into(), &"x".into())
    );
    for (path, count) in [
        ("/api/v1/configmaps?labelSelector=!a&fieldSelector=metadata.name%3Dx", 1),
        ("/api/v1/configmaps?labelSelector=a%20in%20(b,c)", 0),
        ("/api/v1/namespaces/prod/secrets?fieldSelector=type!%3DOpaque", 1),
        ("/api/v1/pods?fieldSelector=status.phase%3DNever", 0),
        ("/api/v1/namespaces/prod/pods?fieldSelector=metadata.name%3Dweb", 1),
    ] {
        let (code, list) = server.ask("GET", path).await;
        assert_eq!((code, list["items"].as_array().map(Vec::len)), (200, Some(count)), "{path}");
    }
    let (_, list) = server.ask("GET", "/api/v1/namespaces/default/secrets").await;
    assert_eq!((&list["kind"], &list["items"]), (&"SecretList".into(), &json!([])));
    let all = "/api/v1/namespaces/prod/configmaps";
    let (one, new) = (format!("{all}/x"), format!("{all}/new"));
    let (code, object) = server.ask("GET", &one).await;
    assert_eq!((code, &object["kind"]), (200, &"ConfigMap".into()));
    let json_type = "application/json";
    let (merge, apply) = ("application/merge-patch+json", "application/apply-patch+yaml");
    for (method, path, media_type, body, code) in [
        ("POST", all, json_type, "{\"metadata\":{\"name\":\"new\"}}", 201),
        ("PUT", &*one, json_type, "{\"data\":{}}", 200),
        ("PATCH", &*one, merge, "{\"data\":{}}", 200),
        ("PATCH", &*one, apply, "data: {a: b}", 200),
        ("PATCH", &*new, apply, "data: {a: b}", 201),
        ("PATCH", &*one, apply, "data: [", 400),
        ("PATCH", &*one, "application/json-patch+json", "[]", 415),
    ] {
        let (got, answer) = server.send(method, path, media_type, body).await;
        assert_eq!(got, code, "{method} {path} {body}: {answer}");
    }
    let (code, status) = server.ask("DELETE", &one).await;
    assert_eq!((code, &status["status"]), (200, &"Success".into()));
    let long = format!("{{\"x\":\"{}\"}}", "x".repeat(patch::BODY_BYTES));
    assert_eq!(server.send("PUT", &one, json_type, &long).await.0, 413);

    let pod = "/api/v1/namespaces/prod/pods/web";
    let labels = "{\"metadata\":{\"labels\":{\"a\":\"b\"}}}";
    let (code, patched) = server.send("PATCH", pod, merge, labels).await;
    assert_eq!((code, &patched["metadata"]["labels"]), (200, &json!({"a": "b"})));
}

#[tokio::test]
async fn a_pod_is_patched_and_deleted_as_by_kubectl() {
    let server = Server::start(One(None));
    let pod = "/api/v1/namespaces/prod/pods/web";
    let (strategic, merge) = ("application/strategic-merge-patch+json", "application/merge-patch+json");
    let set = json!({"status": {"conditions": [{"type": "example.com/gate", "status": "True"}]}}).to_string();
    for media_type in [strategic, merge] {
        let (code, patched) = server.send("PATCH", &format!("{pod}/status"), media_type, &set).await;
        assert_eq!(code, 200, "{patched}");
        assert_eq!(patched["status"]["conditions"][0]["type"], "example.com/gate");
    }
    let wrong = json!({"status": {"phase": "Failed", "podIP": "10.0.0.1"}}).to_string();
    let (code, status) = server.send("PATCH", &format!("{pod}/status"), strategic, &wrong).await;
    assert_eq!(
        (code, &status["reason"], &status["details"]["kind"]),
        (422, &"Invalid".into(), &"Pod".into())
    );
    let causes = status["details"]["causes"].as_array().unwrap();
    assert_eq!((&causes[0]["field"], causes.len()), (&"status.phase".into(), 2));
    assert!(status["message"].as_str().unwrap().contains("status.podIP"), "{status}");

    let resize =
        json!({"spec": {"containers": [{"name": "web", "resources": {"limits": {"cpu": "1"}}}]}}).to_string();
    let (code, patched) = server.send("PATCH", &format!("{pod}/resize"), strategic, &resize).await;
    assert_eq!(code, 200, "{patched}");
    assert_eq!(patched["spec"]["containers"][0]["resources"]["limits"]["cpu"], "1");
    for (code, media_type, body) in
        [(400, strategic, "{"), (400, strategic, "[]"), (415, "application/json-patch+json", "[]")]
    {
        assert_eq!(server.send("PATCH", &format!("{pod}/resize"), media_type, body).await.0, code, "{body}");
    }
    let long = format!("{{\"x\":\"{}\"}}", "x".repeat(patch::BODY_BYTES));
    assert_eq!(server.send("PATCH", &format!("{pod}/status"), merge, &long).await.0, 413);

    let grace = |pod: &serde_json::Value| pod["metadata"]["deletionGracePeriodSeconds"].as_i64();
    let (code, deleted) = server.ask("DELETE", pod).await;
    assert_eq!((code, grace(&deleted)), (200, Some(30)));
    let (_, deleted) = server.ask("DELETE", &format!("{pod}?gracePeriodSeconds=5")).await;
    assert_eq!(grace(&deleted), Some(5));
    let (_, deleted) = server.ask("DELETE", &format!("{pod}?gracePeriodSeconds=-7")).await;
    assert_eq!(grace(&deleted), Some(1));
    let (_, deleted) = server
        .send(
            "DELETE",
            pod,
            "application/json",
            r#"{"kind":"DeleteOptions","apiVersion":"v1","gracePeriodSeconds":0}"#,
        )
        .await;
    assert_eq!(grace(&deleted), Some(0));
}

#[tokio::test]
async fn a_pod_that_cannot_answer_is_a_status_too() {
    for (failure, code) in [(Failure::Timeout, 504), (Failure::Unavailable("the pod ends".to_owned()), 503)] {
        let server = Server::start(One(Some(failure)));
        let (got, status) = server.ask("GET", "/api/v1/namespaces/prod/pods/web/network").await;
        assert_eq!((got, status["code"].as_i64()), (code, Some(code.into())));
    }
}

#[tokio::test]
async fn who_has_begun_to_ask_when_the_server_ends_is_answered_and_who_is_silent_does_not_hold_it_up() {
    let mut server = Server::start(One(None));
    let (mut asking, _silent) = (server.connect().await, server.connect().await);
    asking.write_all(b"GET /api/v1/pods HTTP/1.1\r\n").await.unwrap();
    // Whoever is served after them shows that they are known.
    assert_eq!(server.ask("GET", "/api/v1/pods").await.0, 200);
    server.end.take();
    asking.write_all(b"\r\n").await.unwrap();
    let mut answer = String::new();
    asking.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    server.tasks.join_next().await.unwrap().unwrap();
    assert!(UnixStream::connect(server.directory.path().join("s")).await.is_err());
}

#[tokio::test]
async fn garbage_is_refused_and_harms_nobody() {
    let mut server = Server::start(One(None));
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(4 * HEAD_BYTES));
    for garbage in
        ["\0\0\0\0\r\n\r\n", "hello\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "{\"stop\":{}}\n\r\n", &long]
    {
        let mut stream = server.connect().await;
        // It may be closed before it took everything.
        let _ = stream.write_all(garbage.as_bytes()).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        assert!(!answer.starts_with(b"HTTP/1.1 2"), "{garbage:?}");
    }
    // Those that say nothing take places; when they go, the next is served.
    let mut silent = Vec::new();
    for _ in 0..MAX_CONNECTIONS {
        silent.push(server.connect().await);
    }
    drop(silent);
    assert_eq!(server.ask("GET", "/api/v1/pods").await.0, 200);
    assert!(server.tasks.try_join_next().is_none());
}
