//! The accept loop of one shard.

use std::future::Future;
use std::os::fd::AsRawFd;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use nix::sys::socket::{Shutdown, shutdown};

use super::connection::Connection;
use super::host::Host;
use super::listener::{ShardListener, adopt};
use super::sockets::COMPLAINT_MS;
use crate::http::Site;
use crate::tls::Session;

/// How long to wait when the process has no descriptors or memory left for one more socket.
const BREATHER: Duration = Duration::from_millis(100);

/// How long the kernel has to let go of the last accept: it does so at once.
const LAST_ACCEPT: Duration = Duration::from_secs(1);

/// Accepts connections and gives each its task, until `Sockets::stop_accepting`.
pub async fn accept<H: Host>(host: Rc<H>, listener: ShardListener, site: Site) {
    let ShardListener { listener, tls } = listener;
    let second = listener.try_clone();
    let listener = adopt(listener);
    let mut complained_ms = None;
    loop {
        let accepted = {
            let mut accepting = pin!(listener.accept());
            let accepted = std::future::poll_fn(|context| {
                {
                    let mut sockets = host.sockets();
                    if !sockets.accepting {
                        return Poll::Ready(None);
                    }
                    if !sockets.accept_wakers.iter().any(|known| known.will_wake(context.waker())) {
                        sockets.accept_wakers.push(context.waker().clone());
                    }
                }
                accepting.as_mut().poll(context).map(Some)
            })
            .await;
            if accepted.is_none() {
                // A mere drop would lose a connection that the kernel hands over just now: its client would wait for ever.
                if let Ok(second) = &second {
                    let _ = shutdown(second.as_raw_fd(), Shutdown::Both);
                    let last = async { accepting.as_mut().await.ok() };
                    let in_time = async {
                        glommio::timer::sleep(LAST_ACCEPT).await;
                        None
                    };
                    drop(futures_lite::future::or(last, in_time).await);
                }
            }
            accepted
        };
        match accepted {
            None => return,
            Some(Ok(stream)) => {
                if !host.sockets().has_room() {
                    host.sockets().refused.connections += 1;
                    continue;
                }
                let session = tls.as_ref().map(|tls| Box::new(Session::new(&tls.now())));
                let connection = host.sockets().insert(stream.as_raw_fd(), session);
                glommio::spawn_local(Connection::new(host.clone(), site.clone(), connection, stream)).detach();
            }
            Some(Err(glommio::GlommioError::IoError(error))) if is_of_the_client(&error) => {}
            Some(Err(error)) => {
                let now_ms = host.now_ms();
                if complained_ms.is_none_or(|last| now_ms >= last + COMPLAINT_MS) {
                    tracing::error!(
                        "cannot accept connections: {error}; raise the limit of open files (LimitNOFILE) if there are too many"
                    );
                    complained_ms = Some(now_ms);
                }
                glommio::timer::sleep(BREATHER).await;
            }
        }
    }
}

/// The client went away before it was accepted: nothing is wrong here.
fn is_of_the_client(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted
            | ErrorKind::ConnectionReset
            | ErrorKind::Interrupted
            | ErrorKind::WouldBlock
            | ErrorKind::PermissionDenied
            | ErrorKind::TimedOut
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
    )
}
