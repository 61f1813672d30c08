//! What builds are made from: contexts, files of the web, repositories.

mod bases;
mod context;
mod downloads;
mod odd_places;
mod oracle;
mod writers;
