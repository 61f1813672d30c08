//! Sizes and ages in words.

use std::time::SystemTime;

/// How long ago something was, as docker says it.
pub(crate) fn ago(time: SystemTime) -> String {
    let age = SystemTime::now().duration_since(time).unwrap_or_default();
    let seconds = age.as_secs();
    let hours = (age.as_secs_f64() / 3600.0).round() as u64;
    let text = match seconds {
        0 => "Less than a second".into(),
        1 => "1 second".into(),
        2..60 => format!("{seconds} seconds"),
        60..120 => "About a minute".into(),
        120..3_600 => format!("{} minutes", seconds / 60),
        _ => match hours {
            0..=1 => "About an hour".into(),
            2..48 => format!("{hours} hours"),
            48..336 => format!("{} days", hours / 24),
            336..1_440 => format!("{} weeks", hours / 24 / 7),
            1_440..17_520 => format!("{} months", hours / 24 / 30),
            _ => format!("{} years", hours / 24 / 365),
        },
    };
    format!("{text} ago")
}

/// A number of bytes as docker shows it: three digits that count.
pub(crate) fn size(bytes: u64) -> String {
    let (number, unit) = match bytes {
        0..1_000 => return format!("{bytes}B"),
        // What would be 1000 of a unit when it is rounded is 1 of the next.
        1_000..999_500 => (bytes as f64 / 1e3, "kB"),
        999_500..999_500_000 => (bytes as f64 / 1e6, "MB"),
        999_500_000..999_500_000_000 => (bytes as f64 / 1e9, "GB"),
        _ => (bytes as f64 / 1e12, "TB"),
    };
    let digits = match number {
        n if n >= 99.95 => 0,
        n if n >= 9.995 => 1,
        _ => 2,
    };
    let mut text = format!("{number:.digits$}");
    if text.contains('.') {
        text.truncate(text.trim_end_matches('0').trim_end_matches('.').len());
    }
    text + unit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_ages_read_as_in_docker() {
        let cases = [
            (0, "0B"),
            (999, "999B"),
            (1_000, "1kB"),
            (1_100_000, "1.1MB"),
            (2_138_000, "2.14MB"),
            (12_582_912, "12.6MB"),
            (99_960_000, "100MB"),
            (123_000_000, "123MB"),
            (999_600_000, "1GB"),
            (4_500_000_000, "4.5GB"),
            (1_500_000_000_000, "1.5TB"),
        ];
        for (bytes, want) in cases {
            assert_eq!(size(bytes), want);
        }
        let hours = std::time::Duration::from_secs(3 * 3600 + 5);
        assert_eq!(ago(SystemTime::now() - hours), "3 hours ago");
        for (seconds, want) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (61, "About a minute"),
            (300, "5 minutes"),
            (3_700, "About an hour"),
            (6_000, "2 hours"),
            (50 * 3_600, "2 days"),
            (15 * 86_400, "2 weeks"),
            (61 * 86_400, "2 months"),
            (800 * 86_400, "2 years"),
        ] {
            let then = SystemTime::now() - std::time::Duration::from_secs(seconds);
            assert_eq!(ago(then), format!("{want} ago"));
        }
    }
}
