//! Build checks: what a Dockerfile may say, and probably should not.
//!
//! The rules are BuildKit's, by their names, and a few of kiln's own, whose names begin with `Kiln`.
//! What the text alone tells is checked by [`check_text`]; rules that need values of variables,
//! stages or base images are asked by `lower`, at the place where it knows the facts. All report to
//! one [`Findings`].

mod casing;
mod copy_order;
pub(crate) mod expose;
pub(crate) mod files;
pub(crate) mod from;
mod layers;
mod names;
mod options;
mod quotes;
mod rules;
mod secrets;
pub(crate) mod seen;
mod shell;
#[cfg(test)]
mod tests;
mod text;
pub(crate) mod variables;

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kiln_parser::Span;

pub use files::ContextFiles;
pub use options::{CheckOptions, OptionsError};
pub use rules::{Class, Rule};
pub use text::{check_text, description};

pub(crate) use copy_order::check_order_of_copies;
pub(crate) use layers::check_layers;
pub(crate) use secrets::check_name;

/// Where in the text something was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct At {
    /// The whole instruction: its lines are those of the finding.
    pub(crate) about: Span,
    /// The words in question.
    pub(crate) caret: Span,
}

/// The instruction that is looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Location {
    /// The instruction; of a trigger, the one that fired it.
    pub(crate) about: Span,
    /// The instruction comes from elsewhere, so that places in its text mean nothing here.
    pub(crate) trigger: bool,
}

impl Location {
    /// Words of the instruction.
    pub(crate) fn at(self, caret: Span) -> At {
        At {
            about: self.about,
            caret: if self.trigger { self.about } else { caret },
        }
    }
}

/// What a rule has found.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Finding {
    /// The rule.
    pub rule: Rule,
    /// One lower-case sentence on this very case.
    pub detail: String,
    /// The instruction that it is about.
    pub about: Span,
    /// The words in question, for a caret.
    pub caret: Span,
    /// The words in question must not be shown.
    pub confidential: bool,
}

/// Bytes of a detail at most: it may cite a value, which may be of any length.
const MAX_DETAIL: usize = 4 << 10;

/// Findings in the order in which they came, each once.
#[derive(Debug, Default)]
struct List {
    findings: Vec<Finding>,
    known: HashSet<Finding>,
    /// How many more were found than are kept.
    beyond: usize,
    /// The rules of all.
    rules: BTreeSet<Rule>,
}

/// Findings that are kept at most; those beyond are counted.
const MAX_FINDINGS: usize = 1000;

/// Collects what rules find. Rules that are off report in vain.
#[derive(Debug, Default)]
pub struct Findings {
    options: CheckOptions,
    context: Option<Arc<dyn ContextFiles>>,
    list: Mutex<List>,
}

impl Findings {
    /// Whether the options ask that what was found stops the build.
    pub fn stop_the_build(&self) -> bool {
        self.options.error() && !self.broken().is_empty()
    }

    /// Nothing yet, under these options. Without a context, rules about its files are silent.
    #[must_use]
    pub fn new(options: CheckOptions, context: Option<Arc<dyn ContextFiles>>) -> Self {
        Self {
            options,
            context,
            list: Mutex::default(),
        }
    }

    /// The options.
    #[must_use]
    pub fn options(&self) -> &CheckOptions {
        &self.options
    }

    pub(crate) fn context(&self) -> Option<&dyn ContextFiles> {
        self.context.as_deref()
    }

    /// Adds a finding, each only once.
    pub(crate) fn report(&self, rule: Rule, at: At, detail: impl Into<String>) {
        self.add(Finding {
            rule,
            detail: shortened(detail.into(), MAX_DETAIL),
            about: at.about,
            caret: at.caret,
            confidential: false,
        });
    }

    /// Adds a finding if its rule is on.
    pub fn add(&self, finding: Finding) {
        if !self.options.reports(finding.rule) {
            return;
        }
        let mut list = self.list();
        list.rules.insert(finding.rule);
        if list.findings.len() >= MAX_FINDINGS && !list.known.contains(&finding) {
            list.beyond += 1;
        } else if list.known.insert(finding.clone()) {
            list.findings.push(finding);
        }
    }

    /// How many more were found than are kept.
    #[must_use]
    pub fn beyond(&self) -> usize {
        self.list().beyond
    }

    /// Whether what is found from now on is only counted: its details need no thought.
    pub(crate) fn is_full(&self) -> bool {
        self.list().findings.len() >= MAX_FINDINGS
    }

    fn list(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The findings that are kept, in the order of the text.
    #[must_use]
    pub fn sorted(&self) -> Vec<Finding> {
        let mut list = self.list().findings.clone();
        list.sort_by_key(|f| (f.about.start, f.caret.start, f.rule));
        list
    }

    /// Rules that were broken and that count, each once.
    #[must_use]
    pub fn broken(&self) -> Vec<Rule> {
        let list = self.list();
        let rules = list.rules.iter().copied();
        rules.filter(|rule| self.options.weighs(*rule)).collect()
    }
}

/// A text cut off behind so many bytes, and so marked.
pub(crate) fn shortened(mut text: String, bytes: usize) -> String {
    if text.len() > bytes {
        text.truncate(text.floor_char_boundary(bytes));
        text.push('…');
    }
    text
}
