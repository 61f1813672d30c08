//! Everything that is printed goes through here: data to stdout, the rest to stderr.

use std::borrow::Cow;
use std::io::Write as _;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use anstyle::{AnsiColor, Style};

use crate::args::LogLevel;
use crate::settings::Settings;
use crate::{github, logging, printable};

pub(crate) const RED: Style = AnsiColor::Red.on_default().bold();
pub(crate) const YELLOW: Style = AnsiColor::Yellow.on_default().bold();
const CYAN: Style = AnsiColor::Cyan.on_default().bold();

/// Why data is missing on stdout.
static LOST: OnceLock<std::io::Error> = OnceLock::new();

/// Text of others as it can be printed.
pub(crate) fn plain(text: &str) -> Cow<'_, str> {
    match printable::text(text) {
        Cow::Borrowed(text) => github::inert(text),
        Cow::Owned(text) => github::inert(&text).into_owned().into(),
    }
}

/// JSON as it can be printed.
fn json_text(json: String) -> String {
    let json = printable::json(json);
    match github::is_here() {
        // Such a mark is read as a workflow command wherever it stands.
        true => json.replace("##[", "##\\u005b"),
        false => json,
    }
}

/// Prints text as data: what a terminal would act on is left out. A reader that has gone away is no error.
pub(crate) fn data(text: &str) {
    out(&plain(text));
}

/// Prints JSON as data.
pub(crate) fn json(json: String) {
    out(&json_text(json));
}

/// Prints a file as data, byte for byte; on a terminal as text.
pub(crate) fn file(content: &str) {
    match std::io::IsTerminal::is_terminal(&std::io::stdout()) {
        true => data(content),
        false => out(content),
    }
}

/// Prints data that kiln has painted itself.
pub(crate) fn painted_data(text: &str) {
    out(text);
}

fn out(line: &str) {
    let mut out = std::io::stdout().lock();
    let printed = out
        .write_all(line.as_bytes())
        .and_then(|()| out.write_all(b"\n"))
        .and_then(|()| out.flush());
    if let Err(error) = printed
        && error.kind() != std::io::ErrorKind::BrokenPipe
    {
        let _ = LOST.set(error);
    }
}

/// Why some data could not be printed, if that was so.
pub(crate) fn lost_data() -> Option<&'static std::io::Error> {
    LOST.get()
}

/// Every line of stderr is a JSON object.
static JSON: AtomicBool = AtomicBool::new(false);

/// The version of what `--progress=rawjson` prints. It is raised when a field changes its meaning or
/// goes away; new fields and events may come at any time.
pub(crate) const JSON_VERSION: u32 = 1;

/// From now on every line of stderr is a JSON object; the first says which version of them.
pub(crate) fn use_json() {
    if !JSON.swap(true, Ordering::Relaxed) {
        event(serde_json::json!({
            "event": "begin", "version": JSON_VERSION, "kiln": env!("CARGO_PKG_VERSION"),
        }));
    }
}

/// Nothing is to be said that is not asked for.
static QUIET: AtomicBool = AtomicBool::new(false);

/// From now on nothing is said but errors and what was asked for.
pub(crate) fn be_quiet() {
    QUIET.store(true, Ordering::Relaxed);
}

/// Whether nothing is to be said but errors and what was asked for.
pub(crate) fn is_quiet() -> bool {
    QUIET.load(Ordering::Relaxed)
}

/// Whether every line of stderr is a JSON object.
pub(crate) fn is_json() -> bool {
    JSON.load(Ordering::Relaxed)
}

/// A line with an event, which gets the time.
pub(crate) fn event_line(mut value: serde_json::Value) -> String {
    let now = humantime::format_rfc3339_micros(SystemTime::now());
    value["time"] = now.to_string().into();
    json_text(value.to_string())
}

/// Prints an event as JSON.
pub(crate) fn event(value: serde_json::Value) {
    say(format_args!("{}", event_line(value)));
}

/// A message as an event.
pub(crate) fn message(level: &str, text: &str) -> serde_json::Value {
    serde_json::json!({ "event": "message", "level": level, "text": text })
}

/// Prints a line to stderr. Where that cannot be written, there is nobody to tell.
fn say(line: std::fmt::Arguments<'_>) {
    let _ = writeln!(anstream::stderr().lock(), "{line}");
}

/// Prints an error.
pub(crate) fn error(text: &str) {
    if is_json() {
        return event(message("error", text));
    }
    say(format_args!("{RED}error:{RED:#} {}", plain(text)));
}

/// Says what was given and does nothing here, and why, unless nothing is to be said.
pub(crate) fn no_effect(told: &[(bool, &str)]) {
    for (_, text) in told.iter().filter(|(given, _)| *given && !is_quiet()) {
        note(&format!("no effect: {text}"));
    }
}

/// Warnings are not to be shown.
static NO_WARNINGS: AtomicBool = AtomicBool::new(false);

/// Whether what goes wrong beside the work is shown: with `--log-level error` it is not.
pub(crate) fn shows_warnings() -> bool {
    !NO_WARNINGS.load(Ordering::Relaxed)
}

/// Prints a warning.
pub(crate) fn warning(text: &str) {
    if is_json() {
        return event(message("warning", text));
    }
    say(format_args!("{YELLOW}warning:{YELLOW:#} {}", plain(text)));
}

/// Prints what to do.
pub(crate) fn hint(text: &str) {
    if is_json() {
        return event(message("hint", text));
    }
    say(format_args!("{CYAN}hint:{CYAN:#} {}", plain(text)));
}

/// Prints a line that is neither data nor a problem.
pub(crate) fn note(text: &str) {
    if is_json() {
        return event(message("info", text));
    }
    say(format_args!("{}", plain(text)));
}

/// Prints a note that kiln has painted itself.
pub(crate) fn painted(text: &str) {
    say(format_args!("{text}"));
}

/// stderr as far as it can be written: the log would panic where it cannot.
struct Stderr;

impl std::io::Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let _ = std::io::stderr().write_all(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Sends kiln's own log to stderr.
pub(crate) fn start_logging(settings: &Settings) {
    NO_WARNINGS.store(settings.log_level == LogLevel::Error, Ordering::Relaxed);
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
        .with_writer(|| Stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .event_format(logging::Lines)
        .try_init();
}

fn directive(level: &str) -> tracing_subscriber::filter::Directive {
    let level = level.parse().unwrap_or(tracing::Level::WARN);
    tracing_subscriber::filter::LevelFilter::from_level(level).into()
}
