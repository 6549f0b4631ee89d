//! The opening handshake of a WebSocket (RFC 6455, section 4.2), as far as HTTP goes.

use std::time::SystemTime;

use super::request::Request;
use super::response::Response;
use crate::ids::Protocol;
use crate::session::accept_key;

/// Where clients connect.
pub const WEBSOCKET_PATH: &str = "/connection/websocket";
/// JSON in text frames. Clients need not name it: it is the protocol when nothing is agreed.
pub const SUBPROTOCOL_JSON: &str = "centrifuge-json";
/// Protobuf in binary frames.
pub const SUBPROTOCOL_PROTOBUF: &str = "centrifuge-protobuf";

/// A correct request for a WebSocket on [`WEBSOCKET_PATH`], from an allowed origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpgradeRequest {
    key: String,
    subprotocol: Option<&'static str>,
    query: Option<String>,
}

impl UpgradeRequest {
    /// Checks the handshake. `allowed_origins` empty allows pages of the host that was asked; `*` allows any. A client that sends no origin is no
    /// browser and always allowed.
    pub(super) fn check(request: &Request<'_>, allowed_origins: &[String]) -> Result<Self, Response> {
        if request.method != "GET" {
            return Err(Response::method_not_allowed("GET"));
        }
        let upgrades = request.header_has_token("upgrade", "websocket") && request.header_has_token("connection", "upgrade");
        if !upgrades || !request.is_http_1_1() {
            return Err(upgrade_required("connect to this path with a WebSocket client"));
        }
        if request.header("sec-websocket-version") != Some("13") {
            return Err(upgrade_required("WebSocket version 13 is wanted"));
        }
        if request.announces_body() {
            // Its bytes would be taken for frames.
            return Err(Response::error(400, "a request for a WebSocket has no body"));
        }
        let mut keys = request.header_values("sec-websocket-key");
        let key = match (keys.next().and_then(valid_key), keys.next()) {
            (Some(key), None) => key,
            _ => return Err(Response::error(400, "Sec-WebSocket-Key is one header with 16 bytes in base64")),
        };
        if let Some(origin) = request.header_values("origin").next()
            && !origin_is_allowed(origin, request.header("host"), allowed_origins)
        {
            return Err(Response::error(
                403,
                "this origin is not allowed: pages of this host are, or those that the server's setting `listen.allowed.origins` lists",
            ));
        }
        let offers = |name: &str| request.header_list("sec-websocket-protocol").any(|offered| offered == name);
        let subprotocol = [SUBPROTOCOL_PROTOBUF, SUBPROTOCOL_JSON].into_iter().find(|name| offers(name));
        Ok(Self { key: key.to_owned(), subprotocol, query: request.query.map(str::to_owned) })
    }

    /// The offered subprotocol to choose: Protobuf if it is among them, else JSON if it is, else none (which also means JSON).
    pub fn subprotocol(&self) -> Option<&'static str> {
        self.subprotocol
    }

    /// How commands and replies are encoded on this connection.
    pub fn protocol(&self) -> Protocol {
        if self.subprotocol == Some(SUBPROTOCOL_PROTOBUF) { Protocol::Protobuf } else { Protocol::Json }
    }

    /// The query of the address, as sent.
    pub fn query(&self) -> Option<&str> {
        self.query.as_deref()
    }

    /// The 101 response. `subprotocol` is what [`Self::subprotocol`] gave.
    pub fn accept_response(&self, subprotocol: Option<&str>, now: SystemTime) -> Vec<u8> {
        let mut text = format!(
            "HTTP/1.1 101 Switching Protocols\r\nDate: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n",
            httpdate::fmt_http_date(now),
            accept_key(self.key.as_bytes())
        );
        if let Some(name) = subprotocol {
            text.push_str("Sec-WebSocket-Protocol: ");
            text.push_str(name);
            text.push_str("\r\n");
        }
        text.push_str("\r\n");
        text.into_bytes()
    }
}

fn upgrade_required(text: &'static str) -> Response {
    Response::error(426, text).with_header("Upgrade", "websocket").with_header("Sec-WebSocket-Version", "13")
}

/// 16 bytes in base64: 22 characters and `==`.
fn valid_key(value: &[u8]) -> Option<&str> {
    let key = std::str::from_utf8(value).ok()?.trim();
    let digits = key.strip_suffix("==")?;
    let in_alphabet = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/';
    (digits.len() == 22 && digits.bytes().all(in_alphabet)).then_some(key)
}

