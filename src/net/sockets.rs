//! The table of a shard's sockets: who may write, who waits, who is to go.
//!
//! A slot belongs to one connection task, which owns the stream; the slot holds the bare descriptor for writing, what the poller has said of it, and
//! the task's waker. The task removes its slot before it drops the stream, so a descriptor in the table is always open.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, IoSlice};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd as _, RawFd};
use std::task::Waker;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv, send, sendmsg};
use slotmap::{Key as _, KeyData, SlotMap};

use super::NetSettings;
use super::handshakes::Handshakes;
use super::poller::Poller;
use crate::handoff::{ConnectionKey, Wake};
use crate::limits::INBOUND_SMALL_BYTES;
use crate::shard::WriteStatus;
use crate::tls::Session as TlsSession;

/// Slices that one `sendmsg` takes (`IOV_MAX` of Linux).
const SLICES_MAX: usize = 1024;
/// Far more than a configuration has; a socket's key has a generation in its upper half, which never comes near.
const LISTENERS_MAX: u64 = 1 << 16;
/// HTTP connections beyond `connections_max`, so that a full shard can still say that it is full.
const SPARE_CONNECTIONS: usize = 1024;

/// How often the same thing is said in the log.
pub(super) const COMPLAINT_MS: u64 = 10_000;

/// A client without a place is told to come back after this many seconds at least.
const RETRY_AFTER_SECONDS_MIN: u32 = 5;
/// And at most: later, nobody waits.
const RETRY_AFTER_SECONDS_MAX: u32 = 120;
/// Those that were turned away come back at about this rate, each second: the herd must not return as one. An upgrade costs a core some 50 us.
const RETURNS_PER_SECOND: u32 = 500;
/// Turned away longer ago than this is forgotten: they are back, or gone.
const REFUSED_WINDOW_MS: u64 = 10_000;

/// One socket.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) fd: RawFd,
    /// The socket was full: what its task does as soon as it takes bytes again.
    pub(super) held: Held,
    /// There is something to read, or there was when the poller last said so.
    pub(super) readable: bool,
    /// It took bytes again when the poller last said so; forgotten when it is full.
    pub(super) writable: bool,
    /// The peer has ended its side: whoever reads goes on until that is seen.
    pub(super) ends: bool,
    pub(super) tls: Option<Box<TlsSession>>,
    /// The peer has said that it sends no more, and what it said before is taken.
    pub(super) said_last: bool,
    /// Its handshake has had its turn.
    pub(super) may_handshake: bool,
    /// The shard was told `Short` and waits for `Event::Writable`.
    pub(super) owes_writable: bool,
    pub(super) broken: bool,
    /// The shard wants it closed.
    pub(super) closing: bool,
    /// Its deadline has passed.
    pub(super) expired: bool,
    /// A WebSocket connection, known to the shard.
    pub(super) upgraded: bool,
    /// 0: none.
    pub(super) deadline_ms: u64,
    /// What its unfinished command or request head holds.
    pub(super) inbound_bytes: u32,
    pub(super) waker: Option<Waker>,
}

/// What a full socket did not take.
#[derive(Debug, Default)]
pub(super) enum Held {
    #[default]
    Nothing,
    /// Of a plain socket nothing: the rest stays where it was.
    Full,
    /// Of a socket with TLS: what is encrypted goes out as it is, from `at` on.
    Tail { bytes: Vec<u8>, at: usize },
}

impl Held {
    pub(super) fn is_nothing(&self) -> bool {
        matches!(self, Held::Nothing)
    }

    /// What is to be written next; empty if nothing is.
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Held::Nothing | Held::Full => &[],
            Held::Tail { bytes, at } => &bytes[*at..],
        }
    }

    pub(super) fn tail_bytes(&self) -> usize {
        if let Held::Tail { bytes, .. } = self { bytes.capacity() } else { 0 }
    }
}

impl Socket {
    pub(super) fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Sockets {
    pub(super) slots: SlotMap<ConnectionKey, Socket>,
    /// Deadlines of those few sockets that have one; an entry that does not agree with its slot is void.
    deadlines: BinaryHeap<Reverse<(u64, ConnectionKey)>>,
    pub(super) settings: NetSettings,
    pub(super) upgraded: usize,
    /// Of all slots.
    inbound_bytes: usize,
    pub(super) refused: Refused,
    /// Since when, and how many, upgrades were refused for want of a place.
    refused_window: (u64, u32),
    pub(super) accepting: bool,
    poller: Poller,
    /// What wakes the accept loop of each listener; none until it waits.
    accept_wakers: Vec<Option<Waker>>,
    /// When accepting goes on, after the process had no descriptors or memory left.
    accept_due_ms: Option<u64>,
    /// Steps of tasks until now: who sees that none was made in its absence knows that nobody else has anything to do.
    pub(super) steps: u64,
    /// What TLS is put together in: plaintext, ciphertext.
    pub(super) scratch: (Vec<u8>, Vec<u8>),
    /// Bytes of all tails.
    pub(super) tail_bytes: usize,
    pub(super) handshakes: Handshakes,
    /// When somebody was last told of a head that was too large.
    complained_ms: Option<u64>,
}

/// What the sockets refused, by reason, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refused {
    /// No place among the connections.
    pub connections: u64,
    /// No whole request in time.
    pub requests: u64,
    /// Request heads with too many bytes or lines.
    pub heads: u64,
    /// Unfinished commands and heads, for those of all clients held too many bytes.
    pub inbound: u64,
    /// TLS handshakes, and sessions, of peers that broke the protocol.
    pub handshakes: u64,
}

