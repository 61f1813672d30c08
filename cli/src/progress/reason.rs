//! Why a step ran or did not, as a line for people and as JSON.

use std::time::{Duration, SystemTime};

use kiln_engine::solver::explain::{Change, Found, InputKind, Reason};
use kiln_engine::solver::plan::Forced;
use serde_json::{Value, json};

use crate::printable;

/// Changes that are told where not all are asked for.
const TOLD: usize = 3;

/// One line on a step; unless everything is to be explained, none on what nobody wonders about.
pub(crate) fn line(reason: &Reason, everything: bool) -> Option<String> {
    let text = match reason {
        Reason::Hit {
            key, ran_at, found, ..
        } => {
            let from = match found {
                Found::Local => String::new(),
                Found::Remote(name) => format!(" from {name}"),
            };
            let key = key.to_hex().chars().take(12).collect::<String>();
            format!("cached{from}: record {key} of {}", age(*ran_at))
        }
        Reason::Forced(Forced::NoCache) => "runs because of --no-cache".into(),
        Reason::Forced(Forced::Stage(stage)) => {
            format!("runs because of --no-cache-filter {stage}")
        }
        Reason::Forced(Forced::Step(step)) => format!("runs because of --rerun {step}"),
        Reason::Expired { ran_at } => {
            format!(
                "expired: it ran {}, longer ago than --cache-ttl allows",
                age(*ran_at)
            )
        }
        Reason::Gone { ran_at, removed } => {
            let why = match removed {
                true => "its result was removed for space",
                false => "its result is gone",
            };
            format!("nothing changed since it ran {}, but {why}", age(*ran_at))
        }
        Reason::Early { ran_at } => format!(
            "nothing changed since it ran {}, but it began before the step below was hashed",
            age(*ran_at)
        ),
        Reason::Changed { ran_at, changes } => {
            let shown = if everything { changes.len() } else { TOLD };
            let mut parts: Vec<String> =
                changes.iter().take(shown).map(Change::to_string).collect();
            if changes.len() > shown {
                parts.push(format!("{} more", changes.len() - shown));
            }
            if parts.is_empty() {
                // Nobody is helped by a line that says no more than that.
                return everything.then(|| {
                    format!(
                        "changed since it ran {}, in something that is not kept",
                        age(*ran_at)
                    )
                });
            }
            format!(
                "changed since it ran {}: {}",
                age(*ran_at),
                parts.join(", ")
            )
        }
        Reason::New => "first build here".into(),
    };
    let wondered = matches!(
        reason,
        Reason::Expired { .. }
            | Reason::Gone { .. }
            | Reason::Early { .. }
            | Reason::Changed { .. }
    );
    (everything || wondered).then(|| printable::marked(&text))
}

/// How long ago something was.
fn age(time: SystemTime) -> String {
    let seconds = time.elapsed().unwrap_or(Duration::ZERO).as_secs();
    match seconds {
        0..60 => format!("{seconds} s ago"),
        60..3_600 => format!("{} min ago", seconds / 60),
        3_600..172_800 => format!("{} h ago", seconds / 3_600),
        _ => format!("{} d ago", seconds / 86_400),
    }
}

/// The same facts for programs.
pub(super) fn facts(reason: &Reason) -> Value {
    let at = |time: &SystemTime| humantime::format_rfc3339_millis(*time).to_string();
    match reason {
        Reason::Hit {
            key,
            ran_at,
            took,
            found,
        } => json!({
            "reason": "hit", "ran_at": at(ran_at), "took_ms": took.as_secs_f64() * 1000.0, "record": key.to_hex(), "from": place(found),
        }),
        Reason::Forced(forced) => {
            let (option, value) = match forced {
                Forced::NoCache => ("--no-cache", None),
                Forced::Stage(stage) => ("--no-cache-filter", Some(stage)),
                Forced::Step(step) => ("--rerun", Some(step)),
            };
            json!({ "reason": "forced", "option": option, "value": value })
        }
        Reason::Expired { ran_at } => json!({ "reason": "expired", "ran_at": at(ran_at) }),
        Reason::Gone { ran_at, removed } => json!({
            "reason": "gone", "ran_at": at(ran_at), "removed": removed,
        }),
        Reason::Early { ran_at } => json!({ "reason": "early", "ran_at": at(ran_at) }),
        Reason::Changed { ran_at, changes } => json!({
            "reason": "changed", "ran_at": at(ran_at),
            "changes": changes.iter().map(change).collect::<Vec<_>>(),
        }),
        Reason::New => json!({ "reason": "new" }),
    }
}

fn change(change: &Change) -> Value {
    let kind: &InputKind = &change.kind;
    json!({
        "input": kind, "name": change.name, "fields": change.fields, "before": change.before,
        "text": change.to_string(),
    })
}

/// Where a result was found.
pub(super) fn place(found: &Found) -> &str {
    match found {
        Found::Local => "local",
        Found::Remote(name) => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_changes_are_told_unless_all_are_asked_for() {
        let change = |name: &str| Change {
            kind: InputKind::Files,
            name: name.into(),
            fields: vec!["content".into(), "mode".into()],
            before: None,
        };
        let reason = Reason::Changed {
            ran_at: SystemTime::now() - Duration::from_secs(3 * 3600),
            changes: ["a", "b", "c", "d\x1b[2J", "e"].map(change).into(),
        };
        assert_eq!(
            line(&reason, false).unwrap(),
            "changed since it ran 3 h ago: files a (content, mode), files b (content, mode), \
             files c (content, mode), 2 more"
        );
        let all = line(&reason, true).unwrap();
        assert!(all.ends_with("files d?[2J (content, mode), files e (content, mode)"));
        assert_eq!(line(&Reason::New, false), None);
        assert!(line(&Reason::New, true).is_some());
    }

    #[test]
    fn a_hit_says_which_record_and_where_it_was() {
        let hit = |found| Reason::Hit {
            key: kiln_engine::solver::key::Key([0xab; 32]),
            ran_at: SystemTime::now() - Duration::from_secs(3 * 86_400),
            took: Duration::ZERO,
            found,
        };
        let remote = || Found::Remote("team".into());
        assert_eq!(line(&hit(Found::Local), false), None);
        assert_eq!(
            line(&hit(Found::Local), true).unwrap(),
            "cached: record abababababab of 3 d ago"
        );
        assert_eq!(
            line(&hit(remote()), true).unwrap(),
            "cached from team: record abababababab of 3 d ago"
        );
        assert_eq!(facts(&hit(remote()))["from"], "team");
        assert_eq!(facts(&hit(Found::Local))["from"], "local");
    }
}
