//! One connection's task: HTTP first, then, if the client asks for it, WebSocket until the end.
//!
//! A hand-written future, so that an idle connection costs the stream, a key and little else. It waits for all that may happen to its socket at once:
//! readable, writable after a short write, the shard's wish to close it or to read on, a deadline. Who wakes it is `Sockets`.

use std::future::Future;
use std::io::IoSlice;
use std::net::TcpStream;
use std::os::fd::AsRawFd as _;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::SystemTime;

use bytes::Bytes;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, Shutdown, send, shutdown};

use super::host::Host;
use crate::handoff::{ConnectionKey, Protocol};
use crate::http::{Request, Response, Route, Site, Status};
use crate::limits::CLOSE_LINGER_MS;
use crate::session::{Inbound, WebSocketDecoder};
use crate::shard::{Event, WriteStatus};

/// Steps (messages, reads) of one connection before others are looked at.
const STEPS_MAX: u32 = 64;
/// WebSocket close code 1013 (IANA registry): SDKs come back after a while.
const TRY_AGAIN_LATER: u16 = 1013;

/// See the module's documentation.
pub(super) struct Connection<H: Host> {
    host: Rc<H>,
    site: Site,
    key: ConnectionKey,
    stream: TcpStream,
    phase: Phase,
}

enum Phase {
    /// Reading a request head; what has come of it.
    Head(Vec<u8>),
    /// Writing an answer.
    Answer(Box<Answer>),
    /// The shard knows the connection.
    WebSocket(WebSocketDecoder),
    /// The client has said its last, or nonsense: what still comes is thrown away, until the shard closes the connection.
    Deaf,
    /// The FIN is out; what still comes is thrown away, because a close with unread bytes would throw away what was sent.
    Lingering,
}

struct Answer {
    head: Vec<u8>,
    /// Pages are shared by all who are sent them.
    body: Bytes,
    /// Bytes of both.
    written: usize,
    /// Read already, but belonging to what follows.
    rest: Vec<u8>,
    then: Then,
}

enum Then {
    NextRequest,
    WebSocket(Protocol),
    Close,
}

/// What a step came to.
enum Step {
    /// Go on.
    More,
    /// Nothing to do before somebody wakes the task.
    Wait,
    /// Drop the socket.
    End,
}

/// What a read came to.
enum Read {
    /// Bytes, or a part of what TLS needs before there are any.
    Some,
    Wait,
    /// The peer has said its last, or what is no TLS.
    End,
}

/// The socket is of no use any more.
struct Broken;

/// Reads at most `room` bytes from a socket, through TLS if it has that: `take` is given what the peer said.
fn read(host: &impl Host, key: ConnectionKey, room: usize, mut take: impl FnMut(&[u8])) -> Read {
    let now_ms = host.now_ms();
    if host.sockets().slots.get(key).is_none_or(|socket| socket.said_last) {
        return Read::End;
    }
    let Some(encrypted) = host.sockets().may_read(now_ms, key) else { return Read::Wait };
    let mut buffer = host.read_buffer();
    let room = buffer.len().min(room);
    let count = match host.sockets().receive(key, &mut buffer[..room]) {
        Err(Errno::EAGAIN) => return Read::Wait,
        Ok(0) | Err(_) => return Read::End,
        Ok(count) => count,
    };
    if !encrypted {
        take(&buffer[..count]);
        return Read::Some;
    }
    match host.sockets().decrypt(key, &mut buffer[..count], take) {
        Some(_) => Read::Some,
        None => Read::End,
    }
}

impl<H: Host> Connection<H> {
    pub(super) fn new(host: Rc<H>, site: Site, key: ConnectionKey, stream: TcpStream) -> Connection<H> {
        let deadline_ms = host.now_ms() + host.sockets().settings.head_timeout_ms;
        host.sockets().set_deadline(key, Some(deadline_ms));
        Connection { host, site, key, stream, phase: Phase::Head(Vec::new()) }
    }

    fn step(&mut self) -> Step {
        match &self.phase {
            Phase::Head(_) => self.read_head(),
            Phase::Answer(_) => self.write_answer(),
            Phase::WebSocket(_) | Phase::Deaf => self.speak(),
            Phase::Lingering if self.expired() => Step::End,
            Phase::Lingering => self.discard(),
        }
    }

    fn expired(&self) -> bool {
        self.host.sockets().slots.get(self.key).is_none_or(|socket| socket.expired)
    }

