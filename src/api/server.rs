//! Serves the API on a unix socket.
//!
//! ```text
//! accept ─► at most MAX_CONNECTIONS ─► one request each, within REQUEST_TIME ─► route ─► Pods ─┬─► JSON
//!                                       at most MAX_SESSIONS, until one side ends them ◄───────┴─► exec
//! ```
//!
//! Everything ends when the future of [`serve`] is dropped.

mod exec;

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use k8s_openapi::api::core::v1::{EphemeralContainer, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

pub use exec::{
    CLOSE, ERROR, Ended, ExecOptions, MAX_MESSAGE_BYTES, MAX_SESSIONS, PROTOCOLS, STDERR, STDIN, STDOUT,
    Session, config, message,
};

use exec::{Handshake, Pending};

use super::types::PodNetwork;

/// Requests that are answered at the same time; others wait in the socket's backlog. All clients are one user's.
pub const MAX_CONNECTIONS: usize = 16;

/// How long a client may take to say what it wants.
const HEAD_TIME: Duration = Duration::from_secs(5);

/// How long a request may take with everything: a client that does not read loses its answer.
const REQUEST_TIME: Duration = Duration::from_secs(60);

/// The longest request head, bytes: a path with the longest names is 600 bytes. What hyper calls its buffer.
const HEAD_BYTES: usize = 16 * 1024;

/// The longest body, bytes: Kubernetes takes 3 MiB, of which a container is a small part.
const BODY_BYTES: usize = 1 << 20;

/// Whoever runs the pods.
pub trait Pods: Clone + Send + Sync + 'static {
    /// All of them, with their status of now.
    fn list(&self) -> impl Future<Output = Result<Vec<Pod>, Failure>> + Send;

    /// The network of the one pod that [`Pods::list`] has under this uid.
    fn network(&self, uid: &str) -> impl Future<Output = Result<PodNetwork, Failure>> + Send;

    /// Begins a command in a container of the pod with this uid.
    fn exec(&self, uid: &str, options: ExecOptions) -> impl Future<Output = Result<Session, Failure>> + Send;

    /// Adds an ephemeral container to the pod with this uid, which is returned as it is then.
    fn add_ephemeral(
        &self,
        uid: &str,
        container: EphemeralContainer,
    ) -> impl Future<Output = Result<Pod, Failure>> + Send;
}

/// Why a request cannot be answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// No such pod, or no such path.
    #[error("{0}")]
    NotFound(String),
    /// Not what this path is for.
    #[error("{method} is not possible here; use {allowed}")]
    Method {
        /// The method.
        method: String,
        /// What is possible.
        allowed: &'static str,
    },
    /// The request makes no sense.
    #[error("{0}")]
    BadRequest(String),
    /// What is to be added cannot be.
    #[error("{0}")]
    Invalid(String),
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
            Self::Method { .. } => (StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed"),
            Self::BadRequest(_) => (StatusCode::BAD_REQUEST, "BadRequest"),
            Self::Invalid(_) => (StatusCode::UNPROCESSABLE_ENTITY, "Invalid"),
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
        if let Self::Method { allowed, .. } = self {
            response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
        }
        response
    }
}

/// Serves until it is dropped.
pub async fn serve<P: Pods>(listener: UnixListener, pods: P) {
    let mut connections = JoinSet::new();
    let mut sessions = JoinSet::new();
    let places = Arc::new(Semaphore::new(MAX_SESSIONS));
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, pods.clone(), Arc::clone(&places)));
                }
                Err(error) => {
                    // No files left, most likely: it passes.
                    tracing::warn!("control socket: {error}");
                    tokio::time::sleep(HEAD_TIME).await;
                }
            },
            Some(ended) = connections.join_next() => {
                // Those that have become sessions are in nobody's way.
                if let Ok(Some(pending)) = ended {
                    sessions.spawn(Pending::run(pending));
                }
            }
            Some(_) = sessions.join_next() => {}
        }
    }
}

