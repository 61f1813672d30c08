//! The nearest earlier run, and in what it differs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use super::{Change, Earlier, InputKind, LabelledInput, Listing, PathFacts};
use crate::key::Key;
use crate::plan::Origin;

/// What earlier runs say of a step that was not in the cache.
#[derive(Clone, Debug)]
pub(crate) enum Nearest {
    /// One had the same key.
    Same(Earlier),
    /// This one has most inputs in common.
    Other(Earlier),
    /// There is none.
    None,
}

/// Finds the run to compare with. `others` are the instructions of the build's other steps: a run
/// of one of those is no earlier run of this step, though it may stand where this one stands now.
pub(crate) fn nearest(
    key: Key,
    inputs: &[LabelledInput],
    origin: &Origin,
    others: &BTreeSet<String>,
    earlier: Vec<Earlier>,
) -> Nearest {
    /// The later of two fields only counts where the earlier ones are equal.
    type Rank = (bool, usize, bool, SystemTime);
    let mut best: Option<(Rank, Earlier)> = None;
    for run in earlier {
        if run.key == key {
            return Nearest::Same(run);
        }
        // What others built of the same text says nothing about this step.
        if run.project != origin.project || run.project.is_empty() {
            continue;
        }
        let same_text = run.instruction == origin.instruction;
        let same_step = run.step == origin.step;
        if !same_text && (!same_step || others.contains(&run.instruction)) {
            continue;
        }
        let equal = inputs.iter().filter(|i| run.inputs.contains(i)).count();
        let rank = (same_text, equal, same_step, run.ran_at);
        if best.as_ref().is_none_or(|(b, _)| *b < rank) {
            best = Some((rank, run));
        }
    }
    best.map_or(Nearest::None, |(_, run)| Nearest::Other(run))
}

/// The most differing paths that are told.
const MAX_PATHS: usize = 1000;

/// In what `now` differs from `before`. `listing` gives what a fingerprint covers, by its digits.
pub(crate) fn compare(
    before: &[LabelledInput],
    now: &[LabelledInput],
    listing: impl Fn(&str) -> Option<Listing>,
) -> Vec<Change> {
    type Id<'a> = (InputKind, &'a str, &'a str);
    fn id(input: &LabelledInput) -> Id<'_> {
        match input.kind {
            // What is below has one place, whatever its name; files are told apart by their use.
            InputKind::BaseImage | InputKind::Step => (InputKind::Step, "", ""),
            InputKind::Files => (InputKind::Files, "", &input.field),
            kind => (kind, &input.name, &input.field),
        }
    }
    let old: BTreeMap<Id<'_>, &LabelledInput> = before.iter().map(|i| (id(i), i)).collect();
    let new: BTreeMap<Id<'_>, &LabelledInput> = now.iter().map(|i| (id(i), i)).collect();
    let keys: BTreeSet<&Id<'_>> = old.keys().chain(new.keys()).collect();
    let differs = |key: &Id<'_>| {
        let digest = |of: &BTreeMap<Id<'_>, &LabelledInput>| of.get(key).map(|i| i.digest.clone());
        digest(&old) != digest(&new)
    };
    // Other paths are other files: then the paths say it all.
    let elsewhere = |field: &str| {
        differs(&(InputKind::Actions, "", ""))
            || differs(&(InputKind::Sources, "", field))
            || ["type", "from", "source"]
                .iter()
                .any(|part| differs(&(InputKind::Mount, field, part)))
    };
    let mut out: Vec<Change> = Vec::new();
    for key in keys {
        if key.0 == InputKind::Files && elsewhere(key.2) {
            continue;
        }
        let change = match (old.get(key), new.get(key)) {
            (Some(a), Some(b)) if a.digest == b.digest => continue,
            (Some(a), Some(b)) => match key.0 {
                InputKind::Files => {
                    out.extend(files(a, b, &listing));
                    continue;
                }
                InputKind::Step => below(a, b),
                _ => plain(b, None),
            },
            (None, Some(b)) => plain(b, Some("added")),
            (Some(a), None) => plain(a, Some("removed")),
            (None, None) => continue,
        };
        match out.last_mut() {
            // Fields of one thing are told together.
            Some(last)
                if last.kind == change.kind
                    && last.name == change.name
                    && last.before == change.before =>
            {
                for field in change.fields {
                    if !last.fields.contains(&field) {
                        last.fields.push(field);
                    }
                }
            }
            _ => out.push(change),
        }
    }
    tidy(out)
}

fn plain(input: &LabelledInput, presence: Option<&str>) -> Change {
    let is_mount = input.kind == InputKind::Mount;
    let field = match presence {
        Some(presence) => presence,
        None if is_mount => &input.field,
        None => "",
    };
    let told = presence.is_some() || is_mount;
    Change {
        kind: input.kind,
        name: match input.kind {
            InputKind::Files => String::new(),
            _ => input.name.clone(),
        },
        fields: if told { vec![field.to_owned()] } else { vec![] },
        before: None,
    }
}

