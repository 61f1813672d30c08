//! Sizes and ages in words.

use std::time::SystemTime;

/// How long ago something was, as docker says it.
pub(crate) fn ago(time: SystemTime) -> String {
    let seconds = SystemTime::now()
        .duration_since(time)
        .map_or(0, |d| d.as_secs());
    let (number, unit) = match seconds {
        0..60 => return "Less than a minute ago".into(),
        60..3600 => (seconds / 60, "minute"),
        3600..86_400 => (seconds / 3600, "hour"),
        86_400..1_209_600 => (seconds / 86_400, "day"),
        1_209_600..5_184_000 => (seconds / 604_800, "week"),
        5_184_000..63_072_000 => (seconds / 2_592_000, "month"),
        _ => (seconds / 31_536_000, "year"),
    };
    if number == 1 {
        format!("1 {unit} ago")
    } else {
        format!("{number} {unit}s ago")
    }
}

/// A number of bytes as docker shows it.
pub(crate) fn size(bytes: u64) -> String {
    let (number, unit) = match bytes {
        0..1_000 => return format!("{bytes}B"),
        1_000..1_000_000 => (bytes as f64 / 1e3, "kB"),
        1_000_000..1_000_000_000 => (bytes as f64 / 1e6, "MB"),
        _ => (bytes as f64 / 1e9, "GB"),
    };
    if number >= 100.0 {
        format!("{number:.0}{unit}")
    } else {
        format!("{number:.3}")
            .chars()
            .take(4)
            .collect::<String>()
            .trim_end_matches('.')
            .to_owned()
            + unit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_ages_read_as_in_docker() {
        let cases = [
            (0, "0B"),
            (999, "999B"),
            (1_100_000, "1.10MB"),
            (123_000_000, "123MB"),
            (4_500_000_000, "4.50GB"),
        ];
        for (bytes, want) in cases {
            assert_eq!(size(bytes), want);
        }
        let hours = std::time::Duration::from_secs(3 * 3600 + 5);
        assert_eq!(ago(SystemTime::now() - hours), "3 hours ago");
    }
}
