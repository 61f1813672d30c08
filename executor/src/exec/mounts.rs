//! The mounts of a RUN step.

use std::path::{Path, PathBuf};

use kiln_cache::fingerprint::Owners;
use kiln_cache::{CacheMountDir, LayerId, MountStore, MountUse, Store};
use kiln_remote::WantedMount;
use kiln_sandbox::{Mount, MountFlags, MountSource, names};
use kiln_solver::Hint;
use kiln_solver::Watch;
use kiln_solver::plan::{CacheMount, Exec, MountKind, Network, SecretMount, Sharing, SshMount};
use kiln_solver::ports::{Solved, Step};
use kiln_sys::{FileKind, Pipes, RootDir, read_named};

use super::StepRunner;
use crate::error::{Error, Result, blocking};
use crate::file;
use crate::output::{DirTree, Output};
use crate::settings::SecretSource;

/// The largest secret.
const MAX_SECRET: u64 = 500 << 10;

/// Mounts, variables, and what must be held while they are in use.
pub(super) struct Prepared {
    pub(super) mounts: Vec<Mount>,
    pub(super) env: Vec<(String, String)>,
    pub(super) held: Vec<(String, CacheMountDir)>,
}

impl StepRunner {
    pub(super) async fn prepare_mounts(
        &self,
        op: &Exec,
        inputs: &[Solved<Output>],
        step: &Step,
        layers: &[LayerId],
        scratch: &Path,
    ) -> Result<Prepared> {
        let mut out = Prepared {
            mounts: Vec::new(),
            env: Vec::new(),
            held: Vec::new(),
        };
        out.mounts.extend(self.name_files(op)?);
        let mut agents = 0;
        for (number, mount) in op.mounts.iter().enumerate() {
            let target = PathBuf::from(&mount.target);
            match &mount.kind {
                MountKind::Bind {
                    input,
                    source,
                    writable,
                } => {
                    let own = scratch.join(format!("bind-{number}"));
                    let source = self
                        .bind_source(inputs, *input, source, *writable, &own)
                        .await?;
                    out.mounts.push(Mount {
                        target,
                        source,
                        read_only: !writable,
                        flags: MountFlags::default(),
                    });
                }
                MountKind::Cache(cache) => {
                    let named = self.cache_name(cache, &mount.place, inputs).await?;
                    let held = self
                        .take_cache((cache, &named), inputs, step, (layers, &op.user))
                        .await?;
                    let below = if cache.base.is_some() {
                        "/"
                    } else {
                        &cache.source
                    };
                    let source = MountSource::Host {
                        path: held.path.clone(),
                        below: PathBuf::from(below.trim_start_matches('/')),
                        recursive: false,
                    };
                    out.held.push((named, held));
                    out.mounts.push(Mount {
                        target,
                        source,
                        read_only: cache.read_only,
                        flags: MountFlags::default(),
                    });
                }
                MountKind::Tmpfs { size } => {
                    let source = MountSource::Tmpfs { size: *size };
                    out.mounts.push(Mount {
                        target,
                        source,
                        read_only: false,
                        flags: MountFlags::default(),
                    });
                }
                MountKind::Secret(secret) => self.secret(secret, target, &mut out)?,
                MountKind::Ssh(ssh) => {
                    let target = if mount.target.is_empty() {
                        PathBuf::from(format!("/run/buildkit/ssh_agent.{agents}"))
                    } else {
                        target
                    };
                    agents += 1;
                    self.agent(ssh, target, &mut out)?;
                }
            }
        }
        // A mount below another one comes after it, whatever order they were written in.
        let own = out.mounts.split_off(2.min(out.mounts.len()));
        let mut own: Vec<(usize, Mount)> = own
            .into_iter()
            .map(|m| (m.target.components().count(), m))
            .collect();
        own.sort_by_key(|(depth, _)| *depth);
        out.mounts.extend(own.into_iter().map(|(_, m)| m));
        Ok(out)
    }

    /// `/etc/resolv.conf` and `/etc/hosts`.
    fn name_files(&self, op: &Exec) -> Result<Vec<Mount>> {
        let resolv = match op.network {
            Network::None => String::new(),
            Network::Default | Network::Host => names::resolv_conf(&self.settings.resolv_conf),
        };
        let files = [
            ("resolv.conf", resolv),
            ("hosts", names::hosts(&op.hostname, &op.extra_hosts)),
        ];
        let mut mounts = Vec::new();
        for (name, text) in files {
            let path = self.run_dirs.file(name, text)?;
            mounts.push(Mount {
                target: Path::new("/etc").join(name),
                source: MountSource::Host {
                    path,
                    below: PathBuf::new(),
                    recursive: false,
                },
                // As with BuildKit: what would be written here would be in no layer.
                read_only: true,
                flags: MountFlags::default(),
            });
        }
        Ok(mounts)
    }

