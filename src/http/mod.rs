//! HTTP on the public port, without I/O: bytes of a request head in; a page, an error, or a WebSocket upgrade out.
//!
//! Owns the parsing of request heads and its limits, the welcome and the demo page with their assets, and the answer to an upgrade. Runs on the
//! shard that accepted the connection: a [`Site`] is built once at start and immutable; cloning it shares the bytes.
//! Invariants: any bytes give an answer or a wish for more, never a panic; how they were cut into reads does not matter; a request with a body
//! is answered with `Connection: close`, so the body is never taken for the next request.
//! It never reads a file, a clock or a socket, and names no address outside of this server.

mod request;
mod response;
mod site;
mod upgrade;

pub use request::{HEAD_BYTES_LEAST, HeadLimits, Request, Status, TARGET_BYTES_MAX};
pub use response::Response;
pub use site::{Route, Site, SiteSettings};
pub use upgrade::{SUBPROTOCOL_JSON, SUBPROTOCOL_PROTOBUF, UpgradeRequest, WEBSOCKET_PATH};
