//! The store: many at once, kills, faults, damage.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

mod concurrency;
mod crash;
mod database;
mod faults;
mod kills;
mod soak;
mod upkeep;