impl Sockets {
    /// No sockets yet.
    pub fn new(settings: NetSettings, poller: Poller) -> Sockets {
        Sockets {
            slots: SlotMap::with_key(),
            deadlines: BinaryHeap::new(),
            settings,
            upgraded: 0,
            inbound_bytes: 0,
            refused: Refused::default(),
            refused_window: (0, 0),
            accepting: true,
            poller,
            accept_wakers: Vec::new(),
            accept_due_ms: None,
            steps: 0,
            scratch: Default::default(),
            tail_bytes: 0,
            handshakes: Handshakes::default(),
            complained_ms: None,
        }
    }

    /// Counts a head over the limits, and says so now and then: behind it is an honest client as a rule, with cookies or a proxy that nobody thought of.
    pub(super) fn refuse_head(&mut self, now_ms: u64, why: &str) {
        self.refused.heads += 1;
        if self.complained_ms.is_none_or(|last| now_ms >= last + COMPLAINT_MS) {
            self.complained_ms = Some(now_ms);
            tracing::warn!("refused a client: {} ({} since the start)", why.trim(), self.refused.heads);
        }
    }

    /// Bytes that unfinished messages of clients hold now.
    pub fn inbound_bytes(&self) -> usize {
        self.inbound_bytes
    }

    /// What was refused until now.
    pub fn refused(&self) -> Refused {
        self.refused
    }

    /// Notes what the unfinished message of a connection holds now, and its unfinished TLS record with it; false if it is one too many, and is to be
    /// cut off.
    pub(super) fn hold_inbound(&mut self, connection: ConnectionKey, bytes: usize) -> bool {
        let Some(socket) = self.slots.get_mut(connection) else { return true };
        let bytes = bytes + socket.tls.as_ref().map_or(0, |tls| tls.unfinished_bytes());
        // A message has at most 128 MiB.
        let before = std::mem::replace(&mut socket.inbound_bytes, bytes as u32) as usize;
        self.inbound_bytes = self.inbound_bytes + bytes - before;
        let fits = bytes <= before.max(INBOUND_SMALL_BYTES) || self.inbound_bytes <= self.settings.inbound_bytes_max;
        self.refused.inbound += u64::from(!fits);
        fits
    }

