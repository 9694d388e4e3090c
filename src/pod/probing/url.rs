//! The addresses of HTTP probes, and where a `Location` leads from them (RFC 3986, section 5.2; Go's `net/url`).

use std::fmt;
use std::net::IpAddr;

use super::go;
use crate::spec::{HttpGet, Scheme};

/// An HTTP address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Url {
    pub(super) scheme: Scheme,
    /// A name or an address, without brackets.
    pub(super) host: String,
    /// As written; `None` is the scheme's.
    port: Option<u16>,
    /// Path and query as in the request's first line: ASCII, beginning with `/`.
    pub(super) target: String,
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        };
        write!(f, "{scheme}://{}{}", self.authority(), self.target)
    }
}

impl Url {
    /// What a probe or a hook asks first (`formatURL` in `pkg/probe/http/request.go`).
    pub(super) fn of(get: &HttpGet, address: IpAddr) -> Self {
        let host = get.host.as_deref().filter(|host| !host.is_empty());
        let host = host.map_or_else(|| address.to_string(), without_brackets);
        let path = without_fragment(&get.path);
        let slash = if path.starts_with('/') { "" } else { "/" };
        Self { scheme: get.scheme, host, port: Some(get.port), target: escape(&format!("{slash}{path}")) }
    }

    /// Host and port as in the `Host` header.
    pub(super) fn authority(&self) -> String {
        match self.port {
            Some(port) => go::host_port(&self.host, port),
            None if self.host.contains(':') => format!("[{}]", self.host),
            None => self.host.clone(),
        }
    }

    /// Where to connect.
    pub(super) fn port(&self) -> u16 {
        let default = match self.scheme {
            Scheme::Http => 80,
            Scheme::Https => 443,
        };
        self.port.unwrap_or(default)
    }

    /// Where `location` leads from here.
    ///
    /// # Errors
    /// Why it leads nowhere.
    pub(super) fn join(&self, location: &str) -> Result<Self, String> {
        let reference = without_fragment(location.trim());
        let (scheme, rest) = match scheme(reference) {
            Some((name, rest)) if name.eq_ignore_ascii_case("http") => (Some(Scheme::Http), rest),
            Some((name, rest)) if name.eq_ignore_ascii_case("https") => (Some(Scheme::Https), rest),
            Some((name, _)) => return Err(format!("unsupported protocol scheme {:?}", name.to_lowercase())),
            None => (None, reference),
        };
        if let Some(rest) = rest.strip_prefix("//") {
            let end = rest.find(['/', '?']).unwrap_or(rest.len());
            let (host, port) = authority(&rest[..end])
                .ok_or_else(|| format!("failed to parse Location header {location:?}: invalid host"))?;
            let scheme = scheme.unwrap_or(self.scheme);
            return Ok(Self { scheme, host, port, target: normal(&rest[end..]) });
        }
        if scheme.is_some() {
            return Err("http: no Host in request URL".to_owned());
        }
        let path = self.target.split('?').next().unwrap_or_default();
        let target = match rest.chars().next() {
            None => self.target.clone(),
            Some('/') => normal(rest),
            Some('?') => normal(&format!("{path}{rest}")),
            Some(_) => normal(&format!("{}{rest}", &path[..=path.rfind('/').unwrap_or(0)])),
        };
        Ok(Self { target, ..self.clone() })
    }
}

/// Whether the reference has a scheme (Go's `URL.IsAbs`): then it may lead away from who said it.
pub(super) fn is_absolute(location: &str) -> bool {
    scheme(location.trim()).is_some()
}

fn without_fragment(reference: &str) -> &str {
    reference.split('#').next().unwrap_or_default()
}

fn without_brackets(host: &str) -> String {
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    inner.unwrap_or(host).to_owned()
}

/// The scheme of a reference, and what follows its colon.
fn scheme(reference: &str) -> Option<(&str, &str)> {
    let (name, rest) = reference.split_once(':')?;
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.chars().all(is_part);
    is_name.then_some((name, rest))
}

/// Host and port of an authority, whose user is ignored.
fn authority(text: &str) -> Option<(String, Option<u16>)> {
    let text = text.rsplit('@').next()?;
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let port = match port.strip_prefix(':') {
        None if port.is_empty() => None,
        None => return None,
        Some("") => None,
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => Some(digits.parse().ok()?),
        Some(_) => return None,
    };
    let is_plain = |c: char| c.is_ascii_graphic() && !matches!(c, '<' | '>' | '"' | '\\' | '%');
    (!host.is_empty() && host.chars().all(is_plain)).then(|| (host.to_owned(), port))
}

/// Path and query, absolute, without dot segments and escaped.
fn normal(target: &str) -> String {
    let (path, query) = match target.find('?') {
        Some(at) => target.split_at(at),
        None => (target, ""),
    };
    escape(&format!("{}{query}", without_dots(path)))
}

