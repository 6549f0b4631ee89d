//! All connections of a tool on one thread: they are begun at a rate, and waited for with epoll, never without a limit.

use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};

use super::budget::Budget;
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
    /// Of the kernel, for each connection; its own choice if there is none.
    pub receive_buffer_bytes: Option<usize>,
}

/// The connections.
pub struct Crowd {
    plan: CrowdPlan,
    epoll: Epoll,
    connections: Vec<Option<Seat>>,
    events: Vec<EpollEvent>,
    buffer: Vec<u8>,
    since: Instant,
    /// Bytes that each connection reads in a second; as they come if there is none.
    read_bytes_per_second: Option<u64>,
}

struct Seat {
    connection: Connection,
    /// What epoll tells of it.
    interest: EpollFlags,
    /// While it reads slowly.
    budget: Option<Budget>,
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
            read_bytes_per_second: None,
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
            self.begin(self.connections.len(), owner);
        }
    }

    /// Begins a connection now, or anew: the one that had its number is cut.
    pub fn begin(&mut self, number: usize, owner: &mut impl Owner) {
        if self.connections.len() <= number {
            self.connections.resize_with(number + 1, || None);
        }
        self.connections[number] = None;
        let plan = &self.plan;
        let target = &plan.targets[number % plan.targets.len()];
        let source = (!plan.sources.is_empty()).then(|| plan.sources[number % plan.sources.len()]);
        let begun = Connection::begin(target, plan.tls.as_ref(), source, plan.dialect.subprotocol(), plan.receive_buffer_bytes);
        let seat = begun.and_then(|connection| {
            let interest = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT;
            self.epoll.add(connection.descriptor(), EpollEvent::new(interest, number as u64))?;
            Ok(Seat { connection, interest, budget: None })
        });
        match seat {
            Ok(seat) => self.connections[number] = Some(seat),
            Err(error) => owner.ended(number, &Ended::Socket(error)),
        }
    }

    /// Cuts a connection, without a word to the server or to the owner.
    pub fn cut(&mut self, number: usize) {
        if let Some(seat) = self.connections.get_mut(number) {
            *seat = None;
        }
    }

    /// From now on connections that are open read so many bytes a second each, or again as much as comes.
    ///
    /// # Errors
    /// epoll's word.
    pub fn read_slowly(&mut self, bytes_per_second: Option<u64>) -> io::Result<()> {
        self.read_bytes_per_second = bytes_per_second;
        for (number, seat) in self.connections.iter_mut().enumerate() {
            let Some(seat) = seat else { continue };
            seat.budget = bytes_per_second.filter(|_| seat.connection.is_open()).map(Budget::new);
            seat.tell(&self.epoll, number)?;
        }
        Ok(())
    }

    /// Waits so long at most for anything to happen, and tells of it. Gives how long the events then took: what was ready last has waited for that.
    ///
    /// # Errors
    /// epoll's word.
    pub fn turn(&mut self, wait: Duration, owner: &mut impl Owner) -> io::Result<Option<Duration>> {
        let milliseconds = wait.as_millis().min(if self.read_bytes_per_second.is_some() { 10 } else { 100 }) as isize;
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
                done = connection.read(&mut self.buffer, |what, out| owner.happened(number, what, out)).map(drop);
            }
            let done = done.and_then(|()| self.write(number));
            if let Err(why) = done {
                self.connections[number] = None;
                owner.ended(number, &why);
            }
        }
        if self.read_bytes_per_second.is_some() {
            self.read_within_budgets(woke, owner);
        }
        Ok((count > 0).then(|| woke.elapsed()))
    }

    fn read_within_budgets(&mut self, now: Instant, owner: &mut impl Owner) {
        for number in 0..self.connections.len() {
            let Some(Seat { connection, budget: Some(budget), .. }) = &mut self.connections[number] else { continue };
            let left = budget.left(now).min(self.buffer.len() - 1);
            if left == 0 {
                continue;
            }
            let done = connection.read(&mut self.buffer[..left], |what, out| owner.happened(number, what, out));
            let done = done.map(|read| budget.spend(read)).and_then(|()| self.write(number));
            if let Err(why) = done {
                self.connections[number] = None;
                owner.ended(number, &why);
            }
        }
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
        let awaits_write = seat.interest.contains(EpollFlags::EPOLLOUT);
        if seat.connection.out_bytes() > 0 && !(awaits_write && seat.connection.wants_write()) {
            seat.connection.write()?;
        }
        Ok(seat.tell(&self.epoll, number)?)
    }
}

impl Seat {
    /// Tells epoll what it waits for now. Who reads slowly does not wait to read: it looks when its budget allows.
    fn tell(&mut self, epoll: &Epoll, number: usize) -> io::Result<()> {
        let mut interest = EpollFlags::empty();
        interest.set(EpollFlags::EPOLLIN, self.budget.is_none());
        interest.set(EpollFlags::EPOLLOUT, self.connection.wants_write());
        if interest != self.interest {
            epoll.modify(self.connection.descriptor(), &mut EpollEvent::new(interest, number as u64))?;
            self.interest = interest;
        }
        Ok(())
    }
}
