//! Looks at a layer ahead of the thread that writes its tar: with several threads, if it is large.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError, mpsc};

use super::load::{Batch, load};
use super::names::{Name, Names};
use crate::error::{Error, Result};

/// Batches that are looked at by the thread that writes, before others are started.
const ALONE: usize = 8;
/// Batches that may be ahead.
const AHEAD: usize = 4;
/// Most threads that look ahead. Two of them keep one busy that hashes the tar.
const THREADS: usize = 3;
/// Bytes of contents in a batch.
const SPACE: usize = 1 << 20;

/// One batch to be looked at.
struct Order {
    names: Vec<Name>,
    space: Vec<u8>,
    to: mpsc::SyncSender<Batch>,
}

/// Calls `take` with all batches, in order. Contents are hashed if that is wanted.
pub(super) fn batches(
    mut names: Names,
    hashed: bool,
    mut take: impl FnMut(&mut Batch) -> Result<()>,
) -> Result<()> {
    let mut one = |mut batch: Batch| {
        take(&mut batch)?;
        match batch.error {
            Some(error) => Err(error),
            None => Ok(batch.space),
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut alone = if threads > 1 { ALONE } else { usize::MAX };
    while alone > 0 {
        let next = names.batch()?;
        if next.is_empty() {
            return Ok(());
        }
        one(load(next, Vec::new(), hashed))?;
        alone -= 1;
    }
    let (orders, taken) = mpsc::sync_channel::<Order>(AHEAD);
    let taken = Mutex::new(taken);
    std::thread::scope(|scope| {
        for _ in 0..threads.min(THREADS) {
            scope.spawn(|| {
                while let Some(order) = next_order(&taken) {
                    // Nobody waits for it after an error.
                    let _ = order.to.send(load(order.names, order.space, hashed));
                }
            });
        }
        // The threads end when it is dropped.
        let orders = orders;
        let mut ahead = VecDeque::with_capacity(AHEAD);
        let mut spaces = Vec::new();
        let mut all = false;
        loop {
            while !all && ahead.len() < AHEAD {
                let names = names.batch()?;
                all = names.is_empty();
                if !all {
                    let (to, from) = mpsc::sync_channel(1);
                    let space = spaces.pop().unwrap_or_else(|| vec![0; SPACE]);
                    let order = Order { names, space, to };
                    orders.send(order).map_err(|_| gone())?;
                    ahead.push_back(from);
                }
            }
            let Some(first) = ahead.pop_front() else {
                return Ok(());
            };
            spaces.push(one(first.recv().map_err(|_| gone())?)?);
        }
    })
}

fn next_order(taken: &Mutex<mpsc::Receiver<Order>>) -> Option<Order> {
    let taken = taken.lock().unwrap_or_else(PoisonError::into_inner);
    taken.recv().ok()
}

/// A thread has ended before its time.
fn gone() -> Error {
    Error::io("read layer", std::io::ErrorKind::BrokenPipe.into())
}
