//! What a shard knows of one connection.

use bytes::Bytes;

use super::entry::Entry;
use super::waiting::Wait;
use crate::handoff::Protocol;
use crate::session::Command;
use crate::session::outbox::Outbox;

/// The protocol's disconnect codes that this server uses: 3000 to 3499 let the SDK come back, 3500 and up do not.
pub mod disconnect {
    /// Code and reason.
    pub type Disconnect = (u16, &'static str);
    pub const SHUTDOWN: Disconnect = (3001, "shutdown");
    pub const EXPIRED: Disconnect = (3005, "connection expired");
    pub const SLOW: Disconnect = (3008, "slow");
    pub const NO_PONG: Disconnect = (3012, "no pong");
    pub const INVALID_TOKEN: Disconnect = (3500, "invalid token");
    pub const BAD_REQUEST: Disconnect = (3501, "bad request");
    pub const STALE: Disconnect = (3502, "stale");
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Session {
    pub protocol: Protocol,
    pub phase: Phase,
    pub outbox: Outbox,
    /// Has something to write, and its place among those who have.
    pub to_write: bool,
    /// A write came back short: nothing is written before `Event::Writable`.
    pub blocked: bool,
    /// The driver was refused a read and waits for `resume_reading`.
    pub paused: bool,
    /// Its turn in a drain has come, and it waits for answers to what it has said: nothing more is read.
    pub leaving: bool,
    pub awaiting_pong: bool,
    /// Its outbox is more than half full, and it takes what it is given.
    pub crowded: bool,
    /// Whoever catches up for it wants to be told when its outbox is half empty.
    pub room_wanted: bool,
    /// A timer that looks at `slow_since` is set.
    pub slow_timer: bool,
    pub publishes_open: u32,
    /// Since when the socket takes nothing; 0 while it does.
    pub blocked_since_ms: u64,
    /// Since when a subscription is parked and the outbox has not drained; 0 if not so.
    pub behind_since_ms: u64,
    /// The newest ping that has no pong yet: older ones need none (RFC 6455, 5.5.3).
    pub pong: Option<Box<[u8]>>,
    /// The rest of a message whose next command cannot be taken now.
    pub held: Option<Box<Held>>,
    /// What it was let in with; `None` if everybody may do everything.
    pub entry: Option<Box<Entry>>,
}

/// The life of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::shard) enum Phase {
    /// Waits for the connect command.
    Fresh,
    Connected,
    /// A close frame is the last thing in the outbox.
    Closing,
    /// `Effects::close` was called; only `Event::Closed` is still to come.
    Closed,
}

/// What a timer of a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// The connect command is due.
    Connect,
    /// The next ping is due.
    Ping,
    /// The pong is due.
    Pong,
    /// The close frame had its time.
    Linger,
    /// Its turn to be disconnected in a drain.
    Drain,
    /// It may have been slow for too long.
    Slow,
    /// Its token, or a subscription's, may have ended.
    Entry,
}

/// The rest of a message.
#[derive(Debug)]
pub(in crate::shard) struct Held {
    /// The command that waits, read once. `None`: the message has very many, and the next is still to be read.
    pub command: Option<Command>,
    /// What follows it begins at `at`.
    pub message: Bytes,
    pub at: usize,
    pub wait: Wait,
    /// When it was read.
    pub read_ms: u64,
    /// What it counts for: its message, from its command on.
    pub bytes: usize,
}

impl Session {
    pub fn new(protocol: Protocol) -> Session {
        Session {
            protocol,
            phase: Phase::Fresh,
            outbox: Outbox::default(),
            to_write: false,
            blocked: false,
            paused: false,
            leaving: false,
            awaiting_pong: false,
            crowded: false,
            room_wanted: false,
            slow_timer: false,
            publishes_open: 0,
            blocked_since_ms: 0,
            behind_since_ms: 0,
            pong: None,
            held: None,
            entry: None,
        }
    }

    /// Whether commands are taken and records delivered.
    pub fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Fresh | Phase::Connected)
    }

    /// Since when its client is slow: the socket takes nothing, or subscriptions wait for the outbox to drain.
    pub fn slow_since(&self) -> Option<u64> {
        match (self.blocked_since_ms, self.behind_since_ms) {
            (0, 0) => None,
            (0, since) | (since, 0) => Some(since),
            (one, two) => Some(one.min(two)),
        }
    }
}
