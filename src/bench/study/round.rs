//! One round: subscribers first, then senders; warm-up, steady phase, and the wait for what is on its way.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::super::Usage;
use super::super::tools::cues::Cue;
use super::super::tools::flows::Flows;
use super::actor::{Actor, counts};
use super::balance::{Balance, owed};
use super::interrupt::Interrupt;
use super::scenario::{Part, Role, Scenario};
use super::tested::Tested;

/// How long a sender has, behind its schedule, to get its answers and to write its report.
const SENDERS_TIME: Duration = Duration::from_secs(120);
/// How long what was sent has to arrive.
const ARRIVE_TIME: Duration = Duration::from_secs(15);
/// How long a subscriber has to add up its books.
const BOOKS_TIME: Duration = Duration::from_secs(60);
const SAMPLE_TIME: Duration = Duration::from_secs(1);

/// What a server did in a piece of the steady phase.
#[derive(Clone, Copy, Debug, Default)]
pub struct Work {
    pub seconds: f64,
    pub cpu_seconds: f64,
    pub deliveries: u64,
    pub resident_bytes: u64,
}

/// A round that was played to its end.
pub struct Round {
    pub reports: BTreeMap<String, Value>,
    /// By server: each second of the steady phase.
    pub work: BTreeMap<&'static str, Vec<Work>>,
    pub balance: Balance,
}

/// Where everything stands at a moment.
struct Moment {
    at: Instant,
    usage: Vec<Usage>,
    deliveries: Vec<u64>,
}

impl Moment {
    fn take(servers: &[Tested], subscribers: &mut [Actor<'_>], interrupt: &Interrupt) -> io::Result<Moment> {
        let usage = servers.iter().map(Tested::usage).collect();
        let at = counts(subscribers, interrupt)?;
        let of = |server: &Tested| subscribers.iter().filter(|actor| actor.role.server == server.name).map(|actor| actor.received).sum();
        Ok(Moment { at, usage, deliveries: servers.iter().map(of).collect() })
    }
}

/// Sleeps in short pieces; the servers must run on.
fn sleep_until(time: Instant, servers: &mut [Tested], interrupt: &Interrupt) -> io::Result<()> {
    loop {
        interrupt.check()?;
        servers.iter_mut().try_for_each(Tested::check)?;
        let left = time.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        thread::sleep(left.min(Duration::from_millis(50)));
    }
}

/// Plays a round. Its files go into the folder.
///
/// # Errors
/// A process does not start or does not answer in time, a server ends, or somebody interrupts.
pub fn play(scenario: &Scenario, folder: &Path, servers: &mut [Tested], interrupt: &Interrupt) -> io::Result<Round> {
    let start = |part: Part| scenario.of(part).map(|role: &Role| Actor::start(role, scenario, folder)).collect::<io::Result<Vec<_>>>();
    let mut subscribers = start(Part::Subscriber)?;
    for actor in &mut subscribers {
        actor.ready(interrupt)?;
    }
    let mut senders = start(Part::Sender)?;
    for actor in &mut senders {
        actor.ready(interrupt)?;
    }
    senders.iter_mut().for_each(|actor| actor.cue(Cue::Start));
    let began = Instant::now();
    let others = start(Part::Other)?;
    let warm_up = Duration::from_secs(scenario.warm_up_seconds);
    sleep_until(began + warm_up, servers, interrupt)?;
    subscribers.iter_mut().for_each(|actor| actor.cue(Cue::Measure));
    let mut work: BTreeMap<&'static str, Vec<Work>> = servers.iter().map(|server| (server.name, Vec::new())).collect();
    let mut before = Moment::take(servers, &mut subscribers, interrupt)?;
    let steady_began = before.at;
    for second in 1..=scenario.seconds {
        sleep_until(steady_began + SAMPLE_TIME * second as u32, servers, interrupt)?;
        let now = Moment::take(servers, &mut subscribers, interrupt)?;
        for (place, server) in servers.iter().enumerate() {
            let used = now.usage[place].since(before.usage[place]);
            work.entry(server.name).or_default().push(Work {
                seconds: (now.at - before.at).as_secs_f64(),
                cpu_seconds: used.cpu_seconds.max(0.0),
                deliveries: now.deliveries[place] - before.deliveries[place],
                resident_bytes: now.usage[place].resident_bytes,
            });
        }
        before = now;
    }
    subscribers.iter_mut().for_each(|actor| actor.cue(Cue::Rest));
    let mut reports = BTreeMap::new();
    let mut sent = Flows::default();
    for mut actor in senders {
        let report = actor.finish(SENDERS_TIME, interrupt)?;
        sent.join(&Flows::of(&report));
        reports.insert(actor.role.name.clone(), report);
    }
    for mut actor in others {
        let report = actor.finish(actor.role.ready_time + SENDERS_TIME, interrupt)?;
        reports.insert(actor.role.name.clone(), report);
    }
    // Who subscribes to what is in the reports, which come at the end; until then the number of connections says how many are to come.
    let all = owed(&sent, scenario.of(Part::Subscriber));
    let deadline = Instant::now() + ARRIVE_TIME;
    while subscribers.iter().map(|actor| actor.received).sum::<u64>() < all && Instant::now() < deadline {
        sleep_until(Instant::now() + Duration::from_millis(50), servers, interrupt)?;
        counts(&mut subscribers, interrupt)?;
    }
    subscribers.iter_mut().for_each(|actor| actor.cue(Cue::End));
    let mut received = Flows::default();
    for mut actor in subscribers {
        let report = actor.finish(BOOKS_TIME, interrupt)?;
        received.join(&Flows::of(&report));
        reports.insert(actor.role.name.clone(), report);
    }
    let has_subscribers = scenario.of(Part::Subscriber).next().is_some();
    let balance = if has_subscribers { Balance::of(&sent, &received) } else { Balance::default() };
    Ok(Round { reports, work, balance })
}
