//! A request head: parsed by `httparse`, bounded, and checked for what every request owes us.

use super::response::Response;

/// Bytes of the request target (path and query).
pub const TARGET_BYTES_MAX: usize = 4 * 1024;
/// Least of `bytes_max`: a target that is too long must be told from a head that is too long.
pub const HEAD_BYTES_LEAST: usize = 2 * TARGET_BYTES_MAX;

/// Bounds of a request head: `listen.head.bytes.max` and `listen.head.lines.max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Bytes of a head, its blank line included, [`HEAD_BYTES_LEAST`] at least.
    pub bytes_max: usize,
    /// Header lines.
    pub lines_max: usize,
}

impl Default for HeadLimits {
    /// Room for the cookies of a large site and for what proxies add.
    fn default() -> Self {
        HeadLimits { bytes_max: 32 << 10, lines_max: 100 }
    }
}

/// A request head; borrows the bytes that it was read from.
#[derive(Clone, Debug, PartialEq)]
pub struct Request<'a> {
    pub method: &'a str,
    /// As sent, not percent-decoded; begins with `/` (or is `*`).
    pub path: &'a str,
    /// What follows the first `?`.
    pub query: Option<&'a str>,
    headers: Vec<httparse::Header<'a>>,
    http_1_1: bool,
}

/// What the bytes read so far amount to.
#[derive(Clone, Debug, PartialEq)]
pub enum Status<'a> {
    /// Read more.
    Partial,
    /// A whole head, and how many bytes it took; what follows belongs to the body, the next request, or the WebSocket.
    Complete(Request<'a>, usize),
    /// Send this and close.
    Bad(Response),
}

impl<'a> Request<'a> {
    /// Parses the bytes of a connection, from the beginning of a request on. Looks at the first `bytes_max` of them only, so the result does not
    /// depend on how much has been read beyond the head.
    pub fn parse(bytes: &'a [u8], limits: &HeadLimits) -> Status<'a> {
        let HeadLimits { bytes_max, lines_max } = *limits;
        let seen = &bytes[..bytes.len().min(bytes_max)];
        let mut slots = vec![httparse::EMPTY_HEADER; lines_max];
        let mut head = httparse::Request::new(&mut slots);
        let used = match head.parse(seen) {
            Ok(httparse::Status::Complete(used)) => used,
            Ok(httparse::Status::Partial) if seen.len() < bytes_max => return Status::Partial,
            Ok(httparse::Status::Partial) if !seen.trim_ascii_start().contains(&b'\n') => return Status::Bad(target_too_long()),
            Ok(httparse::Status::Partial) => {
                return Status::Bad(Response::error(
                    431,
                    format!("the request's head is longer than {bytes_max} bytes (listen.head.bytes.max)"),
                ));
            }
            Err(httparse::Error::TooManyHeaders) => {
                return Status::Bad(Response::error(
                    431,
                    format!("the request has more than {lines_max} header lines (listen.head.lines.max)"),
                ));
            }
            Err(httparse::Error::Version) => return Status::Bad(Response::error(505, "this port speaks HTTP/1.1")),
            Err(error) => return Status::Bad(Response::error(400, format!("not an HTTP request: {error}"))),
        };
        let (Some(method), Some(target), Some(version)) = (head.method, head.path, head.version) else {
            return Status::Bad(Response::error(400, "not an HTTP request"));
        };
        if target.len() > TARGET_BYTES_MAX {
            return Status::Bad(target_too_long());
        }
        let Some(path_and_query) = origin_form(target) else {
            return Status::Bad(Response::error(400, "the request target is neither a path nor an http address"));
        };
        let (path, query) = match path_and_query.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (path_and_query, None),
        };
        let request = Request { method, path, query, headers: head.headers.to_vec(), http_1_1: version == 1 };
        let hosts = request.header_values("host").count();
        if hosts > 1 || (hosts == 0 && request.http_1_1) {
            return Status::Bad(Response::error(400, "a request has exactly one Host header"));
        }
        Status::Complete(request, used)
    }

    /// The first header of that name, if its value is UTF-8.
    pub fn header(&self, name: &str) -> Option<&'a str> {
        self.header_values(name).next().and_then(|value| std::str::from_utf8(value).ok()).map(str::trim)
    }

    /// The values of all headers of that name, in order.
    pub fn header_values(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
    }

    /// The members of a comma-separated list, over all headers of that name.
    pub fn header_list(&self, name: &str) -> impl Iterator<Item = &'a str> {
        self.header_values(name)
            .filter_map(|value| std::str::from_utf8(value).ok())
            .flat_map(|value| value.split(','))
            .map(str::trim)
            .filter(|member| !member.is_empty())
    }

    /// Whether a comma-separated list names that token, in any case.
    pub fn header_has_token(&self, name: &str, token: &str) -> bool {
        self.header_list(name).any(|member| member.eq_ignore_ascii_case(token))
    }

    pub fn is_http_1_1(&self) -> bool {
        self.http_1_1
    }

    /// Whether the client may send another request on this connection. Never after a body, which nobody reads here.
    pub fn keeps_alive(&self) -> bool {
        self.http_1_1 && !self.header_has_token("connection", "close") && !self.announces_body()
    }

    /// Whether a body follows; nobody here reads one.
    pub fn announces_body(&self) -> bool {
        self.header_values("transfer-encoding").next().is_some() || self.header_values("content-length").any(|length| length != b"0")
    }
}

fn target_too_long() -> Response {
    Response::error(414, format!("the request target is longer than {TARGET_BYTES_MAX} bytes"))
}

