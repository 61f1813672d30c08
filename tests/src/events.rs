//! Reading `--progress=rawjson`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::kiln::Output;

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was in the cache.
    Cached,
    /// It is a source, and was transferred.
    Fetched,
    /// It is a directory of this machine.
    InPlace,
    /// It ran.
    Ran,
    /// It failed.
    Failed,
    /// It was stopped.
    Cancelled,
    /// It was never begun.
    NotReached,
}

/// One step of a build.
#[derive(Clone, Debug, Default)]
pub struct Step {
    /// As shown: `[2/4] RUN make`.
    pub name: String,
    /// `None` if it has not ended.
    pub outcome: Option<Outcome>,
    /// What it wrote.
    pub log: String,
    /// Its cache key.
    pub key: Option<String>,
    /// Why it ran or did not, in one word.
    pub reason: String,
    /// In what it differs from an earlier run.
    pub changes: Vec<String>,
}

/// What became of cache mounts that hosts share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SharedMounts {
    /// Those that were brought in.
    pub brought: u64,
    /// Those that were sent.
    pub sent: u64,
    /// Bytes that were sent for them.
    pub bytes: u64,
    /// Those that were there as they are.
    pub there: u64,
    /// Those that could not be sent.
    pub failed: u64,
}

/// A build's events.
#[derive(Clone, Debug, Default)]
pub struct Built {
    /// By number.
    pub steps: BTreeMap<u64, Step>,
    /// Texts of warnings.
    pub warnings: Vec<String>,
    /// The image's id, if one was made.
    pub image: String,
    /// Steps that were cached, and those that ran.
    pub counts: (u64, u64),
    /// Names of steps that the target does not need.
    pub skipped: Vec<String>,
    /// Results that were sent to remote caches, and those that were there.
    pub shared: Option<(u64, u64)>,
    /// Bytes of results that were sent to them.
    pub sent_bytes: u64,
    /// What became of shared cache mounts.
    pub mounts: Option<SharedMounts>,
    /// How long the build took.
    pub wall: Duration,
    /// Messages, and lines of stderr that are no events.
    pub other: String,
}

impl Built {
    /// Reads the events on stderr.
    #[must_use]
    pub fn of(output: &Output) -> Self {
        let mut built = Self {
            wall: output.wall,
            ..Self::default()
        };
        for line in output.err.lines() {
            match serde_json::from_str::<Value>(line) {
                Ok(event) if event.is_object() => built.add(&event),
                _ => {
                    built.other.push_str(line);
                    built.other.push('\n');
                }
            }
        }
        built
    }

    fn add(&mut self, event: &Value) {
        let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
        if event["event"] == "warning" {
            self.warnings.push(text("text"));
            return;
        }
        if ["message", "diagnostic", "error"]
            .iter()
            .any(|kind| event["event"] == *kind)
        {
            self.other.push_str(&text("text"));
            self.other.push('\n');
            return;
        }
        if event["event"] == "skipped" {
            self.skipped.push(text("name"));
            return;
        }
        if event["event"] == "shared" {
            let number = |name: &str| event[name].as_u64().unwrap_or_default();
            self.shared = Some((number("sent"), number("there")));
            self.sent_bytes = number("bytes");
            return;
        }
        if event["event"] == "shared-mounts" {
            let number = |name: &str| event[name].as_u64().unwrap_or_default();
            self.mounts = Some(SharedMounts {
                brought: number("brought"),
                sent: number("sent"),
                bytes: number("bytes"),
                there: number("there"),
                failed: number("failed"),
            });
            return;
        }
        if event["event"] == "built" {
            self.image = text("image");
            self.counts = (
                event["cached"].as_u64().unwrap_or(0),
                event["ran"].as_u64().unwrap_or(0),
            );
            return;
        }
        let Some(vertex) = event["vertex"].as_u64() else {
            return;
        };
        let step = self.steps.entry(vertex).or_default();
        match event["event"].as_str() {
            Some("planned") => step.name = text("name"),
            Some("explained") => {
                step.reason = text("reason");
                let changes = event["changes"].as_array().into_iter().flatten();
                let texts = changes.filter_map(|c| c["text"].as_str());
                step.changes = texts.map(str::to_owned).collect();
            }
            Some("log") => step.log.push_str(&text("text")),
            Some("finished") => {
                step.key = event["key"].as_str().map(str::to_owned);
                step.outcome = match event["outcome"].as_str() {
                    Some("cached") => Some(Outcome::Cached),
                    Some("fetched") => Some(Outcome::Fetched),
                    Some("in-place") => Some(Outcome::InPlace),
                    Some("ran") => Some(Outcome::Ran),
                    Some("failed") => Some(Outcome::Failed),
                    Some("canceled") => Some(Outcome::Cancelled),
                    Some("not-reached") => Some(Outcome::NotReached),
                    other => panic!("unknown outcome {other:?}"),
                };
            }
            _ => {}
        }
    }

