//! Package lists of apt that an image carries along.

use kiln_parser::flags::{MountType, parse_mount};
use kiln_parser::{Instruction, Kind};

use super::{Findings, Location, Rule, shell};

/// Where apt keeps the lists that `update` fetches.
const LISTS: &str = "/var/lib/apt/lists";

/// Checks the instructions of a stage whose layers are in the image.
pub(crate) fn check_layers(stage: &[Instruction], findings: &Findings) {
    for instruction in stage {
        let Kind::Run(command) = &instruction.kind else {
            continue;
        };
        let Some(script) = shell::script(command) else {
            continue;
        };
        if !fetches_lists(script) || clears_lists(script) || lists_are_mounted(instruction) {
            continue;
        }
        let spot = Location {
            about: instruction.span,
            trigger: false,
        };
        let detail = "the package lists that `apt-get update` fetches stay in this layer; end the \
                      command with `rm -rf /var/lib/apt/lists/*`, or mount a cache there";
        let at = spot.at(instruction.keyword.span);
        findings.report(Rule::KilnAptListsInLayer, at, detail);
    }
}

/// Whether a command of the script is `apt-get update`.
fn fetches_lists(script: &str) -> bool {
    let Some(commands) = shell::commands(script) else {
        return false;
    };
    commands.iter().any(|words| {
        let mut words = words.iter().map(String::as_str);
        let program = words.next().unwrap_or_default();
        let program = program.rsplit('/').next().unwrap_or_default();
        matches!(program, "apt" | "apt-get" | "aptitude")
            && first_argument(words).is_some_and(|word| word == "update")
    })
}

/// The first word that is neither an option nor the value of one.
fn first_argument<'a>(mut words: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    loop {
        match words.next()? {
            "-o" | "-c" | "-t" | "-a" => {
                words.next();
            }
            word if word.starts_with('-') => {}
            word => return Some(word),
        }
    }
}

/// Whether the script may clear the lists, in any of the ways to write that, or keeps them
/// elsewhere.
fn clears_lists(script: &str) -> bool {
    let signs = [
        "/var/lib/apt",
        "apt/lists",
        "distclean",
        // The name that apt-get has for it.
        "dist-clean",
        "Dir::State",
        "/var/lib/*",
        "/var/lib/{",
        "/var/*",
        "/var/{",
        "/{var",
    ];
    signs.iter().any(|sign| script.contains(sign))
}

/// Whether the lists do not go to the layer because something is mounted there.
fn lists_are_mounted(instruction: &Instruction) -> bool {
    let mounts = instruction.flags.iter().filter(|f| f.name.value == "mount");
    mounts.filter_map(|f| f.value.as_ref()).any(|value| {
        match parse_mount(&value.value) {
            // What a variable makes of it is not known here.
            Err(_) => true,
            Ok(spec) => {
                let target = spec.target.unwrap_or_default();
                let target = target.trim_end_matches('/');
                let covers = LISTS
                    .strip_prefix(target)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
                target.contains('$')
                    || (covers
                        && !target.is_empty()
                        && matches!(
                            spec.kind,
                            MountType::Cache | MountType::Tmpfs | MountType::Bind
                        ))
            }
        }
    })
}
