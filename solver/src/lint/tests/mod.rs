//! Dockerfiles in, findings out. What BuildKit's rules are expected to find was taken from Docker.

mod from;
mod options;
mod own;
mod stage;
mod text;
mod variables;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kiln_image::{ImageConfig, Platform};
use kiln_parser::{Ignore, LineIndex, Parsed};

use super::*;
use crate::lower::{NamedContext, NoCache, Request, lower};
use crate::plan::{ImageName, Network, SourceKind};
use crate::ports::{PortError, ResolvedImage, Resolver};

/// A Dockerfile; what it is checked with: `target=…`, `platform=…`, and build arguments; and the
/// findings as `Rule LINE` or `Rule FIRST-LAST`.
type Case = (&'static str, &'static str, &'static str);

/// Knows every image of a valid name; all are for linux/amd64.
struct Images;

impl Resolver for Images {
    async fn resolve(&self, name: &str, _: &Platform) -> Result<ResolvedImage, PortError> {
        let reference = kiln_image::Reference::parse(name);
        let reference = reference.map_err(|e| PortError::new(e.to_string()))?;
        let mut config = ImageConfig::for_platform(&"linux/amd64".parse().unwrap());
        config.config.env = vec!["PATH=/bin".into()];
        Ok(ResolvedImage {
            name: ImageName::Registry(reference),
            id: kiln_image::Digest::of(name.as_bytes()),
            config,
        })
    }

    async fn changed(&self, _: &SourceKind) -> Result<Option<u64>, PortError> {
        Ok(None)
    }
}

/// A context in memory.
#[derive(Debug)]
pub(super) struct Fake {
    ignore: Ignore,
    files: BTreeMap<&'static str, &'static str>,
}

impl Fake {
    pub(super) fn context(
        ignore: &str,
        files: &[(&'static str, &'static str)],
    ) -> Arc<dyn ContextFiles> {
        Arc::new(Self {
            ignore: Ignore::parse(ignore).unwrap(),
            files: files.iter().copied().collect(),
        })
    }
}

impl ContextFiles for Fake {
    fn leaves_out(&self, path: &str) -> bool {
        self.ignore.verdict(path).excluded && !self.ignore.may_reinclude_below(path)
    }

    fn read(&self, path: &str) -> Option<String> {
        self.files.get(path).map(ToString::to_string)
    }

    fn names(&self) -> Vec<String> {
        let tops = self.files.keys().filter_map(|path| path.split('/').next());
        let tops: BTreeSet<&str> = tops.collect();
        tops.iter().map(ToString::to_string).collect()
    }
}

/// Checks a file; gives the findings, and the message if it cannot be built.
pub(super) fn check(
    text: &str,
    setup: &str,
    options: Option<&str>,
    context: Option<Arc<dyn ContextFiles>>,
) -> (Vec<Finding>, Option<String>) {
    let parsed: Parsed = kiln_parser::parse(text);
    let directive = parsed.dockerfile.directives.check.as_ref();
    let options = options.or(directive.map(|d| d.value.as_str()));
    let options = match CheckOptions::parse(options.unwrap_or_default()) {
        Ok(options) => options,
        Err(error) => return (Vec::new(), Some(error.to_string())),
    };
    let findings = Findings::new(options, context);
    check_text(&parsed, &findings);
    let errors = parsed.diagnostics.iter();
    let mut errors = errors.filter(|d| d.severity == kiln_parser::Severity::Error);
    if let Some(error) = errors.next() {
        return (findings.sorted(), Some(error.message.clone()));
    }
    let platform: Platform = "linux/amd64".parse().unwrap();
    let mut request = Request {
        dockerfile: &parsed.dockerfile,
        source: text,
        target: None,
        every_stage: false,
        without_images: false,
        build_args: BTreeMap::new(),
        labels: BTreeMap::new(),
        platform: platform.clone(),
        platform_given: false,
        build_platform: platform,
        contexts: BTreeMap::new(),
        context: SourceKind::Context {
            name: "context".into(),
        },
        no_cache: NoCache::default(),
        project: String::new(),
        network: Network::Default,
        extra_hosts: vec![],
        ulimits: vec![],
        shm_size: None,
        allow_insecure: false,
        policy: Default::default(),
    };
    for (name, value) in setup.split_whitespace().filter_map(|s| s.split_once('=')) {
        match name {
            "target" => request.target = Some(value.into()),
            "platform" => request.platform = value.parse().unwrap(),
            "context" => {
                let given = NamedContext::Image(value.into());
                request.contexts.insert(value.into(), given);
            }
            name => drop(request.build_args.insert(name.into(), value.into())),
        }
    }
    request.every_stage = request.target.is_none();
    let lowered = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(lower(&request, &Images, &findings));
    (findings.sorted(), lowered.err().map(|e| e.message))
}

/// Findings as a case writes them.
pub(super) fn shown(text: &str, findings: &[Finding]) -> String {
    let index = LineIndex::new(text);
    let mut lines: Vec<(usize, &str, usize)> = findings
        .iter()
        .map(|f| {
            let last = f.about.end.max(f.about.start + 1) - 1;
            (index.line(f.about.start), f.rule.name(), index.line(last))
        })
        .collect();
    lines.sort_unstable();
    let one = |(first, rule, last): &(usize, &str, usize)| match first == last {
        true => format!("{rule} {first}"),
        false => format!("{rule} {first}-{last}"),
    };
    lines.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// Has the form of a token. It is put together here, so that no scanner takes it for a leak.
pub(super) fn token() -> String {
    format!("ghp_{}", "aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC1dE3fG5")
}

/// Checks a table.
#[track_caller]
pub(super) fn all(cases: &[Case]) {
    for (text, setup, want) in cases {
        let (findings, _) = check(text, setup, None, None);
        assert_eq!(shown(text, &findings), *want, "{text}\nwith `{setup}`");
    }
}

/// The words that carets are under.
pub(super) fn carets<'a>(text: &'a str, findings: &[Finding]) -> Vec<&'a str> {
    let carets = findings.iter().map(|f| f.caret);
    carets.map(|c| &text[c.start..c.end]).collect()
}

