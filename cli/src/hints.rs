//! The engine's hints, in words.

use kiln_engine::Hint;
use kiln_engine::solver::Hint as BuildHint;
use kiln_engine::solver::lower::LowerError;

/// What a hint says.
pub(crate) fn words(hint: &Hint) -> String {
    let fixed = match hint {
        Hint::Build(hint) => return of_build(hint),
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
        Hint::PushOrArchive => "add push=true, or write an archive with type=oci,dest=FILE",
        Hint::ManyNames => "remove them by name, or all with -f",
        Hint::GiveEpoch => {
            "files, layers and history carry the time of the build; set SOURCE_DATE_EPOCH, for \
             example to the time of the last commit"
        }
        Hint::StepsAndTimesDiffer => {
            "what steps write differs, and times do too as long as SOURCE_DATE_EPOCH is not set"
        }
        Hint::GiveCommand => "give one: kiln run IMAGE COMMAND",
        Hint::NameFile => "give the name of a file",
        Hint::NeedsRoot => "run it as root, or in a container that has this capability",
    };
    fixed.to_owned()
}

/// What can be done about an error in a Dockerfile.
pub(crate) fn of_lowering(error: &LowerError) -> Option<String> {
    let help = error.help.clone();
    help.or_else(|| error.hint.as_ref().map(of_build))
}

/// What a hint of a build says.
pub(crate) fn of_build(hint: &BuildHint) -> String {
    let fixed = match hint {
        BuildHint::DidYouMean(name) => return format!("did you mean `{name}`?"),
        BuildHint::NotADirectory(path) => return format!("`{path}` is not a directory"),
        BuildHint::GiveSecret { id } => return format!("add --secret id={id},src=FILE"),
        BuildHint::SecretFile { limit } => {
            return format!("a secret is a regular file of at most {} KiB", limit >> 10);
        }
        BuildHint::SecretAsFile => "use it as a file: target=/path",
        BuildHint::GiveAgent { id } => return format!("add --ssh {id}=$SSH_AUTH_SOCK"),
        BuildHint::AllowDevice { name } => {
            return format!("run `kiln build --allow device={name}` if you trust this Dockerfile");
        }
        BuildHint::DeviceDirectories(dirs) => {
            return format!("its file would be in {}", dirs.join(" or "));
        }
        BuildHint::DeviceFiles(broken) => {
            return format!("a file could not be read: {}", broken.join("; "));
        }
        BuildHint::SeeDeviceFiles => {
            "see the files of the Container Device Interface on this machine"
        }
        BuildHint::CheckImageName => {
            "check the name; a private image needs credentials in the Docker config file, which \
             `docker login` writes"
        }
        BuildHint::CheckImageNameAndTag => {
            "check the name and the tag; a private image needs credentials in the Docker config \
             file, which `docker login` writes"
        }
        BuildHint::CheckHostOrMirror => {
            "check the host and the network; kiln's config file can name a mirror for the registry"
        }
        BuildHint::CheckHost => "check the host and the network",
        BuildHint::PushCredentials => {
            "pushing needs credentials in Docker's config file; `docker login` and others write them"
        }
        BuildHint::ChoosePlatform => {
            "--platform chooses one of those that there are; RUN needs one that this machine runs"
        }
        BuildHint::NotAnImage => {
            "check the tag or digest: what has no layers to unpack cannot be built on or run"
        }
        BuildHint::NameByDigest => "name the image itself, by the digest of its manifest",
        BuildHint::ImageNameForm => {
            "names are written [HOST[:PORT]/]NAME[:TAG][@DIGEST], in lower case up to the tag"
        }
        BuildHint::BuildOnWindows => {
            "layers of Windows images have another form: build them on Windows"
        }
        BuildHint::BuildOrPullAgain => "build or pull the image again",
        BuildHint::BuildOrPullOwnerAgain => "build or pull the image that it belongs to again",
        BuildHint::BuildAgain => "run the same build again",
        BuildHint::PushAgain => "it is removed; push again, and it is made or fetched anew",
        BuildHint::CheckGitReference => {
            "check the name; a commit must be given with all its 40 digits"
        }
        BuildHint::InstallGit => "install git, or give the files in another way",
        BuildHint::GitCredentials => {
            "a private repository needs a user and token in its address, or an SSH key"
        }
        BuildHint::GitSshKey => {
            "load a key with ssh-add, and make the host known with ssh-keyscan HOST >> ~/.ssh/known_hosts"
        }
        BuildHint::GitProtocols => {
            "repositories and submodules are fetched by https, http, ssh and git only"
        }
        BuildHint::CheckGitAddress => "check the address and that this machine can reach it",
        BuildHint::CheckDownload => {
            "check the address, the checksum and that this machine can reach it"
        }
        BuildHint::RaiseMaxDownload => {
            "give --max-download SIZE, or set max-download in [build] of the config file"
        }
        BuildHint::GiveContext => "give a directory, a tar or an address in place of `-`",
        BuildHint::CopyContext => "build from a copy that nobody writes to",
        BuildHint::UnixLineEnds { script } => {
            return format!(
                "the first line of `{script}` ends with a carriage return, which counts as part of \
                 its interpreter's name: store it with line ends of Unix"
            );
        }
    };
    fixed.to_owned()
}