/// The most characters of a step's line that are told.
const MAX_NAME: usize = 60;

fn clip(name: &str) -> String {
    match name.char_indices().nth(MAX_NAME) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.to_owned(),
    }
}

/// What a person calls a step or image.
fn short(input: &LabelledInput) -> String {
    let name = input.name.as_str();
    match input.kind {
        InputKind::BaseImage => {
            let name = name.split('@').next().unwrap_or(name);
            let name = name.strip_prefix("docker.io/").unwrap_or(name);
            name.strip_prefix("library/").unwrap_or(name).to_owned()
        }
        _ => clip(name),
    }
}

/// The text of a step's line, without its place: `RUN make` of `[build 2/4] RUN make`.
fn text_of(name: &str) -> &str {
    name.split_once("] ").map_or(name, |(_, text)| text)
}

fn below(before: &LabelledInput, now: &LabelledInput) -> Change {
    let (same, kind) = match (before.kind, now.kind) {
        (InputKind::BaseImage, InputKind::BaseImage) => {
            (short(before) == short(now), InputKind::BaseImage)
        }
        _ => (
            before.kind == now.kind && text_of(&before.name) == text_of(&now.name),
            InputKind::Step,
        ),
    };
    let content = same && kind == InputKind::BaseImage;
    Change {
        kind,
        name: short(now),
        fields: content.then(|| "content".into()).into_iter().collect(),
        before: (!same).then(|| short(before)),
    }
}

fn files(
    before: &LabelledInput,
    now: &LabelledInput,
    listing: impl Fn(&str) -> Option<Listing>,
) -> Vec<Change> {
    let change = |name: String, fields: Vec<String>| Change {
        kind: InputKind::Files,
        name,
        fields,
        before: None,
    };
    let of = match now.name.as_str() {
        "" => String::new(),
        name => format!("of {}", clip(name)),
    };
    let (Some(old), Some(new)) = (listing(&before.digest), listing(&now.digest)) else {
        return vec![change(of, vec![])];
    };
    let place = |path: &str| match (path, of.as_str()) {
        ("", "") => ".".to_owned(),
        ("", of) => format!("/ {of}"),
        (path, "") => path.to_owned(),
        (path, of) => format!("/{path} {of}"),
    };
    let mut out = Vec::new();
    let a: BTreeMap<&str, &PathFacts> = old.paths.iter().map(|p| (p.path.as_str(), p)).collect();
    let b: BTreeMap<&str, &PathFacts> = new.paths.iter().map(|p| (p.path.as_str(), p)).collect();
    let paths: BTreeSet<&str> = a.keys().chain(b.keys()).copied().collect();
    let mut presence = false;
    for path in paths {
        let fields = match (a.get(path), b.get(path)) {
            (Some(a), Some(b)) => differing(a, b),
            (None, _) => vec!["added"],
            (_, None) => vec!["removed"],
        };
        if fields.is_empty() {
            continue;
        }
        presence |= matches!(fields.as_slice(), ["added" | "removed"]);
        if out.len() < MAX_PATHS {
            let fields = fields.into_iter().map(str::to_owned).collect();
            out.push(change(place(path), fields));
        }
    }
    if presence && old.ignore != new.ignore {
        let name = [&new.ignore_file, &old.ignore_file]
            .into_iter()
            .find(|n| !n.is_empty())
            .map_or(".dockerignore", String::as_str);
        out.insert(0, change(name.to_owned(), vec!["patterns".into()]));
    }
    out
}

fn differing(a: &PathFacts, b: &PathFacts) -> Vec<&'static str> {
    if a.kind != b.kind {
        return vec!["type"];
    }
    [
        ("content", a.content != b.content),
        ("link target", a.link != b.link),
        // Where one side does not care, a flag has changed, and that is told.
        (
            "mode",
            a.mode.is_some() && b.mode.is_some() && a.mode != b.mode,
        ),
        (
            "owner",
            a.owner.is_some() && b.owner.is_some() && a.owner != b.owner,
        ),
        ("xattrs", a.xattrs != b.xattrs),
    ]
    .into_iter()
    .filter_map(|(name, differs)| differs.then_some(name))
    .collect()
}

/// Leaves out what only follows from something else that is told.
fn tidy(mut changes: Vec<Change>) -> Vec<Change> {
    // A variable that comes or goes changes their order.
    if changes.len() > 1 {
        changes.retain(|c| c.kind != InputKind::EnvOrder);
    }
    for change in &mut changes {
        // All of a mount's fields are new with it.
        for presence in ["added", "removed"] {
            if change.kind == InputKind::Mount && change.fields.iter().all(|f| f == presence) {
                change.fields = vec![presence.to_owned()];
            }
        }
    }
    // A flag that only one of two actions has is no news of its own.
    if changes.iter().any(|c| c.kind == InputKind::Actions) {
        changes.retain(|c| c.fields.is_empty() || c.kind == InputKind::Mount);
    }
    changes
}