    async fn bind_source(
        &self,
        inputs: &[Solved<Output>],
        input: Option<usize>,
        source: &str,
        writable: bool,
        scratch: &Path,
    ) -> Result<MountSource> {
        let below = PathBuf::from(source.trim_start_matches('/'));
        let make = |name: &str| -> Result<PathBuf> {
            let path = scratch.join(name);
            std::fs::create_dir_all(&path).map_err(|e| Error::io("prepare mount", e))?;
            Ok(path)
        };
        let output = input.and_then(|slot| inputs.get(slot)).map(|i| &i.output);
        let mut owner = None;
        let (lowers, filtered) = match output {
            None => (vec![self.store().empty_dir()?], false),
            Some(Output::Layers(layers)) => {
                let ids = self.layers.materialise(layers).await?;
                (self.store().lower_dirs(&ids)?, false)
            }
            Some(Output::Dir(dir)) => {
                let (tree, at) = (dir.clone(), make("upper")?);
                // As in Docker: what a user brings along is root's.
                owner = self.id_maps.shown_as_root(&dir.path).await?;
                let filtered = blocking(move || hide_ignored(&tree, &at, owner)).await?;
                (vec![dir.path.clone()], filtered)
            }
        };
        let upper = if writable || filtered {
            Some((make("upper")?, make("work")?))
        } else {
            None
        };
        Ok(MountSource::Layers {
            lowers,
            upper,
            below,
            owner,
        })
    }

    /// The name of a cache among all: what it begins with counts.
    async fn cache_name(
        &self,
        cache: &CacheMount,
        place: &str,
        inputs: &[Solved<Output>],
    ) -> Result<String> {
        let base = match cache.base.and_then(|slot| inputs.get(slot)) {
            Some(input) => {
                let wanted = file::Selection::of_path(&cache.source, place);
                {
                    let reading = self.fingerprints.of_path(input, &wanted, false).await?;
                    Some(reading.fingerprint)
                }
            }
            None => None,
        };
        Ok(cache.name(base))
    }

    async fn take_cache(
        &self,
        (cache, name): (&CacheMount, &str),
        inputs: &[Solved<Output>],
        step: &Step,
        (layers, user): (&[LayerId], &str),
    ) -> Result<CacheMountDir> {
        let how = match cache.sharing {
            Sharing::Shared => MountUse::Shared,
            Sharing::Private => MountUse::Private,
            Sharing::Locked => MountUse::Locked,
        };
        // One that is for this step alone is brought when it is known which one that is.
        if how != MountUse::Private {
            self.fetch_mount(name, None, step).await?;
        }
        let mut base = match cache.base.and_then(|slot| inputs.get(slot)) {
            Some(input) => Some(self.layers.open(&input.output).await?),
            None => None,
        };
        let source = cache.source.trim_matches('/');
        let source = (base.is_none() && !source.is_empty()).then(|| PathBuf::from(source));
        loop {
            let (store, cache, named) = (self.store().clone(), cache.clone(), name.to_owned());
            let own = self.settings.own_mounts.clone();
            let (layers, user) = (layers.to_vec(), user.to_owned());
            let (taken, back) = blocking(move || {
                let mut fill = |dir: &RootDir| -> kiln_cache::Result<()> {
                    if let Some(tree) = &base {
                        file::copy_all(tree.root(), &cache.source, dir).map_err(store_error)?;
                    }
                    let (uid, gid) = match cache.new_owner() {
                        Some(owner) => owner,
                        None => owner(&store, &layers, &user).map_err(store_error)?,
                    };
                    dir.chown(Path::new(""), uid, gid)?;
                    dir.chmod(Path::new(""), cache.new_mode())?;
                    Ok(())
                };
                let taken = {
                    let folder = own.as_deref().map(kiln_cache::Scratch::path);
                    store
                        .cache_mounts()
                        .try_cache_mount(folder, &named, how, &mut fill)?
                };
                Ok((taken, base))
            })
            .await?;
            if let Some(taken) = taken {
                if how == MountUse::Private {
                    self.fetch_mount(name, Some(&taken), step).await?;
                }
                if let Some(source) = &source {
                    let (at, source) = (taken.path.clone(), source.clone());
                    blocking(move || make_source(&at, &source)).await?;
                }
                return Ok(taken);
            }
            base = back;
            if step.cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            tokio::time::sleep(MountStore::pause()).await;
        }
    }

    /// Fetches the content of a cache mount from remote caches, if it is empty here.
    async fn fetch_mount(
        &self,
        id: &str,
        taken: Option<&CacheMountDir>,
        step: &Step,
    ) -> Result<()> {
        let Some(caches) = self
            .settings
            .caches
            .as_ref()
            .filter(|_| self.settings.own_mounts.is_none())
        else {
            return Ok(());
        };
        let watch = Watch {
            events: step.events.clone(),
            vertex: step.vertex,
            over: step.over.clone(),
        };
        let wanted = WantedMount {
            id,
            taken,
            watch: &watch,
            cancel: &step.cancel,
        };
        Ok(caches.fetch_mount(self.layers.space(), &wanted).await?)
    }

