//! Images from registries.

use std::sync::Arc;
use std::time::Instant;

use kiln_executor::BuildInputs;
use kiln_executor::source::{Pulled, image_reference};
use kiln_image::{Platform, Reference};
use kiln_solver::Watch;
use kiln_solver::event::{Event as StepEvent, Outcome, WarningCode};
use kiln_solver::explain::Found;
use kiln_solver::plan::VertexId;
use kiln_solver::ports::ResolvedImage;
use tokio_util::sync::CancellationToken;

use super::Images;
use crate::error::{Error, Hint, Result};
use crate::event::{Event, Events};

/// When an image is looked up in its registry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PullPolicy {
    /// Always.
    Always,
    /// If it is not here.
    #[default]
    Missing,
    /// Never.
    Never,
}

/// The name of an image as somebody has written it.
///
/// # Errors
/// It is not one.
pub fn image_name(text: &str) -> Result<Reference> {
    image_reference(text).map_err(|error| Error::Request {
        hint: error.hint().map(Hint::Build),
        message: error.to_string(),
    })
}

impl Images<'_> {
    /// Pulls an image with all its layers. Progress is that of one step.
    ///
    /// # Errors
    /// The registry does not have it, a layer cannot be had, or the token was cancelled.
    pub async fn pull(
        self,
        reference: &Reference,
        platform: &Platform,
        events: &Events,
        cancel: &CancellationToken,
    ) -> Result<Pulled> {
        let worker = self.engine.worker(BuildInputs::default(), true, events)?;
        pull(&worker, reference, platform, events, cancel).await
    }
}

/// Pulls an image and tells of it as of a step.
pub(crate) async fn pull(
    worker: &kiln_executor::Worker,
    reference: &Reference,
    platform: &Platform,
    events: &Events,
    cancel: &CancellationToken,
) -> Result<Pulled> {
    let (steps, vertex) = (events.of_steps(), VertexId::default());
    let name: Arc<str> = format!("pull {reference}").into();
    steps.send(StepEvent::Planned {
        vertex,
        name,
        lines: None,
    });
    steps.send(StepEvent::Started { vertex });
    let begun = Instant::now();
    let watch = Watch {
        events: steps.clone(),
        vertex,
        over: CancellationToken::new(),
    };
    let pulled = tokio::select! {
        pulled = worker.images().pull(reference, platform, Some(watch)) => Some(pulled),
        () = cancel.cancelled() => None,
    };
    let (outcome, error) = match &pulled {
        None => (Outcome::Cancelled, None),
        Some(Ok(pulled)) if pulled.up_to_date => (Outcome::Cached(Found::Local), None),
        Some(Ok(_)) => (Outcome::Fetched, None),
        Some(Err(e)) => (Outcome::Failed, Some(e.to_string())),
    };
    events.send(Event::Step(StepEvent::Finished {
        vertex,
        outcome,
        took: begun.elapsed(),
        error,
        key: None,
    }));
    let pulled = pulled.ok_or(Error::Cancelled)??;
    events.send(Event::Pulled {
        name: reference.clone(),
        digest: pulled.digest.clone(),
        up_to_date: pulled.up_to_date,
    });
    Ok(pulled)
}

/// The image for a container: of the store, or pulled, as `policy` says. `asked` tells that the platform was
/// asked for; otherwise an image of the store for another one is taken, with a warning.
pub(crate) async fn find_or_pull(
    worker: &kiln_executor::Worker,
    name: &str,
    (platform, asked): (&Platform, bool),
    policy: PullPolicy,
    events: &Events,
    cancel: &CancellationToken,
) -> Result<ResolvedImage> {
    if policy != PullPolicy::Always
        && let Some(image) = worker.images().find(name, platform)?
    {
        return Ok(image);
    }
    if policy != PullPolicy::Always
        && !asked
        && let Some(other) = worker.store().try_image(name)?
        && let own = other.config.platform()
        && let Some(image) = worker.images().find(name, &own)?
    {
        let text = format!("`{name}` is an image for {own}, and this is {platform}");
        events.warn(WarningCode::PlatformMismatch, text);
        return Ok(image);
    }
    if policy == PullPolicy::Never {
        let own = worker.store().find_image(name)?.config.platform();
        return Err(Error::failed(format!(
            "`{name}` is here for {own}, and not for {platform}"
        )));
    }
    let reference = image_name(name)?;
    if policy == PullPolicy::Missing {
        events.send(Event::NotFoundHere(reference.clone()));
    }
    let pulled = pull(worker, &reference, platform, events, cancel).await?;
    Ok(pulled.for_platform(platform, &events.of_steps()))
}
