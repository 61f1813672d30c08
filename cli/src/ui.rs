//! Everything that is printed goes through here: data to stdout, the rest to stderr.

use std::io::Write as _;

use anstyle::{AnsiColor, Style};

use crate::args::LogLevel;
use crate::logging;
use crate::settings::Settings;

pub(crate) const RED: Style = AnsiColor::Red.on_default().bold();
pub(crate) const YELLOW: Style = AnsiColor::Yellow.on_default().bold();
const CYAN: Style = AnsiColor::Cyan.on_default().bold();

/// Prints a line of data. A reader that has gone away is no error.
pub(crate) fn data(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out
        .write_all(line.as_bytes())
        .and_then(|()| out.write_all(b"\n"));
}

/// Prints an error.
pub(crate) fn error(text: &str) {
    anstream::eprintln!("{RED}error:{RED:#} {text}");
}

/// Prints a warning.
pub(crate) fn warning(text: &str) {
    anstream::eprintln!("{YELLOW}warning:{YELLOW:#} {text}");
}

/// Prints what to do.
pub(crate) fn hint(text: &str) {
    anstream::eprintln!("{CYAN}hint:{CYAN:#} {text}");
}

/// Prints a line that is neither data nor a problem.
pub(crate) fn note(text: &str) {
    anstream::eprintln!("{text}");
}

/// Sends kiln's own log to stderr.
pub(crate) fn start_logging(settings: &Settings) {
    let level = match settings.log_level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    };
    let filter = tracing_subscriber::EnvFilter::new(format!("warn,kiln={level}"))
        .add_directive(directive(level));
    // A second subscriber in one process is impossible here; the first would stay.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .event_format(logging::Lines)
        .try_init();
}

fn directive(level: &str) -> tracing_subscriber::filter::Directive {
    let level = level.parse().unwrap_or(tracing::Level::WARN);
    tracing_subscriber::filter::LevelFilter::from_level(level).into()
}
