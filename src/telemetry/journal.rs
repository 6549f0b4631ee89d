//! Events as entries of systemd's journal: the level is the priority, each field of an event a field of the entry (`topic` is `F_TOPIC`).

use std::fmt::Debug;
use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;

use tracing::field::{Field, Value, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

/// Standard error is the journal, which takes entries. systemd names the journal's stream in `JOURNAL_STREAM`; whoever
/// inherits the variable and writes elsewhere has another standard error.
pub(super) fn journal() -> Option<Journal> {
    let named = std::env::var("JOURNAL_STREAM").ok()?;
    let standard_error = File::from(io::stderr().as_fd().try_clone_to_owned().ok()?).metadata().ok()?;
    if !is_stream(&named, standard_error.dev(), standard_error.ino()) {
        return None;
    }
    let priorities = PriorityMappings {
        error: Priority::Error,
        warn: Priority::Warning,
        info: Priority::Informational,
        debug: Priority::Debug,
        trace: Priority::Debug,
    };
    Some(Journal(tracing_journald::layer().ok()?.with_priority_mappings(priorities)))
}

/// Whether `JOURNAL_STREAM` names this file: device and inode in decimal.
fn is_stream(named: &str, device: u64, inode: u64) -> bool {
    named.split_once(':').is_some_and(|(d, i)| d.parse() == Ok(device) && i.parse() == Ok(inode))
}

/// The journal's layer, which alone would leave the fields out of the message, and so out of what `journalctl` prints unasked.
pub(super) struct Journal(tracing_journald::Layer);

impl<S: Subscriber + for<'span> LookupSpan<'span>> Layer<S> for Journal {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        self.0.on_new_span(attributes, id, context);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        self.0.on_record(id, values, context);
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let fields = event.metadata().fields();
        let mut texts = Texts(vec![None; fields.len()]);
        event.record(&mut texts);
        if let Some(message) = fields.field("message") {
            texts.append_to(message.index(), fields.iter().map(|field| field.name()));
        }
        let values: Vec<Option<&dyn Value>> = texts.0.iter().map(|text| text.as_ref().map(|text| text as &dyn Value)).collect();
        self.0.on_event(&Event::new(event.metadata(), &fields.value_set_all(&values)), context);
    }
}

/// The values of an event, in the order of its fields.
struct Texts(Vec<Option<String>>);

impl Texts {
    /// Puts the other values behind the message, each with its name: as text has it.
    fn append_to(&mut self, message: usize, names: impl Iterator<Item = &'static str>) {
        let mut line = self.0[message].take().unwrap_or_default();
        for (name, text) in names.zip(&self.0) {
            // An event of the crate `log` carries where it comes from in fields.
            if let Some(text) = text
                && !name.starts_with("log.")
            {
                line.push_str(&format!(" {name}={text}"));
            }
        }
        self.0[message] = Some(line);
    }
}

impl Visit for Texts {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0[field.index()] = Some(format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0[field.index()] = Some(value.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_stream_that_systemd_names_is_the_journal() {
        assert!(is_stream("8:27011", 8, 27011));
        for other in ["8:27012", "9:27011", "8", "", ":", "8:27011:1", "8:x"] {
            assert!(!is_stream(other, 8, 27011), "{other}");
        }
    }

    #[test]
    fn the_message_has_the_fields_too() {
        let mut texts = Texts(vec![Some("the topic is gone".to_owned()), Some("vehicles".to_owned()), None, Some("3".to_owned())]);
        texts.append_to(0, ["message", "topic", "empty", "partition"].into_iter());
        assert_eq!(texts.0[0].as_deref(), Some("the topic is gone topic=vehicles partition=3"));
        assert_eq!(texts.0[1].as_deref(), Some("vehicles"));
    }
}