    /// Sockets open now, HTTP and WebSocket.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether no socket is open.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Writes at once as much as the socket takes; `Effects::write`.
    pub fn write(&mut self, connection: ConnectionKey, slices: &[IoSlice<'_>]) -> WriteStatus {
        let Some(socket) = self.slots.get_mut(connection) else { return WriteStatus::Broken };
        if socket.broken {
            return WriteStatus::Broken;
        }
        if !socket.held.is_nothing() {
            socket.owes_writable = true;
            return WriteStatus::Short(0);
        }
        if socket.tls.is_some() {
            return self.write_tls(connection, slices);
        }
        let mut written = 0;
        for some in slices.chunks(SLICES_MAX) {
            let wanted: usize = some.iter().map(|slice| slice.len()).sum();
            let sent = loop {
                let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
                // One frame is the usual case, and `send` copies no list of slices into the kernel.
                let sent = match some {
                    [one] => send(socket.fd, one, flags),
                    _ => sendmsg::<()>(socket.fd, some, &[], flags, None),
                };
                match sent {
                    Ok(sent) => break sent,
                    Err(Errno::EINTR) => {}
                    Err(Errno::EAGAIN | Errno::ENOBUFS) => break 0,
                    Err(_) => {
                        socket.broken = true;
                        socket.wake();
                        return WriteStatus::Broken;
                    }
                }
            };
            written += sent;
            if sent < wanted {
                // The kernel says when there is room again, for it was asked for more than there was.
                (socket.held, socket.writable, socket.owes_writable) = (Held::Full, false, true);
                return WriteStatus::Short(written);
            }
        }
        WriteStatus::Done
    }

    /// Reads what the kernel has of a connection: `EAGAIN` if that is nothing.
    pub(super) fn receive(&mut self, connection: ConnectionKey, buffer: &mut [u8]) -> Result<usize, Errno> {
        let socket = self.slots.get_mut(connection).ok_or(Errno::ENOTCONN)?;
        if !socket.readable {
            return Err(Errno::EAGAIN);
        }
        loop {
            let received = recv(socket.fd, buffer, MsgFlags::MSG_DONTWAIT);
            match received {
                Err(Errno::EINTR) => continue,
                // What comes later is told by another edge; an end that is there already is not.
                Ok(count) if count < buffer.len() && !socket.ends => socket.readable = false,
                Err(Errno::EAGAIN) => socket.readable = false,
                _ => {}
            }
            return received;
        }
    }

    /// Whether the shard was to be told that the socket takes bytes again; it is now.
    pub(super) fn no_longer_owes(&mut self, connection: ConnectionKey) -> bool {
        self.slots.get_mut(connection).is_some_and(|socket| std::mem::take(&mut socket.owes_writable))
    }

    /// Closes the socket once what was written is out; `Effects::close`.
    pub fn close(&mut self, connection: ConnectionKey) {
        if let Some(socket) = self.slots.get_mut(connection) {
            socket.closing = true;
            socket.wake();
        }
    }

    /// Lets the connection's task look whether it may read again; `Effects::resume_reading`.
    pub fn resume(&mut self, connection: ConnectionKey) {
        if let Some(socket) = self.slots.get(connection) {
            socket.wake();
        }
    }

    /// Ends accepting: the listener is closed, connections stay. Those that still speak HTTP get no WebSocket any more.
    pub fn stop_accepting(&mut self) {
        self.accepting = false;
        self.accept_wakers.drain(..).flatten().for_each(Waker::wake);
        self.slots.values().filter(|socket| !socket.upgraded).for_each(Socket::wake);
    }

    /// Steps that tasks have made until now.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Wakes the tasks of sockets that are ready now, or become so within `patience`. How many sockets there is news of.
    pub fn look(&mut self, patience: Duration) -> usize {
        self.poller.look(patience);
        self.tell_ready()
    }

    /// As `look`, and wakes up when `wake` is notified; if it is already, nobody looks, and it says `false`. Only when no task can run: they would
    /// wait too.
    pub fn sleep(&mut self, wake: &Wake, patience: Duration) -> bool {
        let has_looked = self.poller.sleep(wake, patience);
        self.tell_ready();
        has_looked
    }

    fn tell_ready(&mut self) -> usize {
        let mut count = 0;
        for ready in self.poller.ready() {
            count += 1;
            if let Some(listener) = listener_of(ready.number) {
                if let Some(Some(waker)) = self.accept_wakers.get(listener) {
                    waker.wake_by_ref();
                }
                continue;
            }
            let connection = ConnectionKey::from(KeyData::from_ffi(ready.number));
            // One that was closed since is not known any more.
            let Some(socket) = self.slots.get_mut(connection) else { continue };
            socket.readable |= ready.readable;
            socket.writable |= ready.writable;
            socket.ends |= ready.ends;
            if ready.readable || !socket.held.is_nothing() {
                socket.wake();
            }
        }
        count
    }

    /// When `sweep` finds something to do, if nothing happens before: 0 for the next tick.
    pub fn due_ms(&self) -> u64 {
        if self.handshakes.has_waiting() {
            return 0;
        }
        let deadline_ms = self.deadlines.peek().map(|Reverse((deadline_ms, _))| *deadline_ms);
        deadline_ms.into_iter().chain(self.accept_due_ms).min().unwrap_or(u64::MAX)
    }

    /// Wakes the tasks of sockets whose deadline has passed. Call it on the tick.
    pub fn sweep(&mut self, now_ms: u64) {
        if self.accept_due_ms.is_some_and(|due_ms| due_ms <= now_ms) {
            self.accept_due_ms = None;
            self.accept_wakers.iter().flatten().for_each(Waker::wake_by_ref);
        }
        for connection in self.handshakes.admit(now_ms, self.settings.handshakes_per_second) {
            if let Some(socket) = self.slots.get(connection) {
                socket.wake();
            }
        }
        while let Some(Reverse((deadline_ms, connection))) = self.deadlines.peek().copied() {
            if deadline_ms > now_ms {
                break;
            }
            self.deadlines.pop();
            if let Some(socket) = self.slots.get_mut(connection)
                && socket.deadline_ms == deadline_ms
            {
                socket.expired = true;
                socket.wake();
            }
        }
    }

    /// Takes in a listener, whose accept loop is woken from now on; its number.
    ///
    /// # Errors
    /// What the kernel says.
    pub(super) fn insert_listener(&mut self, listener: &TcpListener) -> io::Result<usize> {
        let number = self.accept_wakers.len();
        self.poller.enter(listener, u64::MAX - 1 - number as u64)?;
        self.accept_wakers.push(None);
        Ok(number)
    }

    /// The accept loop of a listener waits, for a connection or until `due_ms`. False if accepting has ended.
    pub(super) fn waits_to_accept(&mut self, listener: usize, waker: &Waker, due_ms: Option<u64>) -> bool {
        let Some(known) = self.accept_wakers.get_mut(listener).filter(|_| self.accepting) else { return false };
        if !known.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *known = Some(waker.clone());
        }
        self.accept_due_ms = self.accept_due_ms.into_iter().chain(due_ms).min();
        true
    }

