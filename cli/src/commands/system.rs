//! `kiln system`, and `kiln system df`.

use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::Subcommand;
use kiln_cache::{Class, Held, Item, Store};
use kiln_sys::system;
use serde_json::{Value, json};

use super::prune_images;
use crate::engine::App;
use crate::errors::Failure;
use crate::printable::row;
use crate::template::{Template, align};
use crate::ui;
use crate::units::{ago, size};

/// Tell about the store, and clear it up
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Df(Df),
    Prune(prune_images::SystemArgs),
}

/// Show what takes how much room
#[derive(Debug, clap::Args)]
#[command(after_help = "\
ACTIVE is what an image or a running process holds; for images, what a running process holds.
RECLAIMABLE is what `kiln prune` frees; for images, what `kiln rmi` makes free for it. A layer that
an image holds counts with the images.

Examples:
  kiln system df
  kiln system df -v
  kiln system df --format json
  kiln system df --format '{{.Type}} {{.Reclaimable}}'")]
struct Df {
    /// List every thing
    #[arg(short, long)]
    verbose: bool,
    /// `json`, or a template of {{.Field}} and json, index, join, len, lower, title and upper, as in Go
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,
}

/// The rows, by what they are called.
const ROWS: [(&str, &[Class]); 5] = [
    ("Images", &[]),
    ("Build Cache", &[Class::Layers]),
    ("Cache Mounts", &[Class::Mounts]),
    (
        "Content",
        &[Class::Content, Class::Downloads, Class::Partial],
    ),
    ("Logs and Stat Caches", &[Class::Logs, Class::StatCaches]),
];

struct Row {
    name: &'static str,
    total: usize,
    active: usize,
    bytes: u64,
    reclaimable: u64,
}

/// Whether a thing counts with the images.
fn is_of_image(item: &Item) -> bool {
    item.of_image && matches!(item.class, Class::Layers | Class::Content)
}

fn rows(store: &Store, items: &[Item]) -> Result<Vec<Row>, Failure> {
    let mut rows = Vec::new();
    for (name, classes) in ROWS {
        let of_images = classes.is_empty();
        let own: Vec<&Item> = items
            .iter()
            .filter(|i| match of_images {
                true => is_of_image(i),
                false => classes.contains(&i.class) && !is_of_image(i),
            })
            .collect();
        let free = |i: &&&Item| match of_images {
            true => i.held != Held::Process,
            false => i.held == Held::Free,
        };
        let (mut total, mut active) = (own.len(), own.len() - own.iter().filter(free).count());
        if of_images {
            let images = store.images()?;
            let ids: std::collections::BTreeSet<&str> =
                images.iter().map(|i| i.config.as_str()).collect();
            total = ids.len();
            let used = |i: &&Item| i.held == Held::Process && ids.contains(i.name.as_str());
            active = items.iter().filter(used).count();
        }
        rows.push(Row {
            name,
            total,
            active,
            bytes: own.iter().map(|i| i.bytes).sum(),
            reclaimable: own.iter().filter(free).map(|i| i.bytes).sum(),
        });
    }
    Ok(rows)
}

impl Row {
    fn value(&self) -> Value {
        let share = (self.reclaimable * 100).checked_div(self.bytes);
        let share = share.map_or(String::new(), |percent| format!(" ({percent}%)"));
        json!({
            "Type": self.name,
            "TotalCount": self.total.to_string(),
            "Active": self.active.to_string(),
            "Size": size(self.bytes),
            "Reclaimable": format!("{}{share}", size(self.reclaimable)),
        })
    }
}

/// Runs the command.
pub(crate) fn run(app: &App, args: &Args) -> Result<ExitCode, Failure> {
    match &args.command {
        Command::Df(args) => df(app, args),
        Command::Prune(args) => prune_images::run_system(app, args),
    }
}

fn df(app: &App, args: &Df) -> Result<ExitCode, Failure> {
    let store = app.store()?;
    store.measure_mounts()?;
    let mut items = store.items()?;
    if args.verbose {
        items.sort_by(|a, b| (a.class, b.bytes, &a.name).cmp(&(b.class, a.bytes, &b.name)));
        let values: Vec<Value> = items.iter().map(describe).collect();
        let columns = ["Type", "ID", "Size", "LastUsed", "Held", "Description"];
        return show(
            args,
            &values,
            &columns,
            "TYPE\tID\tSIZE\tLAST USED\tHELD BY\tDESCRIPTION",
        );
    }
    let values: Vec<Value> = rows(&store, &items)?.iter().map(Row::value).collect();
    let columns = ["Type", "TotalCount", "Active", "Size", "Reclaimable"];
    let shown = show(
        args,
        &values,
        &columns,
        "TYPE\tTOTAL\tACTIVE\tSIZE\tRECLAIMABLE",
    )?;
    if args.format.is_none() {
        tell_of_disk(app);
    }
    Ok(shown)
}

/// What is free, and what the settings make of that.
fn tell_of_disk(app: &App) {
    let root = &app.settings.root;
    let bytes = (system::free_bytes(root), system::disk_bytes(root));
    let (Ok(free), Ok(disk)) = bytes else { return };
    let gc = &app.settings.gc;
    let most = gc.max_size.map_or("none".into(), size);
    ui::data("");
    ui::data(&format!("Disk: {} of {} free", size(free), size(disk)));
    ui::data(&format!(
        "In force: keep-free {}, reserved {}, max-size {most}",
        size(gc.keep_free.unwrap_or(0)),
        size(gc.reserved)
    ));
}

fn describe(item: &Item) -> Value {
    let used = u64::try_from(item.used).unwrap_or(0);
    let used = SystemTime::UNIX_EPOCH + Duration::from_nanos(used);
    let name = item.name.strip_prefix("sha256:").unwrap_or(&item.name);
    json!({
        "Type": item.class.as_str(),
        "ID": name.chars().take(24).collect::<String>(),
        "Size": size(item.bytes),
        "LastUsed": ago(used),
        "Held": match item.held {
            Held::Free => "",
            Held::Image => "image",
            Held::Process => "process",
        },
        "Description": item.title,
    })
}

fn show(args: &Df, values: &[Value], columns: &[&str], head: &str) -> Result<ExitCode, Failure> {
    if let Some(template) = Template::asked(args.format.as_deref())? {
        for line in template.lines(values, &[("TotalCount", "TOTAL")])? {
            ui::data(&line);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let line = |v: &Value| {
        let texts = columns.iter().map(|c| v[*c].as_str().unwrap_or_default());
        row(texts)
    };
    let lines = std::iter::once(head.to_owned()).chain(values.iter().map(line));
    for line in align(&lines.collect::<Vec<_>>()) {
        ui::data(line.trim_end());
    }
    Ok(ExitCode::SUCCESS)
}
