//! SIGTERM and SIGINT: the first asks for a graceful stop, the second ends the process at once.

use std::io;
use std::process;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};
use signal_hook::consts::{SIGINT, SIGTERM};

/// What came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    Terminate,
    Interrupt,
}

impl Signal {
    /// Its name, for messages.
    pub fn name(self) -> &'static str {
        match self {
            Signal::Terminate => "SIGTERM",
            Signal::Interrupt => "SIGINT",
        }
    }
}

/// Listens on a thread of its own from `listen` on.
#[derive(Debug)]
pub struct Signals {
    first: Receiver<Signal>,
}

impl Signals {
    /// Takes over both signals, for the life of the process.
    pub fn listen() -> io::Result<Signals> {
        let mut signals = signal_hook::iterator::Signals::new([SIGTERM, SIGINT])?;
        let (sender, first) = crossbeam_channel::bounded(1);
        thread::Builder::new().name("signals".to_owned()).spawn(move || {
            let mut seen = 0;
            for number in signals.forever() {
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

    /// The first signal, if it comes within that time.
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
