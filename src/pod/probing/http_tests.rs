//! HTTP probes and hooks against real servers, of containers and of native processes.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{ServerConfig, SupportedProtocolVersion};

use super::tests::{
    Accepted, Handler, PATIENCE, Pod, Where, answering, failure, handler, head, http_get, why,
};
use super::*;
use crate::spec::{HttpGet, Scheme};

pub(super) async fn serve_with_hyper(
    accepted: impl super::tests::Io + 'static,
    answer: impl Fn(Request<Incoming>) -> Response<Full<Bytes>>,
) {
    let service = service_fn(|request| std::future::ready(Ok::<_, Infallible>(answer(request))));
    let _ = http1::Builder::new().serve_connection(TokioIo::new(accepted), service).await;
}

/// A server of hyper's.
fn site(
    answer: impl Fn(Request<Incoming>) -> Response<Full<Bytes>> + Clone + Send + Sync + 'static,
) -> Handler {
    handler(move |accepted| serve_with_hyper(accepted, answer.clone()))
}

fn status(code: u16) -> Response<Full<Bytes>> {
    Response::builder().status(code).body("a body".into()).expect("response")
}

fn redirect(location: &str) -> Response<Full<Bytes>> {
    let response = Response::builder().status(302).header("Location", location);
    response.body("moved".into()).expect("response")
}

#[tokio::test]
async fn statuses_from_200_to_399_are_success() {
    for at in [Where::Container, Where::Native] {
        let mut pod = Pod::new();
        let site =
            site(|request| status(request.uri().path().trim_start_matches('/').parse().expect("a status")));
        let port = pod.serve(at, site).await;
        for success in ["/200", "/204", "/299"] {
            assert_eq!(pod.get(port, success).await, Outcome::Success, "{success} {at:?}");
        }
        for bad in [400, 404, 500, 503] {
            let expected = format!("HTTP probe failed with statuscode: {bad}");
            assert_eq!(pod.get(port, &bad.to_string()).await, failure(expected), "{at:?}");
        }
        // Redirects that lead nowhere.
        for warned in ["/300", "/302", "/308"] {
            let warning = "Probe terminated redirects, Response body: a body".to_owned();
            assert_eq!(pod.get(port, warned).await, Outcome::Warning(warning), "{at:?}");
        }
        pod.end().await;
    }
}

/// A server that keeps the heads of what it is asked.
fn listening_to(heads: &Arc<Mutex<Vec<String>>>) -> Handler {
    let heads = heads.clone();
    handler(move |mut accepted: Accepted| {
        let heads = heads.clone();
        async move {
            let asked = head(&mut accepted).await;
            heads.lock().expect("lock").push(asked);
            let _ = accepted.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await;
        }
    })
}

#[tokio::test]
async fn the_request_is_the_kubelets() {
    let mut pod = Pod::new();
    let heads = Arc::default();
    let port = pod.serve(Where::Container, listening_to(&heads)).await;
    assert_eq!(pod.get(port, "healthz?full=1").await, Outcome::Success);
    let mut custom = http_get(port, "/");
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    custom.headers = vec![
        header("host", "site.example"),
        header("X-Twice", "1"),
        header("Accept", ""),
        header("x-twice", "2"),
        header("Content-Length", "5"),
        header("User-Agent", "mine"),
    ];
    assert_eq!(pod.run(ProbeHandler::HttpGet(custom), PATIENCE).await, Outcome::Success);
    assert_eq!(hook(&Hook::HttpGet(http_get(port, "/stop")), &pod.place).await, Ok(()));
    let heads = heads.lock().expect("lock").clone();
    assert_eq!(
        heads,
        [
            format!(
                "GET /healthz?full=1 HTTP/1.1\r\nHost: 10.1.2.3:{port}\r\nUser-Agent: kube-probe/1.37\r\n\
                 Accept: */*\r\nConnection: close\r\n\r\n"
            ),
            "GET / HTTP/1.1\r\nHost: site.example\r\nUser-Agent: mine\r\nX-Twice: 1\r\nX-Twice: 2\r\n\
             Connection: close\r\n\r\n"
                .to_owned(),
            format!(
                "GET /stop HTTP/1.1\r\nHost: 10.1.2.3:{port}\r\nUser-Agent: kube-lifecycle/1.37\r\n\
                 Accept: */*\r\nConnection: close\r\n\r\n"
            ),
        ]
    );
    pod.end().await;
}

