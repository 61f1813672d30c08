//! The op that runs a command.

use super::BuildPlatform;
use crate::key::{ContentKey, Encoder, Fingerprint, content_key};

macro_rules! plain_enum {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $number:literal),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub enum $name { $($(#[$vmeta])* $variant),* }
        impl ContentKey for $name {
            fn encode(&self, to: &mut Encoder) {
                to.number(match self { $(Self::$variant => $number),* });
            }
        }
    };
}

plain_enum! {
    /// The network of a command.
    Network {
        /// The host's connectivity with files of its own for names.
        #[default]
        Default = 0,
        /// Loopback only.
        None = 1,
        /// The host's network as it is.
        Host = 2,
    }
}

plain_enum! {
    /// How confined a command is.
    Security {
        /// Confined.
        #[default]
        Sandbox = 0,
        /// All privileges.
        Insecure = 1,
    }
}

plain_enum! {
    /// How a cache mount is shared by steps that run at the same time.
    Sharing {
        /// All use it together.
        #[default]
        Shared = 0,
        /// Each gets one of its own.
        Private = 1,
        /// One after the other.
        Locked = 2,
    }
}

/// The words of a command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Command {
    /// The shell that it is given to, with its options; none where it runs itself.
    pub shell: Vec<String>,
    /// The rest.
    pub words: Vec<String>,
}
content_key!(Command { shell, words });

impl Command {
    /// All words, as they are executed.
    pub fn argv(&self) -> Vec<String> {
        [self.shell.as_slice(), self.words.as_slice()].concat()
    }
}

plain_enum! {
    /// Where a variable of a command comes from.
    VariableRole {
        /// It is part of the image.
        #[default]
        Environment = 0,
        /// It is a build argument.
        Argument = 1,
    }
}

/// A variable of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
    /// Where it comes from.
    pub role: VariableRole,
}
content_key!(Variable { name, value, role });

/// A command to run.
#[derive(Clone, Debug)]
pub struct Exec {
    /// Command and arguments.
    pub command: Command,
    /// Environment, in order.
    pub env: Vec<Variable>,
    /// Proxy settings: visible to the command, no part of the key.
    pub proxy_env: Vec<(String, String)>,
    /// Working directory.
    pub cwd: String,
    /// User, as text to be looked up in the image.
    pub user: String,
    /// Host name.
    pub hostname: String,
    /// Network.
    pub network: Network,
    /// Security.
    pub security: Security,
    /// Mounts.
    pub mounts: Vec<ExecMount>,
    /// Devices by name.
    pub devices: Vec<ExecDevice>,
    /// Additional lines of /etc/hosts: name and address.
    pub extra_hosts: Vec<(String, String)>,
    /// Resource limits: they are no part of the key.
    pub ulimits: Vec<Ulimit>,
    /// Size of /dev/shm: no part of the key.
    pub shm_size: Option<u64>,
    /// Platform that the command runs on.
    pub platform: BuildPlatform,
    /// Whether input 0 is the root file system.
    pub on_base: bool,
    /// Clamp of file times in the layer, in seconds since 1970.
    pub epoch: Option<u64>,
}
content_key!(Exec {
    command, env, cwd, user, hostname, network, security, mounts, devices, extra_hosts, platform, on_base, epoch,
} except { proxy_env, ulimits, shm_size });

/// A resource limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ulimit {
    /// Name without `RLIMIT_`, in lower case.
    pub name: String,
    /// Soft limit; `u64::MAX` is unlimited.
    pub soft: u64,
    /// Hard limit.
    pub hard: u64,
}

/// A mount of a command.
#[derive(Clone, Debug)]
pub struct ExecMount {
    /// Where; empty where the kind decides.
    pub target: String,
    /// What.
    pub kind: MountKind,
    /// Where its source is, in words for messages, such as "stage `build`".
    pub place: String,
}
content_key!(ExecMount { target, kind } except { place });

/// A device of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecDevice {
    /// `vendor/class`, perhaps with `=name`.
    pub name: String,
    /// The step fails without it.
    pub required: bool,
}
content_key!(ExecDevice { name, required });

/// What a command's mount shows.
#[derive(Clone, Debug)]
pub enum MountKind {
    /// A path of an input.
    Bind {
        /// Slot of the input; none is an empty tree.
        input: Option<usize>,
        /// Path in it.
        source: String,
        /// Writes are possible, and thrown away.
        writable: bool,
    },
    /// A directory that is kept between builds.
    Cache(CacheMount),
    /// An empty directory in memory.
    Tmpfs {
        /// Size limit in bytes.
        size: Option<u64>,
    },
    /// A secret as a file or variable.
    Secret(SecretMount),
    /// A socket of an SSH agent.
    Ssh(SshMount),
}

