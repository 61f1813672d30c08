//! `kiln images`.

use std::process::ExitCode;
use std::time::SystemTime;

use kiln_cache::{ImageRow, Store};
use kiln_image::{ImageConfig, Reference};
use kiln_solver::plan::{Glob, has_wildcard};
use serde_json::{Value, json};

use crate::engine::App;
use crate::errors::Failure;
use crate::template::{Template, align};
use crate::ui;

/// List images
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kiln images
  kiln images 'web*'
  kiln images -q --filter dangling=true
  kiln images --format '{{.Repository}}:{{.Tag}} {{.Size}}'")]
pub(crate) struct Args {
    /// Print ids only
    #[arg(short, long)]
    quiet: bool,
    /// Show nameless images too; they are always shown
    #[arg(short, long, hide = true)]
    all: bool,
    /// Show whole ids
    #[arg(long)]
    no_trunc: bool,
    /// Show the digests that images were pulled by
    #[arg(long)]
    digests: bool,
    /// Show only some: dangling=true|false, label=NAME[=VALUE],
    /// reference=PATTERN
    #[arg(short, long, value_name = "FILTER")]
    filter: Vec<String>,
    /// Go template, or `json`
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,
    /// Only images of this name; `*`, `?` and `[a-z]` stand for what they do in a shell
    #[arg(value_name = "NAME[:TAG]")]
    name: Option<String>,
}

/// How long ago something was, as docker says it.
pub(crate) fn ago(time: SystemTime) -> String {
    let seconds = SystemTime::now()
        .duration_since(time)
        .map_or(0, |d| d.as_secs());
    let (number, unit) = match seconds {
        0..60 => return "Less than a minute ago".into(),
        60..3600 => (seconds / 60, "minute"),
        3600..86_400 => (seconds / 3600, "hour"),
        86_400..1_209_600 => (seconds / 86_400, "day"),
        1_209_600..5_184_000 => (seconds / 604_800, "week"),
        5_184_000..63_072_000 => (seconds / 2_592_000, "month"),
        _ => (seconds / 31_536_000, "year"),
    };
    if number == 1 {
        format!("1 {unit} ago")
    } else {
        format!("{number} {unit}s ago")
    }
}

/// A number of bytes as docker shows it.
pub(crate) fn size(bytes: u64) -> String {
    let (number, unit) = match bytes {
        0..1_000 => return format!("{bytes}B"),
        1_000..1_000_000 => (bytes as f64 / 1e3, "kB"),
        1_000_000..1_000_000_000 => (bytes as f64 / 1e6, "MB"),
        _ => (bytes as f64 / 1e9, "GB"),
    };
    if number >= 100.0 {
        format!("{number:.0}{unit}")
    } else {
        format!("{number:.3}")
            .chars()
            .take(4)
            .collect::<String>()
            .trim_end_matches('.')
            .to_owned()
            + unit
    }
}

/// The bytes of an image's files, as far as its layers are here.
pub(crate) fn image_size(store: &Store, config: &ImageConfig) -> Result<u64, Failure> {
    let mut sum = 0;
    for diff_id in &config.rootfs.diff_ids {
        sum += store.layer_by_diff(diff_id)?.map_or(0, |l| l.bytes);
    }
    Ok(sum)
}

/// When an image was made.
pub(crate) fn created(config: &ImageConfig, row: &ImageRow) -> SystemTime {
    config.created.map_or(row.added, SystemTime::from)
}

/// One `--filter`.
#[derive(Debug, PartialEq, Eq)]
enum Filter {
    Dangling(bool),
    /// A label, with this value or with any.
    Label(String, Option<String>),
    Reference(String),
}

impl Filter {
    fn parse(text: &str) -> Result<Self, Failure> {
        let bad = |why: &str| {
            Failure::usage(format!("--filter `{text}`: {why}")).with_hint(
                "filters are dangling=true|false, label=NAME[=VALUE] and reference=PATTERN",
            )
        };
        let (name, value) = text
            .split_once('=')
            .ok_or_else(|| bad("it is not NAME=VALUE"))?;
        Ok(match (name, value) {
            ("dangling", "true" | "1") => Self::Dangling(true),
            ("dangling", "false" | "0") => Self::Dangling(false),
            ("dangling", _) => return Err(bad("`dangling` is true or false")),
            ("label", value) => match value.split_once('=') {
                Some((key, value)) => Self::Label(key.to_owned(), Some(value.to_owned())),
                None => Self::Label(value.to_owned(), None),
            },
            ("reference", pattern) => Self::Reference(pattern.to_owned()),
            (other, _) => return Err(bad(&format!("there is no filter `{other}`"))),
        })
    }

    fn fits(&self, row: &ImageRow, config: &ImageConfig) -> bool {
        match self {
            Self::Dangling(wanted) => row.name.is_none() == *wanted,
            Self::Label(key, wanted) => config
                .config
                .labels
                .get(key)
                .is_some_and(|v| wanted.as_ref().is_none_or(|w| w == v)),
            Self::Reference(pattern) => names_match(row, pattern),
        }
    }
}

