//! `kiln version`.

use std::process::ExitCode;

use kiln_engine::Platform;
use serde_json::json;

use crate::errors::Failure;
use crate::template::Template;
use crate::ui;

/// Tell which kiln this is
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kiln version
  kiln version --format '{{.Version}}'")]
pub(crate) struct Args {
    /// `json`, or a template of {{.Field}}, as in Go
    #[arg(short, long, value_name = "TEMPLATE")]
    format: Option<String>,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let platform = Platform::host();
    let kernel = kiln_engine::host::system::kernel_release();
    let facts = json!({
        "Version": env!("CARGO_PKG_VERSION"),
        "Os": platform.os,
        "Arch": platform.architecture,
        "KernelVersion": kernel,
        "EventsVersion": ui::JSON_VERSION,
    });
    if let Some(template) = Template::asked(args.format.as_deref())? {
        for line in template.lines(&[facts], &[])? {
            ui::data(&line);
        }
        return Ok(ExitCode::SUCCESS);
    }
    ui::data(&format!("kiln {}", env!("CARGO_PKG_VERSION")));
    ui::data(&format!(" OS/Arch:  {platform}"));
    ui::data(&format!(" Kernel:   {kernel}"));
    ui::data(&format!(
        " Events:   version {} of rawjson",
        ui::JSON_VERSION
    ));
    Ok(ExitCode::SUCCESS)
}
