//! The ops that change files without a command, and that stack results.

use std::sync::Arc;

use crate::key::{ContentKey, Encoder, content_key};

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
    /// The rule that leaves `path` out, in words for messages, if there is more to say of it than
    /// that it does.
    fn rule(&self, path: &str) -> Option<String> {
        let _ = path;
        None
    }
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

/// The mode of directories that are made on the way to something.
const MODE_ON_THE_WAY: u32 = 0o755;

impl ModeChange {
    /// The mode of directories that are made on the way to what a change is for: an octal one counts
    /// for them as well, without what is beyond permission bits, and whatever the umask, as with
    /// BuildKit.
    pub fn on_the_way(change: Option<&Self>) -> u32 {
        let octal = change.and_then(|c| u32::from_str_radix(&c.text, 8).ok());
        octal.map_or(MODE_ON_THE_WAY, |mode| mode & 0o777)
    }
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
    /// Paths in it, with wildcards.
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
