//! `kiln history`.

use std::process::ExitCode;

use serde_json::{Value, json};

use crate::app::App;
use crate::errors::Failure;
use crate::printable::row;
use crate::template::{Template, align};
use crate::ui;
use crate::units::{ago, size};

/// Show how an image was made
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kiln history web
  kiln history --no-trunc --format '{{.CreatedBy}}' web")]
pub(crate) struct Args {
    /// Print ids only
    #[arg(short, long)]
    quiet: bool,
    /// Do not shorten ids and commands
    #[arg(long)]
    no_trunc: bool,
    /// `json`, or a template of {{.Field}} and json, index, join, len, lower, title and upper, as in Go
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,
    /// Image, by name or id
    image: String,
}

/// Runs the command.
pub(crate) fn run(app: &App, args: &Args) -> Result<ExitCode, Failure> {
    let history = app.engine.images().history(&args.image)?;
    let mut values: Vec<Value> = Vec::new();
    for line in &history.lines {
        let command = line.created_by.clone();
        let shown = if args.no_trunc || command.chars().count() <= 45 {
            command
        } else {
            format!("{}…", command.chars().take(44).collect::<String>())
        };
        let at = line.created.and_then(|t| jiff::Timestamp::try_from(t).ok());
        values.push(json!({
            "ID": "<missing>", "CreatedSince": ago(line.since),
            "CreatedAt": at.map(|t| t.to_string()).unwrap_or_default(),
            "CreatedBy": shown, "Size": size(line.bytes), "Comment": line.comment,
        }));
    }
    values.reverse();
    if let Some(first) = values.first_mut() {
        let id = &history.id;
        first["ID"] = if args.no_trunc {
            id.to_string()
        } else {
            id.hex()[..12].to_owned()
        }
        .into();
    }
    print(args, &values)?;
    Ok(ExitCode::SUCCESS)
}

fn print(args: &Args, values: &[Value]) -> Result<(), Failure> {
    if let Some(template) = Template::asked(args.format.as_deref())? {
        for line in template.lines(values, &[("ID", "IMAGE"), ("CreatedSince", "CREATED")])? {
            ui::data(&line);
        }
        return Ok(());
    }
    let text = |v: &Value, name: &str| v[name].as_str().unwrap_or_default().to_owned();
    if args.quiet {
        for value in values {
            ui::data(&text(value, "ID"));
        }
        return Ok(());
    }
    let head = "IMAGE\tCREATED\tCREATED BY\tSIZE\tCOMMENT".to_owned();
    let fields = ["ID", "CreatedSince", "CreatedBy", "Size", "Comment"];
    let rows = values.iter().map(|v| {
        let cells = fields.map(|field| text(v, field));
        row(cells.iter().map(String::as_str))
    });
    for line in align(&std::iter::once(head).chain(rows).collect::<Vec<_>>()) {
        ui::data(&line);
    }
    Ok(())
}
