//! `--filter` of the commands that list or remove images.

use kiln_engine::ImageFilter;

use super::prune::age;
use crate::errors::Failure;

/// How filters are written.
const FORMS: &[(&str, &str)] = &[
    ("dangling", "dangling=true|false"),
    ("label", "label=NAME[=VALUE]"),
    ("label!", "label!=NAME[=VALUE]"),
    ("reference", "reference=PATTERN"),
    ("until", "until=TIME"),
];

/// Reads the filters of a command that knows those called `known`.
pub(super) fn all(texts: &[String], known: &[&str]) -> Result<Vec<ImageFilter>, Failure> {
    texts.iter().map(|text| parse(text, known)).collect()
}

fn parse(text: &str, known: &[&str]) -> Result<ImageFilter, Failure> {
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
        ("dangling", "true" | "1") => Ok(ImageFilter::Dangling(true)),
        ("dangling", "false" | "0") => Ok(ImageFilter::Dangling(false)),
        ("dangling", _) => Err(bad("`dangling` is true or false")),
        ("reference", pattern) => Ok(ImageFilter::Reference(pattern.to_owned())),
        ("until", time) => Ok(ImageFilter::Until(age(time)?)),
        (_, label) => {
            let (label, of) = label
                .split_once('=')
                .map_or((label, None), |(k, v)| (k, Some(v.to_owned())));
            Ok(ImageFilter::Label {
                name: label.to_owned(),
                value: of,
                wanted: name == "label",
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: &[&str] = &["dangling", "label", "label!", "reference", "until"];

    #[test]
    fn filters_are_read() {
        let label = |wanted| ImageFilter::Label {
            name: "a".into(),
            value: Some("1=2".into()),
            wanted,
        };
        for (text, want) in [
            ("dangling=true", ImageFilter::Dangling(true)),
            ("dangling=0", ImageFilter::Dangling(false)),
            ("reference=web", ImageFilter::Reference("web".into())),
            (
                "until=30m",
                ImageFilter::Until(std::time::Duration::from_secs(1800)),
            ),
            ("label=a=1=2", label(true)),
            ("label!=a=1=2", label(false)),
        ] {
            assert_eq!(parse(text, ALL).unwrap(), want, "{text}");
        }
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
            let failure = parse(text, known).unwrap_err();
            assert_eq!(failure.message, format!("--filter `{text}`: {why}"));
            let hint = failure.hint.unwrap();
            assert_eq!(hint, "filters are dangling=true|false, label=NAME[=VALUE]");
        }
        assert!(parse("until=soon", ALL).is_err());
    }
}
