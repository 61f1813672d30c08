//! Which images are meant, by name, label or age.

use std::time::{Duration, SystemTime};

use kiln_cache::ImageRow;
use kiln_image::{ImageConfig, Reference};
use kiln_solver::plan::{Glob, has_wildcard};

/// What an image must have to be meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageFilter {
    /// Without a name, or with one.
    Dangling(bool),
    /// With a label of this name, and this value if there is one; or without it.
    Label {
        /// The label.
        name: String,
        /// Its value, if that matters.
        value: Option<String>,
        /// Images with it are meant, else those without it.
        wanted: bool,
    },
    /// Of this name, or of one that the pattern fits.
    Reference(String),
    /// Made so long ago.
    Until(Duration),
}

impl ImageFilter {
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
    fn images_are_chosen_by_name_label_and_age() {
        let mut config = ImageConfig::for_platform(&kiln_image::Platform::host());
        config.config.labels.insert("a".into(), "1=2".into());
        let row = image(Some("docker.io/library/web:1"));
        let label = |name: &str, value: Option<&str>, wanted| ImageFilter::Label {
            name: name.into(),
            value: value.map(str::to_owned),
            wanted,
        };
        for (filter, fits) in [
            (ImageFilter::Dangling(true), false),
            (ImageFilter::Dangling(false), true),
            (ImageFilter::Reference("web".into()), true),
            (ImageFilter::Reference("db*".into()), false),
            (ImageFilter::Until(Duration::from_secs(1800)), true),
            (ImageFilter::Until(Duration::from_secs(7200)), false),
            (label("a", None, true), true),
            (label("a", Some("1=2"), true), true),
            (label("a", Some("2"), true), false),
            (label("b", None, true), false),
            (label("a", None, false), false),
            (label("a", Some("1=2"), false), false),
            (label("a", Some("2"), false), true),
            (label("b", None, false), true),
        ] {
            assert_eq!(filter.fits(&row, &config), fits, "{filter:?}");
        }
        assert!(ImageFilter::Dangling(true).fits(&image(None), &config));
    }
}