/// `/path?query` of a target, which proxies may send as a whole address (RFC 9112, 3.2).
fn origin_form(target: &str) -> Option<&str> {
    if target.starts_with('/') || target == "*" {
        return Some(target);
    }
    let (scheme, rest) = target.split_once("://")?;
    if !["http", "https", "ws", "wss"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
        return None;
    }
    Some(rest.find('/').map_or("/", |at| &rest[at..]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEAD_BYTES_MAX: usize = 32 << 10;
    const HEADERS_MAX: usize = 100;

    fn parse(bytes: &[u8]) -> Status<'_> {
        Request::parse(bytes, &HeadLimits::default())
    }

    fn complete(bytes: &[u8]) -> (Request<'_>, usize) {
        match parse(bytes) {
            Status::Complete(request, used) => (request, used),
            other => panic!("{other:?}"),
        }
    }

    fn refused(bytes: &[u8]) -> u16 {
        match parse(bytes) {
            Status::Bad(response) => response.status(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn head_is_read_and_what_follows_it_is_left() {
        let bytes = b"GET /demo?a=1?2 HTTP/1.1\r\nHost: h\r\nX-List: a, b\r\nx-list: ,c\r\n\r\nnext";
        let (request, used) = complete(bytes);
        assert_eq!((request.method, request.path, request.query), ("GET", "/demo", Some("a=1?2")));
        assert_eq!(request.header_list("X-LIST").collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(&bytes[used..], b"next");
        assert!(request.keeps_alive());
    }

    #[test]
    fn whole_addresses_as_targets_are_understood() {
        assert_eq!(complete(b"GET http://h:1/demo?x HTTP/1.1\r\nHost: h\r\n\r\n").0.path, "/demo");
        assert_eq!(complete(b"GET http://h HTTP/1.1\r\nHost: h\r\n\r\n").0.path, "/");
        assert_eq!(refused(b"CONNECT h:443 HTTP/1.1\r\nHost: h\r\n\r\n"), 400);
    }

    #[test]
    fn limits_have_their_own_status() {
        let long = |length: usize| format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "a".repeat(length)).into_bytes();
        assert_eq!(complete(&long(TARGET_BYTES_MAX - 1)).0.path.len(), TARGET_BYTES_MAX);
        assert_eq!(refused(&long(TARGET_BYTES_MAX)), 414);
        assert_eq!(refused(&long(HEAD_BYTES_MAX)), 414);
        let wide = |length: usize| format!("GET / HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n", "a".repeat(length)).into_bytes();
        let frame = wide(0).len();
        assert_eq!(complete(&wide(HEAD_BYTES_MAX - frame)).1, HEAD_BYTES_MAX);
        assert_eq!(refused(&wide(HEAD_BYTES_MAX - frame + 1)), 431);
        let many = |count: usize| format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "X: y\r\n".repeat(count)).into_bytes();
        complete(&many(HEADERS_MAX - 1));
        assert_eq!(refused(&many(HEADERS_MAX)), 431);
    }

    #[test]
    fn what_is_no_http_request_is_refused() {
        assert_eq!(refused(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"), 400);
        assert_eq!(refused(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), 505);
        assert_eq!(refused(b"GET / HTTP/1.1\r\n\r\n"), 400);
        assert_eq!(refused(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"), 400);
    }

    #[test]
    fn body_ends_keep_alive() {
        assert!(!complete(b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\n").0.keeps_alive());
        assert!(!complete(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n").0.keeps_alive());
        assert!(!complete(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: Close\r\n\r\n").0.keeps_alive());
        assert!(!complete(b"GET / HTTP/1.0\r\n\r\n").0.keeps_alive());
    }

    /// Feeds the bytes piece by piece, as reads from a socket would, and stops at the first verdict.
    fn fed_by_pieces(bytes: &[u8], mut cuts: Vec<usize>) -> Status<'_> {
        cuts.push(bytes.len());
        cuts.sort_unstable();
        for cut in cuts {
            match parse(&bytes[..cut.min(bytes.len())]) {
                Status::Partial => {}
                verdict => return verdict,
            }
        }
        Status::Partial
    }

    /// Bytes that look like a request, mutilated in a few places.
    fn requests() -> impl Strategy<Value = Vec<u8>> {
        let line =
            prop_oneof!["[ -~]{0,40}", Just("Host: h".to_owned()), Just("Connection: upgrade".to_owned()), "[A-Za-z-]{1,12}: [ -~]{0,30}"];
        let head = (prop_oneof!["GET", "HEAD", "POST", "[ -~]{0,8}"], "/?[ -~]{0,20}", prop_oneof!["HTTP/1.1", "HTTP/1.0", "[ -~]{0,9}"]);
        let edits = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3);
        (head, proptest::collection::vec(line, 0..6), edits).prop_map(|((method, target, version), lines, edits)| {
            let mut bytes = format!("{method} {target} {version}\r\n{}\r\n\r\nrest", lines.join("\r\n")).into_bytes();
            for (at, byte) in edits {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            bytes
        })
    }

    proptest! {
        #[test]
        fn any_bytes_give_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..2_000)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn cuts_between_reads_do_not_matter(bytes in requests(), cuts in proptest::collection::vec(0_usize..200, 0..12)) {
            prop_assert_eq!(fed_by_pieces(&bytes, cuts), parse(&bytes));
        }

        #[test]
        fn cuts_do_not_matter_around_the_limit(length in HEAD_BYTES_MAX - 60..HEAD_BYTES_MAX + 60, cut in HEAD_BYTES_MAX - 80..HEAD_BYTES_MAX + 80) {
            let bytes = format!("GET / HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n", "a".repeat(length - 31)).into_bytes();
            prop_assert_eq!(fed_by_pieces(&bytes, vec![cut]), parse(&bytes));
        }
    }
}
