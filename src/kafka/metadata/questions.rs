//! The thread that answers questions: log ends for shards, settings of topics for the reader.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use rdkafka::consumer::{BaseConsumer, Consumer as _};

use super::words::Word;
use crate::handoff::{LogEndQuestion, MailboxSender, Offset, ShardId};
use crate::kafka::clients::{Client, QuietContext};
use crate::kafka::raw::{self, TopicConfig};
use crate::kafka::watch::Watch;
use crate::shard::Letter;

/// One question of a shard: its client waits for 4 s at most (`limits::HOLD_MS`), and another broker's turn may come before.
const QUESTION_TIME: Duration = Duration::from_secs(1);
/// How long the settings of topics are waited for. The broker that is asked has answered a moment ago.
const CONFIG_TIME: Duration = Duration::from_secs(1);
/// How long questions are answered with "not known" after one that had no answer.
pub(super) const QUESTION_PAUSE: Duration = Duration::from_secs(1);
/// How often the answering client's events are thrown away while nobody asks: nothing else empties its queue.
pub(super) const IDLE_TIME: Duration = Duration::from_secs(1);

/// What is asked of the second thread.
#[derive(Debug)]
pub(super) enum Question {
    LogEnd {
        shard: ShardId,
        topic: Arc<str>,
        question: LogEndQuestion,
    },
    /// The reader's own: settings of topics. Asked there, so that it waits for no answer.
    Configs {
        names: Vec<String>,
        broker: Option<i32>,
    },
    Stop,
}

pub(super) fn answer_questions(
    mut client: Client<BaseConsumer<QuietContext>>,
    asked: &Receiver<Question>,
    watch: &Watch,
    shards: &[MailboxSender<Letter>],
    words: &Sender<Word>,
) {
    // While a broker does not answer, one question in a while waits for it, and the others to it are answered at once: their clients wait too.
    let mut silent: HashMap<Option<i32>, Instant> = HashMap::new();
    loop {
        let question = match asked.recv_timeout(IDLE_TIME) {
            Ok(question) => question,
            Err(RecvTimeoutError::Timeout) => {
                while client.now().poll(Duration::ZERO).is_some() {}
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let consumer = client.now();
        let (shard, topic, question) = match question {
            Question::LogEnd { shard, topic, question } => (shard, topic, question),
            Question::Configs { names, broker } => {
                if let Some(found) = configs(consumer.client().native_ptr(), &names, broker) {
                    // The reader asks again, so there is nothing to say if it has no room.
                    let _ = words.try_send(Word::Configs { asked: names, found });
                }
                continue;
            }
            Question::Stop => return,
        };
        let leader = watch.leader(question.partition);
        let hopeless = leader.is_some_and(|leader| leader < 0) || silent.get(&leader).is_some_and(|since| since.elapsed() < QUESTION_PAUSE);
        let number = question.partition.partition as i32;
        let ask = || consumer.fetch_watermarks(&topic, number, QUESTION_TIME).ok();
        // librdkafka asks a broker that has been away by its old leader epoch, is refused, and does so again: only new metadata helps.
        let look = || consumer.fetch_metadata(None, QUESTION_TIME).ok();
        let end = if hopeless { None } else { ask().or_else(|| look().and_then(|_| ask())) };
        if end.is_some() {
            silent.remove(&leader);
        } else if !hopeless {
            silent.insert(leader, Instant::now());
        }
        // A shard that has ended needs no answer.
        let _ = shards[shard.index()].post(Letter::LogEnd { question, end: end.map(|(_, high)| Offset(high)) });
    }
}

/// The settings of topics; `None` if Kafka does not answer in time.
pub(super) fn configs<S: AsRef<str>>(
    client: *mut rdkafka::bindings::rd_kafka_t,
    names: &[S],
    broker: Option<i32>,
) -> Option<HashMap<String, TopicConfig>> {
    let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    raw::topic_configs(client, &names, broker, CONFIG_TIME).inspect_err(|error| tracing::debug!(error, "settings of topics")).ok()
}
