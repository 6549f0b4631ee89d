//! Where a shard sleeps: one epoll instance, with all of its sockets, its listeners, and a bell that other threads ring.
//!
//! glommio runs the shard's tasks; it does not wait for their sockets. Its own parking costs eight `io_uring_enter` and a `membarrier` each time, and
//! every readiness that it waits for one more request to the ring, where an epoll instance costs one `epoll_wait` for each sleep and nothing for each
//! socket that rests. So the shard's turn task, when nobody else may run, sleeps here itself, and the executor never parks (it also loses a wake-up
//! now and then, which nobody notices who does not sleep there).
//!
//! Everything is edge-triggered: a socket is entered once, and who was told reads or writes until the kernel has no more.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::sync::Arc;
use std::task::{Wake as WakeUp, Waker};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::eventfd::{EfdFlags, eventfd};

use crate::handoff::Wake;

/// Sockets that one look learns of; what is left comes with the next.
const EVENTS_MAX: usize = 256;
/// What the bell is known by: no socket's number.
const BELL: u64 = u64::MAX;

/// What became of a socket, or of a listener.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ready {
    /// As it was entered.
    pub number: u64,
    pub readable: bool,
    pub writable: bool,
    /// The peer has said its last, or the connection is broken: reading goes on until that is seen.
    pub ends: bool,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Poller {
    epoll: Epoll,
    bell: Waker,
    events: Vec<EpollEvent>,
    /// Of `events`, those of the last look.
    count: usize,
}

/// Rung by any thread; never drained, for each ring is an edge of its own.
#[derive(Debug)]
struct Bell(OwnedFd);

impl WakeUp for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // It fails only when the counter is full, after 2^64 rings.
        let _ = nix::unistd::write(self.0.as_raw_fd(), &1u64.to_ne_bytes());
    }
}

impl Poller {
    /// With nothing but a bell.
    ///
    /// # Errors
    /// No open files are left, or the user has too many epoll instances.
    pub fn new() -> io::Result<Poller> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let bell = eventfd(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        epoll.add(&bell, EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, BELL))?;
        Ok(Poller { epoll, bell: Waker::from(Arc::new(Bell(bell))), events: vec![EpollEvent::empty(); EVENTS_MAX], count: 0 })
    }

    /// Enters a socket, until it is closed.
    ///
    /// # Errors
    /// The kernel lacks memory, or the user watches too many sockets (`fs.epoll.max_user_watches`).
    pub(super) fn enter(&self, socket: impl AsFd, number: u64) -> io::Result<()> {
        let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLET;
        Ok(self.epoll.add(socket, EpollEvent::new(flags, number))?)
    }

    /// Learns what is ready, waiting `patience` at most for the first.
    pub(super) fn look(&mut self, patience: Duration) {
        self.count = 0;
        // A fraction of a millisecond is rounded up: who waits for a deadline should find it passed.
        let milliseconds = patience.as_micros().div_ceil(1_000).min(i32::MAX as u128) as isize;
        match self.epoll.wait(&mut self.events, milliseconds) {
            Ok(count) => self.count = count,
            Err(Errno::EINTR) => {}
            Err(error) => panic!("epoll_wait(2) on a shard's own instance: {error}"),
        }
    }

    /// Sleeps until a socket is ready, somebody notifies, or time is up; not at all if somebody has notified since the turn began. Whether it has
    /// slept, and so looked.
    pub(super) fn sleep(&mut self, wake: &Wake, patience: Duration) -> bool {
        self.count = 0;
        let may_sleep = wake.arm(&self.bell);
        if may_sleep {
            self.look(patience);
        }
        may_sleep
    }

    /// What the last look found.
    pub(super) fn ready(&self) -> impl Iterator<Item = Ready> + '_ {
        let ends = EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR;
        self.events[..self.count].iter().filter(|event| event.data() != BELL).map(move |event| {
            let flags = event.events();
            Ready {
                number: event.data(),
                readable: flags.intersects(EpollFlags::EPOLLIN | ends),
                writable: flags.intersects(EpollFlags::EPOLLOUT | ends),
                ends: flags.intersects(ends),
            }
        })
    }
}