    fn read_head(&mut self) -> Step {
        if self.expired() {
            self.host.sockets().refused.requests += 1;
            return self.end();
        }
        if !self.host.sockets().accepting {
            return self.end();
        }
        let Phase::Head(head) = &mut self.phase else { return Step::More };
        let limits = self.host.sockets().settings.head;
        // Bytes behind an earlier request may be a whole request already.
        let mut verdict = if head.is_empty() { Status::Partial } else { Request::parse(head, &limits) };
        if verdict == Status::Partial {
            let was_empty = head.is_empty();
            // What is behind a head stays in the kernel. As long as the verdict is open there is room.
            let room = limits.bytes_max - head.len();
            match read(&*self.host, self.key, room, |bytes| head.extend_from_slice(bytes)) {
                Read::Wait => return Step::Wait,
                Read::End => return self.end(),
                Read::Some => {}
            }
            if was_empty && !head.is_empty() {
                let deadline_ms = self.host.now_ms() + self.host.sockets().settings.head_timeout_ms;
                self.host.sockets().set_deadline(self.key, Some(deadline_ms));
            }
            let bytes = head.capacity();
            if !self.host.sockets().hold_inbound(self.key, bytes) {
                return self.end();
            }
            verdict = Request::parse(head, &limits);
        }
        let now = SystemTime::now();
        let ((answer, body), rest, then) = match verdict {
            Status::Partial => return Step::More,
            Status::Bad(response) => {
                if matches!(response.status(), 414 | 431) {
                    let now_ms = self.host.now_ms();
                    self.host.sockets().refuse_head(now_ms, &String::from_utf8_lossy(response.body()));
                }
                (response.encode(now), Vec::new(), Then::Close)
            }
            Status::Complete(request, used) => {
                let page = |response: Response| {
                    let then = if response.keeps_alive() { Then::NextRequest } else { Then::Close };
                    (response.encode(now), then)
                };
                let (answer, then) = match self.site.route(&request) {
                    Route::Page(response) => page(response),
                    Route::WebSocket(_) if !self.host.sockets().admit(self.key) => {
                        let now_ms = self.host.now_ms();
                        page(Response::busy(self.host.sockets().retry_after_seconds(now_ms)))
                    }
                    Route::WebSocket(upgrade) => {
                        let head = upgrade.accept_response(upgrade.subprotocol(), now);
                        ((head, Bytes::new()), Then::WebSocket(upgrade.protocol()))
                    }
                };
                (answer, head[used..].to_vec(), then)
            }
        };
        // What the answer takes is counted in place of the head; it is small, so it always fits. Pages are everybody's.
        self.host.sockets().hold_inbound(self.key, rest.capacity() + answer.capacity());
        self.phase = Phase::Answer(Box::new(Answer { head: answer, body, written: 0, rest, then }));
        Step::More
    }

    fn write_answer(&mut self) -> Step {
        if self.expired() {
            return self.end();
        }
        match self.write_held() {
            Ok(true) => {}
            Ok(false) => return Step::Wait,
            Err(Broken) => return self.end(),
        }
        let Phase::Answer(answer) = &mut self.phase else { return Step::More };
        let left = match answer.written.checked_sub(answer.head.len()) {
            None => Some(&answer.head[answer.written..]),
            Some(written) if written < answer.body.len() => Some(&answer.body[written..]),
            Some(_) => None,
        };
        if let Some(left) = left {
            let count = left.len();
            let status = self.host.sockets().write(self.key, &[IoSlice::new(left)]);
            match status {
                WriteStatus::Done => answer.written += count,
                WriteStatus::Short(count) => {
                    answer.written += count;
                    // The shard knows nothing of this connection yet.
                    self.host.sockets().no_longer_owes(self.key);
                }
                WriteStatus::Broken => return self.end(),
            }
            return Step::More;
        }
        let rest = std::mem::take(&mut answer.rest);
        match answer.then {
            Then::Close => return self.end(),
            Then::NextRequest => {
                let deadline_ms = self.host.now_ms() + self.host.sockets().settings.idle_timeout_ms;
                self.host.sockets().set_deadline(self.key, Some(deadline_ms));
                self.host.sockets().hold_inbound(self.key, rest.capacity());
                self.phase = Phase::Head(rest);
            }
            Then::WebSocket(protocol) => {
                let command_bytes_max = {
                    let mut sockets = self.host.sockets();
                    sockets.set_deadline(self.key, None);
                    sockets.settings.command_bytes_max
                };
                let mut decoder = WebSocketDecoder::new(protocol, command_bytes_max);
                decoder.feed(&rest);
                self.phase = Phase::WebSocket(decoder);
                let connection = self.key;
                self.host.handle(Event::Opened { connection, protocol });
                let user = self.host.sockets().user(connection);
                if let Some(user) = user {
                    self.host.handle(Event::Identified { connection, user: &user });
                }
            }
        }
        Step::More
    }

