//! A command in a container, over a WebSocket.
//!
//! ```text
//! client ◄─ frames: a channel's number, then its bytes ─► session ◄─ pipes ─► the pod process
//! ```
//!
//! Kubernetes' remotecommand protocol (`v5.channel.k8s.io`, `k8s.io/apimachinery/pkg/util/remotecommand`): channel 0
//! is standard input, 1 output, 2 error; 3 carries the Status that says how the command ended; 255 closes
//! the channel whose number it holds. `v4.channel.k8s.io` is the same without 255.
//!
//! The bytes wait in the pipes and in the sockets' buffers only: who does not read makes the other side wait. A client
//! that is gone ends its command.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{
    CONNECTION, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Status, StatusCause, StatusDetails};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Instant, interval_at, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use super::query::{Parameters, encode};
use super::{Failure, Pods, uid};

/// Sessions at the same time; the next one is refused. All clients are one user's.
pub const MAX_SESSIONS: usize = 16;

/// The subprotocols, the preferred one first.
pub const PROTOCOLS: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];

/// Standard input's channel.
pub const STDIN: u8 = 0;
/// Standard output's channel.
pub const STDOUT: u8 = 1;
/// Standard error's channel.
pub const STDERR: u8 = 2;
/// The channel of the final Status.
pub const ERROR: u8 = 3;
/// Closes the channel whose number it holds.
pub const CLOSE: u8 = 255;

/// What the query may have.
const PARAMETERS: [&str; 6] = ["command", "container", "stdin", "stdout", "stderr", "tty"];

/// The longest message either side takes, bytes. kubectl sends 32 KiB at a time.
pub const MAX_MESSAGE_BYTES: usize = 1 << 20;

/// Bytes of output that are sent at a time.
const CHUNK_BYTES: usize = 32 * 1024;

/// How often a client that says nothing is looked after: one that is gone does not take a ping.
const PING_INTERVAL: Duration = Duration::from_secs(5);

/// How long a client may take to close the connection once its command has ended.
const CLOSE_TIME: Duration = Duration::from_secs(5);

/// How long a client may take to switch protocols.
const UPGRADE_TIME: Duration = Duration::from_secs(5);

/// What a client wants to run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExecOptions {
    /// The container; the only one of the pod when absent.
    pub container: Option<String>,
    /// The command and its arguments.
    pub command: Vec<String>,
    /// Whether it has a standard input.
    pub stdin: bool,
    /// Whether the client wants its standard output.
    pub stdout: bool,
    /// Whether the client wants its standard error.
    pub stderr: bool,
}

impl ExecOptions {
    /// Reads a query (`PodExecOptions` of core/v1).
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(query: &str) -> Result<Self, Failure> {
        let parameters = Parameters::parse(query, &PARAMETERS)?;
        let flag = |name| match parameters.get(name) {
            Some("true" | "1") => Ok(true),
            None | Some("false" | "0" | "") => Ok(false),
            Some(other) => Err(Failure::BadRequest(format!("{name}: {other:?} is neither true nor false"))),
        };
        if flag("tty")? {
            let why = "tty: a WebAssembly guest has no terminal; leave it out";
            return Err(Failure::BadRequest(why.to_owned()));
        }
        let options = Self {
            container: parameters.get("container").filter(|name| !name.is_empty()).map(str::to_owned),
            command: parameters.all("command").map(str::to_owned).collect(),
            stdin: flag("stdin")?,
            stdout: flag("stdout")?,
            stderr: flag("stderr")?,
        };
        if options.command.is_empty() {
            return Err(Failure::BadRequest("you must specify at least 1 command".to_owned()));
        }
        if !(options.stdin || options.stdout || options.stderr) {
            let why = "you must specify at least 1 of stdin, stdout, stderr";
            return Err(Failure::BadRequest(why.to_owned()));
        }
        Ok(options)
    }

    /// The query that [`Self::parse`] reads.
    pub fn query(&self) -> String {
        let mut pairs: Vec<_> = self.command.iter().map(|word| format!("command={}", encode(word))).collect();
        pairs.extend(self.container.iter().map(|name| format!("container={}", encode(name))));
        let flags = [("stdin", self.stdin), ("stdout", self.stdout), ("stderr", self.stderr)];
        pairs.extend(flags.iter().filter(|(_, set)| *set).map(|(name, _)| format!("{name}=true")));
        pairs.join("&")
    }
}

/// A command under way, as the server has it. Dropping it ends the command.
#[derive(Debug)]
pub struct Session {
    /// Where standard input goes.
    pub stdin: Option<pipe::Sender>,
    /// Where standard output comes from.
    pub stdout: Option<pipe::Receiver>,
    /// Where standard error comes from.
    pub stderr: Option<pipe::Receiver>,
    /// How the command ends.
    pub ended: oneshot::Receiver<Ended>,
    /// Tells by its end that nobody wants the command any more.
    pub alive: oneshot::Sender<()>,
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Its exit code.
    pub code: u8,
    /// Why, where the code does not say it all.
    pub message: Option<String>,
}

