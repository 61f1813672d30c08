//! The stages of a file, without any values: what `--target` can name.

use kiln_parser::{Dockerfile, Kind, Span};

use crate::lint::description;

/// A stage as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its name in lower case, if it has one.
    pub name: Option<String>,
    /// What the comment above says of it.
    pub description: Option<String>,
    /// Built when no target is named.
    pub default: bool,
    /// What it starts from, as written.
    pub base: String,
    /// `--platform`, as written.
    pub platform: Option<String>,
    /// Its FROM.
    pub about: Span,
}

/// The stages in their order.
#[must_use]
pub fn targets(dockerfile: &Dockerfile) -> Vec<Target> {
    let stage = |instruction: &kiln_parser::Instruction| {
        let Kind::From { image, alias, .. } = &instruction.kind else {
            return None;
        };
        let name = alias.as_ref().map(|a| a.value.to_lowercase());
        let flags = instruction.flags.iter();
        let platform = flags
            .filter(|f| f.name.value == "platform")
            .find_map(|f| f.value.as_ref());
        Some(Target {
            description: name
                .as_ref()
                .and_then(|name| description(&instruction.comments, name)),
            name,
            default: false,
            base: image.value.clone(),
            platform: platform.map(|p| p.value.clone()),
            about: instruction.span,
        })
    };
    let mut all: Vec<Target> = dockerfile.instructions.iter().filter_map(stage).collect();
    if let Some(last) = all.last_mut() {
        last.default = true;
    }
    all
}
