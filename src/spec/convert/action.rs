//! What a probe or a hook does: `exec`, `httpGet`, and the port that it is done to.
//!
//! ```text
//! exec ─────────────────────────────────────► command, as it is: nothing is expanded in it
//! httpGet ─► port (a name: the container's own ports) + path (a request target) + headers ─► HttpGet
//! ```
//!
//! The checks and their words are the API server's (`validateHandler`, `validateHTTPGetAction` and others in
//! `pkg/apis/core/validation/validation.go`), the readings the kubelet's (`pkg/probe/http/request.go`,
//! `pkg/probe/util.go`).

use k8s_openapi::api::core::v1 as wire;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::port;
use super::report::{Report, is_set, items};
use crate::manifest::{FieldPath, hint};
use crate::spec::{HttpGet, Scheme, name};

/// Exactly one of these has to be given; more are reported as the API server does. Whether it is so.
pub(super) fn exactly_one(given: &[(&str, bool)], path: &FieldPath, report: &mut Report) -> bool {
    let mut given = given.iter().filter(|(_, given)| *given).map(|(field, _)| *field);
    let Some(first) = given.next() else {
        report.error(path, "required: must specify a handler type");
        return false;
    };
    let before = report.errors.len();
    for field in given {
        let message = format_args!("may not specify more than 1 handler type: there is {first} already");
        report.error(&path.field(field), message);
    }
    report.errors.len() == before
}

/// `exec`: the command. `None`: it is wrong, which has been reported; so below.
pub(super) fn exec(action: &wire::ExecAction, path: &FieldPath, report: &mut Report) -> Option<Vec<String>> {
    let wire::ExecAction { command } = action;
    let command = items(command);
    let path = path.field("command");
    if command.is_empty() {
        report.error(&path, "required; the command and its arguments");
        return None;
    }
    let before = report.errors.len();
    for (index, part) in command.iter().enumerate() {
        if part.contains('\0') {
            report.error(&path.index(index), "must not contain a NUL byte");
        }
    }
    (report.errors.len() == before).then(|| command.to_vec())
}

/// `httpGet` of a container with `ports`.
pub(super) fn http_get(
    action: &wire::HTTPGetAction,
    ports: &[wire::ContainerPort],
    path: &FieldPath,
    report: &mut Report,
) -> Option<HttpGet> {
    let wire::HTTPGetAction { host, http_headers, path: target, port, protocol, scheme } = action;
    report.unsupported(is_set(protocol), &path.field("protocol"), "requests are HTTP/1.1; remove it");
    let scheme = match scheme.as_deref().unwrap_or_default() {
        "" => Some(Scheme::Http),
        text => {
            let schemes = [("HTTP", Scheme::Http), ("HTTPS", Scheme::Https)];
            report.choice(&path.field("scheme"), text, &schemes)
        }
    };
    let host = self::host(host, &path.field("host"), report);
    let port = self::port(port, ports, &path.field("port"), report);
    let before = report.errors.len();
    for (index, wire::HTTPHeader { name, value }) in items(http_headers).iter().enumerate() {
        let path = path.field("httpHeaders").index(index);
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            let rule =
                "a valid HTTP header must consist of alphanumeric characters or '-', such as X-Header-Name";
            report.error(&path.field("name"), format_args!("invalid value {name:?}: {rule}"));
        }
        // RFC 9110, 5.5. Kubernetes does not look, and the kubelet's probe then fails.
        if value.bytes().any(|b| (b < b' ' && b != b'\t') || b == 0x7f) {
            report.error(&path.field("value"), "must not contain control characters");
        }
    }
    let headers_are_good = report.errors.len() == before;
    let headers = items(http_headers).iter().map(|header| (header.name.clone(), header.value.clone()));
    Some(HttpGet {
        scheme: scheme?,
        host: host?,
        port: port?,
        path: request_target(target.as_deref().unwrap_or_default()),
        headers: headers_are_good.then(|| headers.collect())?,
    })
}

/// `host` of an `httpGet` or `tcpSocket`; within: the pod's own address when there is none.
pub(super) fn host(host: &Option<String>, path: &FieldPath, report: &mut Report) -> Option<Option<String>> {
    let Some(host) = host.as_ref().filter(|host| !host.is_empty()) else { return Some(None) };
    let address = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    let is_address = address.parse::<std::net::IpAddr>().is_ok();
    // What a resolver looks up may have more than a DNS label's characters, such as an underscore.
    let is_name = host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
    if is_address || is_name {
        return Some(Some(if is_address { address } else { host }.to_owned()));
    }
    let message =
        format_args!("invalid value {host:?}: must be a host name or an IP address, without a port");
    report.error(path, message);
    None
}

/// A port by number, or by its name in `ports` (`ResolveContainerPort` in `pkg/probe/util.go`: of whichever
/// protocol, the first of that name).
pub(super) fn port(
    port: &IntOrString,
    ports: &[wire::ContainerPort],
    path: &FieldPath,
    report: &mut Report,
) -> Option<u16> {
    let text = match port {
        IntOrString::Int(number) => return port::number(*number, path, report),
        IntOrString::String(text) => text,
    };
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        report.error(path, format_args!("invalid value {text:?}: a port's number has no quotes"));
        return None;
    }
    if !report.check(path, name::port(text)) {
        return None;
    }
    let names = || ports.iter().filter_map(|port| port.name.as_deref());
    match ports.iter().find(|port| port.name.as_deref() == Some(text)) {
        // One that is no port is reported where it stands.
        Some(port) => u16::try_from(port.container_port).ok().filter(|number| *number > 0),
        None => {
            let hint = hint(text, names());
            let message = match names().collect::<Vec<_>>()[..] {
                [] => format!("no port named {text:?}: the container's ports have no names"),
                ref names => {
                    format!("no port named {text:?}{hint} (the container's ports: {})", names.join(", "))
                }
            };
            report.error(path, message);
            None
        }
    }
}

/// `path` as it stands in a request line (RFC 9112, 3.2.1): with a slash in front, without a fragment, and
/// what may not be there percent-encoded, as Go's `net/url` does it for the kubelet.
fn request_target(path: &str) -> String {
    let path = path.split('#').next().unwrap_or_default();
    let mut target = String::with_capacity(path.len() + 1);
    if !path.starts_with('/') {
        target.push('/');
    }
    let bytes = path.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        let is_escape = || {
            let digits = bytes.get(at + 1..at + 3);
            digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
        };
        let stands = match byte {
            b'%' => is_escape(),
            b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' => false,
            byte => byte.is_ascii_graphic(),
        };
        if stands {
            target.push(char::from(*byte));
        } else {
            target.push_str(&format!("%{byte:02X}"));
        }
    }
    target
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_targets() {
        for (path, target) in [
            ("", "/"),
            ("/", "/"),
            ("healthz", "/healthz"),
            ("/a?b=c&d", "/a?b=c&d"),
            ("?a", "/?a"),
            ("/a b", "/a%20b"),
            ("/a%20b", "/a%20b"),
            ("/100%", "/100%25"),
            ("/a%2", "/a%252"),
            ("/€\r\nHost: x", "/%E2%82%AC%0D%0AHost:%20x"),
            ("/a#b", "/a"),
            ("#", "/"),
        ] {
            assert_eq!(request_target(path), target, "{path:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_path_makes_a_request_target(path: String) {
            let target = request_target(&path);
            proptest::prop_assert!(target.starts_with('/') && target.bytes().all(|b| b.is_ascii_graphic()));
            proptest::prop_assert_eq!(request_target(&target), target);
        }
    }
}
