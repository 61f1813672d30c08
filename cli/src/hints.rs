//! The engine's hints, in words.

use kiln_engine::Hint;

/// What a hint says.
pub(crate) fn words(hint: &Hint) -> String {
    let fixed = match hint {
        Hint::Text(text) => return text.clone(),
        Hint::DidYouMean(name) => return format!("did you mean `{name}`?"),
        Hint::Names(names) => return format!("its names are {}", names.join(", ")),
        Hint::Instructions(all) => return format!("instructions are: {}", all.join(", ")),
        Hint::NameDockerfile => "name the file with -f FILE",
        Hint::ConvertToUtf8 => {
            "only comments may be in another encoding: `iconv -f latin1 -t utf8` converts a file"
        }
        Hint::ChecksAreErrors => "`error=true` in the options of checks makes warnings errors",
        Hint::ListImages => "`kiln images` lists what there is",
        Hint::ListCacheMounts => "`kiln cache ls` lists what there is",
        Hint::RepairStore => "`kiln fsck --repair` puts it aside and makes a new one",
        Hint::OtherRoot { denied: true } => {
            "choose another place with --root, or run kiln as a user that may write there"
        }
        Hint::OtherRoot { denied: false } => "choose another place with --root",
        Hint::TryLater => "try again when its build is over",
        Hint::ReadOnlyCaches => "`read-only` in section [cache] of the config file",
        Hint::AddCacheFrom => "add it as --cache-from",
        Hint::InlineNeedsImage => "use -o type=image, oci or docker",
        Hint::NameImage => "give it one with -t [REGISTRY/]NAME[:TAG]",
        Hint::PushOutput => "add push=true, or write an archive with type=oci,dest=FILE",
        Hint::ManyNames => "remove them by name, or all with -f",
        Hint::BuildOnWindows => "layers of Windows images have another form: build them on Windows",
        Hint::GiveEpoch => {
            "files, layers and history carry the time of the build; set SOURCE_DATE_EPOCH, for \
             example to the time of the last commit"
        }
        Hint::StepsAndTimesDiffer => {
            "what steps write differs, and times do too as long as SOURCE_DATE_EPOCH is not set"
        }
        Hint::NameFile => "give the name of a file",
        Hint::NeedsRoot => "run it as root, or in a container that has this capability",
    };
    fixed.to_owned()
}
