//! When to try again, and after how long.

use std::hash::{BuildHasher, Hasher};
use std::time::{Duration, SystemTime};

use reqwest::Response;
use reqwest::header::RETRY_AFTER;

use crate::config::RetryPolicy;

/// Counts tries and waits between them.
pub(crate) struct Backoff {
    policy: RetryPolicy,
    tries: u32,
}

impl Backoff {
    pub(crate) const fn new(policy: RetryPolicy) -> Self {
        Self { policy, tries: 1 }
    }

    /// Forgets earlier tries, after progress.
    pub(crate) const fn reset(&mut self) {
        self.tries = 1;
    }

    /// Waits before the next try; `false` when there is none, also because the server asks for
    /// more patience than there is.
    pub(crate) async fn wait(&mut self, asked: Option<Duration>) -> bool {
        let longest = self.policy.longest;
        if self.tries >= self.policy.tries || asked.is_some_and(|asked| asked > longest) {
            return false;
        }
        let factor = 3u32.saturating_pow(self.tries - 1);
        let pause = self.policy.pause.saturating_mul(factor).min(longest);
        // Up to half as much again, so that many clients do not come back at once.
        let jitter = pause.mul_f64(f64::from(random_u16()) / f64::from(u16::MAX) / 2.0);
        self.tries += 1;
        tokio::time::sleep((pause + jitter).max(asked.unwrap_or_default())).await;
        true
    }
}

/// Enough randomness for a pause: the standard library seeds its hashers randomly.
fn random_u16() -> u16 {
    let hash = std::collections::hash_map::RandomState::new()
        .build_hasher()
        .finish();
    u16::try_from(hash & 0xffff).unwrap_or(0)
}

/// How long a server asks us to wait, in seconds or until a date.
pub(crate) fn retry_after(answer: &Response) -> Option<Duration> {
    let value = answer.headers().get(RETRY_AFTER)?.to_str().ok()?;
    parse_retry_after(value, SystemTime::now())
}

fn parse_retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::DateTimeParser::new()
        .parse_timestamp(value)
        .ok()?;
    // A date that has passed means "now".
    Some(
        SystemTime::from(date)
            .duration_since(now)
            .unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::is_temporary_status;

    #[test]
    fn headers_are_understood() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777 - 30);
        for (value, seconds) in [
            ("0", Some(0)),
            (" 120 ", Some(120)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(30)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("-1", None),
            ("soon", None),
            ("", None),
        ] {
            let expected = seconds.map(Duration::from_secs);
            assert_eq!(parse_retry_after(value, now), expected, "{value}");
        }
    }

    #[test]
    fn statuses_are_told_apart() {
        for status in [408, 429, 499, 500, 502, 503, 504, 522] {
            assert!(is_temporary_status(status), "{status}");
        }
        for status in [200, 206, 301, 400, 401, 403, 404, 416, 501] {
            assert!(!is_temporary_status(status), "{status}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_and_end() {
        let policy = RetryPolicy {
            tries: 3,
            pause: Duration::from_secs(1),
            longest: Duration::from_secs(10),
        };
        let start = tokio::time::Instant::now();
        let mut backoff = Backoff::new(policy);
        assert!(backoff.wait(None).await);
        let first = start.elapsed();
        assert!(first >= Duration::from_secs(1) && first <= Duration::from_millis(1501));
        assert!(backoff.wait(Some(Duration::from_secs(7))).await);
        assert!(start.elapsed() - first >= Duration::from_secs(7));
        assert!(!backoff.wait(None).await);
        assert!(
            !Backoff::new(policy)
                .wait(Some(Duration::from_secs(11)))
                .await
        );
    }
}
