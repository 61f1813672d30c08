//! Sources whose files come when a step needs them, and what is known of that.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchState {
    /// Parts that are not here yet.
    pub left: usize,
    /// When the first transfer began; none if nothing was transferred.
    pub began: Option<Instant>,
    /// When the last part came.
    ended: Option<Instant>,
}

impl FetchState {
    /// From the first transfer until everything was here, or until now.
    pub fn took(&self) -> Duration {
        let Some(began) = self.began else {
            return Duration::ZERO;
        };
        let ended = self.ended.unwrap_or_else(Instant::now);
        ended.saturating_duration_since(began)
    }
}

/// The side that brings the parts.
#[derive(Clone, Debug)]
pub struct FetchReporter(Arc<watch::Sender<FetchState>>);

impl FetchReporter {
    /// A transfer begins.
    pub fn transfer(&self) {
        self.0.send_modify(|state| {
            state.began.get_or_insert_with(Instant::now);
        });
    }

    /// One more part is here, transferred or not.
    pub fn part(&self) {
        self.0.send_modify(|state| {
            state.left = state.left.saturating_sub(1);
            if state.left == 0 {
                state.ended.get_or_insert_with(Instant::now);
            }
        });
    }
}

/// The side that waits.
#[derive(Clone, Debug)]
pub struct FetchProgress(watch::Receiver<FetchState>);

impl FetchProgress {
    /// A source of so many parts, of which none is here.
    pub fn of(parts: usize) -> (FetchReporter, Self) {
        let (to, from) = watch::channel(FetchState {
            left: parts,
            began: None,
            ended: None,
        });
        (FetchReporter(Arc::new(to)), Self(from))
    }

    /// What is known by now.
    pub fn now(&self) -> FetchState {
        *self.0.borrow()
    }

    /// Waits until everything is here, which may be for ever.
    pub async fn complete(&self) {
        let mut from = self.0.clone();
        if from.wait_for(|state| state.left == 0).await.is_err() {
            // Nobody is left who could bring the rest.
            std::future::pending::<()>().await;
        }
    }
}
