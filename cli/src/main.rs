//! The `kiln` command.

#![allow(
    rustdoc::broken_intra_doc_links,
    reason = "doc comments of options are help texts, where brackets are no links"
)]

mod app;
mod args;
mod build_options;
mod commands;
mod completion;
mod diagnostics;
mod errors;
mod events;
mod github;
mod hints;
mod interrupt;
mod logging;
mod missing;
mod printable;
mod progress;
#[cfg(test)]
mod reference;
mod settings;
mod ssh_agent;
mod switches;
mod template;
mod ui;
mod units;
mod usage;

use std::process::ExitCode;

use clap::Parser as _;
use kiln_engine::host::{self, process};

use crate::args::Cli;
use crate::errors::Failure;

fn main() -> ExitCode {
    process::begin_with_usual_signals();
    if let Some(code) = completion::answer() {
        return code;
    }
    let words: Vec<std::ffi::OsString> = std::env::args_os().collect();
    // Before there is much in memory, which both processes would have to copy where either writes to it.
    let spawner = args::may_need_sandbox(&words).then(host::start_spawner);
    let parsed = Cli::try_parse_from(&words).or_else(|error| switches::with_values(error, &words));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(mut e) => {
            let words: Vec<String> = words
                .iter()
                .skip(1)
                .map(|word| word.to_string_lossy().into_owned())
                .collect();
            if e.kind() == clap::error::ErrorKind::MissingSubcommand {
                // As docker: without a command there is help.
                ui::data(&usage::help(&words));
                return ExitCode::SUCCESS;
            }
            if let Some(help) = usage::asked_help(&e, &words) {
                ui::data(&help);
                return ExitCode::SUCCESS;
            }
            if let Some(failure) = missing::known_elsewhere(&e, &words) {
                return failure.report();
            }
            usage::usual(&mut e, &words);
            // Help and version go to stdout and are no failure; clap knows which is which.
            let _ = e.print();
            return ExitCode::from(u8::try_from(e.exit_code()).unwrap_or(2));
        }
    };
    let failed = cli.command.failed_code();
    let done = start(cli, spawner).and_then(|code| match ui::lost_data() {
        None => Ok(code),
        Some(error) => {
            let text = format!("cannot write to standard output: {error}");
            Err(Failure::new(text))
        }
    });
    match done {
        Ok(code) => code,
        Err(failure) if failure.code == 1 => failure.with_code(failed).report(),
        Err(failure) => failure.report(),
    }
}

/// Ends the process where a library panics, as some do where no thread can be started: what waits for the
/// thread that panicked would wait for ever.
fn end_after_panic(info: &std::panic::PanicHookInfo<'_>, code: u8) {
    progress::leave_terminal();
    let why = info.payload_as_str().unwrap_or("a thread ended early");
    // Not where it was built.
    let place = |file: &str| {
        let parts: Vec<&str> = file.rsplit('/').take(4).collect();
        parts.into_iter().rev().collect::<Vec<_>>().join("/")
    };
    let at = info.location().map_or_else(String::new, |at| {
        format!(" ({}:{})", place(at.file()), at.line())
    });
    let failure = Failure::new(format!("kiln cannot go on: {why}{at}")).with_hint(
        "if threads or files cannot be had, `ulimit -a` and pids.max of the cgroup tell; else this is a \
         fault of kiln",
    );
    let _ = failure.with_code(code).report();
    process::exit_now(code.into());
}

fn start(
    cli: Cli,
    spawner: Option<kiln_engine::Result<kiln_engine::Spawner>>,
) -> Result<ExitCode, Failure> {
    cli.command.begin_progress();
    if !std::path::Path::new("/proc/self/mountinfo").exists() {
        return Err(Failure::new("there is no /proc, which kiln needs")
            .with_hint("mount -t proc proc /proc"));
    }
    // Before any thread exists: the helper that starts sandboxes is a fork of this process.
    let spawner = cli
        .command
        .needs_sandbox()
        .then(|| spawner.unwrap_or_else(host::start_spawner))
        .transpose()?;
    // From here on: the helper has its own way to end.
    let failed = cli.command.failed_code();
    std::panic::set_hook(Box::new(move |info| end_after_panic(info, failed)));
    let settings = settings::resolve(&cli.global, spawner.clone())?;
    ui::start_logging(&settings);
    // Steps side by side have many files open. What is started for them gets limits of its own.
    if let Err(error) = process::raise_open_files() {
        tracing::debug!(%error, "the usual limit of open files stays");
    }
    let app = app::App::new(settings);
    let upkeep = cli.command.needs_maintenance();
    let result = commands::run(&app, cli.command).map_err(|failure| match failure.no_space {
        true => failure.with_hint(app.full_disk_hint()),
        false => failure,
    });
    if upkeep {
        app.spawn_maintenance();
    }
    if let Some(spawner) = spawner {
        spawner.stop();
    }
    result
}
