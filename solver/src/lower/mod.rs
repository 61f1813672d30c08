//! Lowers a Dockerfile to a plan: the only place that knows what its instructions mean.
//!
//! First the stages that the target reaches are found, then the configs of their base images are
//! resolved together, then each stage is lowered in order: instructions that change files become
//! vertices, all others fold into the image config.

mod args;
mod base;
mod budget;
mod epoch;
mod error;
mod flags;
mod meta;
mod no_cache;
mod outline;
mod ports;
mod run;
mod stage;
mod stages;
mod state;
mod targets;
#[cfg(test)]
mod tests;
mod transfer;
mod variables;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kiln_image::{Digest, ImageConfig, Platform};
use kiln_parser::{Dockerfile, LineIndex, Span};

use budget::Budget;

pub use args::PROXY_ARGS;
pub use error::{LowerError, LowerWarning};
pub use kiln_parser::nearest;
pub use no_cache::{NoCache, StepChoice};
pub use outline::{Outline, OutlineArg, OutlineMount};
pub use targets::{Target, targets};

use crate::lint::{Findings, check_layers, check_order_of_copies};
use crate::plan::{ImageName, Lines, Network, Plan, SourceKind, Ulimit, VertexId};
use crate::policy::Policy;
use crate::ports::{PortError, ResolvedImage, Resolver};

/// A context by name: `--build-context`.
#[derive(Clone, Debug)]
pub enum NamedContext {
    /// An image: anything that the resolver takes.
    Image(String),
    /// A tree that the worker knows by the context's name, or that it fetches.
    Source(SourceKind),
}

/// What to build, in terms of the Dockerfile.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The syntax tree.
    pub dockerfile: &'a Dockerfile,
    /// The text that it was parsed from.
    pub source: &'a str,
    /// Name or number of the stage to build; none is the last.
    pub target: Option<String>,
    /// Lower also stages that the target does not need, so that they are checked.
    pub every_stage: bool,
    /// Go on where a base image cannot be had, as far as nothing depends on it: for checks.
    pub without_images: bool,
    /// `--build-arg`.
    pub build_args: BTreeMap<String, String>,
    /// `--label`, which come after those of the Dockerfile.
    pub labels: BTreeMap<String, String>,
    /// Platform of the result.
    pub platform: Platform,
    /// The platform was asked for: the result is for it, whatever its base is for.
    pub platform_given: bool,
    /// Platform of this machine.
    pub build_platform: Platform,
    /// Contexts by name, the main one not among them.
    pub contexts: BTreeMap<String, NamedContext>,
    /// The main context.
    pub context: SourceKind,
    /// Which steps ignore the cache.
    pub no_cache: NoCache,
    /// Names this text among all that are built on this machine, so that explanations find
    /// earlier runs of its steps; empty if it has no name.
    pub project: String,
    /// Network of steps that do not say.
    pub network: Network,
    /// `--add-host`.
    pub extra_hosts: Vec<(String, String)>,
    /// `--ulimit`.
    pub ulimits: Vec<Ulimit>,
    /// `--shm-size` in bytes.
    pub shm_size: Option<u64>,
    /// `--allow security.insecure` was given.
    pub allow_insecure: bool,
    /// Which sources may be used.
    pub policy: Policy,
}

/// One line of the history to come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryLine {
    /// The instruction, as BuildKit writes it.
    pub created_by: String,
    /// Whether no layer belongs to it.
    pub empty: bool,
}

