//! As much of HTTP/1.1 (RFC 9112) as a file server needs: GET and HEAD, one request per connection.

/// Bytes a request's head may have.
const MAX_HEAD: usize = 8 * 1024;
/// Bytes of a request line that reach the log.
const MAX_LOGGED: usize = 120;

/// What the peer asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Request {
    /// GET, or HEAD when `head_only`, of a path that starts with `/`, without its query.
    Get { path: String, head_only: bool },
    /// A request that is answered with this status.
    Refused(Status),
}

/// A status line's code and reason.
pub type Status = &'static str;

pub const OK: Status = "200 OK";
pub const BAD_REQUEST: Status = "400 Bad Request";
pub const NOT_FOUND: Status = "404 Not Found";
pub const NOT_ALLOWED: Status = "405 Method Not Allowed";
pub const HEAD_TOO_LARGE: Status = "431 Request Header Fields Too Large";
pub const FAILED: Status = "500 Internal Server Error";

/// Reads a request's head; `None` while it is incomplete.
pub fn parse(head: &[u8]) -> Option<Request> {
    if !head.windows(4).any(|four| four == b"\r\n\r\n") {
        return (head.len() > MAX_HEAD).then_some(Request::Refused(HEAD_TOO_LARGE));
    }
    let line = first_line(head);
    let mut words = line.split(' ');
    let (Some(method), Some(target), Some("HTTP/1.1" | "HTTP/1.0"), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Some(Request::Refused(BAD_REQUEST));
    };
    let path = target.split(['?', '#']).next().unwrap_or_default();
    Some(match method {
        _ if !path.starts_with('/') => Request::Refused(BAD_REQUEST),
        "GET" | "HEAD" => Request::Get { path: path.into(), head_only: method == "HEAD" },
        _ => Request::Refused(NOT_ALLOWED),
    })
}

/// The request line, printable, cut to what a log line bears.
pub fn first_line(head: &[u8]) -> String {
    let line = head.split(|&byte| byte == b'\r' || byte == b'\n').next().unwrap_or_default();
    String::from_utf8_lossy(line).chars().filter(|c| !c.is_control()).take(MAX_LOGGED).collect()
}

/// A response; the connection closes after it.
pub struct Response {
    pub status: Status,
    pub content_type: &'static str,
    /// Further header lines, each with its CRLF.
    pub headers: String,
    pub body: Vec<u8>,
    /// The answer to HEAD: everything but the body.
    pub head_only: bool,
}

impl Response {
    /// A line of text.
    pub fn text(status: Status) -> Response {
        Response {
            status,
            content_type: "text/plain; charset=utf-8",
            headers: String::new(),
            body: format!("{status}\n").into_bytes(),
            head_only: false,
        }
    }

    /// The bytes to send.
    pub fn into_bytes(self) -> Vec<u8> {
        let mut bytes = format!(
            "HTTP/1.1 {}\r\ncontent-type: {}\r\ncontent-length: {}\r\ncache-control: no-store\r\nconnection: close\r\n{}\r\n",
            self.status,
            self.content_type,
            self.body.len(),
            self.headers,
        )
        .into_bytes();
        if !self.head_only {
            bytes.extend(self.body);
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(path: &str) -> Option<Request> {
        Some(Request::Get { path: path.into(), head_only: false })
    }

    #[test]
    fn a_head_is_read_when_complete() {
        assert_eq!(parse(b"GET / HTTP/1.1\r\nHost: pod\r\n"), None);
        assert_eq!(parse(b"GET / HTTP/1.1\r\nHost: pod\r\n\r\n"), get("/"));
        assert_eq!(parse(b"GET /style.css?v=1 HTTP/1.0\r\n\r\n"), get("/style.css"));
    }

    #[test]
    fn what_is_not_get_or_head_is_refused() {
        assert_eq!(parse(b"POST / HTTP/1.1\r\n\r\n"), Some(Request::Refused(NOT_ALLOWED)));
        assert_eq!(parse(b"\xff\xfe\r\n\r\n"), Some(Request::Refused(BAD_REQUEST)));
        assert_eq!(parse(b"GET http://pod/ HTTP/1.1\r\n\r\n"), Some(Request::Refused(BAD_REQUEST)));
        assert_eq!(parse(&[b'a'; MAX_HEAD + 1]), Some(Request::Refused(HEAD_TOO_LARGE)));
    }
}
