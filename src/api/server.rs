//! Serves the API on a unix socket.
//!
//! ```text
//! accept ─► at most MAX_CONNECTIONS ─► one request each, within REQUEST_TIME ─► route ─► Pods ─┬─► JSON
//!                                       at most MAX_SESSIONS, until one side ends them ◄───────┴─► exec
//! ```
//!
//! When it is asked to end, what is under way has [`FAREWELL`] to be told how it ended.
//! Everything ends at once when the future of [`serve`] is dropped.

mod ephemeral;
mod events;
mod exec;
mod failure;
mod ipc;
mod objects;
mod patch;
mod query;

use std::convert::Infallible;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use k8s_openapi::api::core::v1::{EphemeralContainer, Event, Pod, PodCondition};
use serde::Serialize;
use serde_json::Value;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

pub use exec::{
    CLOSE, ERROR, Ended, ExecOptions, MAX_MESSAGE_BYTES, MAX_SESSIONS, PROTOCOLS, STDERR, STDIN, STDOUT,
    Session, config, message,
};
pub use failure::Failure;
pub use query::encode;

use exec::Pending;

use self::query::Parameters;
use super::objects::{Change, Changed, ObjectKind};
use super::patch::PatchType;
use super::selection::POD_FIELDS;
use super::types::{IpcKind, PodIpc, PodNetwork, Timeline};

/// Requests that are answered at the same time; others wait in the socket's backlog. All clients are one user's.
pub const MAX_CONNECTIONS: usize = 16;

/// How long a client may take to say what it wants.
const HEAD_TIME: Duration = Duration::from_secs(5);

/// How long clients may take to read their answers when the server ends. What asked for the pod's last change learns that
/// it was made; a client that is silent does not hold the pod up for longer.
pub const FAREWELL: Duration = Duration::from_millis(500);

/// How long a request may take with everything: a client that does not read loses its answer.
const REQUEST_TIME: Duration = Duration::from_secs(60);

/// The parameters of a list.
const SELECTION: &[&str] = &["labelSelector", "fieldSelector", "limit"];

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

    /// When the steps of its start happened.
    fn timeline(&self, uid: &str) -> impl Future<Output = Result<Timeline, Failure>> + Send;

    /// The events of all pods, the oldest first.
    fn events(&self) -> impl Future<Output = Result<Vec<Event>, Failure>> + Send;

    /// Ends the pod within so many seconds, or its own grace period. Answers with the pod that ends.
    fn delete(&self, uid: &str, grace: Option<u32>) -> impl Future<Output = Result<Pod, Failure>> + Send;

    /// Sets conditions of the pod that are not peapod's own.
    fn set_conditions(
        &self,
        uid: &str,
        conditions: Vec<PodCondition>,
    ) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Gives the pod the resources of `wanted`, which differs from it in nothing else. Answers with the pod that has
    /// them.
    fn resize(&self, uid: &str, wanted: Pod) -> impl Future<Output = Result<Pod, Failure>> + Send;

    /// Gives the pod the labels and annotations that the patch makes of it, and resources when it is applied. Answers
    /// with the pod that has them, or would have them.
    fn update(
        &self,
        uid: &str,
        kind: PatchType,
        patch: Value,
        is_dry_run: bool,
    ) -> impl Future<Output = Result<Pod, Failure>> + Send;

    /// What the pods of a namespace, or all, are configured by.
    fn objects(
        &self,
        kind: ObjectKind,
        namespace: Option<&str>,
    ) -> impl Future<Output = Result<Vec<Value>, Failure>> + Send;

    /// One of those.
    fn object(
        &self,
        kind: ObjectKind,
        namespace: &str,
        name: &str,
    ) -> impl Future<Output = Result<Option<Value>, Failure>> + Send;

    /// Changes such an object. Answers when the pods have it, with their volumes; of a dry run, with what it would be.
    fn change_object(
        &self,
        kind: ObjectKind,
        namespace: &str,
        name: &str,
        change: Change,
        is_dry_run: bool,
    ) -> impl Future<Output = Result<Changed, Failure>> + Send;

    /// Begins a command in a container of the pod with this uid.
    fn exec(&self, uid: &str, options: ExecOptions) -> impl Future<Output = Result<Session, Failure>> + Send;

    /// Adds an ephemeral container to the pod with this uid, which is returned as it is then.
    fn add_ephemeral(
        &self,
        uid: &str,
        container: EphemeralContainer,
    ) -> impl Future<Output = Result<Pod, Failure>> + Send;
}

