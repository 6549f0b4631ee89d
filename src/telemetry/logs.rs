//! Logs: one line each, with the time as RFC 3339 in UTC, to standard error. Where that is systemd's journal, text becomes entries with fields.

use std::io::{self, Write};
use std::sync::OnceLock;

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Registry, reload};

use super::journal::journal;
use crate::config::{LogFormat, LogSettings};

type Level = reload::Handle<LevelFilter, Registry>;

/// The level, once logging has been started.
static LEVEL: OnceLock<Level> = OnceLock::new();

/// Starts logging for the whole process. A second call does nothing.
pub fn start_logs(settings: &LogSettings) {
    let (level, handle) = reload::Layer::new(LevelFilter::from_level(settings.level));
    let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(OneLine);
    let registry = tracing_subscriber::registry().with(level);
    let started = match settings.format {
        LogFormat::Text => match journal() {
            Some(entries) => registry.with(entries).try_init(),
            None => registry.with(lines).try_init(),
        },
        LogFormat::Json => registry.with(lines.json().flatten_event(true).with_current_span(false).with_span_list(false)).try_init(),
    };
    // It fails only if logging has been started before.
    if started.is_ok() {
        let _ = LEVEL.set(handle);
    }
}

/// Another level from now on.
pub fn change_log_level(level: tracing::Level) {
    if let Some(handle) = LEVEL.get() {
        // It fails only if the subscriber is gone, and with it whoever would read the log.
        let _ = handle.modify(|filter| *filter = LevelFilter::from_level(level));
    }
}

/// Writes an event as one line: line breaks within it become spaces.
struct OneLine;

impl<'w> MakeWriter<'w> for OneLine {
    type Writer = LineWriter<io::StderrLock<'static>>;

    fn make_writer(&'w self) -> Self::Writer {
        LineWriter(io::stderr().lock())
    }
}

struct LineWriter<W>(W);

impl<W: Write> Write for LineWriter<W> {
    // The subscriber writes an event in one call.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let (body, end) = match event.split_last() {
            Some((b'\n', body)) => (body, &b"\n"[..]),
            _ => (event, &b""[..]),
        };
        if body.iter().any(|byte| matches!(byte, b'\n' | b'\r')) {
            let mut line: Vec<u8> = body.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }).collect();
            line.extend_from_slice(end);
            self.0.write_all(&line)?;
        } else {
            self.0.write_all(event)?;
        }
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_whatever_it_says() {
        let mut out = Vec::new();
        LineWriter(&mut out).write_all(b"2026 INFO a\r\nforged line\n").unwrap();
        LineWriter(&mut out).write_all(b"next\n").unwrap();
        assert_eq!(out, b"2026 INFO a  forged line\nnext\n");
    }
}