impl ContentKey for MountKind {
    fn encode(&self, to: &mut Encoder) {
        match self {
            Self::Bind {
                input,
                source,
                writable,
            } => {
                to.number(0);
                input.encode(to);
                source.encode(to);
                writable.encode(to);
            }
            Self::Cache(mount) => {
                to.number(1);
                mount.encode(to);
            }
            Self::Tmpfs { size } => {
                to.number(2);
                size.encode(to);
            }
            Self::Secret(mount) => {
                to.number(3);
                mount.encode(to);
            }
            Self::Ssh(mount) => {
                to.number(4);
                mount.encode(to);
            }
        }
    }
}

/// A directory that is kept between builds.
#[derive(Clone, Debug)]
pub struct CacheMount {
    /// Its name among all caches of the store.
    pub id: String,
    /// How it is shared.
    pub sharing: Sharing,
    /// Slot of the input that fills a new one.
    pub base: Option<usize>,
    /// Path inside the input or the cache.
    pub source: String,
    /// Mode of a new one; none is 0755.
    pub mode: Option<u32>,
    /// Owner of a new one. If neither owner nor group is given, it is the user of the step, or root
    /// where `base` fills it; one that is not given beside the other is root.
    pub uid: Option<u32>,
    /// Group of a new one, likewise.
    pub gid: Option<u32>,
    /// Writes fail.
    pub read_only: bool,
}
content_key!(CacheMount {
    id,
    sharing,
    base,
    source,
    mode,
    uid,
    gid,
    read_only
});

/// What stands before the content that a cache began with, in its name.
const FROM: &str = "#from=";

/// The mode of a new cache.
const CACHE_MODE: u32 = 0o755;

impl CacheMount {
    /// The mode of a new one.
    pub fn new_mode(&self) -> u32 {
        self.mode.unwrap_or(CACHE_MODE)
    }

    /// Owner and group of a new one, if they are not the step's.
    pub fn new_owner(&self) -> Option<(u32, u32)> {
        let given = self.uid.is_some() || self.gid.is_some() || self.base.is_some();
        given.then(|| (self.uid.unwrap_or(0), self.gid.unwrap_or(0)))
    }

    /// The name of the directory among all of the store. As with BuildKit, one id stands for
    /// several: one for each mode and owner, and for each content that new ones begin with, which
    /// is that of `base`.
    pub fn name(&self, base: Option<Fingerprint>) -> String {
        let mut name = self.id.clone();
        let is_root = self.source.trim_matches('/').is_empty();
        if is_root && (self.mode, self.uid, self.gid) != (None, None, None) {
            let owner = self
                .new_owner()
                .map(|(uid, gid)| format!("uid={uid},gid={gid},"));
            let owner = owner.unwrap_or_default();
            name.push_str(&format!("#{owner}mode=0{:o}", self.new_mode()));
        }
        if let Some(base) = base {
            let digits = base.to_hex();
            name.push_str(&format!("{FROM}{}", digits.get(..16).unwrap_or(&digits)));
        }
        name
    }

    /// Whether `there` may be the directory of this mount, whose `name` without `base` is this.
    pub fn may_be(&self, name: &str, there: &str) -> bool {
        there
            .strip_prefix(name)
            .is_some_and(|rest| match self.base {
                Some(_) => rest.starts_with(FROM),
                None => rest.is_empty(),
            })
    }

    /// Whether a directory with this name is one of those that the id stands for.
    pub fn has(id: &str, name: &str) -> bool {
        name.strip_prefix(id).is_some_and(|rest| {
            rest.is_empty()
                || ["#uid=", "#mode=", FROM]
                    .iter()
                    .any(|p| rest.starts_with(p))
        })
    }
}

/// A secret; its value is never part of a key.
#[derive(Clone, Debug)]
pub struct SecretMount {
    /// Name of the secret.
    pub id: String,
    /// Variable that gets the value.
    pub env: Option<String>,
    /// Whether there is a file at the target.
    pub file: bool,
    /// Mode of the file.
    pub mode: u32,
    /// Owner of the file.
    pub uid: u32,
    /// Group of the file.
    pub gid: u32,
    /// The step fails without the secret.
    pub required: bool,
}
content_key!(SecretMount {
    id,
    env,
    file,
    mode,
    uid,
    gid,
    required
});

/// A socket of an SSH agent.
#[derive(Clone, Debug)]
pub struct SshMount {
    /// Name of the agent.
    pub id: String,
    /// Mode of the socket.
    pub mode: u32,
    /// Owner of the socket.
    pub uid: u32,
    /// Group of the socket.
    pub gid: u32,
    /// The step fails without the agent.
    pub required: bool,
}
content_key!(SshMount {
    id,
    mode,
    uid,
    gid,
    required
});