/// `host`: of the request, with its port unless it is the scheme's own, as in the origin.
fn origin_is_allowed(origin: &[u8], host: Option<&str>, allowed: &[String]) -> bool {
    if allowed.is_empty() {
        let place = std::str::from_utf8(origin).ok().and_then(|origin| origin.split_once("://"));
        return matches!((place, host), (Some((_, place)), Some(host)) if place.eq_ignore_ascii_case(host));
    }
    allowed.iter().any(|known| known == "*" || known.trim_end_matches('/').as_bytes().eq_ignore_ascii_case(origin))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{HeadLimits, Status};

    /// The handshake of RFC 6455, section 1.3, with a header replaced, removed (`None`) or added.
    fn attempt(method: &str, change: &[(&str, Option<&str>)], allowed: &[&str]) -> Result<UpgradeRequest, Response> {
        let mut headers = vec![
            ("Host", Some("server.example.com")),
            ("Upgrade", Some("websocket")),
            ("Connection", Some("keep-alive, Upgrade")),
            ("Sec-WebSocket-Key", Some("dGhlIHNhbXBsZSBub25jZQ==")),
            ("Sec-WebSocket-Version", Some("13")),
        ];
        for (name, value) in change {
            headers.retain(|(known, _)| known != name);
            headers.push((name, *value));
        }
        let lines: String = headers.iter().filter_map(|(name, value)| value.map(|value| format!("{name}: {value}\r\n"))).collect();
        let bytes = format!("{method} {WEBSOCKET_PATH}?x=1 HTTP/1.1\r\n{lines}\r\n");
        let Status::Complete(request, _) = Request::parse(bytes.as_bytes(), &HeadLimits::default()) else { panic!("{bytes}") };
        UpgradeRequest::check(&request, &allowed.iter().map(|origin| (*origin).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn handshake_of_the_rfc_is_accepted_with_its_key() {
        let upgrade = attempt("GET", &[], &[]).unwrap();
        assert_eq!((upgrade.protocol(), upgrade.subprotocol(), upgrade.query()), (Protocol::Json, None, Some("x=1")));
        let text = String::from_utf8(upgrade.accept_response(None, SystemTime::UNIX_EPOCH)).unwrap();
        assert_eq!(
            text,
            "HTTP/1.1 101 Switching Protocols\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
        );
    }

    #[test]
    fn protobuf_is_chosen_when_offered_and_nothing_is_agreed_when_nothing_is_known() {
        let chosen = |offer| {
            let upgrade = attempt("GET", &[("Sec-WebSocket-Protocol", Some(offer))], &[]).unwrap();
            (upgrade.subprotocol(), upgrade.protocol())
        };
        assert_eq!(chosen("centrifuge-json, centrifuge-protobuf"), (Some(SUBPROTOCOL_PROTOBUF), Protocol::Protobuf));
        assert_eq!(chosen("centrifuge-json"), (Some(SUBPROTOCOL_JSON), Protocol::Json));
        assert_eq!(chosen("mqtt"), (None, Protocol::Json));
        let upgrade = attempt("GET", &[("Sec-WebSocket-Protocol", Some("centrifuge-protobuf"))], &[]).unwrap();
        let text = String::from_utf8(upgrade.accept_response(upgrade.subprotocol(), SystemTime::UNIX_EPOCH)).unwrap();
        assert!(text.ends_with("Sec-WebSocket-Protocol: centrifuge-protobuf\r\n\r\n"), "{text}");
    }

    #[test]
    fn faulty_handshakes_are_refused_by_kind() {
        let status = |method: &str, change: &[(&str, Option<&str>)]| attempt(method, change, &[]).unwrap_err().status();
        assert_eq!(status("POST", &[]), 405);
        assert_eq!(status("GET", &[("Content-Length", Some("5"))]), 400);
        assert_eq!(status("GET", &[("Transfer-Encoding", Some("chunked"))]), 400);
        assert_eq!(status("GET", &[("Upgrade", None)]), 426);
        assert_eq!(status("GET", &[("Connection", Some("keep-alive"))]), 426);
        assert_eq!(status("GET", &[("Sec-WebSocket-Version", Some("8"))]), 426);
        assert_eq!(status("GET", &[("Sec-WebSocket-Key", None)]), 400);
        assert_eq!(status("GET", &[("Sec-WebSocket-Key", Some("dGhlIHNhbXBsZSBub25j"))]), 400);
        assert_eq!(status("GET", &[("Sec-WebSocket-Key", Some("dGhlIHNhbXBsZSBub25j!A=="))]), 400);
    }

    #[test]
    fn only_listed_origins_connect_once_there_is_a_list() {
        let from = |origin| attempt("GET", &[("Origin", origin)], &["https://app.example.com"]).map_err(|refusal| refusal.status());
        assert!(from(Some("https://app.example.com")).is_ok());
        assert!(from(Some("HTTPS://APP.example.com")).is_ok());
        assert!(from(None).is_ok());
        assert_eq!(from(Some("https://app.example.com.evil.org")).unwrap_err(), 403);
        assert_eq!(from(Some("null")).unwrap_err(), 403);
        assert!(attempt("GET", &[("Origin", Some("https://anywhere.example"))], &["*"]).is_ok());
    }

    #[test]
    fn without_a_list_only_pages_of_the_same_host_connect() {
        let from =
            |origin, host| attempt("GET", &[("Origin", Some(origin)), ("Host", Some(host))], &[]).map_err(|refusal| refusal.status());
        assert!(from("https://server.example.com", "server.example.com").is_ok());
        assert!(from("http://LOCALHOST:8800", "localhost:8800").is_ok());
        assert_eq!(from("https://evil.example", "server.example.com").unwrap_err(), 403);
        assert_eq!(from("https://server.example.com:444", "server.example.com").unwrap_err(), 403);
        assert_eq!(from("null", "server.example.com").unwrap_err(), 403);
        assert_eq!(from("https://server.example.com.evil.org", "server.example.com").unwrap_err(), 403);
    }
}
