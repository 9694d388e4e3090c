//! HTTP of probes and hooks: one GET, and the redirects that it meets.
//!
//! ```text
//! HttpGet ─► Url ─► dial ─► (TLS) ─► hyper ─► head ─┬─ Location on the same host ─► again, from Url
//!                                                   └─ else ─► body, at most 10 KiB of it ─► Answer
//! ```
//!
//! As `pkg/probe/http/http.go` and `request.go` of the kubelet. Every request has a connection of its own
//! (`Connection: close`), which is closed once the answer is read.

use std::error::Error as _;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use hyper::rt::Executor;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::background::Background;
use super::url::Url;
use super::{Outcome, Place, connection, go, tls, url};
use crate::spec::{HttpGet, Scheme};

/// `User-Agent` of probes, and of hooks (`pkg/probe/http/request.go`).
const PROBE_AGENT: HeaderValue = HeaderValue::from_static("kube-probe/1.37");
const HOOK_AGENT: HeaderValue = HeaderValue::from_static("kube-lifecycle/1.37");

/// How much of a body is read, bytes: the kubelet's `maxRespBodyLength`.
const MAX_BODY: usize = 10 * 1024;

/// How large an answer's head may be, bytes, and how many headers it may have. Go takes 10 MiB of them from a server,
/// which would be the pod's own memory here.
const MAX_HEAD: usize = 64 * 1024;
const MAX_HEADERS: usize = 256;

/// Requests after which one redirect more is one too many: Go's `defaultCheckRedirect`.
const MAX_REQUESTS: usize = 10;

/// What Go's client says when its time is over.
const NO_HEAD: &str = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)";
const NO_BODY: &str = "context deadline exceeded (Client.Timeout or context cancellation while reading body)";

/// An answer, after redirects.
struct Answer {
    status: StatusCode,
    /// Its first [`MAX_BODY`] bytes, or why there are none.
    body: Result<Vec<u8>, String>,
}

/// An answer whose body is still to come.
struct Open {
    response: Response<Incoming>,
    connection: Background,
}

/// Runs an `httpGet` probe (`DoHTTPProbe`).
pub(super) async fn probe(get: &HttpGet, place: &Place, timeout: Duration) -> Outcome {
    let deadline = Some(Instant::now() + timeout);
    let Answer { status, body } = match fetch(get, place, PROBE_AGENT, deadline).await {
        Ok(answer) => answer,
        Err(why) => return Outcome::Failure(why),
    };
    match body {
        Err(why) => Outcome::Failure(why),
        Ok(_) if status.is_success() => Outcome::Success,
        Ok(body) if status.is_redirection() => {
            let body = String::from_utf8_lossy(&body);
            Outcome::Warning(format!("Probe terminated redirects, Response body: {body}"))
        }
        Ok(_) => Outcome::Failure(format!("HTTP probe failed with statuscode: {}", status.as_u16())),
    }
}

/// Runs an `httpGet` hook (`runHTTPHandler` in `pkg/kubelet/lifecycle/handlers.go`): any answer will do, whatever
/// its status, and a server without TLS is asked again without.
///
/// # Errors
/// Why there was no answer, in Go's words.
pub(super) async fn hook(get: &HttpGet, place: &Place) -> Result<(), String> {
    match fetch(get, place, HOOK_AGENT, None).await {
        Ok(_) => Ok(()),
        Err(why) if why.ends_with(tls::ANSWERED_IN_HTTP) => {
            let mut plain = HttpGet { scheme: Scheme::Http, ..get.clone() };
            plain.headers.retain(|(name, _)| !name.eq_ignore_ascii_case("Authorization"));
            fetch(&plain, place, HOOK_AGENT, None).await.map(drop).map_err(|_| why)
        }
        Err(why) => Err(why),
    }
}

/// Asks, following redirects on the same host.
async fn fetch(
    get: &HttpGet,
    place: &Place,
    agent: HeaderValue,
    deadline: Option<Instant>,
) -> Result<Answer, String> {
    let mut url = Url::of(get, place.address);
    let mut headers = headers(get, agent)?;
    let own_host = headers.remove(header::HOST).filter(|host| !host.is_empty());
    let mut host = own_host.clone();
    let mut requests = 0;
    loop {
        requests += 1;
        let asked = ask(place, &url, host.as_ref(), &headers);
        let asked = within(deadline, NO_HEAD, asked).await;
        let mut open = asked.map_err(|why| format!("Get {:?}: {why}", url.to_string()))?;
        let Some(location) = location(&open.response) else { return Ok(open.read(deadline).await) };
        let next = url.join(&location).map_err(|why| format!("Get {location:?}: {why}"))?;
        if next.host != url.host {
            return Ok(open.read(deadline).await);
        }
        if requests >= MAX_REQUESTS {
            return Err(format!("Get {location:?}: stopped after {MAX_REQUESTS} redirects"));
        }
        // As Go's client: a `Host` of the manifest's own is kept by redirects that do not say where.
        host = own_host.clone().filter(|_| !url::is_absolute(&location));
        url = next;
    }
}

