//! The JSON of a policy.

use std::collections::BTreeMap;

use regex::Regex;
use serde::Deserialize;

use super::{Condition, Pattern, PolicyAction, PolicyRule};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PolicyFile {
    #[serde(default)]
    pub(super) version: i64,
    #[serde(default)]
    pub(super) rules: Vec<RuleInFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RuleInFile {
    action: PolicyAction,
    selector: Selector,
    #[serde(default)]
    updates: Option<Update>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Selector {
    #[serde(default)]
    identifier: String,
    #[serde(default, alias = "matchType")]
    match_type: MatchType,
    #[serde(default)]
    constraints: Vec<Constraint>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum MatchType {
    #[default]
    Wildcard,
    Exact,
    Regex,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Constraint {
    key: String,
    #[serde(default)]
    value: String,
    #[serde(default)]
    condition: ConditionKind,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum ConditionKind {
    #[default]
    Equal,
    NotEqual,
    Matches,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Update {
    #[serde(default)]
    identifier: String,
    #[serde(default)]
    attrs: BTreeMap<String, String>,
}

impl RuleInFile {
    /// The rule, with its patterns understood. The error is the reason.
    pub(super) fn read(self) -> Result<PolicyRule, String> {
        let written = self.selector.identifier;
        let pattern = match self.selector.match_type {
            MatchType::Exact => Pattern::Exact,
            MatchType::Regex => Pattern::Part(compile(&written)?),
            MatchType::Wildcard if written.contains("**") => {
                return Err(format!(
                    "the wildcard `{written}` has two stars side by side"
                ));
            }
            MatchType::Wildcard => {
                let quoted = regex::escape(&written).replace(r"\*", "(.*)");
                Pattern::Whole(compile(&format!("(?s)^{quoted}$"))?)
            }
        };
        let constraints = self.selector.constraints.into_iter().map(|constraint| {
            let condition = match constraint.condition {
                ConditionKind::Equal => Condition::Equal(constraint.value),
                ConditionKind::NotEqual => Condition::NotEqual(constraint.value),
                ConditionKind::Matches => Condition::Matches(compile(&constraint.value)?),
            };
            Ok((constraint.key, condition))
        });
        let constraints = constraints.collect::<Result<_, String>>()?;
        let updates = match (self.action, self.updates) {
            (PolicyAction::Convert, None) => return Err("CONVERT needs updates".into()),
            (PolicyAction::Convert, Some(updates)) => updates,
            (_, Some(_)) => return Err("updates are for CONVERT alone".into()),
            (_, None) => Update {
                identifier: String::new(),
                attrs: BTreeMap::new(),
            },
        };
        Ok(PolicyRule {
            action: self.action,
            written,
            pattern,
            constraints,
            identifier: updates.identifier,
            attributes: updates.attrs,
        })
    }
}

fn compile(pattern: &str) -> Result<Regex, String> {
    Regex::new(pattern).map_err(|e| {
        let text = e.to_string();
        let last = text.lines().last().unwrap_or_default().trim();
        format!("`{pattern}` is not a regular expression: {last}")
    })
}
