//! What a plan says of where its steps come from; no part of any key.

/// Where a step stands, and what a person calls its parts. No part of any key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// Names the source text among all that were ever built here; empty if that has no name.
    pub project: String,
    /// The place in the text: stage, and number of the step in it.
    pub step: String,
    /// Digest of the instruction's text.
    pub instruction: String,
}

/// Why the cache is not asked for a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Forced {
    /// For no step.
    NoCache,
    /// For no step of this stage.
    Stage(String),
    /// For this step, which was named in this way.
    Step(String),
}
