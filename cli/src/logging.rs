//! How lines of kiln's own log look: like everything else that goes to stderr.

use std::fmt::{self, Debug, Write as _};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::{printable, ui};

/// `warning: what happened: why (name: value, …)`.
#[derive(Debug)]
pub(crate) struct Lines;

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        if ui::is_json() {
            let level = match *event.metadata().level() {
                Level::ERROR => "error",
                Level::WARN => "warning",
                Level::INFO => "info",
                Level::DEBUG => "debug",
                Level::TRACE => "trace",
            };
            return writeln!(
                writer,
                "{}",
                ui::event_line(ui::message(level, &fields.line()))
            );
        }
        let (word, style) = match *event.metadata().level() {
            Level::ERROR => ("error:", Some(ui::RED)),
            Level::WARN => ("warning:", Some(ui::YELLOW)),
            Level::INFO => ("info:", None),
            Level::DEBUG => ("debug:", None),
            Level::TRACE => ("trace:", None),
        };
        match style.filter(|_| writer.has_ansi_escapes()) {
            Some(style) => write!(writer, "{style}{word}{style:#} ")?,
            None => write!(writer, "{word} ")?,
        }
        writeln!(writer, "{}", printable::text(&fields.line()))
    }
}

/// The fields of an event.
#[derive(Default)]
struct Fields {
    message: String,
    /// Why it happened.
    cause: String,
    others: Vec<String>,
}

impl Fields {
    fn take(&mut self, field: &Field, value: String) {
        match field.name() {
            "message" => self.message = value,
            "error" | "cause" => self.cause = value,
            name => self
                .others
                .push(format!("{}: {value}", name.replace('_', " "))),
        }
    }

    fn line(&self) -> String {
        let mut line = self.message.clone();
        // Writing to memory does not fail.
        if !self.cause.is_empty() {
            let _ = write!(line, ": {}", self.cause);
        }
        if !self.others.is_empty() {
            let _ = write!(line, " ({})", self.others.join(", "));
        }
        line
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field, value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.take(field, format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_look_like_those_of_the_rest() {
        let memory = Memory::default();
        let sink = memory.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .event_format(Lines)
            .with_max_level(Level::DEBUG)
            .with_writer(move || sink.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            let error = io::Error::other("disk on fire");
            tracing::warn!(%error, path = "/x", "nothing is removed");
            tracing::error!("plain");
            tracing::debug!(retry_after = 3, "waiting");
        });
        let text = String::from_utf8(memory.0.lock().unwrap().clone()).unwrap();
        assert_eq!(
            text,
            "warning: nothing is removed: disk on fire (path: /x)\nerror: plain\n\
             debug: waiting (retry after: 3)\n"
        );
    }
}
