//! A node from start to end: what `serve` and `demo` share.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::error::LifecycleError;
use super::gatekeeper::Gatekeeper;
use super::kafka_metrics::KafkaMetrics;
use super::ports::Ports;
use super::reload::Reloader;
use super::shards::{Desks, Shards};
use super::signals::{Signal, Signals};
use super::supervisor::Supervisor;
use crate::config::Config;
use crate::cores::{self, Machine, Plan};
use crate::executor::{self, ShardPlan};
use crate::handoff;
use crate::handoff::ShardId;
use crate::http::Site;
use crate::kafka::{KafkaOptions, KafkaSide, NodeState};
use crate::limits::{DRAIN_PUBLISH_MS, END_MS, LANE_BYTES_MAX};
use crate::telemetry::{AdminServer, Health, Registry};

/// How often the node looks after itself.
const LOOK: Duration = Duration::from_millis(100);
/// Beyond the drain itself: the last answers, closing handshakes and lingering sockets.
const DRAIN_PATIENCE: Duration = Duration::from_millis(DRAIN_PUBLISH_MS + 200);

/// What the machine gives this node; the calling thread, and all that it starts, does the housekeeping from now on.
pub fn prepare(config: &Config) -> Result<Plan, LifecycleError> {
    let plan = Plan::new(&config.cores, &Machine::probe()?)?;
    config.check_shards(plan.shards.len())?;
    let files = cores::raise_open_files()?;
    let connections = config.connections_within(files.soft, plan.shards.len());
    match connections.note {
        Some(note) if connections.is_asked_for => tracing::warn!("{note}"),
        Some(note) => tracing::info!("{note}"),
        None => {}
    }
    cores::raise_locked_memory(plan.shards.len())?;
    cores::probe_io_uring()?;
    cores::pin_current_thread_to(&plan.housekeeping)?;
    for note in &plan.notes {
        tracing::info!("{note}");
    }
    for note in config.notes() {
        tracing::warn!("{note}");
    }
    for line in config.open_to() {
        tracing::info!("open: {line}");
    }
    Ok(plan)
}

/// A node that runs.
pub struct Node {
    shards: Shards,
    health: Arc<Health>,
    kafka: KafkaSide,
    drain_time: Duration,
    site: Site,
    gatekeeper: Gatekeeper,
    addresses: Vec<SocketAddr>,
    _admin: AdminServer,
}

impl Node {
    /// Starts everything, in the order that lets each part find what it needs. Waits for nobody: not for Kafka either. Call it on a thread that
    /// `prepare` has put on the housekeeping CPUs.
    pub fn start(config: &Config, plan: &Plan, options: KafkaOptions) -> Result<Node, LifecycleError> {
        let demo = options.embedded;
        let mut settings = config.net_settings();
        settings.connections_max = config.connections_within(cores::raise_open_files()?.soft, plan.shards.len()).shard_max;
        let ports = Ports::open(&config.listen, plan.shards.len(), &settings)?;
        let health = Arc::new(Health::new());
        let registry = Arc::new(Registry::new(plan.shards.len(), health.clone()));
        let admin = AdminServer::start(config.listen.admin, ports.admin.clone(), registry.clone(), health.clone())?;
        let shard_settings = config.shard_settings();
        let desks = Desks::new(plan.shards.len() as u16, shard_settings.publishes_open_shard_max);
        let (gatekeeper, entitlement) = Gatekeeper::start(&config.entitlement, desks.letters(), ports.certificates)?;
        let (kafka, brokers) = KafkaSide::start(options, &desks.letters(), &desks.wakes())?;
        registry.add(KafkaMetrics { metadata: kafka.metadata.clone(), producers: kafka.producers.clone() });

        let site = Site::new(&config.site_settings(demo));
        let epoch = Instant::now();
        let lanes = handoff::lanes(&desks.wakes(), LANE_BYTES_MAX);
        let mut parts = brokers.into_iter().zip(lanes).zip(ports.listeners).collect::<Vec<_>>().into_iter();
        assert_eq!(parts.len(), plan.shards.len(), "each shard has a broker");
        let shards = Shards::start(desks, |id: ShardId, desk| {
            let ((broker, lanes), listeners) = parts.next().expect("counted above");
            let telemetry = registry.shard(id);
            let (of_missed, of_stages) = (telemetry.clone(), telemetry.clone());
            executor::spawn(ShardPlan {
                id,
                shards: plan.shards.len() as u16,
                cpu: plan.shards[id.index()],
                poll: config.cores.poll,
                settings: shard_settings.clone(),
                entitlement: entitlement.clone(),
                net: settings.clone(),
                site: site.clone(),
                listeners,
                lanes,
                mailbox: desk.mailbox,
                wake: desk.wake,
                pulse: desk.pulse,
                drained: desk.drained,
                broker,
                store_counters: Box::new(move |counters| telemetry.store(counters)),
                store_missed: Box::new(move |missed| of_missed.store_missed(missed)),
                store_stages: Box::new(move |stages| of_stages.take_stages(stages)),
                epoch,
            })
        })?;
        Ok(Node { shards, health, kafka, drain_time: config.drain_time, site, gatekeeper, addresses: ports.addresses, _admin: admin })
    }