#[tokio::test]
async fn redirects_to_the_same_host_are_followed() {
    let mut pod = Pod::new();
    let other = pod.serve(Where::Container, site(|_| status(200))).await;
    let site = site(move |request| match request.uri().path() {
        "/a/start" => redirect("next?x=1"),
        "/a/next" if request.uri().query() == Some("x=1") => redirect("/up"),
        "/up" => redirect(&format!("http://10.1.2.3:{other}/")),
        "/bad" => redirect("/500"),
        "/count" => redirect("/1"),
        path => match path[1..].parse::<u16>() {
            Ok(500) => status(500),
            Ok(9) => status(200),
            Ok(n) => redirect(&format!("/{}", n + 1)),
            Err(_) => status(404),
        },
    });
    let port = pod.serve(Where::Container, site).await;
    assert_eq!(pod.get(port, "/a/start").await, Outcome::Success);
    assert_eq!(pod.served(), 4);
    assert_eq!(pod.get(port, "/bad").await, failure("HTTP probe failed with statuscode: 500"));
    assert_eq!(pod.get(port, "/count").await, Outcome::Success, "ten requests");
    pod.end().await;
}

#[tokio::test]
async fn a_loop_of_redirects_ends() {
    let mut pod = Pod::new();
    let port = pod.serve(Where::Container, site(|_| redirect("/again"))).await;
    assert_eq!(pod.get(port, "/").await, failure("Get \"/again\": stopped after 10 redirects"));
    assert_eq!(pod.served(), 10);
    pod.end().await;
}

#[tokio::test]
async fn a_redirect_to_another_host_is_a_warning() {
    let mut pod = Pod::new();
    let site = site(|request| match request.uri().path() {
        "/absolute" => redirect("http://other.example/x"),
        "/relative" => redirect("//other.example/x"),
        "/ftp" => redirect("ftp://other.example/x"),
        _ => redirect("http://:80/"),
    });
    let port = pod.serve(Where::Container, site).await;
    for path in ["/absolute", "/relative"] {
        let warning = "Probe terminated redirects, Response body: moved".to_owned();
        assert_eq!(pod.get(port, path).await, Outcome::Warning(warning));
    }
    let unsupported = "Get \"ftp://other.example/x\": unsupported protocol scheme \"ftp\"";
    assert_eq!(pod.get(port, "/ftp").await, failure(unsupported));
    let unparsed = "Get \"http://:80/\": failed to parse Location header \"http://:80/\": invalid host";
    assert_eq!(pod.get(port, "/").await, failure(unparsed));
    assert_eq!(pod.served(), 4);
    pod.end().await;
}

/// The `Host` of the manifest goes along with a redirect, unless that says where to go.
#[tokio::test]
async fn a_host_header_survives_relative_redirects() {
    let mut pod = Pod::new();
    let hosts: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = hosts.clone();
    let note = move |request: &Request<Incoming>| {
        seen.lock().expect("lock").push(request.headers()["host"].to_str().expect("text").to_owned());
    };
    let there = note.clone();
    let other = pod.serve(
        Where::Container,
        site(move |request| {
            there(&request);
            status(200)
        }),
    );
    let other = other.await;
    let site = site(move |request| {
        note(&request);
        match request.uri().path() {
            "/" => redirect("/relative"),
            _ => redirect(&format!("http://10.1.2.3:{other}/")),
        }
    });
    let port = pod.serve(Where::Container, site).await;
    let mut get = http_get(port, "/");
    get.headers = vec![("Host".to_owned(), "site.example".to_owned())];
    assert_eq!(pod.run(ProbeHandler::HttpGet(get), PATIENCE).await, Outcome::Success);
    let own = format!("10.1.2.3:{other}");
    assert_eq!(*hosts.lock().expect("lock"), ["site.example", "site.example", &own]);
    pod.end().await;
}

/// TLS with a certificate that nobody signed, for nobody, of yesterday; the names that clients ask for are kept.
fn https(version: &'static SupportedProtocolVersion, names: &Arc<Mutex<Vec<Option<String>>>>) -> Handler {
    let certificate = include_bytes!("testdata/certificate.der").to_vec().into();
    let key = PrivateKeyDer::Pkcs8(include_bytes!("testdata/key.der").to_vec().into());
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[version])
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("certificate");
    let (acceptor, names) = (TlsAcceptor::from(Arc::new(config)), names.clone());
    handler(move |accepted| {
        let (acceptor, names) = (acceptor.clone(), names.clone());
        async move {
            let Ok(stream) = acceptor.accept(accepted).await else { return };
            names.lock().expect("lock").push(stream.get_ref().1.server_name().map(str::to_owned));
            serve_with_hyper(stream, |request| match request.uri().path() {
                "/500" => status(500),
                _ => status(200),
            })
            .await;
        }
    })
}

