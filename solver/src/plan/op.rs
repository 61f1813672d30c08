//! The few kinds of op that every build is made of.

use std::sync::Arc;

use kiln_image::Platform;

use crate::key::{ContentKey, Encoder, content_key};

/// What a vertex does.
#[derive(Clone, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "a plan has few of them, and most are commands"
)]
pub enum Op {
    /// Brings a tree in from outside.
    Source(Source),
    /// Runs a command on input 0.
    Exec(Exec),
    /// Changes files of input 0.
    File(File),
    /// Puts the layers of two inputs on top of each other.
    Merge(Merge),
}

impl Op {
    /// Whether input 0 is the tree that the op works on. Without one it starts from nothing, and
    /// all slots are for other inputs.
    pub fn on_base(&self) -> bool {
        match self {
            Self::Exec(op) => op.on_base,
            Self::File(op) => op.on_base,
            Self::Source(_) | Self::Merge(_) => false,
        }
    }

    /// What a running step needs besides what its key covers.
    pub(super) fn encode_unkeyed(&self, to: &mut Encoder) {
        if let Self::Exec(exec) = self {
            exec.proxy_env.encode(to);
        }
    }
}

impl ContentKey for Op {
    fn encode(&self, to: &mut Encoder) {
        match self {
            Self::Source(op) => op.encode(to),
            Self::Exec(op) => op.encode(to),
            Self::File(op) => op.encode(to),
            Self::Merge(op) => op.encode(to),
        }
    }
}

/// A platform as part of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildPlatform(pub Platform);

impl ContentKey for BuildPlatform {
    fn encode(&self, to: &mut Encoder) {
        to.bytes(self.0.to_string().as_bytes());
    }
}

/// Where a tree comes from.
#[derive(Clone, Debug)]
pub struct Source {
    /// The kind of place.
    pub kind: SourceKind,
    /// For which platform.
    pub platform: BuildPlatform,
}
content_key!(Source { kind, platform });

/// The places that a tree can come from.
#[derive(Clone, Debug)]
pub enum SourceKind {
    /// An image; the layers are named by what was resolved.
    Image {
        /// Canonical reference.
        reference: String,
        /// Digest of the image's config.
        config: String,
    },
    /// A context by name, which the worker was given with the build.
    Context {
        /// Its name.
        name: String,
    },
    /// A file from the web.
    Http {
        /// The address.
        url: String,
        /// The expected digest.
        checksum: Option<String>,
    },
    /// A commit of a git repository.
    Git {
        /// Address with optional `#ref:subdir`.
        url: String,
        /// Keep `.git`.
        keep_git_dir: bool,
        /// The expected commit.
        checksum: Option<String>,
    },
}

impl ContentKey for SourceKind {
    fn encode(&self, to: &mut Encoder) {
        match self {
            Self::Image { reference, config } => {
                to.number(0);
                reference.encode(to);
                config.encode(to);
            }
            Self::Context { name } => {
                to.number(1);
                name.encode(to);
            }
            Self::Http { url, checksum } => {
                to.number(2);
                url.encode(to);
                checksum.encode(to);
            }
            Self::Git {
                url,
                keep_git_dir,
                checksum,
            } => {
                to.number(3);
                url.encode(to);
                keep_git_dir.encode(to);
                checksum.encode(to);
            }
        }
    }
}

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

