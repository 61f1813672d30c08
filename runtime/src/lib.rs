//! Containers: what is run of an image, and how it is told.
//!
//! [`Runtime`] runs layers of the store in a sandbox. It knows neither builds nor registries, nor the
//! terminal: streams and values are passed in.
#![forbid(unsafe_code)]

mod error;
mod foreground;

pub use error::{Error, Result};
pub use foreground::{RunRequest, Running, Runtime};
