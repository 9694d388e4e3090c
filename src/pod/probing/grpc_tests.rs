//! gRPC probes against tonic's own health service, and against what is none.

use std::convert::Infallible;
use std::time::Duration;

use http_body_util::Full;
use hyper::Response;
use hyper::body::Bytes;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::AsyncWriteExt;
use tonic::codegen::Service;
use tonic_health::ServingStatus;
use tonic_health::server::health_reporter;

use super::tests::{Accepted, Handler, IMPATIENCE, PATIENCE, Pod, Where, answering, failure, handler, why};
use super::*;

async fn ask(pod: &Pod, port: u16, service: &str, timeout: Duration) -> Outcome {
    pod.run(ProbeHandler::Grpc { port, service: service.to_owned() }, timeout).await
}

/// The health service: `ready` serves, `broken` does not, and neither is the only one that is known.
async fn health() -> Handler {
    let (reporter, server) = health_reporter();
    reporter.set_service_status("ready", ServingStatus::Serving).await;
    reporter.set_service_status("broken", ServingStatus::NotServing).await;
    reporter.set_service_status("strange", ServingStatus::Unknown).await;
    handler(move |accepted| {
        let server = server.clone();
        async move {
            let service = service_fn(move |request| server.clone().call(request));
            let connection = http2::Builder::new(TokioExecutor::new());
            let _ = connection.serve_connection(TokioIo::new(accepted), service).await;
        }
    })
}

#[tokio::test]
async fn the_status_of_the_service_decides() {
    for at in [Where::Container, Where::Native] {
        let mut pod = Pod::new();
        let port = pod.serve(at, health().await).await;
        assert_eq!(ask(&pod, port, "", PATIENCE).await, Outcome::Success, "{at:?}");
        assert_eq!(ask(&pod, port, "ready", PATIENCE).await, Outcome::Success, "{at:?}");
        let unhealthy = |word: &str| failure(format!("service unhealthy (responded with \"{word}\")"));
        assert_eq!(ask(&pod, port, "broken", PATIENCE).await, unhealthy("NOT_SERVING"), "{at:?}");
        assert_eq!(ask(&pod, port, "strange", PATIENCE).await, unhealthy("UNKNOWN"), "{at:?}");
        let unknown = why(ask(&pod, port, "nothing", PATIENCE).await);
        let expected = "error: health rpc probe failed: rpc error: code = NotFound desc = ";
        assert!(unknown.starts_with(expected), "{unknown}");
        pod.end().await;
    }
}

#[tokio::test]
async fn a_server_without_the_protocol_says_so() {
    let mut pod = Pod::new();
    let other = handler(|accepted| async move {
        let answer = || {
            let response = Response::builder().header("content-type", "application/grpc");
            response.header("grpc-status", "12").header("grpc-message", "unknown service")
        };
        let service = service_fn(|_| {
            std::future::ready(Ok::<_, Infallible>(
                answer().body(Full::<Bytes>::default()).expect("response"),
            ))
        });
        let connection = http2::Builder::new(TokioExecutor::new());
        let _ = connection.serve_connection(TokioIo::new(accepted), service).await;
    });
    let port = pod.serve(Where::Container, other).await;
    let expected = "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): \
                    unknown service";
    assert_eq!(ask(&pod, port, "", PATIENCE).await, failure(expected));
    pod.end().await;
}

#[tokio::test]
async fn nobody_there_is_waited_for() {
    let mut pod = Pod::new();
    pod.place.address = std::net::Ipv4Addr::LOCALHOST.into();
    // Nobody listens on the port of tcpmux.
    let expected = "timeout: failed to connect service \"127.0.0.1:1\" within 0s: context deadline exceeded: \
                    connection error: desc = \"transport: Error while dialing: dial tcp 127.0.0.1:1: connect: \
                    connection refused\"";
    assert_eq!(ask(&pod, 1, "", IMPATIENCE).await, failure(expected));
}

#[tokio::test]
async fn silence_and_nonsense_fail() {
    let mut pod = Pod::new();
    let silent = handler(|accepted: Accepted| async move {
        let _accepted = accepted;
        std::future::pending().await
    });
    let port = pod.serve(Where::Container, silent).await;
    let late = "timeout: health rpc did not complete within 0s";
    assert_eq!(ask(&pod, port, "", IMPATIENCE).await, failure(late));
    let http1 = pod.serve(Where::Container, answering("HTTP/1.1 400 Bad Request\r\n\r\n")).await;
    let said = why(ask(&pod, http1, "", PATIENCE).await);
    assert!(said.starts_with("error: health rpc probe failed: rpc error: code = "), "{said}");
    // Frames without end, of a kind that nobody knows.
    let flood = handler(|mut accepted: Accepted| async move {
        let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
        let unknown = [0, 0, 0, 0xfe, 0, 0, 0, 0, 0].repeat(100);
        let mut written = accepted.write_all(&settings).await;
        while written.is_ok() {
            written = accepted.write_all(&unknown).await;
            tokio::task::yield_now().await;
        }
    });
    let port = pod.serve(Where::Container, flood).await;
    why(ask(&pod, port, "", IMPATIENCE).await);
    pod.end().await;
}
