//! `--filter` of the commands that list or remove images.

use std::time::{Duration, SystemTime};

use kiln_cache::ImageRow;
use kiln_image::{ImageConfig, Reference};
use kiln_solver::plan::{Glob, has_wildcard};

use super::prune::age;
use crate::errors::Failure;

/// One `--filter`.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ImageFilter {
    /// Without a name, or with one.
    Dangling(bool),
    /// With a label of this name, and this value if there is one; or without it.
    Label {
        name: String,
        value: Option<String>,
        wanted: bool,
    },
    /// Of this name, or of one that the pattern fits.
    Reference(String),
    /// Made so long ago.
    Until(Duration),
}

/// How filters are written.
const FORMS: &[(&str, &str)] = &[
    ("dangling", "dangling=true|false"),
    ("label", "label=NAME[=VALUE]"),
    ("label!", "label!=NAME[=VALUE]"),
    ("reference", "reference=PATTERN"),
    ("until", "until=TIME"),
];

impl ImageFilter {
    /// Reads the filters of a command that knows those called `known`.
    pub(super) fn all(texts: &[String], known: &[&str]) -> Result<Vec<Self>, Failure> {
        texts.iter().map(|text| Self::parse(text, known)).collect()
    }

    fn parse(text: &str, known: &[&str]) -> Result<Self, Failure> {
        let bad = |why: &str| {
            let forms = FORMS.iter().filter(|(name, _)| known.contains(name));
            let forms: Vec<&str> = forms.map(|(_, form)| *form).collect();
            let hint = format!("filters are {}", forms.join(", "));
            Failure::usage(format!("--filter `{text}`: {why}")).with_hint(hint)
        };
        let (name, value) = text
            .split_once('=')
            .ok_or_else(|| bad("it is not NAME=VALUE"))?;
        if !known.contains(&name) {
            return Err(bad(&format!("there is no filter `{name}`")));
        }
        match (name, value) {
            ("dangling", "true" | "1") => Ok(Self::Dangling(true)),
            ("dangling", "false" | "0") => Ok(Self::Dangling(false)),
            ("dangling", _) => Err(bad("`dangling` is true or false")),
            ("reference", pattern) => Ok(Self::Reference(pattern.to_owned())),
            ("until", time) => Ok(Self::Until(age(time)?)),
            (_, label) => {
                let (label, of) = label
                    .split_once('=')
                    .map_or((label, None), |(k, v)| (k, Some(v.to_owned())));
                Ok(Self::Label {
                    name: label.to_owned(),
                    value: of,
                    wanted: name == "label",
                })
            }
        }
    }

    /// Whether an image is one of those that are wanted.
    pub(super) fn fits(&self, row: &ImageRow, config: &ImageConfig) -> bool {
        match self {
            Self::Dangling(wanted) => row.name.is_none() == *wanted,
            Self::Label {
                name,
                value,
                wanted,
            } => {
                let own = config.config.labels.get(name);
                let has = own.is_some_and(|own| value.as_ref().is_none_or(|v| v == own));
                has == *wanted
            }
            Self::Reference(pattern) => names_match(row, pattern),
            Self::Until(age) => SystemTime::now()
                .duration_since(created(config, row))
                .is_ok_and(|old| old >= *age),
        }
    }
}

/// When an image was made.
pub(super) fn created(config: &ImageConfig, row: &ImageRow) -> SystemTime {
    config.created.map_or(row.added, SystemTime::from)
}

/// Whether an image has this name: with a tag exactly, without one any tag. As Docker has it, a
/// pattern is for the short name, or for the short name with its tag.
pub(super) fn names_match(row: &ImageRow, wanted: &str) -> bool {
    let Some(own) = &row.name else {
        return false;
    };
    if has_wildcard(wanted) {
        return fits(wanted, &own.familiar_name()) || fits(wanted, &own.familiar());
    }
    let Ok(reference) = Reference::parse(wanted) else {
        return false;
    };
    let tagged = wanted
        .rsplit('/')
        .next()
        .is_some_and(|last| last.contains(':'));
    own.name() == reference.name() && (!tagged || own.tag() == reference.tag())
}

/// Whether a pattern such as `web*` or `team/*:1.?` fits a name; a star does not go past a slash.
fn fits(pattern: &str, name: &str) -> bool {
    let (patterns, parts) = (pattern.split('/'), name.split('/'));
    patterns.clone().count() == parts.clone().count()
        && patterns
            .zip(parts)
            .all(|(p, part)| Glob::segment_matches(p, part))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: &[&str] = &["dangling", "label", "label!", "reference", "until"];

    fn image(name: Option<&str>) -> ImageRow {
        ImageRow {
            name: name.map(|name| name.parse().unwrap()),
            config: kiln_image::Digest::of(b""),
            manifest: None,
            added: SystemTime::now() - Duration::from_secs(3600),
        }
    }

    #[test]
    fn patterns_fit_short_names_and_tags() {
        for (pattern, name, fitting) in [
            ("w*", "docker.io/library/web:1", true),
            ("*:1", "docker.io/library/web:1", true),
            ("web:?", "docker.io/library/web:1", true),
            ("we[a-c]", "docker.io/library/web:1", true),
            ("w*", "docker.io/team/web:1", false),
            ("team/w*", "docker.io/team/web:1", true),
            ("*/w*:1", "docker.io/team/web:1", true),
            ("*", "docker.io/team/web:1", false),
            ("x*", "docker.io/library/web:1", false),
            ("web", "docker.io/library/web:1", true),
            ("web:2", "docker.io/library/web:1", false),
        ] {
            let fits = names_match(&image(Some(name)), pattern);
            assert_eq!(fits, fitting, "{pattern} {name}");
        }
    }

    #[test]
    fn filters_choose_by_name_label_and_age() {
        let mut config = ImageConfig::for_platform(&kiln_image::Platform::host());
        config.config.labels.insert("a".into(), "1=2".into());
        let row = image(Some("docker.io/library/web:1"));
        for (text, fits) in [
            ("dangling=true", false),
            ("dangling=0", true),
            ("reference=web", true),
            ("reference=db*", false),
            ("until=30m", true),
            ("until=2h", false),
            ("label=a", true),
            ("label=a=1=2", true),
            ("label=a=2", false),
            ("label=b", false),
            ("label!=a", false),
            ("label!=a=1=2", false),
            ("label!=a=2", true),
            ("label!=b", true),
        ] {
            let filter = ImageFilter::parse(text, ALL).unwrap();
            assert_eq!(filter.fits(&row, &config), fits, "{text}");
        }
        let filter = ImageFilter::parse("dangling=true", ALL).unwrap();
        assert!(filter.fits(&image(None), &config));
    }

    #[test]
    fn filters_that_are_not_known_are_told_with_those_that_are() {
        for (text, why) in [
            ("nonsense=x", "there is no filter `nonsense`"),
            ("nonsense", "it is not NAME=VALUE"),
            ("dangling=x", "`dangling` is true or false"),
            ("until=2h", "there is no filter `until`"),
        ] {
            let known = &["dangling", "label"];
            let failure = ImageFilter::parse(text, known).unwrap_err();
            assert_eq!(failure.message, format!("--filter `{text}`: {why}"));
            let hint = failure.hint.unwrap();
            assert_eq!(hint, "filters are dangling=true|false, label=NAME[=VALUE]");
        }
        assert!(ImageFilter::parse("until=soon", ALL).is_err());
    }
}