impl Ended {
    /// As Kubernetes says it (`ServeExec` in `k8s.io/kubelet/pkg/cri/streaming/remotecommand/exec.go`).
    fn status(&self) -> Status {
        if self.code == 0 {
            return Status { status: Some("Success".to_owned()), ..Status::default() };
        }
        let cause = StatusCause {
            reason: Some("ExitCode".to_owned()),
            message: Some(self.code.to_string()),
            ..StatusCause::default()
        };
        let why = self.message.as_deref().and_then(|message| message.lines().next());
        let why = why.map(|why| format!(": {why}")).unwrap_or_default();
        Status {
            status: Some("Failure".to_owned()),
            reason: Some("NonZeroExitCode".to_owned()),
            message: Some(format!("command terminated with non-zero exit code {}{why}", self.code)),
            details: Some(StatusDetails { causes: Some(vec![cause]), ..StatusDetails::default() }),
            ..Status::default()
        }
    }
}

/// Begins a command: the response that switches protocols, and the session that begins when it has been sent.
pub(super) async fn begin<P: Pods>(
    mut request: Request<Incoming>,
    pods: &P,
    namespace: &str,
    name: &str,
    places: &Arc<Semaphore>,
) -> Result<(Response<Full<Bytes>>, Pending), Failure> {
    let uid = uid(pods, namespace, name).await?;
    let options = ExecOptions::parse(request.uri().query().unwrap_or_default())?;
    let handshake = Handshake::read(request.headers())?;
    let place = Arc::clone(places).try_acquire_owned().map_err(|_| {
        Failure::Unavailable(format!("{MAX_SESSIONS} commands run already; wait until one has ended"))
    })?;
    let session = pods.exec(&uid, options).await?;
    let upgrade = hyper::upgrade::on(&mut request);
    Ok((handshake.response(), Pending { upgrade, session, _place: place }))
}

/// What a client says that wants to speak WebSocket (RFC 6455, section 4.2.1).
struct Handshake {
    accept: String,
    protocol: &'static str,
}

impl Handshake {
    fn read(headers: &HeaderMap) -> Result<Self, Failure> {
        let has = |name: HeaderName, word: &str| {
            let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
            values.flat_map(|value| value.split(',')).any(|value| value.trim().eq_ignore_ascii_case(word))
        };
        let wrong = |why: &str| Err(Failure::BadRequest(format!("exec is a WebSocket: {why}")));
        if !has(CONNECTION, "upgrade") || !has(UPGRADE, "websocket") {
            return wrong("ask for `Upgrade: websocket`");
        }
        if !has(SEC_WEBSOCKET_VERSION, "13") {
            return wrong("of version 13");
        }
        let Some(key) = headers.get(SEC_WEBSOCKET_KEY) else { return wrong("Sec-WebSocket-Key is missing") };
        let protocol = PROTOCOLS.into_iter().find(|protocol| has(SEC_WEBSOCKET_PROTOCOL, protocol));
        match protocol {
            Some(protocol) => Ok(Self { accept: derive_accept_key(key.as_bytes()), protocol }),
            None => wrong(&format!("of the subprotocol {}", PROTOCOLS.join(" or "))),
        }
    }

    fn response(&self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(self.protocol));
        if let Ok(accept) = HeaderValue::from_str(&self.accept) {
            headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
        }
        response
    }
}

/// A session whose connection is about to become a WebSocket.
pub(super) struct Pending {
    upgrade: OnUpgrade,
    session: Session,
    _place: OwnedSemaphorePermit,
}

impl Pending {
    /// Serves the session to its end.
    pub(super) async fn run(self) {
        let Ok(Ok(upgraded)) = timeout(UPGRADE_TIME, self.upgrade).await else { return };
        serve(upgraded, self.session).await;
    }
}

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// What both sides hold of a connection at most.
pub fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(CHUNK_BYTES)
        .write_buffer_size(0)
        .max_write_buffer_size(2 * MAX_MESSAGE_BYTES)
        .max_message_size(Some(MAX_MESSAGE_BYTES))
        .max_frame_size(Some(MAX_MESSAGE_BYTES))
}

async fn serve(upgraded: Upgraded, session: Session) {
    let socket: Socket =
        WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config())).await;
    let (mut to, mut from) = socket.split();
    let Session { stdin, stdout, stderr, ended, alive } = session;
    let finished = tokio::select! {
        sent = outgoing(&mut to, stdout, stderr, ended) => sent.is_ok(),
        // Ends when the client is gone, or talks nonsense.
        () = incoming(&mut from, stdin) => false,
    };
    drop(alive);
    if finished {
        // The client closes in turn, which shows that it has read everything.
        let goodbye = async {
            if to.send(Message::Close(None)).await.is_ok() {
                while let Some(Ok(_)) = from.next().await {}
            }
        };
        let _ = timeout(CLOSE_TIME, goodbye).await;
    }
}