#[test]
fn carets_are_under_the_words_in_question() {
    for (text, want) in [
        ("FROM busybox AS Build\n", &["Build"][..]),
        ("FROM busybox as b\n", &["as"]),
        ("FROM busybox\nrun x\nRUN y\n", &["run"]),
        ("FROM busybox\nENV A=1 B=x$c\n", &["$c"]),
        ("FROM busybox${T:-}\n", &["${T:-}"]),
        ("FROM busybox\nCMD a b\n", &["a b"]),
        ("FROM busybox\nEXPOSE 80 90:90\n", &["90:90"]),
        ("FROM busybox\nENV A b\n", &["A b"]),
        ("FROM busybox\nARG X=1 API_KEY=2\n", &["API_KEY"]),
        ("FROM --platform=linux/amd64 busybox\n", &["linux/amd64"]),
        // In a trigger, the whole instruction that fires it.
        (
            "FROM busybox AS a\nONBUILD ENV A=$b\nFROM a AS c\n",
            &["FROM a AS c"],
        ),
        // Inside a continued word, all of it.
        ("FROM busybox\nENV A=\"x \\\n$c\"\n", &["\"x \\\n$c\""]),
    ] {
        let (findings, _) = check(text, "", None, None);
        assert_eq!(carets(text, &findings), want, "{text}");
    }
    let blank = "FROM busybox\nRUN a \\\n\n b\n";
    let (findings, _) = check(blank, "", None, None);
    assert_eq!(LineIndex::new(blank).line(findings[0].caret.start), 3);
}

#[test]
fn details_name_the_facts() {
    for (text, want) in [
        (
            "FROM busybox\nARG version=1\nENV A=$verison\n",
            "variable `$verison` is not set here; did you mean `$version`?",
        ),
        (
            "ARG TAGG=latest\nFROM busybox${TAG}\n",
            "argument `TAG` is not declared before the first `FROM`; did you mean `TAGG`?",
        ),
        (
            "FROM busybox\nENV GITHUB_TOKEN=x\n",
            "ENV `GITHUB_TOKEN` looks like a secret; use `RUN --mount=type=secret` instead",
        ),
        (
            "FROM busybox\nARG D=x\nWORKDIR $D/a\n",
            "relative path `x/a` depends on the working directory of the base image",
        ),
    ] {
        let (findings, _) = check(text, "", None, None);
        let details: Vec<&str> = findings.iter().map(|f| f.detail.as_str()).collect();
        assert_eq!(details, [want], "{text}");
    }
}

#[test]
fn findings_beyond_a_thousand_are_counted() {
    let findings = Findings::default();
    for n in 0..1500 {
        let at = At {
            about: Span::new(n, n + 1),
            caret: Span::new(n, n + 1),
        };
        for _ in 0..2 {
            findings.report(Rule::UndefinedVar, at, "x".repeat(10_000));
        }
    }
    let found = findings.sorted();
    assert_eq!(found.len(), 1000);
    assert!(found.iter().all(|f| f.detail.len() < 5000));
    assert!(findings.beyond() >= 500);
    assert_eq!(findings.broken(), [Rule::UndefinedVar]);
}