    fn speak(&mut self) -> Step {
        let (holds, closing, broken) = match self.host.sockets().slots.get(self.key) {
            Some(socket) => (!socket.held.is_nothing(), socket.closing, socket.broken),
            None => return Step::End,
        };
        if broken {
            return self.end();
        }
        if holds {
            match self.write_held() {
                Ok(true) => {
                    if self.host.sockets().no_longer_owes(self.key) {
                        self.host.handle(Event::Writable { connection: self.key });
                    }
                    return Step::More;
                }
                Err(Broken) => return self.end(),
                Ok(false) if closing && self.expired() => return self.end(),
                Ok(false) => {}
            }
        }
        if closing {
            if !holds {
                return self.end();
            }
            let deadline_ms = self.host.now_ms() + CLOSE_LINGER_MS;
            let mut sockets = self.host.sockets();
            if sockets.slots.get(self.key).is_some_and(|socket| socket.deadline_ms == 0) {
                sockets.set_deadline(self.key, Some(deadline_ms));
            }
            return Step::Wait;
        }
        let Phase::WebSocket(decoder) = &mut self.phase else { return self.discard() };
        if !self.host.reads(self.key) {
            return Step::Wait;
        }
        let connection = self.key;
        match decoder.next_inbound() {
            Ok(Some(Inbound::Commands(payload))) => self.host.handle(Event::Received { connection, payload }),
            Ok(Some(Inbound::Ping(payload))) => self.host.handle(Event::PingReceived { connection, payload }),
            Ok(Some(Inbound::Close(code))) => {
                self.phase = Phase::Deaf;
                self.host.handle(Event::CloseReceived { connection, code });
            }
            Err(violation) => {
                self.phase = Phase::Deaf;
                self.host.handle(Event::Violated { connection, code: violation.code, reason: violation.reason });
            }
            Ok(None) => {
                // What was whole is taken, and its memory given back.
                let bytes = decoder.held_bytes();
                if !self.host.sockets().hold_inbound(connection, bytes) {
                    return self.cut_off();
                }
                match read(&*self.host, connection, usize::MAX, |bytes| decoder.feed(bytes)) {
                    Read::Wait => return Step::Wait,
                    Read::End => return self.end(),
                    Read::Some => {}
                }
                let bytes = decoder.held_bytes();
                if !self.host.sockets().hold_inbound(connection, bytes) {
                    return self.cut_off();
                }
            }
        }
        Step::More
    }

    /// The unfinished message is one too many: its memory is given back, and the shard says goodbye.
    fn cut_off(&mut self) -> Step {
        let connection = self.key;
        self.phase = Phase::Deaf;
        self.host.sockets().hold_inbound(connection, 0);
        self.host.handle(Event::Violated { connection, code: TRY_AGAIN_LATER, reason: "too many large messages at once" });
        Step::More
    }

    fn discard(&mut self) -> Step {
        let mut buffer = self.host.read_buffer();
        let read = self.host.sockets().receive(self.key, &mut buffer);
        drop(buffer);
        match read {
            Err(Errno::EAGAIN) => Step::Wait,
            Ok(count) if count > 0 => Step::More,
            _ if matches!(self.phase, Phase::Lingering) => Step::End,
            // The answer to its close frame is still to be written; the shard closes in any case.
            Ok(_) => Step::Wait,
            Err(_) => self.end(),
        }
    }

    /// Writes what a full socket has not taken; whether it has now.
    fn write_held(&mut self) -> Result<bool, Broken> {
        let mut sockets = self.host.sockets();
        loop {
            let Some(socket) = sockets.slots.get_mut(self.key) else { return Err(Broken) };
            if socket.held.is_nothing() {
                return Ok(true);
            }
            if !socket.writable {
                return Ok(false);
            }
            let count = match socket.held.bytes() {
                // It takes bytes again, and whoever has some writes them.
                [] => 0,
                bytes => match send(socket.fd, bytes, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL) {
                    Ok(count) => count,
                    Err(Errno::EINTR) => continue,
                    Err(Errno::EAGAIN) => {
                        socket.writable = false;
                        return Ok(false);
                    }
                    Err(_) => return Err(Broken),
                },
            };
            sockets.held_written(self.key, count);
        }
    }

    /// Sends the FIN, tells the shard if it knows the connection, and lets the client read what is on its way.
    fn end(&mut self) -> Step {
        self.host.sockets().close_tls(self.key);
        // The socket may be gone already; then there is nothing to shut down.
        let _ = shutdown(self.stream.as_raw_fd(), Shutdown::Write);
        let spoke = matches!(self.phase, Phase::WebSocket(_) | Phase::Deaf);
        self.phase = Phase::Lingering;
        if spoke {
            self.host.handle(Event::Closed { connection: self.key });
        }
        let deadline_ms = self.host.now_ms() + CLOSE_LINGER_MS;
        self.host.sockets().set_deadline(self.key, Some(deadline_ms));
        Step::More
    }
}

impl<H: Host> Future for Connection<H> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        {
            let mut sockets = this.host.sockets();
            sockets.steps += 1;
            if let Some(socket) = sockets.slots.get_mut(this.key)
                && !socket.waker.as_ref().is_some_and(|known| known.will_wake(context.waker()))
            {
                socket.waker = Some(context.waker().clone());
            }
        }
        for _ in 0..STEPS_MAX {
            match this.step() {
                Step::More => {}
                Step::Wait => return Poll::Pending,
                Step::End => return Poll::Ready(()),
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<H: Host> Drop for Connection<H> {
    fn drop(&mut self) {
        // The FIN goes out even if bytes are left to read.
        let _ = shutdown(self.stream.as_raw_fd(), Shutdown::Both);
        self.host.sockets().remove(self.key);
    }
}
