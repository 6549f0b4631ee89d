//! All connections of a tool on one thread: they are begun at a rate, and waited for with epoll, never without a limit.

use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};

use super::connection::{Connection, Ended, Happened};
use super::dialect::Dialect;
use super::target::Target;
use crate::tls::client::Client as TlsClient;

/// Where to connect, and how.
pub struct CrowdPlan {
    pub connections: usize,
    /// In turn.
    pub targets: Vec<Target>,
    /// In turn; any if there is none.
    pub sources: Vec<IpAddr>,
    pub tls: Option<TlsClient>,
    pub dialect: Dialect,
    /// Connections begun in a second.
    pub connect_rate: u64,
}

/// The connections.
pub struct Crowd {
    plan: CrowdPlan,
    epoll: Epoll,
    connections: Vec<Option<Seat>>,
    events: Vec<EpollEvent>,
    buffer: Vec<u8>,
    since: Instant,
}

struct Seat {
    connection: Connection,
    awaits_write: bool,
}

/// Who is told what happened on a connection.
pub trait Owner {
    /// What it says in answer goes to `out`, framed.
    fn happened(&mut self, number: usize, what: Happened<'_>, out: &mut Vec<u8>);
    /// The connection is no more.
    fn ended(&mut self, number: usize, why: &Ended);
}

impl Crowd {
    /// Begins none yet.
    ///
    /// # Errors
    /// The kernel has no epoll for it.
    pub fn new(plan: CrowdPlan) -> io::Result<Crowd> {
        Ok(Crowd {
            connections: Vec::with_capacity(plan.connections),
            plan,
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            events: vec![EpollEvent::empty(); 1_024],
            buffer: vec![0; 256 << 10],
            since: Instant::now(),
        })
    }

    /// Whether all have been begun.
    pub fn is_complete(&self) -> bool {
        self.connections.len() == self.plan.connections
    }

    /// How the connections speak.
    pub fn dialect(&self) -> &Dialect {
        &self.plan.dialect
    }

    /// The URL of a connection.
    pub fn url(&self, number: usize) -> &str {
        &self.plan.targets[number % self.plan.targets.len()].url
    }

    /// Begins the connections that are due by now.
    pub fn begin_due(&mut self, owner: &mut impl Owner) {
        let due = (self.since.elapsed().as_secs_f64() * self.plan.connect_rate as f64) as usize + 1;
        while self.connections.len() < due.min(self.plan.connections) {
            let number = self.connections.len();
            let target = &self.plan.targets[number % self.plan.targets.len()];
            let source = (!self.plan.sources.is_empty()).then(|| self.plan.sources[number % self.plan.sources.len()]);
            let seat = Connection::begin(target, self.plan.tls.as_ref(), source, self.plan.dialect.subprotocol()).and_then(|connection| {
                let interest = EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT, number as u64);
                self.epoll.add(connection.descriptor(), interest)?;
                Ok(Seat { connection, awaits_write: true })
            });
            match seat {
                Ok(seat) => self.connections.push(Some(seat)),
                Err(error) => {
                    self.connections.push(None);
                    owner.ended(number, &Ended::Socket(error));
                }
            }
        }
    }

    /// Waits so long at most for anything to happen, and tells of it. Gives how long the events then took: what was ready last has waited for that.
    ///
    /// # Errors
    /// epoll's word.
    pub fn turn(&mut self, wait: Duration, owner: &mut impl Owner) -> io::Result<Option<Duration>> {
        let milliseconds = wait.as_millis().min(100) as isize;
        let count = match self.epoll.wait(&mut self.events, milliseconds) {
            Err(nix::errno::Errno::EINTR) => 0,
            count => count?,
        };
        let woke = Instant::now();
        for event in 0..count {
            let (number, flags) = (self.events[event].data() as usize, self.events[event].events());
            let Some(seat) = &mut self.connections[number] else { continue };
            let connection = &mut seat.connection;
            // What is said in answer is written at once.
            let mut done = if flags.contains(EpollFlags::EPOLLOUT) { connection.write() } else { Ok(()) };
            if done.is_ok() && flags.intersects(EpollFlags::EPOLLIN | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR) {
                done = connection.read(&mut self.buffer, |what, out| owner.happened(number, what, out));
            }
            let done = done.and_then(|()| self.write(number));
            if let Err(why) = done {
                self.connections[number] = None;
                owner.ended(number, &why);
            }
        }
        Ok((count > 0).then(|| woke.elapsed()))
    }

    /// Says something on a connection. Gives whether it was taken: not if the connection is gone, or so many bytes wait to be written.
    pub fn say(&mut self, number: usize, payload: &[u8], out_bytes_max: usize, owner: &mut impl Owner) -> bool {
        let opcode = self.plan.dialect.opcode();
        match &mut self.connections[number] {
            Some(seat) if seat.connection.out_bytes() <= out_bytes_max => seat.connection.say(opcode, payload),
            _ => return false,
        }
        if let Err(why) = self.write(number) {
            self.connections[number] = None;
            owner.ended(number, &why);
        }
        true
    }

    fn write(&mut self, number: usize) -> Result<(), Ended> {
        let Some(seat) = &mut self.connections[number] else { return Ok(()) };
        if seat.connection.out_bytes() > 0 && !(seat.awaits_write && seat.connection.wants_write()) {
            seat.connection.write()?;
        }
        let wants = seat.connection.wants_write();
        if wants != seat.awaits_write {
            let flags = if wants { EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT } else { EpollFlags::EPOLLIN };
            self.epoll.modify(seat.connection.descriptor(), &mut EpollEvent::new(flags, number as u64)).map_err(io::Error::from)?;
            seat.awaits_write = wants;
        }
        Ok(())
    }
}
