//! `ADD git://…` and git contexts, fetched by the `git` command.
//!
//! Nothing of the machine's git configuration takes part, and nothing of the repository's is run:
//! no hooks, no filters, no helper programs, and submodules only over the same few protocols.

mod command;
mod progress;
mod url;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use kiln_cache::Scratch;
use kiln_image::SafeUrl;
use kiln_solver::Hint;
use kiln_solver::key::Encoder;
use kiln_solver::ports::{Pending, Solved, Step};
use kiln_sys::{FileKind, RootDir};
use tokio_util::sync::CancellationToken;

use self::command::Git;
use self::url::GitUrl;
use super::SourceFetcher;
use crate::error::{Error, Result, blocking};
use crate::file::real_path;
use crate::output::{DirTree, Output};

/// A repository that was checked out.
struct Checkout {
    /// Holds the files.
    scratch: Scratch,
    /// Where they are.
    path: PathBuf,
    commit: String,
    /// When the commit was made, in seconds since 1970.
    time: i64,
    kept: bool,
}

/// What a reference stands for.
#[derive(Debug, PartialEq, Eq)]
struct ResolvedRef {
    commit: String,
    /// The annotated tag that leads to it.
    tag: Option<String>,
}

impl SourceFetcher {
    /// Checks a repository out and gives a directory with its files, and the commit's time in seconds
    /// since 1970. `.git` stays if `keep_git_dir` says so and the whole repository is wanted, not a
    /// directory of it. The commit must begin with `checksum` if there is one.
    ///
    /// # Errors
    /// The address is not understood, `git` is missing, or the repository cannot be had.
    pub async fn git_checkout(
        &self,
        address: &str,
        keep_git_dir: bool,
        checksum: Option<&str>,
    ) -> Result<(Scratch, i64)> {
        let cancel = CancellationToken::new();
        let out = self
            .checkout(address, keep_git_dir, checksum, &cancel)
            .await?;
        let own = self.store().scratch()?;
        // Only what was asked for, as the root of a directory of its own.
        std::fs::rename(&out.path, own.path()).map_err(|e| Error::io("move checkout", e))?;
        drop(out.scratch);
        Ok((own, out.time))
    }

    /// When the commit was made that an address stands for, in seconds since 1970.
    pub(super) async fn commit_time(&self, address: &str, checksum: Option<&str>) -> Result<i64> {
        let cancel = CancellationToken::new();
        Ok(self.checkout(address, false, checksum, &cancel).await?.time)
    }

    pub(super) async fn git_source(
        &self,
        address: &str,
        keep_git_dir: bool,
        checksum: Option<&str>,
        step: &Step,
    ) -> Result<Solved<Output>> {
        let out = self
            .checkout(address, keep_git_dir, checksum, &step.cancel)
            .await?;
        let mut to = Encoder::new("git");
        to.bytes(out.commit.as_bytes());
        let below = out
            .path
            .strip_prefix(out.scratch.path())
            .unwrap_or(Path::new(""));
        to.bytes(below.as_os_str().as_encoded_bytes());
        to.number(u64::from(out.kept));
        let tree = DirTree {
            path: out.path,
            ignore: None,
            ignore_file: None,
            remember: false,
            scratch: Some(out.scratch),
            reset_owner: true,
        };
        let identity = Pending::ready(to.finish().into());
        Ok(Solved {
            output: Output::Dir(Arc::new(tree)),
            identity,
        })
    }

