//! Histograms of intervals in the HdrHistogram log format, which HdrHistogram's own tools read. A thread of its own compresses and writes, so that
//! nobody who measures waits for a disk. It ends with the handle.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::IntervalLogWriterBuilder;

/// Intervals that may wait for the disk; at one a second that is a minute.
const WAITING_MAX: usize = 60;
/// How long the last intervals have to be written.
const END_TIME: Duration = Duration::from_secs(10);

/// A second, or what there was of it.
pub struct Interval {
    pub histogram: Histogram<u64>,
    /// Since the log's start time.
    pub start: Duration,
    pub length: Duration,
}

/// A log that is being written.
pub struct IntervalLog {
    intervals: SyncSender<Interval>,
    end: Receiver<io::Result<()>>,
    lost: u64,
}

impl IntervalLog {
    /// Makes the file, and writes its head.
    ///
    /// # Errors
    /// It cannot be made, or the system has no thread.
    pub fn create(file: &Path, start: SystemTime, comment: &str) -> io::Result<IntervalLog> {
        let told = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", file.display()));
        let mut out = BufWriter::new(File::create(file).map_err(told)?);
        head(&mut out, start, comment).map_err(told)?;
        let (intervals, inbox) = sync_channel(WAITING_MAX);
        let (ended, end) = sync_channel(1);
        thread::Builder::new().name("interval-log".to_owned()).spawn(move || {
            // Whoever does not wait for it does not want to know.
            let _ = ended.send(write(&mut out, inbox.into_iter()));
        })?;
        Ok(IntervalLog { intervals, end, lost: 0 })
    }

    /// Takes an interval; one for which there is no room is counted, and told of at the end.
    pub fn put(&mut self, interval: Interval) {
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = self.intervals.try_send(interval) {
            self.lost += 1;
        }
    }

    /// Waits until all is written.
    ///
    /// # Errors
    /// The file's word, or that of the disk's slowness.
    pub fn end(self) -> io::Result<()> {
        drop(self.intervals);
        self.end.recv_timeout(END_TIME).map_err(|_| io::Error::other("the interval log is not written in time"))??;
        if self.lost > 0 {
            return Err(io::Error::other(format!("the interval log lost {} intervals: the disk is slow", self.lost)));
        }
        Ok(())
    }
}

/// What HdrHistogram's own writer begins a log with.
fn head(out: &mut impl Write, start: SystemTime, comment: &str) -> io::Result<()> {
    let seconds = start.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    writeln!(out, "#[Histogram log format version 1.3]")?;
    writeln!(out, "#[{}]", comment.replace('\n', " "))?;
    writeln!(out, "#[StartTime: {seconds:.3} (seconds since epoch)]")?;
    writeln!(out, "#[BaseTime: {seconds:.3} (seconds since epoch)]")?;
    writeln!(out, "\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\"")
}

fn write(out: &mut impl Write, intervals: impl Iterator<Item = Interval>) -> io::Result<()> {
    let mut serializer = V2DeflateSerializer::new();
    {
        let mut log = IntervalLogWriterBuilder::new().begin_log_with(out, &mut serializer)?;
        for interval in intervals {
            log.write_histogram(&interval.histogram, interval.start, interval.length, None)
                .map_err(|error| io::Error::other(error.to_string()))?;
        }
    }
    out.flush()
}

#[cfg(test)]
mod tests {
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    use super::*;
    use crate::kafka::load::latencies;

    #[test]
    fn a_log_is_read_back_as_it_was_written() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("run.hlog");
        let mut log = IntervalLog::create(&file, UNIX_EPOCH + Duration::from_millis(1_700_000_000_250), "a test").expect("a log");
        for second in 0..3 {
            let mut histogram = latencies();
            histogram.saturating_record_n(100 * (second + 1), 10);
            log.put(Interval { histogram, start: Duration::from_secs(second), length: Duration::from_secs(1) });
        }
        log.end().expect("it is written");
        let text = std::fs::read_to_string(&file).expect("the log");
        assert!(text.starts_with("#[Histogram log format version 1.3]\n") && text.contains("#[StartTime: 1700000000.250 "), "{text}");
        let mut read = Vec::new();
        for entry in IntervalLogIterator::new(text.as_bytes()) {
            if let LogEntry::Interval(interval) = entry.expect("an entry") {
                let bytes =
                    base64::Engine::decode(&base64::engine::general_purpose::STANDARD, interval.encoded_histogram()).expect("base64");
                let histogram: Histogram<u64> = Deserializer::new().deserialize(&mut &bytes[..]).expect("a histogram");
                read.push((interval.start_timestamp().as_secs(), interval.duration().as_secs(), histogram.len(), histogram.max()));
            }
        }
        assert_eq!(read, [(0, 1, 10, 100), (1, 1, 10, 200), (2, 1, 10, 300)]);
    }

    #[test]
    fn a_file_that_cannot_be_made_is_named() {
        let error = IntervalLog::create(Path::new("/nowhere/run.hlog"), UNIX_EPOCH, "").err().expect("no folder").to_string();
        assert!(error.starts_with("/nowhere/run.hlog: "), "{error}");
    }
}
