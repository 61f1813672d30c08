//! What a key is made of, as far as a miss is explained by it.

use serde::{Deserialize, Serialize};

/// One input of a key, for explaining a miss.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabelledInput {
    /// What kind of thing it is.
    pub kind: InputKind,
    /// Which: the name of a variable, the target of a mount, the line of a step.
    pub name: String,
    /// Which part of it.
    pub field: String,
    /// A digest of its value, in hexadecimal. Values themselves may be secret.
    pub digest: String,
}

/// What kind of thing an input is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InputKind {
    /// A path that was read.
    Files,
    /// The command itself.
    Command,
    /// The shell that the command is given to.
    Shell,
    /// A build argument.
    Arg,
    /// A variable of the image.
    Env,
    /// The order of variables.
    EnvOrder,
    /// The working directory.
    WorkingDirectory,
    /// The user.
    User,
    /// The network.
    Network,
    /// How confined the command is.
    Security,
    /// A device.
    Device,
    /// The host name.
    HostName,
    /// Additional lines of /etc/hosts.
    Hosts,
    /// The platform.
    Platform,
    /// The clamp of file times.
    Epoch,
    /// A mount of the command.
    Mount,
    /// A flag of a copy.
    Flag,
    /// Paths that are copied, as written.
    Sources,
    /// Where files go.
    Destination,
    /// A file whose text is part of the step.
    HereDocument,
    /// A directory that is made.
    Directory,
    /// The order or kind of what a step does.
    Actions,
    /// The base image.
    BaseImage,
    /// The result of another step that this one starts from.
    Step,
    /// The encoding of keys.
    Encoding,
}

impl InputKind {
    /// Its name in keys and in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Files => "files",
            Self::Command => "command",
            Self::Shell => "shell",
            Self::Arg => "arg",
            Self::Env => "env",
            Self::EnvOrder => "env-order",
            Self::WorkingDirectory => "working-directory",
            Self::User => "user",
            Self::Network => "network",
            Self::Security => "security",
            Self::Device => "device",
            Self::HostName => "host-name",
            Self::Hosts => "hosts",
            Self::Platform => "platform",
            Self::Epoch => "epoch",
            Self::Mount => "mount",
            Self::Flag => "flag",
            Self::Sources => "sources",
            Self::Destination => "destination",
            Self::HereDocument => "here-document",
            Self::Directory => "directory",
            Self::Actions => "actions",
            Self::BaseImage => "base-image",
            Self::Step => "step",
            Self::Encoding => "encoding",
        }
    }
}
