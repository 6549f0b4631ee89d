//! One line a second on a terminal, written over the one before; elsewhere nothing, unless it was asked for.

use std::io::{IsTerminal as _, Write as _, stderr};

use super::recorder::Second;

/// Whether and how progress is shown.
pub struct Progress {
    is_shown: bool,
    is_terminal: bool,
}

impl Progress {
    /// On standard error: shown if that is a terminal, or always.
    pub fn new(always: bool) -> Progress {
        let is_terminal = stderr().is_terminal();
        Progress { is_shown: always || is_terminal, is_terminal }
    }

    /// A second that is over.
    pub fn show(&self, phase: &str, second: &Second) {
        if !self.is_shown {
            return;
        }
        let milliseconds = |microseconds: u64| microseconds as f64 / 1e3;
        let line = format!(
            "{phase} {:>4.0} s  {:>9.0}/s  p50 {:.2} ms  p99 {:.2} ms  max {:.2} ms",
            second.start_seconds + second.seconds,
            second.count as f64 / second.seconds.max(1e-9),
            milliseconds(second.p50),
            milliseconds(second.p99),
            milliseconds(second.max)
        );
        // A terminal that is gone is no reason to end a run.
        let _ = if self.is_terminal { write!(stderr(), "\r\x1b[K{line}") } else { writeln!(stderr(), "{line}") };
    }

    /// Something that happened once, a line of its own.
    pub fn note(&self, line: &str) {
        if self.is_shown {
            let _ = writeln!(stderr(), "{line}");
        }
    }

    /// Leaves the line.
    pub fn end(&self) {
        if self.is_shown && self.is_terminal {
            let _ = writeln!(stderr());
        }
    }
}