/// Passes standard input on until the client is gone.
async fn incoming(from: &mut SplitStream<Socket>, mut stdin: Option<pipe::Sender>) {
    while let Some(Ok(message)) = from.next().await {
        let data = match message {
            Message::Binary(data) => data,
            Message::Text(text) => Bytes::from(text),
            Message::Close(_) => return,
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => continue,
        };
        match data.split_first() {
            Some((&STDIN, bytes)) => {
                if let Some(pipe) = &mut stdin
                    && pipe.write_all(bytes).await.is_err()
                {
                    // The command reads no more; what else is sent is for nobody.
                    stdin = None;
                }
            }
            Some((&CLOSE, [STDIN])) => stdin = None,
            // Resizes of a terminal that is not there, and whatever else a client has to say.
            _ => {}
        }
    }
}

/// Passes output on until all of it is, and then how the command ended.
async fn outgoing(
    to: &mut SplitSink<Socket, Message>,
    mut stdout: Option<pipe::Receiver>,
    mut stderr: Option<pipe::Receiver>,
    mut ended: oneshot::Receiver<Ended>,
) -> Result<(), tokio_tungstenite::tungstenite::Error> {
    // Tells the client that the command runs, as Kubernetes does.
    let first = if stdout.is_some() { STDOUT } else { STDERR };
    to.send(message(first, &[])).await?;
    let mut ping = interval_at(Instant::now() + PING_INTERVAL, PING_INTERVAL);
    let (mut out, mut err) = (vec![0; CHUNK_BYTES], vec![0; CHUNK_BYTES]);
    let mut end = None;
    while stdout.is_some() || stderr.is_some() || end.is_none() {
        tokio::select! {
            read = read(&mut stdout, &mut out), if stdout.is_some() => match read {
                0 => stdout = None,
                count => to.send(message(STDOUT, &out[..count])).await?,
            },
            read = read(&mut stderr, &mut err), if stderr.is_some() => match read {
                0 => stderr = None,
                count => to.send(message(STDERR, &err[..count])).await?,
            },
            ended = &mut ended, if end.is_none() => {
                let gone = Ended { code: 137, message: Some("the pod has ended".to_owned()) };
                end = Some(ended.unwrap_or(gone));
            }
            _ = ping.tick() => to.send(Message::Ping(Bytes::new())).await?,
        }
    }
    let status = end.map(|end| serde_json::to_vec(&end.status()).unwrap_or_default());
    to.send(message(ERROR, &status.unwrap_or_default())).await
}

/// What comes next; 0 at the end.
async fn read(from: &mut Option<pipe::Receiver>, buffer: &mut [u8]) -> usize {
    match from {
        Some(pipe) => pipe.read(buffer).await.unwrap_or(0),
        None => 0,
    }
}

/// The message of a channel.
pub fn message(channel: u8, bytes: &[u8]) -> Message {
    let mut data = Vec::with_capacity(bytes.len() + 1);
    data.push(channel);
    data.extend_from_slice(bytes);
    Message::Binary(data.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_as_it_was_written() {
        let options = ExecOptions {
            container: Some("web".to_owned()),
            command: vec!["a b".to_owned(), "ü&=%+".to_owned(), String::new()],
            stdin: true,
            stdout: true,
            stderr: false,
        };
        assert_eq!(ExecOptions::parse(&options.query()), Ok(options));
    }

    #[test]
    fn wrong_queries_are_refused() {
        for (query, words) in [
            ("stdout=true", "at least 1 command"),
            ("command=x", "at least 1 of stdin"),
            ("command=x&stdout=maybe", "neither true nor false"),
            ("command=x&stdout=1&tty=true", "no terminal"),
            ("command=%ff&stdout=1", "not well encoded"),
            ("command=%2&stdout=1", "not well encoded"),
            ("command=x&stdout=1&color=red", "unknown parameter"),
        ] {
            let error = ExecOptions::parse(query).unwrap_err().to_string();
            assert!(error.contains(words), "{query}: {error}");
        }
    }

    #[test]
    fn an_exit_code_is_told_as_kubernetes_tells_it() {
        let status = Ended { code: 7, message: None }.status();
        assert_eq!(status.reason.as_deref(), Some("NonZeroExitCode"));
        let cause = &status.details.unwrap().causes.unwrap()[0];
        assert_eq!((cause.reason.as_deref(), cause.message.as_deref()), (Some("ExitCode"), Some("7")));
        let success = Ended { code: 0, message: None }.status();
        assert_eq!(success.status.as_deref(), Some("Success"));
    }
}
