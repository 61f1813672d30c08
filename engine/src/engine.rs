//! The engine itself: an open store with what all calls share.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kiln_cache::{Maintenance, Store};
use kiln_executor::{BuildInputs, StepLogs};
use kiln_registry::RegistryConfig;

use crate::config::Config;
use crate::credentials;
use crate::error::Result;
use crate::event::Events;

/// Connect timeout of calls that only look.
const LOOK_CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Every capability of kiln. Cloning shares it; any number of calls may be under way at once.
#[derive(Clone, Debug)]
pub struct Engine(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: Config,
    /// Opened by the first call that needs it.
    store: Mutex<Option<Store>>,
}

/// What a call does with the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// It may write.
    Use,
    /// It removes things, which works on a full disk.
    Remove,
}

impl Engine {
    /// An engine with this config. The store is opened, and made where it is missing, by the first call that
    /// needs it.
    pub fn open(config: Config) -> Self {
        Self(Arc::new(Inner {
            config,
            store: Mutex::new(None),
        }))
    }

    /// What it works with.
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// The store for one piece of work, which owns its leases, scratch directories and logs.
    pub(crate) fn session(&self) -> Result<Store> {
        self.session_for(Purpose::Use)
    }

    /// The same for this purpose.
    pub(crate) fn session_for(&self, purpose: Purpose) -> Result<Store> {
        Ok(self.open_store(purpose)?.session()?)
    }

    /// The store that is open, or opened now.
    fn open_store(&self, purpose: Purpose) -> Result<Store> {
        let mut open = self.0.store.lock().unwrap_or_else(PoisonError::into_inner);
        let root = &self.0.config.root;
        let events = self.0.config.events.of_steps();
        if let Some(store) = open.as_ref().filter(|store| store.is_current()) {
            if purpose == Purpose::Remove {
                store.maintenance().prepare_removal()?;
            }
            return Ok(store.clone());
        }
        // It was opened by nobody yet, or was replaced by a repair since.
        let store = match purpose {
            Purpose::Use => Store::open_with(root, events)?,
            Purpose::Remove => Maintenance::open_store(root, &events)?,
        };
        Ok(open.insert(store).clone())
    }

    /// Fails where the store cannot be opened.
    ///
    /// # Errors
    /// Why.
    pub fn check_store(&self) -> Result<()> {
        self.open_store(Purpose::Use).map(drop)
    }

    /// The same for who is about to remove things, which works on a full disk.
    ///
    /// # Errors
    /// Why.
    pub fn check_store_to_remove(&self) -> Result<()> {
        self.open_store(Purpose::Remove).map(drop)
    }

    /// Whether there is a store by now.
    pub(crate) fn has_store(&self) -> bool {
        std::fs::metadata(self.root().join("meta-v1.db")).is_ok_and(|file| file.len() > 0)
    }

    pub(crate) fn root(&self) -> &Path {
        &self.0.config.root
    }

    /// What does the work of one call.
    pub(crate) fn worker(
        &self,
        inputs: BuildInputs,
        always_pull: bool,
        events: &Events,
    ) -> Result<kiln_executor::Worker> {
        let registries = self.0.config.registries.clone();
        self.worker_with(registries, inputs, always_pull, events)
    }

    /// The same for a call that only looks at images, and can do without those that are not to be had now.
    pub(crate) fn worker_to_look(
        &self,
        inputs: BuildInputs,
        always_pull: bool,
        events: &Events,
    ) -> Result<kiln_executor::Worker> {
        let mut registries = self.0.config.registries.clone();
        registries.retry.tries = 1;
        registries.connect_timeout = registries.connect_timeout.min(LOOK_CONNECT_TIMEOUT);
        let worker = self.worker_with(registries, inputs, always_pull, events)?;
        Ok(worker.looking_only())
    }

    fn worker_with(
        &self,
        registries: RegistryConfig,
        inputs: BuildInputs,
        always_pull: bool,
        events: &Events,
    ) -> Result<kiln_executor::Worker> {
        let config = &self.0.config;
        let store = self
            .open_store(Purpose::Use)?
            .session_with(events.of_steps())?;
        let logs = store.logs()?;
        let registries = RegistryConfig {
            notices: credentials::notices(events),
            ..registries
        };
        let registry = kiln_registry::Client::new(registries, credentials::of(config, events));
        let max_download = inputs.max_download.unwrap_or(config.max_download);
        Ok(kiln_executor::Worker::new(kiln_executor::Settings {
            store,
            spawner: config.spawner.clone(),
            registry,
            inputs,
            always_pull,
            lists_images: true,
            resolv_conf: host_resolv_conf(),
            logs: StepLogs::new(logs, config.max_step_log),
            device_dirs: config.device_dirs.clone(),
            own_mounts: None,
            max_download,
            gc: config.gc,
            caches: None,
            events: events.of_steps(),
        }))
    }
}

/// Text of the host's resolver configuration, as it is now.
pub(crate) fn host_resolv_conf() -> String {
    std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default()
}
