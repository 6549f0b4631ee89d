//! What is where on the public port: the pages, their assets, and the door to the WebSocket.

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;

use super::request::Request;
use super::response::Response;
use super::upgrade::{UpgradeRequest, WEBSOCKET_PATH};

mod vendor {
    include!(concat!(env!("OUT_DIR"), "/vendor.rs"));
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";
const TEXT: &str = "text/plain; charset=utf-8";

/// What the pages depend on.
#[derive(Clone, Debug, Default)]
pub struct SiteSettings {
    /// `/demo` connects by itself and subscribes to the demo's feed.
    pub demo: bool,
    /// Origins of pages that may open a WebSocket, as browsers write them (`https://app.example.com`). Empty: any.
    pub allowed_origins: Vec<String>,
}

/// Where a request leads.
#[derive(Clone, Debug, PartialEq)]
pub enum Route {
    /// Send this; then the next request, or the end, as the response says.
    Page(Response),
    /// Send the accept response; from then on the connection speaks WebSocket.
    WebSocket(UpgradeRequest),
}

/// All pages, built once at start. A clone shares them.
#[derive(Clone, Debug)]
pub struct Site {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    files: Vec<File>,
    /// Changed by a reload, read with each upgrade.
    allowed_origins: ArcSwap<Vec<String>>,
}

#[derive(Debug)]
struct File {
    path: &'static str,
    content_type: &'static str,
    content: Bytes,
    etag: String,
}

impl Site {
    pub fn new(settings: &SiteSettings) -> Self {
        let page = |text: &str| {
            let client = if vendor::CENTRIFUGE_JS.is_some() { "<script src=\"/assets/centrifuge.js\" defer></script>" } else { "" };
            let licence =
                if vendor::CENTRIFUGE_LICENSE.is_some() { "<a href=\"/assets/centrifuge.LICENSE\">MIT licence</a>" } else { "MIT licence" };
            let text = text
                .replace("{{client}}", client)
                .replace("{{licence}}", licence)
                .replace("{{mode}}", if settings.demo { "demo" } else { "serve" })
                .replace("{{version}}", env!("CARGO_PKG_VERSION"));
            Bytes::from(text)
        };
        let own = [
            ("/", HTML, page(include_str!("pages/welcome.html"))),
            ("/demo", HTML, page(include_str!("pages/demo.html"))),
            ("/assets/style.css", CSS, Bytes::from_static(include_bytes!("pages/style.css"))),
            ("/assets/welcome.js", JAVASCRIPT, Bytes::from_static(include_bytes!("pages/welcome.js"))),
            ("/assets/demo.js", JAVASCRIPT, Bytes::from_static(include_bytes!("pages/demo.js"))),
            ("/assets/chart.js", JAVASCRIPT, Bytes::from_static(include_bytes!("pages/chart.js"))),
            ("/assets/link.js", JAVASCRIPT, Bytes::from_static(include_bytes!("pages/link.js"))),
            ("/assets/log.js", JAVASCRIPT, Bytes::from_static(include_bytes!("pages/log.js"))),
            ("/assets/icon.svg", SVG, Bytes::from_static(include_bytes!("pages/icon.svg"))),
        ];
        let fetched = [
            ("/assets/centrifuge.js", JAVASCRIPT, vendor::CENTRIFUGE_JS),
            ("/assets/centrifuge.LICENSE", TEXT, vendor::CENTRIFUGE_LICENSE),
        ]
        .into_iter()
        .filter_map(|(path, content_type, content)| Some((path, content_type, Bytes::from_static(content?))));
        let files = own
            .into_iter()
            .chain(fetched)
            .map(|(path, content_type, content)| {
                let etag = format!("\"{:08x}-{:x}\"", crc32fast::hash(&content), content.len());
                File { path, content_type, content, etag }
            })
            .collect();
        Self { inner: Arc::new(Inner { files, allowed_origins: ArcSwap::from_pointee(settings.allowed_origins.clone()) }) }
    }

    /// Other origins may connect from now on, on every clone.
    pub fn allow_origins(&self, origins: Vec<String>) {
        self.inner.allowed_origins.store(Arc::new(origins));
    }

