//! Serves the API on a unix socket.
//!
//! ```text
//! accept ─► at most MAX_CONNECTIONS ─► one request each, within REQUEST_TIME ─► route ─► Pods ─► JSON
//! ```
//!
//! Everything ends when the future of [`serve`] is dropped.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use serde::Serialize;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::types::{IpcKind, PodIpc, PodNetwork};

/// Requests that are answered at the same time; others wait in the socket's backlog. All clients are one user's.
pub const MAX_CONNECTIONS: usize = 16;

/// How long a client may take to say what it wants.
const HEAD_TIME: Duration = Duration::from_secs(5);

/// How long a request may take with everything: a client that does not read loses its answer.
const REQUEST_TIME: Duration = Duration::from_secs(60);

/// The longest request head, bytes: a path with the longest names is 600 bytes. What hyper calls its buffer.
const HEAD_BYTES: usize = 16 * 1024;

/// Whoever runs the pods.
pub trait Pods: Clone + Send + Sync + 'static {
    /// All of them, with their status of now.
    fn list(&self) -> impl Future<Output = Result<Vec<Pod>, Failure>> + Send;

    /// The network of the one pod that [`Pods::list`] has under this uid.
    fn network(&self, uid: &str) -> impl Future<Output = Result<PodNetwork, Failure>> + Send;

    /// What its containers share.
    fn ipc(&self, uid: &str) -> impl Future<Output = Result<PodIpc, Failure>> + Send;

    /// Removes the name of something that they share.
    fn remove_ipc(
        &self,
        uid: &str,
        kind: IpcKind,
        name: String,
    ) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// Why a request cannot be answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// No such pod, or no such path.
    #[error("{0}")]
    NotFound(String),
    /// Not what this path is for.
    #[error("{0} is not possible here; use {1}")]
    Method(String, &'static str),
    /// The request makes no sense.
    #[error("{0}")]
    BadRequest(String),
    /// The pod ends, or has too much to answer already.
    #[error("{0}")]
    Unavailable(String),
    /// The pod does not answer.
    #[error("the pod process does not answer in time")]
    Timeout,
}

