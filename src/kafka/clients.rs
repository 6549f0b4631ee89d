//! The clients of one role, consumer or producer: what they are made with, and those that are there.
//!
//! A password, or a token, takes effect in a client that lives: its connections stay, and the next one uses it. Certificates and keys are read when
//! a client is made, so each owner makes its client anew at a moment that loses nothing; it asks `remade` for that, within a second or two. All of
//! them reach whatever is made later. Used by housekeeping threads only: making a client takes its time, and is done one at a time.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::thread;

use rdkafka::client::ClientContext;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, Producer as _, ProducerContext, ThreadedProducer};
use rdkafka::{ClientConfig, bindings};

use super::lock;
use super::properties::{Properties, is_credential, is_live};
use super::tokens::{TokenNow, token_path_of, unix_ms};
use super::{raw, troubles};

/// librdkafka's logs go to our log.
pub(super) struct QuietContext;

impl ClientContext for QuietContext {
    fn log(&self, level: rdkafka::config::RDKafkaLogLevel, _facility: &str, message: &str) {
        tracing::debug!(?level, "librdkafka: {message}");
    }

    fn error(&self, _error: rdkafka::error::KafkaError, reason: &str) {
        troubles::say(reason);
    }
}

impl ConsumerContext for QuietContext {}

impl ProducerContext for QuietContext {
    type DeliveryOpaque = ();

    fn delivery(&self, _result: &rdkafka::message::DeliveryResult<'_>, _opaque: ()) {}
}

/// A client that can be given other credentials.
pub(super) trait Live: Send + Sync {
    /// Live as long as `self`.
    fn native(&self) -> *mut bindings::rd_kafka_t;
}

impl<C: ConsumerContext + 'static> Live for BaseConsumer<C> {
    fn native(&self) -> *mut bindings::rd_kafka_t {
        self.client().native_ptr()
    }
}

impl<C: ProducerContext + 'static> Live for BaseProducer<C> {
    fn native(&self) -> *mut bindings::rd_kafka_t {
        self.client().native_ptr()
    }
}

impl<C: ProducerContext + 'static> Live for ThreadedProducer<C> {
    fn native(&self) -> *mut bindings::rd_kafka_t {
        self.client().native_ptr()
    }
}

/// See the module's documentation.
pub(super) struct Clients {
    inner: Mutex<Inner>,
    /// How often the files that clients are made with have changed.
    remade: AtomicU64,
}

struct Inner {
    config: ClientConfig,
    /// What `config` was made of.
    properties: Properties,
    /// What new clients are given for OAUTHBEARER.
    token: Option<TokenNow>,
    live: Vec<Weak<dyn Live>>,
}

impl Clients {
    pub(super) fn new(config: ClientConfig, properties: Properties) -> Clients {
        Clients { inner: Mutex::new(Inner { config, properties, token: None, live: Vec::new() }), remade: AtomicU64::new(0) }
    }

    /// What a client is made with now.
    pub(super) fn config(&self) -> ClientConfig {
        lock(&self.inner).config.clone()
    }

