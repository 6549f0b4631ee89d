//! A producer for load whose acknowledgements are timed: for `corespan-bench produce`. One thread feeds it; librdkafka's thread notes what Kafka said.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer};
use rdkafka::{ClientConfig, ClientContext};

use super::lock;

/// How long Kafka has to acknowledge a record.
const ACKNOWLEDGE_TIME: Duration = Duration::from_secs(15);

/// What Kafka said since it was asked last.
#[derive(Debug, Default)]
pub struct Acknowledged {
    /// When each record was due, and when the word came: microseconds of the feeder's clock.
    pub times_us: Vec<(u64, u64)>,
    /// Refused, by librdkafka's code.
    pub refused: BTreeMap<i64, u64>,
}

struct Noting {
    clock_us: fn() -> u64,
    acknowledged: Arc<Mutex<Acknowledged>>,
}

impl ClientContext for Noting {
    fn log(&self, _level: RDKafkaLogLevel, _facility: &str, _line: &str) {}
}

impl ProducerContext for Noting {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, due_us: usize) {
        let mut acknowledged = lock(&self.acknowledged);
        match result {
            Ok(_) => acknowledged.times_us.push((due_us as u64, (self.clock_us)())),
            Err((error, _)) => {
                let code = error.rdkafka_error_code().map_or(-1, |code| code as i64);
                *acknowledged.refused.entry(code).or_default() += 1;
            }
        }
    }
}

/// A topic that is fed.
pub struct Feed {
    producer: ThreadedProducer<Noting>,
    acknowledged: Arc<Mutex<Acknowledged>>,
    topic: String,
}

impl Feed {
    /// Opens a producer. `properties` are librdkafka's, stronger than the feed's own.
    ///
    /// # Errors
    /// librdkafka's word on a property.
    pub fn open(topic: &str, properties: &[(String, String)], clock_us: fn() -> u64) -> Result<Feed, String> {
        let acknowledged = Arc::new(Mutex::new(Acknowledged::default()));
        let mut config = ClientConfig::new();
        // Idempotent: retries would else look like duplicates of what is tested.
        config
            .set("enable.idempotence", "true")
            .set("queue.buffering.max.messages", "200000")
            .set("message.timeout.ms", ACKNOWLEDGE_TIME.as_millis().to_string())
            .set("socket.nagle.disable", "true");
        for (name, value) in properties {
            config.set(name, value);
        }
        let context = Noting { clock_us, acknowledged: acknowledged.clone() };
        let producer = config.create_with_context(context).map_err(|error: KafkaError| error.to_string())?;
        Ok(Feed { producer, acknowledged, topic: topic.to_owned() })
    }

    /// Queues a record. Gives false if there is no room for it now.
    ///
    /// # Errors
    /// librdkafka's word.
    pub fn send(&self, key: &str, value: &[u8], due_us: u64) -> Result<bool, String> {
        let record = BaseRecord::with_opaque_to(&self.topic, due_us as usize).key(key).payload(value);
        match self.producer.send(record) {
            Ok(()) => Ok(true),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => Ok(false),
            Err((error, _)) => Err(error.to_string()),
        }
    }

    /// What Kafka said since it was asked last.
    pub fn acknowledged(&self) -> Acknowledged {
        std::mem::take(&mut *lock(&self.acknowledged))
    }

    /// Waits until Kafka has said something of each record.
    ///
    /// # Errors
    /// It did not, in the time that each has and some more.
    pub fn flush(&self) -> Result<(), String> {
        self.producer.flush(ACKNOWLEDGE_TIME + Duration::from_secs(5)).map_err(|error| error.to_string())
    }
}
