//! Asks a pod's control socket.

use std::convert::Infallible;
use std::io;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::header::HOST;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::socket;

/// How long an answer may take, with all of it.
const PATIENCE: Duration = Duration::from_secs(30);

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
    let body = ask(directory, Method::GET, path)?;
    serde_json::from_slice(&body).map_err(|error| ClientError::Nonsense(error.to_string()))
}

/// `DELETE path` of the pod whose directory it is. Waits; not for use in a runtime.
///
/// # Errors
/// See [`ClientError`].
pub fn delete(directory: &Path, path: &str) -> Result<(), ClientError> {
    ask(directory, Method::DELETE, path).map(drop)
}

fn ask(directory: &Path, method: Method, path: &str) -> Result<Bytes, ClientError> {
    let stream = socket::connect(directory).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ClientError::NotServed,
        _ => ClientError::Socket(error),
    })?;
    stream.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let stream = UnixStream::from_std(stream)?;
        tokio::time::timeout(PATIENCE, fetch(stream, method, path)).await.unwrap_or(Err(ClientError::Timeout))
    })
}

async fn fetch(stream: UnixStream, method: Method, path: &str) -> Result<Bytes, ClientError> {
    let broken = |error: hyper::Error| match error.is_closed() || error.is_incomplete_message() {
        true => ClientError::NotServed,
        false => ClientError::Nonsense(error.to_string()),
    };
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, "localhost")
        .body(Empty::<Bytes>::new())
        .map_err(|error| ClientError::Nonsense(error.to_string()))?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(broken)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES).collect().await;
        let body = body.map_err(|error| match error.downcast_ref::<LengthLimitError>() {
            Some(_) => ClientError::TooLong,
            None => ClientError::Nonsense(error.to_string()),
        })?;
        Ok::<_, ClientError>((status, body.to_bytes()))
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
    if status == StatusCode::OK { Ok(body) } else { Err(refusal(status, &body)) }
}

fn refusal(code: StatusCode, body: &[u8]) -> ClientError {
    let status: Option<Status> = serde_json::from_slice(body).ok();
    let message = status.and_then(|status| status.message);
    ClientError::Refused { code: code.as_u16(), message: message.unwrap_or_else(|| code.to_string()) }
}
