//! What can be done about errors, in words.

use kiln_solver::Hint;
use kiln_solver::lower::LowerError;

/// What can be done about an error in a Dockerfile.
pub(crate) fn of_lowering(error: &LowerError) -> Option<String> {
    let help = error.help.clone();
    help.or_else(|| error.hint.as_ref().map(words))
}

/// A hint for people.
pub(crate) fn words(hint: &Hint) -> String {
    let fixed = match hint {
        Hint::DidYouMean(name) => return format!("did you mean `{name}`?"),
        Hint::NotADirectory(path) => return format!("`{path}` is not a directory"),
        Hint::GiveSecret { id } => return format!("add --secret id={id},src=FILE"),
        Hint::SecretFile { limit } => {
            return format!("a secret is a regular file of at most {} KiB", limit >> 10);
        }
        Hint::SecretAsFile => "use it as a file: target=/path",
        Hint::GiveAgent { id } => return format!("add --ssh {id}=$SSH_AUTH_SOCK"),
        Hint::AllowDevice { name } => {
            return format!("run `kiln build --allow device={name}` if you trust this Dockerfile");
        }
        Hint::DeviceDirectories(dirs) => {
            return format!("its file would be in {}", dirs.join(" or "));
        }
        Hint::DeviceFiles(broken) => {
            return format!("a file could not be read: {}", broken.join("; "));
        }
        Hint::SeeDeviceFiles => "see the files of the Container Device Interface on this machine",
        Hint::CheckImageName => {
            "check the name; a private image needs credentials in the Docker config file, which \
             `docker login` writes"
        }
        Hint::CheckImageNameAndTag => {
            "check the name and the tag; a private image needs credentials in the Docker config \
             file, which `docker login` writes"
        }
        Hint::CheckHostOrMirror => {
            "check the host and the network; kiln's config file can name a mirror for the registry"
        }
        Hint::CheckHost => "check the host and the network",
        Hint::PushCredentials => {
            "pushing needs credentials in Docker's config file; `docker login` and others write them"
        }
        Hint::ChoosePlatform => {
            "--platform chooses one of those that there are; RUN needs one that this machine runs"
        }
        Hint::NotAnImage => {
            "check the tag or digest: what has no layers to unpack cannot be built on or run"
        }
        Hint::NameByDigest => "name the image itself, by the digest of its manifest",
        Hint::ImageNameForm => {
            "names are written [HOST[:PORT]/]NAME[:TAG][@DIGEST], in lower case up to the tag"
        }
        Hint::BuildOnWindows => "layers of Windows images have another form: build them on Windows",
        Hint::BuildOrPullAgain => "build or pull the image again",
        Hint::BuildOrPullOwnerAgain => "build or pull the image that it belongs to again",
        Hint::BuildAgain => "run the same build again",
        Hint::PushAgain => "it is removed; push again, and it is made or fetched anew",
        Hint::CheckGitReference => "check the name; a commit must be given with all its 40 digits",
        Hint::InstallGit => "install git, or give the files in another way",
        Hint::GitCredentials => {
            "a private repository needs a user and token in its address, or an SSH key"
        }
        Hint::GitSshKey => {
            "load a key with ssh-add, and make the host known with ssh-keyscan HOST >> ~/.ssh/known_hosts"
        }
        Hint::GitProtocols => {
            "repositories and submodules are fetched by https, http, ssh and git only"
        }
        Hint::CheckGitAddress => "check the address and that this machine can reach it",
        Hint::CheckDownload => "check the address, the checksum and that this machine can reach it",
        Hint::RaiseMaxDownload => {
            "give --max-download SIZE, or set max-download in [build] of the config file"
        }
        Hint::GiveContext => "give a directory, a tar or an address in place of `-`",
        Hint::CopyContext => "build from a copy that nobody writes to",
        Hint::UnixLineEnds { script } => {
            return format!(
                "the first line of `{script}` ends with a carriage return, which counts as part of \
                 its interpreter's name: store it with line ends of Unix"
            );
        }
    };
    fixed.to_owned()
}
