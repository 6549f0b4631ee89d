//! The client context of the reader: librdkafka's last complaint.

use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::ClientContext;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::ProducerContext;

use crate::kafka::troubles;

/// Remembers librdkafka's last complaint, for the line that tells the user.
#[derive(Clone, Default)]
pub(in crate::kafka) struct Complaints(Arc<Mutex<String>>);

impl Complaints {
    pub(super) fn note(&self, text: &str) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        text.clone_into(&mut last);
    }

    pub(in crate::kafka) fn last(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ClientContext for Complaints {
    fn log(&self, level: rdkafka::config::RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(?level, "librdkafka: {message}");
        if facility == "FAIL" || facility == "ERROR" {
            self.note(message);
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        troubles::say(reason);
        // "All brokers down" says less than what came before it, and a group is never joined: no right on one is needed.
        let idle = [RDKafkaErrorCode::AllBrokersDown, RDKafkaErrorCode::GroupAuthorizationFailed];
        if error.rdkafka_error_code().is_none_or(|code| !idle.contains(&code)) {
            self.note(reason);
        }
    }
}

impl ConsumerContext for Complaints {}

impl ProducerContext for Complaints {
    type DeliveryOpaque = ();

    fn delivery(&self, _result: &rdkafka::message::DeliveryResult<'_>, _opaque: ()) {}
}