/// Serves until `end` does, and then for as long as answers are under way.
pub async fn serve<P: Pods>(listener: UnixListener, pods: P, end: impl Future<Output = ()>) {
    let mut end = pin!(end);
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
            () = &mut end => break,
        }
    }
    // Nobody else connects.
    drop(listener);
    let farewell = async {
        while let Some(ended) = connections.join_next().await {
            if let Ok(Some(pending)) = ended {
                sessions.spawn(Pending::run(pending));
            }
        }
        while sessions.join_next().await.is_some() {}
    };
    let _ = timeout(FAREWELL, farewell).await;
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

/// A response, and the session that begins when it has been sent.
type Answer = (Response<Full<Bytes>>, Option<Pending>);

async fn answer<P: Pods>(
    request: Request<Incoming>,
    pods: &P,
    places: &Arc<Semaphore>,
) -> Result<Answer, Failure> {
    let path = request.uri().path().to_owned();
    // Whether there is such a path at all comes first.
    let route =
        Route::parse(&path).ok_or_else(|| Failure::NotFound(format!("the server has no path {path:?}")))?;
    let (method, allow) = (request.method(), route.methods());
    if !allow.split(", ").any(|allowed| method == allowed) {
        return Err(Failure::Method { method: method.to_string(), allow });
    }
    let response = match (route, method == Method::GET) {
        (Route::Exec { namespace, name }, _) => {
            let (response, pending) = exec::begin(request, pods, namespace, name, places).await?;
            return Ok((response, Some(pending)));
        }
        (Route::Ephemeral { namespace, name }, _) => ephemeral::add(request, pods, namespace, name).await?,
        (Route::Pod { namespace, name }, false) if method == Method::PATCH => {
            patch::update(request, pods, namespace, name).await?
        }
        (Route::Pod { namespace, name }, false) => patch::delete(request, pods, namespace, name).await?,
        (Route::Objects { kind, namespace }, _) => objects::list(request, pods, kind, namespace).await?,
        (Route::Object { kind, namespace, name }, _) => {
            objects::one(request, pods, kind, namespace, name).await?
        }
        (Route::Patch { namespace, name, part }, false) => {
            patch::patch(request, pods, namespace, name, part).await?
        }
        (Route::List { namespace }, _) => {
            let selection = Parameters::of(&request, SELECTION)?.selection(POD_FIELDS)?;
            let mut items = pods.list().await?;
            items.retain(|pod| namespace.is_none_or(|namespace| namespace_of(pod) == namespace));
            selection.retain(&mut items);
            json(&k8s_openapi::List { items, metadata: Default::default() })
        }
        (Route::Events { namespace }, _) => events::list(&request, pods, namespace).await?,
        (route, _) => {
            Parameters::of(&request, &[])?;
            get(route, pods).await?
        }
    };
    Ok((response, None))
}

