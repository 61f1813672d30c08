//! The client against the reference registry, and against servers with faults.

mod auth;
mod faults;
mod real;

use std::time::Duration;

use kiln_registry::{Client, RegistryConfig, RetryPolicy};

/// Settings with short pauses.
fn config() -> RegistryConfig {
    let pause = Duration::from_millis(5);
    let retry = RetryPolicy {
        tries: 3,
        pause,
        longest: Duration::from_secs(2),
    };
    RegistryConfig {
        retry,
        read_timeout: Duration::from_secs(5),
        ..RegistryConfig::default()
    }
}

fn client() -> Client {
    Client::anonymous(config())
}

/// Bytes without a pattern that a fault could hide behind.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 88_172_645_463_325_252u64;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32).to_le_bytes()[0]
        })
        .collect()
}
