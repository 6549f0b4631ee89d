//! The glommio executors that shards run on: their settings, which were measured to suit sockets and cross-core messages, and their beginning.
//!
//! glommio can park before it has ever run a task (see `pacemaker`), and then nobody holds a waker for it: about one start in a thousand on a busy
//! core. So an executor that has not begun in time is left asleep, and another one is made; and from its first task on it listens to a pulse.

use std::future::{Future, poll_fn};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll as TaskPoll;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use glommio::{LocalExecutorBuilder, Placement};

use super::pacemaker::{Pacemaker, Pulse};
use crate::cores::Poll;

/// How long an executor has for its first task: far longer than a busy core needs.
const BEGIN_TIME: Duration = Duration::from_secs(1);
/// Executors that are made for one beginning: at one failure in a thousand starts more are never needed, and an end must be.
const BEGIN_ATTEMPTS_MAX: usize = 5;
/// How often the end of an executor is looked for.
const END_LOOK: Duration = Duration::from_millis(5);

/// Registered I/O memory. glommio's default of 10 MiB is for files; sockets use none of it, and 64 KiB is the least that it takes.
const IO_MEMORY_BYTES: usize = 64 << 10;
/// Entries of each io_uring. The kernel's table of waiting polls has a bucket for 32 completions (two for each entry), 256 at most, and glommio
/// cancels a timer in every loop, which walks a bucket: with 1,024 entries and 10,000 connections that was a quarter of the shard's time, with
/// 4,096 it is a fiftieth. More buckets there are not, and more entries cost memory (100 bytes each, three rings).
const RING_DEPTH: usize = 4096;
/// How long a task may run before others are looked at. The default of 100 ms delays messages of other cores by as much; below 200 us the timer
/// itself costs.
const PREEMPT: Duration = Duration::from_micros(500);
/// `poll = "busy"`: longer than any process lives, so the executor never parks.
const SPIN_FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// An executor that did not begin.
#[derive(Debug, thiserror::Error)]
pub enum ExecutorFailed {
    #[error("no thread can be started: {0}")]
    Thread(io::Error),
    #[error(
        "{0}; it needs io_uring (kernel 5.8 or newer, not forbidden by a container's seccomp profile), enough open files (LimitNOFILE, ulimit -n) and 2 MiB of locked memory a shard (LimitMEMLOCK, ulimit -l)"
    )]
    Executor(String),
}

/// Runs `main` on an executor pinned to `cpu`, on a thread of its own; returns once it runs. A pacemaker must watch `pulse` until `main` ends.
///
/// # Errors
/// What io_uring, the limits or the system lack.
pub fn start<F>(
    name: &str,
    cpu: usize,
    poll: Poll,
    pulse: Arc<Pulse>,
    main: impl FnOnce() -> F + Send + 'static,
) -> Result<JoinHandle<()>, ExecutorFailed>
where
    F: Future<Output = ()> + 'static,
{
    // Whichever executor polls its first task first takes it.
    let waiting = Arc::new(Mutex::new(Some(main)));
    // There is room for the report of every attempt.
    let (report, outcome) = crossbeam_channel::bounded(BEGIN_ATTEMPTS_MAX);
    let mut threads = Vec::new();
    for attempt in 0..BEGIN_ATTEMPTS_MAX {
        let (waiting, report, pulse, name) = (waiting.clone(), report.clone(), pulse.clone(), name.to_owned());
        let executor_name = name.clone();
        let run = move || match builder(cpu, poll).name(&executor_name).make() {
            Ok(executor) => executor.run(async {
                let main = waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
                if let Some(main) = main {
                    let _ = report.send((attempt, Ok(())));
                    listen(&pulse).await;
                    main().await;
                    pulse.end();
                }
            }),
            Err(error) => drop(report.send((attempt, Err(error.to_string())))),
        };
        let thread = std::thread::Builder::new().name(name).spawn(run);
        threads.push(thread.map_err(ExecutorFailed::Thread)?);
        match outcome.recv_timeout(BEGIN_TIME) {
            Ok((attempt, Ok(()))) => return Ok(threads.swap_remove(attempt)),
            Ok((_, Err(reason))) => return Err(ExecutorFailed::Executor(reason)),
            Err(_) => tracing::debug!(cpu, attempt, "an executor parked before its first task; another one is made"),
        }
    }
    Err(ExecutorFailed::Executor(format!("{BEGIN_ATTEMPTS_MAX} executors did not begin within {BEGIN_TIME:?} each")))
}

/// From now on the pacemaker can wake the executor: this task stands in until the pulse has run as a task of its own.
async fn listen(pulse: &Arc<Pulse>) {
    let pulse = pulse.clone();
    let mut listening = Box::pin(async move { pulse.listen().await });
    poll_fn(|context| {
        let _ = listening.as_mut().poll(context);
        TaskPoll::Ready(())
    })
    .await;
    glommio::spawn_local(listening).detach();
}

/// An executor with a pacemaker of its own, for who has only one: tests and tools.
pub struct Alone {
    thread: JoinHandle<()>,
    _pacemaker: Pacemaker,
}

impl Alone {
    /// As [`start`].
    pub fn start<F>(cpu: usize, poll: Poll, main: impl FnOnce() -> F + Send + 'static) -> Result<Alone, ExecutorFailed>
    where
        F: Future<Output = ()> + 'static,
    {
        let pulse = Arc::new(Pulse::new());
        let pacemaker = Pacemaker::start(vec![pulse.clone()]).map_err(ExecutorFailed::Thread)?;
        Ok(Alone { thread: start("alone", cpu, poll, pulse, main)?, _pacemaker: pacemaker })
    }

    /// Waits for its end, `patience` at most. Whether it has ended, and without a panic.
    pub fn join(self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        while !self.thread.is_finished() {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(END_LOOK);
        }
        self.thread.join().is_ok()
    }
}

/// A builder for an executor pinned to `cpu`. `make` is called on the thread that is to run it: it reports what io_uring lacks.
fn builder(cpu: usize, poll: Poll) -> LocalExecutorBuilder {
    let builder = LocalExecutorBuilder::new(Placement::Fixed(cpu)).io_memory(IO_MEMORY_BYTES).ring_depth(RING_DEPTH).preempt_timer(PREEMPT);
    match poll {
        Poll::Park => builder,
        Poll::Busy => builder.spin_before_park(SPIN_FOREVER),
    }
}