/// Whether an image has this name: with a tag exactly, without one any tag. As Docker has it, a
/// pattern is for the short name, or for the short name with its tag.
fn names_match(row: &ImageRow, wanted: &str) -> bool {
    let Some(own) = row.name.as_deref().and_then(|n| Reference::parse(n).ok()) else {
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

/// Runs the command.
pub(crate) fn run(app: &App, args: &Args) -> Result<ExitCode, Failure> {
    let store = app.store()?;
    let filters = args
        .filter
        .iter()
        .map(|text| Filter::parse(text))
        .collect::<Result<Vec<_>, _>>()?;
    let mut values = Vec::new();
    for row in store.images()? {
        if args
            .name
            .as_deref()
            .is_some_and(|wanted| !names_match(&row, wanted))
        {
            continue;
        }
        // A row whose config is gone is no image any more.
        let Some(image) = store.try_image(row.config.as_str())? else {
            continue;
        };
        if filters.iter().all(|f| f.fits(&row, &image.config)) {
            values.push(describe(&store, args, &row, &image.config)?);
        }
    }
    print(args, &values)?;
    Ok(ExitCode::SUCCESS)
}

fn describe(
    store: &Store,
    args: &Args,
    row: &ImageRow,
    config: &ImageConfig,
) -> Result<Value, Failure> {
    let reference = row.name.as_deref().and_then(|n| Reference::parse(n).ok());
    let none = || "<none>".to_owned();
    let made = created(config, row);
    let id = if args.no_trunc {
        row.config.to_string()
    } else {
        row.config.hex()[..12].to_owned()
    };
    Ok(json!({
        "Repository": reference.as_ref().map_or_else(none, Reference::familiar_name),
        "Tag": reference.as_ref().and_then(Reference::tag).map_or_else(none, str::to_owned),
        "Digest": row.manifest.as_ref().map_or_else(none, ToString::to_string),
        "ID": id,
        "CreatedSince": ago(made),
        "CreatedAt": jiff::Timestamp::try_from(made).map_or_else(|_| none(), |t| t.to_string()),
        "Size": size(image_size(store, config)?),
    }))
}

fn print(args: &Args, values: &[Value]) -> Result<(), Failure> {
    if let Some(template) = Template::asked(args.format.as_deref())? {
        for line in template.lines(values, &[("ID", "IMAGE ID"), ("CreatedSince", "CREATED")])? {
            ui::data(&line);
        }
        return Ok(());
    }
    let text = |v: &Value, name: &str| v[name].as_str().unwrap_or_default().to_owned();
    if args.quiet {
        let mut seen = std::collections::BTreeSet::new();
        for value in values {
            let id = text(value, "ID");
            if seen.insert(id.clone()) {
                ui::data(&id);
            }
        }
        return Ok(());
    }
    let mut columns = vec![("REPOSITORY", "Repository"), ("TAG", "Tag")];
    if args.digests {
        columns.push(("DIGEST", "Digest"));
    }
    columns.extend([
        ("IMAGE ID", "ID"),
        ("CREATED", "CreatedSince"),
        ("SIZE", "Size"),
    ]);
    let head = columns
        .iter()
        .map(|(h, _)| (*h).to_owned())
        .collect::<Vec<_>>()
        .join("\t");
    let rows = values.iter().map(|v| {
        columns
            .iter()
            .map(|(_, f)| text(v, f))
            .collect::<Vec<_>>()
            .join("\t")
    });
    for line in align(&std::iter::once(head).chain(rows).collect::<Vec<_>>()) {
        ui::data(&line);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

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
            let row = ImageRow {
                name: Some(name.into()),
                config: kiln_image::Digest::of(b""),
                manifest: None,
                added: SystemTime::UNIX_EPOCH,
            };
            assert_eq!(names_match(&row, pattern), fitting, "{pattern} {name}");
        }
    }

    #[test]
    fn filters_that_are_not_known_are_told_with_those_that_are() {
        assert_eq!(
            Filter::parse("dangling=0").unwrap(),
            Filter::Dangling(false)
        );
        assert_eq!(
            Filter::parse("label=a=b=c").unwrap(),
            Filter::Label("a".into(), Some("b=c".into()))
        );
        for (text, why) in [
            ("nonsense=x", "there is no filter `nonsense`"),
            ("nonsense", "it is not NAME=VALUE"),
            ("dangling=x", "`dangling` is true or false"),
        ] {
            let failure = Filter::parse(text).unwrap_err();
            assert_eq!(failure.message, format!("--filter `{text}`: {why}"));
            let hint = failure.hint.unwrap();
            for known in ["dangling=", "label=", "reference="] {
                assert!(hint.contains(known), "{hint}");
            }
        }
    }

    #[test]
    fn sizes_and_ages_read_as_in_docker() {
        let cases = [
            (0, "0B"),
            (999, "999B"),
            (1_100_000, "1.10MB"),
            (123_000_000, "123MB"),
            (4_500_000_000, "4.50GB"),
        ];
        for (bytes, want) in cases {
            assert_eq!(size(bytes), want);
        }
        let hours = std::time::Duration::from_secs(3 * 3600 + 5);
        assert_eq!(ago(SystemTime::now() - hours), "3 hours ago");
    }
}
