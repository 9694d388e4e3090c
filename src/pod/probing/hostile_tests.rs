//! Servers that mean harm: a probe of theirs ends, and holds little until then.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::tests::{
    Accepted, Handler, IMPATIENCE, Pod, Where, answering, failure, handler, head, http_get, why,
};
use super::*;

/// Answers with `start`, and then with `more` again and again, `pause` between each.
fn endless(start: &'static str, more: &'static [u8], pause: Duration) -> Handler {
    handler(move |mut accepted: Accepted| async move {
        head(&mut accepted).await;
        let mut written = accepted.write_all(start.as_bytes()).await;
        while written.is_ok() {
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            written = accepted.write_all(more).await;
        }
    })
}

async fn ask(pod: &Pod, port: u16) -> Outcome {
    pod.run(ProbeHandler::HttpGet(http_get(port, "/")), IMPATIENCE).await
}

fn no_head(pod: &Pod, port: u16) -> Outcome {
    failure(format!(
        "Get \"http://{}:{port}/\": context deadline exceeded (Client.Timeout exceeded while awaiting headers)",
        pod.place.address
    ))
}

const NO_BODY: &str = "context deadline exceeded (Client.Timeout or context cancellation while reading body)";

const PLANES: [Where; 2] = [Where::Container, Where::Native];

#[tokio::test]
async fn silence_and_dripping_end_with_the_timeout() {
    let drip = Duration::from_millis(10);
    for at in PLANES {
        let mut pod = Pod::new();
        let silent = pod.serve(
            at,
            handler(|accepted: Accepted| async move {
                let _accepted = accepted;
                std::future::pending().await
            }),
        );
        let silent = silent.await;
        assert_eq!(ask(&pod, silent).await, no_head(&pod, silent), "{at:?}");
        let dripping = pod.serve(at, endless("HTTP/1.1 200 OK\r\nX-A: ", b"a", drip)).await;
        assert_eq!(ask(&pod, dripping).await, no_head(&pod, dripping), "{at:?}");
        let body =
            pod.serve(at, endless("HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n", b"a", drip)).await;
        assert_eq!(ask(&pod, body).await, failure(NO_BODY), "{at:?}");
        pod.end().await;
    }
}

#[tokio::test]
async fn what_never_ends_is_cut() {
    for at in PLANES {
        let mut pod = Pod::new();
        let headers = endless("HTTP/1.1 200 OK\r\n", b"X-Header: some value\r\n", Duration::ZERO);
        let port = pod.serve(at, headers).await;
        let cut = why(ask(&pod, port).await);
        assert!(cut.contains("server response headers exceeded") || cut.contains("malformed"), "{cut}");
        let one = endless("HTTP/1.1 200 OK\r\nX-A: ", &[b'a'; 1000], Duration::ZERO);
        let port = pod.serve(at, one).await;
        let cut = why(ask(&pod, port).await);
        assert!(cut.ends_with("server response headers exceeded 65536 bytes; aborted"), "{cut}");
        // The first 10 KiB of a body are enough, whatever comes behind them.
        for start in [
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffff\r\n",
        ] {
            let port = pod.serve(at, endless(start, &[b'a'; 1000], Duration::ZERO)).await;
            assert_eq!(ask(&pod, port).await, Outcome::Success, "{start:?} {at:?}");
        }
        // Interim answers, without the one.
        let interim = endless("", b"HTTP/1.1 100 Continue\r\n\r\n", Duration::from_millis(1));
        let port = pod.serve(at, interim).await;
        assert_eq!(ask(&pod, port).await, no_head(&pod, port), "{at:?}");
        pod.end().await;
    }
}

#[tokio::test]
async fn nonsense_is_a_failure() {
    for at in PLANES {
        let mut pod = Pod::new();
        for (answer, expected) in [
            ("", "EOF"),
            ("HTTP/1.1 200", "EOF"),
            ("SSH-2.0-OpenSSH_9.9\r\n\r\n", "malformed HTTP response"),
            ("HTTP/1.1 2x0 OK\r\n\r\n", "malformed HTTP response"),
            ("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "malformed HTTP response"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc", "unexpected EOF"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc", "unexpected EOF"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n", "chunk"),
        ] {
            let port = pod.serve(at, answering(answer)).await;
            let said = why(ask(&pod, port).await);
            assert!(said.to_lowercase().contains(&expected.to_lowercase()), "{answer:?}: {said} {at:?}");
        }
        pod.end().await;
    }
}

#[tokio::test]
async fn a_reset_is_told() {
    for at in PLANES {
        let mut pod = Pod::new();
        let port = pod
            .serve(
                at,
                handler(|mut accepted: Accepted| async move {
                    // The rest of the request is not read: the close is a reset.
                    let _ = accepted.read_u8().await;
                }),
            )
            .await;
        let said = why(ask(&pod, port).await);
        assert!(said.starts_with("Get \"http://") && said.contains("read tcp "), "{said} {at:?}");
        assert!(said.ends_with("read: connection reset by peer"), "{said} {at:?}");
        pod.end().await;
    }
}

#[tokio::test]
async fn a_long_body_of_another_host_is_cut_in_the_warning() {
    let mut pod = Pod::new();
    let start = "HTTP/1.1 302 Found\r\nLocation: http://other.example/\r\n\r\n";
    let port = pod.serve(Where::Container, endless(start, &[b'a'; 1000], Duration::ZERO)).await;
    let Outcome::Warning(text) = ask(&pod, port).await else { panic!("no warning") };
    assert_eq!(text.len(), "Probe terminated redirects, Response body: ".len() + 10 * 1024);
    pod.end().await;
}
