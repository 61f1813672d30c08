//! Wiring: puts store, registry client and sandbox together.

use std::sync::Arc;
use std::time::Duration;

use kiln_cache::{Cause, Class, Removed, Store};
use kiln_executor::{BuildInputs, Engine, StepLogs};
use kiln_image::with_causes;
use kiln_registry::RegistryConfig;
use kiln_registry::auth::{Anonymous, CredentialSource, DockerConfig, HelperOutput, HelperRunner};
use kiln_sandbox::Spawner;
use kiln_solver::event::{Warning, WarningCode};
use kiln_sys::{Pipes, read_named};

use crate::errors::Failure;
use crate::settings::Settings;
use crate::units::size;
use crate::{progress, ui};

/// How long who only looks waits for a connection.
const LOOKING_TIMEOUT: Duration = Duration::from_secs(3);

/// The largest file of credentials, in bytes.
const MAX_CREDENTIALS: u64 = 4 << 20;

/// What commands are given.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) settings: Settings,
    pub(crate) spawner: Option<Spawner>,
}

/// Starts the helper that makes sandboxes, if this process may make them at all.
pub(crate) fn start_spawner() -> Result<Spawner, Failure> {
    const SYS_ADMIN: u32 = 21;
    let capable = kiln_sys::caps::effective().is_ok_and(|c| c.contains(SYS_ADMIN));
    if !capable {
        return Err(Failure::new(
            "kiln needs the privilege CAP_SYS_ADMIN to make namespaces and mounts",
        )
        .with_hint("run it as root, or in a container that has this capability"));
    }
    Ok(Spawner::start()?)
}

/// Runs `docker-credential-*` programs.
#[derive(Debug)]
struct Helpers;

impl HelperRunner for Helpers {
    fn get(&self, helper: &str, server: &str) -> std::io::Result<HelperOutput> {
        use std::io::Write as _;
        use std::process::{Command, Stdio};
        let mut child = Command::new(format!("docker-credential-{helper}"))
            .arg("get")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(server.as_bytes())?;
        }
        let output = child.wait_with_output()?;
        Ok(HelperOutput {
            success: output.status.success(),
            stdout: output.stdout,
        })
    }
}

/// Text of the host's resolver configuration.
fn host_resolv_conf() -> String {
    std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default()
}

/// What is there can be made durable all the same.
fn tell_not_collected(error: &kiln_cache::Error) {
    let text = format!("nothing is removed from the store: {error}");
    progress::warn(&Warning::new(WarningCode::StoreNotCollected, text));
}

impl App {
    /// Opens the store.
    pub(crate) fn store(&self) -> Result<Store, Failure> {
        Ok(Store::open_with(&self.settings.root, progress::events())?)
    }

    /// Opens the store to remove things from it, which works on a full disk.
    pub(crate) fn store_to_remove(&self) -> Result<Store, Failure> {
        Ok(Store::open_to_remove(
            &self.settings.root,
            &progress::events(),
        )?)
    }

    /// What Docker's config file has. Most commands need none of it, so one that cannot be read is
    /// told of and no more, as Docker does it.
    pub(crate) fn credentials(&self) -> Arc<dyn CredentialSource> {
        let Some(path) = &self.settings.docker_config else {
            return Arc::new(Anonymous);
        };
        let unused = |why: &str| -> Arc<dyn CredentialSource> {
            let shown = path.display();
            ui::warning(&format!("credentials in `{shown}` are not used: {why}"));
            Arc::new(Anonymous)
        };
        match read_named(path, MAX_CREDENTIALS, Pipes::Refused) {
            Ok(bytes) => match DockerConfig::parse(&bytes) {
                Ok(config) => Arc::new(config.with_helpers(Arc::new(Helpers))),
                Err(e) => unused(&with_causes(&e)),
            },
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Arc::new(Anonymous),
            Err(e) => unused(&e.source.to_string()),
        }
    }

    /// An engine for a command that only looks at images, and can do without those that are not to
    /// be had now.
    pub(crate) fn engine_to_look(
        &self,
        inputs: BuildInputs,
        always_pull: bool,
    ) -> Result<Engine, Failure> {
        let mut registries = self.settings.registries.clone();
        registries.retry.tries = 1;
        registries.connect_timeout = registries.connect_timeout.min(LOOKING_TIMEOUT);
        let engine = self.engine_with(registries, inputs, always_pull)?;
        Ok(engine.looking_only())
    }

    /// An engine for one command.
    pub(crate) fn engine(&self, inputs: BuildInputs, always_pull: bool) -> Result<Engine, Failure> {
        self.engine_with(self.settings.registries.clone(), inputs, always_pull)
    }

    fn engine_with(
        &self,
        registries: RegistryConfig,
        inputs: BuildInputs,
        always_pull: bool,
    ) -> Result<Engine, Failure> {
        let store = self.store()?;
        let logs = store.logs()?;
        let registry = kiln_registry::Client::new(registries, self.credentials());
        let max_download = inputs.max_download.unwrap_or(self.settings.max_download);
        Ok(Engine::new(kiln_executor::Settings {
            store,
            spawner: self.spawner.clone(),
            registry,
            inputs,
            always_pull,
            lists_images: true,
            resolv_conf: host_resolv_conf(),
            logs: StepLogs::new(logs, self.settings.max_step_log),
            device_dirs: self.settings.device_dirs.clone(),
            own_mounts: None,
            max_download,
            gc: self.settings.gc,
            share: None,
            events: progress::events(),
        }))
    }

