//! `kiln inspect`.

use std::collections::BTreeMap;
use std::process::ExitCode;

use kiln_cache::{Store, StoredImage};
use kiln_image::{Digest, Manifest, Reference};
use serde_json::{Value, json};

use super::images::image_size;
use crate::engine::App;
use crate::errors::Failure;
use crate::template::Template;
use crate::ui;

/// Show all facts on images, as JSON
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kiln inspect web
  kiln inspect --format '{{.Config.Env}}' web")]
pub(crate) struct Args {
    /// `json`, or a template of {{.Field}} and json, index, join, len, lower, title and upper, as in Go
    #[arg(short, long, value_name = "TEMPLATE")]
    format: Option<String>,
    /// Images, by name or id
    #[arg(required = true)]
    images: Vec<String>,
}

/// Runs the command.
pub(crate) fn run(app: &App, args: &Args) -> Result<ExitCode, Failure> {
    let store = app.store()?;
    let template = args.format.as_deref().map(Template::parse).transpose()?;
    let mut values = Vec::new();
    let mut failed = false;
    for name in &args.images {
        match store.find_image(name) {
            Ok(image) => values.push(describe(&store, &image)?),
            Err(e) => {
                failed = true;
                Failure::from(e).report();
            }
        }
    }
    match template {
        Some(template) => {
            for value in &values {
                ui::data(&template.render(value)?);
            }
        }
        None => ui::json(serde_json::to_string_pretty(&values)?),
    }
    Ok(ExitCode::from(u8::from(failed)))
}

fn describe(store: &Store, image: &StoredImage) -> Result<Value, Failure> {
    let config = &image.config;
    let names = store.names_of(&image.row.config)?;
    let digests: Vec<String> = match &image.row.manifest {
        Some(manifest) => names
            .iter()
            .map(|n| format!("{}@{manifest}", n.familiar_name()))
            .collect(),
        None => Vec::new(),
    };
    let annotations = match &image.row.manifest {
        Some(manifest) => annotations(store, manifest),
        None => BTreeMap::new(),
    };
    let raw: Value = serde_json::from_slice(&image.raw_config)?;
    Ok(json!({
        "Id": image.row.config.to_string(),
        "RepoTags": names.iter().filter(|n| n.tag().is_some()).map(Reference::familiar).collect::<Vec<_>>(),
        "RepoDigests": digests,
        "Comment": config.history.last().and_then(|h| h.comment.clone()).unwrap_or_default(),
        "Created": config.created.map(|t| t.to_string()).unwrap_or_default(),
        "Author": config.author.clone().unwrap_or_default(),
        "Architecture": config.architecture,
        "Variant": config.variant.clone().unwrap_or_default(),
        "Os": config.os,
        "Size": image_size(store, config)?,
        "Config": raw.get("config").cloned().unwrap_or_else(|| json!({})),
        "Annotations": annotations,
        "RootFS": {
            "Type": "layers",
            "Layers": config.rootfs.diff_ids.iter().map(ToString::to_string).collect::<Vec<_>>(),
        },
    }))
}

/// What the manifest is annotated with. One that is gone or damaged has lost its annotations.
fn annotations(store: &Store, manifest: &Digest) -> BTreeMap<String, String> {
    let raw = store.read_blob(manifest).ok();
    match raw.and_then(|raw| Manifest::parse(&raw, None).ok()) {
        Some(Manifest::Image(image)) => image.value.annotations,
        Some(Manifest::Index(_)) | None => BTreeMap::new(),
    }
}