/// A plan and what its result becomes.
#[derive(Clone, Debug)]
pub struct Lowered {
    /// The ops.
    pub plan: Plan,
    /// The vertex of the result; none is an empty file system.
    pub target: Option<VertexId>,
    /// The config, without layers and without the history that this build adds.
    pub config: ImageConfig,
    /// The base image, if there is one.
    pub base: Option<ResolvedImage>,
    /// The history that this build adds.
    pub history: Vec<HistoryLine>,
    /// The instructions of the layers that this build adds, in their order.
    pub layers: Vec<Span>,
    /// What can be given to the target.
    pub outline: Outline,
    /// Steps of stages that the target does not need: their lines for progress, and places.
    pub skipped: Vec<(String, Lines)>,
    /// What a person should know.
    pub warnings: Vec<LowerWarning>,
    /// `SOURCE_DATE_EPOCH` in seconds.
    pub epoch: Option<u64>,
    /// Why images could not be had, where lowering went on without them.
    pub without: Vec<LowerError>,
}

/// Lowers `request`. Checks that need what is known meanwhile report to `findings`, also when
/// lowering fails later.
///
/// # Errors
/// The first thing in the Dockerfile that makes no sense, with its place.
pub async fn lower(
    request: &Request<'_>,
    resolver: &impl Resolver,
    findings: &Findings,
) -> Result<Lowered, LowerError> {
    let lines = LineIndex::new(request.source);
    let budget = Budget::default();
    let mut globals = args::Globals::collect(request, &request.build_args, &budget)?;
    let epoch = epoch::resolve(request, &globals, &budget, resolver).await?;
    let timeless = epoch::warning(request, epoch);
    // From here on its name stands for the number.
    let settled = epoch::settle(request, &mut globals, epoch);
    let request = settled.as_ref().unwrap_or(request);
    let mut found = stages::split(request, &globals, &budget, findings)?;
    let target = stages::target(&found, request)?;
    let mut images: BTreeMap<(String, String), Arc<ResolvedImage>> = BTreeMap::new();
    let (mut unknown, mut without) = (BTreeSet::new(), Vec::new());
    let needed = loop {
        let needed = stages::reachable(&found, target, request, &budget)?;
        // Triggers may need further stages and images.
        if stages::add_triggers(&mut found, &needed.stages, &images, request, &budget)? {
            continue;
        }
        let missing: Vec<(String, Platform)> = needed
            .images
            .iter()
            .filter(|(r, p)| !images.contains_key(&(r.clone(), p.to_string())))
            .cloned()
            .collect();
        if missing.is_empty() {
            break needed;
        }
        let resolving = missing.iter().map(|(reference, platform)| async move {
            let allowed = request.policy.image(reference);
            let allowed = allowed.map_err(|e| PortError::new(e.to_string()))?;
            resolver.resolve(&allowed, platform).await
        });
        let resolved = futures_util::future::join_all(resolving).await;
        for ((reference, platform), image) in missing.into_iter().zip(resolved) {
            let key = (reference.clone(), platform.to_string());
            let image = match image.map_err(|e| stages::unresolved(&found, &reference, e)) {
                Ok(image) => image,
                Err(error) if request.without_images => {
                    unknown.insert(key.clone());
                    without.push(error);
                    ResolvedImage {
                        // Nothing is carried out: nobody looks for the image.
                        id: Digest::of(reference.as_bytes()),
                        name: ImageName::Written(reference),
                        config: ImageConfig::for_platform(&platform),
                    }
                }
                Err(error) => return Err(error),
            };
            images.insert(key, Arc::new(image));
        }
    };
    stages::check_platforms(&found, &images, findings);
    let mut build = stage::Build::new(request, &globals, &lines, images, &budget, findings);
    build.epoch = epoch;
    build.unknown = unknown;
    build.count_uses(&found, &needed.stages, target);
    for index in 0..found.len() {
        if needed.stages.contains(&index) {
            build.stage(&found, index)?;
            check_order_of_copies(found[index].own(), findings);
        } else {
            build.skip(&found, index)?;
        }
    }
    build.check_no_cache(&found)?;
    let chain = stages::bases(&found, target);
    for index in &chain {
        check_layers(found[*index].own(), findings);
    }
    let mut lowered = build.finish(&found, &chain)?;
    lowered.without = without;
    lowered.warnings.extend(timeless);
    Ok(lowered)
}