    /// Runs containers of images of a store.
    pub(crate) fn containers(&self, store: &Store) -> Result<kiln_runtime::Runtime, Failure> {
        let spawner = self.spawner.clone();
        let spawner = spawner.ok_or_else(|| Failure::new("nothing can be run here"))?;
        Ok(kiln_runtime::Runtime::new(
            store.clone(),
            spawner,
            host_resolv_conf(),
        ))
    }

    /// Has what was stored written to the disk, and what was discarded removed, by a process of
    /// its own: nobody waits for it.
    pub(crate) fn upkeep(&self) {
        use std::os::unix::process::CommandExt as _;
        use std::process::{Command, Stdio};
        let needed = Store::open_with(&self.settings.root, progress::events()).and_then(|store| {
            let crowded = store.excess(&self.settings.gc)? > 0;
            if crowded {
                // Here, so that somebody hears of it; the files go in the other process.
                match store.collect(&self.settings.gc, false) {
                    Ok(removed) => self.tell_of_removal(&removed),
                    // What is there can be made durable all the same.
                    Err(error) => tell_not_collected(&error),
                }
            }
            Ok(crowded || store.needs_upkeep()?)
        });
        if !needed.unwrap_or(false) {
            return;
        }
        let mut command = Command::new("/proc/self/exe");
        command.arg("--root").arg(&self.settings.root);
        if let Some(config) = &self.settings.config_file {
            command.arg("--config").arg(config);
        }
        let spawned = command
            .arg("internal-upkeep")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn();
        if let Err(error) = spawned {
            tracing::warn!(%error, "results are not written to the disk yet");
        }
    }

    /// What the detached process does.
    pub(crate) fn keep_up(&self) -> Result<(), Failure> {
        let store = self.store()?;
        let Some(_turn) = store.upkeep_turn()? else {
            return Ok(());
        };
        kiln_sys::cgroup::sweep(std::path::Path::new(kiln_sys::cgroup::FOLDER));
        store.discard_unrecorded()?;
        store.discard_unknown_blobs()?;
        store.reconcile_mounts()?;
        store.prune_logs()?;
        store.prune_listings()?;
        store.measure_files()?;
        // Only for what no command told of: what has become too old.
        if let Err(error) = store.collect(&self.settings.gc, false) {
            // What is there can be made durable all the same.
            tell_not_collected(&error);
        }
        store.empty_trash()?;
        store.promote()?;
        if let Err(error) = store.back_up() {
            tracing::debug!(%error, "the database is not copied");
        }
        store.restore_reserve()?;
        if let Err(error) = store.give_back_slack() {
            tracing::debug!(%error, "the database keeps its size");
        }
        Ok(())
    }

    /// Says what was removed from the cache to make room, and why.
    pub(crate) fn tell_of_removal(&self, removed: &Removed) {
        if ui::is_quiet() {
            return;
        }
        let Some(cause) = removed.cause.filter(|_| !removed.items.is_empty()) else {
            return;
        };
        let of = |classes: &[Class]| {
            let items = removed.items.iter().filter(|i| classes.contains(&i.0));
            items.count()
        };
        let counted = [
            (of(&[Class::Layers]), "result", "results"),
            (of(&[Class::Mounts]), "cache mount", "cache mounts"),
        ];
        let counted = counted.into_iter().filter(|(n, ..)| *n > 0);
        let counted =
            counted.map(|(n, one, many)| format!("{n} {}", if n == 1 { one } else { many }));
        let mut what = counted.collect::<Vec<_>>().join(" and ");
        if what.is_empty() {
            what = "files".into();
        }
        let gc = &self.settings.gc;
        let why = match cause {
            Cause::Disk => format!(
                "less than {} of the disk was free",
                size(gc.keep_free.unwrap_or(0))
            ),
            Cause::Cap => format!(
                "the store had grown beyond {}",
                size(gc.max_size.unwrap_or(0))
            ),
        };
        ui::note(&format!(
            "removed {what} from the cache ({}): {why}",
            size(removed.bytes())
        ));
    }

    /// Says what to do about a full disk.
    pub(crate) fn full_disk_hint(&self) -> String {
        let root = self.settings.root.display();
        let database = std::fs::metadata(self.settings.root.join("meta-v1.db"));
        if !database.is_ok_and(|file| file.len() > 0) {
            // There is nothing yet that could go.
            return format!(
                "no space left on the disk of {root}; choose another place with --root"
            );
        }
        let free = Store::open(&self.settings.root).and_then(|s| s.removable());
        match free {
            Ok(bytes) if bytes > 0 => format!(
                "no space left on the disk of {root}; `kiln prune` frees {}",
                size(bytes)
            ),
            Ok(_) => format!(
                "no space left on the disk of {root}; `kiln prune` frees nothing: images hold it all, and `kiln rmi` removes them"
            ),
            Err(_) => format!("no space left on the disk of {root}; `kiln prune` frees some"),
        }
    }

    /// The runtime that asynchronous work is done on.
    pub(crate) fn runtime(&self) -> Result<tokio::runtime::Runtime, Failure> {
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(cores.clamp(1, 8))
            .enable_all()
            .build()
            .map_err(|e| Failure::new(format!("cannot start threads: {e}")))
    }
}
