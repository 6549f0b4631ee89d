//! SIGTERM and SIGINT: the first asks for a graceful stop, the second ends the process at once. SIGHUP asks for a reload.

use std::io;
use std::process;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// What came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    Terminate,
    Interrupt,
    /// Asks for a reload.
    Hangup,
}

impl Signal {
    /// Its name, for messages.
    pub fn name(self) -> &'static str {
        match self {
            Signal::Terminate => "SIGTERM",
            Signal::Interrupt => "SIGINT",
            Signal::Hangup => "SIGHUP",
        }
    }
}

/// Listens on a thread of its own from `listen` on.
#[derive(Debug)]
pub struct Signals {
    first: Receiver<Signal>,
}

impl Signals {
    /// Takes over SIGTERM and SIGINT, for the life of the process.
    pub fn listen() -> io::Result<Signals> {
        Signals::listen_for(&[SIGTERM, SIGINT])
    }

    /// The same, and SIGHUP.
    pub fn listen_for_reloads_too() -> io::Result<Signals> {
        Signals::listen_for(&[SIGTERM, SIGINT, SIGHUP])
    }

    fn listen_for(numbers: &[i32]) -> io::Result<Signals> {
        let mut signals = signal_hook::iterator::Signals::new(numbers)?;
        // One to stop, and reloads that have not been looked at: one more of these is the same as the last.
        let (sender, first) = crossbeam_channel::bounded(4);
        thread::Builder::new().name("signals".to_owned()).spawn(move || {
            let mut seen = 0;
            for number in signals.forever() {
                if number == SIGHUP {
                    let _ = sender.try_send(Signal::Hangup);
                    continue;
                }
                let signal = if number == SIGINT { Signal::Interrupt } else { Signal::Terminate };
                seen += 1;
                if seen > 1 {
                    eprintln!("corespan: {} again: ending at once", signal.name());
                    process::exit(1);
                }
                // Nobody listens if the process is on its way out already.
                let _ = sender.send(signal);
            }
        })?;
        Ok(Signals { first })
    }

    /// The next signal, if it comes within that time.
    pub fn wait(&self, time: Duration) -> Option<Signal> {
        match self.first.recv_timeout(time) {
            Ok(signal) => Some(signal),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => {
                thread::sleep(time);
                None
            }
        }
    }
}
