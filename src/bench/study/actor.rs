//! A role's process.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::super::child::{Helper, tied};
use super::super::tools::cues::Cue;
use super::interrupt::Interrupt;
use super::scenario::{Part, Role, Scenario};

/// How long a subscriber has to say its count.
const COUNT_TIME: Duration = Duration::from_secs(10);
/// The largest report that is read back.
const REPORT_BYTES_MAX: u64 = 256 << 20;

/// A role that runs; killed when dropped.
pub struct Actor<'a> {
    pub role: &'a Role,
    helper: Helper,
    pub report: PathBuf,
    errors: PathBuf,
    /// Records that it had when it was asked last.
    pub received: u64,
}

impl<'a> Actor<'a> {
    /// Starts it, with its files in the folder.
    ///
    /// # Errors
    /// Those of the start.
    pub fn start(role: &'a Role, scenario: &Scenario, folder: &Path) -> io::Result<Actor<'a>> {
        let file = |extension: &str| folder.join(format!("{}.{extension}", role.name));
        let (report, errors) = (file("json"), file("err"));
        let mut command = tied(&std::env::current_exe()?);
        command.arg(&role.tool).args(&role.arguments);
        command.args(["--warm-up-seconds", &scenario.warm_up_seconds.to_string(), "--seconds", &scenario.seconds.to_string()]);
        command.arg("--report").arg(&report).arg("--log").arg(file("hlog"));
        command.args((role.part != Part::Other).then_some("--cued"));
        command.stderr(File::create(&errors)?);
        let helper = Helper::start(&format!("role {}", role.name), &mut command)?;
        Ok(Actor { role, helper, report, errors, received: 0 })
    }

    /// Waits until it is ready.
    ///
    /// # Errors
    /// It is not in time, or ended: with its last words.
    pub fn ready(&mut self, interrupt: &Interrupt) -> io::Result<()> {
        let answer = self.helper.answer("ready", self.role.ready_time, || interrupt.check());
        answer.map(drop).map_err(|error| self.blame(error))
    }

    /// Gives a cue. One that has ended takes none, which its report tells.
    pub fn cue(&mut self, cue: Cue) {
        let _ = self.helper.order(cue.word());
    }

    /// Hears the answer to a count; the count before stays if it has ended.
    pub fn count(&mut self, interrupt: &Interrupt) -> io::Result<()> {
        let answer = self.helper.answer("count", COUNT_TIME, || interrupt.check());
        interrupt.check()?;
        if let Some(count) = answer.ok().and_then(|count| count.parse().ok()) {
            self.received = count;
        }
        Ok(())
    }

    /// Waits for its end, and reads its report.
    ///
    /// # Errors
    /// It does not end in time, or has left no report: with its last words.
    pub fn finish(&mut self, within: Duration, interrupt: &Interrupt) -> io::Result<Value> {
        let finished = self.helper.finish(within, || interrupt.check());
        let status = finished.map_err(|error| self.blame(error))?;
        let read = || -> io::Result<Value> {
            if std::fs::metadata(&self.report)?.len() > REPORT_BYTES_MAX {
                return Err(io::Error::other("its report is too large"));
            }
            Ok(serde_json::from_slice(&std::fs::read(&self.report)?)?)
        };
        read().map_err(|error| self.blame(io::Error::other(format!("role {} ended ({status}): {error}", self.role.name))))
    }

    fn blame(&self, error: io::Error) -> io::Error {
        if error.kind() == io::ErrorKind::Interrupted {
            return error;
        }
        let said = std::fs::read_to_string(&self.errors).unwrap_or_default();
        let last = said.lines().rev().find(|line| line.starts_with("corespan-bench: ")).unwrap_or_default();
        io::Error::new(error.kind(), format!("{error}: {last}").trim_end_matches(": ").to_owned())
    }
}

/// Asks all for their counts, at one time, and hears them.
///
/// # Errors
/// The run is interrupted.
pub fn counts(actors: &mut [Actor<'_>], interrupt: &Interrupt) -> io::Result<Instant> {
    actors.iter_mut().for_each(|actor| actor.cue(Cue::Count));
    let asked = Instant::now();
    for actor in actors {
        actor.count(interrupt)?;
    }
    Ok(asked)
}
