//! What can be done about an error, as data: a front puts it into words, or does it.

/// What can be done about an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hint {
    /// Something of another name may have been meant.
    DidYouMean(String),
    /// A path is not the directory that it would have to be.
    NotADirectory(String),
    /// Give a secret with this id to the build.
    GiveSecret {
        /// The id.
        id: String,
    },
    /// A secret is a regular file of at most so many bytes.
    SecretFile {
        /// Bytes at most.
        limit: u64,
    },
    /// Mount a secret as a file: it cannot be a variable.
    SecretAsFile,
    /// Give an SSH agent with this id to the build.
    GiveAgent {
        /// The id.
        id: String,
    },
    /// Allow a device, if the Dockerfile is trusted.
    AllowDevice {
        /// Its name.
        name: String,
    },
    /// The file that describes a device would be in one of these directories.
    DeviceDirectories(Vec<String>),
    /// Files that describe devices could not be read.
    DeviceFiles(Vec<String>),
    /// See the files that describe devices.
    SeeDeviceFiles,
    /// Check the name of an image; a private one needs credentials.
    CheckImageName,
    /// Check name and tag of an image; a private one needs credentials.
    CheckImageNameAndTag,
    /// Check the host of a registry and the network; a mirror can be named.
    CheckHostOrMirror,
    /// Check the host of a registry and the network.
    CheckHost,
    /// Pushing needs credentials.
    PushCredentials,
    /// Choose another platform.
    ChoosePlatform,
    /// What was named cannot be built on or run.
    NotAnImage,
    /// Name the image itself by its digest.
    NameByDigest,
    /// How names of images are written.
    ImageNameForm,
    /// Layers of Windows images have to be built there.
    BuildOnWindows,
    /// Build or pull an image again.
    BuildOrPullAgain,
    /// Build or pull the image of a layer again.
    BuildOrPullOwnerAgain,
    /// Run the same build again.
    BuildAgain,
    /// Push again: what was damaged is removed.
    PushAgain,
    /// Check the name of a branch or tag; commits have all their digits.
    CheckGitReference,
    /// Install git, or give the files in another way.
    InstallGit,
    /// A private repository needs a token or a key.
    GitCredentials,
    /// Load a key for SSH, and make the host known.
    GitSshKey,
    /// Repositories are fetched by few protocols.
    GitProtocols,
    /// Check the address of a repository and the network.
    CheckGitAddress,
    /// Check the address of a file, its checksum and the network.
    CheckDownload,
    /// Allow larger downloads.
    RaiseMaxDownload,
    /// Give a context.
    GiveContext,
    /// Build from a copy of the context that nobody writes to.
    CopyContext,
    /// Store a script with line ends of Unix.
    UnixLineEnds {
        /// The script.
        script: String,
    },
}
