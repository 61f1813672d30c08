//! Containers in the foreground.

mod run;