/// A command to run.
#[derive(Clone, Debug)]
pub struct Exec {
    /// Command and arguments.
    pub argv: Vec<String>,
    /// Environment, in order.
    pub env: Vec<(String, String)>,
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
    argv, env, cwd, user, hostname, network, security, mounts, devices, extra_hosts, platform, on_base, epoch,
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
    /// Mode of a new one.
    pub mode: u32,
    /// Owner of a new one; none is the user of the step, or root if `base` fills it.
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

/// Changes of files, in order, in one layer.
#[derive(Clone, Debug)]
pub struct File {
    /// The changes.
    pub actions: Vec<Action>,
    /// Whether input 0 is the tree that is changed; otherwise the layer stands alone.
    pub on_base: bool,
    /// Clamp of file times in the layer, in seconds since 1970.
    pub epoch: Option<u64>,
}
content_key!(File {
    actions,
    on_base,
    epoch
});

/// One change.
#[derive(Clone, Debug)]
pub enum Action {
    /// Copies paths of an input.
    Copy(Copy),
    /// Makes a directory.
    Mkdir(Mkdir),
    /// Writes a file.
    Write(WriteFile),
}

impl ContentKey for Action {
    fn encode(&self, to: &mut Encoder) {
        match self {
            Self::Copy(action) => action.encode(to),
            Self::Mkdir(action) => action.encode(to),
            Self::Write(action) => action.encode(to),
        }
    }
}

/// Decides which paths below a root are left out.
pub trait PathFilter: Send + Sync + std::fmt::Debug {
    /// Whether `path` (relative, `/`-separated) is left out.
    fn excludes(&self, path: &str) -> bool;
    /// Whether something below an excluded directory may be in again.
    fn may_include_below(&self, dir: &str) -> bool;
    /// The patterns, for keys.
    fn patterns(&self) -> Vec<String>;
}

impl ContentKey for Arc<dyn PathFilter> {
    fn encode(&self, to: &mut Encoder) {
        self.patterns().encode(to);
    }
}

/// A function from an old mode and whether it is a directory's to a new mode.
pub type ModeFunction = dyn Fn(u32, bool) -> u32 + Send + Sync;

/// A change of permission bits, as `chmod` takes it.
#[derive(Clone)]
pub struct ModeChange {
    /// As written.
    pub text: String,
    /// The function.
    pub apply: Arc<ModeFunction>,
}

impl std::fmt::Debug for ModeChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ModeChange({})", self.text)
    }
}
content_key!(ModeChange { text } except { apply });

/// Copies paths of an input.
#[derive(Clone, Debug)]
pub struct Copy {
    /// Slot of the input that is read.
    pub input: usize,
    /// Paths in it, with wildcards if `wildcards`.
    pub sources: Vec<String>,
    /// Absolute path of the destination; a trailing slash means a directory.
    pub dest: String,
    /// `user[:group]` of everything copied.
    pub chown: Option<String>,
    /// Mode of everything copied.
    pub chmod: Option<ModeChange>,
    /// Archives among the sources are unpacked.
    pub unpack: bool,
    /// Paths below the sources that are left out.
    pub exclude: Option<Arc<dyn PathFilter>>,
    /// The path of a source, from its `/./` on, is kept below the destination.
    pub parents: bool,
    /// Owners of the source are not kept: all is root's unless `chown` says otherwise.
    pub reset_owner: bool,
    /// Keeps the file of the same name as it is if the content is one file: for downloads.
    pub rename_to: Option<String>,
    /// Where the sources are, in words for messages, such as "the build context".
    pub place: String,
}
content_key!(Copy {
    input,
    sources,
    dest,
    chown,
    chmod,
    unpack,
    exclude,
    parents,
    reset_owner,
    rename_to,
} except { place });

/// Makes a directory and those above it.
#[derive(Clone, Debug)]
pub struct Mkdir {
    /// Absolute path.
    pub path: String,
    /// Mode of new ones.
    pub mode: u32,
    /// Owner of new ones.
    pub chown: Option<String>,
}
content_key!(Mkdir { path, mode, chown });

/// Writes a file.
#[derive(Clone, Debug)]
pub struct WriteFile {
    /// Absolute path; a trailing slash means a directory, in which `name` is written.
    pub dest: String,
    /// Name in a directory.
    pub name: String,
    /// The bytes.
    pub content: String,
    /// Owner.
    pub chown: Option<String>,
    /// Mode.
    pub chmod: Option<ModeChange>,
}
content_key!(WriteFile {
    dest,
    name,
    content,
    chown,
    chmod
});

/// Puts input 1, made by a file op on nothing, on top of input 0.
#[derive(Clone, Debug)]
pub struct Merge {
    /// The op that makes the same on top of input 0, with the inputs after the first two: carried
    /// out where stacking would give something else, since input 0 has links or directories with
    /// other attributes in the places that input 1 has directories in.
    pub otherwise: File,
}
content_key!(Merge { otherwise });
