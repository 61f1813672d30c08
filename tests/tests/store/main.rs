//! The store: many at once, kills, faults, damage.

mod concurrency;
mod crash;
mod database;
mod faults;
mod kills;
mod soak;
mod upkeep;