/// What the paths mean.
#[derive(Debug, PartialEq, Eq)]
enum Route<'a> {
    List { namespace: Option<&'a str> },
    Events { namespace: Option<&'a str> },
    Pod { namespace: &'a str, name: &'a str },
    Network { namespace: &'a str, name: &'a str },
    Ipc { namespace: &'a str, name: &'a str },
    IpcObject { namespace: &'a str, name: &'a str, kind: &'a str, object: &'a str },
    Timeline { namespace: &'a str, name: &'a str },
    Patch { namespace: &'a str, name: &'a str, part: patch::Part },
    Exec { namespace: &'a str, name: &'a str },
    Ephemeral { namespace: &'a str, name: &'a str },
    Objects { kind: ObjectKind, namespace: Option<&'a str> },
    Object { kind: ObjectKind, namespace: &'a str, name: &'a str },
}

impl<'a> Route<'a> {
    fn parse(path: &'a str) -> Option<Self> {
        let parts: Vec<&str> = path.strip_prefix("/api/v1/")?.split('/').collect();
        Some(match parts[..] {
            ["pods"] => Self::List { namespace: None },
            ["events"] => Self::Events { namespace: None },
            ["namespaces", namespace, "pods"] => Self::List { namespace: Some(namespace) },
            ["namespaces", namespace, "events"] => Self::Events { namespace: Some(namespace) },
            ["namespaces", namespace, "pods", name] => Self::Pod { namespace, name },
            ["namespaces", namespace, "pods", name, "network"] => Self::Network { namespace, name },
            ["namespaces", namespace, "pods", name, "ipc"] => Self::Ipc { namespace, name },
            ["namespaces", namespace, "pods", name, "ipc", kind, object] => {
                Self::IpcObject { namespace, name, kind, object }
            }
            ["namespaces", namespace, "pods", name, "timeline"] => Self::Timeline { namespace, name },
            ["namespaces", namespace, "pods", name, "exec"] => Self::Exec { namespace, name },
            ["namespaces", namespace, "pods", name, "ephemeralcontainers"] => {
                Self::Ephemeral { namespace, name }
            }
            ["namespaces", namespace, "pods", name, part] => {
                Self::Patch { namespace, name, part: patch::Part::parse(part)? }
            }
            [plural] => Self::Objects { kind: Self::kind(plural)?, namespace: None },
            ["namespaces", namespace, plural] => {
                Self::Objects { kind: Self::kind(plural)?, namespace: Some(namespace) }
            }
            ["namespaces", namespace, plural, name] => {
                Self::Object { kind: Self::kind(plural)?, namespace, name }
            }
            _ => return None,
        })
    }

    fn kind(plural: &str) -> Option<ObjectKind> {
        ObjectKind::ALL.into_iter().find(|kind| kind.plural() == plural)
    }

    /// What can be done there: the value of `Allow`.
    fn methods(&self) -> &'static str {
        match self {
            Self::Pod { .. } => "GET, PATCH, DELETE",
            Self::Objects { namespace: Some(_), .. } => "GET, POST",
            Self::Object { .. } => "GET, PUT, PATCH, DELETE",
            Self::Patch { .. } => "GET, PATCH",
            Self::Exec { .. } => "GET, POST",
            Self::IpcObject { .. } => "DELETE",
            Self::Ephemeral { .. } => "POST, PATCH",
            _ => "GET",
        }
    }
}

async fn get<P: Pods>(route: Route<'_>, pods: &P) -> Result<Response<Full<Bytes>>, Failure> {
    match route {
        Route::Pod { namespace, name } | Route::Patch { namespace, name, .. } => {
            Ok(json(&find(pods, namespace, name).await?))
        }
        Route::Network { namespace, name } => {
            Ok(json(&pods.network(&uid(pods, namespace, name).await?).await?))
        }
        Route::Ipc { namespace, name } => Ok(json(&pods.ipc(&uid(pods, namespace, name).await?).await?)),
        Route::IpcObject { namespace, name, kind, object } => {
            ipc::remove(pods, namespace, name, kind, object).await
        }
        Route::Timeline { namespace, name } => {
            Ok(json(&pods.timeline(&uid(pods, namespace, name).await?).await?))
        }
        // Answered before.
        Route::List { .. }
        | Route::Events { .. }
        | Route::Exec { .. }
        | Route::Ephemeral { .. }
        | Route::Objects { .. }
        | Route::Object { .. } => Err(Failure::NotFound("no such path".to_owned())),
    }
}

fn namespace_of(pod: &Pod) -> &str {
    pod.metadata.namespace.as_deref().unwrap_or("default")
}

async fn uid<P: Pods>(pods: &P, namespace: &str, name: &str) -> Result<String, Failure> {
    Ok(find(pods, namespace, name).await?.metadata.uid.unwrap_or_default())
}

async fn find<P: Pods>(pods: &P, namespace: &str, name: &str) -> Result<Pod, Failure> {
    let is_it = |pod: &Pod| pod.metadata.name.as_deref() == Some(name) && namespace_of(pod) == namespace;
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
