//! Sizes and times as people write them: `"64MiB"`, `"180s"`, and back.

use std::time::Duration;

const SIZES: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

const TIMES: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("min", 60_000), ("m", 60_000), ("h", 3_600_000)];

/// What a size may look like, for messages.
pub const SIZE_HELP: &str = "a whole number of bytes, or text with a unit (B, KB, MB, GB, TB, KiB, MiB, GiB, TiB)";
/// What a time may look like, for messages.
pub const TIME_HELP: &str = "seconds as a number, or text with a unit (ms, s, min, h)";

/// `"64MiB"`, `"64 MiB"`, `"1000"` in bytes.
pub fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = split(text);
    let number: u64 = number.replace('_', "").parse().ok()?;
    let scale = if unit.is_empty() { 1 } else { SIZES.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?.1 };
    number.checked_mul(scale)
}

/// `"180s"`, `"500 ms"`, `"1.5h"`; a bare number is seconds. To the millisecond.
pub fn parse_time(text: &str) -> Option<Duration> {
    let (number, unit) = split(text);
    let scale = if unit.is_empty() { 1_000 } else { TIMES.iter().find(|(name, _)| *name == unit)?.1 };
    let number: f64 = number.replace('_', "").parse().ok()?;
    from_ms(number * scale as f64)
}

/// Seconds as a number of the file.
pub fn from_seconds(seconds: f64) -> Option<Duration> {
    from_ms(seconds * 1_000.0)
}

fn from_ms(ms: f64) -> Option<Duration> {
    // 2^53: beyond it a float is not exact, and no time that long is meant.
    (ms.is_finite() && (0.0..9_007_199_254_740_992.0).contains(&ms)).then(|| Duration::from_millis(ms.round() as u64))
}

fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|character: char| !(character.is_ascii_digit() || character == '.' || character == '_')).unwrap_or(text.len());
    (&text[..end], text[end..].trim_start())
}

/// A size in its largest whole binary unit.
pub fn size_text(bytes: u64) -> String {
    for (name, scale) in &SIZES[..4] {
        if bytes >= *scale && bytes.is_multiple_of(*scale) {
            return format!("{}{name}", bytes / scale);
        }
    }
    bytes.to_string()
}

/// A time in seconds or milliseconds.
pub fn time_text(time: Duration) -> String {
    let ms = time.as_millis();
    if ms.is_multiple_of(1_000) { format!("{}s", ms / 1_000) } else { format!("{ms}ms") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_read_as_people_write_them() {
        for (text, bytes) in
            [("0", 0), ("1000", 1_000), ("64MiB", 64 << 20), ("64 MiB", 64 << 20), ("1mb", 1_000_000), ("2KiB", 2_048), ("1_000", 1_000)]
        {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        for text in ["", "MiB", "-1", "1.5MiB", "1 parsec", "99999999999TiB", "12 34"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
        for (text, ms) in
            [("180s", 180_000), ("180", 180_000), ("500ms", 500), ("1.5s", 1_500), ("3m", 180_000), ("3 min", 180_000), ("1h", 3_600_000)]
        {
            assert_eq!(parse_time(text), Some(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "s", "-1s", "1 year", "1e99", "1.2.3s", "99999999999999999999h"] {
            assert_eq!(parse_time(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_printed_is_read_back() {
        for bytes in [0, 1, 1_000, 1 << 10, 1_000_000, 256 << 20, 3 << 30] {
            assert_eq!(parse_size(&size_text(bytes)), Some(bytes));
        }
        for ms in [0, 1, 999, 1_000, 180_000, 3_600_000] {
            assert_eq!(parse_time(&time_text(Duration::from_millis(ms))), Some(Duration::from_millis(ms)));
        }
    }
}
