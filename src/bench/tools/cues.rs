//! Cues: a scenario tells a tool on standard input when a phase begins or ends, and hears `ready` and counts on standard output. Without a scenario
//! phases have the lengths of the options. When the scenario is gone, the tool ends.

use std::io::{self, Write as _};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use crate::bench::child::orders;

/// The longest phase that only a cue ends: more than the longest run.
const PHASE_MAX: Duration = Duration::from_secs(8 * 86_400);

/// What a scenario says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cue {
    /// To senders: begin.
    Start,
    /// To subscribers: the steady phase begins, and ends.
    Measure,
    Rest,
    /// To subscribers: all has arrived, or will never.
    End,
    /// Say how many records have come.
    Count,
}

impl Cue {
    const ALL: [Cue; 5] = [Cue::Start, Cue::Measure, Cue::Rest, Cue::End, Cue::Count];

    /// As it is said.
    pub fn word(self) -> &'static str {
        match self {
            Cue::Start => "start",
            Cue::Measure => "measure",
            Cue::Rest => "rest",
            Cue::End => "end",
            Cue::Count => "count",
        }
    }
}

/// Where cues come from, if anywhere.
pub struct Cues(Option<Receiver<String>>);

impl Cues {
    /// From standard input, if they are to come.
    ///
    /// # Errors
    /// The system has no thread.
    pub fn new(are_given: bool) -> io::Result<Cues> {
        Ok(Cues(are_given.then(orders).transpose()?))
    }

    /// Says that the tool is ready.
    pub fn ready(&self) {
        if self.0.is_some() {
            say("ready");
        }
    }

    /// A phase that one of these cues ends; without a scenario, so much time.
    pub fn phase<'a>(&'a self, ends: &'a [Cue], time: Duration) -> Phase<'a> {
        let time = if self.0.is_some() { PHASE_MAX } else { time };
        Phase { cues: self, ends, deadline: Instant::now() + time, ended_by: None }
    }
}

/// A phase of a run.
pub struct Phase<'a> {
    cues: &'a Cues,
    ends: &'a [Cue],
    deadline: Instant,
    ended_by: Option<Cue>,
}

impl Phase<'_> {
    /// Whether it is not over. Answers who asks for the count.
    ///
    /// # Errors
    /// What was said is no cue.
    pub fn goes_on(&mut self, received: u64) -> io::Result<bool> {
        while let Some(cues) = self.cues.0.as_ref().filter(|_| self.ended_by.is_none()) {
            let line = match cues.try_recv() {
                Ok(line) => line,
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return Ok(false),
            };
            let cue = Cue::ALL.into_iter().find(|cue| cue.word() == line);
            match cue.ok_or_else(|| io::Error::other(format!("{line:?} on standard input is no cue")))? {
                Cue::Count => say(&format!("count {received}")),
                cue if self.ends.contains(&cue) => self.ended_by = Some(cue),
                cue => return Err(io::Error::other(format!("the cue {:?} comes at a wrong time", cue.word()))),
            }
        }
        Ok(self.ended_by.is_none() && Instant::now() < self.deadline)
    }

    /// Until its end, as far as that is known.
    pub fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Whether that cue ended it.
    pub fn ended_by(&self, cue: Cue) -> bool {
        self.ended_by == Some(cue)
    }
}

fn say(line: &str) {
    let mut out = io::stdout().lock();
    // Nobody listens any more: then standard input ends too.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn without_a_scenario_a_phase_has_its_length() {
        let cues = Cues::new(false).expect("no thread is needed");
        assert!(!cues.phase(&[Cue::Start], Duration::ZERO).goes_on(0).expect("no cue"));
        assert!(cues.phase(&[Cue::Start], Duration::from_secs(60)).goes_on(0).expect("no cue"));
    }

    #[test]
    fn a_phase_ends_with_its_cue_and_leaves_the_next_one_for_the_next() {
        let (sender, inbox) = channel();
        let cues = Cues(Some(inbox));
        let mut warm_up = cues.phase(&[Cue::Measure], Duration::ZERO);
        assert!(warm_up.goes_on(0).expect("nothing was said"));
        for word in ["count", "measure", "end"] {
            sender.send(word.to_owned()).expect("it is heard");
        }
        assert!(!warm_up.goes_on(0).expect("cues") && warm_up.ended_by(Cue::Measure));
        let mut steady = cues.phase(&[Cue::Rest, Cue::End], Duration::ZERO);
        assert!(!steady.goes_on(0).expect("cues") && steady.ended_by(Cue::End));
        sender.send("start".to_owned()).expect("it is heard");
        assert!(cues.phase(&[Cue::End], Duration::ZERO).goes_on(0).is_err());
    }
}
