//! What `--call=check,format=json` says, in lines.

use serde_json::Value;

/// `Rule first-last` for each warning, and the error that keeps a Dockerfile from being built.
#[must_use]
pub fn check_lines(json: &[u8]) -> Vec<String> {
    let Ok(found) = serde_json::from_slice::<Value>(json) else {
        return vec!["no JSON".into()];
    };
    let mut lines: Vec<String> = found["warnings"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|warning| {
            let range = &warning["location"]["ranges"][0];
            format!(
                "{} {}-{}",
                warning["ruleName"].as_str().unwrap_or_default(),
                range["start"]["line"],
                range["end"]["line"]
            )
        })
        .collect();
    lines.sort();
    if found["buildError"].is_object() {
        lines.push("error".into());
    }
    lines
}
