//! Ctrl-C, or the order to end: noticed by every wait of a run, so that what was started is ended in order.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// Whether somebody wants the run to end.
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// From now on the signals no longer end the process by themselves.
    ///
    /// # Errors
    /// The system's word.
    pub fn watch() -> io::Result<Interrupt> {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [SIGHUP, SIGINT, SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&flag))?;
        }
        Ok(Interrupt(flag))
    }

    /// # Errors
    /// There was a signal.
    pub fn check(&self) -> io::Result<()> {
        if self.0.load(Ordering::Relaxed) {
            return Err(io::Error::new(io::ErrorKind::Interrupted, "interrupted: the run is not complete"));
        }
        Ok(())
    }
}
