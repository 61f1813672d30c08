//! Output of a step: to whoever watches, and in full to a file.

use kiln_solver::event::{Event, Warning, WarningCode};
use kiln_solver::ports::Step;

use super::streams::Streams;
use crate::logs::StepLog;

/// Passes on what a step writes until it ends. It blocks its thread, also while nobody takes what
/// is passed on: then the step is slowed down.
pub(super) fn pump(streams: Streams, step: &Step, log: &StepLog) {
    let take = |stream, bytes: &[u8]| {
        log.append(bytes, step);
        step.events.send(Event::Log {
            vertex: step.vertex,
            stream,
            bytes: bytes.to_vec(),
        });
    };
    if let Err(error) = streams.read(take) {
        let text = format!("output of a step cannot be read: {error}");
        let warning = Warning::new(WarningCode::StepOutput, text);
        step.events.warn(warning.of(step.vertex));
    }
    log.finish(step);
}
