//! The corpus in testdata/corpus: Dockerfiles with their contexts, each in one text file, and what
//! is built from them in a form that can be compared line by line.

mod case;
mod check;
mod facts;
mod parsed;
mod tree;

pub use case::{Case, Section, all};
pub use check::check_lines;
pub use facts::Facts;
pub use parsed::parsed_form;
pub use tree::Tree;