async fn within<T>(
    deadline: Option<Instant>,
    late: &str,
    work: impl Future<Output = Result<T, String>>,
) -> Result<T, String> {
    match deadline {
        Some(deadline) => {
            tokio::time::timeout_at(deadline, work).await.unwrap_or_else(|_| Err(late.to_owned()))
        }
        None => work.await,
    }
}

/// Where an answer redirects to, if it does (`redirectBehavior` in Go's `net/http`).
fn location(response: &Response<Incoming>) -> Option<String> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let location = String::from_utf8_lossy(response.headers().get(header::LOCATION)?.as_bytes()).into_owned();
    (!location.is_empty()).then_some(location)
}

/// The headers of every request of a probe, and `Host` where the manifest has one.
fn headers(get: &HttpGet, agent: HeaderValue) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::with_capacity(get.headers.len() + 3);
    for (name, value) in &get.headers {
        let invalid = || format!("net/http: invalid header field {name:?}");
        let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| invalid())?;
        // Go's client writes these itself.
        if [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::TRAILER].contains(&header) {
            continue;
        }
        headers.append(header, HeaderValue::from_str(value).map_err(|_| invalid())?);
    }
    headers.entry(header::USER_AGENT).or_insert(agent);
    headers.entry(header::ACCEPT).or_insert(HeaderValue::from_static("*/*"));
    headers.entry(header::CONNECTION).or_insert(HeaderValue::from_static("close"));
    // Given and empty: not sent at all.
    for name in [header::ACCEPT, header::USER_AGENT] {
        if headers.get(&name).is_some_and(HeaderValue::is_empty) {
            headers.remove(name);
        }
    }
    Ok(headers)
}

/// Sends one request and waits for the head of its answer.
async fn ask(
    place: &Place,
    url: &Url,
    host: Option<&HeaderValue>,
    headers: &HeaderMap,
) -> Result<Open, String> {
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = url.target.parse().map_err(|error| format!("parse {:?}: {error}", url.target))?;
    // First, as everybody sends it.
    let host = match host {
        Some(host) => host.clone(),
        None => HeaderValue::from_str(&url.authority()).map_err(|error| error.to_string())?,
    };
    request.headers_mut().insert(header::HOST, host);
    request.headers_mut().extend(headers.clone());
    let connection = connection::dial(place, &url.host, url.port()).await?;
    match url.scheme {
        Scheme::Http => send(connection, request).await,
        Scheme::Https => send(tls::handshake(connection, &url.host).await?, request).await,
    }
}

async fn send<IO>(io: IO, request: Request<Empty<Bytes>>) -> Result<Open, String>
where
    IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut client = http1::Builder::new();
    client.title_case_headers(true).max_buf_size(MAX_HEAD).max_headers(MAX_HEADERS);
    let (mut sender, connecting) =
        client.handshake(TokioIo::new(io)).await.map_err(|error| explain(&error))?;
    let mut connection = Background::default();
    connection.spawner().execute(connecting);
    let response = connection.during(sender.send_request(request)).await.map_err(|error| explain(&error))?;
    Ok(Open { response, connection })
}

impl Open {
    async fn read(&mut self, deadline: Option<Instant>) -> Answer {
        let status = self.response.status();
        let body = self.connection.during(read(self.response.body_mut()));
        Answer { status, body: within(deadline, NO_BODY, body).await }
    }
}

/// Reads the first [`MAX_BODY`] bytes; more is left, and no error.
async fn read(incoming: &mut Incoming) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while body.len() < MAX_BODY {
        let Some(frame) = incoming.frame().await else { break };
        let frame = frame.map_err(|error| match explain(&error) {
            end if end == "EOF" => "unexpected EOF".to_owned(),
            other => other,
        })?;
        if let Some(data) = frame.data_ref() {
            body.extend_from_slice(&data[..data.len().min(MAX_BODY - body.len())]);
        }
    }
    Ok(body)
}

/// What Go's client would say.
fn explain(error: &hyper::Error) -> String {
    const BROKEN: &str = "net/http: HTTP/1.x transport connection broken";
    if let Some(cause) = error.source().and_then(|cause| cause.downcast_ref::<io::Error>()) {
        return match cause.kind() {
            io::ErrorKind::UnexpectedEof => "unexpected EOF".to_owned(),
            _ => cause.to_string(),
        };
    }
    if error.is_incomplete_message() || error.is_canceled() {
        return "EOF".to_owned();
    }
    if error.is_parse_too_large() {
        return format!("{BROKEN}: net/http: server response headers exceeded {MAX_HEAD} bytes; aborted");
    }
    if error.is_parse() {
        return format!("{BROKEN}: malformed HTTP response");
    }
    go::chain(error)
}
