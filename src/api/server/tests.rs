use http_body_util::{BodyExt, Empty};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

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

    async fn ipc(&self, _: &str) -> Result<PodIpc, Failure> {
        Ok(PodIpc {
            api_version: API_VERSION.to_owned(),
            kind: "PodIpc".to_owned(),
            metadata: Default::default(),
            objects: Vec::new(),
        })
    }

    async fn remove_ipc(&self, _: &str, kind: IpcKind, name: String) -> Result<(), Failure> {
        if (kind, &*name) == (IpcKind::Queue, "/jobs") { Ok(()) } else { Err(Failure::NotFound(name)) }
    }
}

struct Server {
    directory: tempfile::TempDir,
    tasks: JoinSet<()>,
}

impl Server {
    fn start(pods: One) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("s")).unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, pods));
        Self { directory, tasks }
    }

    async fn connect(&self) -> UnixStream {
        UnixStream::connect(self.directory.path().join("s")).await.unwrap()
    }

    async fn ask(&self, method: &str, path: &str) -> (u16, serde_json::Value) {
        let io = TokioIo::new(self.connect().await);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        let request = Request::builder().method(method).uri(path).header("host", "localhost");
        let (response, _) =
            tokio::join!(sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()), connection);
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
    let (code, status) = server.ask("DELETE", "/api/v1/namespaces/prod/pods/web/ipc/queue/%2Fjobs").await;
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
        (405, "MethodNotAllowed", "DELETE", "/api/v1/namespaces/prod/pods/web"),
        (400, "BadRequest", "GET", "/api/v1/pods?watch=true"),
    ] {
        let (got, status) = server.ask(method, path).await;
        assert_eq!(got, code, "{method} {path}");
        assert_eq!((&status["kind"], &status["status"]), (&"Status".into(), &"Failure".into()));
        assert_eq!((&status["code"], &status["reason"]), (&code.into(), &reason.into()));
        assert!(!status["message"].as_str().unwrap().is_empty());
    }
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