impl Failure {
    /// The HTTP status, and the reason as `k8s.io/apimachinery/pkg/apis/meta/v1` names it.
    fn code(&self) -> (StatusCode, &'static str) {
        match self {
            Self::NotFound(_) => (StatusCode::NOT_FOUND, "NotFound"),
            Self::Method(..) => (StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed"),
            Self::BadRequest(_) => (StatusCode::BAD_REQUEST, "BadRequest"),
            Self::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable"),
            Self::Timeout => (StatusCode::GATEWAY_TIMEOUT, "Timeout"),
        }
    }

    fn response(&self) -> Response<Full<Bytes>> {
        let (code, reason) = self.code();
        let status = Status {
            status: Some("Failure".to_owned()),
            message: Some(self.to_string()),
            reason: Some(reason.to_owned()),
            code: Some(code.as_u16().into()),
            ..Status::default()
        };
        let mut response = json(&status);
        *response.status_mut() = code;
        if let Self::Method(_, allowed) = self {
            response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
        }
        response
    }
}

/// Serves until it is dropped.
pub async fn serve<P: Pods>(listener: UnixListener, pods: P) {
    let mut connections = JoinSet::new();
    loop {
        if connections.len() >= MAX_CONNECTIONS {
            connections.join_next().await;
            continue;
        }
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, pods.clone()));
                }
                Err(error) => {
                    // No files left, most likely: it passes.
                    tracing::warn!("control socket: {error}");
                    tokio::time::sleep(HEAD_TIME).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection<P: Pods>(stream: UnixStream, pods: P) {
    let service = service_fn(move |request| {
        let pods = pods.clone();
        async move { Ok::<_, Infallible>(answer(request, &pods).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(HEAD_BYTES)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    // A client that breaks off, or speaks no HTTP, has nobody else to tell.
    let _ = timeout(REQUEST_TIME, connection).await;
}

async fn answer<P: Pods>(request: Request<Incoming>, pods: &P) -> Response<Full<Bytes>> {
    let method = request.method();
    let uri = request.uri();
    let routed = match Route::parse(uri.path()) {
        // Whether there is such a path at all comes first.
        None => Err(unknown_path(uri.path())),
        Some(route) if method != route.method() => {
            Err(Failure::Method(method.to_string(), route.method_name()))
        }
        Some(route) => match uri.query() {
            Some(query) => Err(Failure::BadRequest(format!("unknown parameters {query:?}"))),
            None => follow(route, pods).await,
        },
    };
    routed.unwrap_or_else(|failure| failure.response())
}

/// What the paths mean.
#[derive(Debug, PartialEq, Eq)]
enum Route<'a> {
    List,
    Pod { namespace: &'a str, name: &'a str },
    Network { namespace: &'a str, name: &'a str },
    Ipc { namespace: &'a str, name: &'a str },
    IpcObject { namespace: &'a str, name: &'a str, kind: &'a str, object: &'a str },
}

impl<'a> Route<'a> {
    fn parse(path: &'a str) -> Option<Self> {
        let parts: Vec<&str> = path.strip_prefix("/api/v1/")?.split('/').collect();
        Some(match parts[..] {
            ["pods"] => Self::List,
            ["namespaces", namespace, "pods", name] => Self::Pod { namespace, name },
            ["namespaces", namespace, "pods", name, "network"] => Self::Network { namespace, name },
            ["namespaces", namespace, "pods", name, "ipc"] => Self::Ipc { namespace, name },
            ["namespaces", namespace, "pods", name, "ipc", kind, object] => {
                Self::IpcObject { namespace, name, kind, object }
            }
            _ => return None,
        })
    }

    fn method(&self) -> Method {
        if let Self::IpcObject { .. } = self { Method::DELETE } else { Method::GET }
    }

    fn method_name(&self) -> &'static str {
        if let Self::IpcObject { .. } = self { "DELETE" } else { "GET" }
    }
}

/// A part of a path as text; `None` when it is none (RFC 3986, section 2.1).
pub(crate) fn decode(part: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part;
    while let Some((before, after)) = rest.split_once('%') {
        bytes.extend(before.bytes());
        bytes.push(u8::from_str_radix(after.get(..2)?, 16).ok()?);
        rest = &after[2..];
    }
    bytes.extend(rest.bytes());
    String::from_utf8(bytes).ok()
}

fn unknown_path(path: &str) -> Failure {
    Failure::NotFound(format!("the server has no path {path:?}"))
}

async fn follow<P: Pods>(route: Route<'_>, pods: &P) -> Result<Response<Full<Bytes>>, Failure> {
    match route {
        Route::List => {
            let items = pods.list().await?;
            Ok(json(&k8s_openapi::List { items, metadata: Default::default() }))
        }
        Route::Pod { namespace, name } => Ok(json(&find(pods, namespace, name).await?)),
        Route::Network { namespace, name } => {
            let pod = find(pods, namespace, name).await?;
            Ok(json(&pods.network(pod.metadata.uid.as_deref().unwrap_or_default()).await?))
        }
        Route::Ipc { namespace, name } => {
            let pod = find(pods, namespace, name).await?;
            Ok(json(&pods.ipc(pod.metadata.uid.as_deref().unwrap_or_default()).await?))
        }
        Route::IpcObject { namespace, name, kind, object } => {
            let known = IpcKind::ALL.into_iter().find(|known| known.as_str() == kind);
            let kind = known.ok_or_else(|| Failure::NotFound(format!("the pod shares no {kind:?}")))?;
            let object = decode(object);
            let object = object.ok_or_else(|| Failure::BadRequest("the name is no UTF-8".to_owned()))?;
            let pod = find(pods, namespace, name).await?;
            pods.remove_ipc(pod.metadata.uid.as_deref().unwrap_or_default(), kind, object).await?;
            Ok(json(&Status { status: Some("Success".to_owned()), ..Status::default() }))
        }
    }
}

async fn find<P: Pods>(pods: &P, namespace: &str, name: &str) -> Result<Pod, Failure> {
    let is_it = |pod: &Pod| {
        pod.metadata.name.as_deref() == Some(name)
            && pod.metadata.namespace.as_deref().unwrap_or("default") == namespace
    };
    let found = pods.list().await?.into_iter().find(is_it);
    found.ok_or_else(|| Failure::NotFound(format!("pods {name:?} not found in namespace {namespace:?}")))
}

fn json(value: &impl Serialize) -> Response<Full<Bytes>> {
    // Serialising these types cannot fail: no map has a key that is not a string.
    let body = serde_json::to_vec(value).unwrap_or_default();
    let mut response = Response::new(Full::from(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests;
