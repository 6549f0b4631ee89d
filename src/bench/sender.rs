//! The control of `deliver` and `fan-out`: a bare server that accepts clients and writes ready frames with `send()`, and nothing else. What it
//! costs is what the kernel costs.
//!
//! One frame is made in advance; of a record only the digits of its stamp are written anew. The clock is read once a turn, and a turn sends what
//! is due, as a node does with a batch. A socket that does not take a whole frame ends the run: it is void.

use std::io::{self, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::report::{histogram_from, histogram_text};
use super::wire::push;
use crate::kafka::load::{LAG_LIMIT, due_ns, latencies, monotonic_ns, process_cpu_seconds, set_stamp, thread_cpu_seconds, value};

/// How long all clients have to connect.
const ACCEPT_TIME: Duration = Duration::from_secs(60);

/// What the sender did in a slice.
#[derive(Debug)]
pub struct Sent {
    pub sends: u64,
    /// Frames that a socket did not take, or not wholly.
    pub refused: u64,
    /// It was late by more than `LAG_LIMIT` and stopped.
    pub gave_up: bool,
    /// CPU time of its thread, and of its process.
    pub cpu_seconds: f64,
    pub process_cpu_seconds: f64,
    pub seconds: f64,
    /// How late records were, microseconds.
    pub lag: Histogram<u64>,
}

/// How the frames go.
#[derive(Clone, Copy, Debug)]
pub struct SendPlan {
    pub connections: usize,
    /// Records a second.
    pub rate: u64,
    /// Each record goes to one client, or to all.
    pub to_all: bool,
    pub value_bytes: usize,
    /// Between turns: what a producer gathers comes in one turn to a node, too.
    pub gather: Duration,
}

/// Listening.
pub struct Sender {
    plan: SendPlan,
    sockets: Vec<TcpStream>,
    sequences: Vec<u64>,
    records: u64,
    frame: Vec<u8>,
    value_at: usize,
}

impl Sender {
    /// Accepts all clients.
    ///
    /// # Errors
    /// A socket's word, or they did not all come in time.
    pub fn accept(plan: SendPlan, listener: &TcpListener) -> io::Result<Sender> {
        listener.set_nonblocking(true)?;
        let deadline = Instant::now() + ACCEPT_TIME;
        let mut sockets: Vec<TcpStream> = Vec::with_capacity(plan.connections);
        while sockets.len() < plan.connections {
            match listener.accept() {
                Ok((socket, _)) => {
                    socket.set_nodelay(true)?;
                    socket.set_nonblocking(true)?;
                    sockets.push(socket);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < deadline => {
                    thread::sleep(Duration::from_millis(1));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(io::Error::other(format!("{} of {} clients came in time", sockets.len(), plan.connections)));
                }
                Err(error) => return Err(error),
            }
        }
        let (frame, value_at) = push(&value(plan.value_bytes));
        let sequences = vec![0; if plan.to_all { 1 } else { plan.connections }];
        Ok(Sender { plan, sockets, sequences, records: 0, frame, value_at })
    }

    /// Sends that many records at the rate, from now on.
    ///
    /// # Errors
    /// A client left.
    pub fn slice(&mut self, records: u64) -> io::Result<Sent> {
        let (began_ns, cpu, process_cpu) = (monotonic_ns(), thread_cpu_seconds(), process_cpu_seconds());
        let mut sent =
            Sent { sends: 0, refused: 0, gave_up: false, cpu_seconds: 0.0, process_cpu_seconds: 0.0, seconds: 0.0, lag: latencies() };
        let mut next = 0;
        while next < records && sent.refused == 0 && !sent.gave_up {
            let now = monotonic_ns();
            let oldest = due_ns(began_ns, self.plan.rate, next);
            if oldest > now {
                thread::sleep(self.plan.gather.max(Duration::from_nanos(oldest - now)));
                continue;
            }
            // All of a turn count as late as its oldest: one look at the clock, and never too little.
            let late_us = (now - oldest) / 1_000;
            let first = next;
            let mut due = oldest;
            while next < records && due <= now && sent.refused == 0 {
                self.send(due, &mut sent)?;
                next += 1;
                due = due_ns(began_ns, self.plan.rate, next);
            }
            sent.lag.saturating_record_n(late_us, next - first);
            sent.gave_up = late_us > (LAG_LIMIT + self.plan.gather).as_micros() as u64;
        }
        sent.cpu_seconds = thread_cpu_seconds() - cpu;
        sent.process_cpu_seconds = process_cpu_seconds() - process_cpu;
        sent.seconds = (monotonic_ns() - began_ns) as f64 / 1e9;
        Ok(sent)
    }

    fn send(&mut self, due: u64, sent: &mut Sent) -> io::Result<()> {
        let place = (self.records % self.sequences.len() as u64) as usize;
        self.records += 1;
        self.sequences[place] += 1;
        set_stamp(&mut self.frame[self.value_at..], due, self.sequences[place]);
        let to = if self.plan.to_all { &mut self.sockets[..] } else { std::slice::from_mut(&mut self.sockets[place]) };
        for socket in to {
            match socket.write(&self.frame) {
                Ok(bytes) if bytes == self.frame.len() => sent.sends += 1,
                Ok(_) => sent.refused += 1,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => sent.refused += 1,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Sent {
    /// As one line for the tool.
    pub fn line(&self) -> String {
        format!(
            "{} {} {} {} {} {} {}",
            self.sends,
            self.refused,
            u8::from(self.gave_up),
            self.cpu_seconds,
            self.process_cpu_seconds,
            self.seconds,
            histogram_text(&self.lag)
        )
    }

    /// Out of such a line.
    pub fn parse(line: &str) -> Option<Sent> {
        let mut words = line.split(' ');
        Some(Sent {
            sends: words.next()?.parse().ok()?,
            refused: words.next()?.parse().ok()?,
            gave_up: words.next()? == "1",
            cpu_seconds: words.next()?.parse().ok()?,
            process_cpu_seconds: words.next()?.parse().ok()?,
            seconds: words.next()?.parse().ok()?,
            lag: histogram_from(words.next()?)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::clients::{Clients, Seen};

    fn plan(connections: usize, to_all: bool) -> SendPlan {
        SendPlan { connections, rate: 2_000, to_all, value_bytes: 200, gather: Duration::from_millis(1) }
    }

    #[test]
    fn the_control_sends_each_record_once_and_in_order_over_several_slices() {
        for to_all in [false, true] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let clients = thread::spawn(move || Clients::connect(address, 3, true, |_| String::new()).unwrap());
            let mut sender = Sender::accept(plan(3, to_all), &listener).unwrap();
            let mut clients = clients.join().unwrap();
            let mut seen = Seen::default();
            for records in [20, 21] {
                let sent = Sent::parse(&sender.slice(records).unwrap().line()).unwrap();
                assert_eq!((sent.sends, sent.refused, sent.lag.len()), (records * if to_all { 3 } else { 1 }, 0, records));
            }
            let owed = if to_all { 123 } else { 41 };
            clients.receive(&mut seen, Duration::from_secs(10), owed).unwrap();
            assert_eq!(seen.deliveries, owed);
            let sent = if to_all { vec![41] } else { vec![14, 14, 13] };
            clients.settle(&sent, |number| if to_all { 0 } else { number }).unwrap();
        }
    }

    #[test]
    fn a_socket_that_takes_no_whole_frame_is_counted() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let _deaf = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let plan = SendPlan { rate: 1_000_000, value_bytes: 60_000, ..plan(1, true) };
        let sent = Sender::accept(plan, &listener).unwrap().slice(10_000).unwrap();
        assert_eq!(sent.refused, 1);
    }
}
