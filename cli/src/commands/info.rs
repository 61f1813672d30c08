//! `kiln info`.

use std::process::ExitCode;

use serde_json::{Value, json};

use crate::app::App;
use crate::errors::Failure;
use crate::template::Template;
use crate::ui;
use crate::units::size;

/// Tell about this host, the store and the settings in force
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kiln info
  kiln info --format '{{.Root}}'
  kiln info --format json")]
pub(crate) struct Args {
    /// `json`, or a template of {{.Field}}, as in Go
    #[arg(short, long, value_name = "TEMPLATE")]
    format: Option<String>,
}

/// Runs the command.
pub(crate) fn run(app: &App, args: &Args) -> Result<ExitCode, Failure> {
    let facts = facts(app);
    if let Some(template) = Template::asked(args.format.as_deref())? {
        for line in template.lines(&[facts], &[])? {
            ui::data(&line);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let text = |name: &str| match &facts[name] {
        Value::String(text) => text.clone(),
        Value::Null => "none".into(),
        other => other.to_string(),
    };
    let bytes = |name: &str| match facts[name].as_u64() {
        Some(bytes) => size(bytes),
        None => "unlimited".into(),
    };
    let lines = [
        ("Version", text("ServerVersion")),
        (
            "Platform",
            format!("{}/{}", text("OSType"), text("Architecture")),
        ),
        ("Kernel", text("KernelVersion")),
        ("CPUs", text("NCPU")),
        ("Memory", bytes("MemTotal")),
        ("Cgroups", text("CgroupVersion")),
        ("Host's abstract sockets", text("HostAbstractSockets")),
        ("Groups that may ping", text("PingGroups")),
        ("Store", text("Root")),
        ("Images", text("Images")),
        ("Store size", bytes("StoreBytes")),
        ("Disk free", bytes("DiskFreeBytes")),
        ("Max size", bytes("MaxSizeBytes")),
        ("Keep free", bytes("KeepFreeBytes")),
        ("Reserved", bytes("ReservedBytes")),
        ("Config file", text("ConfigFile")),
        ("Docker config", text("DockerConfig")),
        ("Mirrors", text("Mirrors")),
        ("Insecure registries", text("InsecureRegistries")),
    ];
    for (name, value) in lines {
        ui::data(&format!("{name}: {value}"));
    }
    Ok(ExitCode::SUCCESS)
}

fn facts(app: &App) -> Value {
    let (config, info) = (&app.settings.engine, app.engine.system().info());
    let mirrors = config.registries.mirrors.iter();
    let mirrors = mirrors.map(|(host, urls)| {
        let urls: Vec<String> = urls.iter().map(ToString::to_string).collect();
        format!("{host} by {}", urls.join(", "))
    });
    let path = |path: &Option<std::path::PathBuf>| path.as_ref().map(|p| p.display().to_string());
    let joined = |all: Vec<String>| (!all.is_empty()).then(|| all.join("; "));
    let apart = info.can_leave_abstract_sockets;
    json!({
        "ServerVersion": env!("CARGO_PKG_VERSION"),
        "OSType": info.platform.os,
        "Architecture": info.platform.architecture,
        "KernelVersion": info.kernel,
        "NCPU": info.processors,
        "MemTotal": info.memory,
        "CgroupVersion": info.cgroup_version,
        "HostAbstractSockets": if apart { "out of reach" } else { "in reach" },
        "PingGroups": info.ping_groups.map(|(first, last)| format!("{first} to {last}")),
        "Root": config.root.display().to_string(),
        "Images": info.images,
        "StoreBytes": info.store_bytes,
        "DiskFreeBytes": info.disk_free,
        "MaxSizeBytes": config.gc.max_size,
        "KeepFreeBytes": config.gc.keep_free,
        "ReservedBytes": config.gc.reserved,
        "ConfigFile": path(&app.settings.config_file),
        "DockerConfig": path(&config.docker_config.clone().filter(|path| path.exists())),
        "Mirrors": joined(mirrors.collect()),
        "InsecureRegistries": joined(config.registries.insecure.iter().cloned().collect()),
    })
}
