//! The tables.

use std::fmt::Write as _;

use anyhow::Result;

use super::Bench;
use super::bounds::{Bounds, MEMORY_MB, Verdict};
use super::growth::Growth;
use super::turns::Measured;

/// What was measured of one thing.
#[derive(Clone)]
pub(super) struct Row {
    pub(super) title: String,
    pub(super) bounds: Bounds,
    pub(super) measured: Measured,
    /// Further columns: their heads and what is in them.
    pub(super) facts: Vec<(&'static str, String)>,
    /// As users would type them.
    pub(super) commands: Vec<String>,
}

impl Row {
    /// A row without further columns.
    pub(super) fn new(title: impl Into<String>, bounds: Bounds, measured: &Measured) -> Self {
        Self {
            title: title.into(),
            bounds,
            measured: measured.clone(),
            facts: Vec::new(),
            commands: Vec::new(),
        }
    }

    fn kiln(&self) -> f64 {
        self.measured.times.first().map_or(0.0, |(_, time)| *time)
    }

    fn others(&self) -> &[(&'static str, f64)] {
        self.measured.times.get(1..).unwrap_or_default()
    }

    fn verdict(&self) -> Verdict {
        let measured = &self.measured;
        self.bounds
            .judge(self.kiln(), self.others(), measured.bare, measured.peak_kb)
    }
}

/// Rows of one kind.
pub(super) struct Section {
    title: String,
    rows: Vec<Row>,
}

impl Section {
    /// Rows under a title.
    pub(super) fn new(title: impl Into<String>, rows: Vec<Row>) -> Self {
        let title = title.into();
        Self { title, rows }
    }
}

/// The whole file.
pub(super) fn render(sections: &[Section], growth: &[Growth], bench: &Bench) -> Result<String> {
    let mut out = String::from(
        "# Benchmark\n\nMade by `cargo xtask bench`; its `--help` tells how to name the peers.\n\n",
    );
    writeln!(out, "- machine: {}", machine())?;
    for engine in bench.engines() {
        writeln!(out, "- {}: {}", engine.title(), engine.version()?)?;
    }
    writeln!(
        out,
        "- each number is the median of {} rounds in seconds, the engines one after the other in each\n  \
         round, each on a disk that has come to rest; what is short is measured several times in a round",
        bench.runs
    )?;
    writeln!(
        out,
        "- `before` is a former build of kiln; `bare` is the same without an engine: the command in a \
         chroot, or\n  one thread that looks at each file"
    )?;
    writeln!(
        out,
        "- memory is the highest resident size of kiln's own processes, in MB; it must stay below \
         {MEMORY_MB} where the\n  row names no other number"
    )?;
    for section in sections.iter().filter(|s| !s.rows.is_empty()) {
        write!(out, "\n## {}\n\n{}", section.title, table(&section.rows))?;
    }
    for growth in growth {
        out.push_str(&growth.render());
    }
    let rows = sections.iter().flat_map(|s| &s.rows);
    let commands = commands(rows, &bench.peer_root.to_string_lossy());
    if !commands.is_empty() {
        write!(out, "\n## Commands\n\n```\n{commands}```\n")?;
    }
    Ok(out)
}

/// Commands, each once. A result says how it was made, not on whose machine.
fn commands<'a>(rows: impl Iterator<Item = &'a Row>, root: &str) -> String {
    let root = root.trim_end_matches('/');
    let (mut seen, mut out) = (Vec::new(), String::new());
    for command in rows.flat_map(|row| &row.commands) {
        if seen.contains(&command) {
            continue;
        }
        seen.push(command);
        if root.is_empty() {
            out.push_str(command);
        } else {
            out.push_str(&command.replace(root, "$KILN_BENCH_PEER_ROOT"));
        }
        out.push('\n');
    }
    out
}

/// A table of these rows: a column is there if one of them has something in it.
fn table(rows: &[Row]) -> String {
    let columns = columns(rows);
    let mut out = String::new();
    let mut line = |cells: Vec<String>| {
        // Writing to memory does not fail.
        let _ = writeln!(out, "| {} |", cells.join(" | "));
    };
    line(columns.iter().map(|c| c.head.clone()).collect());
    line(vec!["---".to_owned(); columns.len()]);
    for row in rows {
        line(columns.iter().map(|c| (c.cell)(row)).collect());
    }
    out
}

struct Column {
    head: String,
    cell: Box<dyn Fn(&Row) -> String>,
}

/// The columns of a table of these rows.
fn columns(rows: &[Row]) -> Vec<Column> {
    let mut columns = Vec::new();
    let mut add = |head: &str, cell: Box<dyn Fn(&Row) -> String>| {
        if rows.iter().any(|row| !cell(row).is_empty()) {
            let head = head.to_owned();
            columns.push(Column { head, cell });
        }
    };
    add("what", Box::new(|row| row.title.clone()));
    add("kiln", Box::new(|row| seconds(row.kiln())));
    add("at most", Box::new(|row| number(row.bounds.seconds)));
    for engine in ["Docker", "buildah", "before"] {
        let time = move |row: &Row| {
            let other = row.others().iter().find(|(title, _)| *title == engine);
            other.map(|(_, time)| *time)
        };
        add(
            engine,
            Box::new(move |row| time(row).map_or_else(String::new, seconds)),
        );
        add(
            &format!("kiln / {engine}"),
            Box::new(move |row| {
                time(row).map_or_else(String::new, |time| format!("{:.3}", row.kiln() / time))
            }),
        );
        // Without the engine the bound would be one of nothing.
        if rows.iter().any(|row| time(row).is_some()) {
            add(
                "at most",
                Box::new(move |row| number(row.bounds.to(engine))),
            );
        }
    }
    let bare = |row: &Row| row.measured.bare;
    add(
        "bare",
        Box::new(move |row| bare(row).map_or_else(String::new, seconds)),
    );
    let of_bare = move |row: &Row| bare(row).filter(|_| row.bounds.beyond_bare.is_none());
    add(
        "kiln / bare",
        Box::new(move |row| {
            of_bare(row).map_or_else(String::new, |bare| format!("{:.2}", row.kiln() / bare))
        }),
    );
    add("at most", Box::new(|row| number(row.bounds.to_bare)));
    let beyond = move |row: &Row| bare(row).filter(|_| row.bounds.beyond_bare.is_some());
    add(
        "kiln - bare",
        Box::new(move |row| {
            beyond(row).map_or_else(String::new, |bare| format!("{:.4}", row.kiln() - bare))
        }),
    );
    add("at most", Box::new(|row| number(row.bounds.beyond_bare)));
    let mut heads: Vec<&'static str> = Vec::new();
    for (head, _) in rows.iter().flat_map(|row| &row.facts) {
        if !heads.contains(head) {
            heads.push(head);
        }
    }
    for head in heads {
        let fact = move |row: &Row| {
            let fact = row.facts.iter().find(|(name, _)| *name == head);
            fact.map_or_else(String::new, |(_, value)| value.clone())
        };
        add(head, Box::new(fact));
    }
    add(
        "memory",
        Box::new(|row| match row.measured.peak_kb / 1024 {
            0 => String::new(),
            mb => mb.to_string(),
        }),
    );
    add(
        "at most",
        Box::new(|row| match row.bounds.memory_mb {
            MEMORY_MB => String::new(),
            mb => mb.to_string(),
        }),
    );
    add("reached", Box::new(|row| row.verdict().shown().to_owned()));
    columns
}

/// A time in seconds, with as many digits as mean something.
pub(super) fn seconds(time: f64) -> String {
    if time < 0.1 {
        format!("{time:.4}")
    } else {
        format!("{time:.3}")
    }
}

fn number(bound: Option<f64>) -> String {
    bound.map_or_else(String::new, |most| most.to_string())
}

/// Cores, memory and kernel.
fn machine() -> String {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let memory = read("/proc/meminfo");
    let total = memory
        .lines()
        .find_map(|l| l.strip_prefix("MemTotal:"))
        .and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok())
        .unwrap_or(0);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = read("/proc/sys/kernel/osrelease");
    format!(
        "{cores} cores, {} GB of memory, Linux {}",
        total / 1_000_000,
        kernel.trim()
    )
}

