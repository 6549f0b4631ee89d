//! An embedded Kafka for the demo and for tests: librdkafka's mock cluster, on a thread of its own.
//!
//! It speaks the real protocol over loopback sockets but is no Kafka: 5 MiB or 100,000 batches a partition, no compaction, no transactions seen as
//! such, no topic ids. Only what passed against Apache Kafka is verified against it.

use std::thread;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Sender, bounded};
use rdkafka::mocking::MockCluster;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use super::troubles;

/// A running cluster; ends when dropped.
pub struct EmbeddedCluster {
    bootstrap: String,
    orders: Option<Sender<Order>>,
    thread: Option<JoinHandle<()>>,
}

type Job = Box<dyn FnOnce(&MockCluster<'static, rdkafka::producer::DefaultProducerContext>) -> Result<(), String> + Send>;

struct Order {
    job: Job,
    done: Sender<Result<(), String>>,
}

impl EmbeddedCluster {
    /// Starts a cluster of that many brokers on free loopback ports.
    ///
    /// # Errors
    /// librdkafka's word when it cannot.
    pub fn start(brokers: i32) -> Result<EmbeddedCluster, String> {
        let (started, outcome) = bounded(1);
        let (orders, inbox) = bounded::<Order>(16);
        // The mock cluster is not `Send`: it lives and dies on this thread.
        let thread = thread::Builder::new()
            .name("embedded-kafka".to_owned())
            .spawn(move || {
                let cluster = match MockCluster::new(brokers) {
                    Ok(cluster) => cluster,
                    Err(error) => {
                        let _ = started.send(Err(error.to_string()));
                        return;
                    }
                };
                let _ = started.send(Ok(cluster.bootstrap_servers()));
                for order in inbox {
                    let _ = order.done.send((order.job)(&cluster));
                }
            })
            .map_err(|error| error.to_string())?;
        let bootstrap = outcome.recv().map_err(|error| error.to_string())??;
        Ok(EmbeddedCluster { bootstrap, orders: Some(orders), thread: Some(thread) })
    }

    /// What `bootstrap.servers` is to be.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// Makes a topic.
    ///
    /// # Errors
    /// librdkafka's word when it cannot.
    pub fn create_topic(&self, topic: &str, partitions: i32) -> Result<(), String> {
        let topic = topic.to_owned();
        self.with(move |cluster| cluster.create_topic(&topic, partitions, 1).map_err(|error| error.to_string()))
    }

    /// Takes a broker down, or up again: clients see their connections break.
    ///
    /// # Errors
    /// librdkafka's word when it cannot.
    pub fn set_broker(&self, broker: i32, up: bool) -> Result<(), String> {
        self.with(move |cluster| {
            if up { cluster.broker_up(broker) } else { cluster.broker_down(broker) }.map_err(|error| error.to_string())
        })
    }

    /// Answers of a broker come that much later.
    ///
    /// # Errors
    /// librdkafka's word when it cannot.
    pub fn set_round_trip(&self, broker: i32, delay: Duration) -> Result<(), String> {
        self.with(move |cluster| cluster.broker_round_trip_time(broker, delay).map_err(|error| error.to_string()))
    }

    /// The next requests of this kind are answered by these errors, one each.
    ///
    /// # Errors
    /// The cluster has ended.
    pub fn fail_requests(&self, api: RDKafkaApiKey, errors: &[RDKafkaRespErr]) -> Result<(), String> {
        let errors = errors.to_vec();
        self.with(move |cluster| {
            cluster.request_errors(api, &errors);
            Ok(())
        })
    }

    fn with(
        &self,
        job: impl FnOnce(&MockCluster<'static, rdkafka::producer::DefaultProducerContext>) -> Result<(), String> + Send + 'static,
    ) -> Result<(), String> {
        let (done, outcome) = bounded(1);
        let ended = || "the embedded cluster has ended".to_owned();
        self.orders.as_ref().ok_or_else(ended)?.send(Order { job: Box::new(job), done }).map_err(|_| ended())?;
        outcome.recv().map_err(|_| ended())?
    }
}

impl Drop for EmbeddedCluster {
    fn drop(&mut self) {
        troubles::ends(&self.bootstrap);
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            // A panic of it has been printed.
            let _ = thread.join();
        }
    }
}
