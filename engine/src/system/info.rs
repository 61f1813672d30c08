//! Facts about this host and its store.

use std::collections::BTreeSet;

use kiln_image::Platform;
use kiln_sys::cgroup::Hierarchies;
use kiln_sys::{landlock, system};

use super::System;

/// Facts about this host and its store.
#[derive(Clone, Debug)]
pub struct SystemInfo {
    /// Platform of this machine.
    pub platform: Platform,
    /// Release of the kernel.
    pub kernel: String,
    /// Processors.
    pub processors: usize,
    /// Bytes of memory.
    pub memory: u64,
    /// Version of the control groups.
    pub cgroup_version: &'static str,
    /// Sandboxes can be kept from the host's abstract sockets.
    pub can_leave_abstract_sockets: bool,
    /// First and last of the groups that may ping.
    pub ping_groups: Option<(u32, u32)>,
    /// Images of the store; none where there is none that can be opened.
    pub images: Option<usize>,
    /// Bytes of the store.
    pub store_bytes: Option<u64>,
    /// Bytes of the disk that are free.
    pub disk_free: Option<u64>,
}

impl System<'_> {
    /// Facts about this host and its store.
    pub fn info(&self) -> SystemInfo {
        let store = self.engine.session().ok();
        let store = store.as_ref();
        let groups = Hierarchies::detect().unwrap_or_default();
        let images = store.and_then(|store| store.images().ok());
        let ids = images.map(|rows| {
            let ids: BTreeSet<String> = rows.iter().map(|row| row.config.to_string()).collect();
            ids.len()
        });
        SystemInfo {
            platform: Platform::host(),
            kernel: system::kernel_release(),
            processors: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            memory: system::memory_bytes().unwrap_or(0),
            cgroup_version: match (groups.unified.is_some(), groups.controllers.is_empty()) {
                (true, true) => "2",
                (true, false) => "1 and 2",
                (false, false) => "1",
                (false, true) => "none",
            },
            can_leave_abstract_sockets: landlock::can_leave_abstract_sockets(),
            ping_groups: system::ping_groups(),
            images: ids,
            store_bytes: store
                .and_then(|s| Some(s.maintenance().total().ok()? + s.maintenance().own_bytes())),
            disk_free: system::free_bytes(self.engine.root()).ok(),
        }
    }
}
