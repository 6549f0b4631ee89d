//! The accept loop of one shard.

use std::future::poll_fn;
use std::io;
use std::net::TcpListener;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::connection::Connection;
use super::host::Host;
use super::listener::ShardListener;
use super::sockets::COMPLAINT_MS;
use crate::http::Site;
use crate::tls::{CurrentServer, Session};

/// How long to wait when the process has no descriptors or memory left for one more socket.
const BREATHER_MS: u64 = 100;
/// Connections that are accepted before others have their turn.
const ACCEPTS_AT_ONCE_MAX: u32 = 64;

/// Accepts connections and gives each its task, until `Sockets::stop_accepting`.
pub async fn accept<H: Host>(host: Rc<H>, listener: ShardListener, site: Site) {
    let ShardListener { listener, tls } = listener;
    // Non-blocking, and known to the poller, which tells of connections that come from here on.
    let entered = listener.set_nonblocking(true).and_then(|()| host.sockets().insert_listener(&listener));
    let number = match entered {
        Ok(number) => number,
        Err(error) => return tracing::error!("cannot listen for connections: {error}; raise the limit of open files (LimitNOFILE)"),
    };
    let mut accepting = Accepting { host, listener, number, tls, site, complained_ms: None };
    poll_fn(|context| accepting.poll(context)).await;
    // Who is in the kernel's queue is accepted and dropped: it hears that nobody is there, and does not wait.
    while accepting.listener.accept().is_ok() {}
}

struct Accepting<H> {
    host: Rc<H>,
    listener: TcpListener,
    number: usize,
    tls: Option<CurrentServer>,
    site: Site,
    complained_ms: Option<u64>,
}

impl<H: Host> Accepting<H> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.host.sockets().steps += 1;
        for _ in 0..ACCEPTS_AT_ONCE_MAX {
            // Whoever ends accepting wakes this waker, so it is left first.
            if !self.host.sockets().waits_to_accept(self.number, context.waker(), None) {
                return Poll::Ready(());
            }
            match self.accept() {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) if is_of_the_client(&error) => {}
                Err(error) => {
                    self.complain(&error);
                    let due_ms = self.host.now_ms() + BREATHER_MS;
                    self.host.sockets().waits_to_accept(self.number, context.waker(), Some(due_ms));
                    return Poll::Pending;
                }
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    fn accept(&self) -> io::Result<()> {
        let (stream, _) = self.listener.accept()?;
        if !self.host.sockets().has_room() {
            self.host.sockets().refused.connections += 1;
            return Ok(());
        }
        let session = self.tls.as_ref().map(|tls| Box::new(Session::new(&tls.now())));
        let connection = self.host.sockets().insert(&stream, session)?;
        glommio::spawn_local(Connection::new(self.host.clone(), self.site.clone(), connection, stream)).detach();
        Ok(())
    }

    fn complain(&mut self, error: &io::Error) {
        let now_ms = self.host.now_ms();
        if self.complained_ms.is_none_or(|last| now_ms >= last + COMPLAINT_MS) {
            tracing::error!("cannot accept connections: {error}; raise the limit of open files (LimitNOFILE) if there are too many");
            self.complained_ms = Some(now_ms);
        }
    }
}

/// The client went away before it was accepted: nothing is wrong here.
fn is_of_the_client(error: &io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted
            | ErrorKind::ConnectionReset
            | ErrorKind::Interrupted
            | ErrorKind::PermissionDenied
            | ErrorKind::TimedOut
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
    )
}
