//! Asks a pod's control socket.

use std::convert::Infallible;
use std::io;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{
    CONNECTION, CONTENT_TYPE, HOST, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::http::request::Builder;
use hyper::upgrade::Upgraded;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::patch::PatchType;
use super::server::{PROTOCOLS, config};
use super::socket;

/// How long an answer may take, with all of it.
const PATIENCE: Duration = Duration::from_secs(30);

/// The same for what may take an image to be compiled: more than the server takes for a request.
const POST_PATIENCE: Duration = Duration::from_secs(65);

/// The longest answer, bytes: as many sockets as an answer can hold, with all their words, are 32 MiB.
const ANSWER_BYTES: usize = 64 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody serves the pod.
    #[error("nobody answers for it: it has just ended, has not quite begun, or its `peapod run` was killed")]
    NotServed,
    /// The socket fails.
    #[error("its control socket: {0}")]
    Socket(#[from] io::Error),
    /// The server's answer is an error.
    #[error("{message}")]
    Refused {
        /// The HTTP status.
        code: u16,
        /// What the server says.
        message: String,
    },
    /// Not HTTP, not JSON, or not what was expected.
    #[error("its answer makes no sense: {0}")]
    Nonsense(String),
    /// The answer is longer than `ANSWER_BYTES`.
    #[error("its answer is longer than {} MiB", ANSWER_BYTES >> 20)]
    TooLong,
    /// No answer within `PATIENCE`.
    #[error("no answer within {} s", PATIENCE.as_secs())]
    Timeout,
}

/// `GET path` of the pod whose directory it is. Waits; not for use in a runtime.
///
/// # Errors
/// See [`ClientError`].
pub fn get<T: DeserializeOwned>(directory: &Path, path: &str) -> Result<T, ClientError> {
    ask(directory, Request::get(path), Bytes::new(), PATIENCE)
}

/// `DELETE path`, with these parameters in it.
///
/// # Errors
/// See [`ClientError`].
pub fn delete<T: DeserializeOwned>(directory: &Path, path: &str) -> Result<T, ClientError> {
    ask(directory, Request::delete(path), Bytes::new(), PATIENCE)
}

/// `PATCH path`.
///
/// # Errors
/// See [`ClientError`].
pub fn patch<T: DeserializeOwned>(
    directory: &Path,
    path: &str,
    kind: PatchType,
    patch: String,
) -> Result<T, ClientError> {
    let request = Request::patch(path).header(CONTENT_TYPE, kind.media_type());
    ask(directory, request, patch.into(), PATIENCE)
}

/// `POST path` of the pod whose directory it is, with a body in JSON. Waits; not for use in a runtime.
///
/// # Errors
/// See [`ClientError`].
pub fn post<T: DeserializeOwned>(
    directory: &Path,
    path: &str,
    body: &impl Serialize,
) -> Result<T, ClientError> {
    let body = serde_json::to_vec(body).map_err(|error| ClientError::Nonsense(error.to_string()))?;
    let request = Request::post(path).header(CONTENT_TYPE, "application/json");
    ask(directory, request, body.into(), POST_PATIENCE)
}

fn ask<T: DeserializeOwned>(
    directory: &Path,
    request: Builder,
    body: Bytes,
    patience: Duration,
) -> Result<T, ClientError> {
    let stream = connect(directory)?;
    let request = request.header(HOST, "localhost").body(Full::from(body));
    let request = request.map_err(|error| ClientError::Nonsense(error.to_string()))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let body = runtime.block_on(async {
        let stream = UnixStream::from_std(stream)?;
        timeout(patience, fetch(stream, request)).await.unwrap_or(Err(ClientError::Timeout))
    })?;
    serde_json::from_slice(&body).map_err(|error| ClientError::Nonsense(error.to_string()))
}

fn connect(directory: &Path) -> Result<StdUnixStream, ClientError> {
    let stream = socket::connect_soon(directory).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ClientError::NotServed,
        _ => ClientError::Socket(error),
    })?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

/// A WebSocket to the server.
pub type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// Opens the WebSocket at `path` of the pod whose directory it is.
///
/// # Errors
/// See [`ClientError`].
pub async fn open(directory: &Path, path: &str) -> Result<Socket, ClientError> {
    let stream = UnixStream::from_std(connect(directory)?)?;
    timeout(PATIENCE, upgrade(stream, path)).await.unwrap_or(Err(ClientError::Timeout))
}

async fn upgrade(stream: UnixStream, path: &str) -> Result<Socket, ClientError> {
    let nonsense = |error: hyper::http::Error| ClientError::Nonsense(error.to_string());
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let request = Request::get(path)
        .header(HOST, "localhost")
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "websocket")
        .header(SEC_WEBSOCKET_VERSION, "13")
        .header(SEC_WEBSOCKET_KEY, generate_key())
        .header(SEC_WEBSOCKET_PROTOCOL, PROTOCOLS[0])
        .body(Full::<Bytes>::default())
        .map_err(nonsense)?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(broken)?;
        let status = response.status();
        if status != StatusCode::SWITCHING_PROTOCOLS {
            return Err(refusal(status, &read(response).await?));
        }
        hyper::upgrade::on(response).await.map_err(broken)
    };
    let connection = async {
        let _ = connection.with_upgrades().await;
        std::future::pending::<Infallible>().await
    };
    let upgraded = tokio::select! {
        upgraded = exchange => upgraded?,
        never = connection => match never {},
    };
    Ok(WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, Some(config())).await)
}

fn broken(error: hyper::Error) -> ClientError {
    match error.is_closed() || error.is_incomplete_message() {
        true => ClientError::NotServed,
        false => ClientError::Nonsense(error.to_string()),
    }
}

async fn read(response: Response<Incoming>) -> Result<Bytes, ClientError> {
    let body = Limited::new(response.into_body(), ANSWER_BYTES).collect().await;
    let body = body.map_err(|error| match error.downcast_ref::<LengthLimitError>() {
        Some(_) => ClientError::TooLong,
        None => ClientError::Nonsense(error.to_string()),
    })?;
    Ok(body.to_bytes())
}

async fn fetch(stream: UnixStream, request: Request<Full<Bytes>>) -> Result<Bytes, ClientError> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(broken)?;
        let status = response.status();
        Ok::<_, ClientError>((status, read(response).await?))
    };
    // The connection is driven until the answer is here; its own end says nothing more.
    let connection = async {
        let _ = connection.await;
        std::future::pending::<Infallible>().await
    };
    let (status, body) = tokio::select! {
        answer = exchange => answer?,
        never = connection => match never {},
    };
    if status.is_success() { Ok(body) } else { Err(refusal(status, &body)) }
}

fn refusal(code: StatusCode, body: &[u8]) -> ClientError {
    let status: Option<Status> = serde_json::from_slice(body).ok();
    let message = status.and_then(|status| status.message);
    ClientError::Refused { code: code.as_u16(), message: message.unwrap_or_else(|| code.to_string()) }
}