    /// Makes a client, with what `adjust` changes of the configuration; `finish` has it before anybody else.
    ///
    /// # Errors
    /// librdkafka's word when it does not take the configuration.
    pub(super) fn make<X: ClientContext, C: Live + FromClientConfigAndContext<X> + 'static>(
        &self,
        context: X,
        adjust: impl FnOnce(&mut ClientConfig),
        finish: impl FnOnce(&mut C),
    ) -> Result<Arc<C>, KafkaError> {
        // Held until it is registered: it has the credentials of now, or is given the next ones.
        let mut inner = lock(&self.inner);
        let mut config = inner.config.clone();
        adjust(&mut config);
        let mut client: C = config.create_with_context(context)?;
        if let Some(token) = &inner.token {
            give(client.native(), token);
        }
        finish(&mut client);
        let client = Arc::new(client);
        let weak: Weak<C> = Arc::downgrade(&client);
        inner.live.retain(|live| live.strong_count() > 0);
        inner.live.push(weak);
        Ok(client)
    }

    /// Grows when clients are to be made anew.
    pub(super) fn remade(&self) -> u64 {
        self.remade.load(Ordering::Acquire)
    }

    /// The file that the token for OAUTHBEARER is in, if it comes from one.
    pub(super) fn token_path(&self) -> Option<PathBuf> {
        token_path_of(&lock(&self.inner).config)
    }

    /// Why there is no token for OAUTHBEARER, where they come from a file. What librdkafka says of it is one complaint among others.
    pub(super) fn token_trouble(&self) -> Option<String> {
        lock(&self.inner).token.as_ref()?.as_ref().err().cloned()
    }

    /// Gives a token, or the reason why there is none, to all clients that are there and to those that are made from now on.
    pub(super) fn give_token(&self, token: &TokenNow) {
        let clients: Vec<Arc<dyn Live>> = {
            let mut inner = lock(&self.inner);
            inner.token = Some(token.clone());
            inner.live.iter().filter_map(Weak::upgrade).inspect(|client| give(client.native(), token)).collect()
        };
        if !clients.is_empty() {
            close(clients);
        }
    }

    /// Takes what may change while clients live of newer properties: credentials, certificates and keys.
    pub(super) fn take(&self, newer: &Properties) {
        let mut clients = Vec::new();
        {
            let mut inner = lock(&self.inner);
            let inner = &mut *inner;
            let properties = inner.properties.with_live_of(newer);
            let changed: Vec<&str> = properties.changed_from(&inner.properties);
            if changed.is_empty() {
                return;
            }
            for name in changed.iter().filter(|name| is_live(name)) {
                match properties.get(name) {
                    Some(value) => inner.config.set(*name, value),
                    None => inner.config.remove(name),
                };
            }
            if changed.iter().any(|name| is_credential(name))
                && let (Some(user), Some(password)) = (properties.get("sasl.username"), properties.get("sasl.password"))
            {
                clients.extend(inner.live.iter().filter_map(Weak::upgrade));
                for client in &clients {
                    if let Err(error) = raw::set_credentials(client.native(), user, password) {
                        tracing::error!(error, "a Kafka client does not take other credentials");
                    }
                }
            }
            if changed.iter().any(|name| !is_credential(name)) {
                self.remade.fetch_add(1, Ordering::Release);
            }
            inner.properties = properties;
        }
        // Whoever drops a client last closes it, which can take long, or hang.
        close(clients);
    }
}

fn give(client: *mut bindings::rd_kafka_t, token: &TokenNow) {
    let given = token.as_ref().map_err(String::clone);
    let given = given.and_then(|token| raw::set_token(client, token.text(), token.end_ms(unix_ms()), token.principal()));
    if let Err(why) = given {
        // It is told to whoever asks the client why it does not connect; the log has the same from who reads the file.
        raw::set_token_failure(client, &why);
    }
}

/// The client of one thread.
pub(super) struct Client<C: Send + Sync + 'static> {
    clients: Arc<Clients>,
    remade: u64,
    client: Arc<C>,
    adjust: fn(&mut ClientConfig),
}

impl<C: Live + FromClientConfigAndContext<QuietContext> + 'static> Client<C> {
    /// # Errors
    /// librdkafka's word when it does not take the configuration.
    pub(super) fn new(clients: Arc<Clients>, adjust: fn(&mut ClientConfig)) -> Result<Client<C>, KafkaError> {
        let remade = clients.remade();
        Ok(Client { client: clients.make(QuietContext, adjust, |_| {})?, clients, remade, adjust })
    }

    /// The client as it is to be now.
    pub(super) fn now(&mut self) -> &C {
        if self.remade != self.clients.remade() {
            self.remade = self.clients.remade();
            match self.clients.make(QuietContext, self.adjust, |_| {}) {
                Ok(client) => close(std::mem::replace(&mut self.client, client)),
                Err(error) => tracing::error!(%error, "another client cannot be made: the one before stays"),
            }
        }
        &self.client
    }
}

/// Drops a client, or several, on a thread of its own. The process does not wait for it either.
pub(super) fn close<C: Send + 'static>(client: C) {
    let closed = thread::Builder::new().name("close".to_owned()).spawn(move || drop(client));
    if let Err(error) = closed {
        tracing::debug!(%error, "a client is closed on the thread that used it");
    }
}