    /// Takes in a connection, which is watched from now on.
    ///
    /// # Errors
    /// What the kernel says: it watches no more sockets.
    pub(super) fn insert(&mut self, stream: &TcpStream, tls: Option<Box<TlsSession>>) -> io::Result<ConnectionKey> {
        let connection = self.slots.insert(Socket {
            fd: stream.as_raw_fd(),
            held: Held::Nothing,
            readable: false,
            writable: false,
            ends: false,
            tls,
            said_last: false,
            may_handshake: false,
            owes_writable: false,
            broken: false,
            closing: false,
            expired: false,
            upgraded: false,
            deadline_ms: 0,
            inbound_bytes: 0,
            waker: None,
        });
        if let Err(error) = self.poller.enter(stream, connection.data().as_ffi()) {
            self.slots.remove(connection);
            return Err(error);
        }
        Ok(connection)
    }

    pub(super) fn remove(&mut self, connection: ConnectionKey) {
        if let Some(socket) = self.slots.remove(connection) {
            self.upgraded -= usize::from(socket.upgraded);
            self.tail_bytes -= socket.held.tail_bytes();
            self.handshakes.leave(connection);
            self.inbound_bytes -= socket.inbound_bytes as usize;
        }
    }

    pub(super) fn set_deadline(&mut self, connection: ConnectionKey, deadline_ms: Option<u64>) {
        if let Some(socket) = self.slots.get_mut(connection) {
            socket.expired = false;
            socket.deadline_ms = deadline_ms.unwrap_or(0);
            if let Some(deadline_ms) = deadline_ms {
                self.deadlines.push(Reverse((deadline_ms, connection)));
            }
        }
    }

    /// Takes a place among the WebSocket connections, if there is one.
    pub(super) fn admit(&mut self, connection: ConnectionKey) -> bool {
        if !self.accepting || self.upgraded >= self.settings.connections_max {
            self.refused.connections += 1;
            return false;
        }
        let Some(socket) = self.slots.get_mut(connection) else { return false };
        socket.upgraded = true;
        self.upgraded += 1;
        true
    }

    /// When a client that found no place should come back: the more were turned away lately, the more widely they are spread.
    pub(super) fn retry_after_seconds(&mut self, now_ms: u64) -> u32 {
        let (since_ms, count) = &mut self.refused_window;
        if now_ms >= *since_ms + REFUSED_WINDOW_MS {
            (*since_ms, *count) = (now_ms, 0);
        }
        *count += 1;
        let spread = (*count / RETURNS_PER_SECOND).clamp(RETRY_AFTER_SECONDS_MIN, RETRY_AFTER_SECONDS_MAX - RETRY_AFTER_SECONDS_MIN);
        RETRY_AFTER_SECONDS_MIN + fastrand::u32(0..=spread)
    }

    /// Whether one more socket may be accepted at all.
    pub(super) fn has_room(&self) -> bool {
        self.slots.len() < self.settings.connections_max + SPARE_CONNECTIONS
    }
}

/// Listeners are known by the largest numbers but one, which no socket's key ever is.
fn listener_of(number: u64) -> Option<usize> {
    let listener = u64::MAX - 1 - number;
    (listener < LISTENERS_MAX).then_some(listener as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_are_turned_away_the_more_widely_they_are_spread() {
        let mut sockets = Sockets::new(NetSettings::default(), Poller::new().unwrap());
        let latest = |sockets: &mut Sockets, now_ms, count| (0..count).map(|_| sockets.retry_after_seconds(now_ms)).max();
        assert!(latest(&mut sockets, 0, 1_000) <= Some(10), "a few come back soon");
        let storm = latest(&mut sockets, 1_000, 30_000);
        assert!((Some(40)..=Some(67)).contains(&storm), "62 s for 31,000 at 500 a second: {storm:?}");
        assert!(latest(&mut sockets, 2_000, 500_000) <= Some(RETRY_AFTER_SECONDS_MAX));
        assert!(latest(&mut sockets, 12_000, 100) <= Some(10), "a storm is forgotten");
    }
}