/// RFC 3986, section 5.2.4.
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let segments = path.strip_prefix('/').unwrap_or(path);
    let mut ends_in_directory = false;
    for segment in segments.split('/') {
        ends_in_directory = matches!(segment, "." | "..");
        match segment {
            "." => {}
            ".." => {
                kept.pop();
            }
            segment => kept.push(segment),
        }
    }
    let end = if ends_in_directory && !kept.is_empty() { "/" } else { "" };
    format!("/{}{end}", kept.join("/"))
}

/// Percent-encodes what may not be in a request's first line, and a `%` that encodes nothing.
fn escape(target: &str) -> String {
    let bytes = target.as_bytes();
    let mut escaped = String::with_capacity(bytes.len());
    for (at, &byte) in bytes.iter().enumerate() {
        let encodes =
            || matches!(bytes.get(at + 1..at + 3), Some(hex) if hex.iter().all(u8::is_ascii_hexdigit));
        let stays = match byte {
            b'%' => encodes(),
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' => true,
            other => b"-._~!$&'()*+,;=:@/?".contains(&other),
        };
        if stays {
            escaped.push(byte.into());
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn first(host: Option<&str>, path: &str) -> Url {
        let get = HttpGet {
            scheme: Scheme::Http,
            host: host.map(str::to_owned),
            port: 8080,
            path: path.to_owned(),
            headers: Vec::new(),
        };
        Url::of(&get, IpAddr::from([10, 1, 2, 3]))
    }

    #[test]
    fn the_first_is_the_pods_address_unless_the_manifest_says_otherwise() {
        assert_eq!(first(None, "/healthz").to_string(), "http://10.1.2.3:8080/healthz");
        assert_eq!(
            first(Some("localhost"), "ready?full=1").to_string(),
            "http://localhost:8080/ready?full=1"
        );
        assert_eq!(first(Some("fd00::2"), "").to_string(), "http://[fd00::2]:8080/");
        assert_eq!(first(Some("[fd00::2]"), "/").host, "fd00::2");
        assert_eq!(first(None, "/a b/ü%zz%41#part").target, "/a%20b/%C3%BC%25zz%41");
    }

    #[test]
    fn locations_lead_where_rfc_3986_says() {
        let base = first(None, "/b/c/d?q");
        let leads = |location: &str| base.join(location).map(|url| url.to_string());
        for (location, expected) in [
            ("/login", "http://10.1.2.3:8080/login"),
            ("g", "http://10.1.2.3:8080/b/c/g"),
            ("./g/", "http://10.1.2.3:8080/b/c/g/"),
            ("../g", "http://10.1.2.3:8080/b/g"),
            ("../../../../g", "http://10.1.2.3:8080/g"),
            ("..", "http://10.1.2.3:8080/b/"),
            (".", "http://10.1.2.3:8080/b/c/"),
            ("?y=1", "http://10.1.2.3:8080/b/c/d?y=1"),
            ("g?y/../x", "http://10.1.2.3:8080/b/c/g?y/../x"),
            ("", "http://10.1.2.3:8080/b/c/d?q"),
            ("#top", "http://10.1.2.3:8080/b/c/d?q"),
            ("//10.1.2.3/x", "http://10.1.2.3/x"),
            ("https://10.1.2.3:8443", "https://10.1.2.3:8443/"),
            ("HTTP://user:word@other.example:/x", "http://other.example/x"),
            ("http://[fd00::2]:81?x", "http://[fd00::2]:81/?x"),
            ("http://[fd00::2]", "http://[fd00::2]/"),
            ("a:b", "unsupported protocol scheme \"a\""),
            ("FTP://x/", "unsupported protocol scheme \"ftp\""),
            ("http:path", "http: no Host in request URL"),
        ] {
            assert_eq!(leads(location).unwrap_or_else(|error| error), expected, "{location}");
        }
        for nowhere in ["http://", "http://:80/", "http://x:99999/", "http://x:8a/", "http://[::1/", "//a b/"]
        {
            assert!(leads(nowhere).is_err_and(|error| error.contains("failed to parse")), "{nowhere}");
        }
        let https = base.join("https://x/").expect("join");
        assert_eq!((https.port(), base.port()), (443, 8080));
        assert!(is_absolute("http://x/") && !is_absolute("//x/") && !is_absolute("/a:b"));
    }

    proptest! {
        /// Whatever a server says, what is asked next is a valid first line of a request.
        #[test]
        fn no_location_makes_an_invalid_request(location in "\\PC{0,40}|[a-z:/?#%.@\\[\\]]{0,40}") {
            if let Ok(url) = first(None, "/a/b").join(&location) {
                prop_assert!(url.target.starts_with('/'));
                prop_assert!(url.target.parse::<hyper::http::uri::PathAndQuery>().is_ok(), "{url}");
                prop_assert!(url.authority().parse::<hyper::http::HeaderValue>().is_ok());
            }
        }
    }
}
