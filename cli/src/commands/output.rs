//! `--output` and `--annotation`: where a build's result goes.

mod spec;

use std::fs::File;
use std::io::IsTerminal as _;
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileTypeExt as _;

use kiln_engine::{Annotations, Output, OutputKind, Outputs};

use crate::errors::Failure;
use crate::ui;
use spec::{NO_ENTRY, parse};

/// All of `--output` and `--annotation`.
#[derive(Debug)]
pub(crate) struct OutputOptions {
    pub(crate) outputs: Outputs,
    /// `type=docker` without a file is among them: the store, as in buildx.
    pub(crate) loads: bool,
}

impl OutputOptions {
    /// Reads the options; `load` adds the store to the outputs, as `type=docker` does.
    pub(crate) fn parse(
        list: &[String],
        load: bool,
        annotations: &[String],
    ) -> Result<Self, Failure> {
        let mut all = Annotations::default();
        for text in annotations {
            all.option(text)
                .map_err(|why| Failure::usage(format!("--annotation `{text}`: {why}")))?;
        }
        let mut loads = false;
        let mut list = list
            .iter()
            .map(|text| {
                let output = parse(text)
                    .map_err(|why| Failure::usage(format!("--output `{text}`: {why}")))?;
                let is_docker = text.split(',').any(|field| field == "type=docker");
                loads |= is_docker && matches!(output.kind, OutputKind::Image(_));
                if output.uses_stream() {
                    refuse_terminal("-o type=…,dest=FILE")?;
                }
                Ok(output)
            })
            .collect::<Result<Vec<_>, Failure>>()?;
        if list.iter().filter(|o| o.uses_stream()).count() > 1 {
            return Err(Failure::usage(
                "only one --output can go to standard output",
            ));
        }
        // Without any output the image goes into the store anyway.
        let is_loaded =
            list.is_empty() || list.iter().any(|o| matches!(o.kind, OutputKind::Image(_)));
        if load && !is_loaded {
            list.push(Output::new(OutputKind::Image(Vec::new())));
        }
        let mut outputs = Outputs {
            list,
            annotations: all,
            stream: None,
        };
        if outputs.use_stream() {
            outputs.stream = Some(stdout()?);
        }
        if !outputs.annotations.manifest.is_empty() && !outputs.have_image() {
            return Err(Failure::usage(
                "--annotation: files have no manifest to annotate",
            ));
        }
        let has_entry = outputs.list.iter().any(|o| o.kind.has_entry());
        if !outputs.annotations.entry.is_empty() && !has_entry {
            return Err(Failure::usage(format!("--annotation: {NO_ENTRY}")));
        }
        Ok(Self { outputs, loads })
    }
}

/// Says where the image of `type=docker` went if standard output is a pipe or file that waits for an archive.
pub(crate) fn tell_of_store() {
    let kind = stdout()
        .ok()
        .and_then(|out| Some(out.metadata().ok()?.file_type()));
    if kind.is_some_and(|k| k.is_fifo() || k.is_file()) {
        ui::hint(
            "type=docker without dest puts the image into the store; type=docker,dest=- writes \
             an archive to standard output",
        );
    }
}

/// Standard output as a file of its own.
pub(super) fn stdout() -> std::io::Result<File> {
    Ok(std::io::stdout().as_fd().try_clone_to_owned()?.into())
}

/// Fails if standard output is a terminal.
pub(super) fn refuse_terminal(instead: &str) -> Result<(), Failure> {
    if std::io::stdout().is_terminal() {
        return Err(
            Failure::usage("an archive is not written to a terminal").with_hint(format!(
                "give a file with {instead}, or pass standard output on"
            )),
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotations_need_an_output_that_has_their_place() {
        let parse = |outputs: &[&str], annotation: &str| {
            let outputs: Vec<String> = outputs.iter().map(ToString::to_string).collect();
            OutputOptions::parse(&outputs, false, &[annotation.into()]).is_ok()
        };
        let (archive, entry) = ("type=oci,dest=x", "manifest-descriptor:a=b");
        for (outputs, annotation, good) in [
            (&[][..], "a=b", true),
            (&["type=image", "type=local,dest=x"], "a=b", true),
            (&["type=local,dest=x"], "a=b", false),
            (&["type=cacheonly"], "a=b", false),
            (&[], entry, false),
            (&["type=image"], entry, false),
            (&[archive], entry, true),
            (&["type=image", archive], entry, true),
        ] {
            assert_eq!(parse(outputs, annotation), good, "{outputs:?} {annotation}");
        }
    }
}