/// Answers one request; a session that it has begun goes on after it.
async fn connection<P: Pods>(stream: UnixStream, pods: P, places: Arc<Semaphore>) -> Option<Pending> {
    let begun = Arc::new(Mutex::new(None));
    let slot = Arc::clone(&begun);
    let service = service_fn(move |request| {
        let (pods, places, slot) = (pods.clone(), Arc::clone(&places), Arc::clone(&slot));
        async move {
            let answered = answer(request, &pods, &places).await;
            let (response, pending) = answered.unwrap_or_else(|failure| (failure.response(), None));
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = pending;
            Ok::<_, Infallible>(response)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(HEAD_BYTES)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    // A client that breaks off, or speaks no HTTP, has nobody else to tell.
    let _ = timeout(REQUEST_TIME, connection).await;
    begun.lock().unwrap_or_else(PoisonError::into_inner).take()
}

type Answer = (Response<Full<Bytes>>, Option<Pending>);

async fn answer<P: Pods>(
    mut request: Request<Incoming>,
    pods: &P,
    places: &Arc<Semaphore>,
) -> Result<Answer, Failure> {
    let path = request.uri().path().to_owned();
    // Whether there is such a path at all comes first.
    let route =
        Route::parse(&path).ok_or_else(|| Failure::NotFound(format!("the server has no path {path:?}")))?;
    let allowed = route.methods();
    if !allowed.split(", ").any(|method| method == request.method().as_str()) {
        return Err(Failure::Method { method: request.method().to_string(), allowed });
    }
    let query = request.uri().query().unwrap_or_default().to_owned();
    if !query.is_empty() && !matches!(route, Route::Exec { .. }) {
        return Err(Failure::BadRequest(format!("unknown parameters {query:?}")));
    }
    let response = match route {
        Route::List => {
            let items = pods.list().await?;
            json(&k8s_openapi::List { items, metadata: Default::default() })
        }
        Route::Pod { namespace, name } => json(&find(pods, namespace, name).await?),
        Route::Network { namespace, name } => json(&pods.network(&uid(pods, namespace, name).await?).await?),
        Route::Exec { namespace, name } => {
            let uid = uid(pods, namespace, name).await?;
            let options = ExecOptions::parse(&query)?;
            let handshake = Handshake::read(request.headers())?;
            let place = Arc::clone(places).try_acquire_owned().map_err(|_| {
                Failure::Unavailable(format!("{MAX_SESSIONS} commands run already; wait until one has ended"))
            })?;
            let session = pods.exec(&uid, options).await?;
            let upgrade = hyper::upgrade::on(&mut request);
            return Ok((handshake.response(), Some(Pending { upgrade, session, _place: place })));
        }
        Route::Ephemeral { namespace, name } => {
            let is_patch = request.method() == Method::PATCH;
            let body = body(request).await?;
            let found = find(pods, namespace, name).await?;
            let uid = found.metadata.uid.clone().unwrap_or_default();
            let container = if is_patch { added(&found, parse(&body)?)? } else { parse(&body)? };
            json(&pods.add_ephemeral(&uid, container).await?)
        }
    };
    Ok((response, None))
}

async fn body(request: Request<Incoming>) -> Result<Bytes, Failure> {
    let body = Limited::new(request.into_body(), BODY_BYTES).collect().await;
    Ok(body.map_err(|error| Failure::BadRequest(format!("cannot read the body: {error}")))?.to_bytes())
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(body)
        .map_err(|error| Failure::BadRequest(format!("cannot read the body: {error}")))
}

/// The one container that a patch of the pod adds: its list may have those that are there already.
fn added(pod: &Pod, patch: Pod) -> Result<EphemeralContainer, Failure> {
    let list =
        |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.ephemeral_containers.clone()).unwrap_or_default();
    let there = list(pod);
    let mut new = list(&patch);
    new.retain(|new| !there.iter().any(|old| old.name == new.name));
    match (new.pop(), new.len()) {
        (Some(container), 0) => Ok(container),
        (None, _) => Err(Failure::BadRequest("the patch adds no ephemeral container".to_owned())),
        _ => Err(Failure::BadRequest("add one ephemeral container at a time".to_owned())),
    }
}

/// What the paths mean.
#[derive(Debug, PartialEq, Eq)]
enum Route<'a> {
    List,
    Pod { namespace: &'a str, name: &'a str },
    Network { namespace: &'a str, name: &'a str },
    Exec { namespace: &'a str, name: &'a str },
    Ephemeral { namespace: &'a str, name: &'a str },
}

impl<'a> Route<'a> {
    fn parse(path: &'a str) -> Option<Self> {
        let parts: Vec<&str> = path.strip_prefix("/api/v1/")?.split('/').collect();
        Some(match parts[..] {
            ["pods"] => Self::List,
            ["namespaces", namespace, "pods", name] => Self::Pod { namespace, name },
            ["namespaces", namespace, "pods", name, "network"] => Self::Network { namespace, name },
            ["namespaces", namespace, "pods", name, "exec"] => Self::Exec { namespace, name },
            ["namespaces", namespace, "pods", name, "ephemeralcontainers"] => {
                Self::Ephemeral { namespace, name }
            }
            _ => return None,
        })
    }

    fn methods(&self) -> &'static str {
        match self {
            Self::List | Self::Pod { .. } | Self::Network { .. } => "GET",
            Self::Exec { .. } => "GET, POST",
            Self::Ephemeral { .. } => "POST, PATCH",
        }
    }
}

async fn uid<P: Pods>(pods: &P, namespace: &str, name: &str) -> Result<String, Failure> {
    Ok(find(pods, namespace, name).await?.metadata.uid.unwrap_or_default())
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