    fn secret(&self, secret: &SecretMount, target: PathBuf, out: &mut Prepared) -> Result<()> {
        let Some(source) = self.settings.inputs.secrets.get(&secret.id) else {
            if secret.required {
                return Err(Error::Missing {
                    text: format!("secret `{}` was not given", secret.id),
                    hint: Hint::GiveSecret {
                        id: secret.id.clone(),
                    },
                });
            }
            // As BuildKit: the variable is there all the same.
            let empty = secret.env.iter().map(|name| (name.clone(), String::new()));
            out.env.extend(empty);
            return Ok(());
        };
        let bytes = match source {
            SecretSource::Value(bytes) => bytes.clone(),
            SecretSource::File(path) => {
                // The user's own path: links are followed as the shell would.
                read_named(path, MAX_SECRET, Pipes::Refused).map_err(|e| Error::Missing {
                    text: format!("secret `{}`: {e}", secret.id),
                    hint: Hint::SecretFile { limit: MAX_SECRET },
                })?
            }
        };
        if let Some(name) = &secret.env {
            let value = String::from_utf8(bytes.clone()).map_err(|_| Error::Missing {
                text: format!("secret `{}` is not text, and a variable must be", secret.id),
                hint: Hint::SecretAsFile,
            })?;
            out.env.push((name.clone(), value));
        }
        if secret.file {
            let source = MountSource::Content {
                bytes,
                mode: secret.mode,
                uid: secret.uid,
                gid: secret.gid,
            };
            out.mounts.push(Mount {
                target,
                source,
                read_only: true,
                flags: MountFlags::default(),
            });
        }
        Ok(())
    }

    fn agent(&self, ssh: &SshMount, target: PathBuf, out: &mut Prepared) -> Result<()> {
        out.env.push((
            "SSH_AUTH_SOCK".into(),
            target.to_string_lossy().into_owned(),
        ));
        let Some(agent) = self.settings.inputs.ssh.get(&ssh.id) else {
            if ssh.required {
                return Err(Error::Missing {
                    text: format!("SSH agent `{}` was not given", ssh.id),
                    hint: Hint::GiveAgent { id: ssh.id.clone() },
                });
            }
            return Ok(());
        };
        let source = MountSource::Host {
            path: agent.socket.clone(),
            below: PathBuf::new(),
            recursive: false,
        };
        out.mounts.push(Mount {
            target,
            source,
            read_only: false,
            flags: MountFlags::default(),
        });
        Ok(())
    }
}

/// Makes the directory of a cache mount that a step sees. The mount may be older, or come from
/// elsewhere, where another step saw another one.
fn make_source(mount: &Path, source: &Path) -> Result<()> {
    let root = RootDir::open_trusted(mount)?;
    root.mkdir_all(source, 0o755, &mut |_, _| Ok(()))?;
    Ok(())
}

/// The numbers of a step's user, by the files of its image.
fn owner(store: &Store, layers: &[LayerId], user: &str) -> Result<(u32, u32)> {
    let view = store.view(layers)?;
    let who = kiln_sandbox::user::resolve(view.root(), user)?;
    Ok((who.uid, who.gid))
}

fn store_error(error: Error) -> kiln_cache::Error {
    match error {
        Error::Store(e) => e,
        Error::System(e) => e.into(),
        other => kiln_cache::Error::Io {
            what: "fill cache mount".into(),
            source: std::io::Error::other(other.to_string()),
        },
    }
}

/// Puts a whiteout into `upper` for everything that the ignore file leaves out, so that an
/// overlay shows the context as a build sees it. Returns whether there was anything to hide.
/// Directories belong to whom the mount shows as theirs, where it shows `owner` as root.
fn hide_ignored(dir: &DirTree, upper: &Path, owner: Option<(u32, u32)>) -> Result<bool> {
    let Some(filter) = &dir.ignore else {
        return Ok(false);
    };
    let (root, upper) = (
        RootDir::open_trusted(&dir.path)?,
        RootDir::open_trusted(upper)?,
    );
    let owners = owner.map_or(Owners::Kept, |(user, group)| Owners::Swapped(user, group));
    // What rules see, and where it is: names need not be UTF-8.
    let mut open = vec![(String::new(), PathBuf::new())];
    let mut any = false;
    while let Some((at, parent)) = open.pop() {
        for entry in root.read_dir(&parent)? {
            let name = entry.name.to_string_lossy();
            let path = if at.is_empty() {
                name.into_owned()
            } else {
                format!("{at}/{name}")
            };
            let place = parent.join(&entry.name);
            let st = root.lstat(&place)?;
            if filter.excludes(&path) {
                if st.is_dir() && file::anything_below(&root, filter.as_ref(), &path, &place)? {
                    open.push((path, place));
                    continue;
                }
                let mut like = |made: &RootDir, p: &Path| {
                    let st = root.lstat(p)?;
                    let shown = owners.of(st.uid, st.gid).unwrap_or((st.uid, st.gid));
                    made.chown(Path::new(""), shown.0, shown.1)?;
                    made.chmod(Path::new(""), st.mode)
                };
                upper.mkdir_all(&parent, 0o755, &mut like)?;
                upper.mknod(&place, FileKind::CharDevice, 0, (0, 0))?;
                any = true;
            } else if st.is_dir() {
                open.push((path, place));
            }
        }
    }
    Ok(any)
}