    async fn checkout(
        &self,
        address: &str,
        keep_git_dir: bool,
        wanted: Option<&str>,
        cancel: &CancellationToken,
    ) -> Result<Checkout> {
        let bad =
            |why: String| Error::Other(format!("git repository `{}`: {why}", SafeUrl::of(address)));
        let url = GitUrl::parse(address).map_err(bad)?;
        let wanted = match wanted {
            Some(text) => Some(self::url::checksum(text).map_err(bad)?),
            None => url.checksum.clone(),
        };
        let scratch = self.store().scratch()?;
        let path = scratch.path().join("checkout");
        let git = Git::new(&url, &path, self.settings.max_download, cancel);
        let resolved = resolve(&git, &url).await?;
        if let Some(wanted) = &wanted
            && !resolved.commit.starts_with(wanted)
            && !resolved.tag.as_ref().is_some_and(|t| t.starts_with(wanted))
        {
            let found = &resolved.commit;
            return Err(bad(format!(
                "it is at commit {found}, and {wanted} was expected"
            )));
        }
        fetch(&git, &url, &resolved).await?;
        let kept = url.keep_git_dir.unwrap_or(keep_git_dir) && url.subdir.is_empty();
        if kept {
            forget_stats(&git).await?;
        }
        let time = git
            .run("read the commit", &["log", "-1", "--format=%ct", "HEAD"])
            .await?;
        let time: i64 = time.trim().parse().unwrap_or(0);
        let path = blocking(move || {
            let root = RootDir::open_trusted(&path)?;
            if kept {
                tidy(&root)?;
            } else {
                forget_git(&root, true)?;
            }
            settle(&root, time)?;
            let subdir = &url.subdir;
            match real_path(&root, subdir)? {
                Some(real) if root.lstat(Path::new(&real))?.is_dir() => Ok(path.join(real)),
                Some(_) => Err(bad_subdir(&url, "is not a directory")),
                None => Err(bad_subdir(&url, "does not exist")),
            }
        })
        .await?;
        Ok(Checkout {
            scratch,
            path,
            commit: resolved.commit,
            time,
            kept,
        })
    }
}

fn bad_subdir(url: &GitUrl, why: &str) -> Error {
    Error::Other(format!(
        "git repository `{}`: the directory `{}` {why}",
        url.remote, url.subdir
    ))
}

/// The commit that the reference stands for now.
async fn resolve(git: &Git<'_>, url: &GitUrl) -> Result<ResolvedRef> {
    let reference = url.reference.as_deref().unwrap_or("HEAD");
    if self::url::is_commit(reference) {
        return Ok(ResolvedRef {
            commit: reference.to_ascii_lowercase(),
            tag: None,
        });
    }
    let peeled = format!("{reference}^{{}}");
    let list = git
        .run(
            "look up the reference",
            &["ls-remote", "--", &url.remote, reference, &peeled],
        )
        .await?;
    pick(&list, reference).ok_or_else(|| Error::Missing {
        text: format!(
            "git repository `{}` has no branch or tag `{reference}`",
            url.remote
        ),
        hint: Hint::CheckGitReference,
    })
}

/// Chooses among the lines of `ls-remote` as `git checkout` does: the full name, then a branch,
/// then a tag.
fn pick(list: &str, reference: &str) -> Option<ResolvedRef> {
    let find = |name: &str| {
        list.lines().find_map(|line| {
            let (id, found) = line.split_once('\t')?;
            (found == name && self::url::is_commit(id)).then(|| id.to_owned())
        })
    };
    for name in [
        reference.to_owned(),
        format!("refs/{reference}"),
        format!("refs/heads/{reference}"),
        format!("refs/tags/{reference}"),
    ] {
        let Some(id) = find(&name) else { continue };
        return Some(match find(&format!("{name}^{{}}")) {
            Some(commit) => ResolvedRef {
                commit,
                tag: Some(id),
            },
            None => ResolvedRef {
                commit: id,
                tag: None,
            },
        });
    }
    None
}