fn secure(port: u16, path: &str) -> HttpGet {
    HttpGet { scheme: Scheme::Https, ..http_get(port, path) }
}

#[tokio::test]
async fn https_takes_any_certificate() {
    for version in [&TLS12, &TLS13] {
        for at in [Where::Container, Where::Native] {
            let mut pod = Pod::new();
            let names = Arc::default();
            let port = pod.serve(at, https(version, &names)).await;
            let named = HttpGet { host: Some("localhost".to_owned()), ..secure(port, "/") };
            for get in [secure(port, "/"), named] {
                let outcome = pod.run(ProbeHandler::HttpGet(get), PATIENCE).await;
                assert_eq!(outcome, Outcome::Success, "{version:?} {at:?}");
            }
            let bad = pod.run(ProbeHandler::HttpGet(secure(port, "/500")), PATIENCE).await;
            assert_eq!(bad, failure("HTTP probe failed with statuscode: 500"));
            assert_eq!(*names.lock().expect("lock"), [None, Some("localhost".to_owned()), None]);
            // The other way round.
            let plain = why(pod.get(port, "/").await);
            assert!(plain.starts_with("Get \"http://"), "{plain}");
            // From one to the other.
            let site = site(move |_| redirect(&format!("https://localhost:{port}/")));
            let from = pod.serve(at, site).await;
            let get = HttpGet { host: Some("localhost".to_owned()), ..http_get(from, "/") };
            assert_eq!(pod.run(ProbeHandler::HttpGet(get), PATIENCE).await, Outcome::Success);
            pod.end().await;
        }
    }
}

#[tokio::test]
async fn a_server_without_tls_fails_a_probe_and_answers_a_hook() {
    let mut pod = Pod::new();
    let http = handler(|mut accepted: Accepted| async move {
        let first = accepted.read_u8().await;
        let answer: &[u8] = match first {
            Ok(b'G') => b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            _ => b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
        };
        let _ = accepted.write_all(answer).await;
        let _ = accepted.shutdown().await;
        let _ = accepted.read_to_end(&mut Vec::new()).await;
    });
    let port = pod.serve(Where::Container, http).await;
    let expected =
        format!("Get \"https://10.1.2.3:{port}/\": http: server gave HTTP response to HTTPS client");
    assert_eq!(pod.run(ProbeHandler::HttpGet(secure(port, "/")), PATIENCE).await, failure(expected));
    assert_eq!(hook(&Hook::HttpGet(secure(port, "/")), &pod.place).await, Ok(()));
    assert_eq!(pod.served(), 3);
    let garbage = handler(|mut accepted: Accepted| async move {
        let _ = accepted.write_all(b"-ERR unknown command\r\n").await;
        let _ = accepted.read_to_end(&mut Vec::new()).await;
    });
    let port = pod.serve(Where::Container, garbage).await;
    let expected =
        format!("Get \"https://10.1.2.3:{port}/\": tls: first record does not look like a TLS handshake");
    assert_eq!(pod.run(ProbeHandler::HttpGet(secure(port, "/")), PATIENCE).await, failure(expected));
    pod.end().await;
}

#[tokio::test]
async fn any_answer_satisfies_a_hook_and_none_does_not() {
    let mut pod = Pod::new();
    let port = pod.serve(Where::Container, site(|_| status(500))).await;
    assert_eq!(hook(&Hook::HttpGet(http_get(port, "/")), &pod.place).await, Ok(()));
    let empty = pod.serve(Where::Container, answering("")).await;
    let none = hook(&Hook::HttpGet(http_get(empty, "/stop")), &pod.place).await;
    assert_eq!(none, Err(format!("Get \"http://10.1.2.3:{empty}/stop\": EOF")));
    pod.end().await;
}

#[tokio::test]
async fn nobody_there_is_refused_in_go_s_words() {
    let pod = Pod::new();
    let mut place = pod.place.clone();
    place.address = std::net::Ipv4Addr::LOCALHOST.into();
    // Nobody listens on the port of tcpmux.
    let get = Hook::HttpGet(http_get(1, "/healthz"));
    let expected = "Get \"http://127.0.0.1:1/healthz\": dial tcp 127.0.0.1:1: connect: connection refused";
    assert_eq!(hook(&get, &place).await, Err(expected.to_owned()));
}
