//! The standard health check of gRPC (<https://github.com/grpc/grpc/blob/master/doc/health-checking.md>), without
//! TLS, as `pkg/probe/grpc/grpc.go` of the kubelet does it.
//!
//! ```text
//! dial, again until it succeeds ─► hyper's HTTP/2 ─► tonic's client ─► Check ─► Outcome
//! ```

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper::http::{HeaderValue, Request, Response, Uri, header};
use hyper::rt::Executor;
use hyper_util::rt::TokioIo;
use tokio::time::Instant;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::background::{Background, Spawner};
use super::connection::{self, Connection};
use super::{Outcome, Place, go};

const AGENT: HeaderValue = HeaderValue::from_static("kube-probe/1.37");

/// Between two attempts to connect: where grpc-go's back-off begins.
const RETRY: Duration = Duration::from_secs(1);

/// What a server may send ahead of what is read, bytes, of the answer's stream and of the connection, and how large
/// the answer's headers may be. The answer itself has a byte or two.
const WINDOW: u32 = 64 * 1024;
const MAX_HEADERS: u32 = 16 * 1024;

/// Largest answer, bytes.
const MAX_MESSAGE: usize = 16 * 1024;

/// Asks for the health of `service` at `port` of the pod.
pub(super) async fn probe(port: u16, service: &str, place: &Place, timeout: Duration) -> Outcome {
    let deadline = Instant::now() + timeout;
    let address = go::host_port(&place.address.to_string(), port);
    let mut why = None;
    let connecting = tokio::time::timeout_at(deadline, connect(place, port, &mut why));
    let Ok(connection) = connecting.await else {
        let why =
            why.map(|why| format!(": connection error: desc = \"transport: Error while dialing: {why}\""));
        return Outcome::Failure(format!(
            "timeout: failed to connect service {address:?} within {}: context deadline exceeded{}",
            go::duration(timeout),
            why.unwrap_or_default(),
        ));
    };
    let mut background = Background::default();
    let checked = check(connection, &address, service, background.spawner());
    match tokio::time::timeout_at(deadline, background.during(checked)).await {
        Ok(Ok(status)) if status == ServingStatus::Serving as i32 => Outcome::Success,
        Ok(Ok(status)) => {
            let name = ServingStatus::try_from(status)
                .map_or_else(|_| status.to_string(), |status| status.as_str_name().to_owned());
            Outcome::Failure(format!("service unhealthy (responded with {name:?})"))
        }
        Ok(Err(status)) if status.code() != Code::DeadlineExceeded => Outcome::Failure(explain(&status)),
        Ok(Err(_)) | Err(_) => {
            Outcome::Failure(format!("timeout: health rpc did not complete within {}", go::duration(timeout)))
        }
    }
}

/// Connects, as long as it takes (`grpc.WithBlock`). The last failure is left in `why`.
async fn connect(place: &Place, port: u16, why: &mut Option<String>) -> Connection {
    loop {
        match connection::dial(place, &place.address.to_string(), port).await {
            Ok(connection) => return connection,
            Err(error) => *why = Some(error),
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// The number of the status that the server answers.
async fn check(
    connection: Connection,
    address: &str,
    service: &str,
    spawner: Spawner,
) -> Result<i32, Status> {
    let unavailable = |error: hyper::Error| Status::unavailable(go::chain(&error));
    let mut client = http2::Builder::new(spawner.clone());
    client.initial_stream_window_size(WINDOW).initial_connection_window_size(WINDOW);
    client.max_header_list_size(MAX_HEADERS);
    let (sender, connecting) = client.handshake(TokioIo::new(connection)).await.map_err(unavailable)?;
    spawner.execute(connecting);
    let origin = Uri::try_from(format!("http://{address}"))
        .map_err(|error| Status::internal(format!("{address}: {error}")))?;
    let mut client = HealthClient::with_origin(Client(sender), origin).max_decoding_message_size(MAX_MESSAGE);
    let request = HealthCheckRequest { service: service.to_owned() };
    Ok(client.check(request).await?.into_inner().status)
}

/// Hyper's client as tonic takes it.
struct Client(SendRequest<Body>);

impl Service<Request<Body>> for Client {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        request.headers_mut().insert(header::USER_AGENT, AGENT);
        Box::pin(self.0.send_request(request))
    }
}

fn explain(status: &Status) -> String {
    let message = status.message();
    if status.code() == Code::Unimplemented {
        return format!(
            "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {message}"
        );
    }
    // Go spells it with one l.
    let code = match status.code() {
        Code::Cancelled => "Canceled".to_owned(),
        code => format!("{code:?}"),
    };
    format!("error: health rpc probe failed: rpc error: code = {code} desc = {message}")
}