    /// Where clients connect; the real port if port 0 was asked for.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Whether clients are served. An error is what keeps the node from going on.
    pub fn is_ready(&self) -> Result<bool, LifecycleError> {
        self.look_at_kafka()?;
        Ok(self.health.readiness().is_ok())
    }

    /// Runs until a signal, then drains and ends. An error is what kept it from going on.
    /// With a reloader, SIGHUP reloads.
    pub fn run(mut self, signals: &Signals, mut reloader: Option<Reloader>) -> Result<(), LifecycleError> {
        let mut supervisor = Supervisor::new(self.shards.pulses());
        supervisor.listening();
        let mut was_ready = false;
        let outcome = loop {
            let signal = signals.wait(LOOK);
            if signal == Some(Signal::Hangup) {
                if let Some(reloader) = &mut reloader {
                    self.drain_time =
                        reloader.reload(&self.shards, &self.site, &self.gatekeeper, &self.kafka.metadata, &self.health.reloads);
                }
            } else if let Some(signal) = signal {
                tracing::info!("{} received: draining over {:?}; a second signal ends at once", signal.name(), self.drain_time);
                break Ok(());
            }
            if let Err(error) = self.look_at_kafka() {
                break Err(error);
            }
            if let Some(shard) = self.shards.ended() {
                break Err(LifecycleError::ShardEnded(shard));
            }
            supervisor.look();
            let ready = self.health.readiness();
            supervisor.status(ready.clone().err().unwrap_or_else(|| self.health.ready_text()));
            if ready.is_ok() != was_ready {
                was_ready = ready.is_ok();
                match ready {
                    Ok(()) => tracing::info!("ready"),
                    Err(why) => tracing::warn!("not ready: {why}"),
                }
            }
        };
        if let Err(error) = &outcome {
            self.health.failed(&error.to_string());
        }
        supervisor.stopping(self.drain_time + DRAIN_PATIENCE + Duration::from_millis(END_MS));
        self.end(outcome)
    }

    /// Brings what the metadata reader knows into the node's health.
    fn look_at_kafka(&self) -> Result<(), LifecycleError> {
        self.health.partitions_held(self.kafka.metadata.held_partitions());
        self.health.partitions_stuck(self.kafka.metadata.stuck_partitions());
        self.health.partitions_stale(self.kafka.metadata.stale_partitions());
        self.health.topics_live_only(self.kafka.metadata.live_only_topics());
        match self.kafka.metadata.state() {
            NodeState::Connecting { reason } => {
                self.health.kafka_lost(if reason.is_empty() { "no answer yet" } else { &reason });
            }
            NodeState::Loading { ready, partitions } => {
                self.health.kafka_reached();
                self.health.partitions_ready(ready, partitions);
            }
            NodeState::Ready => {
                self.health.kafka_reached();
                self.health.partitions_ready(1, 1);
            }
            NodeState::Failed { reason } => return Err(LifecycleError::Topics(reason)),
        }
        Ok(())
    }

    fn end(self, outcome: Result<(), LifecycleError>) -> Result<(), LifecycleError> {
        self.health.draining();
        // A node that cannot go on has nothing to spread out for.
        let over = if outcome.is_ok() { self.drain_time } else { Duration::ZERO };
        let deadline = Instant::now() + over + Duration::from_millis(END_MS);
        // If a shard has ended, its connections and its part of every subject are gone: nothing is left to end in order.
        if !matches!(outcome, Err(LifecycleError::ShardEnded(_))) && !self.shards.drain(over, DRAIN_PATIENCE) {
            tracing::warn!("the drain was cut short: some connections or publishes were left");
        }
        self.close(deadline);
        if outcome.is_ok() {
            tracing::info!("ended");
        }
        outcome
    }

    /// Ends what runs, on a thread of its own: Kafka's clients may hang while they are closed, and then the process ends without them.
    fn close(self, deadline: Instant) {
        let left = move || deadline.saturating_duration_since(Instant::now());
        let (closed, done) = crossbeam_channel::bounded(1);
        let close = move || {
            self.kafka.metadata.stop();
            self.kafka.flush(left());
            let Node { shards, kafka, _admin: admin, .. } = self;
            drop(admin);
            if !shards.stop(left()) {
                tracing::warn!("a shard did not end in time");
            }
            drop(kafka);
            // Nobody listens if it was too late.
            let _ = closed.send(());
        };
        let begun = std::thread::Builder::new().name("close".to_owned()).spawn(close);
        if begun.is_err() || done.recv_timeout(left()).is_err() {
            tracing::warn!("ended before everything was closed: something waits for Kafka");
        }
    }
}
