//! Stages, and what can be given to one, as text.

use std::io::Write as _;

use kiln_engine::solver::lower::{Outline, OutlineMount, Target};
use kiln_engine::solver::plan::{Plan, VertexId};

use crate::printable::row;

/// Rows in columns.
fn columns(rows: &[String]) -> String {
    let mut writer = tabwriter::TabWriter::new(Vec::new()).padding(3);
    for row in rows {
        // Writing to memory does not fail.
        let _ = writeln!(writer, "{row}");
    }
    let bytes = writer.into_inner().unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines = text.lines().map(str::trim_end);
    lines.collect::<Vec<_>>().join("\n")
}

/// The stages.
pub(super) fn targets(list: &[Target]) -> String {
    let mut rows = vec![row(["TARGET", "DESCRIPTION"])];
    for (number, target) in list.iter().enumerate() {
        let mut name = target.name.clone().unwrap_or_else(|| number.to_string());
        if target.default {
            name.push_str(" (default)");
        }
        rows.push(row([
            &name,
            target.description.as_deref().unwrap_or_default(),
        ]));
    }
    columns(&rows)
}

/// What can be given to a stage.
pub(super) fn outline(outline: &Outline) -> String {
    let mut tables = Vec::new();
    let mut head = Vec::new();
    if let Some(name) = &outline.name {
        head.push(row(["TARGET:", name]));
    }
    if let Some(description) = &outline.description {
        head.push(row(["DESCRIPTION:", description]));
    }
    tables.push(head);
    if !outline.args.is_empty() {
        let mut rows = vec![row(["BUILD ARG", "VALUE", "DESCRIPTION"])];
        for arg in &outline.args {
            let value = arg.value.as_deref().unwrap_or_default();
            rows.push(row([
                &arg.name,
                value,
                arg.description.as_deref().unwrap_or_default(),
            ]));
        }
        tables.push(rows);
    }
    for (title, list) in [("SECRET", &outline.secrets), ("SSH", &outline.ssh)] {
        tables.push(mounts([title, "REQUIRED"], list));
    }
    tables.push(mounts(["CACHE MOUNT", ""], &outline.caches));
    let tables = tables.iter().filter(|rows| !rows.is_empty());
    tables
        .map(|rows| columns(rows))
        .collect::<Vec<_>>()
        .join("\n\n")
}

fn mounts(head: [&str; 2], list: &[OutlineMount]) -> Vec<String> {
    if list.is_empty() {
        return Vec::new();
    }
    let rows = list.iter().map(|mount| {
        let required = if mount.required { "true" } else { "" };
        row([&mount.id, required])
    });
    std::iter::once(row(head)).chain(rows).collect()
}

/// The steps of a plan, one a line, with the numbers of those that each is made of.
pub(super) fn plan(plan: &Plan, targets: &[VertexId]) -> String {
    let lines = plan.reachable(targets).into_iter().map(|id| {
        let vertex = plan.vertex(id);
        let inputs: Vec<String> = vertex
            .inputs
            .iter()
            .map(|of| format!("#{}", of.index()))
            .collect();
        match inputs.is_empty() {
            true => format!("#{} {}", id.index(), vertex.name),
            false => format!("#{} {} <- {}", id.index(), vertex.name, inputs.join(", ")),
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}