#[cfg(test)]
mod tests {
    use super::super::bounds::{UNBOUND, within};
    use super::*;

    fn row(title: &str, bounds: Bounds, times: &[(&'static str, f64)], bare: Option<f64>) -> Row {
        let measured = Measured {
            times: times.to_vec(),
            bare,
            peak_kb: 20 << 10,
        };
        Row::new(title, bounds, &measured)
    }

    #[test]
    fn a_table_has_the_columns_that_some_row_needs() {
        let short = row("short", within(0.008), &[("kiln", 0.00512)], None);
        assert_eq!(
            table(std::slice::from_ref(&short)),
            "| what | kiln | at most | memory | reached |\n| --- | --- | --- | --- | --- |\n\
             | short | 0.0051 | 0.008 | 20 | yes |\n"
        );
        let bounds = Bounds {
            to_docker: Some(0.1),
            to_bare: Some(1.25),
            ..UNBOUND
        };
        let times = [("kiln", 1.0), ("Docker", 8.0), ("before", 2.0)];
        let mut long = row("long", bounds, &times, Some(1.0));
        long.facts = vec![("requests", "3".to_owned())];
        let text = table(&[short, long]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[0],
            "| what | kiln | at most | Docker | kiln / Docker | at most | before | kiln / before | bare | \
             kiln / bare | at most | requests | memory | reached |"
        );
        assert_eq!(
            lines[3],
            "| long | 1.000 |  | 8.000 | 0.125 | 0.1 | 2.000 | 0.500 | 1.000 | 1.00 | 1.25 | 3 | 20 | **no** |"
        );
    }

    #[test]
    fn what_a_process_takes_beyond_the_bare_one_is_a_column() {
        let bounds = Bounds {
            beyond_bare: Some(0.008),
            ..UNBOUND
        };
        let text = table(&[row("run", bounds, &[("kiln", 0.012)], Some(0.002))]);
        assert!(text.contains("| kiln - bare | at most |"), "{text}");
        assert!(
            text.contains("| 0.0020 | 0.0100 | 0.008 | 20 | **no** |"),
            "{text}"
        );
    }

    #[test]
    fn commands_are_shown_once_and_without_the_peers_root() {
        let mut one = row("", UNBOUND, &[], None);
        one.commands = vec!["kiln build /peers/c".into(), "docker build /c".into()];
        assert_eq!(
            commands([&one, &one].into_iter(), "/peers/"),
            "kiln build $KILN_BENCH_PEER_ROOT/c\ndocker build /c\n"
        );
    }
}
