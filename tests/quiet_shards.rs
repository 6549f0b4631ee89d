//! Two quiet shards that talk through lanes never stall: whoever sleeps is woken.
//!
//! Many round trips between two executors that sleep as shards do, beside a control that makes the same round trips over the same lanes between two plain
//! threads on the same CPUs, all the while. A round trip over 50 ms fails the test, unless the control had one of half that length in the same
//! moment: then the machine itself stood still, and the test says so. A lost wake-up of the executor does not stop the control, so it is not excused.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use corespan::executor;
use corespan::handoff::{LaneReceiver, LaneSender, Wake, Weigh, lane};
use corespan::net::{NetSettings, Poller, Sockets};

/// glommio's own parking loses a wake-up about once in 50,000, and a round trip has two: on that no run of this length has ended. A million in long
/// runs.
fn round_trips() -> u64 {
    if std::env::var_os("CORESPAN_TEST_LONG").is_some() { 1_000_000 } else { 100_000 }
}

/// Far longer than the round trips take on a busy machine.
fn patience() -> Duration {
    Duration::from_micros(1_500 * round_trips())
}

/// How long a player sleeps if nobody wakes it: a lost wake-up is a stall of this length.
const SLEEP: Duration = Duration::from_secs(1);
const STALL: Duration = Duration::from_millis(50);
/// A round trip of the control this long at the same time says that the machine stood still.
const WITNESS: Duration = Duration::from_millis(25);

struct Ball(u64);
impl Weigh for Ball {
    fn weight(&self) -> usize {
        size_of::<Self>()
    }
}

/// One end of the table.
struct Player {
    wake: Arc<Wake>,
    hits: LaneSender<Ball>,
    comes: LaneReceiver<Ball>,
    /// Where it sleeps, as a shard; a plain thread parks.
    sockets: Option<Sockets>,
}

fn table() -> (Player, Player) {
    let (one, other) = (Arc::new(Wake::new()), Arc::new(Wake::new()));
    let (there, arrives_there) = lane(16, 1 << 16, other.clone(), one.clone());
    let (back, arrives_back) = lane(16, 1 << 16, one.clone(), other.clone());
    (
        Player { wake: one, hits: there, comes: arrives_back, sockets: None },
        Player { wake: other, hits: back, comes: arrives_there, sockets: None },
    )
}

impl Player {
    /// Plays on an executor.
    fn on_a_shard(mut self) -> Player {
        self.sockets = Some(Sockets::new(NetSettings::default(), Poller::new().expect("an epoll instance can be made")));
        self
    }

    async fn catch(&mut self) -> Ball {
        loop {
            self.wake.start_turn();
            if let Some(ball) = self.comes.try_receive() {
                return ball;
            }
            match &mut self.sockets {
                Some(sockets) => {
                    sockets.sleep(&self.wake, SLEEP);
                }
                None => self.wake.park().await,
            }
        }
    }

    fn hit(&self, ball: Ball) {
        assert!(self.hits.try_send(ball).is_ok(), "one ball always has room");
    }

    /// Returns every ball until the last one, which is number `u64::MAX`.
    async fn echo(mut self) {
        loop {
            let ball = self.catch().await;
            let last = ball.0 == u64::MAX;
            self.hit(ball);
            if last {
                return;
            }
        }
    }

    /// Plays until `goes_on` says no; returns the slow round trips (over `slow`, as from and to) and the slowest of all.
    async fn serve(mut self, slow: Duration, mut goes_on: impl FnMut(u64) -> bool) -> (Vec<(Instant, Instant)>, Duration) {
        let (mut slow_ones, mut slowest) = (Vec::new(), Duration::ZERO);
        let mut number = 0;
        while goes_on(number) {
            let from = Instant::now();
            self.hit(Ball(number));
            assert_eq!(self.catch().await.0, number, "the ball that was hit comes back");
            let to = Instant::now();
            slowest = slowest.max(to - from);
            if to - from > slow {
                slow_ones.push((from, to));
            }
            number += 1;
        }
        self.hit(Ball(u64::MAX));
        self.catch().await;
        (slow_ones, slowest)
    }
}

/// The first and the last CPU that this process may use.
fn cpus() -> (usize, usize) {
    let cpus = core_affinity::get_core_ids().expect("the CPUs of this process can be read");
    (cpus.first().expect("there is a CPU").id, cpus.last().expect("there is a CPU").id)
}

fn on_executor<F, T>(cpu: usize, play: impl FnOnce() -> F + Send + 'static) -> mpsc::Receiver<T>
where
    F: Future<Output = T> + 'static,
    T: Send + 'static,
{
    let (tell, outcome) = mpsc::channel();
    executor::start("player", cpu, move || async move {
        // Nobody listens if the test has failed already.
        let _ = tell.send(play().await);
    })
    .expect("io_uring can be used here");
    outcome
}

fn on_thread<F, T>(cpu: usize, play: impl FnOnce() -> F + Send + 'static) -> thread::JoinHandle<T>
where
    F: Future<Output = T>,
    T: Send + 'static,
{
    struct Unpark(Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    thread::spawn(move || {
        core_affinity::set_for_current(core_affinity::CoreId { id: cpu });
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut context = Context::from_waker(&waker);
        let mut future = pin!(play());
        loop {
            match future.as_mut().poll(&mut context) {
                Poll::Ready(outcome) => return outcome,
                Poll::Pending => thread::park(),
            }
        }
    })
}

#[test]
fn round_trips_between_two_quiet_shards_never_stall() {
    let round_trips = round_trips();
    let (here, there) = cpus();
    let done = Arc::new(AtomicBool::new(false));

    let (control_serves, control_echoes) = table();
    let control_echo = on_thread(there, move || control_echoes.echo());
    let control_goes_on = done.clone();
    let control = on_thread(here, move || control_serves.serve(WITNESS, move |_| !control_goes_on.load(Ordering::Relaxed)));

    let (serves, echoes) = table();
    let echo = on_executor(there, move || echoes.on_a_shard().echo());
    let began = Instant::now();
    let serve = on_executor(here, move || serves.on_a_shard().serve(STALL, move |number| number < round_trips));

    let (stalls, slowest) = serve.recv_timeout(patience()).expect("the serving shard ends well, and in time");
    let took = began.elapsed();
    echo.recv_timeout(patience()).expect("the echoing shard ends well, and in time");
    done.store(true, Ordering::Relaxed);
    let (machine_stalls, control_slowest) = control.join().expect("the control ends well");
    control_echo.join().expect("the control's echo ends well");

    let (excused, unexcused): (Vec<_>, Vec<_>) =
        stalls.iter().partition(|(from, to)| machine_stalls.iter().any(|(since, until)| since < to && from < until));
    println!(
        "{round_trips} round trips in {took:.1?} ({:.1?} each), slowest {slowest:.1?}; control: slowest {control_slowest:.1?}; {} over {STALL:?}, of which the machine explains {}",
        took / round_trips as u32,
        stalls.len(),
        excused.len()
    );
    assert!(
        unexcused.is_empty(),
        "{} round trips stalled while the control did not: {:?}",
        unexcused.len(),
        unexcused.iter().map(|(from, to)| *to - *from).collect::<Vec<_>>()
    );
}
