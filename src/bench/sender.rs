//! The control: a bare server that accepts clients and writes ready frames with `send()`, and nothing else. What it costs is what the kernel costs.

use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

use crate::kafka::load::monotonic_ns;

/// What the sender did.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    pub sends: u64,
    /// CPU time of its thread, seconds.
    pub cpu_seconds: f64,
}

/// How the frames go.
#[derive(Clone, Copy, Debug)]
pub struct SendPlan {
    pub connections: usize,
    /// Records a second.
    pub rate: u64,
    /// Each record goes to one client, or to all.
    pub to_all: bool,
    pub frame_bytes: usize,
    pub cpu: Option<usize>,
}

/// A running sender.
pub struct Sender {
    pub address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<io::Result<Sent>>,
}

impl Sender {
    /// Listens, and sends once all clients are there.
    ///
    /// # Errors
    /// A socket's word.
    pub fn start(plan: SendPlan) -> io::Result<Sender> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::Builder::new().name("bare-sender".to_owned()).spawn(move || send_all(&plan, &listener, &stopped))?;
        Ok(Sender { address, stop, thread })
    }

    /// Ends it and tells what it did.
    ///
    /// # Errors
    /// What it died of.
    pub fn stop(self) -> io::Result<Sent> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| io::Error::other("the sender panicked"))?
    }
}

fn send_all(plan: &SendPlan, listener: &TcpListener, stop: &AtomicBool) -> io::Result<Sent> {
    if let Some(cpu) = plan.cpu {
        core_affinity::set_for_current(core_affinity::CoreId { id: cpu });
    }
    let mut sockets: Vec<TcpStream> = Vec::with_capacity(plan.connections);
    while sockets.len() < plan.connections {
        let (socket, _) = listener.accept()?;
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        sockets.push(socket);
    }
    let cpu = || clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(0.0, |time| time.tv_sec() as f64 + time.tv_nsec() as f64 / 1e9);
    let (began, cpu_before) = (Instant::now(), cpu());
    let (mut records, mut sends, mut sequences) = (0_u64, 0_u64, vec![0_u64; if plan.to_all { 1 } else { plan.connections }]);
    while !stop.load(Ordering::Relaxed) {
        let due = (began.elapsed().as_secs_f64() * plan.rate as f64) as u64;
        while records < due {
            let place = if plan.to_all { 0 } else { (records % plan.connections as u64) as usize };
            sequences[place] += 1;
            let frame = frame(plan.frame_bytes, sequences[place]);
            records += 1;
            let to = if plan.to_all { &mut sockets[..] } else { std::slice::from_mut(&mut sockets[place]) };
            for socket in to {
                // A full socket would lose the frame; the rates of a comparison leave room.
                match socket.write(&frame) {
                    Ok(_) => sends += 1,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    // The clients have seen enough and left.
                    Err(_) => return Ok(Sent { sends, cpu_seconds: cpu() - cpu_before }),
                }
            }
        }
        thread::sleep(Duration::from_micros(500));
    }
    Ok(Sent { sends, cpu_seconds: cpu() - cpu_before })
}

/// A push as corespan would send it, of about that many bytes.
fn frame(bytes: usize, sequence: u64) -> Vec<u8> {
    let head = format!("{{\"push\":{{\"id\":1,\"pub\":{{\"data\":{{\"t\":{},\"s\":{sequence},\"pad\":\"", monotonic_ns());
    let pad = bytes.saturating_sub(head.len() + 6);
    let mut frame = vec![0x81, 126, 0, 0];
    frame.extend_from_slice(head.as_bytes());
    frame.resize(frame.len() + pad, b'x');
    frame.extend_from_slice(b"\"}}}}");
    let len = (frame.len() - 4) as u16;
    frame[2..4].copy_from_slice(&len.to_be_bytes());
    frame
}
