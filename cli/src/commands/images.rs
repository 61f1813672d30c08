//! `kiln images`.

use std::process::ExitCode;

use kiln_engine::{ImageFilter, ImageSummary, Reference};
use serde_json::{Value, json};

use super::image_filter;
use crate::app::App;
use crate::errors::Failure;
use crate::template::{Template, align};
use crate::ui;
use crate::units::{ago, size};

/// Filters of the command.
const FILTERS: &[&str] = &["dangling", "label", "label!", "reference", "until"];

/// List images
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kiln images
  kiln images 'web*'
  kiln images -q --filter dangling=true
  kiln images --format '{{.Repository}}:{{.Tag}} {{.Size}}'")]
pub(crate) struct Args {
    /// Print ids only
    #[arg(short, long)]
    quiet: bool,
    /// Show nameless images too; they are always shown
    #[arg(short, long, hide = true)]
    all: bool,
    /// Show whole ids
    #[arg(long)]
    no_trunc: bool,
    /// Show the digests that images were pulled by
    #[arg(long)]
    digests: bool,
    /// Show only some: dangling=true|false, label=NAME[=VALUE], label!=NAME[=VALUE],
    /// reference=PATTERN, until=TIME
    #[arg(short, long, value_name = "FILTER")]
    filter: Vec<String>,
    /// `json`, or a template of {{.Field}} and json, index, join, len, lower, title and upper, as in Go
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,
    /// Only images of this name; `*`, `?` and `[a-z]` stand for what they do in a shell
    #[arg(value_name = "NAME[:TAG]")]
    name: Option<String>,
}

/// Runs the command.
pub(crate) fn run(app: &App, args: &Args) -> Result<ExitCode, Failure> {
    let mut filters = image_filter::all(&args.filter, FILTERS)?;
    filters.extend(args.name.clone().map(ImageFilter::Reference));
    let found = app.engine.images().list(&filters)?;
    let values: Vec<Value> = found.iter().map(|image| describe(args, image)).collect();
    print(args, &values)?;
    Ok(ExitCode::SUCCESS)
}

fn describe(args: &Args, image: &ImageSummary) -> Value {
    let none = || "<none>".to_owned();
    let (name, made) = (image.name.as_ref(), image.created);
    let id = if args.no_trunc {
        image.id.to_string()
    } else {
        image.id.hex()[..12].to_owned()
    };
    json!({
        "Repository": name.map_or_else(none, Reference::familiar_name),
        "Tag": name.and_then(Reference::tag).map_or_else(none, str::to_owned),
        "Digest": image.manifest.as_ref().map_or_else(none, ToString::to_string),
        "ID": id,
        "CreatedSince": ago(made),
        "CreatedAt": jiff::Timestamp::try_from(made).map_or_else(|_| none(), |t| t.to_string()),
        "Size": size(image.bytes),
    })
}

fn print(args: &Args, values: &[Value]) -> Result<(), Failure> {
    if let Some(template) = Template::asked(args.format.as_deref())? {
        for line in template.lines(values, &[("ID", "IMAGE ID"), ("CreatedSince", "CREATED")])? {
            ui::data(&line);
        }
        return Ok(());
    }
    let text = |v: &Value, name: &str| v[name].as_str().unwrap_or_default().to_owned();
    if args.quiet {
        let mut seen = std::collections::BTreeSet::new();
        for value in values {
            let id = text(value, "ID");
            if seen.insert(id.clone()) {
                ui::data(&id);
            }
        }
        return Ok(());
    }
    let mut columns = vec![("REPOSITORY", "Repository"), ("TAG", "Tag")];
    if args.digests {
        columns.push(("DIGEST", "Digest"));
    }
    columns.extend([
        ("IMAGE ID", "ID"),
        ("CREATED", "CreatedSince"),
        ("SIZE", "Size"),
    ]);
    let head = columns
        .iter()
        .map(|(h, _)| (*h).to_owned())
        .collect::<Vec<_>>()
        .join("\t");
    let rows = values.iter().map(|v| {
        columns
            .iter()
            .map(|(_, f)| text(v, f))
            .collect::<Vec<_>>()
            .join("\t")
    });
    for line in align(&std::iter::once(head).chain(rows).collect::<Vec<_>>()) {
        ui::data(&line);
    }
    Ok(())
}
