//! What is in a context, and what the rules say of it.

use std::path::Path;

use kiln_engine::host::{FileKind, RootDir};
use kiln_parser::{Ignore, Verdict};

use crate::errors::Failure;

/// Whether a build sees a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    In,
    Out,
    /// A directory that is out, and holds something that is in.
    Partial,
}

/// Files and their bytes; directories do not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Total {
    pub(super) files: u64,
    pub(super) bytes: u64,
}

impl Total {
    fn add(&mut self, other: Self) {
        self.files += other.files;
        self.bytes = self.bytes.saturating_add(other.bytes);
    }
}

/// Totals of what is in and what is out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) included: Total,
    pub(super) excluded: Total,
    /// Something, perhaps an empty directory, is in.
    any: bool,
}

impl Totals {
    fn add_file(&mut self, bytes: u64, excluded: bool) {
        self.any |= !excluded;
        let total = if excluded {
            &mut self.excluded
        } else {
            &mut self.included
        };
        total.add(Total { files: 1, bytes });
    }
}

/// Which entries of a directory are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listing {
    Nothing,
    /// All but those of directories that nothing can be in.
    Open,
    All,
}

/// One path of the context.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) path: String,
    pub(super) kind: FileKind,
    pub(super) status: Status,
    /// Bytes of a file.
    pub(super) size: u64,
    /// Line of the rule that decided.
    pub(super) line: Option<usize>,
    /// What a directory holds whose entries are not listed.
    pub(super) holds: Option<Total>,
}

/// A context and its rules.
pub(super) struct Context<'a> {
    root: RootDir,
    ignore: Option<&'a Ignore>,
}

/// All that was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) entries: Vec<Entry>,
    pub(super) totals: Totals,
}

/// A rule that matches.
#[derive(Clone, Debug)]
pub(super) struct Match {
    pub(super) line: usize,
    pub(super) negated: bool,
    /// The path, or the parent of it that the rule matches.
    pub(super) matched: String,
}

/// What there is to say of one path.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) path: String,
    /// None if nothing is there.
    pub(super) kind: Option<FileKind>,
    pub(super) status: Status,
    pub(super) size: u64,
    pub(super) line: Option<usize>,
    /// In order; the last one decides.
    pub(super) matches: Vec<Match>,
    /// What a directory holds.
    pub(super) totals: Option<Totals>,
}

impl<'a> Context<'a> {
    pub(super) fn open(dir: &Path, ignore: Option<&'a Ignore>) -> Result<Self, Failure> {
        Ok(Self {
            root: RootDir::open_trusted(dir)?,
            ignore,
        })
    }

    /// Everything in the context, sorted by path. With `all`, also what is in directories that
    /// nothing can be in.
    pub(super) fn walk(&self, all: bool) -> Result<Found, Failure> {
        let mut entries = Vec::new();
        let listing = if all { Listing::All } else { Listing::Open };
        let totals = self.directory(Path::new(""), "", listing, &mut entries)?;
        Ok(Found { entries, totals })
    }

    /// What there is to say of a path.
    pub(super) fn look_at(&self, path: &str) -> Result<Answer, Failure> {
        let verdict = self.verdict(path);
        let stat = self.root.try_lstat(Path::new(path))?;
        let kind = stat.map(|stat| stat.kind);
        let totals = match kind {
            Some(FileKind::Directory) => {
                let at = Path::new(path);
                Some(self.directory(at, path, Listing::Nothing, &mut Vec::new())?)
            }
            _ => None,
        };
        let matches = self.ignore.into_iter().flat_map(|i| i.matches(path));
        Ok(Answer {
            status: status(verdict, totals.is_some_and(|t| t.any)),
            size: size(kind, stat.map_or(0, |s| s.size)),
            line: verdict.line,
            matches: matches
                .map(|m| Match {
                    line: m.line,
                    negated: m.negated,
                    matched: m.matched.to_owned(),
                })
                .collect(),
            path: path.to_owned(),
            kind,
            totals,
        })
    }

    fn verdict(&self, path: &str) -> Verdict {
        self.ignore
            .map_or_else(Verdict::default, |i| i.verdict(path))
    }

    /// Walks through the directory `at`, which rules see as `dir`.
    fn directory(
        &self,
        at: &Path,
        dir: &str,
        listing: Listing,
        entries: &mut Vec<Entry>,
    ) -> Result<Totals, Failure> {
        let mut names = self.root.read_dir(at)?;
        names.sort_by(|a, b| a.name.cmp(&b.name));
        let mut totals = Totals::default();
        for name in names {
            let at = at.join(&name.name);
            // A context is read in place: what has gone meanwhile is not there.
            let Some(stat) = self.root.try_lstat(&at)? else {
                continue;
            };
            let name = name.name.to_string_lossy();
            let path = match dir {
                "" => name.into_owned(),
                dir => format!("{dir}/{name}"),
            };
            let verdict = self.verdict(&path);
            let size = size(Some(stat.kind), stat.size);
            let place = entries.len();
            if listing != Listing::Nothing {
                entries.push(Entry {
                    path: path.clone(),
                    kind: stat.kind,
                    status: status(verdict, false),
                    size,
                    line: verdict.line,
                    holds: None,
                });
            }
            if !stat.is_dir() {
                totals.add_file(size, verdict.excluded);
                continue;
            }
            let inside = match listing {
                Listing::Open if self.is_closed(&path, verdict) => Listing::Nothing,
                listing => listing,
            };
            let inner = self.directory(&at, &path, inside, entries)?;
            if let Some(entry) = entries.get_mut(place) {
                entry.status = status(verdict, inner.any);
                entry.holds = Some(inner.excluded).filter(|_| inside == Listing::Nothing);
            }
            totals.included.add(inner.included);
            totals.excluded.add(inner.excluded);
            totals.any |= inner.any || !verdict.excluded;
        }
        Ok(totals)
    }

    /// Whether nothing below a directory can be in.
    fn is_closed(&self, dir: &str, verdict: Verdict) -> bool {
        verdict.excluded && self.ignore.is_some_and(|i| !i.may_reinclude_below(dir))
    }
}

fn status(verdict: Verdict, holds_any: bool) -> Status {
    match (verdict.excluded, holds_any) {
        (false, _) => Status::In,
        (true, true) => Status::Partial,
        (true, false) => Status::Out,
    }
}

/// Only the bytes of files count.
fn size(kind: Option<FileKind>, size: u64) -> u64 {
    match kind {
        Some(FileKind::File) => size,
        _ => 0,
    }
}
