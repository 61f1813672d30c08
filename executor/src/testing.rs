//! An engine in a temporary store, for tests.

use kiln_cache::Store;
use kiln_registry::{Client, RegistryConfig};

use crate::Worker;
use crate::logs::StepLogs;
use crate::settings::{BuildInputs, Settings};

/// An engine that runs nothing, and the directory of its store, which goes with it.
pub(crate) fn engine() -> (Worker, tempfile::TempDir) {
    engine_with(|_| ())
}

/// The same, after `change` of its settings.
pub(crate) fn engine_with(change: impl FnOnce(&mut Settings)) -> (Worker, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    let mut settings = Settings {
        store,
        spawner: None,
        registry: Client::anonymous(RegistryConfig::default()),
        inputs: BuildInputs::default(),
        always_pull: false,
        lists_images: true,
        resolv_conf: String::new(),
        device_dirs: Vec::new(),
        own_mounts: None,
        logs: StepLogs::new(dir.path().join("logs"), 1 << 20),
        max_download: 1 << 30,
        gc: kiln_cache::Policy::default(),
        caches: None,
        events: kiln_solver::event::Events::none(),
    };
    change(&mut settings);
    (Worker::new(settings), dir)
}

/// A runtime for asynchronous calls.
pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}
