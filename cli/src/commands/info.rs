//! `kiln info`.

use std::process::ExitCode;

use kiln_image::Platform;
use kiln_sys::cgroup::Hierarchies;
use kiln_sys::{landlock, system};
use serde_json::{Value, json};

use crate::engine::App;
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
    let platform = Platform::host();
    let settings = &app.settings;
    let store = app.store().ok();
    let total = store
        .as_ref()
        .and_then(|store| Some(store.total().ok()? + store.own_bytes()));
    let images = store.as_ref().and_then(|store| store.images().ok());
    let ids: Option<std::collections::BTreeSet<String>> =
        images.map(|rows| rows.iter().map(|row| row.config.to_string()).collect());
    let groups = Hierarchies::detect().unwrap_or_default();
    let version = match (groups.unified.is_some(), groups.controllers.is_empty()) {
        (true, true) => "2",
        (true, false) => "1 and 2",
        (false, false) => "1",
        (false, true) => "none",
    };
    let apart = landlock::can_leave_abstract_sockets();
    let mirrors = settings.registries.mirrors.iter();
    let mirrors = mirrors.map(|(host, urls)| {
        let urls: Vec<String> = urls.iter().map(ToString::to_string).collect();
        format!("{host} by {}", urls.join(", "))
    });
    let path = |path: &Option<std::path::PathBuf>| path.as_ref().map(|p| p.display().to_string());
    let joined = |all: Vec<String>| (!all.is_empty()).then(|| all.join("; "));
    json!({
        "ServerVersion": env!("CARGO_PKG_VERSION"),
        "OSType": platform.os,
        "Architecture": platform.architecture,
        "KernelVersion": system::kernel_release(),
        "NCPU": std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        "MemTotal": system::memory_bytes().unwrap_or(0),
        "CgroupVersion": version,
        "HostAbstractSockets": if apart { "out of reach" } else { "in reach" },
        "PingGroups": system::ping_groups().map(|(first, last)| format!("{first} to {last}")),
        "Root": settings.root.display().to_string(),
        "Images": ids.map(|ids| ids.len()),
        "StoreBytes": total,
        "DiskFreeBytes": system::free_bytes(&settings.root).ok(),
        "MaxSizeBytes": settings.gc.max_size,
        "KeepFreeBytes": settings.gc.keep_free,
        "ReservedBytes": settings.gc.reserved,
        "ConfigFile": path(&settings.config_file),
        "DockerConfig": path(&settings.docker_config.clone().filter(|path| path.exists())),
        "Mirrors": joined(mirrors.collect()),
        "InsecureRegistries": joined(settings.registries.insecure.iter().cloned().collect()),
    })
}
