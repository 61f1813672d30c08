//! What commands work with: the engine, the settings, and what is done once around every command.

use std::future::Future;
use std::sync::OnceLock;

use kiln_engine::{Cause, Class, Engine, GcPolicy, Removed};

use crate::errors::Failure;
use crate::settings::Settings;
use crate::ui;
use crate::units::size;

/// What commands are given.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) settings: Settings,
    pub(crate) engine: Engine,
}

/// The limits that things are removed by, for what is said of it.
static GC: OnceLock<GcPolicy> = OnceLock::new();

impl App {
    /// A command's engine with these settings.
    pub(crate) fn new(settings: Settings) -> Self {
        let config = settings.engine.clone();
        let _ = GC.set(config.gc);
        let engine = Engine::open(config);
        Self { settings, engine }
    }

    /// Does asynchronous work to its end. Threads that still wait for something do not hold the result back.
    pub(crate) fn block_on<T>(
        &self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(cores.clamp(1, 8))
            .enable_all()
            .build()
            .map_err(|e| Failure::new(format!("cannot start threads: {e}")))?;
        let done = runtime.block_on(work);
        runtime.shutdown_background();
        done
    }

    /// Has the store maintained, if it needs that, by a process of its own: nobody waits for it.
    pub(crate) fn spawn_maintenance(&self) {
        use std::os::unix::process::CommandExt as _;
        use std::process::{Command, Stdio};
        let Ok((needed, removed)) = self.engine.system().needs_maintenance() else {
            return;
        };
        if let Some(removed) = removed {
            tell_of_removal(&removed);
        }
        if !needed {
            return;
        }
        let mut command = Command::new("/proc/self/exe");
        command.arg("--root").arg(&self.settings.engine.root);
        if let Some(config) = &self.settings.config_file {
            command.arg("--config").arg(config);
        }
        let spawned = command
            .arg("internal-maintenance")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn();
        if let Err(error) = spawned {
            tracing::warn!(%error, "results are not written to the disk yet");
        }
    }

    /// Says what to do about a full disk.
    pub(crate) fn full_disk_hint(&self) -> String {
        let root = self.settings.engine.root.display();
        let system = self.engine.system();
        if !system.has_store() {
            // There is nothing yet that could go.
            return format!(
                "no space left on the disk of {root}; choose another place with --root"
            );
        }
        match system.removable() {
            Some(bytes) if bytes > 0 => format!(
                "no space left on the disk of {root}; `kiln prune` frees {}",
                size(bytes)
            ),
            Some(_) => format!(
                "no space left on the disk of {root}; `kiln prune` frees nothing: images hold it all, and `kiln rmi` removes them"
            ),
            None => format!("no space left on the disk of {root}; `kiln prune` frees some"),
        }
    }
}

/// Says what was removed from the cache to make room, and why.
pub(crate) fn tell_of_removal(removed: &Removed) {
    let (Some(gc), false) = (GC.get(), ui::is_quiet()) else {
        return;
    };
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
    let counted = counted.map(|(n, one, many)| format!("{n} {}", if n == 1 { one } else { many }));
    let mut what = counted.collect::<Vec<_>>().join(" and ");
    if what.is_empty() {
        what = "files".into();
    }
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
