//! tests/conformance/RESULTS.md.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::Result;
use kiln_tests::corpus::Case;

use super::Verdict;
use super::engine::Engine;

pub(super) fn render(
    results: &[(&Case, Verdict)],
    docker: &Engine,
    kiln: &Engine,
) -> Result<String> {
    let mut groups: BTreeMap<&str, [usize; 3]> = BTreeMap::new();
    for (case, verdict) in results {
        let column = match verdict {
            Verdict::Same => 0,
            Verdict::Deliberate(_) => 1,
            Verdict::Different(_) => 2,
        };
        groups.entry(case.group()).or_default()[column] += 1;
    }
    let mut out = String::from(
        "# Conformance\n\nMade by `cargo xtask conformance`: each case of testdata/corpus is built with Docker and with\nkiln; image config, history and every file's path, type, mode, owner, extended attributes, links\nand content are compared (for `check`: the rules and lines that `--check` reports).\n\n",
    );
    writeln!(out, "- {}", docker.version()?)?;
    writeln!(out, "- {}\n", kiln.version()?)?;
    let total = groups.values().fold([0; 3], |sum, row| {
        [sum[0] + row[0], sum[1] + row[1], sum[2] + row[2]]
    });
    let judged = total[0] + total[2];
    writeln!(
        out,
        "{} of {judged} cases give the same ({:.1} %); {} differ on purpose.\n",
        total[0],
        percent(total[0], judged),
        total[1],
    )?;
    out.push_str(
        "| group | cases | the same | on purpose different | different |\n|---|---|---|---|---|\n",
    );
    for (group, [same, deliberate, different]) in &groups {
        let cases = same + deliberate + different;
        writeln!(
            out,
            "| {group} | {cases} | {same} | {deliberate} | {different} |"
        )?;
    }
    writeln!(
        out,
        "| all | {} | {} | {} | {} |",
        results.len(),
        total[0],
        total[1],
        total[2]
    )?;
    let list =
        |out: &mut String, title: &str, of: &dyn Fn(&Verdict) -> Option<String>| -> Result<()> {
            let rows: Vec<(&str, String)> = results
                .iter()
                .filter_map(|(case, verdict)| Some((case.name.as_str(), of(verdict)?)))
                .collect();
            if !rows.is_empty() {
                writeln!(out, "\n## {title}\n")?;
            }
            for (name, text) in rows {
                writeln!(out, "- `{name}`: {text}")?;
            }
            Ok(())
        };
    list(&mut out, "Different on purpose", &|v| match v {
        Verdict::Deliberate(reason) => Some(reason.clone()),
        _ => None,
    })?;
    list(&mut out, "Different", &|v| match v {
        Verdict::Different(lines) => Some(lines.join("; ")),
        _ => None,
    })?;
    Ok(out)
}

#[expect(clippy::cast_precision_loss, reason = "counts of a corpus are small")]
fn percent(part: usize, whole: usize) -> f64 {
    if whole == 0 {
        return 0.0;
    }
    part as f64 * 100.0 / whole as f64
}
