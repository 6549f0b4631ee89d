//! The one metadata reader: asks Kafka for topics on a timer and publishes versions of the topic map.
//!
//! Three housekeeping threads: the reader makes maps, has them acknowledged by every shard, and then says that they are active; the second answers
//! questions (log ends, settings of topics), the third looks up topics outside the map, so that a slow broker delays no map. Rules: a start is always a number; a topic with
//! another id, a truncation or an offset out of range opens a new generation; an index is never used for another name. Whatever a shard finds that
//! the map does not explain (a record where no rule puts it, a position that is not in its log) makes the next reading come at once, for only the
//! cluster itself can tell a truncated log from a topic that was made again.

mod complaints;
mod configs;
mod handle;
mod known;
mod lookups;
mod offsets;
mod partitioners;
mod questions;
mod read;
mod reader;
mod reload;
mod run;
mod standing;
mod topics;
mod words;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};
use rdkafka::error::KafkaError;

pub(super) use complaints::Complaints;
use lookups::Lookups;
use questions::answer_questions;
use reader::Reader;

use super::clients::{Client, Clients};
use super::consumer::{LogEnd, Progress};
use super::librdkafka::{adjust_for_lookups, adjust_for_reading};
use super::lock;
use super::producer::Producers;
use super::settings::KafkaOptions;
use super::watch::Watch;
use crate::handoff::MailboxSender;
use crate::shard::Letter;

pub use handle::{Counts, MetadataHandle, NodeState};
pub(super) use words::Word;

/// Words of shards that wait for the reader: a few for each partition and map at most.
const WORDS_MAX: usize = 65_536;
/// Questions of shards that wait. A shard has one open per partition or topic name; beyond this they are answered "not known".
const QUESTIONS_MAX: usize = 4_096;
/// Names that wait. What waits is asked for within a second; beyond it the answer is "not now".
const LOOKUPS_MAX: usize = 1_000;

/// Starts the reader. Call it under the housekeeping mask. `producers`: whose eyes see the topics that can be published to.
///
/// # Errors
/// librdkafka's word when it does not take the configuration.
pub(super) fn spawn(
    options: Arc<Mutex<KafkaOptions>>,
    consuming: Arc<Clients>,
    producing: Arc<Clients>,
    shards: Vec<MailboxSender<Letter>>,
    watchers: Vec<Sender<Vec<LogEnd>>>,
    progress: Vec<Receiver<Vec<Progress>>>,
    producers: Arc<Producers>,
) -> Result<MetadataHandle, KafkaError> {
    let complaints = Complaints::default();
    let remade = consuming.remade();
    let reader = consuming.make(complaints.clone(), adjust_for_reading, |_| {})?;
    let answerer = Client::new(consuming.clone(), adjust_for_reading)?;
    let (words, inbox) = bounded(WORDS_MAX);
    let (questions, asked) = bounded(QUESTIONS_MAX);
    let (lookups, looked_up) = bounded(LOOKUPS_MAX);
    let held = Arc::new(Mutex::new(Vec::new()));
    let stuck = Arc::new(Mutex::new(Vec::new()));
    let watch: Arc<Watch> = Arc::default();
    let (watching, unwatched) = bounded(0);
    let live_only = Arc::new(Mutex::new(Vec::new()));
    let embedded = lock(&options).embedded;
    let names = Lookups {
        client: Client::new(producing.clone(), adjust_for_lookups)?,
        embedded: embedded.then_some(producers.clone()),
        answers: HashMap::new(),
        asked_at: None,
        unanswered: None,
    };
    let state = Arc::new(Mutex::new(NodeState::Connecting { reason: String::new() }));
    let handle = MetadataHandle {
        words: words.clone(),
        questions: questions.clone(),
        lookups,
        state: state.clone(),
        held: held.clone(),
        stuck: stuck.clone(),
        counts: Arc::default(),
        watch: watch.clone(),
        _watching: watching,
        live_only: live_only.clone(),
        options: options.clone(),
        consuming: consuming.clone(),
        producing,
    };
    let failed = |error: std::io::Error| KafkaError::ClientCreation(error.to_string());
    let (answers, leaders) = (shards.clone(), watch.clone());
    thread::Builder::new()
        .name("kafka-answers".to_owned())
        .spawn(move || answer_questions(answerer, &asked, &leaders, &answers, &words))
        .map_err(failed)?;
    let (watching_clients, seen) = (consuming.clone(), watch.clone());
    thread::Builder::new()
        .name("kafka-watch".to_owned())
        .spawn(move || seen.run(&watching_clients, &watchers, &progress, &unwatched))
        .map_err(failed)?;
    let found = shards.clone();
    thread::Builder::new().name("kafka-topics".to_owned()).spawn(move || names.run(&looked_up, &found)).map_err(failed)?;
    thread::Builder::new()
        .name("metadata".to_owned())
        .spawn(move || {
            Reader::new(options, consuming, remade, reader, complaints, shards, state, held, stuck, watch, live_only, questions, producers)
                .run(&inbox)
        })
        .map_err(failed)?;
    Ok(handle)
}