    /// Whether the demo page has its client; without it the page names the command that adds it.
    pub fn has_client() -> bool {
        vendor::CENTRIFUGE_JS.is_some()
    }

    /// Where the request leads. Every request leads somewhere.
    pub fn route(&self, request: &Request<'_>) -> Route {
        if request.path == WEBSOCKET_PATH {
            return match UpgradeRequest::check(request, &self.inner.allowed_origins.load()) {
                Ok(upgrade) => Route::WebSocket(upgrade),
                Err(refusal) => Route::Page(refusal.with_head_only(request.method == "HEAD")),
            };
        }
        Route::Page(self.respond(request).with_keep_alive(request.keeps_alive()).with_head_only(request.method == "HEAD"))
    }

    fn respond(&self, request: &Request<'_>) -> Response {
        if request.path.starts_with("/connection/uni_") || request.path.starts_with("/rest/") {
            return Response::error(501, format!("not offered by this version (corespan {})", env!("CARGO_PKG_VERSION")));
        }
        if request.path == "/demo/" {
            return Response::error(308, "see /demo").with_header("Location", "/demo");
        }
        let Some(file) = self.inner.files.iter().find(|file| file.path == request.path) else {
            return Response::error(404, "nothing here; the pages are / and /demo, clients connect to /connection/websocket");
        };
        if !matches!(request.method, "GET" | "HEAD") {
            return Response::method_not_allowed("GET, HEAD");
        }
        let has_it = request.header_list("if-none-match").any(|known| known == "*" || known.trim_start_matches("W/") == file.etag);
        let response = if has_it { Response::not_modified() } else { Response::new(200, file.content_type, file.content.clone()) };
        // Browsers keep the file and ask whether it is still the same: an upgraded server is never met by an old script.
        response.with_header("Cache-Control", "no-cache").with_header("ETag", file.etag.clone())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::http::{HeadLimits, Status};

    fn bytes_of(response: &Response) -> Vec<u8> {
        let (mut bytes, body) = response.encode(std::time::SystemTime::UNIX_EPOCH);
        bytes.extend_from_slice(&body);
        bytes
    }

    fn ask(site: &Site, method: &str, path: &str, headers: &str) -> Response {
        let bytes = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
        let Status::Complete(request, used) = Request::parse(bytes.as_bytes(), &HeadLimits::default()) else { panic!("{bytes}") };
        assert_eq!(used, bytes.len());
        match site.route(&request) {
            Route::Page(response) => response,
            Route::WebSocket(upgrade) => panic!("{upgrade:?}"),
        }
    }

    fn site() -> Site {
        Site::new(&SiteSettings { demo: true, allowed_origins: Vec::new() })
    }

    #[test]
    fn pages_and_assets_are_served_with_their_types() {
        let site = site();
        for (path, content_type) in [
            ("/", HTML),
            ("/demo", HTML),
            ("/demo?anything", HTML),
            ("/assets/style.css", CSS),
            ("/assets/demo.js", JAVASCRIPT),
            ("/assets/icon.svg", SVG),
        ] {
            let response = ask(&site, "GET", path, "");
            assert_eq!((response.status(), response.header("content-type")), (200, Some(content_type)), "{path}");
            assert!(response.keeps_alive() && !response.body().is_empty(), "{path}");
        }
    }

    #[test]
    fn every_address_in_the_pages_is_served_and_none_is_outside() {
        let site = site();
        let address = regex::Regex::new(r#"(?:src|href)="([^"]*)""#).unwrap();
        for page in ["/", "/demo"] {
            let html = String::from_utf8(ask(&site, "GET", page, "").body().to_vec()).unwrap();
            assert!(!html.contains("{{"), "a placeholder was left in {page}");
            assert!(!html.contains(" style=") && !html.contains("<style"), "the security policy forbids inline styles ({page})");
            for found in address.captures_iter(&html) {
                let target = &found[1];
                assert!(target.starts_with('/') && !target.starts_with("//"), "{page} names {target}");
                assert_eq!(ask(&site, "GET", target, "").status(), 200, "{page} names {target}");
            }
        }
    }

    #[test]
    fn page_names_the_mode_and_the_version() {
        let html =
            |demo| String::from_utf8(ask(&Site::new(&SiteSettings { demo, ..Default::default() }), "GET", "/demo", "").body().to_vec());
        assert!(html(true).unwrap().contains("data-mode=\"demo\""));
        let serve = html(false).unwrap();
        assert!(serve.contains("data-mode=\"serve\"") && serve.contains(env!("CARGO_PKG_VERSION")));
    }

    #[test]
    fn unchanged_content_is_not_sent_again() {
        let site = site();
        let first = ask(&site, "GET", "/assets/style.css", "");
        let etag = first.header("etag").unwrap().to_owned();
        for condition in [etag.clone(), format!("\"other\", W/{etag}"), "*".to_owned()] {
            let again = ask(&site, "GET", "/assets/style.css", &format!("If-None-Match: {condition}\r\n"));
            assert_eq!((again.status(), again.header("etag")), (304, Some(&*etag)));
            let text = String::from_utf8(bytes_of(&again)).unwrap();
            assert!(text.ends_with("\r\n\r\n") && !text.contains("Content-Length"), "{text}");
        }
        assert_eq!(ask(&site, "GET", "/assets/style.css", "If-None-Match: \"other\"\r\n").status(), 200);
    }

    #[test]
    fn head_is_get_without_the_body() {
        let site = site();
        let (get, head) = (bytes_of(&ask(&site, "GET", "/", "")), bytes_of(&ask(&site, "HEAD", "/", "")));
        assert!(get.len() > head.len() && get.starts_with(&head));
        assert!(head.ends_with(b"\r\n\r\n"));
    }

    #[test]
    fn wrong_methods_and_paths_are_told_apart() {
        let site = site();
        let post = ask(&site, "POST", "/", "Content-Length: 3\r\n");
        assert_eq!((post.status(), post.header("allow"), post.keeps_alive()), (405, Some("GET, HEAD"), false));
        assert_eq!(ask(&site, "GET", "/assets/../Cargo.toml", "").status(), 404);
        assert_eq!(ask(&site, "GET", "/nowhere", "").status(), 404);
        assert_eq!(ask(&site, "GET", "/demo/", "").header("location"), Some("/demo"));
        let plain = ask(&site, "GET", WEBSOCKET_PATH, "");
        assert_eq!((plain.status(), plain.header("upgrade")), (426, Some("websocket")));
        assert!(String::from_utf8(bytes_of(&plain)).unwrap().contains("\r\nConnection: Upgrade, close\r\n"));
    }

    #[test]
    fn what_is_not_offered_yet_says_so() {
        let site = site();
        for path in ["/connection/uni_sse", "/connection/uni_websocket", "/rest/produce?subject=/a/b", "/rest/consume"] {
            let response = ask(&site, "GET", path, "");
            assert_eq!(response.status(), 501);
            assert!(response.body().starts_with(b"not offered by this version"));
        }
    }

    #[test]
    fn upgrade_leads_to_the_websocket() {
        let bytes = b"GET /connection/websocket HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
            Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
        let Status::Complete(request, _) = Request::parse(bytes, &HeadLimits::default()) else { panic!() };
        assert!(matches!(site().route(&request), Route::WebSocket(_)));
    }

    proptest! {
        #[test]
        fn every_request_gets_a_whole_response(method in "[A-Z]{1,7}", path in "/[!-~]{0,40}", headers in "([A-Za-z-]{1,14}: [ -~]{0,30}\r\n){0,5}") {
            let bytes = format!("{method} {path} HTTP/1.1\r\nHost: h\r\n{headers}\r\n");
            if let Status::Complete(request, _) = Request::parse(bytes.as_bytes(), &HeadLimits::default())
                && let Route::Page(response) = site().route(&request)
            {
                let encoded = bytes_of(&response);
                prop_assert!(encoded.windows(4).any(|window| window == b"\r\n\r\n"));
                prop_assert!((200..600).contains(&response.status()));
            }
        }
    }
}
