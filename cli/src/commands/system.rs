//! `kiln system`, and `kiln system df`.

use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::Subcommand;
use kiln_engine::{DiskUsage, GcPolicy, Held, Item, UsageRow};
use serde_json::{Value, json};

use super::prune_images;
use crate::app::App;
use crate::errors::Failure;
use crate::printable::row;
use crate::template::{Template, align};
use crate::ui;
use crate::units::{ago, size};

/// Tell about the store, and clear it up
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: SystemCommand,
}

#[derive(Debug, Subcommand)]
enum SystemCommand {
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

fn value(row: &UsageRow) -> Value {
    let share = (row.reclaimable * 100).checked_div(row.bytes);
    let share = share.map_or(String::new(), |percent| format!(" ({percent}%)"));
    json!({
        "Type": row.name,
        "TotalCount": row.total.to_string(),
        "Active": row.active.to_string(),
        "Size": size(row.bytes),
        "Reclaimable": format!("{}{share}", size(row.reclaimable)),
    })
}

/// Runs the command.
pub(crate) fn run(app: &App, args: &Args) -> Result<ExitCode, Failure> {
    match &args.command {
        SystemCommand::Df(args) => df(app, args),
        SystemCommand::Prune(args) => prune_images::run_system(app, args),
    }
}

fn df(app: &App, args: &Df) -> Result<ExitCode, Failure> {
    let usage = app.engine.system().disk_usage()?;
    if args.verbose {
        let values: Vec<Value> = usage.items.iter().map(describe).collect();
        let columns = ["Type", "ID", "Size", "LastUsed", "Held", "Description"];
        return show(
            args,
            &values,
            &columns,
            "TYPE\tID\tSIZE\tLAST USED\tHELD BY\tDESCRIPTION",
        );
    }
    let values: Vec<Value> = usage.rows.iter().map(value).collect();
    let columns = ["Type", "TotalCount", "Active", "Size", "Reclaimable"];
    let shown = show(
        args,
        &values,
        &columns,
        "TYPE\tTOTAL\tACTIVE\tSIZE\tRECLAIMABLE",
    )?;
    if args.format.is_none() {
        tell_of_disk(&usage, &app.settings.engine.gc);
    }
    Ok(shown)
}

/// What is free, and what the settings make of that.
fn tell_of_disk(usage: &DiskUsage, gc: &GcPolicy) {
    let Some((free, disk)) = usage.disk else {
        return;
    };
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