async fn fetch(git: &Git<'_>, url: &GitUrl, resolved: &ResolvedRef) -> Result<()> {
    let commit = resolved.commit.as_str();
    let format = if commit.len() == 64 { "sha256" } else { "sha1" };
    let format = format!("--object-format={format}");
    git.outside(
        "make a repository",
        &["init", "--quiet", "--template=", &format, "--", &git.path],
    )
    .await?;
    // Relative addresses of submodules start from it.
    git.run(
        "make a repository",
        &["config", "remote.origin.url", &url.remote],
    )
    .await?;
    let one = [
        "fetch",
        "--quiet",
        "--depth=1",
        "--no-tags",
        "--",
        &url.remote,
        commit,
    ];
    // Not every server gives a single commit.
    if let Err(e) = git.run("fetch the commit", &one).await
        && e.ends_all_tries()
    {
        return Err(e);
    }
    let object = format!("{commit}^{{commit}}");
    let has = ["cat-file", "-e", &object];
    if git.run("find the commit", &has).await.is_err() {
        // A server that gives no single commits: everything, then.
        let (heads, tags) = (
            "+refs/heads/*:refs/remotes/origin/*",
            "+refs/tags/*:refs/tags/*",
        );
        let all = [
            "fetch",
            "--quiet",
            "--no-tags",
            "--",
            &url.remote,
            heads,
            tags,
        ];
        git.run("fetch the repository", &all).await?;
        git.run("find the commit", &has)
            .await
            .map_err(|e| match e {
                Error::Cancelled => e,
                _ => Error::Other(format!(
                    "git repository `{}` has no commit {commit}",
                    url.remote
                )),
            })?;
    }
    git.run(
        "check the commit out",
        &["checkout", "--quiet", "--force", "--detach", commit],
    )
    .await?;
    if !url.submodules || !Path::new(&git.path).join(".gitmodules").is_file() {
        return Ok(());
    }
    let update = [
        "submodule",
        "--quiet",
        "update",
        "--init",
        "--recursive",
        "--force",
    ];
    let shallow = [&update[..], &["--depth=1"]].concat();
    match git.run("fetch submodules", &shallow).await {
        Ok(_) => Ok(()),
        Err(e) if e.ends_all_tries() => Err(e),
        Err(_) => git.run("fetch submodules", &update).await.map(drop),
    }
}

/// Takes inode numbers and times out of the index, which the next `git status` puts in again.
async fn forget_stats(git: &Git<'_>) -> Result<()> {
    let index = ["read-tree", "HEAD"];
    git.run("write the index", &index).await?;
    let inside = [
        &["submodule", "--quiet", "foreach", "--recursive", "git"][..],
        &index,
    ]
    .concat();
    git.run("write the index", &inside).await.map(drop)
}

/// Removes what differs from one checkout of the same commit to the next.
fn tidy(root: &RootDir) -> Result<()> {
    let git = root.sub_dir(Path::new(".git"))?;
    for name in ["FETCH_HEAD", "ORIG_HEAD", "logs", "hooks", "description"] {
        git.remove_all(Path::new(name))?;
    }
    Ok(())
}

/// Removes the repository itself, and those of submodules.
fn forget_git(dir: &RootDir, top: bool) -> Result<()> {
    if top
        || dir
            .try_lstat(Path::new(".git"))?
            .is_some_and(|st| st.is_file())
    {
        dir.remove_all(Path::new(".git"))?;
    }
    for entry in dir.read_dir(Path::new(""))? {
        let name = Path::new(&entry.name);
        if dir.lstat(name)?.is_dir() {
            forget_git(&dir.sub_dir(name)?, false)?;
        }
    }
    Ok(())
}

/// Gives everything the commit's time and the modes that git knows, whatever the umask is.
fn settle(dir: &RootDir, time: i64) -> Result<()> {
    for entry in dir.read_dir(Path::new(""))? {
        let name = Path::new(&entry.name);
        let st = dir.lstat(name)?;
        match st.kind {
            FileKind::Directory => settle(&dir.sub_dir(name)?, time)?,
            FileKind::File => {
                dir.chmod(name, if st.mode & 0o100 != 0 { 0o755 } else { 0o644 })?;
            }
            FileKind::Symlink => {}
            // git makes no other kinds.
            _ => drop(dir.remove_all(name)?),
        }
        if dir.try_lstat(name)?.is_some() {
            dir.set_mtime(name, (time, 0))?;
        }
    }
    dir.chmod(Path::new(""), 0o755)?;
    Ok(dir.set_mtime(Path::new(""), (time, 0))?)
}

#[cfg(test)]
mod tests;
