//! `kiln inspect`.

use std::process::ExitCode;

use kiln_engine::{ImageDetails, Reference};
use serde_json::{Value, json};

use crate::app::App;
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
    let template = args.format.as_deref().map(Template::parse).transpose()?;
    // A store that cannot be opened is said once.
    app.engine.check_store()?;
    let mut values = Vec::new();
    let mut failed = false;
    for name in &args.images {
        match app.engine.images().inspect(name) {
            Ok(image) => values.push(describe(&image)),
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

fn describe(image: &ImageDetails) -> Value {
    let (config, names) = (&image.config, &image.names);
    let digests: Vec<String> = match &image.manifest {
        Some(manifest) => names
            .iter()
            .map(|n| format!("{}@{manifest}", n.familiar_name()))
            .collect(),
        None => Vec::new(),
    };
    json!({
        "Id": image.id.to_string(),
        "RepoTags": names.iter().filter(|n| n.tag().is_some()).map(Reference::familiar).collect::<Vec<_>>(),
        "RepoDigests": digests,
        "Comment": config.history.last().and_then(|h| h.comment.clone()).unwrap_or_default(),
        "Created": config.created.map(|t| t.to_string()).unwrap_or_default(),
        "Author": config.author.clone().unwrap_or_default(),
        "Architecture": config.architecture,
        "Variant": config.variant.clone().unwrap_or_default(),
        "Os": config.os,
        "Size": image.bytes,
        "Config": image.raw_config.get("config").cloned().unwrap_or_else(|| json!({})),
        "Annotations": image.annotations,
        "RootFS": {
            "Type": "layers",
            "Layers": config.rootfs.diff_ids.iter().map(ToString::to_string).collect::<Vec<_>>(),
        },
    })
}
