//! `kiln images`.

use std::collections::HashMap;
use std::process::ExitCode;

use kiln_cache::{ImageRow, Store};
use kiln_image::{Digest, ImageConfig, Reference};
use serde_json::{Value, json};

use super::image_filter::{ImageFilter, created, names_match};
use crate::engine::App;
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

/// The bytes of an image's files, as far as its layers are here.
pub(crate) fn image_size(store: &Store, config: &ImageConfig) -> Result<u64, Failure> {
    let mut sum = 0;
    for diff_id in &config.rootfs.diff_ids {
        sum += store.layer_by_diff(diff_id)?.map_or(0, |l| l.bytes);
    }
    Ok(sum)
}

/// Runs the command.
pub(crate) fn run(app: &App, args: &Args) -> Result<ExitCode, Failure> {
    let store = app.store()?;
    let filters = ImageFilter::all(&args.filter, FILTERS)?;
    let mut found = Vec::new();
    let rows = store.images()?;
    // An image may have thousands of names: what is the same for all of them is looked up once.
    let configs = store.configs_of(&rows)?;
    let mut sizes: HashMap<&Digest, u64> = HashMap::new();
    for row in &rows {
        if args
            .name
            .as_deref()
            .is_some_and(|wanted| !names_match(row, wanted))
        {
            continue;
        }
        // A row whose config is gone is no image any more.
        let Some(config) = configs.get(&row.config) else {
            continue;
        };
        if filters.iter().all(|f| f.fits(row, config)) {
            let bytes = match sizes.get(&row.config) {
                Some(bytes) => *bytes,
                None => image_size(&store, config)?,
            };
            sizes.insert(&row.config, bytes);
            let made = created(config, row);
            found.push((made, describe(args, row, config, bytes)));
        }
    }
    // The youngest first, as docker has it; those of one moment by name.
    found.sort_by(|(a, x), (b, y)| {
        let name = |v: &Value| (v["Repository"].to_string(), v["Tag"].to_string());
        b.cmp(a).then_with(|| name(x).cmp(&name(y)))
    });
    let values: Vec<Value> = found.into_iter().map(|(_, value)| value).collect();
    print(args, &values)?;
    Ok(ExitCode::SUCCESS)
}

fn describe(args: &Args, row: &ImageRow, config: &ImageConfig, bytes: u64) -> Value {
    let reference = row.name.as_ref();
    let none = || "<none>".to_owned();
    let made = created(config, row);
    let id = if args.no_trunc {
        row.config.to_string()
    } else {
        row.config.hex()[..12].to_owned()
    };
    json!({
        "Repository": reference.map_or_else(none, Reference::familiar_name),
        "Tag": reference.and_then(Reference::tag).map_or_else(none, str::to_owned),
        "Digest": row.manifest.as_ref().map_or_else(none, ToString::to_string),
        "ID": id,
        "CreatedSince": ago(made),
        "CreatedAt": jiff::Timestamp::try_from(made).map_or_else(|_| none(), |t| t.to_string()),
        "Size": size(bytes),
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
