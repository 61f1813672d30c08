//! docs/compatibility.md.

use std::fmt::Write as _;

use super::samples::Samples;
use super::{Findings, Outcome, facts};

const HEAD: &str = "# What reads what kiln writes

Made by `cargo xtask compatibility`: one image with what is hard to carry is written in every form,
each form is given to the tools that read it, and what they unpack is looked at.

";

const FORMS: &str = "
## Forms

A dash: the tool has no way to read this form, or none that was tried. Readers of images take layers
only as part of one.

";

const CONTENT: &str = "
## Content

What is left of the image's files when the tool has unpacked them. As root; options that ask for
owners and attributes are given. kiln writes whole seconds, dense files and numeric owners. Docker's
files are seen through `docker export`, which leaves attributes out; crane's through `crane export`.

";

pub(super) fn render(samples: &Samples, all: &[Findings], absent: &[String]) -> String {
    let mut out = String::from(HEAD);
    // Writing to a String cannot fail.
    let _ = writeln!(out, "Written by {}.", samples.kiln);
    if !absent.is_empty() {
        let absent = absent.join(", ");
        let _ = writeln!(out, "Not here, and so not tried: {absent}.");
    }

    let mut notes: Vec<String> = Vec::new();
    out.push_str(FORMS);
    let columns: Vec<&Findings> = all.iter().collect();
    head(&mut out, &columns);
    for (at, sample) in samples.all.iter().enumerate() {
        let cells = columns.iter().map(|found| match found.outcomes.get(at) {
            None | Some(Outcome::NotItsForm) => "–".to_owned(),
            Some(Outcome::Read) => "yes".to_owned(),
            Some(Outcome::Refused(why)) => {
                let note = format!("{}, {}: `{why}`", found.title(), sample.title);
                notes.push(note);
                format!("no ({})", notes.len())
            }
        });
        let cells: Vec<String> = cells.collect();
        row(&mut out, sample.title, &cells);
    }
    if !notes.is_empty() {
        out.push('\n');
    }
    for (at, note) in notes.iter().enumerate() {
        let _ = writeln!(out, "{}. {note}", at + 1);
    }

    out.push_str(CONTENT);
    let columns: Vec<&Findings> = all.iter().filter(|found| found.facts.is_some()).collect();
    head(&mut out, &columns);
    for (at, name) in facts::names().enumerate() {
        let cells = columns.iter().map(|found| {
            let facts = found.facts.as_deref().unwrap_or_default();
            facts.get(at).cloned().unwrap_or_default()
        });
        row(&mut out, name, &cells.collect::<Vec<_>>());
    }
    out
}

fn head(out: &mut String, columns: &[&Findings]) {
    let names: Vec<String> = columns.iter().map(|c| c.title()).collect();
    row(out, "", &names);
    out.push_str(&"|---".repeat(names.len() + 1));
    out.push_str("|\n");
}

fn row(out: &mut String, title: &str, cells: &[String]) {
    let _ = writeln!(out, "| {title} | {} |", cells.join(" | "));
}
