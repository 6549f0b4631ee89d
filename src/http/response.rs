//! A response: status, headers, body; encoded once, complete, with its length.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::SystemTime;

use bytes::Bytes;

/// Nothing is loaded from, sent to or framed by another site; only WebSockets may go to other nodes, which the demo page lets one name.
pub(super) const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
     connect-src 'self' ws: wss:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// A whole response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    status: u16,
    headers: Vec<(&'static str, Cow<'static, str>)>,
    body: Bytes,
    keep_alive: bool,
    head_only: bool,
}

impl Response {
    /// A response with a body. Closes the connection unless told otherwise.
    pub fn new(status: u16, content_type: &'static str, body: Bytes) -> Self {
        Self { status, headers: vec![("Content-Type", content_type.into())], body, keep_alive: false, head_only: false }
    }

    /// An error in one line of plain text, then the end of the connection.
    pub fn error(status: u16, text: impl Into<String>) -> Self {
        let mut text = text.into();
        text.push('\n');
        Self::new(status, "text/plain; charset=utf-8", text.into()).with_header("Cache-Control", "no-store")
    }

    /// Admission control: come back in that many seconds (the caller adds the jitter).
    pub fn busy(retry_after_seconds: u32) -> Self {
        Self::error(503, "this node takes new connections more slowly just now; come back after Retry-After seconds")
            .with_header("Retry-After", retry_after_seconds.to_string())
    }

    /// 405, naming the methods that are allowed.
    pub fn method_not_allowed(allowed: &'static str) -> Self {
        Self::error(405, format!("allowed here: {allowed}")).with_header("Allow", allowed)
    }

    /// 304, for a client that has the content already.
    pub(super) fn not_modified() -> Self {
        Self { status: 304, headers: Vec::new(), body: Bytes::new(), keep_alive: false, head_only: true }
    }

    /// A value with line breaks or other control characters would split the response; they become spaces.
    pub fn with_header(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        let mut value = value.into();
        if value.contains(char::is_control) {
            value = value.replace(char::is_control, " ").into();
        }
        self.headers.push((name, value));
        self
    }

    /// Keeps the connection for another request.
    pub fn with_keep_alive(mut self, keep_alive: bool) -> Self {
        self.keep_alive = keep_alive;
        self
    }

    /// The answer to HEAD: all headers, `Content-Length` too, and no body.
    pub fn with_head_only(mut self, head_only: bool) -> Self {
        self.head_only |= head_only;
        self
    }

    pub fn status(&self) -> u16 {
        self.status
    }

    /// The first header of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| &**value)
    }

    /// The body, which HEAD and 304 do not send.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Whether the connection stays open behind this response.
    pub fn keeps_alive(&self) -> bool {
        self.keep_alive
    }

    /// What to send: the head, and the body, whose bytes everybody shares whom the same page is sent to.
    pub fn encode(&self, now: SystemTime) -> (Vec<u8>, Bytes) {
        let mut head = String::with_capacity(640);
        // Writing to a String cannot fail.
        let _ = write!(head, "HTTP/1.1 {} {}\r\nDate: {}\r\n", self.status, reason(self.status), httpdate::fmt_http_date(now));
        for (name, value) in &self.headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        if self.status != 304 {
            let _ = write!(head, "Content-Length: {}\r\n", self.body.len());
        }
        let connection = match (self.keep_alive, self.status) {
            (true, _) => "keep-alive",
            // RFC 9110, 7.8: who sends `Upgrade` names it here too.
            (false, 426) => "Upgrade, close",
            (false, _) => "close",
        };
        let _ = write!(
            head,
            "Content-Security-Policy: {CONTENT_SECURITY_POLICY}\r\nX-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n\
             Cross-Origin-Resource-Policy: same-origin\r\nConnection: {connection}\r\n\r\n"
        );
        (head.into_bytes(), if self.head_only { Bytes::new() } else { self.body.clone() })
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        304 => "Not Modified",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        414 => "URI Too Long",
        426 => "Upgrade Required",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn text(response: &Response) -> String {
        let (mut bytes, body) = response.encode(SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777));
        bytes.extend_from_slice(&body);
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn response_is_complete_with_length_date_and_security_headers() {
        let text = text(&Response::new(200, "text/plain", Bytes::from_static(b"hi")));
        // The example of RFC 9110, 5.6.7.
        let date = "Date: Sun, 06 Nov 1994 08:49:37 GMT";
        assert!(text.starts_with(&format!("HTTP/1.1 200 OK\r\n{date}\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n")), "{text}");
        assert!(text.contains("nosniff\r\n") && text.contains("default-src 'none'"), "{text}");
        assert!(text.ends_with("Connection: close\r\n\r\nhi"), "{text}");
    }

    #[test]
    fn head_names_the_length_and_sends_no_body() {
        let text = text(&Response::error(404, "nothing here").with_head_only(true));
        assert!(text.contains("Content-Length: 13\r\n") && text.ends_with("\r\n\r\n"), "{text}");
    }

    #[test]
    fn busy_says_when_to_come_back() {
        let busy = Response::busy(7);
        assert_eq!((busy.status(), busy.header("Retry-After"), busy.keeps_alive()), (503, Some("7"), false));
    }

    #[test]
    fn header_values_cannot_split_a_response() {
        let response = Response::error(400, "x").with_header("X", "a\r\nSet-Cookie: b".to_owned());
        assert_eq!(response.header("X"), Some("a  Set-Cookie: b"));
    }
}