    /// Names of the instructions that ran, in the plan's order: no base images, no contexts.
    #[must_use]
    pub fn ran(&self) -> Vec<&str> {
        self.with(Outcome::Ran)
    }

    /// Names of the instructions that were cached.
    #[must_use]
    pub fn cached(&self) -> Vec<&str> {
        self.with(Outcome::Cached)
    }

    /// Names of the files from the web that were transferred.
    #[must_use]
    pub fn fetched(&self) -> Vec<&str> {
        let is_fetched = |s: &&Step| s.outcome == Some(Outcome::Fetched);
        let names = self.steps.values().filter(is_fetched);
        let names = names.map(|s| s.name.as_str());
        names.filter(|name| name.starts_with("fetch ")).collect()
    }

    fn with(&self, outcome: Outcome) -> Vec<&str> {
        let is_instruction = |name: &str| {
            ["RUN ", "COPY ", "ADD ", "WORKDIR "]
                .iter()
                .any(|word| name.contains(word))
        };
        let steps = self.steps.values().filter(|s| s.outcome == Some(outcome));
        steps
            .map(|s| s.name.as_str())
            .filter(|name| is_instruction(name))
            .collect()
    }

    /// The one step whose name contains `part`.
    #[must_use]
    pub fn step(&self, part: &str) -> &Step {
        let mut found = self.steps.values().filter(|s| s.name.contains(part));
        let Some(step) = found.next() else {
            panic!("no step `{part}` in {:#?}", self.steps)
        };
        assert!(
            found.next().is_none(),
            "more than one step `{part}` in {:#?}",
            self.steps
        );
        step
    }

    /// Lines that a build's only step printed.
    #[must_use]
    pub fn printed(&self) -> Vec<String> {
        self.log().lines().map(str::to_owned).collect()
    }

    /// All that the build says, beside its steps.
    #[must_use]
    pub fn said(&self) -> String {
        format!("{}{}", self.other, self.warnings.join("\n"))
    }

    /// What became of cache mounts that hosts share, which must have been told.
    #[must_use]
    #[track_caller]
    pub fn shared_mounts(&self) -> SharedMounts {
        self.mounts.unwrap_or_else(|| panic!("{self:?}"))
    }

    /// Everything that steps wrote.
    #[must_use]
    pub fn log(&self) -> String {
        self.steps.values().map(|s| s.log.as_str()).collect()
    }

    /// Panics unless no instruction ran.
    #[track_caller]
    pub fn assert_all_cached(&self) {
        assert!(
            self.ran().is_empty(),
            "ran again: {:?}\n{}",
            self.ran(),
            self.other
        );
        assert!(
            !self.cached().is_empty(),
            "no steps at all: {:#?}",
            self.steps
        );
    }

    /// Panics unless exactly those instructions ran whose names contain these, in this order.
    #[track_caller]
    pub fn assert_ran(&self, parts: &[&str]) {
        let ran = self.ran();
        let fits = ran.len() == parts.len() && ran.iter().zip(parts).all(|(r, p)| r.contains(p));
        assert!(
            fits,
            "expected to run: {parts:?}\nran: {ran:?}\ncached: {:?}",
            self.cached()
        );
    }
}
