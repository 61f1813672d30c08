//! The table.

use std::fmt::Write as _;

use anyhow::Result;

use super::Bench;
use super::growth::Growth;
use super::workload::Limit;

const MEMORY_LIMIT_MB: u64 = 150;

/// A workload in one state of the cache.
pub(super) struct Row {
    pub(super) workload: String,
    pub(super) limit: Limit,
    /// Seconds of each engine: kiln first, then the peers in their order.
    pub(super) times: Vec<f64>,
    /// Seconds of the bare command.
    pub(super) bare: Option<f64>,
    pub(super) peak_kb: u64,
    pub(super) commands: Vec<String>,
}

/// What sharing results takes.
pub(super) struct Shared {
    pub(super) title: &'static str,
    pub(super) engines: Vec<&'static str>,
    /// Seconds of each engine, kiln first.
    pub(super) times: Vec<f64>,
    /// Kiln's time over that of each peer, at most.
    pub(super) limit: f64,
    pub(super) peak_kb: u64,
    pub(super) commands: Vec<String>,
}

/// The whole file.
pub(super) fn render(
    rows: &[Row],
    shared: &[Shared],
    growth: &[Growth],
    bench: &Bench,
) -> Result<String> {
    let mut out = String::from(
        "# Benchmark\n\nMade by `cargo xtask bench`; its `--help` tells how to name the peers.\n\n",
    );
    writeln!(out, "- machine: {}", machine())?;
    for engine in std::iter::once(&bench.kiln).chain(&bench.peers) {
        writeln!(out, "- {}: {}", engine.title(), engine.version()?)?;
    }
    writeln!(
        out,
        "- each number is the median of {} runs in seconds, the engines one after the other in each\n  round, each on a disk that has come to rest",
        bench.runs
    )?;
    writeln!(
        out,
        "- memory is the highest resident size of kiln's own processes, in MB; it must stay below {MEMORY_LIMIT_MB}\n"
    )?;
    table(&mut out, rows, bench)?;
    shared_table(&mut out, shared)?;
    for growth in growth {
        line(&mut out, growth)?;
    }
    out.push_str("\n## Commands\n\n```\n");
    let mut seen: Vec<&String> = Vec::new();
    // A result says how it was made, not on whose machine.
    let root = bench.peer_root.to_string_lossy();
    let root = root.trim_end_matches('/');
    let commands = rows.iter().flat_map(|r| &r.commands);
    for command in commands.chain(shared.iter().flat_map(|s| &s.commands)) {
        if !seen.contains(&command) {
            seen.push(command);
            if root.is_empty() {
                writeln!(out, "{command}")?;
            } else {
                writeln!(out, "{}", command.replace(root, "$KILN_BENCH_PEER_ROOT"))?;
            }
        }
    }
    out.push_str("```\n");
    Ok(out)
}

fn table(out: &mut String, rows: &[Row], bench: &Bench) -> Result<()> {
    let peers: Vec<&str> = bench
        .peers
        .iter()
        .map(super::engine::Engine::title)
        .collect();
    let mut head = vec!["workload".to_owned(), "kiln".to_owned()];
    for peer in &peers {
        head.extend([(*peer).to_owned(), format!("kiln / {peer}")]);
    }
    head.extend(
        [
            "at most",
            "bare",
            "kiln / bare",
            "at most",
            "memory",
            "reached",
        ]
        .map(str::to_owned),
    );
    writeln!(out, "| {} |", head.join(" | "))?;
    writeln!(out, "|{}", "---|".repeat(head.len()))?;
    for row in rows {
        let kiln = row.times.first().copied().unwrap_or_default();
        let mut cells = vec![
            format!("{}, {}", row.workload, row.limit.state()),
            format!("{kiln:.3}"),
        ];
        let mut reached = row.peak_kb / 1024 < MEMORY_LIMIT_MB;
        let is_compared = peers.contains(&"Docker");
        for (peer, time) in peers.iter().zip(row.times.iter().skip(1)) {
            let ratio = kiln / time;
            cells.extend([format!("{time:.3}"), format!("{ratio:.3}")]);
            reached &= *peer != "Docker" || ratio <= row.limit.to_docker;
        }
        cells.push(format!("{}", row.limit.to_docker));
        match (row.bare, row.limit.to_bare) {
            (Some(bare), Some(limit)) => {
                let ratio = kiln / bare;
                reached &= ratio <= limit;
                cells.extend([
                    format!("{bare:.3}"),
                    format!("{ratio:.2}"),
                    format!("{limit}"),
                ]);
            }
            _ => cells.extend(["", "", ""].map(str::to_owned)),
        }
        cells.push(format!("{}", row.peak_kb / 1024));
        let verdict = match (reached, is_compared) {
            (false, _) => "**no**",
            (true, true) => "yes",
            (true, false) => "not compared",
        };
        cells.push(verdict.to_owned());
        writeln!(out, "| {} |", cells.join(" | "))?;
    }
    Ok(())
}

fn shared_table(out: &mut String, rows: &[Shared]) -> Result<()> {
    let Some(first) = rows.first() else {
        return Ok(());
    };
    out.push_str("\n## Results shared through a registry\n\n");
    let mut head = vec!["what".to_owned(), "kiln".to_owned()];
    for peer in first.engines.iter().skip(1) {
        head.extend([(*peer).to_owned(), format!("kiln / {peer}")]);
    }
    head.extend(["at most", "memory", "reached"].map(str::to_owned));
    writeln!(out, "| {} |", head.join(" | "))?;
    writeln!(out, "|{}", "---|".repeat(head.len()))?;
    for row in rows {
        let kiln = row.times.first().copied().unwrap_or_default();
        let mut cells = vec![row.title.to_owned(), format!("{kiln:.3}")];
        let mut reached = row.peak_kb / 1024 < MEMORY_LIMIT_MB;
        for time in row.times.iter().skip(1) {
            let ratio = kiln / time;
            reached &= ratio <= row.limit;
            cells.extend([format!("{time:.3}"), format!("{ratio:.3}")]);
        }
        let verdict = match (reached, row.times.len()) {
            (false, _) => "**no**",
            (true, 1) => "not compared",
            (true, _) => "yes",
        };
        cells.extend([
            row.limit.to_string(),
            (row.peak_kb / 1024).to_string(),
            verdict.to_owned(),
        ]);
        writeln!(out, "| {} |", cells.join(" | "))?;
    }
    Ok(())
}

fn line(out: &mut String, growth: &Growth) -> Result<()> {
    let (slope, start, fit) = growth.line();
    writeln!(out, "\n## Time over the number of {}\n", growth.of)?;
    writeln!(
        out,
        "| {} | seconds | microseconds each |\n|---|---|---|",
        growth.of
    )?;
    for (count, seconds) in &growth.points {
        writeln!(
            out,
            "| {count} | {seconds:.3} | {:.0} |",
            seconds / count * 1e6
        )?;
    }
    writeln!(
        out,
        "\nThe nearest straight line: {start:.3} s and {:.1} µs for each (R² = {fit:.4}).",
        slope * 1e6
    )?;
    Ok(())
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
